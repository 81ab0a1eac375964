import warnings

import numpy as np
import pytest
from sklearn import metrics

from jmia.stats import roc


def _tied_rows(seed, shape=(4, 3, 60)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 9, shape).astype(np.float32), rng.random(shape) < 0.4


def test_curve_equals_scikit_learns_with_heavy_ties():
  for seed in range(20):
    scores, members = _tied_rows(seed, (25,))
    curve = roc.roc(scores, members)
    fpr, tpr, thresholds = metrics.roc_curve(members, scores, drop_intermediate=False)
    np.testing.assert_array_equal(curve.fpr, fpr)
    np.testing.assert_array_equal(curve.tpr, tpr)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


def test_auc_equals_scikit_learns_row_by_row():
  scores, members = _tied_rows(0)
  actual = roc.auc(scores, members)
  assert actual.shape == (4, 3)
  for i in range(4):
    for j in range(3):
      expected = metrics.roc_auc_score(members[i, j], scores[i, j])
      assert actual[i, j] == pytest.approx(expected, abs=1e-14)


def test_auc_over_models_is_auc_of_the_transposed():
  scores, members = _tied_rows(1, (40, 7))
  np.testing.assert_array_equal(
    roc.auc(scores, members, axis=0), roc.auc(scores.T, members.T)
  )


def test_members_broadcast_over_attacks():
  scores, _ = _tied_rows(2)
  members = np.arange(60) < 30
  actual = roc.auc(scores, members)
  expected = metrics.roc_auc_score(members, scores[2, 1])
  assert actual[2, 1] == pytest.approx(expected, abs=1e-14)


def test_by_hand():
  # By descending score: 4+, 3-, then a tie of two members and one other, 1-.
  scores = np.array([2.0, 4.0, 1.0, 2.0, 3.0, 2.0])
  members = np.array([True, True, False, True, False, False])
  curve = roc.roc(scores, members)
  np.testing.assert_allclose(curve.tpr, [0, 1 / 3, 1 / 3, 1, 1])
  np.testing.assert_allclose(curve.fpr, [0, 0, 1 / 3, 2 / 3, 1])
  np.testing.assert_array_equal(curve.thresholds, [np.inf, 4, 3, 2, 1])
  # Pairs won: 3 by the first member, 1 + 1/2 by each tied one, of 9.
  assert roc.auc(scores, members) == pytest.approx(6 / 9)
  levels = np.array([0.0, 0.3, 1 / 3, 0.5, 0.66, 0.67, 1.0])
  # Unless a coin splits it, the two members of the tie do not count at FPR 1/2.
  np.testing.assert_allclose(
    roc.tpr_at_fpr(scores, members, levels, ties="conservative"), [1 / 3] * 5 + [1, 1]
  )
  # From FPR 1/3 to 2/3 a coin calls both members and the other of the tie alike.
  within = [1 / 3 + 2 / 3 * (level - 1 / 3) * 3 for level in (0.5, 0.66)]
  np.testing.assert_allclose(
    roc.tpr_at_fpr(scores, members, levels), [1 / 3] * 3 + within + [1, 1]
  )
  # Best threshold 2: three members right, and one of three others; or threshold 4:
  # one member and all others. Both have 4 of 6 right.
  assert roc.best_accuracy(scores, members) == pytest.approx(4 / 6)


@pytest.mark.parametrize("ties", ["conservative", "randomized"])
def test_tpr_at_fpr_equals_a_search_over_all_thresholds(ties):
  scores, members = _tied_rows(3)
  levels = np.array([0.0, 0.001, 0.1, 0.25, 0.5, 0.91, 1.0])
  actual = roc.tpr_at_fpr(scores, members, levels, ties=ties)
  assert actual.shape == (4, 3, 7)
  for i in range(4):
    for j in range(3):
      s, m = scores[i, j], members[i, j]
      thresholds = [np.inf, *sorted(set(s), reverse=True)]
      points = [(np.mean(s[~m] >= t), np.mean(s[m] >= t)) for t in thresholds]
      if ties == "conservative":
        expected = [max(tpr for fpr, tpr in points if fpr <= a) for a in levels]
      else:
        # np.interp takes the last of points with equal FPR: the highest TPR.
        expected = np.interp(levels, *np.transpose(points))
      np.testing.assert_allclose(actual[i, j], expected)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4, 0.8])
def test_a_coin_within_the_tie_reaches_the_randomized_tpr(level):
  rng = np.random.default_rng(4)
  members = rng.random(300) < 0.5
  scores = rng.integers(0, 3, 300).astype(float) + members * (rng.random(300) < 0.3)
  others = scores[~members]
  tied = max(t for t in scores if np.mean(others >= t) > level)
  rate = (level - np.mean(others > tied)) / np.mean(others == tied)
  coins = rng.random((4000, 300)) < rate
  called = (scores > tied) | ((scores == tied) & coins)
  found = roc.tpr_at_fpr(scores, members, np.array([level]))
  for kind, expected in ((~members, level), (members, found[0])):
    rates = called[:, kind].mean(axis=1)
    assert abs(rates.mean() - expected) < 5 * rates.std() / np.sqrt(4000) + 1e-12


def test_two_scores_have_a_tpr_at_every_fpr_and_not_below_guessing():
  # Of members 9 in 10 are right, of others 6 in 10.
  members = np.arange(200) < 100
  scores = np.concatenate([np.arange(100) < 90, np.arange(100) < 60]).astype(float)
  levels = np.array([0.001, 0.01, 0.1, 0.6, 0.8])
  actual = roc.tpr_at_fpr(scores, members, levels)
  np.testing.assert_allclose(actual, [0.0015, 0.015, 0.15, 0.9, 0.95])
  never_split = roc.tpr_at_fpr(scores, members, levels, ties="conservative")
  np.testing.assert_allclose(never_split, [0, 0, 0, 0.9, 0.9])


def test_without_ties_both_readings_are_one():
  rng = np.random.default_rng(5)
  scores, members = rng.normal(size=(6, 83)), rng.random((6, 83)) < 0.4
  levels = np.linspace(0, 1, 101)
  np.testing.assert_array_equal(
    roc.tpr_at_fpr(scores, members, levels),
    roc.tpr_at_fpr(scores, members, levels, ties="conservative"),
  )


def test_tpr_at_a_level_that_is_reached_exactly_counts():
  # 10 of 100 others score above the members: FPR 0.1 is allowed at level 0.1.
  scores = np.concatenate([np.full(10, 3.0), np.zeros(90), np.full(5, 2.0)])
  members = np.arange(105) >= 100
  for count in range(1, 11):
    some = np.concatenate([np.full(count, 3.0), np.zeros(100 - count), np.full(5, 2.0)])
    assert roc.tpr_at_fpr(some, members, np.array([count / 100])) == 1
  assert roc.tpr_at_fpr(scores, members, np.array([0.0999])) == 0
  # Every count of 1,252 is allowed at its own rate, however the product is rounded.
  scores, members = -np.arange(2504.0), np.arange(2504) % 2 == 1
  levels = np.arange(1252) / 1252
  np.testing.assert_allclose(roc.tpr_at_fpr(scores, members, levels), levels)


def test_best_accuracy_equals_a_search_over_all_thresholds():
  scores, members = _tied_rows(4)
  actual = roc.best_accuracy(scores, members)
  for i in range(4):
    for j in range(3):
      s, m = scores[i, j], members[i, j]
      expected = max(np.mean((s >= t) == m) for t in [np.inf, *set(s)])
      assert actual[i, j] == pytest.approx(expected)


def test_infinite_scores_rank_like_any_other():
  scores = np.array([-np.inf, np.inf, 0.0, np.inf])
  members = np.array([False, True, True, False])
  assert roc.auc(scores, members) == pytest.approx((1.5 + 1) / 4)


def test_rows_without_both_kinds_are_nan_and_do_not_warn():
  scores = np.arange(12.0).reshape(3, 4)
  members = np.array([[True] * 4, [False] * 4, [False, False, True, True]])
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    auc = roc.auc(scores, members)
    tpr = roc.tpr_at_fpr(scores, members, np.array([0.0, 1.0]))
    accuracy = roc.best_accuracy(scores, members)
  np.testing.assert_array_equal(auc, [np.nan, np.nan, 1])
  np.testing.assert_array_equal(tpr, [[np.nan] * 2, [np.nan] * 2, [1, 1]])
  np.testing.assert_array_equal(accuracy, [np.nan, np.nan, 1])


def test_places_by_hand():
  scores = np.array([2.0, np.nan, 3, 2, -np.inf, 3], np.float32)
  np.testing.assert_array_equal(roc.places(scores), [3, np.nan, 1, 3, 5, 1])


def test_errors():
  scores, members = np.arange(4.0), np.arange(4) < 2
  with pytest.raises(ValueError, match="members has dtype int64, expected bool"):
    roc.auc(scores, members.astype(np.int64))
  with pytest.raises(ValueError, match=r"members has shape \(3,\), which does not"):
    roc.auc(scores, members[:3])
  with pytest.raises(ValueError, match="scores holds 1 NaN"):
    roc.auc(np.array([0.0, np.nan, 1.0, 2.0]), members)
  with pytest.raises(ValueError, match="nothing to rank"):
    roc.auc(scores[:0], members[:0])
  with pytest.raises(ValueError, match=r"scores has shape \(2, 2\), expected \[N\]"):
    roc.roc(scores.reshape(2, 2), members.reshape(2, 2))
  with pytest.raises(ValueError, match="4 members and 0 non-members"):
    roc.roc(scores, np.ones(4, bool))
  for fpr in (np.array([1.1]), np.float64(0.1), np.array([np.nan])):
    with pytest.raises(ValueError, match=r"fpr=.* must be levels in \[0, 1\]"):
      roc.tpr_at_fpr(scores, members, fpr)
  with pytest.raises(ValueError, match="unknown ties 'random'; did you mean 'rando"):
    roc.tpr_at_fpr(scores, members, np.array([0.1]), ties="random")
