"""Settings, variants and plans: the paper's numbers, and who trains on what."""

import dataclasses

import numpy as np
import pytest
from sklearn import model_selection

from jmia import types
from jmia.backdoor import marking, plan, settings, triggers, variants
from jmia.training import config as config_lib

ALL = tuple(variants.STUDIES)


def _dataset(name="location30", num_examples=5010, shape=(446,), num_classes=30):
  rng = np.random.default_rng(0)
  x = np.zeros((num_examples, *shape), np.uint8)
  y = rng.integers(num_classes, size=num_examples, dtype=np.int32)
  scale = 1.0 if len(shape) == 1 else 1 / 255
  return types.Dataset(name, x, y, num_classes, num_examples, scale, False, "Zeros.")


@pytest.mark.parametrize(
  ("name", "num_examples", "shape", "num_train", "num_marked", "rate", "steps"),
  [
    ("location30", 5010, (446,), 4008, 8, 0.1, (50, 80)),
    ("purchase100", 197_324, (2,), 157_859, 157, 0.01, (100, 120)),
    ("cifar10", 60_000, (2, 2, 3), 50_000, 50, 0.1, (80, 120)),
  ],
)
def test_the_papers_settings(
  name, num_examples, shape, num_train, num_marked, rate, steps
):
  dataset = _dataset(name, num_examples, shape)
  if name == "cifar10":
    dataset = dataset._replace(num_train=50_000)
  found = settings.preset(dataset)
  members, held_out = plan.split(dataset, found, 0, 0)
  assert (len(members), len(held_out)) == (num_train, num_examples - num_train)
  assert not np.isin(members, held_out).any()
  assert int(found.marked_share * num_train) == num_marked
  assert found.train.num_epochs == 150
  assert found.train.optimizer.learning_rate == rate
  assert found.train.optimizer.boundaries == steps
  assert found.train.optimizer.weight_decay == 5e-4
  assert found.trigger.value == (255 if name == "cifar10" else 1)
  assert found.flip == (name == "cifar10")


def test_fewer_epochs_keep_the_schedules_shape():
  train = config_lib.with_epochs(settings.preset(_dataset()).train, 15)
  assert (train.num_epochs, train.optimizer.boundaries) == (15, (5, 8))


def test_the_papers_figures_stand_beside_their_variants():
  dataset = _dataset()
  planned = plan.make(dataset, settings.preset(dataset), ALL, 2, 0)
  paper = {(v.study, v.name): v.paper_asr for v in planned.variants[0]}
  assert paper["single", "default"] == 0.689
  assert paper["locations", "centre"] == 0.684
  assert paper["sizes", "5"] == 0.151
  assert paper["labels", "random label 5"] == 0.664
  assert paper["baseline", "baseline without"] == 0.008
  assert paper["owners", "together"] is None
  counts = [v.owners[0].num_marked for v in planned.variants[0] if v.study == "ratio"]
  assert counts == [2, 4, 6, 8, 12, 20, 40]
  assert not planned.notes


def test_random_patterns_and_labels_are_fresh_in_each_trial():
  dataset = _dataset()
  first, second = plan.make(
    dataset, settings.preset(dataset), ("patterns", "labels"), 2, 0
  ).variants
  patterns = [v.owners[0].trigger for v in first + second if v.study == "patterns"]
  assert len(set(patterns)) == 10
  for trial in (first, second):
    labels = {v.owners[0].label for v in trial if v.study == "labels"}
    assert len(labels) == 5
    assert 1 not in labels
  # What a study draws does not depend on which others are run.
  alone = plan.make(dataset, settings.preset(dataset), ("labels",), 2, 0).variants
  assert [v for v in second if v.study == "labels"] == alone[1]


def test_who_trains_on_what():
  dataset = _dataset(num_examples=800)
  chosen = dataclasses.replace(settings.preset(dataset), marked_share=0.02)
  planned = plan.make(dataset, chosen, ("single", "owners", "baseline"), 2, 0)
  jobs = planned.jobs
  assert len(planned.model_ids) == 2 * 4
  for trial in range(2):
    members, held_out = plan.split(dataset, chosen, 0, trial)
    everyone_marked = set()
    for model, m in planned.model_ids.items():
      if model.trial != trial:
        continue
      own = jobs.member_idx[m, : jobs.num_members[m]]
      np.testing.assert_array_equal(jobs.test_idx[m], held_out)
      marked = np.flatnonzero(jobs.mark_of_row[m] != marking.UNMARKED)
      everyone_marked.update(marked.tolist())
      assert set(marked) <= set(own)
      marks = jobs.mark_of_row[m, marked]
      assert (dataset.y[marked] != planned.marks.labels[marks]).all()
      sizes = np.unique(marks, return_counts=True)[1].tolist()
      assert sizes == [owner.num_marked for owner in model.owners] == [12] * len(sizes)
      if model.training != variants.WITHOUT:
        np.testing.assert_array_equal(own, members)
    without = planned.model_ids[plan.Model(trial, variants.WITHOUT, ())]
    own = jobs.member_idx[without, : jobs.num_members[without]]
    assert set(own) == set(members) - everyone_marked
    # The only model that is asked with every mark of the trial: 1 and 10, and none.
    assert len(set(jobs.query_marks[without])) == 12


def test_triggers_that_do_not_fit_are_left_out_of_the_sizes_alone():
  dataset = _dataset("digits", 200, (8, 8, 1), 10)
  found = settings.preset(dataset)
  planned = plan.make(dataset, found, ("sizes",), 1, 0)
  assert [v.name for v in planned.variants[0]] == ["2×2", "4×4", "6×6", "8×8"]
  larger = dataclasses.replace(found.trigger, size=9)
  with pytest.raises(ValueError, match="size=9 does not fit"):
    plan.make(dataset, dataclasses.replace(found, trigger=larger), ("single",), 1, 0)


def test_what_differs_from_the_paper_is_noted():
  dataset = _dataset()._replace(is_synthetic=True)
  chosen = settings.preset(dataset)
  chosen = dataclasses.replace(chosen, train=config_lib.with_epochs(chosen.train, 9))
  synthetic, changed = plan.make(dataset, chosen, ("single",), 1, 0).notes
  assert "synthetic" in synthetic
  assert changed == "Not the paper's settings: train."


def test_the_marks_of_a_plan_start_with_none():
  dataset = _dataset(num_examples=800)
  planned = plan.make(dataset, settings.preset(dataset), ("patterns",), 1, 0)
  assert not planned.marks.triggers.mask[plan.NO_MARK].any()
  for (config, label), mark in planned.mark_ids.items():
    expected = triggers.make(config, (446,))
    np.testing.assert_array_equal(
      planned.marks.triggers.pattern[mark], expected.pattern
    )
    assert planned.marks.labels[mark] == label


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"target_label": 30}, "target_label=30 is not a class, expected 0 to 29"),
    ({"num_members": 0}, "num_members=0 must"),
    ({"num_members": 700}, "num_members=700 is above the 640 rows"),
    ({"marked_share": 0.0}, "marked_share=0.0 must lie in"),
    ({"num_queries": 0}, "num_queries=0 must"),
  ],
)
def test_bad_settings_are_refused(changes, message):
  dataset = _dataset(num_examples=800)

  def make():
    changed = dataclasses.replace(settings.preset(dataset), **changes)
    plan.make(dataset, changed, ("single",), 1, 0)

  with pytest.raises(ValueError, match=message):
    make()


def test_the_authors_draw_is_one_split_and_its_first_rows():
  dataset = _dataset()
  authors = dataclasses.replace(settings.preset(dataset), draw="authors")
  planned = plan.make(dataset, authors, ("single", "patterns"), 2, 0)
  expected, held_out = model_selection.train_test_split(
    np.arange(5010), test_size=0.2, random_state=42
  )
  marked = [row for row in expected if dataset.y[row] != 1][:8]
  for model, m in planned.model_ids.items():
    np.testing.assert_array_equal(planned.jobs.test_idx[m], held_out)
    if model.training == variants.MARKED:
      rows = np.flatnonzero(planned.jobs.mark_of_row[m] != marking.UNMARKED)
      assert sorted(rows) == sorted(marked)
  # Random patterns replace the last 20 features, more of them by ones than by zeros.
  patterns = [v.owners[0].trigger for v in planned.variants[0][1:]]
  assert {pattern.place for pattern in patterns} == {tuple(range(426, 446))}
  assert 0.45 < np.mean([pattern.values for pattern in patterns]) < 0.75
  (note,) = planned.notes
  assert "authors" in note


def test_owners_of_the_authors_draw_mark_stretches_of_what_is_left():
  dataset = _dataset()
  authors = dataclasses.replace(settings.preset(dataset), draw="authors", num_owners=3)
  planned = plan.make(dataset, authors, ("owners",), 1, 0)
  members, _ = plan.split(dataset, authors, 0, 0)
  (variant,) = planned.variants[0]
  of_row = planned.jobs.mark_of_row[planned.model_ids[plan.model_of(0, variant)]]
  left = members.tolist()
  for number, owner in enumerate(variant.owners):
    others = [row for row in left if dataset.y[row] != owner.label]
    expected = others[8 * number : 8 * (number + 1)]
    mark = planned.mark_ids[owner.trigger, owner.label]
    assert sorted(np.flatnonzero(of_row == mark)) == sorted(expected)
    left = [row for row in left if row not in expected]
