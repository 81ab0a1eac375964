"""The benchmark suite that trains ResNet-9 on CIFAR-10."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.benchmarks import cifar10, measure, training

WHAT = cifar10.tiny()  # 4 steps an epoch, 3 epochs


def test_the_whole_is_pages_recipe_on_all_training_images():
  what = cifar10.case()
  assert (what.num_steps, what.config.num_epochs) == (98, 24)
  assert what.config.optimizer.nesterov
  dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  assert what.config.compute_dtype == dtype


@pytest.mark.parametrize(
  ("seconds", "size"),
  [
    (math.inf, (7, 3, 128)),  # all
    (24.0 * 4, (7, 3, 128)),
    (24.0 * 2.9, (4, 3, 128)),  # two chunks of two models, each 12 steps of 2 s
    (24.0, (2, 3, 128)),
    (23.9, (2, 2, 128)),  # 11 steps, of which 8 are whole epochs
    (7.9, (2, 1, 96)),  # 3 steps
    (0.1, (2, 1, 32)),
  ],
)
def test_what_fits_is_whole_models_epochs_or_steps(seconds, size):
  assert cifar10.fitting(WHAT, 7, 2, 1.0, seconds) == size


def test_a_cut_run_is_extrapolated_and_has_no_accuracy():
  size = cifar10.Size(2, 1, 96)  # 6 of 7 * 3 * 4 steps
  row = cifar10.summary(
    WHAT, 7, cifar10.Way(2, "patches"), cifar10.Trained(size, 6.0, 1.0, 0, None)
  )
  assert row.more["minutes"] == pytest.approx(84 / 60)
  assert row.more["models_per_hour"] == pytest.approx(3_600 * 7 / 84)
  assert row.name == "7 models"
  said = row.more["said"]
  assert "1.4 minutes, 300 an hour; extrapolated from 7.1 %" in said
  assert "no accuracy" in said
  assert "accuracy" not in row.more
  assert not row.target


def test_accuracy_is_counted_at_its_levels(monkeypatch):
  accuracy = np.array([91.9, 92.0, 93.5, 94.0])
  trained = cifar10.Trained(cifar10.Size(4, 3, 128), 60.0, 1.0, 0, accuracy)
  row = cifar10.summary(WHAT, 4, cifar10.Way(1, "native"), trained)
  assert row.more["said"] == (
    "1 minutes, 240 an hour; accuracy 92.85 %; 91.90 to 94.00;"
    " 3 of 4 have 92 %; 1 of 4 have 94 %"
  )
  (_, (name, *_)) = measure.cells([row.content()])
  assert name == f"cifar10: 4 models; {row.more['said']}"
  assert (row.more["at_92"], row.more["at_94"]) == (3, 1)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  whole = cifar10.summary(cifar10.case(), 4, cifar10.Way(1, "native"), trained)
  assert whole.target == {"minutes": 5}


def test_accuracy_is_of_the_test_rows_of_a_real_dataset(monkeypatch):
  """Which here are rows that say their class, as training rows do."""
  y = np.arange(WHAT.num_rows, dtype=np.int32) % 2
  generator = np.random.default_rng(0)
  x = generator.integers(60, size=(WHAT.num_rows, 16, 16, 3), dtype=np.uint8)
  x[..., 0] += 120 * y.astype(np.uint8)[:, None, None]
  dataset = WHAT.dataset()._replace(
    x=x, y=y, num_train=WHAT.num_members, is_synthetic=False
  )
  # Long enough for the running statistics to be of the images.
  config = dataclasses.replace(WHAT.config, num_epochs=10)
  what = dataclasses.replace(WHAT, config=config)
  way, whole = cifar10.Way(1, "patches"), cifar10.Size(1, 10, 128)
  # A test row's label that is wrong costs what it should: the same model, tried twice.
  wrong = y.copy()
  wrong[WHAT.num_members :] = 1 - y[WHAT.num_members :]
  run, mirrored = cifar10.parallel.run, []

  def run_and_try_twice(*arguments, collect, **options):
    def both(state, job, data):
      return [
        collect(state, job, data._replace(y=labels)) for labels in (data.y, wrong)
      ]

    result = run(*arguments, collect=both, **options)
    accuracy, of_wrong = result.collected
    mirrored.append(of_wrong)
    return result._replace(collected=accuracy)

  monkeypatch.setattr(cifar10.parallel, "run", run_and_try_twice)
  trained = cifar10.train(what, dataset, way, whole)
  assert trained.accuracy.shape == (1,)
  assert 90 <= trained.accuracy[0] <= 100
  assert trained.num_diverged == 0
  np.testing.assert_allclose(mirrored[0], 100 - trained.accuracy, atol=1e-3)


def test_generated_images_have_no_accuracy(monkeypatch):
  costs = {way: training.measure.Cost(1.0, 1.0) for way in cifar10._ways(2)}
  monkeypatch.setattr(cifar10, "_step", lambda what, way: costs[way])
  found = list(cifar10.rows(2, WHAT, seconds=0.1))
  assert [row.name for row in found[:-1]] == ["step, patches"] * 2
  assert "no accuracy" in found[-1].more["said"]
