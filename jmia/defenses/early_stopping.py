"""Early stopping: the parameters of the epoch with the least validation loss."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jmia import _validate
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

_VALIDATION_BATCH = 128
_METRICS = ("loss", "accuracy", "validation_loss")


class State(NamedTuple):
  """State of one model in training, and the best it has been.

  Attributes:
    inner: the recipe's own state.
    best: variables of the best epoch.
    best_loss: `[]` its validation loss.
    metrics: of the last epoch that all was finite after.
    is_over: `[]` bool, whether an epoch was not: no later one changes anything.
  """

  inner: Any
  best: dict[str, Any]
  best_loss: jax.Array
  metrics: dict[str, jax.Array]
  is_over: jax.Array

  @property
  def params(self) -> Any:
    """The best epoch's parameters, for `recipe.model_variables`."""
    return self.best["params"]

  @property
  def variables(self) -> Any:
    """The best epoch's other collections."""
    return {name: value for name, value in self.best.items() if name != "params"}


def wrap(trainable: config_lib.Trainable, share: float) -> config_lib.Trainable:
  """Returns a recipe that keeps back some members and stops where they are fitted best.

  Of each model's members, `share` are drawn by its key to be the validation split: they
  choose the epoch, and no gradient is taken on them. All epochs are run, since models
  in one program end together; the state keeps the best. The metrics gain
  `validation_loss`. A model that diverges after an epoch that was sound ends there: its
  state and metrics stay what they were, and what it keeps is sound.

  Args:
    trainable: how a model is trained and predicts; its jobs are NamedTuples with
      `member_idx` and `num_members`, its metrics loss and accuracy.
    share: of the members, in (0, 1).

  Raises:
    ValueError: if `share` leaves (0, 1).
  """
  _validate.probability("share", share, open_interval=True)
  recipe, predict = trainable

  def init(key: jax.Array, job: Any) -> State:
    inner = recipe.init(key, _training_job(key, job, share))
    best = recipe_lib.model_variables(inner)
    metrics = {name: jnp.zeros((), jnp.float32) for name in _METRICS}
    return State(inner, best, jnp.array(jnp.inf), metrics, jnp.array(False))

  def update(state: State, job: Any, data: Any) -> tuple[State, Any]:
    training_job = _training_job(state.inner.key, job, share)
    inner, metrics = recipe.update(state.inner, training_job, data)
    variables = recipe_lib.model_variables(inner)
    loss = _validation_loss(predict, variables, training_job, job, data, share)
    metrics = {**metrics, "validation_loss": loss}
    metrics = jax.tree.map(lambda a: a.astype(jnp.float32), metrics)  # as kept
    is_sound = recipe_lib.all_finite((inner, metrics))
    # Before the first sound epoch nothing is kept, and the model has diverged.
    is_over = state.is_over | (~is_sound & jnp.isfinite(state.best_loss))
    is_better = (loss < state.best_loss) & ~is_over
    best_loss = jnp.where(is_better, loss, state.best_loss)
    inner = _choose(is_over, state.inner, inner)
    metrics = _choose(is_over, state.metrics, metrics)
    best = _choose(is_better, variables, state.best)
    return State(inner, best, best_loss, metrics, is_over), metrics

  return config_lib.Trainable(recipe._replace(init=init, update=update), predict)


def _choose(which: jax.Array, one: Any, other: Any) -> Any:
  """Returns one of two trees."""
  return jax.tree.map(lambda a, b: jnp.where(which, a, b), one, other)


def is_validation(key: jax.Array, job: Any, share: float) -> jax.Array:
  """Returns `[K]` bool: which of the job's slots only validate; padding is false.

  Args:
    key: the model's key, `state.inner.key`.
    job: the model's job.
    share: as in `wrap`.
  """
  num_slots = job.member_idx.shape[0]
  order = _order(key, job)
  place = jnp.zeros(num_slots, jnp.int32).at[order].set(jnp.arange(num_slots))
  num_members = jnp.asarray(job.num_members)
  kept = num_members - _num_validation(num_members, share)
  return (place >= kept) & (place < num_members)


def _order(key: jax.Array, job: Any) -> jax.Array:
  """Slots in the model's own order: training, validation, padding."""
  stream = recipe_lib.off_step_key(key)
  return recipe_lib.epoch_order(stream, job.member_idx.shape[0], job.num_members)


def _num_validation(num_members: Any, share: float) -> jax.Array:
  """At least one, and never all."""
  wanted = jnp.round(share * jnp.asarray(num_members)).astype(jnp.int32)
  return jnp.minimum(jnp.maximum(wanted, 1), num_members - 1)


def _training_job(key: jax.Array, job: Any, share: float) -> Any:
  """The job without its validation split, which follows the members that are left."""
  return job._replace(
    member_idx=jnp.asarray(job.member_idx)[_order(key, job)],
    num_members=job.num_members - _num_validation(job.num_members, share),
  )


def _validation_loss(predict, variables, training_job, job, data, share) -> jax.Array:
  """Mean cross-entropy on the validation split; infinite if it is empty.

  So it is of one member: none is left to choose by, and the model has diverged.
  """
  num_slots = training_job.member_idx.shape[0]
  most = min(num_slots, math.ceil(share * num_slots) + 1)
  slots = training_job.num_members + jnp.arange(most)
  rows = training_job.member_idx[jnp.minimum(slots, num_slots - 1)]

  logits = recipe_lib.answers(
    predict, variables, data.x, rows, batch_size=_VALIDATION_BATCH
  )
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.y[rows])
  is_in = slots < job.num_members
  mean = jnp.where(is_in, losses, 0).sum() / jnp.maximum(is_in.sum(), 1)
  return jnp.where(is_in.any(), mean, jnp.inf)
