import itertools

import numpy as np
import pytest
from scipy import stats

from jmia.backdoor import power, verification


def _enumerated(asr, num_queries, baseline, confidence):
  """The chance of a claim, summed over all counts that make it."""
  counts = np.arange(num_queries + 1)
  claims = verification.verify(counts, num_queries, baseline, confidence).rejected
  return stats.binom.pmf(counts, num_queries, asr)[claims].sum()


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_power_equals_enumeration(confidence):
  num_queries = np.array([2, 5, 30, 100])
  for asr, baseline in itertools.product((0, 0.2, 0.5, 1), (0.5, 0.1, 0.01)):
    expected = [_enumerated(asr, int(m), baseline, confidence) for m in num_queries]
    actual = power.at(asr, num_queries, baseline, confidence)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_power_equals_simulation():
  rng = np.random.default_rng(0)
  claims = verification.verify(rng.binomial(30, 0.3, 100_000), 30, 0.1).rejected
  expected = power.at(0.3, 30, 0.1)
  assert abs(claims.mean() - expected) < 4 * np.sqrt(0.25 / 100_000)


def test_asr_needed_has_the_power_and_less_has_not():
  num_queries = np.array([3, 10, 30, 100])
  needed = power.asr_needed(num_queries, 0.1, 0.95, 0.9)
  np.testing.assert_allclose(power.at(needed, num_queries, 0.1), 0.9)
  assert (power.at(needed - 1e-6, num_queries, 0.1) < 0.9).all()
  assert (np.diff(needed) < 0).all()
  # By hand: 3 of 3 are needed at a baseline of 0.3, so asr^3 = 0.9.
  assert power.asr_needed(3, 0.3, 0.95, 0.9) == pytest.approx(0.9 ** (1 / 3))


def test_asr_needed_is_nan_where_no_count_makes_the_claim():
  needed = power.asr_needed([4, 5], 0.5)
  assert np.isnan(needed).tolist() == [True, False]


def test_errors():
  with pytest.raises(ValueError, match=r"asr=1.1 must lie in \[0, 1\]"):
    power.at(1.1, 30, 0.1)
  with pytest.raises(ValueError, match="num_queries=0 must be at least 1"):
    power.at(0.5, 0, 0.1)
  for wanted in (0, 1):
    with pytest.raises(ValueError, match=f"power={wanted} must lie in"):
      power.asr_needed(30, 0.1, power=wanted)
