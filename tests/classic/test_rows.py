import math

import numpy as np
import pytest

from jmia.classic import models, scoring
from jmia.stats import intervals, roc


def _answers(seed, gain=3.0, num=200, num_classes=4):
  """One trial of a target and a shadow model that are surer of their members."""
  rng = np.random.default_rng(seed)
  members = np.arange(2 * num) < num
  labels = rng.integers(num_classes, size=(1, 2, 2 * num)).astype(np.int32)
  logits = rng.normal(0, 1, (*labels.shape, num_classes)).astype(np.float32)
  sure = 1 + gain * members + rng.normal(0, 1, labels.shape)
  np.put_along_axis(logits, labels[..., None], sure[..., None], axis=-1)
  return models.Answers(
    logits=logits,
    labels=labels,
    members=members,
    is_evaluated=np.ones(labels.shape, bool),
    converged=np.ones((1, 2), bool),
    train_loss=np.zeros((1, 2)),
    mechanism=None,
  )


ANSWERS = _answers(0)
CASE = scoring.case(ANSWERS, ANSWERS, 0)


@pytest.mark.parametrize(
  "attack", [name for name in scoring.ATTACKS if not name.startswith("classifier")]
)
def test_every_attack_but_guessing_finds_members(attack):
  scored = scoring.score(CASE, attack)
  row = scoring.row(CASE, attack, scored)
  np.testing.assert_allclose(row["auc"], roc.auc(scored.scores, CASE.members))
  called = scored.scores >= scored.threshold
  np.testing.assert_allclose(row["accuracy"], (called == CASE.members).mean())
  assert row["accuracy_ci"][0] < row["accuracy"] < row["accuracy_ci"][1]
  if attack == "random":
    assert row["auc_ci"][0] < 0.5 < row["auc_ci"][1]
    assert row["epsilon_lower"] == 0
  else:
    assert row["auc_ci"][0] > 0.5
    assert row["accuracy"] > 0.6


def test_the_correctness_attack_is_worth_half_of_one_plus_the_gap():
  row = scoring.row(CASE, "correctness", scoring.score(CASE, "correctness"))
  for name in ("auc", "accuracy"):
    np.testing.assert_allclose(row[name], (1 + row["gap"]) / 2, rtol=1e-9)


def test_the_attacker_learns_from_the_shadow_models_members_alone():
  other = _answers(1)
  mixed = ANSWERS._replace(
    logits=np.concatenate([ANSWERS.logits[:, :1], other.logits[:, 1:]], axis=1),
    labels=np.concatenate([ANSWERS.labels[:, :1], other.labels[:, 1:]], axis=1),
  )
  assert scoring.case(mixed, mixed, 0).shadow.logits.shape == (400, 4)
  np.testing.assert_array_equal(
    scoring.case(ANSWERS, other, 0).shadow.logits, other.logits[0, 1]
  )


def test_rows_that_validated_and_models_that_diverged_are_left_out():
  counts = ANSWERS.is_evaluated.copy()
  counts[0, 0, :10] = counts[0, 1, :30] = False
  case = scoring.case(*[ANSWERS._replace(is_evaluated=counts)] * 2, 0)
  assert (case.members.sum(), len(case.members)) == (190, 390)
  assert case.shadow.members.sum() == 170
  for bad in (0, 1):
    converged = np.ones((1, 2), bool)
    converged[0, bad] = False
    assert scoring.case(*[ANSWERS._replace(converged=converged)] * 2, 0) is None


def test_the_epsilon_that_an_attack_proves():
  # 90 of 100 members and 95 of 100 others called rightly, at their low ends.
  shares = intervals.clopper_pearson(np.array([90, 95]), np.array([100, 100]))
  tpr, tnr = shares.low
  expected = max(math.log((tpr - 0.01) / (1 - tnr)), math.log((tnr - 0.01) / (1 - tpr)))
  np.testing.assert_allclose(scoring.epsilon_lower(shares, 0.01), expected)
  half = intervals.clopper_pearson(np.array([50, 50]), np.array([100, 100]))
  assert scoring.epsilon_lower(half, 0.0) == 0


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: scoring.check_attacks(()), "attacks is empty"),
    (lambda: scoring.check_attacks(("loss",)), "unknown attack 'loss'"),
    (lambda: scoring.score(CASE, "metric_los"), "did you mean 'metric_loss'"),
    (
      lambda: scoring.case(ANSWERS, _answers(0, num_classes=5), 0),
      "shadows.logits has shape",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
