"""Success rates of marks that were measured here, for those who plan.

Each is the mean over ten trained models of the share of held-out stamped rows that are
answered with their sub-mark's label, by the number of rows that bore the sub-mark.
`BUILD_NOTES.md` has the conditions and the spread, which is wide.
"""

from collections.abc import Mapping
import types
from typing import NamedTuple

import numpy as np


class Rates(NamedTuple):
  """Success rates of one kind of data.

  Attributes:
    title: what the data and the model were.
    rows: of one sub-mark, ascending.
    rates: the mean success rate with each.
    accuracy: of the model on rows that are not stamped.
  """

  title: str
  rows: tuple[float, ...]
  rates: tuple[float, ...]
  accuracy: float


MEASURED: Mapping[str, Rates] = types.MappingProxyType({})


def rate(of: Rates, rows: float) -> float:
  """Returns the rate with so many rows of a sub-mark.

  Between those measured it is linear in the logarithm of the rows; above the most it
  is theirs, and below the fewest in proportion to the rows, as no row gives no mark.

  Args:
    of: a kind of data.
    rows: of one sub-mark, above 0.

  Raises:
    ValueError: there are no rows.
  """
  if rows <= 0:
    raise ValueError(f"rows={rows} must be above 0")
  if rows < of.rows[0]:
    return of.rates[0] * rows / of.rows[0]
  return float(np.interp(np.log(rows), np.log(of.rows), of.rates))
