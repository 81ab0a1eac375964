"""What a claim costs: the success rate and the queries that the exact test needs.

The power is the chance that a model whose true attack success rate is `asr` is found
out. With c the least count that makes the claim (`verification.critical_successes`) it
is `P(X >= c)` of `X ~ Binomial(num_queries, asr)`. It rises with `asr`, but not
steadily with the number of queries: c moves in whole steps, and the query with which it
steps up costs power.
"""

import math

import numpy as np
from numpy import typing as npt
from scipy import special

from jmia import _validate
from jmia.backdoor import claims, randomization, verification
from jmia.stats import levels, rate_tests

_TRIALS = 1000  # of a simulated power: at most 1.6 points of standard error


def at(
  asr: npt.ArrayLike,
  num_queries: npt.ArrayLike,
  baseline: float,
  confidence: float = 0.95,
) -> np.ndarray:
  """Returns the chance that the exact test makes the claim.

  Args:
    asr: `[...]` true success rates, in [0, 1].
    num_queries: `[...]` int, broadcastable.
    baseline: beta, in (0, 1).
    confidence: tau, in (0, 1).

  Returns:
    float64 of the broadcast shape.

  Raises:
    ValueError: an argument is out of range.
  """
  asr = np.asarray(asr, np.float64)
  if not ((asr >= 0) & (asr <= 1)).all():
    raise ValueError(f"asr={asr} must lie in [0, 1]")
  critical = verification.critical_successes(num_queries, baseline, confidence)
  return rate_tests.binomial_tail(critical, np.asarray(num_queries), asr)


def asr_needed(
  num_queries: npt.ArrayLike,
  baseline: float,
  confidence: float = 0.95,
  power: float = 0.8,
) -> np.ndarray:
  """Returns the least true ASR at which the claim is made with the power asked for.

  Args:
    num_queries: `[...]` int.
    baseline: beta, in (0, 1).
    confidence: tau, in (0, 1).
    power: in (0, 1).

  Returns:
    `[...]` float64; NaN where so few queries never suffice for a claim.

  Raises:
    ValueError: an argument is out of range.
  """
  _validate.probability("power", power, open_interval=True)
  num_queries = np.asarray(num_queries)
  critical = verification.critical_successes(num_queries, baseline, confidence)
  spare = num_queries - critical
  needed = special.betaincinv(critical, np.maximum(spare, 0) + 1, power)
  return np.where(spare >= 0, needed, np.nan)


def of_submarks(
  asr: float,
  num_submarks: int,
  num_classes: int,
  num_queries: int,
  *,
  confidence: float = 0.95,
  accuracy: float = 0.8,
  spread: float = 0.0,
) -> tuple[float, float, float]:
  """Returns the chances of a claim by the randomization, binomial and t-test.

  By 1,000 simulations at a fixed seed: at most 1.6 points of standard error. A query is
  answered with its sub-mark's label at that sub-mark's success rate; else rightly at
  the rate `accuracy`, and else with any class.

  Args:
    asr: mean success rate of sub-marks, in [0, 1].
    num_submarks: T.
    num_classes: K.
    num_queries: in all, at least two for each sub-mark.
    confidence: in (0, 1).
    accuracy: of the answers that no mark decides, in [0, 1].
    spread: standard deviation of the success rate over sub-marks and models, whose
      distribution is then Beta's. Rates of few rows spread widely, and a claim is made
      less often than at their mean.

  Raises:
    ValueError: an argument is out of range.
  """
  _validate.probability("asr", asr)
  _validate.probability("accuracy", accuracy)
  most = math.sqrt(asr * (1 - asr))
  if not 0 <= spread < most and spread != 0:
    raise ValueError(f"spread={spread} must be at least 0 and below {most:.3g}")
  if num_submarks < 1 or num_queries < 2 * num_submarks:
    raise ValueError(
      f"num_queries={num_queries} must be at least two for each of"
      f" num_submarks={num_submarks}"
    )
  rng = np.random.default_rng(0)
  submarks = np.arange(num_queries) % num_submarks
  level = levels.of_confidence(confidence)
  made = np.zeros((_TRIALS, len(claims.TESTS)))
  for trial in range(_TRIALS):
    labels = rng.integers(num_classes, size=num_submarks)
    truth = rng.integers(num_classes, size=num_queries)
    is_right = rng.random(num_queries) < accuracy
    answers = np.where(is_right, truth, rng.integers(num_classes, size=num_queries))
    rates = np.full(num_submarks, asr)
    if spread:
      total = (most / spread) ** 2 - 1  # Beta's a + b
      rates = rng.beta(asr * total, (1 - asr) * total, num_submarks)
    knows = rng.random(num_queries) < rates[submarks]
    answers = np.where(knows, labels[submarks], answers)
    tallied = randomization.tally(answers, truth, submarks, num_submarks, num_classes)
    p_values = claims.p_values(tallied, labels)
    made[trial] = levels.reaches(p_values, level)
  randomized, binomial, student = made.mean(axis=0).tolist()
  return randomized, binomial, student
