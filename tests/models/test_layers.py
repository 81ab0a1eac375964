import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.models import layers

NHWC = ("NHWC", "HWIO", "NHWC")


def _arrays(image=(3, 9, 8, 2), kernel=(3, 3, 2, 4)):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in (image, kernel)]


def _assert_close(actual, expected):
  """Equal up to the order of summation of float32."""
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    actual,
    expected,
  )


@functools.partial(jax.jit, static_argnums=0)
def _output_and_gradients(conv, lhs, rhs):
  """The convolution and both derivatives of a fixed, uneven sum of its squares."""

  def loss(lhs, rhs):
    out = conv(lhs, rhs)
    return (jnp.cos(jnp.arange(out.size)).reshape(out.shape) * out**2).sum(), out

  (_, out), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(lhs, rhs)
  return out, *gradients


def _native(strides=(1, 1), padding="SAME", dilation=(1, 1)):
  return lambda lhs, rhs: lax.conv_general_dilated(
    lhs, rhs, strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC
  )


def _patches(strides=(1, 1), padding="SAME", dilation=(1, 1), chunk_bytes=None):
  return lambda lhs, rhs: layers.conv_by_patches(
    lhs,
    rhs,
    strides,
    padding,
    rhs_dilation=dilation,
    dimension_numbers=NHWC,
    chunk_bytes=chunk_bytes,
  )


@pytest.mark.parametrize(
  ("strides", "padding", "dilation", "kernel"),
  [
    ((1, 1), "SAME", (1, 1), (3, 3)),
    ((1, 1), "VALID", (1, 1), (5, 5)),
    ((2, 2), "SAME", (1, 1), (3, 3)),
    ((2, 2), "SAME_LOWER", (1, 1), (5, 5)),
    ((2, 2), "VALID", (1, 1), (1, 1)),
    ((3, 2), "VALID", (1, 1), (3, 5)),
    ((3, 3), ((1, 1), (1, 1)), (1, 1), (3, 3)),
    ((1, 2), ((0, 3), (2, 1)), (1, 1), (1, 3)),
    ((1, 1), ((-1, 2), (1, -1)), (1, 1), (3, 3)),
    ((1, 1), "SAME", (2, 2), (3, 3)),
    ((2, 1), "VALID", (2, 3), (3, 3)),
  ],
)
def test_patches_equal_lax_conv(strides, padding, dilation, kernel):
  lhs, rhs = _arrays(kernel=(*kernel, 2, 4))
  expected = _output_and_gradients(_native(strides, padding, dilation), lhs, rhs)
  conv = _patches(strides, padding, dilation)
  _assert_close(_output_and_gradients(conv, lhs, rhs), expected)


def test_hand_worked_values():
  # A 2x2 window of ones over 1..9, stride 1: sums of the four quadrants.
  lhs = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
  out = _patches(padding="VALID")(lhs, jnp.ones((2, 2, 1, 1)))
  np.testing.assert_array_equal(out[0, :, :, 0], [[12, 16], [24, 28]])


@pytest.mark.parametrize(
  ("batch", "strides", "padding"),
  [
    (4, (1, 1), "SAME"),
    (5, (1, 1), "SAME"),  # the last chunk is half empty
    (7, (2, 2), ((0, 1), (2, 0))),
    (1, (1, 1), "SAME"),
  ],
)
def test_chunks_of_any_batch_equal_the_whole(batch, strides, padding):
  lhs, rhs = _arrays(image=(batch, 6, 6, 2))
  two_examples = 2 * 6 * 6 * 9 * 2 * 4
  expected = _output_and_gradients(_native(strides, padding), lhs, rhs)
  conv = _patches(strides, padding, chunk_bytes=two_examples)
  _assert_close(_output_and_gradients(conv, lhs, rhs), expected)


@pytest.mark.parametrize("chunk_bytes", [None, 1])
def test_vmap_over_models_in_a_scan(chunk_bytes):
  lhs, kernels = _arrays(kernel=(2, 3, 3, 2, 4))

  def train(conv, kernel):
    def step(kernel, _):
      _, _, gradient = _output_and_gradients(conv, lhs, kernel)
      return kernel - 1e-3 * gradient, None

    return lax.scan(step, kernel, length=2)[0]

  conv = _patches(chunk_bytes=chunk_bytes)
  together = jax.jit(jax.vmap(functools.partial(train, conv)))
  one = jax.jit(functools.partial(train, _native()))
  _assert_close(together(kernels), jnp.stack([one(kernel) for kernel in kernels]))


def test_only_large_patches_are_chunked_on_cpu(monkeypatch):
  # 9 taps * 64 channels * 4 bytes * 32 * 32 pixels are 2.25 MiB of patches an example.
  bytes_per_example = 9 * 64 * 4 * 32 * 32
  monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
  assert layers._rows_per_chunk(14, bytes_per_example, None) == 14  # 31.5 MiB
  assert layers._rows_per_chunk(15, bytes_per_example, None) == 1  # 33.75 MiB
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert layers._rows_per_chunk(15, bytes_per_example, None) == 15


def test_chunks_take_less_memory():
  lhs, rhs = _arrays(image=(16, 32, 32, 8), kernel=(3, 3, 8, 8))
  patches = 16 * 32 * 32 * 9 * 8 * 4

  def temporary(chunk_bytes):
    run = functools.partial(_output_and_gradients, _patches(chunk_bytes=chunk_bytes))
    memory = jax.jit(run).lower(lhs, rhs).compile().memory_analysis()
    return memory.temp_size_in_bytes

  assert temporary(2**40) > patches
  assert temporary(2**18) < patches / 2


def test_accumulates_in_the_preferred_dtype():
  lhs, rhs = (jnp.asarray(x, jnp.bfloat16) for x in _arrays())
  arguments = (lhs, rhs, (1, 1), "SAME")
  options = {"dimension_numbers": NHWC, "preferred_element_type": jnp.float32}
  out = layers.conv_by_patches(*arguments, **options)
  assert out.dtype == jnp.float32
  _assert_close(out, lax.conv_general_dilated(*arguments, **options))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"lhs_dilation": (2, 1)}, r"lhs_dilation=\(2, 1\), expected ones"),
    ({"feature_group_count": 2}, "feature_group_count=2, expected 1"),
    ({"batch_group_count": 3}, "batch_group_count=3, expected 1"),
    ({"dimension_numbers": None}, "dimension_numbers=None, expected"),
    ({"dimension_numbers": ("NHWC", "OIHW", "NHWC")}, "dimension_numbers=.*OIHW"),
    ({"padding": ((0, 0), (-6, 0))}, "too small for a window of"),
    ({"rhs": jnp.ones((3, 3, 1, 4))}, "lhs has 2 channels, rhs expects 1"),
    ({"rhs": jnp.ones((3, 2, 4))}, r"rhs \(3, 2, 4\), expected"),
  ],
)
def test_unsupported_arguments_are_refused(options, message):
  lhs, rhs = _arrays()
  arguments = {
    "lhs": lhs,
    "rhs": rhs,
    "window_strides": (1, 1),
    "padding": "VALID",
    "dimension_numbers": NHWC,
  }
  with pytest.raises(ValueError, match=message):
    layers.conv_by_patches(**{**arguments, **options})


@pytest.mark.parametrize(
  ("backend", "lowering", "on_accelerator", "is_patches"),
  [
    ("cpu", "auto", "native", True),
    ("cpu", "native", "patches", False),
    ("gpu", "auto", "native", False),
    ("gpu", "auto", "patches", True),
    ("gpu", "patches", "native", True),
  ],
)
def test_lowering(monkeypatch, backend, lowering, on_accelerator, is_patches):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  layer = layers.conv(4, (3, 3), lowering=lowering, on_accelerator=on_accelerator)
  lowered = layer.conv_general_dilated
  assert lowered is (layers.conv_by_patches if is_patches else None)


def test_unknown_lowering_is_refused():
  with pytest.raises(ValueError, match="unknown lowering 'patch'; did you mean"):
    layers.conv(4, (3, 3), lowering="patch")
  with pytest.raises(ValueError, match="unknown on_accelerator 'auto'"):
    layers.conv(4, (3, 3), lowering="auto", on_accelerator="auto")


@pytest.mark.parametrize("lowering", ["patches", "native"])
def test_conv_layer_has_the_parameters_of_nn_conv(lowering):
  x, _ = _arrays()
  ours = layers.conv(5, (3, 3), lowering=lowering, strides=2)
  theirs = nn.Conv(5, (3, 3), strides=2, kernel_init=nn.initializers.he_normal())
  variables = theirs.init(jax.random.key(1), x)
  jax.tree.map(
    np.testing.assert_array_equal, ours.init(jax.random.key(1), x), variables
  )
  _assert_close(ours.apply(variables, x), theirs.apply(variables, x))


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
  """The name by which what suits a device is chosen; all of it runs on any."""
  monkeypatch.setattr(jax, "default_backend", lambda: request.param)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3)])
def test_max_pool_equals_flax(size):
  x, _ = _arrays(image=(2, *size, 3))  # no ties

  def flax_pool(x):
    return nn.max_pool(x, (2, 2), (2, 2), "VALID")

  def output_and_gradient(pool):
    def loss(x):
      out = pool(x)
      return (jnp.cos(jnp.arange(out.size)).reshape(out.shape) * out).sum(), out

    return jax.jit(jax.grad(loss, has_aux=True))(x)

  jax.tree.map(
    np.testing.assert_array_equal,
    output_and_gradient(layers.max_pool_2x2),
    output_and_gradient(flax_pool),
  )


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
  ("block", "gradient"),
  [
    ([[1, 1], [1, 1]], [[0.25, 0.25], [0.25, 0.25]]),
    ([[1, 1], [1, 0]], [[0.25, 0.25], [0.5, 0]]),
    ([[1, 0], [0, 1]], [[0.5, 0], [0, 0.5]]),
  ],
)
def test_max_pool_splits_the_gradient_of_ties(block, gradient):
  x = jnp.asarray(block, jnp.float32).reshape(1, 2, 2, 1)
  actual = jax.grad(lambda x: layers.max_pool_2x2(x).sum())(x)
  np.testing.assert_array_equal(actual.reshape(2, 2), gradient)


def test_derivatives_of_max_pool_are_one_to_the_bit(monkeypatch):
  """Few values, so many ties of two, three and four; each model has its own."""
  x = np.random.default_rng(3).integers(3, size=(2, 4, 6, 8, 5)).astype(np.float32)

  def gradient():
    def loss(x):
      out = layers.max_pool_2x2(x)
      return (jnp.cos(jnp.arange(out.size)).reshape(out.shape) * out).sum()

    return jax.jit(jax.vmap(jax.grad(loss)))(x)

  expected = gradient()
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  np.testing.assert_array_equal(gradient(), expected)


@pytest.mark.parametrize("shape", [(2, 1, 4, 3), (2, 4, 1, 3), (4, 4, 3)])
def test_max_pool_refuses_what_it_would_empty(shape):
  with pytest.raises(ValueError, match=r"x has shape .*expected"):
    layers.max_pool_2x2(np.zeros(shape))


def test_masked_batch_norm_is_that_of_the_rows_alone():
  class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
      return layers.batch_norm(x, train=True, mask=mask, dtype=jnp.float32)

  x, _ = _arrays(image=(5, 2, 2, 3))
  padded = np.concatenate([x[:2], np.full((3, 2, 2, 3), 9, np.float32), x[2:]])
  mask = np.array([True, True, False, False, False, True, True, True])
  zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
  variables = {
    "params": {"BatchNorm_0": {"scale": ones, "bias": zeros}},
    "batch_stats": {"BatchNorm_0": {"mean": zeros, "var": ones}},
  }

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def gradient(x, mask, weights):
    out, state = Norm().apply(variables, x, mask, mutable=["batch_stats"])
    return (weights * out**3).sum(), state

  weights = np.cos(np.arange(x.size)).reshape(x.shape).astype(np.float32)
  scattered = np.zeros_like(padded)
  scattered[mask] = weights
  expected, statistics = gradient(x, None, weights)
  actual, masked_statistics = gradient(padded, mask, scattered)
  _assert_close(masked_statistics, statistics)
  _assert_close(actual[mask], expected)
  np.testing.assert_array_equal(actual[~mask], 0)
  _assert_close(
    statistics["batch_stats"]["BatchNorm_0"]["mean"], x.mean((0, 1, 2)) / 10
  )


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("is_masked", [True, False])
def test_batch_norm_is_that_of_flax(is_masked):
  """Values, statistics, and derivatives by features, scale and bias."""

  class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
      return layers.batch_norm(x, train=True, mask=mask, dtype=jnp.float32)

  class Theirs(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
      mask = None if mask is None else mask[:, None, None, None]
      return nn.BatchNorm(use_running_average=False, momentum=0.9)(x, mask=mask)

  rng = np.random.default_rng(2)
  x = rng.normal(3, 2, size=(6, 4, 2, 3)).astype(np.float32)
  mask = np.array([1, 1, 0, 1, 0, 1], bool) if is_masked else None
  draw = lambda: rng.normal(1, 0.3, size=3).astype(np.float32)  # noqa: E731
  params = {"BatchNorm_0": {"scale": draw(), "bias": draw()}}
  statistics = {"BatchNorm_0": {"mean": draw(), "var": draw() ** 2}}

  def all_of(module):
    def loss(params, x):
      variables = {"params": params, "batch_stats": statistics}
      y, new = module.apply(variables, x, mask, mutable=["batch_stats"])
      return (jnp.cos(jnp.arange(y.size)).reshape(y.shape) * y**2).sum(), (y, new)

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

  _assert_close(all_of(Ours()), all_of(Theirs()))


def test_global_avg_pool_and_flatten():
  x = jnp.arange(12.0).reshape(1, 2, 3, 2)
  np.testing.assert_array_equal(layers.global_avg_pool(x), [[5, 6]])
  np.testing.assert_array_equal(layers.flatten(x), [np.arange(12)])
