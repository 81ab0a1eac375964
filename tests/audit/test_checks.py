"""What an audit looks at before it believes its figures."""

import numpy as np
import pytest

from jmia.audit import auditing, files, signals_file
from jmia.audit.checks import learnt, split
from jmia.report import plots, wording

_RNG = np.random.default_rng(0)
_N = 200
_MEMBERS = np.arange(_N) < _N // 2
_LABELS = (np.arange(_N) % 4).astype(np.int32)


def _evidence(logits, labels=_LABELS):
  return signals_file.from_arrays(
    {"target_logits": logits, "labels": labels, "members": _MEMBERS}
  )


def test_a_target_that_learnt_nothing_is_named_and_one_that_did_is_not():
  (note,) = learnt.notes(_evidence(np.zeros((_N, 4))))
  assert "accuracy" in note
  assert "mean loss" in note
  assert learnt.notes(_evidence(4 * np.eye(4)[_LABELS])) == []


@pytest.mark.parametrize("num_members", [20, 50])
def test_shares_of_many_classes_differ_by_chance_as_often_as_stated(num_members):
  """Few members beside 2,500 others of 100 classes: 1 % and 3 errors of 4,000 draws."""
  rng = np.random.default_rng(0)
  members = np.arange(num_members + 2500) < num_members
  said = [
    bool(split.class_notes(rng.integers(0, 100, len(members)), members))
    for _ in range(4000)
  ]
  assert np.mean(said) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 4000)


@pytest.mark.parametrize("kind", [False, True])
def test_shares_of_many_classes_that_differ_are_seen(kind):
  """Though a class has fewer rows of one kind than the test's law asks."""
  rng = np.random.default_rng(0)
  members = (np.arange(2550) < 50) == kind
  rows = np.where(
    members == kind, rng.integers(0, 20, 2550), rng.integers(0, 100, 2550)
  )
  assert split.class_notes(rows, members)


@pytest.mark.parametrize(
  ("expected", "cells"),
  [
    ([9, 5, 5.5], [2, 0, 1]),
    ([9, 2, 3, 0], [1, 0, 0, 0]),
    ([6, 3, 4, 1], [1, 0, 0, 0]),
    ([2, 2, 2, 2], [0, 0, 0, 0]),
    ([1, 1], [0, 0]),
  ],
)
def test_rare_classes_are_taken_together(expected, cells):
  np.testing.assert_array_equal(split._cells(np.array(expected, float)), cells)


def test_blind_baseline_sees_a_shift_and_covers_half_without_one():
  x = _RNG.normal(size=(_N, 3)).astype(np.float32)
  found = split.blind(x + _MEMBERS[:, None], _LABELS, _MEMBERS, 4)
  assert found["auc_ci"][0] > 0.5
  assert split.blind_notes(found)
  low = []
  for seed in range(12):
    members = np.random.default_rng(seed).permutation(_MEMBERS)
    low.append(split.blind(x, _LABELS, members, 4, seed)["auc_ci"][0])
  assert np.sum(np.array(low) > 0.5) <= 3  # of 12 at 2.5 %: more has p < 3e-4


def test_copies_are_counted_and_left_out():
  x = np.arange(_N, dtype=np.float32)[:, None]
  labels = np.zeros(_N, np.int32)
  x[150] = x[3]
  x[160] = x[4]
  labels[160] = 1  # another label: no copy
  copied = split.copies(x, labels, _MEMBERS)
  assert np.flatnonzero(copied).tolist() == [150]
  scores = _MEMBERS.astype(float)
  scores[150] = 2
  (note,) = split.copy_notes(copied, _MEMBERS, {"a": scores})
  assert "1 of 100" in note
  assert "a 1.000" in note


def test_near_copies_of_images():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (40, 20, 20, 3)).astype(np.uint8)
  x = np.repeat(np.repeat(x[:, ::4, ::4], 4, axis=1), 4, axis=2)  # of coarse fields
  members = np.arange(40) < 20
  noise = rng.normal(0, 8, (20, 20, 3))
  x[25] = np.clip(x[3] + noise, 0, 255)
  x[30] = np.roll(x[4], 10, axis=0)  # another image of the same colours
  near = split.near_copies(x, members, 0.1)
  assert np.flatnonzero(near).tolist() == [25]
  (note,) = split.copy_notes(near, members, {"a": members * 1.0}, "near copies")
  assert note.startswith("1 of 20 non-members are near copies of members")
  with pytest.raises(ValueError, match=r"rows have shape \(1200,\): expected images"):
    split.near_copies(x.reshape(40, -1), members, 0.1)


def test_class_shares():
  assert split.class_notes(_LABELS, _MEMBERS) == []
  (note,) = split.class_notes(np.where(_MEMBERS, 0, _LABELS), _MEMBERS)
  assert "chi-square" in note
  members = np.arange(4000) < 2000
  (note,) = split.class_notes(1 * members, members)
  assert "p below 1e-300" in note


def test_a_plot_that_fails_is_a_note_and_the_verdict_tells_of_the_split(
  tmp_path, monkeypatch
):
  labels = np.where(_MEMBERS, 0, _LABELS).astype(np.int32)
  evidence = signals_file.from_arrays({
    "target_logits": np.eye(4)[labels] * 3,
    "labels": labels,
    "members": _MEMBERS,
    "population_logits": _RNG.normal(size=(_N, 4)),
    "population_labels": _LABELS,
  })  # fmt: skip
  result = auditing.from_evidence(evidence, ["population"])
  assert any("split" in line for line in wording.verdict(result.report).details)

  def fail(*_):
    raise ZeroDivisionError("no round tick")

  monkeypatch.setattr(plots, "write_roc", fail)
  (tmp_path / ".incomplete-dead").mkdir()
  files.write(result, tmp_path)
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {
    "report.json", "scores.npz", "report.html", "exposed.csv", "model_card.md",
  }  # fmt: skip
  assert "no round tick" in (tmp_path / "report.json").read_text()
  assert "no round tick" in (tmp_path / "report.html").read_text()
