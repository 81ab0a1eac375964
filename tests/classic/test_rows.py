import math

import numpy as np
import pytest

from jmia import attacks, types
from jmia.audit import design as design_lib
from jmia.audit import outcome as outcome_lib
from jmia.audit import panel as panel_lib
from jmia.audit import view
from jmia.classic import rows
from jmia.stats import intervals, roc

NAMES = (
  "random", "correctness", "metric_loss", "metric_confidence", "metric_entropy",
  "metric_modified_entropy", "metric_loss:by_class", "metric_confidence:by_class",
  "metric_entropy:by_class", "metric_modified_entropy:by_class",
)  # fmt: skip


def _panel(seed, gain=3.0, num=200, num_classes=4):
  """A target and a shadow model that are surer of their members."""
  rng = np.random.default_rng(seed)
  members = np.arange(2 * num) < num
  y = rng.integers(num_classes, size=4 * num).astype(np.int32)
  own = np.arange(4 * num).reshape(2, -1)
  logits = rng.normal(0, 1, (2, 2 * num, num_classes)).astype(np.float32)
  sure = 1 + gain * members + rng.normal(0, 1, (2, 2 * num))
  np.put_along_axis(logits, y[own][..., None], sure[..., None], axis=-1)

  def of(model):
    return types.Splits(own[[model], :num], np.array([num], np.int32))

  panel = panel_lib.Panel(
    design=design_lib.Design(
      rows=np.arange(4 * num),
      num_evaluated=0,
      num_population=0,
      parts=(
        design_lib.Part("target", of(0), target=0),
        design_lib.Part("reference", of(1), target=0),
      ),
      own=own,
    ),
    y=y,
    num_classes=num_classes,
    seed=0,
    targets=[],
    blocks=(
      panel_lib.Block(
        models=np.arange(2),
        signals={},
        population={"logits": logits},
        converged=np.ones(2, bool),
      ),
    ),
    notes=[],
    seconds={},
  )
  return _with_targets(panel)


def _with_targets(panel, **changes):
  (block,) = panel.blocks
  panel = panel._replace(blocks=(block._replace(**changes),))
  return panel._replace(targets=panel_lib.own_targets(panel))


def _logits(panel):
  return panel.blocks[0].population["logits"]


PANEL = _panel(0)
EVIDENCE = view.evidence(PANEL, 0)


def _row(attack, **options):
  outcome = outcome_lib.evaluate(EVIDENCE, attack, decides=True)
  return outcome, rows.row(EVIDENCE, attack, outcome, **options)


@pytest.mark.parametrize("attack", NAMES)
def test_every_attack_but_guessing_finds_members(attack):
  outcome, row = _row(attack)
  np.testing.assert_allclose(row["auc"], roc.auc(outcome.scores, EVIDENCE.members))
  called = outcome.scores >= outcome.threshold
  np.testing.assert_allclose(row["accuracy"], (called == EVIDENCE.members).mean())
  assert row["accuracy_ci"][0] < row["accuracy"] < row["accuracy_ci"][1]
  if attack == "random":
    assert row["auc_ci"][0] < 0.5 < row["auc_ci"][1]
    assert row["epsilon_lower"] == 0
  else:
    assert row["auc_ci"][0] > 0.5
    assert row["accuracy"] > 0.6


def test_thresholds_are_learnt_from_the_shadow_model_alone():
  def thresholds(panel):
    evidence = view.evidence(panel, 0)
    return [
      outcome_lib.evaluate(evidence, name, decides=True).threshold for name in NAMES
    ]

  other = _panel(1)
  mixed = np.stack([_logits(other)[0], _logits(PANEL)[1]])
  changed = _with_targets(PANEL, population={"logits": mixed})
  assert thresholds(changed) == thresholds(PANEL)
  mixed = np.stack([_logits(PANEL)[0], _logits(other)[1]])
  changed = _with_targets(PANEL, population={"logits": mixed})
  assert thresholds(changed) != thresholds(PANEL)


def test_the_correctness_attack_is_worth_half_of_one_plus_the_gap():
  _, row = _row("correctness")
  for name in ("auc", "accuracy"):
    np.testing.assert_allclose(row[name], (1 + row["gap"]) / 2, rtol=1e-9)


def test_a_calibrated_attack_decides_by_its_loss_and_one_without_a_rule_does_not():
  outcome, row = _row("shadow")
  called = EVIDENCE.signals["loss"] <= outcome.thresholds
  np.testing.assert_allclose(row["accuracy"], (called == EVIDENCE.members).mean())
  no_rule = outcome._replace(thresholds=np.full_like(outcome.scores, np.nan))
  row = rows.row(EVIDENCE, "mine", no_rule)
  assert row["accuracy"] is row["accuracy_ci"] is row["epsilon_lower"] is None


def test_the_attacker_learns_from_the_shadow_models_members_alone():
  other = _panel(1)
  group = EVIDENCE.groups["reference"]
  assert group.population["logits"].shape == (1, 400, 4)
  np.testing.assert_array_equal(group.population_held[0], np.arange(400) < 200)
  np.testing.assert_array_equal(group.population_labels[0], PANEL.y[400:])
  crossed = view.evidence(PANEL, 0, others=other).groups["reference"]
  np.testing.assert_array_equal(crossed.population["logits"], _logits(other)[1:])


def test_rows_that_validated_and_models_that_diverged_are_left_out():
  chose = np.zeros((2, len(PANEL.y)), bool)
  for model, num in enumerate((10, 30)):
    chose[model, PANEL.design.own[model, :num]] = True
  evidence = view.evidence(PANEL._replace(chose=chose), 0)
  assert (evidence.members.sum(), len(evidence.members)) == (190, 390)
  group = evidence.groups["reference"]
  assert (group.population_held.sum(), group.population_out.sum()) == (170, 200)
  for bad in (0, 1):
    converged = np.arange(2) != bad
    assert view.evidence(_with_targets(PANEL, converged=converged), 0) is None


def test_the_epsilon_that_an_attack_proves():
  # 90 of 100 members and 95 of 100 others called rightly, at their low ends.
  shares = intervals.clopper_pearson(np.array([90, 95]), np.array([100, 100]))
  tpr, tnr = shares.low
  expected = max(math.log((tpr - 0.01) / (1 - tnr)), math.log((tnr - 0.01) / (1 - tpr)))
  np.testing.assert_allclose(rows.epsilon_lower(shares, 0.01), expected)
  half = intervals.clopper_pearson(np.array([50, 50]), np.array([100, 100]))
  assert rows.epsilon_lower(half, 0.0) == 0


def test_what_an_attack_lacks_is_said():
  missing = outcome_lib.lacking(EVIDENCE, ("reference", "metric_loss", "population"))
  assert missing == {
    "reference": "needs reference_logits of at least 2 models that did not hold a"
    " sample",
    "population": "needs population_logits and population_labels",
  }
  assert set(missing) <= set(attacks.names())
