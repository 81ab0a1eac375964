"""Pruning and transfer: training that starts from a published model."""

import dataclasses

import encoding_example as example
import jax
import numpy as np
import pytest

from jmia.encoding import pruning, transfer
from jmia.training import config as config_lib
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib


def _stacked(encoded):
  return jax.tree.map(lambda *a: np.stack(a), *encoded.variables)


def test_magnitude_mask_removes_the_smallest_of_each_kernel():
  params = {
    "Dense_0": {
      "kernel": np.array([[3.0, -1.0], [0.5, -4.0], [2.0, 1.0]]),
      "bias": np.array([0.0, 0.1]),
    },
    "BatchNorm_0": {"scale": np.zeros(3), "bias": np.zeros(3)},
  }
  kept = pruning.magnitude_mask(params, 0.5)
  np.testing.assert_array_equal(
    kept["Dense_0"]["kernel"], [[True, False], [False, True], [True, False]]
  )
  assert kept["Dense_0"]["bias"].all()
  assert kept["BatchNorm_0"]["scale"].all()
  pruned = pruning.prune({"params": params, "batch_stats": 7}, kept)
  np.testing.assert_array_equal(
    pruned["params"]["Dense_0"]["kernel"], [[3, 0], [0, -4], [2, 0]]
  )
  assert pruned["batch_stats"] == 7
  everything = pruning.magnitude_mask(params, 0)
  assert all(mask.all() for mask in jax.tree.leaves(everything))
  for share in (-0.1, 1.0):
    with pytest.raises(ValueError, match="share="):
      pruning.magnitude_mask(params, share)


def test_adversarial_pruning_holds_pruned_weights_at_zero():
  encoded = example.encoded()
  kept = [
    pruning.magnitude_mask(v["params"], share)
    for v, share in zip(encoded.variables, (0.5, 0.9), strict=True)
  ]
  pruned = [pruning.prune(v, k) for v, k in zip(encoded.variables, kept, strict=True)]
  config = example.config(num_epochs=4)
  config = dataclasses.replace(
    config,
    train=dataclasses.replace(
      config.train, optimizer=optimizers.OptimizerConfig(learning_rate=0.001)
    ),
    discriminator_rate=0.001,
  )
  stack = lambda trees: jax.tree.map(lambda *a: np.stack(a), *trees)  # noqa: E731
  jobs = pruning.PruneJob(*encoded.jobs, stack(pruned), stack(kept))
  result = parallel.run(
    pruning.recipe(config, encoded.dataset),
    jax.random.key(1),
    jobs,
    recipe_lib.Data(encoded.dataset.x, encoded.dataset.y),
    collect=lambda s, job, data: (recipe_lib.model_variables(s), s.discriminator),
  )
  found, discriminator = result.collected
  for name in ("Dense_0", "Dense_1", "logits"):
    for m, share in enumerate((0.5, 0.9)):
      kernel = found["params"][name]["kernel"][m]
      mask = kept[m][name]["kernel"]
      assert (kernel[~mask] == 0).all()
      assert (~mask).mean() == pytest.approx(share, abs=1 / mask.size)
      before = encoded.variables[m]["params"][name]["kernel"]
      moved = np.abs(kernel - before)[mask]
      assert 0 < moved.max() < 0.2
  assert discriminator.weight.shape == (2, 128)
  # It learns the model's members anew, from a model that holds them already.
  losses = result.metrics["encoding_loss"]
  assert (losses[:, -1] < 0.95 * losses[:, 0]).all()


def _tuning(num_epochs):
  optimizer = optimizers.OptimizerConfig(
    learning_rate=0.01, schedule="piecewise", boundaries=(2,)
  )
  return config_lib.TrainConfig(
    model="mlp_256_128", optimizer=optimizer, batch_size=50, num_epochs=num_epochs
  )


def test_transfer_keeps_features_and_makes_a_new_head():
  encoded = example.encoded()
  digits = encoded.dataset
  task = digits._replace(y=digits.y % 5, num_classes=5)
  members = np.arange(300, dtype=np.int32).reshape(2, 150)
  looks = {
    every: list(
      transfer.tune(
        _tuning(3), task, _stacked(encoded), members, jax.random.key(2), every=every
      )
    )
    for every in (2, 3)
  }
  assert [epoch for epoch, _ in looks[2]] == [2, 3]
  assert [epoch for epoch, _ in looks[3]] == [3]
  # Looking on the way changes nothing.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    looks[2][-1][1],
    looks[3][-1][1],
  )
  params = looks[3][-1][1]["params"]
  assert params["logits"]["kernel"].shape == (2, 128, 5)
  before = _stacked(encoded)["params"]["Dense_0"]["kernel"]
  moved = np.abs(params["Dense_0"]["kernel"] - before)
  assert 0 < moved.max() < 0.1
  with pytest.raises(ValueError, match="every=0"):
    next(
      transfer.tune(
        _tuning(3), task, _stacked(encoded), members, jax.random.key(2), every=0
      )
    )


def test_transfer_is_resumed_by_stages(tmp_path):
  encoded = example.encoded()
  task = encoded.dataset._replace(y=encoded.dataset.y % 5, num_classes=5)
  members = np.arange(300, dtype=np.int32).reshape(2, 150)

  def looks(**options):
    return transfer.tune(
      _tuning(3), task, _stacked(encoded), members, jax.random.key(2), every=2,
      **options,
    )  # fmt: skip

  expected = list(looks())
  next(looks(checkpoint_dir=tmp_path))  # and no further
  assert [path.name for path in tmp_path.iterdir()] == ["after_00000"]
  told = []
  found = list(
    looks(checkpoint_dir=str(tmp_path), progress=lambda *done: told.append(done))
  )
  assert told == [(4, 4), (2, 2)]  # the first stage is read, the second trained
  for (epoch, variables), (same_epoch, same) in zip(found, expected, strict=True):
    assert epoch == same_epoch
    jax.tree.map(np.testing.assert_array_equal, variables, same)


def test_images_are_resized():
  digits = example.encoded().dataset
  big = transfer.like(digits, (16, 16, 1))
  assert big.x.shape == (1797, 16, 16, 1)
  assert big.x.dtype == np.uint8
  flat = digits._replace(x=np.full((3, 8, 8, 1), 7, np.uint8))
  assert (transfer.like(flat, (12, 20, 1)).x == 7).all()
  as_float = transfer.like(
    digits._replace(x=digits.x[:5].astype(np.float32)), (4, 4, 1)
  )
  assert as_float.x.dtype == np.float32
  assert transfer.like(digits, (8, 8, 1)) is digits
  for shape in ((16, 16, 3), (64,)):
    with pytest.raises(ValueError, match="cannot be resized"):
      transfer.like(digits, shape)
