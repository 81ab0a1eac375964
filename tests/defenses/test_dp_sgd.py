import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jmia import splits
from jmia.defenses import dp_sgd
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

CLIP = 0.5
NUM_FEATURES, NUM_CLASSES = 6, 3


class Net(nn.Module):
  """Two layers, with dropout where it is asked for."""

  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    del mask
    x = nn.relu(nn.Dense(5)(x))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return nn.Dense(NUM_CLASSES)(x)


def _batch(num_slots, num_valid, seed=0):
  rng = np.random.default_rng(seed)
  return recipe_lib.Batch(
    jnp.array(rng.normal(0, 3, (num_slots, NUM_FEATURES)), jnp.float32),
    jax.nn.one_hot(rng.integers(NUM_CLASSES, size=num_slots), NUM_CLASSES),
    jnp.arange(num_slots),
    jnp.arange(num_slots) < num_valid,
  )


def _key(seed):
  return recipe_lib.Key(*jax.random.split(jax.random.key(seed)))


def _params(seed):
  key = jax.random.key(seed)
  return jax.jit(Net().init)(key, jnp.zeros((1, NUM_FEATURES)))["params"]


@jax.jit
@jax.value_and_grad
def _loss_and_gradient(params, x, target):
  """Of one example."""
  logits = Net().apply({"params": params}, x[None])[0]
  return -jnp.vdot(target, jax.nn.log_softmax(logits))


def _naive(params, batch):
  """The sum of clipped gradients, one example after another, in float64."""
  total = jax.tree.map(lambda p: np.zeros(p.shape), params)
  losses = []
  for x, target, valid in zip(batch.x, batch.targets, batch.valid, strict=True):
    if valid:
      value, grads = _loss_and_gradient(params, x, target)
      norm = math.sqrt(
        sum((np.asarray(g, np.float64) ** 2).sum() for g in jax.tree.leaves(grads))
      )
      scale = min(1, CLIP / norm)
      total = jax.tree.map(lambda t, g, s=scale: t + s * np.asarray(g), total, grads)
      losses.append(value)
  return total, np.mean(losses)


def test_the_sum_of_clipped_gradients_is_that_of_a_loop_for_every_vmapped_model():
  # Seven of twelve slots are filled: two of three microbatches, one in part.
  gradient = dp_sgd.noisy_gradient(CLIP, 0.0, 8, 4)
  value_and_grad = gradient(recipe_lib.cross_entropy(Net()))
  params = [_params(0), _params(1)]
  batches = [_batch(12, 7, 0), _batch(12, 4, 1)]
  stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
  (value, (_, correct)), grads = jax.jit(
    jax.vmap(value_and_grad, (0, None, 0, None, None))
  )(stack(params), {}, stack(batches), _key(0), None)
  for m in range(2):
    total, loss = _naive(params[m], batches[m])
    jax.tree.map(
      lambda g, t, m=m: np.testing.assert_allclose(g[m], t / 8, rtol=2e-5, atol=1e-7),
      grads,
      total,
    )
    np.testing.assert_allclose(value[m], loss, rtol=1e-5)
    said = Net().apply({"params": params[m]}, batches[m].x).argmax(-1)
    right = (said == batches[m].targets.argmax(-1)) & batches[m].valid
    assert correct[m].sum() == right.sum()


def test_no_example_moves_the_sum_by_more_than_the_clipping_norm():
  value_and_grad = jax.jit(
    dp_sgd.noisy_gradient(CLIP, 0.0, 1, 4)(
      recipe_lib.cross_entropy(Net(dropout_rate=0.3))
    )
  )
  full = _batch(8, 8)
  # A member less, and a member that is not even finite.
  fewer = full._replace(valid=jnp.arange(8) < 7)
  broken = full._replace(x=full.x.at[7].set(jnp.inf))
  grads = [value_and_grad(_params(0), {}, b, _key(0), None)[1] for b in (full, fewer)]
  distance = optax_norm(jax.tree.map(jnp.subtract, *grads))
  assert 0 < distance <= CLIP * (1 + 1e-5)
  with_broken = value_and_grad(_params(0), {}, broken, _key(0), None)[1]
  assert optax_norm(jax.tree.map(jnp.subtract, with_broken, grads[1])) <= CLIP * 1.001


def optax_norm(tree):
  return math.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(tree)))


def test_noise_is_each_models_own_and_of_the_right_size():
  def loss(params, variables, batch, key, job):
    del key, job
    return 0.0 * params["w"].sum(), (variables, batch.valid)

  num = 40_000
  value_and_grad = dp_sgd.noisy_gradient(CLIP, 3.0, 8, 4)(loss)
  keys = jax.vmap(lambda k: recipe_lib.Key(k, k))(jax.random.split(jax.random.key(0)))
  params = {"w": jnp.zeros(num), "b": jnp.zeros(num)}
  # Without a single example the step is of noise alone.
  grads = jax.jit(jax.vmap(value_and_grad, (None, None, None, 0, None)))(
    params, {}, _batch(8, 0), keys, None
  )[1]
  noise = np.stack([grads["w"], grads["b"]]).reshape(4, num)
  std = 3.0 * CLIP / 8
  # The standard error of a standard deviation is std / sqrt(2 n).
  np.testing.assert_allclose(noise.std(axis=1), std, rtol=4 / math.sqrt(2 * num))
  assert (abs(noise.mean(axis=1)) < 4 * std / math.sqrt(num)).all()
  correlations = np.corrcoef(noise)[np.triu_indices(4, 1)]
  assert (abs(correlations) < 4 / math.sqrt(num)).all()


def _mechanism(**changes):
  fields = {
    "epsilon": 1.0, "delta": 1e-5, "num_members": 50, "noise_multiplier": 1.0,
    "sampling_rate": 0.2, "num_steps": 10, "max_batch_size": 48,
  }  # fmt: skip
  return dp_sgd.Mechanism(**{**fields, **changes})


def test_batches_are_poisson_samples_of_the_members():
  num_steps, num_members = 2000, 40
  job = recipe_lib.Job(100 + jnp.arange(50), jnp.int32(num_members))
  batches = dp_sgd.poisson(_mechanism(), num_steps)
  rows, valid, taken = jax.jit(batches)(jax.random.key(0), job)
  assert taken.all()
  held = np.zeros((num_steps, 50), bool)
  step, slot = np.nonzero(valid)
  held[step, rows[step, slot] - 100] = True
  assert held.sum() == valid.sum()  # no member twice in a batch
  assert not held[:, num_members:].any()  # padding is no member
  rate = held[:, :num_members].mean(axis=0)
  assert (abs(rate - 0.2) < 4.5 * math.sqrt(0.16 / num_steps)).all()
  # Independent of one another: the batch size is binomial, and no two go together.
  size = held.sum(axis=1)
  expected = num_members * 0.16
  np.testing.assert_allclose(size.var(), expected, rtol=4.5 * math.sqrt(2 / num_steps))
  together = np.corrcoef(held[:, :num_members].T)[np.triu_indices(num_members, 1)]
  assert abs(together).max() < 5 / math.sqrt(num_steps)
  again = np.corrcoef(held[:-1, 0], held[1:, 0])[0, 1]
  assert abs(again) < 4.5 / math.sqrt(num_steps)


def test_a_rate_of_one_takes_everyone():
  job = recipe_lib.Job(jnp.arange(50), jnp.int32(50))
  everyone = _mechanism(sampling_rate=1.0, max_batch_size=64)
  _, valid, _ = dp_sgd.poisson(everyone, 3)(jax.random.key(0), job)
  np.testing.assert_array_equal(valid.sum(axis=1), 50)


def test_epsilon_is_that_of_dp_accounting():
  import dp_accounting
  from dp_accounting import pld

  event = dp_accounting.SelfComposedDpEvent(
    dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(2.0)), 100
  )
  found = dp_sgd.epsilon(2.0, 0.1, 100, 1e-5)
  fine = pld.PLDAccountant(
    dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    value_discretization_interval=1e-4,
  )
  fine.compose(event)
  # A coarser grid, and a thousandth less of delta: larger, but hardly.
  exact = fine.get_epsilon(1e-5)
  assert exact <= found <= 1.01 * exact


def test_epsilon_of_full_batches_is_that_of_one_gaussian():
  # 16 steps at noise 8 are one at noise 2, whose delta at epsilon is known in closed
  # form (Balle & Wang, theorem 8).
  found = dp_sgd.epsilon(8.0, 1.0, 16, 1e-5)
  delta = stats.norm.cdf(1 / 4 - found * 2) - math.exp(found) * stats.norm.cdf(
    -1 / 4 - found * 2
  )
  assert 0.97e-5 < delta <= 1e-5


def test_the_mechanism_keeps_to_what_was_asked():
  config = dp_sgd.DPConfig(epsilon=2.0, delta=1e-4)
  run = dp_sgd.mechanism(config, num_members=500, batch_size=50, num_epochs=4)
  assert run.num_steps == 40
  assert run.sampling_rate == 0.1
  assert 1.97 < run.epsilon <= 2.0
  assert run.epsilon == dp_sgd.epsilon(run.noise_multiplier, 0.1, 40, 1e-4)
  # The chance of an overflow, in a run or a neighbour's, costs a thousandth of delta.
  overflow = 40 * stats.binom.sf(run.max_batch_size, 501, 0.1)
  assert overflow * (1 + math.exp(run.epsilon)) <= 1e-3 * 1e-4
  assert run.max_batch_size % config.microbatch_size == 0
  assert run.max_batch_size < 150


def test_without_an_epsilon_there_is_no_noise():
  config = dp_sgd.DPConfig(epsilon=math.inf)
  run = dp_sgd.mechanism(config, num_members=500, batch_size=50, num_epochs=4)
  assert (run.epsilon, run.noise_multiplier) == (math.inf, 0)


class Linear(nn.Module):
  """Softmax regression without intercepts."""

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    del train, mask
    return nn.Dense(NUM_CLASSES, use_bias=False)(x)


def _train(epsilon, num_models):
  """Losses on a canary of models trained with it, and of as many without it."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(33, NUM_FEATURES)).astype(np.float32)
  y = rng.integers(NUM_CLASSES, size=33).astype(np.int32)
  # The canary alone has the last feature: only it, and noise, move those weights.
  x[:, -1], x[32] = 0, 4 * np.eye(NUM_FEATURES)[-1]
  run = dp_sgd.mechanism(
    dp_sgd.DPConfig(epsilon=epsilon, delta=1e-3),
    num_members=32, batch_size=16, num_epochs=10,
  )  # fmt: skip
  recipe = recipe_lib.supervised(
    Linear(), optimizers.transformation(optimizers.OptimizerConfig(momentum=0.0)),
    example_shape=(NUM_FEATURES,), num_classes=NUM_CLASSES, batch_size=16,
    num_epochs=10, learning_rate=lambda epoch: 4.0,
    gradient=dp_sgd.noisy_gradient(1.0, run.noise_multiplier, 16, 16),
    batches=dp_sgd.poisson(run, 2),
  )  # fmt: skip
  members = [np.arange(33)] * num_models + [np.arange(32)] * num_models
  predict = recipe_lib.predictor(Linear(), 1.0)

  def collect(state, job, data):
    logits = predict(recipe_lib.model_variables(state), data.x[32:])
    return -jax.nn.log_softmax(logits)[0, data.y[32]]

  result = parallel.run(
    recipe, jax.random.key(0),
    recipe_lib.Job(*splits.ragged(members)), recipe_lib.Data(x, y),
    collect=collect, width=2 * num_models,
  )  # fmt: skip
  assert (result.diverged_epoch < 0).all()
  return np.split(result.collected, 2)


@pytest.mark.parametrize("epsilon", [1.0, math.inf])
def test_an_audit_respects_the_bound_and_would_see_it_broken(epsilon):
  # Calling "with the canary" below a loss, at nine losses: TPR <= e^eps FPR + delta.
  # Each rate is put at the end of its 99.9% interval that speaks against a violation.
  num_models, delta = 100, 1e-3
  with_it, without = _train(epsilon, num_models)
  levels = np.quantile(without, [0, *np.linspace(0.1, 0.9, 9)]) - 1e-6
  tp, fp = ((losses[:, None] <= levels).sum(axis=0) for losses in (with_it, without))
  tpr_low = stats.beta.ppf(0.001, tp, num_models - tp + 1)  # NaN where tp is 0
  fpr_high = stats.beta.ppf(0.999, fp + 1, num_models - fp)
  is_broken = (tpr_low > math.exp(1.0) * fpr_high + delta).any()
  assert is_broken == math.isinf(epsilon)


def test_an_empty_batch_takes_its_step():
  run = _mechanism(sampling_rate=1e-6, max_batch_size=16)
  recipe = recipe_lib.supervised(
    Net(), optimizers.transformation(optimizers.OptimizerConfig()),
    example_shape=(NUM_FEATURES,), num_classes=NUM_CLASSES, batch_size=16,
    num_epochs=1, learning_rate=lambda epoch: 0.1,
    gradient=dp_sgd.noisy_gradient(1.0, 1.0, 16, 16),
    batches=dp_sgd.poisson(run, 2),
  )  # fmt: skip
  data = recipe_lib.Data(jnp.zeros((4, NUM_FEATURES)), jnp.zeros(4, jnp.int32))
  job = recipe_lib.Job(jnp.arange(4), jnp.int32(4))
  before = jax.jit(recipe.init)(jax.random.key(0), job)
  after, metrics = jax.jit(recipe.update)(before, job, data)
  assert after.step == 2
  assert optax_norm(jax.tree.map(jnp.subtract, after.params, before.params)) > 0
  assert metrics["loss"] == metrics["accuracy"] == 0


def _with_statistics():
  value_and_grad = dp_sgd.noisy_gradient(1.0, 1.0, 4, 4)(lambda *args: None)
  statistics = {"batch_stats": {"mean": jnp.zeros(2)}}
  return value_and_grad({}, statistics, _batch(4, 4), _key(0), None)


def _with_many_slots():
  job = recipe_lib.Job(jnp.arange(60), jnp.int32(50))
  return dp_sgd.poisson(_mechanism(), 1)(jax.random.key(0), job)


def _sized(**changes):
  sizes = {"num_members": 100, "batch_size": 10, "num_epochs": 1, **changes}
  return dp_sgd.mechanism(dp_sgd.DPConfig(epsilon=1.0, delta=1e-3), **sizes)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (_with_statistics, "batch_stats, which DP-SGD cannot protect"),
    (_with_many_slots, "60 slots .* num_members=50, or one more"),
    (lambda: dp_sgd.DPConfig(epsilon=0), "epsilon=0 must be above 0"),
    (lambda: dp_sgd.DPConfig(epsilon=math.nan), "epsilon=nan"),
    (lambda: dp_sgd.DPConfig(epsilon=1, delta=0), "delta=0"),
    (lambda: dp_sgd.DPConfig(epsilon=1, clip_norm=0), "clip_norm=0"),
    (lambda: dp_sgd.DPConfig(epsilon=1, microbatch_size=0), "microbatch_size=0"),
    (lambda: _sized(batch_size=101), "batch_size=101 is above num_members=100"),
    (lambda: _sized(num_epochs=0), "num_epochs=0"),
    (lambda: _sized(num_members=2000), "delta=0.001 must be below"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize("epsilon", [1e-9, 300.0, 1e4, 1e9, 1e300])
def test_any_epsilon_has_a_mechanism_that_keeps_to_it(epsilon):
  config = dp_sgd.DPConfig(epsilon=epsilon, delta=1e-5)
  run = dp_sgd.mechanism(config, num_members=40, batch_size=40, num_epochs=15)
  assert 0 <= run.epsilon <= epsilon
  # All members in every step: 15 Gaussians are one, whose delta has a closed form
  # (Balle and Wang, Improving the Gaussian Mechanism, theorem 8).
  mu = math.sqrt(15) / run.noise_multiplier
  sooner, later = run.epsilon / mu - mu / 2, run.epsilon / mu + mu / 2
  delta = stats.norm.sf(sooner) - math.exp(run.epsilon + stats.norm.logsf(later))
  assert delta <= 1e-5
  if epsilon > 700:
    assert run.max_batch_size > 40  # nothing can overflow
