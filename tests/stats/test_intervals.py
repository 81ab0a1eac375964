import warnings

import numpy as np
import pytest
from scipy import special, stats

from jmia.stats import intervals, roc


def _naive_delong(scores, members):
  """AUC and DeLong's variance, comparing every member with every non-member."""
  x, y = scores[members], scores[~members]
  wins = np.array([[float(a > b) + 0.5 * (a == b) for b in y] for a in x])
  v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
  parts = v10.var(ddof=1) / len(x), v01.var(ddof=1) / len(y)
  return wins.mean(), parts


@pytest.mark.parametrize("digits", [0, 8])
def test_auc_interval_equals_naive_delong(digits):
  rng = np.random.default_rng(0)
  members = rng.random((5, 40)) < 0.3
  scores = (rng.normal(0, 2, (5, 40)) + members).round(digits)
  actual = intervals.auc(scores, members, confidence=0.9)
  for i in range(5):
    area, parts = _naive_delong(scores[i], members[i])
    se = np.sqrt(sum(parts))
    m, n = members[i].sum(), (~members[i]).sum()
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    half = stats.t.ppf(0.95, freedom) * se / (area * (1 - area))
    assert actual.auc[i] == pytest.approx(area)
    assert actual.standard_error[i] == pytest.approx(se)
    assert actual.low[i] == pytest.approx(special.expit(special.logit(area) - half))
    assert actual.high[i] == pytest.approx(special.expit(special.logit(area) + half))


def test_auc_interval_over_models_is_that_of_the_transposed():
  rng = np.random.default_rng(1)
  scores, members = rng.normal(size=(30, 4)), rng.random((30, 4)) < 0.5
  for a, b in zip(
    intervals.auc(scores, members, axis=0),
    intervals.auc(scores.T, members.T),
    strict=True,
  ):
    assert a.shape == (4,)
    np.testing.assert_allclose(a, b)


@pytest.mark.parametrize(
  ("num_members", "num_others", "auc"),
  [(20, 20, 0.5), (20, 20, 0.9), (20, 20, 0.99), (15, 60, 0.7), (200, 200, 0.8)],
)
def test_auc_interval_covers_as_often_as_it_says(num_members, num_others, auc):
  rng = np.random.default_rng(2)
  num_trials = 2000
  scores = rng.normal(size=(num_trials, num_members + num_others))
  members = np.arange(num_members + num_others) < num_members
  scores[:, members] += stats.norm.ppf(auc) * np.sqrt(2)
  interval = intervals.auc(scores, members)
  coverage = np.mean((interval.low <= auc) & (auc <= interval.high))
  # Four standard deviations of the simulation, and one point for the approximation.
  slack = 4 * np.sqrt(0.95 * 0.05 / num_trials)
  assert coverage >= 0.95 - slack - 0.01, coverage
  assert coverage <= 0.995, coverage


def test_degenerate_variance_never_gives_a_point():
  members = np.arange(12) < 6
  separated = intervals.auc(np.arange(12.0)[::-1], members)
  assert separated.auc == 1
  assert separated.high == 1
  # Six comparisons won of six: (alpha / 2) ** (1 / 6).
  assert separated.low == pytest.approx(0.025 ** (1 / 6))
  inverted = intervals.auc(np.arange(12.0), members)
  assert inverted.low == 0
  assert inverted.high == pytest.approx(1 - 0.025 ** (1 / 6))
  # Three of six won, as all are halves.
  tied = intervals.auc(np.ones(12), members)
  exact = stats.binomtest(3, 6).proportion_ci(0.95, "exact")
  np.testing.assert_allclose([tied.low, tied.high], exact)
  # Equal components that are no exact floats: members tie with 1 of 3 others.
  thirds = intervals.auc(
    np.array([1.0, 1, 1, 1, 0, 2]), np.array([1, 1, 1, 0, 0, 0], bool)
  )
  assert thirds.high - thirds.low > 0.3
  alone = intervals.auc(np.arange(5.0), np.arange(5) == 2)
  assert np.isnan(alone.standard_error)
  assert 0 < alone.low < 0.01
  assert 0.99 < alone.high < 1


def test_perfect_separation_covers():
  # At an AUC of 0.97 and 8 of each kind, half of the trials separate perfectly.
  rng = np.random.default_rng(3)
  members = np.arange(16) < 8
  scores = rng.normal(size=(2000, 16))
  scores[:, members] += stats.norm.ppf(0.97) * np.sqrt(2)
  interval = intervals.auc(scores, members)
  is_separated = interval.auc == 1
  assert 0.2 < is_separated.mean() < 0.8
  assert ((interval.low <= 0.97) & (interval.high >= 0.97)).mean() >= 0.95


def test_clopper_pearson_equals_scipy():
  successes = np.arange(13)
  interval = intervals.clopper_pearson(successes, 12, confidence=0.99)
  for k in successes:
    expected = stats.binomtest(k, 12).proportion_ci(0.99, "exact")
    np.testing.assert_allclose([interval.low[k], interval.high[k]], expected)
  none = intervals.clopper_pearson(np.array([0]), np.array([0]))
  assert np.isnan([none.low, none.high]).all()


def test_tpr_interval_is_that_of_the_members_called():
  rng = np.random.default_rng(4)
  members = rng.random((3, 50)) < 0.5
  scores = (rng.normal(size=(3, 50)) + members).round(1)
  levels = np.array([0.05, 0.5])
  interval = intervals.tpr_at_fpr(scores, members, levels)
  tpr = roc.tpr_at_fpr(scores, members, levels)
  for i in range(3):
    for k in range(2):
      trials = int(members[i].sum())
      test = stats.binomtest(round(tpr[i, k] * trials), trials)
      expected = test.proportion_ci(0.95, "exact")
      np.testing.assert_allclose([interval.low[i, k], interval.high[i, k]], expected)


def test_rows_without_both_kinds_are_nan_and_do_not_warn():
  scores = np.arange(8.0).reshape(2, 4)
  members = np.array([[True] * 4, [False] * 4])
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    of_auc = intervals.auc(scores, members)
    of_tpr = intervals.tpr_at_fpr(scores, members, np.array([0.1]))
  for bounds in (*of_auc, *of_tpr):
    assert np.isnan(bounds).all()


def test_errors():
  for confidence in (0, 1, 1.5):
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      intervals.clopper_pearson(1, 2, confidence=confidence)
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      intervals.auc(np.arange(4.0), np.arange(4) < 2, confidence=confidence)
  with pytest.raises(ValueError, match=r"successes=3 must be at most trials=2"):
    intervals.clopper_pearson(3, 2)
  with pytest.raises(ValueError, match="successes must be counts"):
    intervals.clopper_pearson(0.5, 2)
  with pytest.raises(ValueError, match="trials must be counts"):
    intervals.clopper_pearson(0, -2)
  with pytest.raises(ValueError, match="members has dtype"):
    intervals.auc(np.arange(4.0), np.arange(4))


def test_interval_of_a_mean_is_students():
  values = np.random.default_rng(0).normal(size=(4, 7))
  expected = stats.ttest_1samp(values, 0, axis=1).confidence_interval(0.9)
  low, high = intervals.mean(values, confidence=0.9)
  np.testing.assert_allclose(low, expected.low)
  np.testing.assert_allclose(high, expected.high)
  np.testing.assert_array_equal(
    intervals.mean(values.T, confidence=0.9, axis=0).low, low
  )


def test_interval_of_the_mean_of_one_draw_is_unknown():
  assert np.isnan(intervals.mean(np.ones((2, 1)))).all()
  with pytest.raises(ValueError, match="confidence=1 must"):
    intervals.mean(np.ones(3), confidence=1)
