"""Levels: the false positive rates that audits are read at, and when p reaches one.

A false positive rate is text where it is a key of `report.json`, such as "0.01".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FPRS = ("0.1", "0.01", "0.001")
# Groups of records and differences of audits have too few rows for the lowest.
COARSE_FPRS = FPRS[:2]
# Single records are spoken of at the first of these that was measured.
SHARPEST_FPRS = COARSE_FPRS[::-1]
ALPHA = 0.1  # at which each sample's threshold is reported
FDR = 0.1  # the expected share of wrong names among the records named as members
# Products and powers of decimals miss the number meant by their last bits.
_ROUNDING = 1e-9


def numbers(fprs: Sequence[str] = FPRS) -> np.ndarray:
  """Returns false positive rates as float64."""
  return np.array(fprs, np.float64)


def by_fpr(values: np.ndarray) -> dict[str, Any]:
  """Returns a JSON object with a value, of `[K]`, or an interval for each of `FPRS`."""
  return dict(zip(FPRS, values.tolist(), strict=True))


def percent(rate: str | float) -> str:
  """Returns a rate in percent, such as 0.1% for "0.001"."""
  return f"{100 * float(rate):g}%"


def tpr_title(fpr: str) -> str:
  """Returns what tables and charts call a TPR, such as "TPR at 1% FPR"."""
  return f"TPR at {percent(fpr)} FPR"


def can_measure(fpr: str, num_nonmembers: int) -> bool:
  """Returns whether so many non-members can show a false positive rate.

  That is from `1 / fpr` on: of fewer, even a threshold that accuses none of them need
  not keep to that rate.
  """
  return float(fpr) * num_nonmembers >= 1 - _ROUNDING  # 0.001 * 1000 counts as 1


def of_confidence(confidence: float) -> float:
  """Returns 1 minus a confidence, 0.01 and not 0.010000000000000009 for 0.99."""
  return round(1 - confidence, 12)


def reaches(p_values: npt.ArrayLike, level: float) -> np.ndarray:
  """Returns which p-values are at most a level, `[...]` bool.

  Tests of few outcomes have the level itself as their least p-value, as `K^-T` with
  K = 10, T = 2 at 0.01 or a tail of a binomial: an equal that is computed in another
  way differs in its last bits, and counts as equal.
  """
  return np.asarray(p_values) <= level * (1 + _ROUNDING)
