"""Samples' own false positive rates, of numbers whose rates are known."""

import numpy as np
import pytest

from jmia.stats import per_sample


def _scores(rng, num_targets, num_samples, hard):
  """Scores that rise with what a sample is, and members by a coin of each target."""
  own = hard * rng.normal(size=num_samples)
  scores = own + rng.normal(size=(num_targets, num_samples))
  return scores, rng.random((num_targets, num_samples)) < 0.5


def test_samples_that_are_alike_have_one_rate():
  found = [
    per_sample.spread(*_scores(np.random.default_rng(seed), 4, 80, 0.0), 0.2, seed=seed)
    for seed in range(40)
  ]
  # Of 40 p-values at most .1 more than 11 come up once in a thousand.
  assert sum(one.p_value <= 0.1 for one in found) <= 11
  assert min(one.p_value for one in found) < 0.2 < max(one.p_value for one in found)


def test_the_deviation_of_rates_that_differ_is_found():
  rng = np.random.default_rng(0)
  # Half of the samples are always far above the others: their rate is twice the level.
  scores = np.repeat([0.0, 100.0], 400) + rng.random((12, 800))
  members = rng.random((12, 800)) < 0.5
  found = per_sample.spread(scores, members, 0.1)
  assert found.p_value == 1 / (1 + per_sample.NUM_PERMUTATIONS)
  assert found.rate == pytest.approx(0.1, abs=0.005)
  assert found.deviation == pytest.approx(0.1, abs=0.01)
  assert found.num_pairs == sum(o * (o - 1) for o in (~members).sum(axis=0))


def test_by_hand():
  nan = np.nan
  scores = np.array([[5.0, 1, 2, 9, nan], [7.0, 3, 2, 1, nan], [9.0, 8, 0, 0, nan]])
  members = np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
  # At one half: 1 of 3, 2 of 4 and 1 of 3 are called: samples 0; 0 and 1; 1.
  found = per_sample.spread(scores, members, 0.5)
  assert found.rate == 4 / 10
  assert found.num_pairs == 2 + 3 * 2 + 3 * 2 + 2
  assert found.deviation == pytest.approx(max(0, 4 / 16 - 0.16) ** 0.5)


def test_ties_are_not_called_and_nothing_is_none():
  assert per_sample.spread(np.ones((3, 9)), np.zeros((3, 9), bool), 0.5) is None
  one = np.random.default_rng(0).normal(size=(1, 9))
  assert per_sample.spread(one, np.zeros((1, 9), bool), 0.5) is None
  with pytest.raises(ValueError, match="level=1"):
    per_sample.spread(one, np.zeros((1, 9), bool), 1.0)
  with pytest.raises(ValueError, match="members has shape"):
    per_sample.spread(one, np.zeros((1, 8), bool), 0.1)
