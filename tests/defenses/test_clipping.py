"""Clipped sums by norms beside a loop that makes every gradient."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.defenses import clipping
from jmia.models import cnn, mlp

NUM, NUM_FEATURES, NUM_CLASSES = 12, 6, 3
MAX_NORM = 0.5


class Net(nn.Module):
  """Two dense layers, one without intercepts, and dropout between."""

  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, key):
    x = nn.relu(nn.Dense(5, dtype=self.dtype)(x))
    keep = jax.random.bernoulli(key, 0.7, x.shape)
    return nn.Dense(NUM_CLASSES, use_bias=False, dtype=self.dtype)(
      jnp.where(keep, x, 0)
    )


class Twice(nn.Module):
  """A layer that is called twice."""

  @nn.compact
  def __call__(self, x, key):
    layer = nn.Dense(NUM_FEATURES)
    return layer(nn.relu(layer(x)))[:, :NUM_CLASSES]


class Rows(nn.Module):
  """A layer that sees two rows of an example."""

  @nn.compact
  def __call__(self, x, key):
    return nn.Dense(NUM_CLASSES)(x.reshape(1, 2, -1)).sum(axis=1)


class Scaled(nn.Module):
  """A parameter beside the layer's."""

  @nn.compact
  def __call__(self, x, key):
    scale = self.param("scale", nn.initializers.ones, (NUM_FEATURES,))
    return nn.Dense(NUM_CLASSES)(x * scale)


class Looped(nn.Module):
  """A layer in a loop, which is traced once and called three times."""

  @nn.compact
  def __call__(self, x, key):
    def step(layer, x, _):
      return nn.tanh(layer(x)), None

    layer = nn.Dense(NUM_FEATURES)
    over = nn.scan(
      step, variable_broadcast="params", split_rngs={"params": False}, length=3
    )
    return over(layer, x, None)[0][:, :NUM_CLASSES]


def _loss(net, penalty=0.0):
  """The cross-entropy of one example, which may read a parameter too."""

  def loss(params, example):
    x, target, seed = example
    logits = net.apply({"params": params}, x, jax.random.key(seed[0]))
    logits = logits.astype(jnp.float32)
    value = -jnp.vdot(target, jax.nn.log_softmax(logits))
    kernel = jax.tree.leaves(params)[1]
    return value + penalty * jnp.sum(kernel**2), logits.argmax(-1)[0]

  return loss


def _examples(seed=0):
  rng = np.random.default_rng(seed)
  return (
    jnp.array(rng.normal(0, 2, (NUM, NUM_FEATURES)), jnp.float32),
    jax.nn.one_hot(rng.integers(NUM_CLASSES, size=NUM), NUM_CLASSES),
    jnp.arange(NUM),
  )


def _params(net, seed=0):
  key = jax.random.key(seed)
  return net.init(key, _examples()[0][:1], key)["params"]


def _ones(examples):
  return jax.tree.map(lambda leaf: leaf[:, None], examples)


def _one(examples, n):
  """Example `n`, as a batch of one."""
  return jax.tree.map(lambda leaf: leaf[n : n + 1], examples)


def _by_loop(loss, params, examples, valid):
  """The clipped sum, one gradient after another, in float64; and their norms."""
  total = jax.tree.map(lambda p: np.zeros(p.shape), params)
  found = []
  for n, ok in enumerate(valid):
    one = _one(examples, n)
    grads = jax.grad(loss, has_aux=True)(params, one)[0]
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(grads)]
    norm = math.sqrt(sum((leaf**2).sum() for leaf in leaves))
    found.append(norm)
    scale = min(1.0, MAX_NORM / max(norm, 1e-30)) if ok else 0.0
    total = jax.tree.map(lambda t, g, s=scale: t + s * np.asarray(g), total, grads)
  return total, np.array(found)


def _assert_close(found, expected, rtol=2e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6),
    found,
    expected,
  )


def _can(net, penalty=0.0):
  one = jax.tree.map(lambda leaf: leaf[0], _ones(_examples()))
  return clipping.can_measure(_loss(net, penalty), _params(net), one)


def _sum(loss, params, examples, valid, chunk=4):
  return clipping.clipped_sum(loss, params, examples, valid, MAX_NORM, chunk)


@pytest.mark.parametrize("num_valid", [0, 3, 7, 12])
def test_sums_are_those_of_a_loop(num_valid):
  loss, params, examples = _loss(Net()), _params(Net()), _examples()
  assert _can(Net())
  valid = jnp.arange(NUM) < num_valid
  found = jax.jit(lambda p: _sum(loss, p, examples, valid))(params)
  expected, _ = _by_loop(loss, params, examples, np.asarray(valid))
  _assert_close(found.total, expected)
  each = [
    loss(params, jax.tree.map(lambda a, n=n: a[n : n + 1], examples))
    for n in range(NUM)
  ]
  np.testing.assert_allclose(
    found.value, sum(float(value) for value, _ in each[:num_valid]), rtol=1e-5
  )
  np.testing.assert_array_equal(
    found.aux, [int(aux) if n < num_valid else 0 for n, (_, aux) in enumerate(each)]
  )


def test_every_vmapped_model_has_its_own():
  loss, examples = _loss(Net()), _examples()
  params = [_params(Net(), seed) for seed in range(3)]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
  valid = jnp.arange(NUM) < jnp.array([5, 12, 1])[:, None]
  found = jax.jit(jax.vmap(lambda p, v: _sum(loss, p, examples, v)))(stacked, valid)
  for m in range(3):
    expected, _ = _by_loop(loss, params[m], examples, np.asarray(valid[m]))
    _assert_close(jax.tree.map(lambda leaf, m=m: leaf[m], found.total), expected)


def test_norms_are_exact_to_rounding():
  loss, params, examples = _loss(Net()), _params(Net()), _examples()
  found = jax.jit(clipping.norms, static_argnums=0)(loss, params, _ones(examples))
  _, expected = _by_loop(loss, params, examples, np.ones(NUM, bool))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_loss_that_reads_parameters_has_no_smaller_norm():
  # By the layers and by the penalty an example moves the same parameter.
  loss, params, examples = _loss(Net(), penalty=0.3), _params(Net()), _examples()
  assert _can(Net(), penalty=0.3)
  found = clipping.norms(loss, params, _ones(examples))
  _, exact = _by_loop(loss, params, examples, np.ones(NUM, bool))
  assert (found >= exact * (1 - 1e-5)).all()
  assert (found > exact * 1.01).any()
  # So an example's part is at most the clipping norm, and along its own gradient.
  for n in range(NUM):
    one = _one(examples, n)
    total = _sum(loss, params, one, jnp.ones(1, bool), chunk=1).total
    assert _norm(total) <= MAX_NORM * (1 + 1e-5)


def test_a_canary_that_is_a_parameter_alone_is_measured_exactly():
  plain = _loss(Net())

  def loss(params, example):
    value, aux = plain(params, example)
    pushed = 7.0 * jax.tree.leaves(params)[1].ravel()[2]
    return jnp.where(example[0][0, 0] > 0, pushed, value), aux

  params, examples = _params(Net()), _examples()
  found = clipping.norms(loss, params, _ones(examples))
  expected, exact = _by_loop(loss, params, examples, np.ones(NUM, bool))
  assert (abs(exact - 7.0) < 1e-6).sum() in range(1, NUM)
  np.testing.assert_allclose(found, exact, rtol=1e-5)
  _assert_close(_sum(loss, params, examples, jnp.ones(NUM, bool)).total, expected)


def _norm(tree):
  return math.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(tree)))


@pytest.mark.parametrize("net", [Twice(), Rows(), Scaled(), Looped()])
def test_other_networks_have_each_gradient_made(net):
  assert not _can(net)
  loss, params, examples = _loss(net), _params(net), _examples()
  valid = jnp.arange(NUM) < 7
  found = _sum(loss, params, examples, valid)
  expected, _ = _by_loop(loss, params, examples, np.asarray(valid))
  _assert_close(found.total, expected)
  each = [
    loss(params, jax.tree.map(lambda a, n=n: a[n : n + 1], examples))[1]
    for n in range(7)
  ]
  np.testing.assert_array_equal(found.aux[:7], each)


def test_half_precision_has_each_gradient_made():
  # There a weight would be rounded into the product, after clipping.
  assert not _can(Net(dtype=jnp.bfloat16))
  assert not _can(Net(dtype=jnp.float16))


def test_a_convolution_has_each_gradient_made_and_an_mlp_has_not():
  def can(model, shape):
    x = jnp.zeros((1, *shape))
    params = model.init(jax.random.key(0), x)["params"]

    def loss(params, x):
      return model.apply({"params": params}, x).sum(), jnp.zeros(())

    return clipping.can_measure(loss, params, x)

  assert not can(cnn.CNN(10, (4,)), (8, 8, 1))
  assert can(mlp.MLP(10, (16, 8), dropout_rate=0.5), (8, 8, 1))


def test_a_gradient_that_is_not_finite_is_no_part_of_the_sum():
  loss, params, (x, targets, seeds) = _loss(Net()), _params(Net()), _examples()
  valid = jnp.arange(NUM) < 8
  expected, _ = _by_loop(loss, params, (x, targets, seeds), np.arange(NUM) < 7)
  for value in (jnp.inf, jnp.nan, 1e38):
    broken = (x.at[7].set(value), targets, seeds)
    found = _sum(loss, params, broken, valid)
    distance = jax.tree.map(lambda a, b: a - b, found.total, expected)
    assert _norm(distance) <= MAX_NORM * (1 + 1e-5)
  # Nor is padding, whatever it holds.
  padded = (x.at[8:].set(jnp.nan), targets, seeds)
  with_padding, without = (
    _sum(loss, params, of, valid) for of in (padded, (x, targets, seeds))
  )
  _assert_close(with_padding.total, without.total, rtol=1e-6)


def test_no_gradient_of_an_example_is_held():
  net = mlp.MLP(NUM_CLASSES, (200, 200))
  x = jnp.ones((16, 100))
  params = net.init(jax.random.key(0), x[:1])["params"]

  def loss(params, x):
    return net.apply({"params": params}, x)[0, 0], jnp.zeros(())

  def temporary(way):
    lowered = jax.jit(
      lambda p: way(loss, p, x[:, None], jnp.ones(16, bool), MAX_NORM, 16).total
    ).lower(params)
    return lowered.compile().memory_analysis().temp_size_in_bytes

  size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  assert temporary(clipping._by_gradients) > 10 * size
  assert temporary(clipping._by_norms) < 3 * size
