"""Differences of two attacks on the same samples."""

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


def test_delong_by_a_naive_loop():
  a, b, members = _scores(np.random.default_rng(0), 60, 90, (1.0, 0.5), 0.5)
  a = np.round(a, 1)  # with ties

  def beats(x, y):
    return 1.0 if x > y else 0.5 if x == y else 0.0

  m, n = 60, 90
  psi = [
    np.array([[beats(x, y) for y in s[~members]] for x in s[members]]) for s in (a, b)
  ]
  by_member, by_other = ((psi[1] - psi[0]).mean(axis=axis) for axis in (1, 0))
  parts = by_member.var(ddof=1) / m, by_other.var(ddof=1) / n
  freedom = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
  half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts))
  found = paired.auc(a, b, members)
  value = psi[1].mean() - psi[0].mean()
  np.testing.assert_allclose(found, [value, value - half, value + half])
  np.testing.assert_allclose(
    found.value, roc.auc(b, members) - roc.auc(a, members), atol=1e-12
  )


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


def test_few_comparisons_are_not_taken_for_normal():
  members = np.arange(60) < 30
  perfect = np.where(members, 1.0, 0.0) + np.linspace(0, 0.1, 60)
  found = paired.auc(perfect, perfect, members)
  each = intervals.auc(perfect, members, confidence=0.975)
  assert found.value == 0
  np.testing.assert_allclose(found.high, each.high - each.low)
  assert found.high > 0.05
  noise = np.random.default_rng(0).normal(size=60)
  assert paired.auc(noise, noise, members).high > 0  # the same scores: no point


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
