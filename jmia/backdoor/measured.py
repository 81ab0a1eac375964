"""Success rates of marks that were measured here, for those who plan.

Each is of held-out stamped rows that are answered with their sub-mark's label, over
trained models, by the number of rows that bore the sub-mark; the ledger's runs have the
conditions and each model's.
"""

from collections.abc import Mapping
import types
from typing import NamedTuple

import numpy as np


class Rate(NamedTuple):
  """A success rate over sub-marks and models: its mean and standard deviation."""

  mean: float
  spread: float


class Rates(NamedTuple):
  """Success rates of one kind of data.

  Attributes:
    title: what the data and the model were.
    rows: of one sub-mark, ascending.
    num_submarks: in each model, `T`.
    means: of the success rate with each.
    spreads: standard deviations over sub-marks and models.
    accuracy: of the model on rows that are not stamped.
    run: of `experiments/ledger`, where `{}` is the number of marked rows.
    figure: its success rates in that run, where `{}` is that number too.
  """

  title: str
  rows: tuple[float, ...]
  num_submarks: int
  means: tuple[float, ...]
  spreads: tuple[float, ...]
  accuracy: float
  run: str
  figure: str


MEASURED: Mapping[str, Rates] = types.MappingProxyType({})


def rate(of: Rates, rows: float) -> Rate | None:
  """Returns the rate with so many rows of a sub-mark.

  Between those measured it is linear in the logarithm of the rows; above the most it
  is theirs; below the fewest it is unknown, for rates fall faster than the rows.

  Args:
    of: a kind of data.
    rows: of one sub-mark.

  Returns:
    The rate; None where fewer rows were never tried.
  """
  if rows < of.rows[0]:
    return None
  mean, spread = (
    float(np.interp(np.log(rows), np.log(of.rows), values))
    for values in (of.means, of.spreads)
  )
  return Rate(mean, spread)
