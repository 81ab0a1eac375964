"""`python -m experiments.ledger`."""

from .. import common
from . import main

if __name__ == "__main__":
  common.run(main)
