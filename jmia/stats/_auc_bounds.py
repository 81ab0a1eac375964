"""Bounds of an AUC where few comparisons are lost, and DeLong's variance too small.

All is in terms of the rarer outcome: the share of comparisons lost where the AUC is at
least 1/2, of those won below. Of `k = min(members, others)` pairs that use each sample
once, so many are lost as share * k. Where that is few, the samples seen say little of
those that decide the variance, and DeLong's interval misses too often: on the side of
1/2 as the variance is underestimated, on the other as no more than a few losses were
seen.
"""

import numpy as np

from jmia.stats import _exact

_FEW = 10  # lost of k pairs: below, the inner bound takes a model of the variance
_FEWER = 5  # below, and at a share of at most _RARE, the outer bound is exact
_RARE = 0.2


def widened(
  area: np.ndarray,
  low: np.ndarray,
  high: np.ndarray,
  num_members: np.ndarray,
  num_others: np.ndarray,
  tail: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the bounds, drawn further apart where few pairs are lost; all are `[...]`.

  The inner bound is Hanley & McNeil's: the share at which its own variance puts `area`
  at the normal quantile of `tail`. Their variance, of exponential scores, is taken for
  whichever kind of sample makes it larger. The outer bound is Clopper & Pearson's of k
  pairs.
  """
  from scipy import special

  is_high = area >= 0.5
  share = np.where(is_high, 1 - area, area)
  outer = np.where(is_high, 1 - high, low)
  inner = np.where(is_high, 1 - low, high)
  pairs = np.minimum(num_members, num_others)
  few = share * pairs < _FEW
  modelled = _inner(share[few], num_members[few], num_others[few], special.ndtri(tail))
  inner[few] = np.maximum(inner[few], modelled)
  fewer = (share * pairs < _FEWER) & (share <= _RARE)
  exact = _exact.lower(share[fewer] * pairs[fewer], pairs[fewer], tail)
  outer[fewer] = np.minimum(outer[fewer], exact)
  return np.where(is_high, 1 - inner, outer), np.where(is_high, 1 - outer, inner)


def _inner(share: np.ndarray, m: np.ndarray, n: np.ndarray, z: float) -> np.ndarray:
  """The largest share whose standard error is at least its distance in units of z."""
  low, high = share.copy(), np.ones_like(share)
  for _ in range(60):
    middle = (low + high) / 2
    reached = (middle - share) ** 2 <= z**2 * _variance(middle, m, n)
    low, high = np.where(reached, middle, low), np.where(reached, high, middle)
  return high


def _variance(share: np.ndarray, m: np.ndarray, n: np.ndarray) -> np.ndarray:
  """Hanley & McNeil (1982), eq. 1 and table 2; the larger of the two assignments."""
  one = share * (1 - share) ** 2 / (2 - share)
  other = share**2 * (1 - share) / (1 + share)
  small, large = np.minimum(m, n) - 1, np.maximum(m, n) - 1
  # The larger number goes with the larger part.
  parts = large * np.maximum(one, other) + small * np.minimum(one, other)
  return (share * (1 - share) + parts) / (m * n)
