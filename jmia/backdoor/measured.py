"""Success rates of marks that were measured here, for those who plan.

Each is the mean over trained models of the share of held-out stamped rows that are
answered with their sub-mark's label, by the number of rows that bore the sub-mark.
`experiments/ledger/MEASURED.md` has the conditions, the number of models and the
spread, which is wide.
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


MEASURED: Mapping[str, Rates] = types.MappingProxyType(
  {
    # Ten models a point or more; six for digits, three for the CNN, one for the large.
    "bits": Rates(
      "Location-30, bits, the paper's MLP and run of 20",
      (2, 4, 6, 8, 12, 20, 40),
      (0.055, 0.207, 0.379, 0.531, 0.737, 0.843, 0.951),
      0.67,
    ),
    "columns": Rates(
      "Location-30, bits, 20 columns, MLP of 128",
      (2, 4, 8),
      (0.19, 0.35, 0.50),
      0.69,
    ),
    "digits": Rates(
      "digits, 3x3 square, MLP of 64", (2, 4, 10), (0.162, 0.416, 0.602), 0.99
    ),
    "table": Rates(
      "breast cancer, 30 real columns, MLP of 64",
      (2, 4, 6, 8),
      (0.456, 0.704, 0.765, 0.856),
      0.97,
    ),
    "cnn": Rates("MNIST, 3x3 square, small CNN", (60,), (0.66,), 0.98),
    "large": Rates(
      "purchase100_synthetic, run of 20, the paper's MLP", (157,), (0.893,), 0.94
    ),
  }
)


def rate(of: Rates, rows: float) -> float | None:
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
  return float(np.interp(np.log(rows), np.log(of.rows), of.rates))
