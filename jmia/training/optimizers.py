"""Optimisers and learning-rate schedules, as settings.

The learning rate is kept out of the optimiser: it depends on the epoch, which is
part of a model's state, so that a model that skips the padding steps of its larger
neighbours keeps its own schedule.
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp
import optax

from jmia import _validate

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "cosine", "piecewise", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """Settings of an optimiser.

  Attributes:
    name: one of `OPTIMIZERS`.
    learning_rate: the rate at epoch 0; the highest of `linear`.
    momentum: SGD's momentum; Adam ignores it.
    nesterov: SGD only: the step is of the gradient plus `momentum` times what the
      momentum has become, as in PyTorch.
    weight_decay: coefficient `d` of `d * w` added to the gradient of every parameter
      `w` before momentum or Adam's scaling, as in PyTorch's `SGD` and `Adam`. It is
      L2 regularisation with the term `d / 2 * |w|^2`.
    schedule: one of `SCHEDULES`; it moves at the start of an epoch.
    boundaries: epochs at which `piecewise` multiplies the rate by `factor`.
    factor: see `boundaries`.
    warmup: share of the training in which `linear` rises from 0; it then falls to 0.
  """

  name: str = "sgd"
  learning_rate: float = 0.1
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 0.0
  schedule: str = "constant"
  boundaries: tuple[int, ...] = ()
  factor: float = 0.1
  warmup: float = 0.0

  def __post_init__(self) -> None:
    _validate.known("optimizer", self.name, OPTIMIZERS)
    _validate.known("schedule", self.schedule, SCHEDULES)
    _validate.positive("learning_rate", self.learning_rate)
    _validate.positive("factor", self.factor)
    _validate.probability("momentum", self.momentum)
    if not 0 <= self.weight_decay < float("inf"):
      raise ValueError(f"weight_decay={self.weight_decay} must be at least 0")
    if (self.schedule == "piecewise") != bool(self.boundaries):
      raise ValueError(
        f"boundaries={self.boundaries} with schedule={self.schedule!r}: boundaries go"
        " with, and only with, 'piecewise'"
      )
    if self.nesterov and (self.name != "sgd" or not self.momentum):
      raise ValueError("nesterov=True goes with 'sgd' that has a momentum, only")
    if not 0 <= self.warmup < 1:
      raise ValueError(f"warmup={self.warmup} must lie in [0, 1)")
    if self.warmup and self.schedule != "linear":
      raise ValueError(
        f"warmup={self.warmup} with schedule={self.schedule!r}: it goes with 'linear'"
      )


def transformation(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns the optimiser without its learning rate: multiply its updates by -rate."""
  scale = {
    "sgd": (
      optax.trace(config.momentum, config.nesterov)
      if config.momentum
      else optax.identity()
    ),
    "adam": optax.scale_by_adam(),
  }[config.name]
  if not config.weight_decay:
    return scale
  return optax.chain(optax.add_decayed_weights(config.weight_decay), scale)


def schedule(
  config: OptimizerConfig, num_epochs: int
) -> Callable[[jax.Array], jax.Array]:
  """Returns the map from an epoch (int32 `[]`, from 0) to its learning rate.

  `cosine` falls from `learning_rate` at epoch 0 towards 0 at `num_epochs`. `linear` is
  made of two straight lines, from 0 at the start and to 0 at the end; an epoch has the
  rate of its middle, the mean of a line that would move at each step.
  """

  def rate(epoch: jax.Array) -> jax.Array:
    if config.schedule == "cosine":
      share = 0.5 * (1 + jnp.cos(jnp.pi * epoch / num_epochs))
    elif config.schedule == "linear":
      at = (epoch + 0.5) / num_epochs
      fall = (1 - at) / (1 - config.warmup)
      share = jnp.minimum(at / config.warmup, fall) if config.warmup else fall
    else:  # constant is piecewise with no boundaries
      passed = sum((epoch >= b).astype(jnp.float32) for b in config.boundaries)
      share = config.factor ** jnp.asarray(passed, jnp.float32)
    return config.learning_rate * share

  return rate
