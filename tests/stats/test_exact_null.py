"""How often intervals miss where nothing leaks, by summing over all outcomes.

Without ties all orders of members and others are as likely, and those of few samples
can be listed. Of scores of two values, which members and others take alike often, all
there is to an audit are two counts, both binomial. So the chance of a miss is a sum and
no simulation, far into the tails that a verdict over many figures rests on.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from jmia.stats import intervals

FPRS = np.array([0.1, 0.01])
SHARES = np.concatenate([np.geomspace(1e-3, 0.5, 25), 1 - np.geomspace(1e-3, 0.5, 25)])


def _outcomes(m, n):
  """Scores `[(m + 1) (n + 1), m + n]`: k of the members and l of the others high."""
  of_members, of_others = np.meshgrid(np.arange(m + 1), np.arange(n + 1), indexing="ij")
  scores = np.hstack(
    [
      np.arange(m) < of_members.reshape(-1, 1),
      np.arange(n) < of_others.reshape(-1, 1),
    ]
  )
  return scores.astype(np.float32), np.arange(m + n) < m


def _most_missed(misses, m, n):
  """The largest chance of a miss, of all shares: `misses` is bool, by outcome."""
  return max(
    stats.binom.pmf(np.arange(m + 1), m, share)
    @ misses.reshape(m + 1, n + 1)
    @ stats.binom.pmf(np.arange(n + 1), n, share)
    for share in SHARES
  )


@pytest.mark.parametrize("num_figures", [1, 24])
@pytest.mark.parametrize(("m", "n"), [(25, 25), (12, 60), (60, 12)])
def test_where_nothing_leaks_each_side_misses_at_most_its_tail(m, n, num_figures):
  scores, members = _outcomes(m, n)
  confidence = intervals.each_of(num_figures)
  tail = (1 - confidence) / 2
  auc = intervals.auc(scores, members, confidence=confidence)
  for misses in (auc.low > 0.5, auc.high < 0.5):
    assert _most_missed(misses, m, n) <= tail
  tpr = intervals.tpr_at_fpr(scores, members, FPRS, confidence=confidence)
  for k, fpr in enumerate(FPRS):
    # A threshold of that FPR, a coin tossed within a value, has a TPR of as much.
    for misses in (tpr.low[:, k] > fpr + 1e-12, tpr.high[:, k] < fpr - 1e-12):
      assert _most_missed(misses, m, n) <= tail


@pytest.mark.parametrize(("m", "n"), [(7, 7), (4, 14), (14, 4), (1, 90)])
def test_of_all_orders_without_ties_no_more_miss(m, n):
  # Where nothing leaks each order of members and others is as likely.
  places = np.array(list(itertools.combinations(range(m + n), m)))
  members = np.zeros((len(places), m + n), bool)
  np.put_along_axis(members, places, True, axis=1)
  for num_figures in (1, 6, 24):
    confidence = intervals.each_of(num_figures)
    found = intervals.auc(np.arange(m + n), members, confidence=confidence)
    for misses in (found.low > 0.5, found.high < 0.5):
      assert misses.mean() <= (1 - confidence) / 2


def test_the_sum_is_that_of_a_simulation_and_sees_an_interval_that_is_too_narrow():
  m, n, share = 12, 60, 0.5
  scores, members = _outcomes(m, n)
  auc = intervals.auc(scores, members).auc
  # As if AUCs were exact: every one above a half misses.
  misses = auc > 0.5
  rng = np.random.default_rng(0)
  drawn = rng.binomial(m, share, 20_000) / m - rng.binomial(n, share, 20_000) / n
  at_share = (
    stats.binom.pmf(np.arange(m + 1), m, share)
    @ misses.reshape(m + 1, n + 1)
    @ stats.binom.pmf(np.arange(n + 1), n, share)
  )
  assert at_share == pytest.approx((drawn > 1e-9).mean(), abs=0.015)
  assert _most_missed(misses, m, n) > 0.4
