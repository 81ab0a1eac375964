"""A small model beside a larger one is the model of a plain loop over its own rows.

The loops here know neither padding nor masks: their batches are as long as their rows,
what softens or clips is written anew, and only draws are the library's, by their keys.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_example as example

from jmia import models, splits, types
from jmia.defenses import dp_sgd, registry
from jmia.models import layers
from jmia.training import augment, optimizers, parallel
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

BATCH, NUM_EPOCHS, NUM_CLASSES = 8, 2, 3
RATE, MOMENTUM, DECAY, CLIP = 0.05, 0.9, 0.01, 0.4
ORDER, DATA, DROPOUT, NOISE = 1, 2, 3, 4  # streams of a model's key


def _images():
  rng = np.random.default_rng(0)
  x = rng.integers(17, size=(40, 6, 6, 1), dtype=np.uint8)
  y = rng.integers(NUM_CLASSES, size=40, dtype=np.int32)
  return types.Dataset("images", x, y, NUM_CLASSES, 40, 1 / 16, True, "Noise.")


IMAGES = _images()
# A full batch, one of 5 and one of padding alone beside two full ones and one of 5.
ROWS = [np.random.default_rng(1).permutation(40)[:size] for size in (13, 21)]
TRAIN = config_lib.TrainConfig(
  model="mlp",
  model_options=(("features", (6,)),),
  optimizer=optimizers.OptimizerConfig(
    learning_rate=RATE, momentum=MOMENTUM, nesterov=True
  ),
  batch_size=BATCH,
  num_epochs=NUM_EPOCHS,
)


def _trainable(train, *names):
  defenses = [registry.parse(name, delta=1e-2) for name in names]
  plan = registry.plan(defenses, train, IMAGES, num_members=len(ROWS[1]))
  return plan, registry.build(plan, IMAGES)


def _together(recipe, *rows):
  """What parameters and statistics the models have, trained side by side."""
  return parallel.run(
    recipe,
    jax.random.key(0),
    recipe_lib.Job(*splits.ragged(list(rows))),
    recipe_lib.Data(IMAGES.x, IMAGES.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
    width=len(rows),
  ).collected


def _stream(key, step, stream):
  return jax.random.fold_in(key, step * 8 + stream)


def _loop(model, key, rows, *, alter, gradient, batches, transformation):
  """Trains on batches of just the rows that are in them; returns the variables.

  Args:
    model: a Flax module.
    key: the model's.
    rows: the members.
    alter: (key, x as stored, one-hot targets) -> float x, targets.
    gradient: (params, statistics, x, targets, dropout and noise keys) -> (statistics,
      gradient).
    batches: (key of the epoch) -> lists of rows.
    transformation: optax's, learning rate included.
  """
  variables = dict(
    jax.jit(model.init)(jax.random.fold_in(key, 0), jnp.zeros((1, 6, 6, 1)))
  )
  params, step = variables.pop("params"), 0
  state = transformation.init(params)

  @jax.jit
  def updated(params, state, grads):
    updates, state = transformation.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(NUM_EPOCHS):
    for of_batch in batches(_stream(key, step, ORDER), rows):
      data, *keys = (_stream(key, step, stream) for stream in (DATA, DROPOUT, NOISE))
      targets = np.eye(NUM_CLASSES, dtype=np.float32)[IMAGES.y[of_batch]]
      x, targets = alter(data, IMAGES.x[of_batch], targets)
      variables, grads = gradient(params, variables, x, targets, *keys)
      params, state = updated(params, state, grads)
      step += 1
  return {"params": params, **variables}


def _shuffled(key, rows):
  order = np.asarray(recipe_lib.epoch_order(key, len(rows), len(rows)))
  return np.split(rows[order], range(BATCH, len(rows), BATCH))


def _mean_gradient(model):
  """Of the mean cross-entropy of a batch, which may update statistics."""

  @jax.jit
  def gradient(params, statistics, x, targets, dropout, noise):
    def loss(params):
      logits, new = model.apply(
        {"params": params, **statistics}, x, train=True, rngs={"dropout": dropout},
        mutable=["batch_stats"],
      )  # fmt: skip
      return -(targets * jax.nn.log_softmax(logits)).sum(axis=1).mean(), dict(new)

    grads, new = jax.grad(loss, has_aux=True)(params)
    return new, grads

  return gradient


def _unaltered(key, x, targets):
  return x.astype(np.float32) / 16, targets


def test_what_varies_mixes_smooths_decays_and_clips_sees_no_padding():
  names = ("flip", "crop:1", "mixup:0.4", "label_smoothing:0.3", "l2:0.01")
  train = config_lib.TrainConfig(**{**vars(TRAIN), "clip_norm": CLIP})
  _, trainable = _trainable(train, *names, "dropout:0.5")

  @jax.jit
  def alter(key, x, targets):
    batch = recipe_lib.Batch(x, targets, None, None)
    own = lambda place: jax.random.fold_in(key, place)  # noqa: E731
    batch = augment.random_flip(own(0), batch, None, None)
    x = augment.random_crop(1)(own(1), batch, None, None).x.astype(jnp.float32) / 16
    draw, order = jax.random.split(own(2))
    share = jax.random.beta(draw, 0.4, 0.4, dtype=jnp.float32)
    partner = recipe_lib.epoch_order(order, len(x), len(x))
    x, targets = (share * a + (1 - share) * a[partner] for a in (x, targets))
    return x, 0.7 * targets + 0.3 / NUM_CLASSES

  model = models.make("mlp", NUM_CLASSES, features=(6,), dropout_rate=0.5)
  expected = _loop(
    model,
    jax.random.fold_in(jax.random.key(0), 0),
    ROWS[0],
    alter=alter,
    gradient=_mean_gradient(model),
    batches=_shuffled,
    transformation=optax.chain(
      optax.clip_by_global_norm(CLIP),
      optax.add_decayed_weights(DECAY),
      optax.sgd(RATE, MOMENTUM, nesterov=True),
    ),
  )
  found = _together(trainable.recipe, *ROWS)
  example.assert_close(jax.tree.map(lambda a: a[0], found), expected, 2e-5)


class _Normed(nn.Module):
  """A convolution and batch normalisation: the library's, or Flax's without a mask."""

  is_plain: bool

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    x = nn.Conv(3, (3, 3))(x)
    if self.is_plain:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    else:
      norm = layers.BatchNorm(0.9, 1e-5, jnp.float32, name="norm")
      x = norm(x, train=train, mask=mask)
    return nn.Dense(NUM_CLASSES)(nn.relu(x).mean(axis=(1, 2)))


def test_batch_normalisation_counts_no_padding():
  recipe = recipe_lib.supervised(
    _Normed(False),
    optax.trace(MOMENTUM),
    example_shape=(6, 6, 1),
    num_classes=NUM_CLASSES,
    batch_size=BATCH,
    num_epochs=NUM_EPOCHS,
    learning_rate=lambda epoch: jnp.float32(RATE),
    transform=recipe_lib.normalize(1 / 16),
  )
  expected = _loop(
    _Normed(True),
    jax.random.fold_in(jax.random.key(0), 0),
    ROWS[0],
    alter=_unaltered,
    gradient=_mean_gradient(_Normed(True)),
    batches=_shuffled,
    transformation=optax.sgd(RATE, MOMENTUM),
  )
  found = _together(recipe, *ROWS)
  example.assert_close(jax.tree.map(lambda a: a[0], found), expected, 2e-5)


def test_dp_sgd_clips_real_rows_alone_and_divides_by_the_expected_batch():
  # What a batch is divided by and its noise are those of the mechanism, whoever is in.
  plan, trainable = _trainable(TRAIN, "dp_sgd:20")
  std = plan.mechanism.noise_multiplier * 1.0  # of a clipping norm of 1
  model = models.make("mlp", NUM_CLASSES, features=(6,))

  @jax.jit
  def clipped(params, x, targets):
    def loss(params):
      logits = model.apply({"params": params}, x[None])[0]
      return -(targets * jax.nn.log_softmax(logits)).sum()

    grads = jax.grad(loss)(params)
    norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(grads)))
    return jax.tree.map(lambda leaf: leaf * jnp.minimum(1, 1.0 / norm), grads)

  def gradient(params, statistics, x, targets, dropout, noise):
    total = jax.tree.map(np.zeros_like, params)
    for one, target in zip(x, targets, strict=True):
      of_one = clipped(params, one, target)
      total = jax.tree.map(lambda t, g: t + np.asarray(g), total, of_one)
    leaves, structure = jax.tree.flatten(total)
    keys = jax.random.split(noise, len(leaves))
    noisy = [
      (leaf + std * jax.random.normal(key, leaf.shape)) / BATCH
      for key, leaf in zip(keys, leaves, strict=True)
    ]
    return statistics, jax.tree.unflatten(structure, noisy)

  drawn_of = jax.jit(dp_sgd.poisson(plan.mechanism, -(-len(ROWS[1]) // BATCH)))

  def batches(key, rows):
    drawn = drawn_of(key, recipe_lib.Job(jnp.asarray(rows), jnp.int32(len(rows))))
    return [np.asarray(r)[v] for r, v in zip(drawn.rows, drawn.valid, strict=True)]

  expected = _loop(
    model,
    jax.random.fold_in(jax.random.key(0), 0),
    ROWS[0],
    alter=_unaltered,
    gradient=gradient,
    batches=batches,
    transformation=optax.sgd(RATE, MOMENTUM, nesterov=True),
  )
  found = _together(trainable.recipe, *ROWS)
  example.assert_close(jax.tree.map(lambda a: a[0], found), expected, 2e-5)


@pytest.mark.parametrize("names", [("early_stopping:0.3", "cutout:3"), ("stacking:3",)])
def test_who_trains_beside_changes_no_split_of_the_members(names):
  _, trainable = _trainable(TRAIN, *names)
  beside = jax.tree.map(lambda a: a[0], _together(trainable.recipe, *ROWS))
  alone = jax.tree.map(lambda a: a[0], _together(trainable.recipe, ROWS[0]))
  example.assert_close(beside, alone, 2e-5)
