"""References that are marked as having held what they did not."""

import itertools

import numpy as np
import pytest

from jmia.attacks import evidence as evidence_lib
from jmia.audit import auditing, signals_file
from jmia.audit.checks import inverted


def _group(rng, num_models, num_rows, gap):
  """Losses by hard and easy rows, good and poor models; lower by `gap` where held."""
  held = rng.random((num_models, num_rows)) < 0.5
  log_loss = rng.normal(size=held.shape) + rng.normal(size=num_rows)
  log_loss += rng.normal(size=(num_models, 1)) - gap * held
  return evidence_lib.Group(
    held=held,
    out=~held,
    signals={"loss": np.exp(log_loss).astype(np.float32)},
    **evidence_lib.no_population(num_models),
  )


def _exchanged(group):
  return group._replace(held=group.out, out=group.held)


@pytest.mark.parametrize("num_models", [5, 12])
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_it_is_wrong_no_more_often_than_it_says(num_models, gap):
  rng = np.random.default_rng(0)
  p = [inverted.p_value(_group(rng, num_models, 60, gap)) for _ in range(200)]
  for level in (inverted.LEVEL, 0.1):
    # 4 standard errors of a share that is at most the level.
    allowed = level + 4 * np.sqrt(level * (1 - level) / len(p))
    assert np.mean(np.array(p) <= level) <= allowed


def test_it_finds_marks_that_are_exchanged():
  rng = np.random.default_rng(0)
  group = _group(rng, 8, 200, 0.5)
  assert inverted.p_value(_exchanged(group)) <= inverted.LEVEL
  assert inverted.p_value(group) > 0.5
  few = _group(rng, 4, 200, 5.0)  # 24 orders
  assert inverted.p_value(_exchanged(few)) == pytest.approx(1 / 24)


def test_all_orders_of_few_models_are_counted():
  rng = np.random.default_rng(1)
  group = _group(rng, 4, 30, -0.2)
  loss, held = group.signals["loss"], group.held
  ranks = (loss[:, None] > loss[None]).sum(axis=1) / 4
  ranks -= ranks.mean(axis=1, keepdims=True)
  rows = [n for n in range(30) if 0 < held[:, n].sum() < 4]

  def statistic(order):
    marks = held[list(order)]
    return sum(
      ranks[marks[:, n], n].mean() - ranks[~marks[:, n], n].mean() for n in rows
    )

  every = [statistic(order) for order in itertools.permutations(range(4))]
  expected = np.mean(np.array(every) >= every[0] - 1e-9)
  assert inverted.p_value(group) == pytest.approx(expected)


def test_marks_without_both_kinds_tell_nothing():
  group = _group(np.random.default_rng(0), 6, 20, 1.0)
  alike = group._replace(signals={"loss": np.ones((6, 20), np.float32)})
  assert inverted.p_value(alike) == 1
  none = np.zeros_like(group.held)
  assert inverted.p_value(group._replace(held=none, out=~none)) == 1


@pytest.mark.parametrize("attack", ["metric_loss", "reference", "lira_online"])
def test_an_audit_says_so_once_whichever_attack_runs(attack):
  rng = np.random.default_rng(0)
  held = rng.random((9, 80)) < 0.5
  losses = np.exp(rng.normal(size=held.shape) - 2 * held)
  arrays = {
    "target_losses": losses[0],
    "labels": rng.integers(0, 3, 80),
    "members": held[0],
    "reference_losses": losses[1:],
  }

  def notes(marks):
    evidence = signals_file.from_arrays({**arrays, "reference_members": marks})
    found = auditing.from_evidence(evidence, [attack]).report["notes"]
    return [note for note in found if "reference_members" in note]

  assert notes(held[1:]) == []
  (note,) = notes(~held[1:])
  assert "(reference_members) seem inverted: losses are higher on rows marked" in note
