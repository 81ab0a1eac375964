"""p-values that need no model of the scores: ranks among rows that calibrate.

A sample's score is compared with the scores that the same attack gives to calibration
rows, of which it is known that they are no members. If a non-member and those rows are
exchangeable, the p-value is valid whatever the attack is: a bad attack makes it weak,
never wrong.
"""

import numpy as np

from jmia import _validate
from jmia.stats import multiple


def p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
  """Returns `(1 + #{z: score(z) >= score(x)}) / (1 + P)` for each sample x.

  Valid for a non-member that is exchangeable with the calibration rows:
  `P(p <= a) <= a` for every a, ties included, over the draw of both.

  Args:
    scores: `[N]`, higher = member; NaN where a sample was not attacked.
    calibration: `[P]` scores of the same attack; NaN counts for nothing.

  Returns:
    `[N]` float64 in (0, 1]; NaN where the score is, or if nothing calibrates.

  Raises:
    ValueError: if an array is not one-dimensional.

  Source: Vovk et al., "Algorithmic Learning in a Random World" (2005); Bates et al.,
  "Testing for Outliers with Conformal p-values" (2023), eq. 2.
  """
  scores = np.asarray(scores, np.float64)
  calibration = np.asarray(calibration, np.float64)
  _validate.shape("scores", scores, (None,))
  _validate.shape("calibration", calibration, (None,))
  known = np.sort(calibration[~np.isnan(calibration)])
  if not known.size:
    return np.full(scores.shape, np.nan)
  as_high = len(known) - np.searchsorted(known, scores, side="left")
  return np.where(np.isnan(scores), np.nan, (1 + as_high) / (1 + len(known)))


def q_values(p: np.ndarray) -> np.ndarray:
  """Returns Benjamini-Hochberg's adjusted p-values, of samples that were attacked.

  Calling members those with `q <= a` keeps the false discovery rate at a: of those
  called, the expected share of non-members. It holds for conformal p-values of samples
  that share their calibration rows (Bates et al. 2023, theorem 2).

  Args:
    p: `[N]` p-values; NaN where a sample was not attacked.

  Returns:
    `[N]` float64; NaN likewise.
  """
  found = np.full(np.shape(p), np.nan)
  tested = ~np.isnan(p)
  if tested.any():
    found[tested] = multiple.benjamini_hochberg(p[tested])
  return found
