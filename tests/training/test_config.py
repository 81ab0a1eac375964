import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import datasets, models, types
from jmia.training import augment, optimizers, parallel
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

DATASET = types.Dataset(
  name="squares",
  x=np.arange(64, dtype=np.uint8).reshape(8, 2, 2, 2),
  y=np.array([0, 1, 2, 0, 1, 2, 0, 1], np.int32),
  num_classes=3,
  num_train=8,
  feature_scale=1 / 16,
  is_synthetic=True,
  description="",
)
CONFIG = config_lib.TrainConfig(
  model="mlp",
  model_options=(("features", (4,)),),
  optimizer=optimizers.OptimizerConfig(learning_rate=0.5, schedule="cosine"),
  batch_size=8,
  num_epochs=2,
  clip_norm=1e-3,
)


def _first_epoch(config, **kwargs):
  """(state before, after) one epoch, which here is one step over all rows."""
  recipe = config_lib.build(config, DATASET, **kwargs).recipe
  job = recipe_lib.Job(jnp.arange(8), jnp.int32(8))
  before = recipe.init(jax.random.key(0), job)
  data = recipe_lib.Data(jnp.asarray(DATASET.x), jnp.asarray(DATASET.y))
  return before, jax.jit(recipe.update)(before, job, data)[0]


def test_build_means_what_it_says():
  trainable = config_lib.build(CONFIG, DATASET)
  assert trainable.recipe.num_epochs == 2
  before, after = _first_epoch(CONFIG)
  assert before.params["Dense_0"]["kernel"].shape == (8, 4)
  assert before.params["logits"]["kernel"].shape == (4, 3)
  # The clipped gradient has norm 0.001, and the rate at epoch 0 is 0.5.
  moved = jax.tree.map(lambda a, b: a - b, after.params, before.params)
  norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(moved)))
  np.testing.assert_allclose(norm, 0.5e-3, rtol=1e-3)
  variables = recipe_lib.model_variables(before)
  module = models.make("mlp", 3, features=(4,))
  np.testing.assert_allclose(
    trainable.predict(variables, DATASET.x),
    module.apply(variables, DATASET.x / np.float32(16)),
    rtol=1e-5,
  )


def test_without_clipping_the_gradient_is_whole():
  _, clipped = _first_epoch(CONFIG)
  before, whole = _first_epoch(dataclasses.replace(CONFIG, clip_norm=None))
  far, near = (
    np.abs(state.params["logits"]["kernel"] - before.params["logits"]["kernel"]).max()
    for state in (whole, clipped)
  )
  assert far > 10 * near


def test_transforms_come_before_scaling_and_in_order():
  seen = []

  def first(key, batch, job, data):
    seen.append(("first", batch.x.dtype))
    return batch._replace(x=batch.x * 0)

  def second(key, batch, job, data):
    seen.append(("second", batch.x.dtype))
    return batch

  before, after = _first_epoch(CONFIG, transforms=(first, second))
  assert seen[:2] == [("first", np.uint8), ("second", np.uint8)]
  # On features that are all 0 the first layer's weights have no gradient.
  np.testing.assert_array_equal(
    after.params["Dense_0"]["kernel"], before.params["Dense_0"]["kernel"]
  )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"model": "mlp_puchase"}, "model 'mlp_puchase'.*'mlp_purchase'"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"num_epochs": -1}, "num_epochs=-1"),
    ({"clip_norm": 0.0}, "clip_norm=0.0"),
  ],
)
def test_settings_are_checked(settings, message):
  with pytest.raises(ValueError, match=message):
    config_lib.TrainConfig(**settings)


def test_an_unknown_option_of_the_model_is_named():
  config = config_lib.TrainConfig(model="mlp", model_options=(("feature", (4,)),))
  with pytest.raises(ValueError, match=r"'feature'.*'features'"):
    config_lib.build(config, DATASET)


def test_augmentation_comes_after_the_transforms_and_before_scaling():
  seen = []

  def first(key, batch, job, data):
    seen.append(batch.x.dtype)
    return batch._replace(x=batch.x * 0)

  white = augment.AugmentConfig(cutout=2, fill=(1.0,))
  config = dataclasses.replace(CONFIG, augmentation=white)
  batch = recipe_lib.Batch(jnp.asarray(DATASET.x), None, jnp.arange(8), None)
  seam = config_lib.data_seam(config, DATASET, (first,))
  found = seam(jax.random.key(0), batch, None, None)
  assert seen == [np.uint8]
  np.testing.assert_array_equal(found.x, np.ones((8, 2, 2, 2), np.float32))


def test_a_network_brings_its_recipe_if_it_has_one():
  preset = config_lib.preset("cifar10")
  train = config_lib.of_network("resnet9", preset)
  assert (train.batch_size, train.num_epochs) == (512, 24)
  rates = jax.vmap(optimizers.schedule(train.optimizer, 24))(jnp.arange(24))
  # Page's line, from 0 to 0.4 at epoch 5 and to 0 at 24, at the middle of each epoch.
  expected = np.interp(np.arange(24) + 0.5, [0, 5, 24], [0, 0.4, 0])
  np.testing.assert_allclose(rates, expected, rtol=1e-4)
  other = config_lib.of_network("vgg_9", preset)
  assert other == dataclasses.replace(preset, model="vgg_9")
  with pytest.raises(ValueError, match="model 'resnet99'"):
    config_lib.of_network("resnet99", preset)


def test_resnet9_learns_by_its_recipe():
  """Cut down: a narrow one, of three brightnesses of a channel under noise.

  Of three channels it learns in the tests of the suite that trains it on CIFAR-10.
  """
  generator = np.random.default_rng(0)
  y = np.arange(240, dtype=np.int32) % 3
  x = generator.integers(0, 120, size=(240, 16, 16, 1))
  x[..., 0] += 60 * y[:, None, None]
  dataset = DATASET._replace(x=x.astype(np.uint8), y=y, feature_scale=1 / 255)
  train = config_lib.of_network("resnet9", CONFIG)
  train = dataclasses.replace(
    train,
    model_options=(*train.model_options, ("widths", (8, 16, 32))),
    batch_size=32,
    num_epochs=6,
  )
  trainable = config_lib.build(train, dataset)
  result = parallel.run(
    trainable.recipe,
    jax.random.key(0),
    recipe_lib.Job(np.arange(200)[None], np.array([200])),
    recipe_lib.Data(dataset.x, dataset.y),
    collect=lambda state, job, data: trainable.predict(
      recipe_lib.model_variables(state), data.x[200:]
    ),
  )
  assert result.metrics["loss"][0, -1] < 0.5 * result.metrics["loss"][0, 0]
  # By guessing 13 of 40, with a deviation of 3.
  assert (result.collected[0].argmax(-1) == y[200:]).sum() >= 36


@pytest.mark.parametrize("name", [*datasets.names(), "npz:mine.npz"])
def test_every_dataset_has_settings_that_build(name):
  preset = config_lib.preset(name)
  assert isinstance(models.make(preset.model, 10), nn.Module)
  assert preset.optimizer.schedule in optimizers.SCHEDULES
  assert all(b < preset.num_epochs for b in preset.optimizer.boundaries)
  assert hash(preset) == hash(config_lib.preset(name))


@pytest.mark.parametrize(
  ("name", "shape", "model"),
  [
    ("folder:mine", (32, 32, 3), "cnn_32_64"),
    ("npz:mine.npz", (16, 20, 1), "cnn_32_64"),
    ("stl10", (96, 96, 3), "cnn_32_64"),
    ("digits", (8, 8, 1), "mlp_256_128"),
    ("npz:mine.npz", (300,), "mlp_256_128"),
    ("npz:mine.npz", (50, 40), "mlp_256_128"),
    ("location30", (446,), "mlp_mib"),
  ],
)
def test_images_of_ones_own_get_a_convolutional_network(name, shape, model):
  assert config_lib.preset(name, shape).model == model


def test_another_length_keeps_the_schedules_proportions():
  train = config_lib.TrainConfig(
    optimizer=optimizers.OptimizerConfig(
      learning_rate=0.1, schedule="piecewise", boundaries=(30, 45)
    ),
    num_epochs=60,
  )
  cut = config_lib.with_epochs(train, 20)
  assert (cut.num_epochs, cut.optimizer.boundaries) == (20, (10, 15))
  # A boundary at epoch 0 would take away the rate that training starts at.
  assert config_lib.with_epochs(train, 1).optimizer.boundaries == (1, 1)
  with pytest.raises(ValueError, match="num_epochs=0"):
    config_lib.with_epochs(train, 0)
