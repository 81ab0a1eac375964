"""DP-SGD broken on purpose, as it is broken in the wild: would an audit see it?"""

from collections.abc import Callable, Mapping
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jmia import _validate
from jmia.defenses import dp_sgd
from jmia.training import recipe as recipe_lib

# A clipping norm that nothing reaches.
_OPEN = 1e4


class Seams(NamedTuple):
  """Where a mechanism can be broken.

  Attributes:
    gradient: gradient seam.
    batches: steps -> which rows each of them sees.
    optimizer: without a learning rate.
  """

  gradient: recipe_lib.Gradient
  batches: Callable[[int], recipe_lib.Batches]
  optimizer: optax.GradientTransformation


class Private(NamedTuple):
  """A mechanism, and what its gradient seam is made of."""

  run: dp_sgd.Mechanism
  clip_norm: float
  batch_size: int
  microbatch_size: int

  def gradient(
    self, noise_multiplier: float | None = None, clip_norm: float | None = None
  ) -> recipe_lib.Gradient:
    """Returns the gradient seam, with other noise or another norm where given."""
    if noise_multiplier is None:
      noise_multiplier = self.run.noise_multiplier
    return dp_sgd.noisy_gradient(
      clip_norm or self.clip_norm,
      noise_multiplier,
      self.batch_size,
      self.microbatch_size,
    )

  @property
  def noise(self) -> float:
    """Standard deviation of the noise of a step, as it is accounted for."""
    return self.run.noise_multiplier * self.clip_norm / self.batch_size


def seams(private: Private, control: str | None = None) -> Seams:
  """Returns DP-SGD's seams, or those of one of `CONTROLS`.

  Raises:
    ValueError: the control is unknown.
  """
  sound = Seams(
    private.gradient(),
    lambda steps: dp_sgd.poisson(private.run, steps),
    optax.identity(),
  )
  if control is None:
    return sound
  _validate.known("control", control, CONTROLS)
  return CONTROLS[control](private, sound)


def _noise_over_batch(private: Private, sound: Seams) -> Seams:
  less = private.run.noise_multiplier / private.batch_size
  return sound._replace(gradient=private.gradient(less))


def _noise_tenth(private: Private, sound: Seams) -> Seams:
  return sound._replace(gradient=private.gradient(private.run.noise_multiplier / 10))


def _same_noise(private: Private, sound: Seams) -> Seams:
  """A key that no step folds; every model has one of its own."""
  del private

  def gradient(loss: recipe_lib.Loss):
    inner = sound.gradient(loss)

    def repeated(params, variables, batch, key, job):
      own = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), job.model_id)
      return inner(params, variables, batch, key._replace(noise=own), job)

    return repeated

  return sound._replace(gradient=gradient)


def _no_clipping(private: Private, sound: Seams) -> Seams:
  multiplier = private.run.noise_multiplier / _OPEN
  return sound._replace(
    gradient=private.gradient(multiplier, _OPEN * private.clip_norm)
  )


def _batch_clipping(private: Private, sound: Seams) -> Seams:
  """The mean gradient is clipped, and has the noise of a sum of clipped ones."""
  mean = private.gradient(0.0, _OPEN * private.clip_norm)
  clipped = recipe_lib.clip_gradient(private.clip_norm, mean)

  def gradient(loss: recipe_lib.Loss):
    inner = clipped(loss)

    def noised(params, variables, batch, key, job):
      value, grads = inner(params, variables, batch, key, job)
      return value, dp_sgd.add_noise(key.noise, grads, private.noise)

    return noised

  return sound._replace(gradient=gradient)


def _no_poisson(private: Private, sound: Seams) -> Seams:
  """Every batch has the same size, drawn without replacement."""
  size = private.batch_size
  slots = private.run.max_batch_size

  def batches(steps: int) -> recipe_lib.Batches:
    def draw(key: jax.Array, job: recipe_lib.MemberJob) -> recipe_lib.Schedule:
      def one_step(step_key: jax.Array) -> jax.Array:
        order = recipe_lib.epoch_order(step_key, len(job.member_idx), job.num_members)
        return jnp.asarray(job.member_idx)[jnp.resize(order, (slots,))]

      rows = jax.lax.map(one_step, jax.random.split(key, steps))
      filled = jnp.arange(slots) < jnp.minimum(size, job.num_members)
      valid = jnp.broadcast_to(filled, rows.shape)
      return recipe_lib.Schedule(rows, valid, jnp.ones(steps, bool))

    return draw

  return sound._replace(batches=batches)


def _shared_noise(private: Private, sound: Seams) -> Seams:
  """Noise from a key kept in the optimiser, which all models start from alike."""

  def init(params):
    del params
    return jax.random.key(0, impl="threefry2x32")

  def update(grads, key, params=None):
    del params
    key, now = jax.random.split(key)
    return dp_sgd.add_noise(now, grads, private.noise), key

  return sound._replace(
    gradient=private.gradient(0.0),
    optimizer=optax.GradientTransformation(init, update),
  )


CONTROLS: Mapping[str, Callable[[Private, Seams], Seams]] = types.MappingProxyType(
  {
    "noise_over_batch": _noise_over_batch,
    "noise_tenth": _noise_tenth,
    "same_noise": _same_noise,
    "no_clipping": _no_clipping,
    "batch_clipping": _batch_clipping,
    "no_poisson": _no_poisson,
    "shared_noise": _shared_noise,
  }
)
