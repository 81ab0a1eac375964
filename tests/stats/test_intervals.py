import itertools
import warnings

import bound_by_hand
import numpy as np
import pytest
from scipy import stats

from jmia.stats import _tpr_bounds, intervals, roc


@pytest.mark.parametrize("digits", [0, 8])
@pytest.mark.parametrize("shift", [0, 1, 6])
def test_auc_interval_by_a_naive_loop(digits, shift):
  rng = np.random.default_rng(0)
  members = rng.random((5, 150)) < 0.4
  scores = (rng.normal(0, 2, (5, 150)) + shift * members).round(digits)
  actual = intervals.auc(scores, members, confidence=0.9)
  for i in range(5):
    x, y = scores[i][members[i]], scores[i][~members[i]]
    wins = np.array([[float(a > b) + 0.5 * (a == b) for b in y] for a in x])
    area, means = wins.mean(), (wins.mean(axis=1), wins.mean(axis=0))
    below = np.hypot(*(bound_by_hand.distance(v, 0, 0.05) for v in means))
    above = np.hypot(*(bound_by_hand.distance(1 - v, 0, 0.05) for v in means))
    assert actual.auc[i] == pytest.approx(area)
    pairs = min(len(x), len(y))
    won = area * pairs
    exact = (
      stats.beta.ppf(0.05, won, pairs - won + 1) if won else 0,
      stats.beta.ppf(0.95, won + 1, pairs - won) if won < pairs else 1,
    )
    assert actual.low[i] == pytest.approx(max(area - below, exact[0]), rel=1e-6)
    assert actual.high[i] == pytest.approx(min(area + above, exact[1]), rel=1e-6)


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


@pytest.mark.parametrize("num_intervals", [1, 24])
@pytest.mark.parametrize("share", [0.99, 0.97, 0.9, 0.01])
@pytest.mark.parametrize(("m", "n"), [(100, 2500), (50, 1000), (1000, 50), (450, 450)])
def test_rare_values_in_unequal_samples_are_no_leak(m, n, share, num_intervals):
  """As correctness at such an accuracy, of a model that leaks nothing."""
  rng = np.random.default_rng(4)
  members = np.arange(m + n) < m
  scores = (rng.random((1000, m + n)) < share).astype(float)
  confidence = intervals.each_of(num_intervals)
  found = intervals.auc(scores, members, confidence=confidence)
  tail = (1 - confidence) / 2
  # 2.6 standard errors of the simulation.
  most = tail + 2.6 * np.sqrt(tail / 1000)
  assert (found.low > 0.5).mean() <= most
  assert (found.high < 0.5).mean() <= most


def test_more_comparisons_won_is_a_higher_bound():
  members = np.arange(900) < 450
  perfect = members.astype(float)
  one_lost = perfect.copy()
  one_lost[0] = 0.5
  one_lost[-1] = 0.75
  few_lost = perfect.copy()
  few_lost[:3] = -1
  low = [intervals.auc(s, members).low for s in (few_lost, one_lost, perfect)]
  assert low[0] < low[1] < low[2] < 1


@pytest.mark.parametrize(("share", "num"), [(0.002, 1000), (0.005, 450), (0.01, 200)])
def test_a_few_members_misranked_altogether(share, num):
  rng = np.random.default_rng(5)
  members = np.arange(2 * num) < num
  lost = rng.random((1000, 2 * num)) < share
  scores = np.where(members, np.where(lost, -1, 1), 0) + 0.5 * rng.random(lost.shape)
  found = intervals.auc(scores, members)
  # All of the others lie in between: the AUC is the share that is not lost.
  assert (found.low > 1 - share).mean() <= 0.025
  assert (found.high < 1 - share).mean() <= 0.025


@pytest.mark.parametrize(
  ("num_members", "num_others", "auc"),
  [
    (20, 20, 0.5), (20, 20, 0.9), (20, 20, 0.99), (15, 60, 0.7), (200, 200, 0.8),
    (10, 500, 0.9), (10, 500, 0.99), (50, 50, 0.99), (200, 200, 0.999),
  ],
)  # fmt: skip
def test_auc_interval_covers_as_often_as_it_says(num_members, num_others, auc):
  rng = np.random.default_rng(2)
  num_trials = 2000
  members = np.arange(num_members + num_others) < num_members
  shape = (num_trials, len(members))
  gaussian = rng.normal(size=shape) + members * stats.norm.ppf(auc) * np.sqrt(2)
  exponential = rng.exponential(size=shape) * np.where(members, auc / (1 - auc), 1)
  # Four standard deviations of the simulation, and one point for the approximation.
  slack = 4 * np.sqrt(0.95 * 0.05 / num_trials)
  for scores in (gaussian, exponential):
    interval = intervals.auc(scores, members)
    coverage = np.mean((interval.low <= auc) & (auc <= interval.high))
    assert coverage >= 0.95 - slack - 0.01, coverage
    if (1 - auc) * min(num_members, num_others) > 20:
      assert coverage <= 0.98, coverage


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
  # All are tied: of six of a kind 46 % may differ, unseen, and win or lose a half.
  tied = intervals.auc(np.ones(12), members)
  half = np.sqrt(2) * (1 - 0.025 ** (1 / 6)) / 2
  np.testing.assert_allclose([tied.low, tied.high], [0.5 - half, 0.5 + half], atol=0.02)
  alone = intervals.auc(np.arange(5.0), np.arange(5) == 2)
  assert 0 < alone.low < 0.02
  assert 0.98 < alone.high < 1
  nobody = intervals.auc(np.arange(5.0), np.zeros(5, bool))
  assert np.isnan([nobody.auc, nobody.low, nobody.high]).all()


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


@pytest.mark.parametrize("tail", [0.05, 0.025, 0.001])
@pytest.mark.parametrize("fpr", [0.0, 0.001, 0.01, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("num_others", [1, 7, 50, 450, 5000])
def test_weights_of_a_tpr_bound_spend_the_tail_and_no_more(num_others, fpr, tail):
  at, error = _tpr_bounds.weights(num_others, fpr, tail)
  assert ((error > 0) & (error <= 0.5)).all()
  # What is not in a cell is left out, with an error of 1; counts above the last share.
  count = np.arange(num_others + 1)
  cell = np.searchsorted(at, count, side="right") - 1
  spent = np.where(cell < 0, 1.0, error[np.maximum(cell, 0)])
  total = spent @ stats.binom.pmf(count, num_others, fpr)
  assert total <= tail * (1 + 1e-9)
  assert total > 0.4 * tail


def _naive_tpr_bounds(scores, members, level, tail):
  """Clopper and Pearson's bounds at every threshold, each with the error of its FPR."""
  m, n = members.sum(), (~members).sum()
  at, error = _tpr_bounds.weights(int(n), level, tail)
  up_at, up_error = _tpr_bounds.weights(int(n), 1 - level, tail)
  counted = {}
  for t in [-np.inf, *scores, np.inf]:
    above = scores > t if np.isfinite(t) else np.full(len(scores), t < 0)
    counted.setdefault((above & ~members).sum(), []).append((above & members).sum())
  low, high = [], []
  for j, k in counted.items():
    i = np.searchsorted(at, j, side="right") - 1
    if i >= 0 and min(k) > 0:
      low.append(stats.beta.ppf(error[i], min(k), m - min(k) + 1))
    elif i >= 0:
      low.append(0.0)
    i = np.searchsorted(up_at, n - j, side="right") - 1
    if i >= 0:
      most = max(k)
      of_beta = stats.beta.isf(up_error[i], most + 1, m - most) if most < m else 1.0
      high.append(of_beta)
  return min(low), max(high)


def test_tpr_interval_equals_a_search_over_all_thresholds():
  rng = np.random.default_rng(4)
  members = rng.random((3, 70)) < 0.4
  scores = rng.normal(size=(3, 70)) + 1.5 * members
  levels = np.array([0.01, 0.1, 0.5, 1.0])
  for ties in ("conservative", "randomized"):
    actual = intervals.tpr_at_fpr(scores, members, levels, ties=ties)
    for i in range(3):
      for k, level in enumerate(levels.tolist()):
        expected = _naive_tpr_bounds(scores[i], members[i], level, 0.025)
        np.testing.assert_allclose(
          [actual.low[i, k], actual.high[i, k]], expected, rtol=1e-9, atol=1e-12
        )


def _kinked(rng, shape, fpr, *, above):
  """Members of whom 3 in 10 lie right above the threshold, or 7 in 10 right below.

  Either way the TPR at the FPR is .3, and the ROC curve jumps there.
  """
  threshold = stats.norm.isf(fpr)
  near = threshold + 1e-9 * rng.random(shape) * (1 if above else -1)
  return np.where((rng.random(shape) < 0.3) == above, near, -50 if above else 50)


TPR_CASES = {
  # name -> (others' scores, members' scores, true TPR): draws of a shape, at an FPR.
  "shift": (
    lambda g, s, f: g.normal(size=s),
    lambda g, s, f: g.normal(size=s) + 1.5,
    lambda f: stats.norm.sf(stats.norm.isf(f) - 1.5),
  ),
  "heavy": (
    lambda g, s, f: g.standard_t(2, s),
    lambda g, s, f: g.standard_t(2, s) + 3,
    lambda f: stats.t.sf(stats.t.isf(f, 2) - 3, 2),
  ),
  "tied": (
    lambda g, s, f: g.binomial(3, 0.3, s),
    lambda g, s, f: g.binomial(3, 0.6, s),
    lambda f: np.interp(
      f,
      [0, *stats.binom.sf(np.arange(2, -2, -1), 3, 0.3)],
      [0, *stats.binom.sf(np.arange(2, -2, -1), 3, 0.6)],
    ),
  ),
  "jump above": (
    lambda g, s, f: g.normal(size=s),
    lambda g, s, f: _kinked(g, s, f, above=True),
    lambda f: 0.3,
  ),
  "jump below": (
    lambda g, s, f: g.normal(size=s),
    lambda g, s, f: _kinked(g, s, f, above=False),
    lambda f: 0.3,
  ),
}


@pytest.mark.parametrize("case", TPR_CASES)
@pytest.mark.parametrize(("m", "n"), [(50, 50), (50, 600), (600, 50), (400, 400)])
def test_tpr_interval_covers_the_tpr_at_the_true_fpr(case, m, n):
  others, held, truth = TPR_CASES[case]
  rng = np.random.default_rng(5)
  num_trials = 1000
  members = np.arange(m + n) < m
  # Each side misses at most 2.5 %; four standard deviations of the simulation.
  most = 0.025 + 4 * np.sqrt(0.025 * 0.975 / num_trials)
  for fpr in (0.1, 0.01):
    parts = held(rng, (num_trials, m), fpr), others(rng, (num_trials, n), fpr)
    found = intervals.tpr_at_fpr(np.concatenate(parts, 1), members, np.array([fpr]))
    assert (found.low[:, 0] > truth(fpr) + 1e-9).mean() <= most
    assert (found.high[:, 0] < truth(fpr) - 1e-9).mean() <= most


def test_tpr_interval_is_no_wider_than_bounds_joined_at_right_angles():
  # Order statistics and Clopper-Pearson, 97.5 % each: the plain valid interval.
  rng = np.random.default_rng(6)
  m = n = 450
  members = np.arange(m + n) < m
  scores = rng.normal(size=(200, m + n)) + 1.5 * members
  found = intervals.tpr_at_fpr(scores, members, np.array([0.1]))
  others = -np.sort(-scores[:, ~members])
  ends = stats.binom.ppf([0.0125, 0.9875], n, 0.1).astype(int)
  least = (scores[:, members] >= others[:, [ends[0] - 1]]).sum(axis=1)
  most = (scores[:, members] > others[:, [ends[1]]]).sum(axis=1)
  low = intervals.clopper_pearson(least, m, confidence=0.975).low
  high = intervals.clopper_pearson(most, m, confidence=0.975).high
  assert np.mean(found.high - found.low) < 0.85 * np.mean(high - low)


@pytest.mark.parametrize("ties", ["conservative", "randomized"])
def test_tpr_is_within_its_interval_and_intervals_nest(ties):
  rng = np.random.default_rng(7)
  levels = np.array([0.0, 0.001, 0.01, 0.1, 0.37, 0.9, 1.0])
  for size in (2, 3, 17, 120):
    members = rng.random((40, size)) < 0.5
    members[:, :2] = [True, False]
    scores = rng.integers(0, 4, (40, size)) + members
    rate = roc.tpr_at_fpr(scores, members, levels, ties=ties)
    narrow = intervals.tpr_at_fpr(scores, members, levels, confidence=0.8, ties=ties)
    wide = intervals.tpr_at_fpr(scores, members, levels, confidence=0.999, ties=ties)
    chain = (0, wide.low, narrow.low, rate, narrow.high, wide.high, 1)
    for lower, upper in itertools.pairwise(chain):
      assert (lower <= upper + 1e-12).all()


def test_tpr_interval_says_where_the_data_cannot_tell():
  members = np.arange(900) < 450
  separated = np.arange(900.0)[::-1]
  levels = np.array([0.001, 0.008, 0.01, 0.1])
  low, high = intervals.tpr_at_fpr(separated, members, levels)
  # Of 450 others none need lie above the threshold that 1 in 1,000 exceeds.
  np.testing.assert_array_equal(low[:2], 0)
  assert (low[2:] > 0.98).all()
  np.testing.assert_array_equal(high, 1)
  # At an FPR of 0 it never can.
  assert intervals.tpr_at_fpr(separated, members, np.zeros(1)).low == 0


def test_tpr_intervals_of_many_rows_are_those_of_each():
  rng = np.random.default_rng(8)
  scores, members = rng.normal(size=(30, 5)).round(1), rng.random((30, 5)) < 0.5
  levels = np.array([0.05, 0.3])
  many = intervals.tpr_at_fpr(scores, members, levels, axis=0)
  assert many.low.shape == (5, 2)
  for i in range(5):
    one = intervals.tpr_at_fpr(scores[:, i], members[:, i], levels)
    np.testing.assert_array_equal([many.low[i], many.high[i]], one)


def test_the_best_of_many_intervals_holds_with_the_confidence_of_each_of_them():
  assert intervals.each_of(1) == pytest.approx(0.95)
  assert intervals.each_of(4, confidence=0.9) == pytest.approx(0.975)
  with pytest.raises(ValueError, match="num=0 must be"):
    intervals.each_of(0)
  # Of 12 attacks that know nothing the strongest looks like one that does.
  rng = np.random.default_rng(9)
  num_trials = 1000
  scores = rng.normal(size=(num_trials, 12, 120))
  members = np.arange(120) < 60
  naive = intervals.auc(scores, members).low.max(axis=1) > 0.5
  adjusted = intervals.auc(scores, members, confidence=intervals.each_of(12))
  assert naive.mean() > 0.1
  most = 0.025 + 4 * np.sqrt(0.025 * 0.975 / num_trials)
  assert (adjusted.low.max(axis=1) > 0.5).mean() <= most


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
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      intervals.tpr_at_fpr(
        np.arange(4.0), np.arange(4) < 2, np.array([0.1]), confidence=confidence
      )
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
