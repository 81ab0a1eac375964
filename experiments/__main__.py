"""`python -m experiments COMMAND`: what `jmia COMMAND` is where jmia is installed."""

from . import command

if __name__ == "__main__":
  command.main()
