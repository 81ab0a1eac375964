"""`python -m jmia COMMAND`: what `jmia COMMAND` is, where that is not on the path."""

from jmia._binaries import command

if __name__ == "__main__":
  command.main()
