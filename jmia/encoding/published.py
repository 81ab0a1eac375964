"""Training that starts from a published model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jmia.training import recipe as recipe_lib

PyTree = Any


class TuneJob(NamedTuple):
  """As `recipe.Job`, with the model to start from.

  Attributes:
    member_idx: `[K]` int32 rows to train on; those past `num_members` are padding.
    num_members: `[]` int32.
    variables: parameters and other collections.
  """

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  variables: PyTree


def start_from(
  recipe: recipe_lib.Recipe, fresh: Sequence[str] = ()
) -> recipe_lib.Recipe:
  """Returns the recipe whose models start from `job.variables`.

  All else of the state is as new: a discriminator, the momentum, the epoch.

  Args:
    recipe: with a state that has `params` and `variables`; jobs have `variables`.
    fresh: top-level names of parameters that keep their new initial values, such as
      `logits` for a new head.
  """

  def init(key: jax.Array, job: Any) -> Any:
    state = recipe.init(key, job)
    given = dict(job.variables)
    params = {**given.pop("params"), **{name: state.params[name] for name in fresh}}
    return state._replace(params=params, variables=given)

  return recipe._replace(init=init)
