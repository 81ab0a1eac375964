"""`python -m experiments.ledger`."""

from .. import launch
from . import main

if __name__ == "__main__":
  launch.run(main)
