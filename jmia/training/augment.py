"""Data seams that vary images at random in training."""

from typing import Any

import jax
import jax.numpy as jnp

from jmia.training import recipe as recipe_lib


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
  x = batch.x
  if x.ndim not in (3, 4):
    raise ValueError(f"x has shape {x.shape}, expected images [B, H, W, channels]")
  flipped = jax.random.bernoulli(key, 0.5, x.shape[:1])
  flipped = flipped.reshape(-1, *(1,) * (x.ndim - 1))
  return batch._replace(x=jnp.where(flipped, x[:, :, ::-1], x))
