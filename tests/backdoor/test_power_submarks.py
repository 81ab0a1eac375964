"""Power of sub-marks: by hand where nothing is left to chance, and its limits."""

import pytest

from jmia.backdoor import power


def test_certain_and_hopeless_success_rates():
  assert power.of_submarks(1.0, 2, 10, 30) == (1.0, 1.0, 1.0)
  # Without a mark learnt the randomization test claims at most at its level.
  none, binomial, _ = power.of_submarks(0.0, 2, 10, 30)
  assert none <= 0.05 + 4 * (0.05 * 0.95 / 1000) ** 0.5
  assert binomial < 0.05


def test_it_claims_at_lower_rates_than_the_tests_of_an_assumed_rate():
  chances = power.of_submarks(0.2, 2, 10, 30, accuracy=0.9)
  assert chances[0] > chances[1] > chances[2]


def test_rates_that_spread_are_claimed_less_often_than_their_mean():
  steady = power.of_submarks(0.1, 1, 30, 30)[0]
  spread = power.of_submarks(0.1, 1, 30, 30, spread=0.08)[0]
  assert spread < steady - 0.05
  # Rates of nearly 0 and 1, a half each: found out in half of the cases.
  extreme = power.of_submarks(0.5, 1, 30, 30, spread=0.49)[0]
  assert abs(extreme - 0.5) < 0.08


def test_one_submark_of_few_classes_can_never_claim():
  assert power.of_submarks(1.0, 1, 10, 30)[0] == 0


def test_errors():
  for given, message in (
    ({"asr": 1.1}, r"asr=1.1 must lie in \[0, 1\]"),
    ({"accuracy": -1}, "accuracy=-1 must lie"),
    ({"spread": 0.5}, "spread=0.5 must be at least 0 and below 0.5"),
    ({"spread": -0.1}, "spread=-0.1 must be"),
    ({"num_queries": 3}, "num_queries=3 must be at least two for each"),
    ({"num_submarks": 0}, "must be at least two for each of num_submarks=0"),
  ):
    options = {"asr": 0.5, "num_submarks": 2, "num_classes": 10, "num_queries": 30}
    with pytest.raises(ValueError, match=message):
      power.of_submarks(**{**options, **given})
