"""Model stacking: models of disjoint parts of the data, and a layer that combines them.

No model sees another's members, and the layer is fitted on members that none of them
has seen.

Source: Salem et al., "ML-Leaks: Model and Data Independent Membership Inference Attacks
and Defenses on Machine Learning Models", section VI-B. There the layer is trained when
the others are done; here it is trained beside them, an epoch of each in turn, so that
models in one program need no branch.
"""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.training import config as config_lib
from jmia.training import optimizers
from jmia.training import recipe as recipe_lib

_RATE = 1e-2  # of the layer's Adam: a convex problem of few weights
_VOTE = 5.0  # weight of each base model's vote, from which the layer starts


class State(NamedTuple):
  """State of one stacked model in training.

  Attributes:
    bases: the recipe's own states, `[P - 1, ...]`.
    layer: `recipe.TrainState` of the combining layer.
    key: the model's own key.
  """

  bases: Any
  layer: recipe_lib.TrainState
  key: jax.Array

  @property
  def params(self) -> Any:
    """The parameters of all parts, for `recipe.model_variables`."""
    return {"bases": self.bases.params, "layer": self.layer.params}

  @property
  def variables(self) -> Any:
    """The base models' other collections."""
    return {"bases": self.bases.variables}


class _LayerJob(NamedTuple):
  """What the combining layer is trained on: its part, and the base models."""

  member_idx: Any
  num_members: Any
  bases: Any


class _Layer(nn.Module):
  """Logits as a linear function of the base models' probabilities; first, their sum."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    del train, mask
    return nn.Dense(self.num_classes, kernel_init=_votes)(x)


def _votes(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  """Initial weights: each base model's probability of a class speaks for that class."""
  del key
  num_bases = shape[0] // shape[1]
  return _VOTE * jnp.tile(jnp.eye(shape[1], dtype=dtype), (num_bases, 1))


def wrap(
  trainable: config_lib.Trainable,
  num_parts: int,
  *,
  num_classes: int,
  batch_size: int,
) -> config_lib.Trainable:
  """Returns the recipe of `num_parts - 1` models and the layer that combines them.

  A model's members are cut by its key into `num_parts` disjoint parts of equal size, to
  one; the last is the layer's. The metrics are the layer's.

  Args:
    trainable: how each base model is trained and predicts; its jobs are NamedTuples
      with `member_idx` and `num_members`.
    num_parts: at least 2.
    num_classes: `C`.
    batch_size: of the layer's training.

  Raises:
    ValueError: if `num_parts` is below 2.
  """
  if num_parts < 2:
    raise ValueError(f"num_parts={num_parts} must be at least 2")
  recipe, predict = trainable
  num_bases = num_parts - 1

  def answers(bases: Any, x: jax.Array) -> jax.Array:
    """The base models' probabilities of x `[B, ...]`: `[B, (P - 1) C]`."""
    probs = jax.nn.softmax(jax.vmap(predict, (0, None))(bases, x))
    return jnp.moveaxis(probs, 0, 1).reshape(len(x), -1)

  def ask_bases(key: jax.Array, batch: recipe_lib.Batch, job: _LayerJob, data: Any):
    del key, data
    return batch._replace(x=answers(job.bases, batch.x))

  layer = _Layer(num_classes)
  layer_recipe = recipe_lib.supervised(
    layer,
    optimizers.transformation(optimizers.OptimizerConfig(name="adam")),
    example_shape=(num_bases * num_classes,),
    num_classes=num_classes,
    batch_size=batch_size,
    num_epochs=recipe.num_epochs,
    learning_rate=lambda epoch: jnp.array(_RATE),
    transform=ask_bases,
  )

  def init(key: jax.Array, job: Any) -> State:
    keys = jax.random.split(recipe_lib.off_step_key(key), num_parts)
    base_jobs, layer_job = _parts(key, job, num_parts)
    bases = jax.vmap(recipe.init)(keys[:-1], base_jobs)
    return State(bases, layer_recipe.init(keys[-1], layer_job), key)

  def update(state: State, job: Any, data: Any) -> tuple[State, Any]:
    base_jobs, (member_idx, num_members) = _parts(state.key, job, num_parts)
    bases, _ = jax.vmap(recipe.update, (0, 0, None))(state.bases, base_jobs, data)
    layer_job = _LayerJob(member_idx, num_members, recipe_lib.model_variables(bases))
    layer_state, metrics = layer_recipe.update(state.layer, layer_job, data)
    return State(bases, layer_state, state.key), metrics

  def combined(variables: Any, x: jax.Array) -> jax.Array:
    bases = {"params": variables["params"]["bases"], **variables["bases"]}
    logits: Any = layer.apply(
      {"params": variables["params"]["layer"]}, answers(bases, x)
    )
    return logits

  return config_lib.Trainable(
    recipe_lib.Recipe(init, update, recipe.num_epochs), combined
  )


def base_jobs(key: jax.Array, job: Any, num_parts: int) -> Any:
  """Returns the base models' jobs `[P - 1, ...]`.

  Args:
    key: the model's key, `state.key`.
    job: the model's job.
    num_parts: as in `wrap`.
  """
  return _parts(key, job, num_parts)[0]


def _parts(key: jax.Array, job: Any, num_parts: int):
  """Returns the base models' jobs `[P - 1, ...]`, and the layer's rows and their count.

  Every part has as many slots; the members are dealt out in the model's own order.
  """
  num_slots = job.member_idx.shape[0]
  stream = recipe_lib.off_step_key(key, 1)
  order = recipe_lib.epoch_order(stream, num_slots, job.num_members)
  order = jnp.pad(order, (0, -num_slots % num_parts), mode="edge")
  member_idx = jnp.asarray(job.member_idx)[order].reshape(-1, num_parts).T
  part = jnp.arange(num_parts)
  num_members = (job.num_members - part + num_parts - 1) // num_parts
  num_bases = num_parts - 1

  def of_base(idx: jax.Array, num: jax.Array) -> Any:
    return job._replace(member_idx=idx, num_members=num)

  base_jobs = jax.vmap(of_base)(member_idx[:num_bases], num_members[:num_bases])
  return base_jobs, (member_idx[-1], num_members[-1])
