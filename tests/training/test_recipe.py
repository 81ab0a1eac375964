from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
import training_example as example

from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

BATCH = 8
# A model's key is folded with `step * 8 + stream`. These numbers are part of results.
INIT, ORDER, DATA, DROPOUT, NOISE = 0, 1, 2, 3, 4


def _stream(key, step, stream):
  return jax.random.fold_in(key, step * 8 + stream)


def _supervised(model, config=None, num_epochs=3, **kwargs):
  config = config or optimizers.OptimizerConfig()
  return recipe_lib.supervised(
    model,
    optimizers.transformation(config),
    example_shape=example.SHAPE,
    num_classes=example.NUM_CLASSES,
    batch_size=BATCH,
    num_epochs=num_epochs,
    learning_rate=optimizers.schedule(config, num_epochs),
    **kwargs,
  )


def _train(recipe, key, job, data):
  """One model by `recipe`, without `parallel`; job 0 of the jobs."""
  job = jax.tree.map(lambda a: jnp.asarray(a[0]), job)
  state, update = jax.jit(recipe.init)(key, job), jax.jit(recipe.update)
  metrics = []
  for _ in range(recipe.num_epochs):
    state, of_epoch = update(state, job, data)
    metrics.append(of_epoch)
  return state, jax.tree.map(lambda *a: np.stack(a), *metrics)


def _naive(model, transformation, key, members, data, num_epochs):
  """Trains in a Python loop over batches without padding; no code of the library's.

  `transformation` is optax's, learning rate included. The order is the recipe's.
  """
  variables = dict(jax.jit(model.init)(jax.random.fold_in(key, INIT), data.x[:1]))
  params = variables.pop("params")
  opt_state = transformation.init(params)

  @jax.jit
  def step(params, variables, opt_state, x, y, dropout):
    def loss(params):
      logits, new = model.apply(
        {"params": params, **variables},
        x,
        train=True,
        rngs={"dropout": dropout},
        mutable=["batch_stats"],
      )
      log_probabilities = jax.nn.log_softmax(logits)
      mean = -log_probabilities[jnp.arange(len(y)), y].mean()
      return mean, (dict(new), (logits.argmax(1) == y).sum())

    (value, (new, correct)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = transformation.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), new, opt_state, value, correct

  metrics = {"loss": [], "accuracy": []}
  count = 0
  for _ in range(num_epochs):
    order = recipe_lib.epoch_order(
      _stream(key, count, ORDER), len(members), len(members)
    )
    total_loss, total_correct = 0.0, 0
    for start in range(0, len(members), BATCH):
      rows = members[np.asarray(order)[start : start + BATCH]]
      params, variables, opt_state, value, correct = step(
        params,
        variables,
        opt_state,
        data.x[rows],
        data.y[rows],
        _stream(key, count, DROPOUT),
      )
      total_loss += float(value) * len(rows)
      total_correct += int(correct)
      count += 1
    metrics["loss"].append(total_loss / len(members))
    metrics["accuracy"].append(total_correct / len(members))
  return params, variables, metrics


def test_training_is_that_of_a_plain_loop_without_padding():
  # 21 members: two full batches, one of 5. All there is: momentum, weight decay,
  # clipping (which binds), cosine, batch statistics and dropout.
  rates = [0.1, 0.1 * 0.75, 0.1 * 0.25]  # (1 + cos(pi e / 3)) / 2 at e = 0, 1, 2
  plain = optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.add_decayed_weights(0.01),
    optax.sgd(lambda count: jnp.asarray(rates)[count // 3], momentum=0.9),
  )
  config = optimizers.OptimizerConfig(weight_decay=0.01, schedule="cosine")
  recipe = _supervised(example.Net(), config, gradient=recipe_lib.clip_gradient(0.5))
  key, data, jobs = jax.random.key(3), example.data(), example.jobs(21)
  state, metrics = _train(recipe, key, jobs, data)
  params, variables, naive = _naive(
    example.Net(), plain, key, jobs.member_idx[0], data, 3
  )
  example.assert_close(state.params, params, 2e-5)
  example.assert_close(state.variables, variables, 2e-5)
  example.assert_close(metrics["loss"], naive["loss"], 2e-5)
  np.testing.assert_allclose(metrics["accuracy"], naive["accuracy"], rtol=1e-6)
  assert int(state.step) == 9
  assert int(state.epoch) == 3


def test_on_an_accelerator_the_vectors_of_many_layers_are_one_array(monkeypatch):
  key, data, jobs = jax.random.key(3), example.data(), example.jobs(21)

  def trained():
    state, metrics = _train(_supervised(example.Net()), key, jobs, data)
    return state.params, state.variables, state.opt_state, metrics

  state = jax.eval_shape(_supervised(example.Net()).init, key, None)
  expected = trained()
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert len(recipe_lib._packing(state)[0](state)) == len(jax.tree.leaves(state))
  monkeypatch.setattr(recipe_lib, "_MANY_VECTORS", 10)
  packed = jax.eval_shape(recipe_lib._packing(state)[0], state)
  # Biases, scale and their momenta, running mean and variance: 2 * 4 + 2.
  assert len(packed) == len(jax.tree.leaves(state)) - 9
  example.assert_close(trained(), expected, 1e-6)


def test_adam_and_piecewise_rates_are_those_of_a_plain_loop():
  plain = optax.chain(
    optax.add_decayed_weights(0.01),
    optax.adam(lambda count: jnp.where(count < 2 * 2, 0.02, 0.01)),
  )
  config = optimizers.OptimizerConfig(
    name="adam",
    learning_rate=0.02,
    weight_decay=0.01,
    schedule="piecewise",
    boundaries=(2,),
    factor=0.5,
  )
  key, data, jobs = jax.random.key(4), example.data(), example.jobs(11)
  state, metrics = _train(_supervised(example.Linear(), config), key, jobs, data)
  params, _, naive = _naive(example.Linear(), plain, key, jobs.member_idx[0], data, 3)
  example.assert_close(state.params, params, 2e-5)
  example.assert_close(metrics["loss"], naive["loss"], 2e-5)


class _Visits(nn.Module):
  """Counts, with the loss below, how often each row was in a batch."""

  @nn.compact
  def __call__(self, x, **kwargs):
    return self.param("visits", nn.initializers.zeros, (example.NUM_EXAMPLES,))


def _count(params, variables, batch, key, job):
  del key, job
  value = jnp.vdot(params["visits"][batch.rows], batch.valid.astype(jnp.float32))
  return value, (variables, batch.valid)


def test_every_member_is_seen_once_an_epoch_in_every_model():
  config = optimizers.OptimizerConfig(learning_rate=1, momentum=0)
  recipe = _supervised(_Visits(), config, num_epochs=4, loss=_count)
  sizes = (1, 5, 8, 9, 16, 21)  # below, at and above multiples of the batch
  jobs = example.jobs(*sizes)
  result = parallel.run(
    recipe,
    jax.random.key(0),
    jobs,
    example.data(),
    collect=lambda state, job, data: (state.params["visits"], state.step),
    width=4,
  )
  visits, steps = result.collected
  expected = np.zeros((len(sizes), example.NUM_EXAMPLES))
  for row, idx, size in zip(expected, *jobs, strict=True):
    row[idx[:size]] = -4  # gradient descent at rate 1 subtracts the counts
  np.testing.assert_array_equal(visits, expected)
  np.testing.assert_array_equal(steps, [4 * -(-size // BATCH) for size in sizes])
  # `correct` above is true on valid rows: each counted once.
  np.testing.assert_allclose(result.metrics["accuracy"], 1, rtol=1e-6)


def test_a_small_model_beside_larger_ones_trains_as_if_alone():
  # Alone it makes one step an epoch; beside the others two of padding follow, over
  # which batch statistics are 0 / 0. Different programs, hence no bitwise equality.
  recipe = _supervised(
    example.Net(), optimizers.OptimizerConfig(weight_decay=0.01), num_epochs=2
  )

  def run(jobs):
    return parallel.run(
      recipe,
      jax.random.key(0),
      jobs,
      example.data(),
      collect=lambda state, job, data: state._replace(key=()),
      width=3,
    )

  together = run(example.jobs(5, 21, 16))
  alone = run(example.jobs(5))
  assert together.diverged_epoch.tolist() == [-1, -1, -1]
  first = jax.tree.map(lambda a: a[:1], (together.collected, together.metrics))
  example.assert_close(first, (alone.collected, alone.metrics), 2e-5)


def _draws(params, variables, batch, key, job):
  """A loss whose gradient is what the step's keys draw."""
  del job
  drawn = jnp.stack([jax.random.normal(key.dropout), jax.random.normal(key.noise)])
  drawn = jnp.append(drawn, batch.x[0])
  return jnp.vdot(params["sum"], drawn), (variables, batch.valid)


class _Sum(nn.Module):
  @nn.compact
  def __call__(self, x, **kwargs):
    return self.param("sum", nn.initializers.zeros, (3,))


def test_no_two_draws_of_models_steps_and_purposes_are_alike():
  def draw_one(key, batch, job, data):
    return batch._replace(x=jnp.full(BATCH, jax.random.normal(key)))

  recipe = _supervised(
    _Sum(),
    optimizers.OptimizerConfig(learning_rate=1, momentum=0),
    num_epochs=1,
    loss=_draws,
    transform=draw_one,
  )
  job = jax.tree.map(lambda a: jnp.asarray(a[0]), example.jobs(5))
  update = jax.jit(recipe.update)
  key, sums, expected = jax.random.key(0), [], []
  for m in range(3):
    model_key = jax.random.fold_in(key, m)
    state = recipe.init(model_key, job)
    for step in range(4):
      before = state.params["sum"]
      state, _ = update(state, job, example.data())
      sums.append(before - state.params["sum"])
      streams = [_stream(model_key, step, s) for s in (DROPOUT, NOISE, DATA)]
      expected.append([float(jax.random.normal(k)) for k in streams])
  np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-5)
  assert len(np.unique(np.round(expected, 5))) == 3 * 4 * 3


def test_chained_transforms_have_keys_of_their_own():
  def record(name):
    def transform(key, batch, job, data):
      return {**batch, name: float(jax.random.normal(key))}

    return transform

  key = jax.random.key(5)
  drawn = recipe_lib.chain(record("a"), record("b"))(key, {}, None, None)
  assert list(drawn) == ["a", "b"]
  assert drawn["a"] != drawn["b"]


def test_normalize_scales_stored_features():
  batch = recipe_lib.Batch(np.array([[0, 51, 255]], np.uint8), None, None, None)
  x = recipe_lib.normalize(1 / 255)(None, batch, None, None).x
  assert x.dtype == np.float32
  np.testing.assert_allclose(x, [[0, 0.2, 1]], rtol=1e-6)
  assert recipe_lib.as_float(jnp.array([3], jnp.uint8), 1).dtype == np.float32


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_every_byte_is_the_number_it_was_stored_as(monkeypatch, backend):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  x = np.arange(256, dtype=np.uint8)
  as_float = jax.jit(lambda x: recipe_lib.as_float(x, 1.0))(x)
  assert as_float.dtype == jnp.float32
  np.testing.assert_array_equal(as_float, np.arange(256))


def test_epoch_order_is_a_uniform_permutation_with_padding_last():
  num_draws, num_members, num_slots = 6000, 4, 7
  keys = jax.random.split(jax.random.key(1), num_draws)
  orders = jax.vmap(lambda key: recipe_lib.epoch_order(key, num_slots, num_members))(
    keys
  )
  np.testing.assert_array_equal(np.sort(orders, axis=1), [range(num_slots)] * num_draws)
  assert np.all(np.asarray(orders)[:, num_members:] >= num_members)
  # All 24 orders of four members are equally likely.
  codes = np.asarray(orders)[:, :num_members] @ [64, 16, 4, 1]
  _, counts = np.unique(codes, return_counts=True)
  assert len(counts) == 24
  assert stats.chisquare(counts).pvalue > 1e-3


def test_epoch_order_does_not_depend_on_the_padding():
  key = jax.random.key(2)
  alone, padded = (recipe_lib.epoch_order(key, slots, 9) for slots in (9, 30))
  np.testing.assert_array_equal(alone, padded[:9])


def test_cross_entropy_leaves_padding_out():
  # Logits are the features: by hand, -log softmax([log 3, 0, 0])[0] = -log(3/5).
  class Identity(nn.Module):
    def __call__(self, x, **kwargs):
      return x

  x = jnp.log(jnp.array([[3.0, 1, 1], [3, 1, 1], [9, 9, 9]]))
  targets = jnp.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
  batch = recipe_lib.Batch(x, targets, jnp.arange(3), jnp.array([True, True, False]))
  key = recipe_lib.Key(jax.random.key(0), jax.random.key(1))
  loss = recipe_lib.cross_entropy(Identity())
  value, (variables, correct) = loss({}, {}, batch, key, None)
  np.testing.assert_allclose(value, (np.log(5 / 3) + np.log(5)) / 2, rtol=1e-6)
  assert variables == {}
  assert correct.tolist() == [True, False, False]
  none = batch._replace(valid=jnp.zeros(3, bool))
  assert loss({}, {}, none, key, None)[0] == 0


@pytest.mark.parametrize(("max_norm", "expected"), [(1.0, [0.6, 0.8]), (6, [3, 4])])
def test_clip_gradient_by_hand(max_norm, expected):
  gradient = recipe_lib.clip_gradient(max_norm)
  (value, aux), grads = gradient(lambda w: (jnp.vdot(w, w) / 2, "aux"))(
    jnp.array([3.0, 4])
  )
  assert value == 12.5
  assert aux == "aux"
  np.testing.assert_allclose(grads, expected, rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0, -1, float("nan"), float("inf")])
def test_clip_gradient_refuses_a_norm(max_norm):
  with pytest.raises(ValueError, match="clip_norm"):
    recipe_lib.clip_gradient(max_norm)


@pytest.mark.parametrize("name", ["batch_size", "num_epochs"])
def test_supervised_refuses_a_size(name):
  settings = {
    "example_shape": (2,),
    "num_classes": 2,
    "batch_size": 4,
    "num_epochs": 1,
    "learning_rate": lambda epoch: 0.1,
  }
  with pytest.raises(ValueError, match=f"{name}=0"):
    recipe_lib.supervised(example.Linear(), optax.identity(), **{**settings, name: 0})


def test_labels_of_other_rows_are_refused():
  data = example.data()
  short = data._replace(y=data.y[:-1])
  recipe = _supervised(example.Linear(), optimizers.OptimizerConfig())
  with pytest.raises(ValueError, match=r"data\.y holds 39 labels, expected 40"):
    parallel.run(recipe, jax.random.key(0), example.jobs(8, 8), short)


def test_predictor_uses_running_statistics_scale_and_output_seam():
  model = example.Net()
  x = np.arange(32, dtype=np.uint8).reshape(2, *example.SHAPE)
  variables = dict(model.init(jax.random.key(0), x / np.float32(16)))
  expected = model.apply(variables, x / np.float32(16))
  predict = recipe_lib.predictor(model, 1 / 16)
  np.testing.assert_allclose(predict(variables, x), expected, rtol=1e-6)
  masked = recipe_lib.predictor(model, 1 / 16, output=lambda logits: logits.round())
  np.testing.assert_array_equal(masked(variables, x), np.round(expected))
  # Each row alone is the same: no batch statistics, no dropout.
  np.testing.assert_allclose(predict(variables, x[1:]), expected[1:], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 4, 100])
def test_answers_are_those_of_one_batch(batch_size):
  x = jnp.arange(40.0).reshape(10, 4)
  weights = jax.random.normal(jax.random.key(0), (4, 3))
  rows = jnp.array([7, 0, 0, 9, 2, 5, 1])
  found = recipe_lib.answers(
    lambda w, batch: batch @ w, weights, x, rows, batch_size=batch_size
  )
  # Sums of products up to 100, in float32.
  np.testing.assert_allclose(found, x[rows] @ weights, rtol=1e-5, atol=1e-4)


def _linear():
  return recipe_lib.supervised(
    example.Linear(),
    optimizers.transformation(optimizers.OptimizerConfig()),
    example_shape=example.SHAPE,
    num_classes=example.NUM_CLASSES,
    batch_size=8,
    num_epochs=1,
    learning_rate=lambda epoch: jnp.float32(0.1),
  )


@pytest.mark.parametrize(
  ("jobs", "labels", "message"),
  [
    ({"num_members": np.array([8, 0])}, {}, r"num_members=0 must lie in \[1, 8\]"),
    ({"num_members": np.array([9, 5])}, {}, r"num_members=9 must lie in \[1, 8\]"),
    ({"row": 40}, {}, "member_idx holds 40, expected rows of 40"),
    ({"row": -1}, {}, "member_idx holds -1"),
    ({}, {"row": 3}, r"data\.y holds 3, expected classes below 3"),
    ({}, {"row": -1}, r"data\.y holds -1"),
  ],
)
def test_members_that_mean_nothing_are_refused(jobs, labels, message):
  data, good = example.data(), example.jobs(8, 5)
  member_idx, y = good.member_idx.copy(), data.y.copy()
  if "row" in jobs:
    member_idx[1, 4] = jobs["row"]
  if "row" in labels:
    y[member_idx[1, 4]] = labels["row"]
  job = good._replace(
    member_idx=member_idx, num_members=jobs.get("num_members", good.num_members)
  )
  with pytest.raises(ValueError, match=message):
    parallel.run(_linear(), jax.random.key(0), job, data._replace(y=y), width=2)


def test_what_no_model_trains_on_may_be_anything():
  data, jobs = example.data(), example.jobs(8, 5)
  jobs.member_idx[1, 5:] = 99  # padding
  y = data.y.copy()
  y[np.setdiff1d(np.arange(example.NUM_EXAMPLES), jobs.member_idx)] = -1
  _linear().check(jobs, data._replace(y=y))
