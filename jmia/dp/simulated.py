"""Bounds on epsilon where the truth is known, to see whether they hold and how near.

Scores are drawn, not trained for: of the Gaussian mechanism an attacker sees `N(0, 1)`
without the canary and `N(mu, 1)` with it, and of several attacks each such numbers; in
one run the coins are told by randomised response, or each canary's score is a Gaussian
mechanism's.
"""

import math
from typing import Any

import numpy as np

from jmia.stats import epsilon as epsilon_lib
from jmia.stats import monte_carlo, one_run

DELTA = 1e-5
CONFIDENCE = 0.95


def many_rows(
  mu: float,
  num_runs: int,
  *,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns the bounds of models with and without a canary, beside the truth.

  Args:
    mu: of the Gaussian mechanism; 0 where the canary is never used.
    num_runs: models with it, and as many without.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    A row for each bound: the true epsilon at `DELTA`, the mean bound and its standard
    deviation, and the share of simulations in which the bound is above the truth.
  """
  found: dict[str, list[float]] = {"epsilon_lower": [], "epsilon_lower_gaussian": []}
  for _, rng in monte_carlo.draws(num_simulations, seed, progress):
    scores = rng.normal(mu, 1, num_runs), rng.normal(0, 1, num_runs)
    curves = epsilon_lib.epsilon_curve(DELTA), epsilon_lib.gaussian_curve()
    lower, of_mu = (
      epsilon_lib.lower_bound(*scores, curve, confidence=CONFIDENCE) for curve in curves
    )
    found["epsilon_lower"].append(lower)
    gaussian = epsilon_lib.gaussian_epsilon(of_mu, DELTA)
    found["epsilon_lower_gaussian"].append(gaussian)
  truth = epsilon_lib.gaussian_epsilon(mu, DELTA)
  about = {"mode": "many_runs", "mu": mu, "num_runs": num_runs}
  return [{**about, **_row(name, of, truth)} for name, of in found.items()]


def one_run_rows(
  true_epsilon: float,
  num_canaries: int,
  *,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns the bounds of one run with many canaries, beside the truth.

  Args:
    true_epsilon: of randomised response for `epsilon_lower`; of the Gaussian mechanism
      at `DELTA` for `epsilon_lower_gaussian`.
    num_canaries: of the run.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    As `many_rows`.
  """
  found: dict[str, list[float]] = {"epsilon_lower": [], "epsilon_lower_gaussian": []}
  mu = _mu(true_epsilon)
  for _, rng in monte_carlo.draws(num_simulations, seed, progress):
    is_in = rng.random(num_canaries) < 0.5
    is_right = rng.random(num_canaries) < 1 / (1 + math.exp(-true_epsilon))
    told = np.where(is_right, is_in, ~is_in).astype(float)
    found["epsilon_lower"].append(
      one_run.lower_bound(told, is_in, delta=DELTA, confidence=CONFIDENCE)
    )
    scores = rng.normal(mu * is_in, 1)
    gaussian = one_run.lower_bound_gaussian(
      scores, is_in, delta=DELTA, confidence=CONFIDENCE
    )
    found["epsilon_lower_gaussian"].append(gaussian)
  about = {"mode": "one_run", "num_canaries": num_canaries}
  return [{**about, **_row(name, of, true_epsilon)} for name, of in found.items()]


def audit_rows(
  num_attacks: int,
  *,
  correlation: float,
  ties: bool,
  num_samples: int = 200,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns an audit's joint bound over attacks of which none tells anything.

  Args:
    num_attacks: of which the best is chosen.
    correlation: of any two attacks' scores.
    ties: whether scores are whole numbers.
    num_samples: half of them members.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    As `many_rows`, of a true epsilon of 0.
  """
  found: dict[str, list[float]] = {"add_remove": [], "exchange": []}
  for _, rng in monte_carlo.draws(num_simulations, seed, progress):
    scores = math.sqrt(1 - correlation) * rng.normal(size=(num_attacks, num_samples))
    scores += math.sqrt(correlation) * rng.normal(size=num_samples)
    scores = np.round(scores) if ties else scores
    members = rng.permutation(num_samples) < num_samples // 2
    lower = epsilon_lib.epsilon_lower(scores, members, confidence=CONFIDENCE)
    found["add_remove"].append(lower.add_remove)
    found["exchange"].append(lower.exchange)
  about = {
    "mode": "audit",
    "num_attacks": num_attacks,
    "correlation": correlation,
    "ties": ties,
    "num_samples": num_samples,
  }
  return [{**about, **_row(name, of, 0.0)} for name, of in found.items()]


def _row(name: str, bounds: list[float], truth: float) -> dict[str, Any]:
  return {
    "bound": name,
    "true_epsilon": truth,
    "num_simulations": len(bounds),
    "mean": float(np.mean(bounds)),
    "deviation": float(np.std(bounds)),
    "above_truth": float(np.mean(np.array(bounds) > truth)),
  }


def _mu(epsilon: float) -> float:
  """The Gaussian mechanism's that has this epsilon at `DELTA`."""
  if epsilon == 0:
    return 0.0
  return epsilon_lib.largest(
    lambda mu: epsilon_lib.gaussian_epsilon(mu, DELTA) <= epsilon, 1e-6
  )
