"""Bounds where the truth is known; `experiments.simulations` has them at size."""

import math

import pytest

from jmia.dp import simulated
from jmia.stats import epsilon


def _most(num):
  return 0.05 + 4 * math.sqrt(0.05 * 0.95 / num)


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_many_runs(mu):
  rows = simulated.many_rows(mu, 200, num_simulations=40)
  truth = epsilon.gaussian_epsilon(mu, simulated.DELTA)
  assert [row["bound"] for row in rows] == ["epsilon_lower", "epsilon_lower_gaussian"]
  for row in rows:
    assert row["true_epsilon"] == truth
    assert row["above_truth"] <= _most(40)
    assert (row["mean"] > 0.1) == (mu > 0)


def test_one_run():
  rows = simulated.one_run_rows(1.0, 60, num_simulations=20)
  assert all(row["above_truth"] <= _most(20) for row in rows)
  # Randomised response gives more away than its bound at so few canaries.
  assert 0 < rows[0]["mean"] < 1
  # The Gaussian mechanism that is drawn has the epsilon that is stated.
  mu = simulated._mu(1.0)
  assert epsilon.gaussian_epsilon(mu, simulated.DELTA) == pytest.approx(1, abs=1e-3)


def test_an_audit_of_attacks_that_tell_nothing():
  rows = simulated.audit_rows(4, correlation=0.5, ties=True, num_simulations=40)
  assert {row["bound"] for row in rows} == {"add_remove", "exchange"}
  assert all(row["above_truth"] <= _most(40) for row in rows)
