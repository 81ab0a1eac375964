"""Bounds of the TPR at a true FPR: where on a ROC curve its threshold may lie.

Let c be the threshold whose true FPR is alpha. N of n non-members and K of m members
score at least c; they are independent, `N ~ Bin(n, alpha)` and `K ~ Bin(m, tau)`, with
tau the TPR sought. c is unknown, but (N, K) lies somewhere on the empirical ROC curve.
For weights `b_j` in [0, 1] with `sum_j P(N = j) b_j <= tail`, the bound

  low = min over j of ClopperPearsonLow(fewest members at j false positives; b_j)

exceeds tau at most `tail` of the time, whatever the two distributions: K is at least
that fewest at j = N, and of that j the term exceeds tau at most `b_j` of the time.
`b_j = 1` leaves j out.

The weights decide the width. With `a_j` the normal score of j they are

  b_j = Phi(-sqrt(r^2 - a_j^2)) for -r <= a_j < 0, Phi(-r) above, 1 below,

so what is not ruled out is a disc of radius r in normal scores. Then the width is the
same multiple of the best for a known slope of the ROC curve, whatever the slope; other
shapes gain at some slopes and lose more at others. At 95 % r is about 2.35, where a
known slope takes 1.96, and order statistics joined with Clopper-Pearson 2.24 in each
direction, which is 3.17 where the two matter alike.
"""

import functools
from typing import NamedTuple

import numpy as np

from jmia.stats import _exact, roc

_CELLS = 64  # the most weights that a bound is made of: cells of equal width in a_j


class Weights(NamedTuple):
  """Counts of false positives, ascending, and the error `b` spent at each: `[B]`."""

  at: np.ndarray
  error: np.ndarray


@functools.lru_cache(maxsize=1024)
def weights(num_others: int, fpr: float, tail: float) -> Weights:
  """Returns the weights of a lower bound; of an upper one, mirror those of 1 - fpr.

  Args:
    num_others: n.
    fpr: alpha, in [0, 1].
    tail: how often the bound may miss, in (0, 1/2).
  """
  from scipy import special

  widest = 1.5 - special.ndtri(tail)
  reach = (widest + 3) * np.sqrt(num_others * fpr * (1 - fpr)) + 10
  first = max(0, int(num_others * fpr - reach))
  last = min(num_others, int(num_others * fpr + 10))
  count = np.arange(first, last + 1)
  # P(N < j), and P(N < j) + P(N = j) / 2 as a normal score; beyond the median is 0.
  below = _binomial_cdf(count - 1, num_others, fpr)
  middle = (below + _binomial_cdf(count, num_others, fpr)) / 2
  score = np.clip(special.ndtri(middle), -widest, 0)
  # The first count of a cell stands for all of it: the others count more members.
  cell = np.floor(score / widest * _CELLS)
  is_first = np.append(True, cell[1:] != cell[:-1])
  count, below, score = count[is_first], below[is_first], score[is_first]
  share = np.diff(np.append(below, 1.0))

  def errors(radius: float) -> np.ndarray:
    on_disc = special.ndtr(-np.sqrt(np.maximum(radius**2 - score**2, 0)))
    return np.where(score < -radius, 1.0, on_disc)

  low, high = 0.0, 40.0
  for _ in range(60):  # to the least radius that keeps to `tail`
    radius = (low + high) / 2
    keeps = below[0] + share @ errors(radius) <= tail
    low, high = (low, radius) if keeps else (radius, high)
  error = errors(high)
  return Weights(count[error < 1], error[error < 1])


def bounds(
  ranked: roc.Ranked, fpr: np.ndarray, tail: float, ties: roc.Ties
) -> tuple[np.ndarray, np.ndarray]:
  """Returns lower and upper bounds, each `[..., K]`; NaN in a row without both kinds.

  Args:
    ranked: rows.
    fpr: `[K]` levels in [0, 1].
    tail: how often each bound may miss.
    ties: as in `roc.tpr_at_fpr`.
  """
  shape = (*ranked.num_members.shape, len(fpr))
  low, high = np.full(shape, np.nan), np.full(shape, np.nan)
  usable = (ranked.num_members > 0) & (ranked.num_nonmembers > 0)
  for n in np.unique(ranked.num_nonmembers[usable]).tolist():
    rows = usable & (ranked.num_nonmembers == n)
    some = roc.Ranked(*(part[rows] for part in ranked))
    stairs = roc.staircase(some)
    trials = some.num_members[:, None]
    for k, level in enumerate(fpr.tolist()):
      at, error = weights(n, level, tail)
      members = _fewest(stairs, at, ties)
      low[rows, k] = _exact.lower(members, trials, error).min(axis=-1)
      at, error = weights(n, 1 - level, tail)
      members = _most(stairs, n - at, n, trials, ties)
      high[rows, k] = _exact.upper(members, trials, error).max(axis=-1)
  return low, high


def _fewest(stairs: roc.Stairs, count: np.ndarray, ties: roc.Ties) -> np.ndarray:
  """The fewest members a threshold of `count [B]` false positives counts, `[S, B]`.

  A coin within a tie lands on a fraction of a false positive: hence one less.
  """
  counted = stairs.tp(count - 1, count - 1, ties)
  return np.where(count > 0, counted, 0.0)


def _most(
  stairs: roc.Stairs, count: np.ndarray, n: int, m: np.ndarray, ties: roc.Ties
) -> np.ndarray:
  """The most members a threshold of `count [B]` false positives counts, `[S, B]`."""
  return np.where(count < n, stairs.tp(count, count + 1, ties), m)


def _binomial_cdf(count: np.ndarray, num: int, rate: float) -> np.ndarray:
  """P(N <= count) of counts from -1 to `num`, at which SciPy's may be NaN."""
  from scipy import special

  inside = np.clip(count, 0, max(num - 1, 0))
  found = special.bdtr(inside, num, rate)
  return np.where(count < 0, 0.0, np.where(count >= num, 1.0, found))
