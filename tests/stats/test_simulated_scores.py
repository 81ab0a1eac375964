"""The truths that intervals are held against, and what comes of them."""

import numpy as np
import pytest
from scipy import integrate

from jmia.stats import intervals, roc, simulated


@pytest.mark.parametrize("name", simulated.pairs())
@pytest.mark.parametrize("auc", [0.5, 0.7, 0.9])
def test_drawn_scores_have_the_stated_auc_and_curve(name, auc):
  pair = simulated.pairs()[name]
  grid = np.linspace(0, 1, 20_001)
  assert integrate.trapezoid(pair.tpr(auc, grid), grid) == pytest.approx(auc, abs=2e-3)
  rng, num = np.random.default_rng(0), 100_000
  scores = np.concatenate([pair.draw(rng, (1, num), auc, kind) for kind in (1, 0)], 1)
  members = np.arange(2 * num) < num
  assert roc.auc(scores, members) == pytest.approx(auc, abs=5e-3)
  np.testing.assert_allclose(
    roc.tpr_at_fpr(scores[0], members, np.array([0.1, 0.01])),
    pair.tpr(auc, np.array([0.1, 0.01])),
    atol=0.04,  # where a curve bends, a level is met by chance
  )


def test_a_row_counts_what_misses(monkeypatch):
  rows = simulated.coverage_rows("Gaussians", 0.7, 30, 40, num_simulations=60)
  assert rows[0]["auc_missed"] <= 0.15
  assert rows[0]["tpr_missed"].keys() == {"0.1", "0.01", "0.001"}
  assert 0.1 < rows[0]["auc_width"] < 0.5
  # An interval that is a point misses always; one that is everything, never.
  points = intervals.Interval(np.array([0.7001]), np.array([0.7002]))
  assert simulated._missed(points, 0.7)
  assert not simulated._missed(points, 0.70015)


def test_rows_are_a_function_of_the_seed():
  first, again, other = (
    simulated.coverage_rows("exponentials", 0.9, 9, 9, num_simulations=300, seed=seed)
    for seed in (0, 0, 1)
  )
  assert first == again != other


def test_differences_of_equal_attacks_are_missed_as_stated():
  told = []
  (row,) = simulated.difference_rows(
    (0.75, 0.75),
    0.8,
    100,
    100,
    num_simulations=200,
    progress=lambda *counts: told.append(counts),
  )
  assert row["difference_missed"] <= 0.1  # 5 % is meant; 200 draws have an error of 1.5
  assert told[-1] == (200, 200)
  # What the two have in common cancels.
  (loose,) = simulated.difference_rows((0.75, 0.75), 0.0, 100, 100, num_simulations=20)
  assert row["difference_width"] < 0.7 * loose["difference_width"]


@pytest.mark.parametrize(
  ("arguments", "what"),
  [
    (("no such", 0.7, 5, 5), "name"),
    (("Gaussians", 1.0, 5, 5), "auc=1.0"),
    (("Gaussians", 0.4, 5, 5), "auc=0.4"),
  ],
)
def test_bad_cells_are_named(arguments, what):
  with pytest.raises(ValueError, match=what):
    simulated.coverage_rows(*arguments, num_simulations=2)
