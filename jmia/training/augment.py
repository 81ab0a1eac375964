"""Data seams that vary images, or rows of bits, at random in training."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate
from jmia.models import layers
from jmia.training import recipe as recipe_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
  """How a network's own recipe varies images; by default it does not.

  Attributes:
    crop: pixels by which an image moves at most in either direction; what comes in is
      its reflection.
    flip: whether half of the images are mirrored left to right.
    cutout: side in pixels of a square, all of it inside, that is painted over.
    fill: the square's colour, where white is 1 (`layers.per_channel`).
  """

  crop: int = 0
  flip: bool = False
  cutout: int = 0
  fill: tuple[float, ...] = (0.0,)

  def __post_init__(self) -> None:
    for name in ("crop", "cutout"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 0")


def transforms(config: AugmentConfig, white: float) -> list[recipe_lib.Transform]:
  """Returns the data seams that a configuration means, in the order of its fields.

  Args:
    config: the settings.
    white: the value of a white pixel, `1 / feature_scale`.
  """
  found: list[recipe_lib.Transform] = []
  if config.crop:
    found.append(random_crop(config.crop, mode="reflect"))
  if config.flip:
    found.append(random_flip)
  if config.cutout:
    fill = [white * value for value in config.fill]
    found.append(cutout(config.cutout, fill=fill, inside=True))
  return found


def random_flip(
  key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any
) -> recipe_lib.Batch:
  """Data seam: mirrors each image left to right with probability 1/2.

  Args:
    key: of the step; every example has a draw of its own.
    batch: `x` is `[B, H, W]` or `[B, H, W, channels]`.
    job: unused.
    data: unused.

  Raises:
    ValueError: if `x` is not images.
  """
  del job, data
  x = _images(batch)
  flipped = jax.random.bernoulli(key, np.float32(0.5), x.shape[:1])
  flipped = flipped.reshape(-1, *(1,) * (x.ndim - 1))
  return batch._replace(x=jnp.where(flipped, x[:, :, ::-1], x))


def random_crop(padding: int, mode: str = "constant") -> recipe_lib.Transform:
  """Data seam: pads images on all sides and cuts one of the old size out.

  Args:
    padding: pixels; an image moves by up to as many in either direction.
    mode: with what, as `numpy.pad`: `"constant"` is zeros.

  Raises:
    ValueError: if `padding` is below 1; when traced, if `x` is not images.
  """
  _validate.positive("padding", padding)

  def crop(key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any):
    del job, data
    x = _images(batch)
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))[: x.ndim]
    padded = jnp.pad(x, edges, mode)
    corner = jax.random.randint(key, (len(x), 2), 0, 2 * padding + 1, jnp.int32)

    def one(image: jax.Array, at: jax.Array) -> jax.Array:
      start = (at[0], at[1], jnp.int32(0))[: image.ndim]
      return jax.lax.dynamic_slice(image, start, x.shape[1:])

    return batch._replace(x=jax.vmap(one)(padded, corner))

  return crop


def cutout(
  side: int, *, fill: Sequence[float] = (0.0,), inside: bool = False
) -> recipe_lib.Transform:
  """Data seam: paints over a square at a random place of each image.

  Its centre is any pixel, so that the square may reach beyond the image.

  Args:
    side: of the square, in pixels.
    fill: its colour, in units of x as stored (`layers.per_channel`).
    inside: whether it lies in the image, at any place where it fits.

  Raises:
    ValueError: if `side` is below 1; when traced, if `x` is not images, or a square
      that must lie inside is larger than they are.

  Source: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks
  with Cutout".
  """
  _validate.positive("side", side)

  def cut(key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any):
    del job, data
    x = _images(batch)
    if inside and side > min(x.shape[1:3]):
      raise ValueError(f"cutout={side} does not fit into images of {x.shape[1:3]}")
    size = jnp.array(x.shape[1:3])[:, None]
    num_places = size - side + 1 if inside else size
    low = jax.random.randint(key, (2, len(x)), 0, num_places, jnp.int32)
    low = low if inside else low - side // 2
    within = [
      (jnp.arange(size) >= start[:, None]) & (jnp.arange(size) < start[:, None] + side)
      for size, start in zip(x.shape[1:3], low, strict=True)
    ]
    hole = within[0][:, :, None] & within[1][:, None, :]
    hole = hole.reshape(*hole.shape, *(1,) * (x.ndim - 3))
    colour = layers.per_channel(fill, x.shape[3] if x.ndim == 4 else 1)
    if jnp.issubdtype(x.dtype, jnp.integer):
      colour = colour.round()
    return batch._replace(x=jnp.where(hole, colour.astype(x.dtype), x))

  return cut


def rand_augment(
  magnitude: float, white: float, num_operations: int = 2
) -> recipe_lib.Transform:
  """Data seam: a few of seven distortions, drawn for each image, as RandAugment does.

  Brightness, contrast, solarisation, shifts and shears and a rotation; an image gets
  `num_operations` different ones of them, of random sign. All of them are one look-up
  of the nearest pixel and one pass over the values, with neutral parameters where an
  operation was not drawn, instead of seven images of which one is taken.

  Args:
    magnitude: in (0, 1]; 1 changes brightness and contrast by 0.9, solarises all,
      shifts by 0.45 of the side, shears by 0.3 and rotates by 30 degrees, the ranges
      of RandAugment's reference code.
    white: the value of a white pixel, `1 / feature_scale`.
    num_operations: of seven.

  Raises:
    ValueError: if an argument is out of range; when traced, if `x` is not images.

  Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a
  reduced search space"; its operations on histograms and colours are left out.
  """
  _validate.positive("magnitude", magnitude)
  _validate.probability("magnitude", magnitude)
  _validate.positive("white", white)
  if not 1 <= num_operations <= _NUM_OPERATIONS:
    raise ValueError(
      f"num_operations={num_operations} must be between 1 and {_NUM_OPERATIONS}"
    )

  def augment(key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any):
    del job, data
    x = _images(batch)
    which, sign = jax.random.split(key)
    draws = jax.random.uniform(which, (len(x), _NUM_OPERATIONS), jnp.float32)
    rank = draws.argsort().argsort()
    amount = magnitude * jax.random.rademacher(sign, rank.shape, jnp.float32)
    amount = jnp.where(rank < num_operations, amount, 0.0)
    return batch._replace(x=jax.vmap(lambda i, a: _distort(i, a, white))(x, amount))

  return augment


_NUM_OPERATIONS = 7


def _distort(image: jax.Array, amount: jax.Array, white: float) -> jax.Array:
  """Distorts one image; `amount` `[7]` is 0 for operations that were not drawn."""
  brightness, contrast, solarize, down, right, shear, turn = amount
  height, width = image.shape[:2]
  # Where each pixel comes from, about the centre of the image.
  y, x = jnp.meshgrid(
    jnp.arange(height) - (height - 1) / 2,
    jnp.arange(width) - (width - 1) / 2,
    indexing="ij",
  )
  angle = turn * jnp.pi / 6
  x = x + 0.3 * shear * y
  from_y = jnp.cos(angle) * y - jnp.sin(angle) * x + 0.45 * down * height
  from_x = jnp.sin(angle) * y + jnp.cos(angle) * x + 0.45 * right * width
  row = jnp.round(from_y + (height - 1) / 2).astype(jnp.int32)
  column = jnp.round(from_x + (width - 1) / 2).astype(jnp.int32)
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  moved = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
  inside = inside.reshape(*inside.shape, *(1,) * (image.ndim - 2))
  value = jnp.where(inside, moved, 0).astype(jnp.float32) / white
  value = value * (1 + 0.9 * brightness)
  mean = value.mean()
  value = jnp.clip(mean + (value - mean) * (1 + 0.9 * contrast), 0, 1)
  value = jnp.where(value > 1 - jnp.abs(solarize), 1 - value, value)
  value = value * white
  if jnp.issubdtype(image.dtype, jnp.integer):
    value = jnp.round(value)
  return value.astype(image.dtype)


def bit_flip(rate: float) -> recipe_lib.Transform:
  """Data seam: turns each bit of the features over with probability `rate`.

  Args:
    rate: in (0, 1].

  Raises:
    ValueError: if `rate` is out of range; when traced, if `x` is not uint8, in which
      bits are stored.
  """
  _validate.positive("rate", rate)
  _validate.probability("rate", rate)

  def flip(key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any):
    del job, data
    if batch.x.dtype != jnp.uint8:
      raise ValueError(f"x has dtype {batch.x.dtype}, expected bits as uint8")
    flipped = jax.random.bernoulli(key, np.float32(rate), batch.x.shape)
    return batch._replace(x=batch.x ^ flipped.astype(jnp.uint8))

  return flip


def _images(batch: recipe_lib.Batch) -> jax.Array:
  """Returns a batch's features; raises ValueError unless they are images."""
  if batch.x.ndim not in (3, 4):
    raise ValueError(
      f"x has shape {batch.x.shape}, expected images [B, H, W, channels]"
    )
  return batch.x
