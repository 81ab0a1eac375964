"""Defences that make another recipe of a recipe: early stopping and stacking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import splits, types
from jmia.defenses import early_stopping, registry, stacking
from jmia.training import config as config_lib
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

NUM_EPOCHS = 6


def _dataset():
  rng = np.random.default_rng(0)
  y = rng.integers(3, size=60).astype(np.int32)
  x = (np.eye(3)[y] @ rng.normal(0, 2, (3, 8)) + rng.normal(0, 1.5, (60, 8))).astype(
    np.float32
  )
  return types.Dataset("blobs", x, y, 3, 60, 1.0, True, "Blobs.")


DATASET = _dataset()
TRAIN = config_lib.TrainConfig(
  model="mlp", model_options=(("features", (6,)),), batch_size=8,
  num_epochs=NUM_EPOCHS, optimizer=optimizers.OptimizerConfig(learning_rate=0.3),
)  # fmt: skip
PLAIN = config_lib.build(TRAIN, DATASET)
JOBS = recipe_lib.Job(*splits.ragged([np.arange(40), np.arange(5, 35)]))
DATA = recipe_lib.Data(DATASET.x, DATASET.y)


def _first(jobs):
  return jax.tree.map(lambda a: jnp.asarray(a[0]), jobs)


def test_early_stopping_keeps_the_epoch_that_fits_its_validation_split_best():
  wrapped = early_stopping.wrap(PLAIN, 0.2)
  job, key = _first(JOBS), jax.random.key(3)
  held_out = np.asarray(early_stopping.is_validation(key, job, 0.2))
  assert held_out.sum() == 8
  # By hand: the plain recipe on the others, and the loss on those held out.
  order = np.asarray(early_stopping._order(key, job))
  kept = job._replace(member_idx=job.member_idx[order], num_members=jnp.int32(32))
  assert set(order[:32]) == set(np.flatnonzero(~held_out))
  state = jax.jit(wrapped.recipe.init)(key, job)
  plain = jax.jit(PLAIN.recipe.init)(key, kept)
  step, plain_step = jax.jit(wrapped.recipe.update), jax.jit(PLAIN.recipe.update)
  answer = jax.jit(lambda v, x: jax.nn.log_softmax(PLAIN.predict(v, x)))
  found = []
  rows = np.asarray(job.member_idx)[held_out]
  for _ in range(NUM_EPOCHS):
    state, metrics = step(state, job, DATA)
    plain, _ = plain_step(plain, kept, DATA)
    variables = recipe_lib.model_variables(plain)
    log_p = answer(variables, DATASET.x[rows])
    loss = -log_p[np.arange(8), DATASET.y[rows]].mean()
    np.testing.assert_allclose(metrics["validation_loss"], loss, rtol=1e-4)
    found.append((loss, variables))
  best = min(found, key=lambda pair: pair[0])[1]
  assert best is not found[-1][1]  # else the test shows nothing
  kept_best = recipe_lib.model_variables(state)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), kept_best, best
  )


def _steps(rates):
  """A recipe whose parameters move by a rate of each epoch's, and its predictor."""

  def init(key, job):
    zero = jnp.zeros((), jnp.int32)
    return recipe_lib.TrainState({"w": jnp.zeros(3)}, {}, (), key, zero, zero)

  def update(state, job, data):
    w = state.params["w"] + jnp.array(rates)[state.epoch] * jnp.array([1.0, 0, 0])
    state = state._replace(params={"w": w}, epoch=state.epoch + 1)
    return state, {"loss": w[0], "accuracy": jnp.float32(0.5)}

  recipe = recipe_lib.Recipe(init, update, len(rates))
  return config_lib.Trainable(
    recipe, lambda v, x: jnp.zeros((len(x), 3)) + v["params"]["w"]
  )


@pytest.mark.parametrize("wild", [np.nan, np.inf])
def test_a_model_that_diverges_after_a_sound_epoch_ends_there(wild):
  zeros = recipe_lib.Data(DATASET.x, np.zeros(60, np.int32))
  # Class 0 is right: each step fits better, until one is no number.
  rates = [1.0, 2.0, wild, 1.0, 1.0]

  def run(rates, jobs=JOBS):
    return parallel.run(
      early_stopping.wrap(_steps(rates), 0.2).recipe, jax.random.key(0), jobs, zeros,
      collect=lambda state, job, data: state.params, width=2,
    )  # fmt: skip

  result = run(rates)
  assert result.diverged_epoch.tolist() == [-1, -1]
  np.testing.assert_array_equal(result.collected["w"], [[3.0, 0, 0]] * 2)
  np.testing.assert_array_equal(result.metrics["loss"], [[1, 3, 3, 3, 3]] * 2)
  sound = run([1.0, 2.0]).metrics["validation_loss"]
  np.testing.assert_array_equal(result.metrics["validation_loss"][:, :2], sound)
  assert (result.metrics["validation_loss"][:, 2:] == sound[:, 1:]).all()
  # From the first epoch on there is nothing to keep.
  assert run([wild, 1.0]).diverged_epoch.tolist() == [0, 0]


def test_of_one_member_there_is_no_split_to_choose_by():
  jobs = recipe_lib.Job(*splits.ragged([np.arange(1), np.arange(5, 35)]))
  recipe = early_stopping.wrap(PLAIN, 0.2).recipe
  result = parallel.run(recipe, jax.random.key(0), jobs, DATA, width=2)
  assert np.isposinf(result.metrics["validation_loss"][0]).all()
  assert result.diverged_epoch.tolist() == [0, -1]


def test_models_of_different_sizes_hold_out_their_share():
  recipe = early_stopping.wrap(PLAIN, 0.2).recipe

  def collect(state, job, data):
    return early_stopping.is_validation(state.inner.key, job, 0.2)

  result = parallel.run(recipe, jax.random.key(0), JOBS, DATA, collect=collect, width=2)
  np.testing.assert_array_equal(result.collected.sum(axis=1), [8, 6])
  assert not result.collected[1, 30:].any()  # padding
  assert np.isfinite(result.metrics["validation_loss"]).all()


@pytest.mark.parametrize(
  ("names", "number"),
  [(("early_stopping:0.2",), 8), (("stacking:3", "early_stopping:0.2"), 8),
   (("early_stopping:0.2", "stacking:3"), 6), (("stacking:3",), 0)],
)  # fmt: skip
def test_members_that_chose_an_epoch_change_no_gradient(names, number):
  chosen = tuple(map(registry.parse, names))
  plan = registry.plan(chosen, TRAIN, DATASET, num_members=40)
  # Of one epoch, which is the best one whatever it is: then they change nothing at all.
  train = config_lib.with_epochs(plan.train, 1)
  recipe = registry.build(plan._replace(train=train), DATASET).recipe

  def collect(state, job, data):
    variables = recipe_lib.model_variables(state)
    return variables, registry.chose_epoch(chosen, state, job)

  keys = jax.vmap(lambda m: jax.random.fold_in(jax.random.key(0), m))(jnp.arange(2))
  jobs = jax.tree.map(jnp.asarray, JOBS)
  init = jax.jit(jax.vmap(recipe.init))
  update = jax.jit(jax.vmap(recipe.update, (0, 0, None)))
  collected = jax.jit(jax.vmap(collect, (0, 0, None)))

  def trained(x):
    """As `parallel.run` does, whose programs would be compiled for each `x`."""
    data = recipe_lib.Data(jnp.asarray(x), jnp.asarray(DATASET.y))
    state = init(keys, jobs)
    for _ in range(recipe.num_epochs):
      state, _ = update(state, jobs, data)
    return jax.tree.map(np.asarray, collected(state, jobs, data))

  variables, chose = trained(DATASET.x)
  assert chose[0].sum() == number
  assert not chose[1, 30:].any()  # padding
  for changed, is_same in ((chose[0], True), (~chose[0], False)):
    x = DATASET.x.copy()
    x[JOBS.member_idx[0][changed]] += 1
    same = jax.tree.map(
      lambda a, b: np.array_equal(a[0], b[0]), variables, trained(x)[0]
    )
    assert all(jax.tree.leaves(same)) == is_same


def test_stacked_models_share_no_member_and_their_layer_learns_from_others():
  job = _first(JOBS)
  bases, (layer_idx, num_layer) = stacking._parts(jax.random.key(0), job, 3)
  parts = [
    np.asarray(idx)[:num]
    for idx, num in zip(bases.member_idx, bases.num_members, strict=True)
  ]
  parts.append(np.asarray(layer_idx)[:num_layer])
  assert sorted(len(part) for part in parts) == [13, 13, 14]
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(40))


def test_early_stopping_and_stacking_share_no_key(monkeypatch):
  # Else the split and the base models' weights would be of the same bits.
  wrapped = early_stopping.wrap(
    stacking.wrap(PLAIN, 3, num_classes=3, batch_size=8), 0.2
  )
  folded = []
  fold_in = jax.random.fold_in

  def note(key, data):
    if isinstance(data, int) and data > 2**31:
      folded.append((jax.random.key_data(key).tolist(), data))
    return fold_in(key, data)

  monkeypatch.setattr(jax.random, "fold_in", note)
  wrapped.recipe.init(jax.random.key(0), _first(JOBS))
  assert len(folded) == len({str(one) for one in folded}) == 3


def test_a_stacked_model_is_the_layer_on_its_bases_probabilities():
  stacked = stacking.wrap(PLAIN, 3, num_classes=3, batch_size=8)

  def collect(state, job, data):
    variables = recipe_lib.model_variables(state)
    each = jax.vmap(PLAIN.predict, (0, None))
    bases = each(recipe_lib.model_variables(state.bases), data.x)
    return stacked.predict(variables, data.x), bases, state.layer.params

  result = parallel.run(
    stacked.recipe, jax.random.key(0), JOBS, DATA, collect=collect, width=2
  )
  logits, bases, layer = result.collected
  for m in range(2):
    probs = np.hstack(np.asarray(jax.nn.softmax(bases[m])))
    dense = jax.tree.map(lambda a, m=m: a[m], layer)["Dense_0"]
    expected = probs @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(logits[m], expected, rtol=1e-4, atol=1e-5)
  assert not np.allclose(bases[0, 0], bases[0, 1])


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: early_stopping.wrap(PLAIN, 1.0), "share=1.0"),
    (lambda: stacking.wrap(PLAIN, 1, num_classes=3, batch_size=8), "num_parts=1"),
  ],
)
def test_bad_strengths_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
