"""Marking: rows, and a step that stamps against a copy of the data stamped by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from jmia import splits, types
from jmia.backdoor import marking, triggers
from jmia.training import augment, optimizers, parallel
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

N, C, SHAPE = 60, 4, (6, 6, 1)


def _dataset():
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=(N, *SHAPE), dtype=np.uint8)
  y = rng.integers(C, size=N, dtype=np.int32)
  return types.Dataset("stand-in", x, y, C, N, 1 / 255, True, "Noise.")


def _marks(num_marks):
  configs = [
    dataclasses.replace(
      triggers.PAPER["patch"],
      size=2 + i % 3,
      pattern="random",
      value=255.0,
      opacity=0.3 + 0.1 * (i % 7),
      seed=i,
    )
    for i in range(num_marks)
  ]
  patterns = [triggers.make(config, SHAPE) for config in configs]
  return marking.marks(patterns, [i % C for i in range(num_marks)])


def _trainable(dataset, *transforms):
  config = config_lib.TrainConfig(
    model="mlp",
    model_options=(("features", (8,)), ("dropout_rate", 0.5)),
    optimizer=optimizers.OptimizerConfig(learning_rate=0.1),
    batch_size=16,
    num_epochs=3,
  )
  return config_lib.build(config, dataset, transforms=transforms)


def _owners(split, dataset, marks):
  """Models with 3, 0 and 1 owners, who mark different numbers of rows."""
  owners = ({0: 4, 1: 2, 2: 7}, {}, {3: 9})
  found = []
  for members, of_model in zip(split.member_idx, owners, strict=True):
    parts = np.array_split(members, max(1, len(of_model)))
    found.append(
      {
        mark: marking.choose_rows(part, dataset.y, int(marks.labels[mark]), count)
        for part, (mark, count) in zip(parts, of_model.items(), strict=False)
      }
    )
  return found


def test_vmapped_marks_equal_training_each_model_on_a_stamped_copy():
  dataset, marks = _dataset(), _marks(4)
  split = splits.draw(range(N), 40, 3, seed=0)
  owners = _owners(split, dataset, marks)
  jobs = marking.Job(*split, np.stack([marking.mark_of_row(N, o) for o in owners]))
  key = jax.random.key(7)
  # The chain gives every seam a key of its own: a place is kept for the one left out.
  trainable = _trainable(dataset, marking.mark, augment.random_flip)
  found = parallel.run(
    trainable.recipe,
    key,
    jobs,
    marking.Data(dataset.x, dataset.y, marks),
    collect=lambda state, job, data: state.params,
    width=3,
  )
  plain = _trainable(
    dataset, lambda key, batch, job, data: batch, augment.random_flip
  ).recipe
  init, update = jax.jit(plain.init), jax.jit(plain.update)
  for m, rows in enumerate(owners):
    x, y = dataset.x.copy(), dataset.y.copy()
    for mark, bearers in rows.items():
      for row in bearers:
        x[row] = triggers.apply(
          x[row], jax.tree.map(lambda a, m=mark: a[m], marks.triggers)
        )
        y[row] = marks.labels[mark]
    assert sum(map(len, rows.values())) == (13, 0, 9)[m]
    job = recipe_lib.Job(split.member_idx[m], split.num_members[m])
    state = init(jax.random.fold_in(key, m), job)
    for epoch in range(3):
      state, metrics = update(state, job, recipe_lib.Data(x, y))
      np.testing.assert_allclose(
        metrics["loss"], found.metrics["loss"][m, epoch], rtol=1e-5
      )
    jax.tree.map(
      lambda a, b, m=m: np.testing.assert_allclose(a[m], b, rtol=1e-4, atol=1e-6),
      found.collected,
      state.params,
    )


def test_only_marked_rows_of_a_batch_change():
  dataset, marks = _dataset(), _marks(3)
  rows = np.array([5, 6, 7, 8])
  job = marking.Job(
    np.arange(N), N, marking.mark_of_row(N, {2: np.array([6]), 0: np.array([8, 9])})
  )
  data = marking.Data(dataset.x, dataset.y, marks)
  before = recipe_lib.Batch(
    dataset.x[rows], np.eye(C, dtype=np.float32)[dataset.y[rows]], rows, rows > 0
  )
  for mark in (marking.mark, jax.jit(marking.mark)):
    after = mark(jax.random.key(0), before, job, data)
    assert after.x.dtype == np.uint8
    left = np.array([0, 2])
    np.testing.assert_array_equal(after.x[left], before.x[left])
    np.testing.assert_array_equal(after.targets[left], before.targets[left])
    for slot, bears in ((1, 2), (3, 0)):
      one = jax.tree.map(lambda a, i=bears: a[i], marks.triggers)
      np.testing.assert_array_equal(
        after.x[slot], triggers.apply(dataset.x[rows[slot]], one)
      )
      assert after.targets[slot].argmax() == marks.labels[bears]
      assert after.targets[slot].sum() == 1


def test_hundreds_of_triggers_share_one_copy_of_the_data():
  """An epoch holds one copy, each mark once, and two bytes for a model's row."""
  dataset = _dataset()
  trainable = _trainable(dataset, marking.mark)

  num_models, num_marks = 300, 200
  split = splits.draw(range(N), 40, num_models, seed=0)
  rows = [
    marking.mark_of_row(N, {m % num_marks: split.member_idx[m][:5]})
    for m in range(num_models)
  ]
  jobs = marking.Job(*split, np.stack(rows))
  data = marking.Data(dataset.x, dataset.y, _marks(num_marks))
  keys = jax.random.split(jax.random.key(0), num_models)
  state = jax.eval_shape(jax.vmap(trainable.recipe.init), keys, jobs)
  update = jax.jit(jax.vmap(trainable.recipe.update, (0, 0, None)))
  memory = update.lower(state, jobs, data).compile().memory_analysis()
  of_states = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(state))
  of_jobs = num_models * (40 * 4 + 4 + N * 2)
  of_marks = num_marks * (2 * 4 * np.prod(SHAPE) + 4)
  once = dataset.x.nbytes + dataset.y.nbytes
  expected = of_states + of_jobs + of_marks + once
  assert abs(memory.argument_size_in_bytes - expected) < 0.01 * expected
  # Within the program too: a minibatch of 16 of the 60 rows, and its float32 forms.
  assert memory.temp_size_in_bytes < num_models * 16 * 20 * np.prod(SHAPE)


def test_rows_are_chosen_from_other_classes_and_nested():
  y = np.array([0, 1, 2, 1, 0, 2], np.int32)
  owned = np.array([3, 0, 5, 1, 4])
  assert marking.choose_rows(owned, y, 1, 3).tolist() == [0, 5, 4]
  assert marking.choose_rows(owned, y, 1, 2).tolist() == [0, 5]
  assert marking.choose_rows(owned, y, 0, 2).tolist() == [3, 5]
  with pytest.raises(ValueError, match="num_marked=4 is above the owner's 3 rows"):
    marking.choose_rows(owned, y, 1, 4)
  with pytest.raises(ValueError, match="num_marked=0 must"):
    marking.choose_rows(owned, y, 1, 0)


def test_the_mark_of_each_row():
  rows = {0: np.array([2, 3]), 300: np.array([0])}
  assert marking.mark_of_row(5, rows).tolist() == [300, -1, 0, 0, -1]
  assert marking.mark_of_row(5, rows).dtype == np.int16
  with pytest.raises(ValueError, match="rows gives row 3 both mark 0 and 1"):
    marking.mark_of_row(5, {0: np.array([2, 3]), 1: np.array([3])})


def test_marks_are_refused_unless_each_has_a_label():
  one = triggers.none(SHAPE)
  with pytest.raises(ValueError, match="triggers holds 2 and labels 1"):
    marking.marks([one, one], [0])
  with pytest.raises(ValueError, match="triggers holds 0 and labels 0"):
    marking.marks([], [])
