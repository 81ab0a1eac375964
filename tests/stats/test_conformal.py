import numpy as np
import pytest
from scipy import stats

from jmia.stats import conformal


def test_against_a_loop_with_ties_and_gaps():
  rng = np.random.default_rng(0)
  scores, known = rng.integers(0, 9, 60).astype(float), rng.integers(0, 9, 40) / 1.0
  scores[3], known[5] = np.nan, np.nan
  found = conformal.p_values(scores, known)
  kept = [z for z in known if not np.isnan(z)]
  for score, p in zip(scores, found, strict=True):
    if np.isnan(score):
      assert np.isnan(p)
    else:
      assert p == (1 + sum(z >= score for z in kept)) / (1 + len(kept))


def test_infinite_scores_and_a_hand_worked_example():
  found = conformal.p_values(np.array([np.inf, 2.0, -np.inf]), np.array([1, 2, np.inf]))
  np.testing.assert_array_equal(found, [2 / 4, 3 / 4, 1])


def test_nothing_to_calibrate_with_is_no_p_value():
  assert np.isnan(conformal.p_values(np.zeros(2), np.array([np.nan]))).all()


@pytest.mark.parametrize("decimals", [0, 12])
def test_a_non_members_p_value_is_valid(decimals):
  """P(p <= a) <= a over both draws, exactly the rank's law where there are no ties."""
  rng = np.random.default_rng(1)
  draws = np.round(rng.standard_t(2, size=(4000, 1 + 19)), decimals)
  p = np.array([conformal.p_values(row[:1], row[1:])[0] for row in draws])
  for level in (0.05, 0.1, 0.5):
    error = np.sqrt(level * (1 - level) / len(p))
    assert (p <= level).mean() <= level + 4 * error
    if decimals:
      assert (p <= level).mean() >= level - 4 * error


@pytest.mark.parametrize("num_members", [0, 5, 100])
def test_the_false_discovery_rate_is_kept(num_members):
  rng, num, trials, level = np.random.default_rng(2), 200, 400, 0.2
  share = []
  for _ in range(trials):
    known, scores = rng.normal(size=300), rng.normal(size=num)
    scores[:num_members] += 4
    found = conformal.q_values(conformal.p_values(scores, known)) <= level
    share.append(found[num_members:].sum() / max(found.sum(), 1))
  error = np.std(share) / np.sqrt(trials)
  assert np.mean(share) <= level + 4 * error


def test_q_values_are_scipys_and_skip_what_was_not_attacked():
  p = np.random.default_rng(3).random(50)
  p[7] = np.nan
  found = conformal.q_values(p)
  kept = ~np.isnan(p)
  expected = stats.false_discovery_control(p[kept])
  np.testing.assert_allclose(found[kept], expected)
  assert np.isnan(found[7])
  assert np.isnan(conformal.q_values(np.full(3, np.nan))).all()
