"""Output seams, logits -> logits: what a model's owner lets a caller see.

Each takes logits `[B, C]` and returns the logits that stand for the answer given: their
softmax is the prediction vector that a caller receives. None changes the predicted
class, but that `rounding` may tie it with a class before it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate

Output = Callable[[jax.Array], jax.Array]
# A probability of zero as a logit: that of the smallest normal float32, so that the
# answer stays finite (`outputs.units` takes probabilities alike).
_ZERO = float(np.log(np.finfo(np.float32).tiny))
_LEAST = 1e-6  # of the predicted class, whatever the noise


def top_k(k: int) -> Output:
  """Only the `k` largest probabilities are given; the others share the rest evenly.

  The rest is what a caller can conclude from `k` probabilities of a sum of one.

  Args:
    k: at least 1; with the number of classes or more nothing is hidden.

  Raises:
    ValueError: if `k` is below 1.
  """
  _validate.positive("k", k)

  def output(logits: jax.Array) -> jax.Array:
    num_hidden = logits.shape[-1] - k
    if num_hidden <= 0:
      return logits
    values, index = jax.lax.top_k(logits, k)
    classes = jnp.arange(logits.shape[-1])
    is_given = (index[..., None] == classes).any(axis=-2)
    # The mean of what is hidden, from logits: one minus a sum near one would cancel.
    hidden = jnp.where(is_given, -jnp.inf, logits)
    share = jax.nn.logsumexp(hidden, axis=-1, keepdims=True) - jnp.log(num_hidden)
    # A mean is at most the largest, but for rounding.
    return jnp.where(is_given, logits, jnp.minimum(share, values[..., -1:]))

  return output


def rounding(decimals: int) -> Output:
  """Probabilities are rounded to `decimals` places; the first of equal ones leads.

  Raises:
    ValueError: if `decimals` is below 1.
  """
  _validate.positive("decimals", decimals)
  return lambda logits: _as_logits(jnp.round(jax.nn.softmax(logits), decimals))


def noise(std: float, seed: int = 0) -> Output:
  """Gaussian noise on every probability, without changing the predicted class.

  What falls below zero becomes zero, and if another class leads then, the two change
  places. The noise is a function of the answer and the seed: asking again shows the
  same, so it cannot be averaged away.

  Args:
    std: standard deviation of the noise on a probability.
    seed: the owner's secret.

  Raises:
    ValueError: if `std` is not above 0.
  """
  _validate.positive("std", std)

  def one(logits: jax.Array) -> jax.Array:
    # Rounded, so that an answer which differs in its last bits has the same noise.
    words = jnp.round(jax.nn.log_softmax(logits) * 256).astype(jnp.int32)
    mixed = words.astype(jnp.uint32) * (2 * jnp.arange(len(logits)) + 1).astype(
      jnp.uint32
    )
    digest = (mixed * jnp.uint32(2654435761)).sum(dtype=jnp.uint32)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)
    draws = jax.random.normal(key, logits.shape, jnp.float32)
    noisy = jax.nn.softmax(logits) + std * draws
    noisy = jnp.maximum(noisy, 0)
    label, leader = logits.argmax(), noisy.argmax()
    # Above zero, should the noise leave nothing of any class.
    highest = jnp.maximum(noisy[leader], _LEAST)
    given = noisy.at[leader].set(noisy[label]).at[label].set(highest)
    return _as_logits(given)

  def output(logits: jax.Array) -> jax.Array:
    flat = logits.reshape(-1, logits.shape[-1])
    return jax.vmap(one)(flat).reshape(logits.shape)

  return output


def temperature(value: float) -> Output:
  """Logits are divided by `value`: above 1 all answers are less sure.

  Raises:
    ValueError: if `value` is not above 0.
  """
  _validate.positive("temperature", value)
  return lambda logits: logits / value


def label_only() -> Output:
  """Only the predicted class is given, with probability one.

  Of a single query loss, confidence and entropy then tell no more than whether the
  class is right (Yang, section 3.1: "the only method" left is the correctness attack).
  More is left to attacks on altered copies, and to one that knows how classes differ.
  """

  def output(logits: jax.Array) -> jax.Array:
    return _as_logits(jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]))

  return output


def _as_logits(probabilities: jax.Array) -> jax.Array:
  """Logarithms, finite for a probability of zero."""
  tiny = jnp.finfo(jnp.float32).tiny
  return jnp.where(probabilities > 0, jnp.log(jnp.maximum(probabilities, tiny)), _ZERO)
