"""One-sided tests that a rate is at most a given one, from counts of successes.

With n trials a statistic takes n + 1 values only. They are computed once in float64,
for each distinct rate of the null, and looked up: a million tests cost a million
gathers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import typing as npt

from jmia import _validate

_Formula = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


class StudentTest(NamedTuple):
  """Student's t-test of zeros and ones; each `[...]` float64.

  Attributes:
    statistic: infinite where all trials agree, since their variance is 0.
    p_value: upper tail; where all agree its limit, 0 (all succeed) or 1 (none does).
  """

  statistic: np.ndarray
  p_value: np.ndarray


def student(successes: npt.ArrayLike, trials: int, rate: npt.ArrayLike) -> StudentTest:
  """Tests "the rate is at most `rate`" by Student's t: approximate.

  With n trials, k successes and `s^2 = k (n - k) / (n (n - 1))`, the sample variance of
  the zeros and ones, the statistic is `sqrt(n) (k / n - rate) / s`, on n - 1 degrees of
  freedom. Zeros and ones are not normal, and the level is not kept: `binomial` is the
  test to rely on.

  Args:
    successes: `[...]` int, from 0 to `trials`.
    trials: `n`, at least 2.
    rate: float or `[...]`, broadcastable against `successes`; in (0, 1). Each distinct
      rate costs a table of n + 1 values.

  Returns:
    A `StudentTest` of the broadcast shape.

  Raises:
    ValueError: an argument is out of range, or the shapes do not broadcast.
  """
  if trials < 2:
    raise ValueError(f"trials={trials} must be at least 2, for a sample variance")
  return StudentTest(
    statistic=_look_up(_student_statistic, successes, trials, rate),
    p_value=_look_up(_student_tail, successes, trials, rate),
  )


def binomial(successes: npt.ArrayLike, trials: int, rate: npt.ArrayLike) -> np.ndarray:
  """Tests "the rate is at most `rate`" by the binomial tail: exact.

  `P(X >= k)` of `X ~ Binomial(trials, rate)`. If the trials are independent and none
  succeeds with more than `rate`, then `P(p <= t) <= t` for every t.

  Args:
    successes: `[...]` int, from 0 to `trials`.
    trials: at least 1.
    rate: float or `[...]`, broadcastable against `successes`; in (0, 1). Each distinct
      rate costs a table of `trials + 1` values.

  Returns:
    p-values, float64 of the broadcast shape; 0 only below float64's smallest number.

  Raises:
    ValueError: an argument is out of range, or the shapes do not broadcast.
  """
  return _look_up(binomial_tail, successes, trials, rate)


def binomial_tail(
  successes: np.ndarray, trials: int | np.ndarray, rate: np.ndarray
) -> np.ndarray:
  """Returns `P(X >= successes)` of `X ~ Binomial(trials, rate)`, entry by entry.

  Args:
    successes: `[...]` from 0 to `trials + 1`, where the tail is 0.
    trials: `[...]`.
    rate: `[...]` in [0, 1].
  """
  from scipy import special  # slow to import

  inside = special.betainc(
    np.maximum(successes, 1), np.maximum(trials - successes + 1, 1), rate
  )
  return np.where(successes > trials, 0.0, np.where(successes > 0, inside, 1.0))


def _student_statistic(successes, trials, rate):
  with np.errstate(divide="ignore"):
    return (
      np.sqrt(trials - 1)
      * (successes - trials * rate)
      / np.sqrt(successes * (trials - successes))
    )


def _student_tail(successes, trials, rate):
  from scipy import special  # slow to import

  # P(T > t) = I_x(df / 2, 1 / 2) / 2 at x = df / (df + t^2), which has no zero variance
  # to divide by.
  spread = successes * (trials - successes)
  excess = successes - trials * rate
  half = special.betainc((trials - 1) / 2, 0.5, spread / (spread + excess**2)) / 2
  return np.where(excess > 0, half, 1 - half)


def _look_up(
  formula: _Formula, successes: npt.ArrayLike, trials: int, rate: npt.ArrayLike
) -> np.ndarray:
  """Evaluates a formula at every count and distinct rate, and gathers."""
  successes, rate = np.asarray(successes), np.asarray(rate, np.float64)
  _check(successes, trials, rate)
  distinct, which = np.unique(rate, return_inverse=True)
  table = formula(np.arange(trials + 1), trials, distinct[:, None])
  return table[which.reshape(rate.shape), successes]


def _check(successes: np.ndarray, trials: int, rate: np.ndarray) -> None:
  _validate.positive("trials", trials)
  if not np.issubdtype(successes.dtype, np.integer):
    raise ValueError(f"successes has dtype {successes.dtype}, expected integer counts")
  if successes.size and (successes.min() < 0 or successes.max() > trials):
    raise ValueError(
      f"successes holds counts from {successes.min()} to {successes.max()}, expected 0 "
      f"to trials={trials}"
    )
  if not ((rate > 0) & (rate < 1)).all():
    raise ValueError(f"rate={rate} must lie in (0, 1)")
  try:
    np.broadcast_shapes(successes.shape, rate.shape)
  except ValueError:
    raise ValueError(
      f"rate has shape {rate.shape}, which does not broadcast against successes of "
      f"shape {successes.shape}"
    ) from None
