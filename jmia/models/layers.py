"""Layers the models share: a convolution that is fast in a scan and under vmap.

XLA's CPU convolution takes a slow path inside a `scan` or `while` body
(https://github.com/jax-ml/jax/issues/12868), and under `vmap` over per-model weights
it becomes a grouped convolution. A matrix product has neither trouble, so there a
convolution is written as one.
"""

from collections.abc import Iterator, Sequence
import contextlib
import contextvars
import functools
import itertools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jmia import _validate

LOWERINGS = ("auto", "patches", "native")

# Measured on two CPU cores: with its large layers in chunks ResNet-18 trains in about
# half the memory, the layers in about the same time. Where patches are few the loop
# only costs time.
_CHUNK_ABOVE_BYTES = 32 * 2**20
_CHUNK_BYTES = 4 * 2**20

# Below so many channels (an image's) patches are joined by columns, then by rows: one
# copies as many bytes a time as a tap has channels, and few at a time are slow.
_FEW_CHANNELS = 8

_NHWC = ("NHWC", "HWIO", "NHWC")

_ON_ACCELERATOR: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "on_accelerator", default=None
)


@contextlib.contextmanager
def on_accelerator(lowering: str | None) -> Iterator[None]:
  """Traced inside, `"auto"` means `lowering` on an accelerator; None changes nothing.

  Raises:
    ValueError: if `lowering` is neither `"patches"` nor `"native"` nor None.
  """
  if lowering is not None:
    _validate.known("lowering", lowering, LOWERINGS[1:])
  token = _ON_ACCELERATOR.set(lowering)
  try:
    yield
  finally:
    _ON_ACCELERATOR.reset(token)


def conv(
  features: int,
  kernel_size: tuple[int, int],
  *,
  lowering: str,
  on_accelerator: str = "patches",
  **options: Any,
) -> nn.Conv:
  """A 2-D `nn.Conv` whose convolution is lowered as asked; parameters are the same.

  Args:
    features: number of output channels.
    kernel_size: height and width of the window.
    lowering: `"patches"` (`conv_by_patches`), `"native"` (`lax.conv_general_dilated`)
      or `"auto"`: patches on CPU; elsewhere what the function `on_accelerator` was
      told, else this argument `on_accelerator`.
    on_accelerator: what `"auto"` means where the default backend is not CPU. Small
      networks want patches (one batched matrix product for all models); a network
      that fills the device alone wants the native convolution.
    **options: further arguments of `nn.Conv`.

  Returns:
    The layer, bound to the module whose `__call__` is running, if any.

  Raises:
    ValueError: if `lowering` or `on_accelerator` is unknown.
  """
  _validate.known("lowering", lowering, LOWERINGS)
  _validate.known("on_accelerator", on_accelerator, LOWERINGS[1:])
  if lowering == "auto":
    elsewhere = _ON_ACCELERATOR.get() or on_accelerator
    lowering = "patches" if jax.default_backend() == "cpu" else elsewhere
  return nn.Conv(
    features,
    kernel_size,
    kernel_init=nn.initializers.he_normal(),  # every convolution here feeds a ReLU
    conv_general_dilated=conv_by_patches if lowering == "patches" else None,
    **options,
  )


def conv_by_patches(
  lhs,
  rhs,
  window_strides,
  padding,
  lhs_dilation=None,
  rhs_dilation=None,
  dimension_numbers=None,
  feature_group_count=1,
  batch_group_count=1,
  precision=None,
  preferred_element_type=None,
  *,
  chunk_bytes: int | None = None,
):
  """`lax.conv_general_dilated` for 2-D NHWC images, as one matrix product.

  The shifted slices of the padded image, one per kernel tap, are concatenated to
  patches `[B * H' * W', kh * kw * I]` and multiplied by the flattened kernel. The
  product is kept 2-D: with the image axes left in, it is 1.4 to 1.8 times slower.
  Equal to `lax.conv_general_dilated` up to the order of summation, in its
  derivatives too.

  Args:
    lhs: `[B, H, W, I]` images.
    rhs: `[kh, kw, I, O]` kernel.
    window_strides: two ints.
    padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"` or two pairs (low, high).
    lhs_dilation: only None or ones; transposed convolution is not supported.
    rhs_dilation: two ints or None, the spacing of the kernel's taps.
    dimension_numbers: whatever `lax.conv_dimension_numbers` takes, if it comes to
      `("NHWC", "HWIO", "NHWC")`. As in lax, None means NCHW and so is refused.
    feature_group_count: only 1.
    batch_group_count: only 1.
    precision: precision of the matrix product.
    preferred_element_type: dtype of the accumulated result.
    chunk_bytes: build patches for as many examples at a time as fit into this, at
      least one, and rebuild them in the backward pass. None decides by size: on CPU,
      4 MiB where the patches of the batch exceed 32 MiB, else the batch at once.

  Returns:
    `[B, H', W', O]`.

  Raises:
    ValueError: if an argument asks for what is not supported, or the window does not
      fit into the padded image.
  """
  _check_supported(lhs, rhs, dimension_numbers, lhs_dilation)
  if feature_group_count != 1:
    raise ValueError(f"feature_group_count={feature_group_count}, expected 1")
  if batch_group_count != 1:
    raise ValueError(f"batch_group_count={batch_group_count}, expected 1")
  dilation = tuple(rhs_dilation or (1, 1))
  window = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
  pads = padding
  if isinstance(padding, str):
    pads = lax.padtype_to_pads(lhs.shape[1:3], window, window_strides, padding)
  out = [
    (n + low + high - w) // s + 1
    for n, (low, high), w, s in zip(
      lhs.shape[1:3], pads, window, window_strides, strict=True
    )
  ]
  if min(out) < 1:
    raise ValueError(
      f"lhs has images of {lhs.shape[1:3]}, too small for a window of {tuple(window)} "
      f"at padding={padding}"
    )

  def multiply(images, kernel):
    padded = lax.pad(
      images,
      jnp.zeros((), images.dtype),
      ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)),
    )
    patches = _patches(padded, rhs.shape[:2], out, window_strides, dilation)
    product = jnp.matmul(
      patches.reshape(-1, patches.shape[-1]),
      kernel.reshape(-1, kernel.shape[-1]),
      precision=precision,
      preferred_element_type=preferred_element_type,
    )
    return product.reshape(images.shape[0], *out, -1)

  bytes_per_example = out[0] * out[1] * rhs[..., 0].size * lhs.dtype.itemsize
  rows = _rows_per_chunk(lhs.shape[0], bytes_per_example, chunk_bytes)
  if rows >= lhs.shape[0]:
    return multiply(lhs, rhs)
  return _in_chunks(multiply, lhs, rhs, rows)


def _check_supported(lhs, rhs, dimension_numbers, lhs_dilation) -> None:
  """Raises ValueError unless this is a plain 2-D NHWC convolution."""
  if lhs.ndim != 4 or rhs.ndim != 4:
    raise ValueError(
      f"lhs has shape {lhs.shape} and rhs {rhs.shape}, expected [B, H, W, I] and "
      "[kh, kw, I, O]"
    )
  layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  if layout != lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC):
    raise ValueError(f"dimension_numbers={dimension_numbers}, expected {_NHWC}")
  if lhs.shape[3] != rhs.shape[2]:
    raise ValueError(f"lhs has {lhs.shape[3]} channels, rhs expects {rhs.shape[2]}")
  if any(d != 1 for d in lhs_dilation or ()):
    raise ValueError(f"lhs_dilation={lhs_dilation}, expected ones")


def _patches(padded, kernel_shape, out, strides, dilation):
  """`[B, H', W', kh * kw * I]`: the images under each kernel tap, side by side."""

  def shifted(x, axis, tap):
    start = tap * dilation[axis - 1]
    stop = start + (out[axis - 1] - 1) * strides[axis - 1] + 1
    return lax.slice_in_dim(x, start, stop, strides[axis - 1], axis)

  rows, columns = map(range, kernel_shape)
  if padded.shape[3] < _FEW_CHANNELS:
    in_row = lax.concatenate([shifted(padded, 2, tap) for tap in columns], 3)
    return lax.concatenate([shifted(in_row, 1, tap) for tap in rows], 3)
  taps = [
    shifted(shifted(padded, 1, row), 2, column)
    for row, column in itertools.product(rows, columns)
  ]
  return lax.concatenate(taps, 3)


def _rows_per_chunk(batch, bytes_per_example, chunk_bytes) -> int:
  """How many examples' patches to hold at once; chunks are made of nearly one size."""
  if chunk_bytes is None:
    is_large = batch * bytes_per_example > _CHUNK_ABOVE_BYTES
    # An accelerator would starve on small chunks.
    if not is_large or jax.default_backend() != "cpu":
      return batch
    chunk_bytes = _CHUNK_BYTES
  most = max(1, chunk_bytes // max(1, bytes_per_example))
  num_chunks = -(-batch // most)
  return -(-batch // max(1, num_chunks))


def _in_chunks(multiply, images, kernel, rows):
  """`multiply(images, kernel)`, `rows` examples at a time."""
  batch = images.shape[0]
  num_chunks = -(-batch // rows)
  # Rows of zeros fill the last chunk: dropped below, so they get no gradient.
  images = jnp.pad(images, ((0, num_chunks * rows - batch), (0, 0), (0, 0), (0, 0)))
  chunks = images.reshape(num_chunks, rows, *images.shape[1:])
  # The backward pass is a loop of its own, so XLA cannot merge what it recomputes
  # with the forward pass, as it does with a checkpoint outside a loop.
  remat = jax.checkpoint(multiply, prevent_cse=False)
  out = lax.map(lambda chunk: remat(chunk, kernel), chunks)
  return out.reshape(-1, *out.shape[2:])[:batch]


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """The largest of each 2x2 block, as `nn.max_pool(x, (2, 2), (2, 2), "VALID")`.

  Written as maxima of four strided slices: five times faster on CPU than a
  `reduce_window`. Where the largest values tie, the gradient is split among them
  (equally in pairs: 1/4 each of four, and 1/4, 1/4, 1/2 of three), while
  `nn.max_pool` gives all of it to the first.

  Args:
    x: `[B, H, W, C]`; a last odd row or column is dropped.

  Returns:
    `[B, H // 2, W // 2, C]`, of x's dtype.

  Raises:
    ValueError: if x is not four-dimensional or H or W is below 2.
  """
  if x.ndim != 4 or min(x.shape[1:3]) < 2:
    raise ValueError(f"x has shape {x.shape}, expected [B, H >= 2, W >= 2, C]")
  x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
  # A GPU is bound by the bytes moved. On a CPU the derivative below, equal to the bit,
  # takes up to 2 % of a CNN's step more than that of the maxima.
  return _largest(x) if jax.default_backend() == "cpu" else _pool(x)


def _places(x: jax.Array) -> tuple[jax.Array, ...]:
  """The four places of each 2x2 block, by rows."""
  upper, lower = x[:, 0::2], x[:, 1::2]
  return upper[:, :, 0::2], upper[:, :, 1::2], lower[:, :, 0::2], lower[:, :, 1::2]


def _largest(x: jax.Array) -> jax.Array:
  a, b, c, d = _places(x)
  return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


@jax.custom_vjp
def _pool(x: jax.Array) -> jax.Array:
  """`_largest`, whose derivative needs no values but four bits of each block."""
  return _largest(x)


def _pool_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns each block's largest value, and as bits which of its four values are so."""
  largest = _largest(x)
  bits = [(p == largest).astype(jnp.uint8) << i for i, p in enumerate(_places(x))]
  return largest, bits[0] | bits[1] | bits[2] | bits[3]


def _pool_backward(bits: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  """Gives a block's gradient to its largest values."""

  def share(these: int, others: int):
    """What goes to some places of a block, of what goes to them and to others."""
    halves = (bits & these != 0).astype(gradient.dtype)
    return halves * jnp.where(bits & others != 0, 0.5, 1).astype(gradient.dtype)

  rows = (gradient * share(0b0011, 0b1100), gradient * share(0b1100, 0b0011))
  out = jnp.zeros((), gradient.dtype)
  for place in range(4):
    row, column = divmod(place, 2)
    of_place = rows[row] * share(1 << place, 1 << (place ^ 1))
    edges = ((0, 0, 0), (row, 1 - row, 1), (column, 1 - column, 1), (0, 0, 0))
    out = out + lax.pad(of_place, jnp.zeros((), gradient.dtype), edges)
  return (out,)


_pool.defvjp(_pool_forward, _pool_backward)


def global_avg_pool(x: jax.Array) -> jax.Array:
  """The mean of each channel over its image: `[B, H, W, C]` to `[B, C]`."""
  return x.mean(axis=(1, 2))


def flatten(x: jax.Array) -> jax.Array:
  """All but the batch axis as one: `[B, ...]` to `[B, D]`."""
  return x.reshape(x.shape[0], -1)


def batch_norm(
  x: jax.Array, *, train: bool, mask: jax.Array | None, dtype: jax.typing.DTypeLike
) -> jax.Array:
  """Batch normalisation over all but the last axis, inside a module's `__call__`.

  Args:
    x: `[B, ..., C]`.
    train: normalise by the batch and update `batch_stats` (which must be mutable), or
      normalise by the running statistics.
    mask: `[B]` bool, the rows that count towards the batch's statistics; None for all.
      The rows left out are normalised by the statistics of the others. With no row at
      all the statistics are NaN: the caller keeps its old state on such a step.
    dtype: dtype of the result; statistics are always float32.

  Returns:
    `[B, ..., C]` of `dtype`.

  Raises:
    ValueError: if mask is not of shape `[B]`.
  """
  if mask is not None and mask.shape != x.shape[:1]:
    raise ValueError(f"mask has shape {mask.shape}, expected {x.shape[:1]}")
  # momentum 0.9 is PyTorch's default of 0.1, with which Hu et al. and Yang trained; the
  # running variance here is the biased one.
  return BatchNorm(momentum=0.9, epsilon=1e-5, dtype=dtype)(x, train=train, mask=mask)


class BatchNorm(nn.Module):
  """`nn.BatchNorm` over all but the last axis, its derivative written out.

  Parameters and statistics have the names and values of `nn.BatchNorm`'s.

  Attributes:
    momentum: share of the running statistics that stays.
    epsilon: added to the variance.
    dtype: of the result.
  """

  momentum: float
  epsilon: float
  dtype: jax.typing.DTypeLike

  @nn.compact
  def __call__(self, x, *, train: bool, mask: jax.Array | None):
    """Returns x normalised; for `train` and `mask` see `batch_norm`."""
    shape = x.shape[-1:]
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    var = self.variable("batch_stats", "var", jnp.ones, shape)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    if not train:
      factor = lax.rsqrt(var.value + self.epsilon) * scale
      return ((x - mean.value) * factor + bias).astype(self.dtype)
    mask = jnp.ones(x.shape[0], bool) if mask is None else mask
    y, *moments = _normalized(x, scale, bias, mask, self.epsilon)
    if not self.is_initializing():
      for running, of_batch in zip((mean, var), moments, strict=True):
        running.value = self.momentum * running.value + (1 - self.momentum) * of_batch
    return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalized(x, scale, bias, mask, epsilon):
  """Returns x normalised by its batch, in float32, and the batch's mean and variance.

  The derivative reads x and the gradient twice: for two sums, and for the result. What
  is made of the moments has none.
  """
  return _normalized_forward(x, scale, bias, mask, epsilon)[0]


def _normalized_forward(x, scale, bias, mask, epsilon):
  counted = jnp.where(_of_rows(mask, x), x.astype(jnp.float32), 0)
  share = 1 / (mask.sum(dtype=jnp.float32) * x[0, ..., 0].size)
  total, squares = _two_sums(counted, counted * counted)
  mean = total * share
  var = jnp.maximum(0.0, squares * share - mean * mean)
  factor = lax.rsqrt(var + epsilon)
  y = (x - mean) * (factor * scale) + bias
  return (y, mean, var), (x, scale, mask, mean, factor, share)


def _normalized_backward(epsilon, residuals, gradients):
  del epsilon
  x, scale, mask, mean, factor, share = residuals
  gradient = gradients[0]
  unit = (x - mean) * factor
  of_bias, of_scale = _two_sums(gradient, gradient * unit)
  through = jnp.where(_of_rows(mask, x), share, 0) * (of_bias + unit * of_scale)
  of_x = (gradient - through) * (factor * scale)
  return of_x.astype(x.dtype), of_scale, of_bias, None


_normalized.defvjp(_normalized_forward, _normalized_backward)


def _of_rows(mask, x):
  return mask.reshape(-1, *[1] * (x.ndim - 1))


def _two_sums(first, second):
  """Sums over all but the last axis; on an accelerator in one pass and one program."""
  axes = tuple(range(first.ndim - 1))
  if jax.default_backend() == "cpu":
    return first.sum(axes), second.sum(axes)

  def add(a, b):
    return a[0] + b[0], a[1] + b[1]

  zero = np.zeros((), first.dtype)
  return lax.reduce((first, second), (zero, zero), add, axes)


def logits(x: jax.Array, num_classes: int) -> jax.Array:
  """The output layer, inside a module's `__call__`: `[B, D]` to `[B, C]` float32.

  Float32 whatever the compute dtype: rounded to bfloat16, the losses of members and
  non-members tie.
  """
  return nn.Dense(num_classes, dtype=jnp.float32, name="logits")(x.astype(jnp.float32))


def per_channel(values: Sequence[float], num_channels: int) -> np.ndarray:
  """Returns a value for each channel, or, of another number of values, their mean.

  What is said of red, green and blue so holds for images in grey.
  """
  given = np.asarray(values, np.float32)
  return given if len(given) == num_channels else given.mean(keepdims=True)


def check_images(x: jax.Array) -> None:
  """Raises ValueError unless x is a batch of NHWC images."""
  if x.ndim != 4:
    raise ValueError(f"x has shape {x.shape}, expected images [B, H, W, C]")
