"""Samples that are exchangeable with members: no attack tells, and p-values hold."""

import numpy as np
import pytest
from scipy import stats

from jmia.attacks import registry
from jmia.audit import signals_file
from jmia.stats import conformal, intervals

N, CALIBRATING, P, SIMULATIONS = 120, 60, 40, 40
ATTACKS = (
  "lira_online",
  "lira_offline",
  "rmia_online",
  "rmia_offline",
  "rmia_offline:by_share",
  "base",
  "bavaria",
  "bavaria_offline",
  "calibrated_loss",
  "metric_loss",
)


def _evidence(rng, num_models, shift):
  """References in and out, of two models both out.

  The target answers alike on all but members, who are apart by `shift`. Log odds
  are rounded, so that there are ties.
  """
  n = N + CALIBRATING
  phi = rng.normal(2, 2, n + P) + rng.normal(0, 1, (num_models + 1, n + P))
  held = np.argsort(rng.random((num_models, n)), axis=0) < num_models // 2
  held &= num_models > 2
  phi[1:, :n] += held
  members = np.arange(n) < N // 2
  phi[0, :n] += shift * members
  phi = np.round(phi)
  return signals_file.from_arrays(
    {
      "target_scaled_logits": phi[0, :n],
      "reference_scaled_logits": phi[1:, :n],
      "population_scaled_logits": phi[0, n:],
      "reference_population_scaled_logits": phi[1:, n:],
      "reference_members": held,
      "labels": np.zeros(n, int),
      "population_labels": np.zeros(P, int),
      "members": members,
      "calibrates": np.arange(n) >= N,
    }
  )


@pytest.mark.parametrize("num_models", [2, 8, 64])
def test_auc_and_p_values_hold_under_the_null(num_models):
  rng = np.random.default_rng(num_models)
  covers, accused = (
    {name: [] for name in ATTACKS},
    {name: [] for name in ATTACKS},
  )
  for _ in range(SIMULATIONS):
    found = _evidence(rng, num_models, 0)
    for name in ATTACKS:
      attack = registry.get(name)
      if registry.lacking(found, attack) is not None:
        assert num_models == 2
        assert "in_out" in attack.all_needs()[0].groups
        continue
      scores = np.asarray(attack.score(found, **attack.options))
      auc = intervals.auc(scores[:N], found.members[:N])
      covers[name].append(auc.low <= 0.5 <= auc.high)
      p = conformal.p_values(scores[:N], scores[N:])
      accused[name].append((p <= 0.1).mean())
  # A coverage of .95 leaves this few only once in 10,000.
  least = stats.binom.ppf(1e-4, SIMULATIONS, 0.95)
  for name in filter(covers.get, ATTACKS):
    assert sum(covers[name]) >= least, name
    error = np.std(accused[name], ddof=1) / np.sqrt(SIMULATIONS)
    assert np.mean(accused[name]) <= 0.1 + 4 * error, name


def test_members_are_found_at_the_false_discovery_rate():
  rng = np.random.default_rng(0)
  rates, found = [], []
  for _ in range(SIMULATIONS):
    evidence = _evidence(rng, 8, 8)
    attack = registry.get("lira_offline")
    scores = attack.score(evidence, **attack.options)
    q = conformal.q_values(conformal.p_values(scores[:N], scores[N:]))
    called, members = q <= 0.2, evidence.members[:N]
    rates.append((called & ~members).sum() / max(called.sum(), 1))
    found.append((called & members).sum() / members.sum())
  assert np.mean(found) > 0.9
  error = np.std(rates, ddof=1) / np.sqrt(SIMULATIONS)
  assert np.mean(rates) <= 0.2 * 0.5 + 4 * error  # half of the samples are members
