"""Lower bounds on epsilon from one training run with many canaries, on the host.

Each of `m` canaries is in the training set by a fair coin of its own. An attacker, who
sees the model, guesses the coins of `r` canaries and is right on `v`. If adding or
removing one row is (epsilon, delta) private, `v` is not much larger than a binomial of
`r` trials at `q = e^eps / (1 + e^eps)`, however the scores depend on one another:

    P(v or more) <= b(v) + 2 m delta max over 1 <= i <= v of (b(v - i) - b(v)) / i

with `b(v) = P(Bin(r, q) >= v)`. The independent coins are all that it assumes of the
canaries: it is a proof, where a bound from samples of one target is an estimate. A
training set of fixed size is not drawn by such coins.

**Which guesses.** How many to guess is fixed beforehand as a grid of counts, and each
pays its share of the level (Bonferroni): the highest scores are called in (`top`), or
also as many of the lowest called out (`both`). A threshold picked on the scores that
are then counted would not be valid; nor is `jax_privacy`'s own correction over the
thresholds of the data's hull, so its auditor is given explicit thresholds here.

Source: Steinke, Nasr & Jagielski, "Privacy Auditing with One (1) Training Run" (2023),
theorem 5.2; Mahloujifar, Melis & Chaudhuri, "Auditing f-Differential Privacy in One
Run" (2024), by `jax_privacy.auditing`.
"""

import math
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.stats import epsilon as epsilon_lib
from jmia.stats import rate_tests


class Guesses(NamedTuple):
  """`num` guesses, of which `right` are right."""

  num: int
  right: int


def p_value(
  guesses: Guesses, num_canaries: int, *, epsilon: float, delta: float = 0.0
) -> float:
  """Returns the chance bound of so many right guesses under (epsilon, delta).

  Args:
    guesses: counts; their number must not depend on the coins.
    num_canaries: `m`.
    epsilon: for one row added or removed, at least 0.
    delta: in [0, 1).

  Raises:
    ValueError: an argument is out of range.
  """
  _check(guesses, num_canaries)
  if not epsilon >= 0:
    raise ValueError(f"epsilon={epsilon} must be at least 0")
  epsilon_lib.check_delta(delta)
  num, right = guesses
  if not right:
    return 1.0
  q = 1 / (1 + math.exp(-epsilon))
  # b(v), b(v - 1), ..., b(0); without a delta only the first.
  counts = right - np.arange(right + 1 if delta else 1)
  tail = rate_tests.binomial_tail(counts, num, np.array(q))
  extra = 0.0
  if delta:
    steepest = ((tail[1:] - tail[0]) / np.arange(1, right + 1)).max()
    extra = 2 * num_canaries * delta * steepest
  return float(min(1.0, tail[0] + extra))


def guess(scores: np.ndarray, is_in: np.ndarray) -> list[Guesses]:
  """Returns the guesses of the fixed grid: counts `m / 2`, `m / 4`, ... of each form.

  Ties are broken by a draw that depends on no coin.

  Args:
    scores: `[m]`, higher = in.
    is_in: `[m]` bool, the coins.

  Raises:
    ValueError: `scores` is not `[m]`, is empty or holds NaN, or `is_in` is not `[m]`
      bool.
  """
  scores, is_in = np.asarray(scores), np.asarray(is_in)
  if scores.ndim != 1 or not scores.size:
    raise ValueError(f"scores has shape {scores.shape}, expected [m], m at least 1")
  if np.isnan(scores).any():
    raise ValueError(f"scores holds {np.isnan(scores).sum()} NaN values")
  _validate.shape("is_in", is_in, scores.shape)
  if is_in.dtype != bool:
    raise ValueError(f"is_in has dtype {is_in.dtype}, expected bool")
  ties = np.random.default_rng(0).permutation(len(scores))
  ranked = is_in[np.lexsort((ties, -scores))]
  found = []
  for count in _counts(len(scores)):
    top = int(ranked[:count].sum())
    found.append(Guesses(count, top))
    if 2 * count <= len(scores):
      found.append(Guesses(2 * count, top + int((~ranked[-count:]).sum())))
  return found


def lower_bound(
  scores: np.ndarray,
  is_in: np.ndarray,
  *,
  delta: float = 0.0,
  confidence: float = 0.95,
) -> float:
  """Returns Steinke et al.'s bound on epsilon for one row added or removed.

  Args:
    scores: `[m]`, higher = in; they may depend on one another.
    is_in: `[m]` bool, independent fair coins.
    delta: of the guarantee, in [0, 1).
    confidence: of the bound, in (0, 1).

  Returns:
    At least 0; above a true epsilon in at most `1 - confidence` of all repetitions.

  Raises:
    ValueError: as `guess`, or `delta` or `confidence` is out of range.
  """
  epsilon_lib.check_delta(delta)
  _validate.probability("confidence", confidence, open_interval=True)
  found = guess(scores, is_in)
  level = (1 - confidence) / len(found)
  best = 0.0
  for one in found:

    def is_refuted(epsilon: float, one: Guesses = one) -> bool:
      return p_value(one, len(scores), epsilon=epsilon, delta=delta) <= level

    best = epsilon_lib.largest(is_refuted, best)
  return best


def lower_bound_gaussian(
  scores: np.ndarray, is_in: np.ndarray, *, delta: float, confidence: float = 0.95
) -> float:
  """Returns Mahloujifar et al.'s bound, if the mechanism's curve is a Gaussian's.

  What is refuted is that the mechanism is Gaussian-private with that epsilon at
  `delta`; more than Steinke's bound, and no bound for mechanisms of another curve.

  Args:
    scores: as `lower_bound`, as are the coins.
    is_in: `[m]` bool.
    delta: in (0, 1).
    confidence: of the bound, in (0.5, 1).

  Raises:
    ValueError: as `guess`, or `delta` or `confidence` is out of range.
    ImportError: jax-privacy is not installed.
  """
  from jax_privacy import auditing

  _validate.probability("delta", delta, open_interval=True)
  if not 0.5 < confidence < 1:
    raise ValueError(f"confidence={confidence} must lie in (0.5, 1)")
  found = guess(scores, is_in)
  best = 0.0
  for one in found:
    if 2 * one.right <= one.num:
      continue
    # The auditor counts canaries of either kind above its threshold. In and out stand
    # for right and wrong guesses here, which is all that the bound depends on; the
    # canaries on which there is no guess are below.
    rest = len(scores) - one.num
    right = np.append(np.ones(one.right), np.zeros(rest))
    wrong = np.ones(one.num - one.right)
    if not wrong.size:
      right, wrong = right[:-1] if rest else right, np.zeros(1)
    auditor = auditing.CanaryScoreAuditor(right, wrong)
    bound = auditor.epsilon_one_run_fdp(
      significance=(1 - confidence) / len(found),
      delta=delta,
      threshold_strategy=auditing.Explicit(0.5),
    )
    best = max(best, float(bound))
  return best


def _counts(num: int) -> list[int]:
  """Returns `num / 2`, `num / 4`, ..., not below 8 but for the first."""
  counts = [max(1, num // 2)]
  while counts[-1] >= 16:
    counts.append(counts[-1] // 2)
  return counts


def _check(guesses: Guesses, num_canaries: int) -> None:
  num, right = guesses
  if not 0 <= right <= num or not 0 < num <= num_canaries:
    raise ValueError(
      f"guesses={num} with {right} right of num_canaries={num_canaries}: expected"
      " 0 <= right <= guesses <= num_canaries"
    )
