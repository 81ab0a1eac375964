"""Training seams that soften what a model learns: mixup and label smoothing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jmia import _validate
from jmia.training import recipe as recipe_lib


def mixup(alpha: float) -> recipe_lib.Transform:
  """Data seam: examples become mixtures with others of their batch, labels too.

  `lambda x + (1 - lambda) x'` with `lambda ~ Beta(alpha, alpha)`, one draw for each
  batch, and partners by a random order of the batch's valid examples. It follows other
  augmentations; features become float32.

  Args:
    alpha: above 0; large values mix evenly.

  Raises:
    ValueError: if `alpha` is not above 0.

  Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization".
  """
  _validate.positive("alpha", alpha)

  def transform(key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any):
    del job, data
    draw, order = jax.random.split(key)
    share = jax.random.beta(draw, alpha, alpha, dtype=jnp.float32)
    # Padding comes last in a batch, and last in this order: it mixes with itself.
    partner = recipe_lib.epoch_order(order, len(batch.valid), batch.valid.sum())
    mixed = [
      share * a.astype(jnp.float32) + (1 - share) * a[partner].astype(jnp.float32)
      for a in (batch.x, batch.targets)
    ]
    return batch._replace(x=mixed[0], targets=mixed[1])

  return transform


def label_smoothing(amount: float) -> Callable[[recipe_lib.Loss], recipe_lib.Loss]:
  """Loss seam: targets `t` become `(1 - amount) t + amount / C`.

  Args:
    amount: in (0, 1).

  Raises:
    ValueError: if `amount` leaves (0, 1).

  Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
  section 7.
  """
  _validate.probability("amount", amount, open_interval=True)

  def smoothed(loss: recipe_lib.Loss) -> recipe_lib.Loss:
    def of_batch(params, variables, batch: recipe_lib.Batch, key, job):
      targets = (1 - amount) * batch.targets + amount / batch.targets.shape[-1]
      return loss(params, variables, batch._replace(targets=targets), key, job)

    return of_batch

  return smoothed
