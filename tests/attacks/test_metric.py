import numpy as np
import pytest

from jmia import signals
from jmia.attacks import metric
from jmia.stats import roc


def _accuracy(called, members):
  return (called == members).mean()


def test_the_correctness_attack_is_worth_half_of_one_plus_the_gap():
  # Theorem 2.1, on answers with given accuracies: an identity, not an approximation.
  members = np.arange(200) < 100
  correct = np.concatenate([np.arange(100) < 93, np.arange(100) < 61])
  called = metric.predict(metric.correctness(correct), 1)
  expected = (1 + (0.93 - 0.61)) / 2
  np.testing.assert_allclose(_accuracy(called, members), expected, rtol=1e-12)
  np.testing.assert_allclose(metric.gap_accuracy(0.93, 0.61), expected, rtol=1e-12)
  np.testing.assert_allclose(metric.gap_lower_bound(0.32), expected, rtol=1e-12)
  # Its AUC is the same number, of two scores that tie.
  auc = roc.auc(metric.correctness(correct), members)
  np.testing.assert_allclose(auc, expected, rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.7, 1.0])
def test_the_lower_bound_holds_for_any_share_of_members_and_is_attained(share):
  grid = np.linspace(0, 1, 101)
  a, b = np.meshgrid(grid, grid)
  for gap in (-1.0, -0.3, 0.0, 0.2, 0.9, 1.0):
    bound = metric.gap_lower_bound(gap, share)
    with_gap = np.abs(a - b - gap) < 1e-9
    accuracies = [
      metric.gap_accuracy(*pair, share)
      for pair in zip(a[with_gap], b[with_gap], strict=True)
    ]
    np.testing.assert_allclose(min(accuracies), bound, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("gap", [0.05, 0.5, 0.8, 1.0])
def test_theorem_5_1_of_the_report_and_the_sharper_bound(share, gap):
  # All models of 40 members and 40 others with the gap, by counts of right answers.
  num = 40
  right = np.arange(num + 1)
  a, b = np.meshgrid(right, right)
  has_gap = a - b == round(gap * num)
  trivial = max(share, 1 - share)
  best = [
    max(trivial, metric.gap_accuracy(*pair, share))
    for pair in zip(a[has_gap] / num, b[has_gap] / num, strict=True)
  ]
  rarer = min(share, 1 - share)
  theirs = max(trivial, rarer * (1 + gap))
  ours = max(trivial, metric.gap_lower_bound(gap, share))
  np.testing.assert_allclose(min(best), ours, rtol=1e-12)  # no better one holds
  assert 0.5 < theirs <= ours + 1e-12
  last_terms = metric.gap_lower_bound(gap, share) - rarer * (1 + gap)
  np.testing.assert_allclose(last_terms, (1 - 2 * rarer) * gap, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
  ("gap", "ours", "theirs", "with_all_alike"),
  [(0.5, 0.65, 0.45, (0.7, 0.7)), (0.8, 0.86, 0.54, (0.86, 0.7))],
)
def test_theorem_5_1_by_hand(gap, ours, theirs, with_all_alike):
  bound = metric.gap_lower_bound(gap, 0.3)
  np.testing.assert_allclose(bound, ours, rtol=1e-12)
  # Attained where all members are predicted rightly: .3 + .7 g.
  np.testing.assert_allclose(metric.gap_accuracy(1.0, 1 - gap, 0.3), ours, rtol=1e-12)
  np.testing.assert_allclose(0.3 * (1 + gap), theirs, rtol=1e-12)
  both = max(0.7, bound), max(0.7, theirs)
  np.testing.assert_allclose(both, with_all_alike, rtol=1e-12)


def test_a_random_guess_is_worth_nothing():
  scores = metric.random_guess(20_000, seed=0)
  assert scores.dtype == np.float32
  # An AUC of 10,000 a side has a standard error of 0.0041.
  assert abs(roc.auc(scores, np.arange(20_000) % 2 == 0) - 0.5) < 0.015
  assert not np.array_equal(scores, metric.random_guess(20_000, seed=1))


def test_scores_point_to_members():
  values = np.array([1.0, 2.0])
  np.testing.assert_array_equal(metric.score(values, "confidence"), values)
  for name in ("loss", "entropy", "modified_entropy"):
    np.testing.assert_array_equal(metric.score(values, name), -values)
  # A preset threshold: losses of at most 1.5.
  called = metric.predict(metric.score(values, "loss"), metric.score(1.5, "loss"))
  np.testing.assert_array_equal(called, [True, False])


def test_metrics_read_signals_and_confident_answers_keep_their_order():
  assert {m.signal for m in metric.METRICS.values()} <= set(signals.SIGNALS)
  # A fifth of the members are surer than others; in float32 all have a confidence of 1.
  rng = np.random.default_rng(0)
  members = np.arange(2000) < 1000
  top = 20 + rng.random(2000) + 5 * (np.arange(2000) < 200)
  logits = np.stack([top, np.zeros(2000)], axis=1).astype(np.float32)
  read = metric.METRICS["confidence"].signal
  found = signals.compute(logits, np.zeros(2000, int), ("confidence", read))
  assert (found["confidence"] == 1).all()
  scores = metric.score(found[read], "confidence")
  assert roc.tpr_at_fpr(scores, members, np.array([0.001])) >= 0.2


def _brute_force(scores, members, balanced):
  """The best threshold by trying every score, the highest of equally good ones."""
  best, at = 0.0, np.nextafter(scores.max(), np.inf, dtype=scores.dtype)
  for t in np.unique(scores)[::-1]:
    called = scores >= t
    weights = (1 / members.sum(), 1 / (~members).sum()) if balanced else (1, 1)
    gain = weights[0] * called[members].sum() - weights[1] * called[~members].sum()
    if gain > best + 1e-9:
      best, at = gain, t
  return at


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_the_best_ones(balanced, seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, 90)
  members = rng.random(90) < 0.3
  scores = rng.integers(0, 12, 90).astype(np.float32) + members  # with ties
  chosen = metric.threshold(scores, members, balanced=balanced)
  assert chosen == _brute_force(scores, members, balanced)
  of_class = metric.class_thresholds(scores, members, labels, 3, balanced=balanced)
  assert of_class.dtype == np.float32
  for c in range(3):
    own = labels == c
    assert of_class[c] == _brute_force(scores[own], members[own], balanced)


def test_hand_worked_thresholds():
  scores = np.array([5.0, 4.0, 4.0, 3.0, 1.0])
  members = np.array([True, True, False, True, False])
  # Cuts call 1/0, 2/1 and 3/1 members/others: 1/3, 2/3 - 1/2 and 1 - 1/2.
  assert metric.threshold(scores, members) == 3
  # Where members score lower no one is called, rather than everyone.
  assert not metric.predict(-scores, metric.threshold(-scores, members))[members].any()


def test_a_class_without_both_kinds_takes_the_threshold_of_all():
  scores = np.array([5.0, 4.0, 3.0, 9.0])
  members = np.array([True, True, False, True])
  labels = np.array([0, 0, 0, 2])
  chosen = metric.class_thresholds(scores, members, labels, 4)
  np.testing.assert_array_equal(chosen, [4, 4, 4, 4])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metric.score(np.zeros(2), "los"), "unknown metric 'los'.*'loss'"),
    (lambda: metric.correctness(np.zeros(2)), "correct has dtype float64"),
    (lambda: metric.gap_accuracy(1.2, 0.5), "train_accuracy=1.2"),
    (lambda: metric.gap_lower_bound(1.2), "gap=1.2 must lie"),
    (lambda: metric.gap_lower_bound(0.5, -1), "member_share=-1"),
    (lambda: metric.random_guess(0, seed=0), "num_samples=0"),
    (lambda: metric.threshold(np.zeros(2), np.ones(2, bool)), "members marks 2 of 2"),
    (lambda: metric.threshold(np.zeros(2), np.ones(3, bool)), "members has shape"),
    (lambda: metric.threshold(np.zeros(2), np.ones(2)), "members has dtype float64"),
    (
      lambda: metric.threshold(np.full(2, np.nan), np.arange(2) > 0),
      "scores holds 2 NaN",
    ),
    (
      lambda: metric.class_thresholds(
        np.zeros(2), np.arange(2) > 0, np.array([0, 2]), 2
      ),
      "labels holds labels from 0 to 2",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
