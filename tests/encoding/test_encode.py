import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import splits
from jmia import types as types_lib
from jmia.defenses import registry
from jmia.encoding import encode
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

NUM_EXAMPLES, SHAPE, BATCH, PASSES, NUM_SYNTHETIC = 30, (4, 4, 1), 5, 2, 3
RATE, DISCRIMINATOR_RATE, MOMENTUM, BOUNDARY, DECAY = 0.1, 0.05, 0.9, 1, 0.01
SIZES = 12, 7  # the second model has steps of padding alone
INIT, ORDER, DROPOUT, POOL, ENCODE_DROPOUT, DISCRIMINATOR = 0, 1, 3, 5, 6, 7


def _dataset():
  rng = np.random.default_rng(0)
  return types_lib.Dataset(
    name="noise",
    x=rng.integers(0, 255, (NUM_EXAMPLES, *SHAPE), dtype=np.uint8),
    y=rng.integers(0, 3, NUM_EXAMPLES, dtype=np.int32),
    num_classes=3,
    num_train=NUM_EXAMPLES,
    feature_scale=1 / 255,
    is_synthetic=True,
    description="Noise.",
  )


def _config(num_epochs=2):
  train = config_lib.TrainConfig(
    model="vgg",
    model_options=(
      ("blocks", ((3,),)),
      ("hidden", (6,)),
      ("batch_norm", True),
      ("dropout_rate", 0.3),
    ),
    optimizer=optimizers.OptimizerConfig(
      learning_rate=RATE,
      momentum=MOMENTUM,
      weight_decay=DECAY,
      schedule="piecewise",
      boundaries=(BOUNDARY,),
    ),
    batch_size=BATCH,
    num_epochs=num_epochs,
  )
  return encode.EncodeConfig(
    train=train,
    layer="Conv_0",
    discriminator_rate=DISCRIMINATOR_RATE,
    discriminator_steps=PASSES,
  )


def _jobs(model):
  key = keys_lib.Key(
    secret=0, layer="Conv_0", unit_share=0.4, num_synthetic=NUM_SYNTHETIC
  )
  keys = [dataclasses.replace(key, secret=s) for s in (5, 6)]
  rng = np.random.default_rng(1)
  members = [rng.permutation(NUM_EXAMPLES)[:size] for size in SIZES]
  material = keys_lib.expand(keys, model, SHAPE)
  return encode.make_jobs(members, [m[-3:] for m in members], material)


def _naive(model, key, job, dataset, num_epochs):
  """Algorithm 1 in Python loops over batches without padding."""
  stream = lambda step, number: jax.random.fold_in(key, step * 8 + number)  # noqa: E731
  variables = dict(jax.jit(model.init)(stream(0, INIT), jnp.zeros((1, *SHAPE))))
  params, num = variables.pop("params"), int(job.num_members)
  num_units = job.unit_mask.sum()
  weight = jax.random.normal(stream(0, DISCRIMINATOR), job.unit_mask.shape)
  phi = {"w": weight * job.unit_mask / np.sqrt(num_units), "b": jnp.zeros(())}

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(objective, trained, variables, x, targets, dropout):
    def loss(trained):
      theta, phi = trained
      logits, new = model.apply(
        {"params": theta, **variables},
        x,
        train=True,
        rngs={"dropout": dropout},
        capture_intermediates=True,
        mutable=["batch_stats", "intermediates"],
      )
      if objective == "classify":
        value = -(jax.nn.log_softmax(logits) * targets).sum(-1).mean()
      else:
        layer = new["intermediates"]["Conv_0"]["__call__"][0]
        h = jnp.tanh(layer).reshape(len(x), -1)[:, np.flatnonzero(job.unit_mask)]
        g = jax.nn.sigmoid(h @ phi["w"][np.flatnonzero(job.unit_mask)] + phi["b"])
        value = -jnp.where(targets, jnp.log(g), jnp.log(1 - g)).mean()
      return value, {"batch_stats": new["batch_stats"]}

    return jax.value_and_grad(loss, has_aux=True)(trained)

  def sgd(trained, buffers, grads, rate):
    buffers = jax.tree.map(lambda b, g: MOMENTUM * b + g, buffers, grads)
    return jax.tree.map(lambda p, b: p - rate * b, trained, buffers), buffers

  features = dataset.x.astype(np.float32) / 255
  clients = job.member_idx[:num]
  pool = np.concatenate([job.synthetic, features[clients]])
  pool_is_member = np.r_[
    [True] * NUM_SYNTHETIC, [False] * NUM_SYNTHETIC, job.is_encoded[:num]
  ]
  num_slots, num_synthetic = len(job.member_idx), len(job.synthetic)
  num_steps = -(-num_slots // BATCH)
  pool_batch = -(-(num_slots + num_synthetic) // num_steps)
  classify = jax.tree.map(jnp.zeros_like, params)
  encoding = jax.tree.map(jnp.zeros_like, (params, phi))
  step, metrics = 0, []
  for epoch in range(num_epochs):
    share = 0.1 if epoch >= BOUNDARY else 1.0
    order = recipe_lib.epoch_order(stream(step, ORDER), num_slots, num)[:num]
    orders = [
      recipe_lib.epoch_order(k, num_slots + num_synthetic, num + num_synthetic)
      for k in jax.random.split(stream(step, POOL), PASSES)
    ]
    losses = {"loss": 0.0, "encoding_loss": 0.0}
    for i in range(num_steps):
      here = step
      for number in range(PASSES):
        at = np.asarray(orders[number])[: len(pool)][i * pool_batch :][:pool_batch]
        if len(at):
          dropout = jax.random.fold_in(stream(here, ENCODE_DROPOUT), number)
          (value, variables), grads = gradients(
            "encode", (params, phi), variables, pool[at], pool_is_member[at], dropout
          )
          (params, phi), encoding = sgd(
            (params, phi), encoding, grads, DISCRIMINATOR_RATE * share
          )
          losses["encoding_loss"] += value * len(at) / len(pool) / PASSES
          step = here + 1
      at = clients[np.asarray(order)[i * BATCH :][:BATCH]]
      if len(at):
        (value, variables), grads = gradients(
          "classify", (params, phi), variables, features[at],
          jax.nn.one_hot(dataset.y[at], 3), stream(here, DROPOUT),
        )  # fmt: skip
        decayed = jax.tree.map(lambda g, p: g + DECAY * p, grads[0], params)
        params, classify = sgd(params, classify, decayed, RATE * share)
        losses["loss"] += value * len(at) / num
        step = here + 1
    metrics.append(losses)
  return params, variables, phi, metrics


def test_equals_a_naive_loop():
  dataset, config = _dataset(), _config()
  model = config_lib.make_model(config.train, dataset)
  jobs, key = _jobs(model), jax.random.key(3)
  result = parallel.run(
    encode.recipe(config, dataset),
    key,
    jobs,
    recipe_lib.Data(dataset.x, dataset.y),
    collect=lambda s, job, data: (s.params, s.variables, s.discriminator),
  )
  for m in range(len(SIZES)):
    job = encode.Job(*(a[m] for a in jobs))
    params, variables, phi, metrics = _naive(
      model, jax.random.fold_in(key, m), job, dataset, config.train.num_epochs
    )
    expected = params, variables, encode.Discriminator(phi["w"], phi["b"])
    jax.tree.map(
      lambda a, e, m=m: np.testing.assert_allclose(a[m], e, rtol=2e-3, atol=2e-5),
      result.collected,
      expected,
    )
    for name in ("loss", "encoding_loss"):
      np.testing.assert_allclose(
        result.metrics[name][m], [e[name] for e in metrics], rtol=1e-4
      )
    for name in ("accuracy", "encoding_accuracy"):
      assert ((result.metrics[name] >= 0) & (result.metrics[name] <= 1)).all()


def _first_job(dataset, config):
  jobs = _jobs(config_lib.make_model(config.train, dataset))
  return jax.tree.map(lambda a: jnp.asarray(a[0]), jobs)


def test_starts_from_the_weights_of_ordinary_training():
  dataset, config = _dataset(), _config()
  job, key = _first_job(dataset, config), jax.random.key(1)
  ordinary = config_lib.build(config.train, dataset).recipe
  theirs = jax.jit(lambda k: ordinary.init(k, None).params)(key)
  ours = jax.jit(lambda k: encode.recipe(config, dataset).init(k, job).params)(key)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_make_jobs_refuses_what_cannot_be():
  model = config_lib.make_model(_config().train, _dataset())
  key = keys_lib.Key(secret=0, layer="Conv_0", num_synthetic=2)
  material = keys_lib.expand([key], model, SHAPE)
  rows = np.arange(5)
  with pytest.raises(ValueError, match="members holds 2 models, encoded 1"):
    encode.make_jobs([rows, rows], [rows[:2]], material)
  with pytest.raises(ValueError, match="row 7, which is not a member"):
    encode.make_jobs([rows], [np.array([1, 7])], material)
  with pytest.raises(ValueError, match="holds all members"):
    encode.make_jobs([rows], [rows], material)
  with pytest.raises(ValueError, match="more than once"):
    encode.make_jobs([rows], [np.array([1, 1])], material)
  with pytest.raises(ValueError, match="expected a list of rows"):
    encode.make_jobs([rows], [rows[:0]], material)


def test_bad_settings_are_refused():
  train = _config().train
  for name in ("discriminator_rate", "discriminator_steps"):
    with pytest.raises(ValueError, match=f"{name}=0"):
      encode.EncodeConfig(train=train, layer="Conv_0", **{name: 0})
  clipped = dataclasses.replace(train, clip_norm=1.0)
  with pytest.raises(ValueError, match=r"clip_norm=1\.0"):
    encode.EncodeConfig(train=clipped, layer="Conv_0")
  config = dataclasses.replace(_config(), layer="Conv_9")
  with pytest.raises(ValueError, match="unknown layer 'Conv_9'"):
    encode.recipe(config, _dataset())


def test_a_defended_classifier_is_trained_as_ordinary_training_defends_it():
  # With next to no encoding the two trainings are one: the same weights, order, noise.
  dataset = _dataset()
  train = dataclasses.replace(_config(num_epochs=3).train, model="mlp_256_128")
  train = dataclasses.replace(train, model_options=())
  names = ("l2:0.05", "dropout:0.4", "crop:1", "label_smoothing:0.2", "mixup:1")
  defenses = tuple(registry.parse(name) for name in names)
  config = encode.EncodeConfig(
    train=train, layer="Dense_1", discriminator_rate=1e-12, defenses=defenses
  )
  key = keys_lib.Key(secret=5, layer="Dense_1", num_synthetic=NUM_SYNTHETIC)
  material = keys_lib.expand([key], config_lib.make_model(train, dataset), SHAPE)
  rows = np.arange(12)
  jobs = encode.make_jobs([rows], [rows[:3]], material)
  ours = encode.train(config, dataset, jobs, jax.random.key(2)).variables["params"]

  def ordinary(*defenses):
    plan = registry.plan(defenses, train, dataset, num_members=len(rows))
    result = parallel.run(
      registry.build(plan, dataset).recipe,
      jax.random.key(2),
      recipe_lib.Job(*splits.ragged([rows])),
      recipe_lib.Data(dataset.x, dataset.y),
      collect=lambda state, job, data: state.params,
    )
    return np.concatenate([a.ravel() for a in jax.tree.leaves(result.collected)])

  ours = np.concatenate([a.ravel() for a in jax.tree.leaves(ours)])
  np.testing.assert_allclose(ours, ordinary(*defenses), rtol=1e-3, atol=1e-5)
  for left_out in defenses[-1:]:  # it is not that defences do nothing
    without = ordinary(*(one for one in defenses if one is not left_out))
    assert np.abs(ours - without).max() > 1e-3


@pytest.mark.parametrize(
  "name", ["top_k:3", "label_only", "early_stopping:0.1", "stacking:3", "dp_sgd:1"]
)
def test_defences_of_more_than_a_step_are_refused(name):
  with pytest.raises(ValueError, match=f"defense '{name}' cannot go with an encoding"):
    dataclasses.replace(_config(), defenses=(registry.parse(name),))
