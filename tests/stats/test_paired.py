"""Differences of two attacks on the same samples."""

import bound_by_hand
import numpy as np
import pytest
from scipy import stats

from jmia.stats import intervals, paired, roc


def _scores(rng, m, n, shifts, rho):
  members = np.arange(m + n) < m
  common = rng.normal(size=m + n)
  a, b = (
    np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=m + n) + s * members
    for s in shifts
  )
  return a, b, members


def test_by_a_naive_loop():
  a, b, members = _scores(np.random.default_rng(0), 60, 90, (1.0, 0.5), 0.5)
  a = np.round(a, 1)  # with ties

  def beats(x, y):
    return 1.0 if x > y else 0.5 if x == y else 0.0

  psi = [
    np.array([[beats(x, y) for y in s[~members]] for x in s[members]]) for s in (a, b)
  ]
  means = [(psi[1] - psi[0]).mean(axis=axis) for axis in (1, 0)]
  found = paired.auc(a, b, members)
  value = psi[1].mean() - psi[0].mean()
  below, above = (
    np.hypot(*(bound_by_hand.distance(sign * v, -1, 0.025) for v in means))
    for sign in (1, -1)
  )
  np.testing.assert_allclose(found, [value, value - below, value + above], rtol=1e-6)
  np.testing.assert_allclose(
    found.value, roc.auc(b, members) - roc.auc(a, members), atol=1e-12
  )


@pytest.mark.parametrize("num", [300, 1000])
def test_a_few_members_that_come_to_stand_out_are_no_less_of_a_leak(num):
  """One in a hundred jumps to the top, the others fall by as much as balances it."""
  rng = np.random.default_rng(3)
  share, members = 0.01, np.arange(2 * num) < num
  fall = -np.sqrt(2) * stats.norm.ppf((0.5 - share) / (1 - share))
  missed = 0
  for _ in range(300):
    a = rng.normal(size=2 * num)
    b = np.where(members & (rng.random(2 * num) < share), 10, a - fall * members)
    found = paired.auc(a, b, members, confidence=intervals.each_of(9))
    missed += not found.low <= 0 <= found.high
  assert missed <= 5  # .0056 of 300 is 1.7


def test_rare_values_in_unequal_samples_are_no_difference():
  rng = np.random.default_rng(4)
  members = np.arange(2600) < 100
  missed = 0
  for _ in range(300):
    a, b = ((rng.random(2600) < share).astype(float) for share in (0.99, 0.97))
    found = paired.auc(a, b, members, confidence=intervals.each_of(9))
    missed += not found.low <= 0 <= found.high
  assert missed <= 5


def test_the_interval_of_auc_covers():
  """300 draws at 95 %: at most 5 % missed, up to 2.6 standard errors, 8.3 %."""
  rng = np.random.default_rng(1)
  truth = stats.norm.cdf(0.8 / np.sqrt(2)) - stats.norm.cdf(1.2 / np.sqrt(2))
  missed, narrower = 0, 0
  for _ in range(300):
    a, b, members = _scores(rng, 100, 150, (1.2, 0.8), 0.8)
    found = paired.auc(a, b, members)
    missed += not found.low <= truth <= found.high
    each = [intervals.auc(s, members, confidence=0.975) for s in (a, b)]
    narrower += found.high - found.low < sum(one.high - one.low for one in each) / 2
  assert missed <= 0.083 * 300
  assert narrower == 300  # the pairing pays


def test_equal_scores_are_no_point():
  members = np.arange(60) < 30
  for scores in (np.where(members, 1.0, 0.0), np.random.default_rng(0).normal(size=60)):
    found = paired.auc(scores, scores, members)
    assert found.value == 0
    # Of 30 of a kind 11.6 % may differ as much as can be, unseen.
    assert found.high == pytest.approx(np.sqrt(2) * (1 - 0.025 ** (1 / 30)), rel=0.05)
    assert found.low == pytest.approx(-found.high)


def test_tpr_joins_both_intervals():
  a, b, members = _scores(np.random.default_rng(2), 300, 500, (2.0, 0.0), 0.5)
  levels = np.array([0.1, 0.01])
  found = paired.tpr_at_fpr(a, b, members, levels, confidence=0.9)
  each = [intervals.tpr_at_fpr(s, members, levels, confidence=0.95) for s in (a, b)]
  np.testing.assert_allclose(found.low, each[1].low - each[0].high)
  np.testing.assert_allclose(found.high, each[1].high - each[0].low)
  rates = [roc.tpr_at_fpr(s, members, levels) for s in (a, b)]
  np.testing.assert_allclose(found.value, rates[1] - rates[0])
  assert found.high[0] < 0


@pytest.mark.parametrize(
  ("a", "b", "members", "message"),
  [
    (np.zeros(5), np.zeros(4), np.arange(5) < 2, r"b has shape \(4,\)"),
    (np.zeros(5), np.zeros(5), np.arange(5), "members has dtype int64"),
    (np.full(5, np.nan), np.zeros(5), np.arange(5) < 2, "scores hold NaN"),
    (np.zeros(5), np.zeros(5), np.arange(5) < 1, "two members and two non-members"),
  ],
)
def test_bad_input_is_named(a, b, members, message):
  with pytest.raises(ValueError, match=message):
    paired.auc(a, b, members)
