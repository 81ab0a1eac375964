"""Samples that are exchangeable with members: no attack tells, and p-values hold."""

import numpy as np
import pytest
from scipy import stats

from jmia.attacks import registry
from jmia.audit import simulated

SIMULATIONS = 40
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
_NEED_IN = {"lira_online", "rmia_online", "bavaria"}


@pytest.mark.parametrize("num_models", [2, 8, 64])
def test_auc_and_p_values_hold_under_the_null(num_models):
  rows = simulated.null_rows(
    ATTACKS, num_models=num_models, ties=True, num_simulations=SIMULATIONS
  )
  expected = set(ATTACKS) - (_NEED_IN if num_models == 2 else set())
  assert {row["attack"] for row in rows} == expected
  # A coverage of .95 misses this often only once in 10,000.
  most = stats.binom.ppf(1 - 1e-4, SIMULATIONS, 0.05) / SIMULATIONS
  for row in rows:
    assert row["auc_missed"] <= most, row["attack"]
    accused, error = row["p_at_most"]["0.1"], row["p_error"]["0.1"]
    assert accused <= 0.1 + 4 * error, row["attack"]


def test_members_are_found_at_the_false_discovery_rate():
  (row,) = simulated.discovery_rows(
    ["lira_offline"], share=0.5, num_simulations=SIMULATIONS, level=0.2
  )
  assert row["found"] > 0.9
  # Half of the samples are members.
  assert row["false_discovery_rate"] <= 0.2 * 0.5 + 4 * row["error"]
  none = simulated.discovery_rows(["metric_loss"], share=0.0, num_simulations=4)[0]
  assert none["found"] is None


def test_p_values_of_many_calibrating_rows_go_below_a_thousandth():
  (row,) = simulated.null_rows(
    ["metric_loss"],
    num_models=2,
    ties=False,
    num_simulations=SIMULATIONS,
    num_calibrating=1000,
  )
  accused, error = row["p_at_most"]["0.001"], row["p_error"]["0.001"]
  assert 0 < accused <= 0.001 + 4 * error


def test_attacks_that_train_on_features_can_be_simulated():
  attack = registry.get("quantile_regression")
  for features in (False, True):
    rng = np.random.default_rng(0)
    drawn = simulated.evidence(rng, num_models=2, features=features)
    assert (registry.lacking(drawn, attack) is None) == features
