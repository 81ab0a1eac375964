"""The similarity attack: is the target more like models with the sample, or without?

For each sample there are models trained with it and models trained without it. The
target's answer on the sample is compared with theirs by the Kullback-Leibler
divergence, and the score is how much nearer it is to the models with the sample:

  `mean_out KL(target || model) - mean_in KL(target || model)`.

Source: Long, Bindschaedler & Gunter, "Towards Measuring Membership Privacy", which
Yang's "Membership Inference Attack on Classification Models" names and leaves out for
its cost. Both compare a model's answer with those of models that had and had not the
record; that the two groups enter by the difference of their mean divergences, and that
the target is the first argument, is our choice, since their texts were not at hand.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate


def divergence(
  target_logits: jax.typing.ArrayLike, model_logits: jax.typing.ArrayLike
) -> jax.Array:
  """Returns `KL(p || q) = sum_i p_i (log p_i - log q_i)` of two answers; traceable.

  From logits, so that a class which either model is sure against costs no accuracy.

  Args:
    target_logits: `[..., C]` finite float logits of `p`.
    model_logits: `[..., C]` of `q`, broadcastable.

  Returns:
    `[...]` float32 in nats, at least 0 up to rounding.
  """
  target_logits = jnp.asarray(target_logits, jnp.float32)
  log_p = jax.nn.log_softmax(target_logits)
  log_q = jax.nn.log_softmax(jnp.asarray(model_logits, jnp.float32))
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def score(divergences: np.ndarray, held: np.ndarray) -> np.ndarray:
  """Returns the mean divergence from models without less that from models with.

  Args:
    divergences: `[R, N]` of the target's answer on sample n from model r's.
    held: `[R, N]` bool, whether model r was trained on sample n.

  Returns:
    `[N]` float32; higher = member.

  Raises:
    ValueError: shapes differ, held is not bool, a divergence is not finite, or a
      sample has no model with it or none without (says how many, and the first).
  """
  _validate.shape("divergences", divergences, (None, None))
  _validate.shape("held", held, divergences.shape)
  _validate.finite("divergences", divergences)
  if held.dtype != np.bool_:
    raise ValueError(f"held has dtype {held.dtype}, expected bool")
  with_it = held.sum(axis=0)
  lacking = np.flatnonzero((with_it == 0) | (with_it == len(held)))
  if lacking.size:
    raise ValueError(
      f"{lacking.size} samples have no model with them or none without, first sample "
      f"{lacking[0]}, which {with_it[lacking[0]]} of {len(held)} models held"
    )
  wide = np.asarray(divergences, np.float64)
  mean_in = np.mean(wide, axis=0, where=held)
  mean_out = np.mean(wide, axis=0, where=~held)
  return (mean_out - mean_in).astype(np.float32)
