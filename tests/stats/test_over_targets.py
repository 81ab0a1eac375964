"""Intervals over targets: of each target's draw, of what its samples leave open."""

import numpy as np
import pytest
from scipy import stats

from jmia.stats import intervals, over_targets, roc

FPRS = np.array([0.1, 0.01, 0.001])


def _alike(rng, num_targets, num):
  """Targets that give nothing away."""
  members = np.tile(np.arange(2 * num) < num, (num_targets, 1))
  return rng.random(members.shape), members


def test_one_target_has_the_intervals_of_its_samples():
  scores, members = _alike(np.random.default_rng(0), 1, 60)
  scores[0, :5] = np.nan
  found = over_targets.of_scores(scores, members, FPRS, confidence=0.9)
  kept = scores[0, 5:], members[0, 5:]
  assert found.auc == intervals.auc(*kept, confidence=0.9)[1:]
  expected = intervals.tpr_at_fpr(*kept, FPRS, confidence=0.9)
  np.testing.assert_array_equal(found.tpr, expected)


def test_targets_that_differ_have_students_interval_of_the_auc():
  rng = np.random.default_rng(0)
  members = np.tile(np.arange(2000) < 1000, (4, 1))
  shifts = np.array([0.2, 0.6, 1.0, 1.4])[:, None]
  scores = rng.normal(size=members.shape) + shifts * members
  auc = [roc.auc(*of) for of in zip(scores, members, strict=True)]
  found = over_targets.of_scores(scores, members, FPRS)
  expected = stats.t.interval(0.95, 3, np.mean(auc), stats.sem(auc))
  np.testing.assert_allclose(found.auc, np.clip(expected, 0, 1))


def test_targets_that_agree_are_no_point():
  """Twice the same scores: no narrower than the root of a half of one target's."""
  scores, members = _alike(np.random.default_rng(0), 1, 200)
  one = over_targets.of_scores(scores, members, FPRS)
  two = over_targets.of_scores([*scores] * 2, [*members] * 2, FPRS)
  np.testing.assert_allclose(np.diff(two.auc), np.diff(one.auc) / np.sqrt(2), rtol=1e-9)
  assert (two.tpr.low <= one.tpr.low).all()
  assert (two.tpr.high >= one.tpr.high).all()


@pytest.mark.parametrize(("num_targets", "num"), [(2, 50), (3, 200), (16, 20)])
def test_without_leakage_they_miss_the_truth_in_no_more_than_their_share(
  num_targets, num
):
  rng = np.random.default_rng(1)
  missed, runs = np.zeros(4), 60
  for _ in range(runs):
    found = over_targets.of_scores(*_alike(rng, num_targets, num), FPRS)
    missed[0] += not found.auc.low <= 0.5 <= found.auc.high
    missed[1:] += (found.tpr.low > FPRS) | (found.tpr.high < FPRS)
  assert (missed <= stats.binom.ppf(1 - 1e-4, runs, 0.05)).all(), missed
