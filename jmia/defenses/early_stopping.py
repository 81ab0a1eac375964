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


class State(NamedTuple):
  """State of one model in training, and the best it has been.

  Attributes:
    inner: the recipe's own state.
    best: variables of the best epoch.
    best_loss: `[]` its validation loss.
  """

  inner: Any
  best: dict[str, Any]
  best_loss: jax.Array

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
  `validation_loss`.

  Args:
    trainable: how a model is trained and predicts; its jobs are NamedTuples with
      `member_idx` and `num_members`.
    share: of the members, in (0, 1).

  Raises:
    ValueError: if `share` leaves (0, 1).
  """
  _validate.probability("share", share, open_interval=True)
  recipe, predict = trainable

  def init(key: jax.Array, job: Any) -> State:
    inner = recipe.init(key, _training_job(key, job, share))
    best = recipe_lib.model_variables(inner)
    return State(inner, best, jnp.array(jnp.inf))

  def update(state: State, job: Any, data: Any) -> tuple[State, Any]:
    training_job = _training_job(state.inner.key, job, share)
    inner, metrics = recipe.update(state.inner, training_job, data)
    variables = recipe_lib.model_variables(inner)
    loss = _validation_loss(predict, variables, training_job, job, data, share)
    is_better = loss < state.best_loss
    best = jax.tree.map(
      lambda new, old: jnp.where(is_better, new, old), variables, state.best
    )
    state = State(inner, best, jnp.where(is_better, loss, state.best_loss))
    return state, {**metrics, "validation_loss": loss}

  return config_lib.Trainable(
    recipe_lib.Recipe(init, update, recipe.num_epochs), predict
  )


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
  """Mean cross-entropy on the validation split; infinite if it is empty."""
  num_slots = training_job.member_idx.shape[0]
  most = min(num_slots, math.ceil(share * num_slots) + 1)
  slots = training_job.num_members + jnp.arange(most)
  rows = training_job.member_idx[jnp.minimum(slots, num_slots - 1)]

  logits = recipe_lib.answers(
    predict, variables, data.x, rows, batch_size=_VALIDATION_BATCH
  )
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.y[rows])
  is_in = slots < job.num_members
  return jnp.where(is_in, losses, 0).sum() / is_in.sum()
