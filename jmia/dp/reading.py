"""How canaries are trained on, and what a model and its steps tell of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia.defenses import dp_sgd
from jmia.dp import canaries as canaries_lib
from jmia.training import recipe as recipe_lib

Logits = Callable[[Any, Any], jax.Array]  # (params, x [B, ...]) -> [B, C]


class Reader(NamedTuple):
  """How canaries are trained on and read.

  Attributes:
    loss: loss seam of training.
    losses: (params, data) -> each canary's loss `[m]`.
    alignment: (params before, params after, data) -> `[m]` how far the parameters
      moved along each canary's clipped gradient, and `[m]` that gradient's norm, in
      units of the clipping norm.
  """

  loss: recipe_lib.Loss
  losses: Callable[..., jax.Array]
  alignment: Callable[..., tuple[jax.Array, jax.Array]]


def of_rows(
  loss: recipe_lib.Loss, logits: Logits, first: int, clip_norm: float
) -> Reader:
  """Returns the reader of canaries that are rows of the data.

  Args:
    loss: of the network.
    logits: of the network.
    first: the first canary's row; all rows from there on are canaries.
    clip_norm: of DP-SGD.
  """

  def one_loss(params, x, y):
    return -jax.nn.log_softmax(logits(params, x[None]))[0, y]

  def losses(params, data):
    x, y = data.x[first:], data.y[first:]
    return jax.lax.map(lambda row: one_loss(params, *row), (x, y), batch_size=64)

  def alignment(before, after, data):
    moved = jax.tree.map(jnp.subtract, after, before)

    def of_one(row):
      grads = jax.grad(one_loss)(before, *row)
      leaves, steps = jax.tree.leaves(grads), jax.tree.leaves(moved)
      norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in leaves))
      along = -sum(jnp.vdot(g, s) for g, s in zip(leaves, steps, strict=True))
      return along / jnp.maximum(norm, 1e-12), jnp.minimum(norm / clip_norm, 1)

    return jax.lax.map(of_one, (data.x[first:], data.y[first:]), batch_size=16)

  return Reader(loss, losses, alignment)


def of_coordinates(
  loss: recipe_lib.Loss, places: tuple[int, np.ndarray], first: int, clip_norm: float
) -> Reader:
  """Returns the reader of canaries that push one parameter each.

  Args:
    loss: of the network.
    places: of `canaries.coordinates`, which parameter each pushes.
    first: the first canary's row.
    clip_norm: of DP-SGD; the gradient of each is as long.
  """
  leaf, place = places

  def losses(params, data=None):
    del data
    return clip_norm * jax.tree.leaves(params)[leaf].reshape(-1)[place]

  def alignment(before, after, data):
    del data
    return (losses(before) - losses(after)) / clip_norm, jnp.ones(len(place))

  pushed = canaries_lib.coordinate_loss(loss, places, first, clip_norm)
  return Reader(pushed, losses, alignment)


def log_ratio(moved: jax.Array, size: jax.Array, run: dp_sgd.Mechanism) -> jax.Array:
  """Returns log P(moved | in) / P(moved | out) of one step along a canary.

  Out, it is noise of standard deviation sigma; in, `size` is added where the canary is
  sampled: the test that no other beats, by Neyman and Pearson, if nobody else pushes
  along it.

  Args:
    moved: `[m]` in units of the clipping norm.
    size: `[m]` norm of the clipped gradient, in the same unit.
    run: gives sampling rate and sigma.
  """
  rate, variance = run.sampling_rate, run.noise_multiplier**2
  sampled = (size * moved - size**2 / 2) / variance
  return jnp.logaddexp(jnp.log1p(-rate), jnp.log(rate) + sampled)
