from fractions import Fraction
import math
import time

import numpy as np
import pytest
from scipy import stats

from jmia.stats import rate_tests

RATES = (0.001, 1 / 30, 0.1, 0.5, 0.9)


def _exact_tail(successes, trials, rate):
  """P(X >= k) in rational numbers."""
  rate = Fraction(rate)
  terms = (
    math.comb(trials, i) * rate**i * (1 - rate) ** (trials - i)
    for i in range(successes, trials + 1)
  )
  return float(sum(terms))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("trials", [1, 5, 30, 60])
def test_binomial_equals_rational_arithmetic(trials, rate):
  counts = np.arange(trials + 1)
  expected = [_exact_tail(k, trials, rate) for k in counts]
  actual = rate_tests.binomial(counts, trials, rate)
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("trials", [2, 5, 30, 200, 1000])
def test_p_values_equal_scipys_to_1e_6_down_to_1e_30(trials, rate):
  counts = np.arange(trials + 1)
  student = rate_tests.student(counts, trials, rate)
  exact = rate_tests.binomial(counts, trials, rate)
  for actual, expected in (
    (student.p_value, stats.t.sf(student.statistic, trials - 1)),
    (exact, stats.binom.sf(counts - 1, trials, rate)),
  ):
    large = expected > 1e-30
    np.testing.assert_allclose(actual[large], expected[large], rtol=1e-6)
    assert (actual[~large] <= 1.1e-30).all()


@pytest.mark.parametrize(("trials", "rate"), [(30, 0.01), (100, 0.1), (300, 0.4)])
def test_student_tail_equals_60_digits(trials, rate):
  mpmath = pytest.importorskip("mpmath")
  counts = np.arange(trials + 1)
  student = rate_tests.student(counts, trials, rate)
  smallest = 1.0
  with mpmath.workdps(60):
    for k in counts[1:-1:7]:
      t = (k - trials * mpmath.mpf(rate)) / mpmath.sqrt(
        mpmath.mpf(int(k * (trials - k))) / (trials - 1)
      )
      x = (trials - 1) / (trials - 1 + t**2)
      tail = mpmath.betainc((trials - 1) / mpmath.mpf(2), 0.5, 0, x, regularized=True)
      expected = float(tail / 2 if t > 0 else 1 - tail / 2)
      assert student.p_value[k] == pytest.approx(expected, rel=1e-9)
      smallest = min(smallest, expected)
  assert smallest < 1e-20


def test_student_statistic_is_that_of_the_zeros_and_ones():
  for trials, rate in ((5, 0.1), (30, 0.5)):
    for k in range(1, trials):
      sample = np.repeat([0, 1], [trials - k, k])
      expected = stats.ttest_1samp(sample, rate, alternative="greater")
      actual = rate_tests.student(k, trials, rate)
      assert actual.statistic == pytest.approx(expected.statistic)
      assert actual.p_value == pytest.approx(expected.pvalue)


def test_student_by_hand():
  # 4 of 5 at a rate of 1/2: s^2 = 4 / 20, T = sqrt(5) 0.3 / sqrt(0.2) = 1.5.
  test = rate_tests.student(4, 5, 0.5)
  assert test.statistic == pytest.approx(1.5)
  assert test.p_value == pytest.approx(stats.t.sf(1.5, 4))


def test_student_without_variance_is_the_limit():
  test = rate_tests.student(np.array([0, 9]), 9, 0.1)
  assert test.statistic.tolist() == [-np.inf, np.inf]
  assert test.p_value.tolist() == [1, 0]


def test_rates_broadcast_against_counts():
  rng = np.random.default_rng(0)
  counts, rates = rng.integers(0, 13, (4, 3, 2)), np.array([[0.1], [0.3], [0.1]])
  student = rate_tests.student(counts, 12, rates)
  exact = rate_tests.binomial(counts, 12, rates)
  for index in np.ndindex(counts.shape):
    alone = counts[index], 12, rates[index[1], 0]
    assert exact[index] == rate_tests.binomial(*alone)
    assert student.statistic[index] == rate_tests.student(*alone).statistic
    assert student.p_value[index] == rate_tests.student(*alone).p_value
  assert rate_tests.binomial(3, 12, [0.1, 0.2]).shape == (2,)
  assert rate_tests.binomial(np.zeros((0, 3), int), 12, 0.1).shape == (0, 3)


def test_binomial_tail_takes_counts_beyond_the_trials():
  tail = rate_tests.binomial_tail(np.array([0, 1, 4, 5]), 4, np.array(0.5))
  np.testing.assert_allclose(tail, [1, 15 / 16, 1 / 16, 0])
  certain = rate_tests.binomial_tail(np.array([4, 5]), 4, np.array(1.0))
  assert certain.tolist() == [1, 0]


def test_a_million_tests_take_less_than_a_second():
  counts = np.random.default_rng(1).integers(0, 31, 1_000_000)
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    rate_tests.student(counts, 30, 0.1)
    rate_tests.binomial(counts, 30, 0.1)
    seconds.append(time.perf_counter() - start)
  assert min(seconds) < 1


def test_errors():
  with pytest.raises(ValueError, match="trials=1 must be at least 2, for a sample"):
    rate_tests.student(1, 1, 0.5)
  with pytest.raises(ValueError, match="trials=0 must be a finite number above 0"):
    rate_tests.binomial(0, 0, 0.5)
  with pytest.raises(ValueError, match="successes has dtype float64, expected integer"):
    rate_tests.binomial(1.0, 2, 0.5)
  for bad in ([-1, 2], [0, 3]):
    with pytest.raises(ValueError, match=r"successes holds counts from .* trials=2"):
      rate_tests.binomial(np.array(bad), 2, 0.5)
  for rate in (0, 1, [0.5, np.nan]):
    with pytest.raises(ValueError, match=r"rate=.* must lie in \(0, 1\)"):
      rate_tests.student(1, 2, rate)
  with pytest.raises(ValueError, match=r"rate has shape \(2,\), which does not broad"):
    rate_tests.binomial(np.zeros(3, int), 2, [0.1, 0.2])
