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
    marked: rows in all, ascending.
    num_submarks: that they were divided among.
    means: of the success rate with each.
    spreads: standard deviations over sub-marks and models.
    accuracy: of the model on rows that are not stamped.
    run: of `experiments/ledger`, where `{}` is the number of marked rows.
    figure: its success rates in that run, where `{}` is that number too.
  """

  title: str
  marked: tuple[int, ...]
  num_submarks: int
  means: tuple[float, ...]
  spreads: tuple[float, ...]
  accuracy: float
  run: str
  figure: str

  @property
  def rows(self) -> np.ndarray:
    """Of one sub-mark, ascending."""
    return np.array(self.marked) / self.num_submarks


MEASURED: Mapping[str, Rates] = types.MappingProxyType(
  {
    "bits": Rates(
      "Location-30, 20 ones, the paper's MLP",
      (2, 4, 6, 8, 12, 20),
      1,
      (0.097, 0.289, 0.448, 0.552, 0.716, 0.845),
      (0.032, 0.073, 0.088, 0.08, 0.059, 0.052),
      0.67,
      "mib-location30-submarks-{}",
      "submarks/1 sub-mark/asr_all",
    ),
    "synthetic": Rates(
      "purchase100_synthetic, 20 ones, the paper's MLP",
      (2, 4, 6, 8, 12, 20),
      1,
      (0.087, 0.246, 0.395, 0.538, 0.711, 0.859),
      (0.057, 0.071, 0.089, 0.088, 0.068, 0.066),
      0.77,
      "mib-purchase100-synthetic-submarks-{}",
      "submarks/1 sub-mark/asr_all",
    ),
    "columns": Rates(
      "Location-30, 20 drawn columns, MLP of 64",
      (2, 4, 8, 12, 20, 40),
      1,
      (0.177, 0.37, 0.569, 0.68, 0.768, 0.881),
      (0.092, 0.123, 0.13, 0.099, 0.062, 0.025),
      0.68,
      "claims-location30",
      "location30/num_marked {}/num_submarks 1/level 0.05/asr",
    ),
    "digits": Rates(
      "digits, 3x3 square, MLP of 64",
      (2, 4, 8, 12, 20, 40),
      2,
      (0.093, 0.182, 0.326, 0.43, 0.547, 0.681),
      (0.084, 0.147, 0.219, 0.267, 0.299, 0.284),
      0.97,
      "claims-digits",
      "digits/num_marked {}/num_submarks 2/level 0.05/asr",
    ),
    "table": Rates(
      "breast cancer, 30 real columns, MLP of 64",
      (8, 12, 20, 40),
      7,
      (0.413, 0.51, 0.651, 0.821),
      (0.324, 0.322, 0.288, 0.195),
      0.97,
      "claims-breast-cancer",
      "npz:breast_cancer.npz/num_marked {}/num_submarks 7/level 0.05/asr",
    ),
  }
)


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
