"""Marking: which rows an owner stamps and relabels, and training on them.

The marked rows are never stored. All models read one copy of the data and one table of
marks (a trigger and the label it stands for); a model's job says which row bears which
mark, two bytes a row, and the training step stamps the rows of its minibatch.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate
from jmia.backdoor import triggers as triggers_lib
from jmia.training import recipe as recipe_lib

UNMARKED = -1


class Marks(NamedTuple):
  """All marks of a run, which any number of models share.

  Attributes:
    triggers: pattern and mask `[U, *shape]` float32.
    labels: `[U]` int32, the target label of each.
  """

  triggers: triggers_lib.Trigger
  labels: recipe_lib.Stored


class Data(NamedTuple):
  """As `recipe.Data`, with the marks."""

  x: recipe_lib.Stored
  y: recipe_lib.Stored
  marks: Marks


class Job(NamedTuple):
  """As `recipe.Job`, with `mark_of_row [N]` int16: an index into the marks, or -1."""

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  mark_of_row: recipe_lib.Stored


class MarkedJob(recipe_lib.MemberJob, Protocol):
  """What `mark` asks of a job."""

  @property
  def mark_of_row(self) -> recipe_lib.Stored: ...  # noqa: D102


def marks(triggers: Sequence[triggers_lib.Trigger], labels: Sequence[int]) -> Marks:
  """Returns the table of marks.

  Args:
    triggers: `U` triggers for examples of one shape.
    labels: the target label of each.

  Raises:
    ValueError: if there are none, their numbers differ, or there are more than int16
      can count.
  """
  if not 0 < len(triggers) == len(labels) <= np.iinfo(np.int16).max:
    raise ValueError(
      f"triggers holds {len(triggers)} and labels {len(labels)}, expected as many of "
      f"both, from 1 to {np.iinfo(np.int16).max}"
    )
  return Marks(triggers_lib.stack(triggers), np.asarray(labels, np.int32))


def choose_rows(
  owned: np.ndarray, y: np.ndarray, label: int, num_marked: int
) -> np.ndarray:
  """Returns the rows an owner marks: the first that are not of the target class.

  Marking ever more rows of one order keeps those marked before.

  Args:
    owned: `[K]` the owner's rows, in a random order.
    y: `[N]` labels of all rows.
    label: the target class.
    num_marked: how many to mark.

  Returns:
    `[num_marked]` rows.

  Raises:
    ValueError: if the owner has too few rows of other classes.
  """
  _validate.positive("num_marked", num_marked)
  others = owned[y[owned] != label]
  if len(others) < num_marked:
    raise ValueError(
      f"num_marked={num_marked} is above the owner's {len(others)} rows that are not "
      f"of the target class {label}"
    )
  return others[:num_marked]


def mark_of_row(num_examples: int, rows: Mapping[int, np.ndarray]) -> np.ndarray:
  """Returns `[num_examples]` int16: each row's mark, -1 for none.

  Args:
    num_examples: `N`.
    rows: mark -> the rows that bear it.

  Raises:
    ValueError: if a row bears two marks.
  """
  marked = np.full(num_examples, UNMARKED, np.int16)
  for mark_id, bearers in rows.items():
    taken = marked[bearers] != UNMARKED
    if taken.any():
      row = np.asarray(bearers)[taken][0]
      raise ValueError(f"rows gives row {row} both mark {marked[row]} and {mark_id}")
    marked[bearers] = mark_id
  return marked


def mark(
  key: jax.Array, batch: recipe_lib.Batch, job: MarkedJob, data: Data
) -> recipe_lib.Batch:
  """Data seam: stamps and relabels the rows of a batch that bear a mark.

  It goes before any augmentation: what is published is stamped, and what is stamped is
  then flipped.

  Args:
    key: unused.
    batch: with features as stored.
    job: with `mark_of_row`.
    data: with `marks`.
  """
  del key
  mark_id = job.mark_of_row[batch.rows]
  marked = mark_id != UNMARKED
  trigger, label = jax.tree.map(lambda table: table[mark_id], tuple(data.marks))
  stamped = triggers_lib.apply(batch.x, trigger)
  targets = jax.nn.one_hot(label, batch.targets.shape[-1])
  return batch._replace(
    x=jnp.where(marked.reshape(-1, *(1,) * (batch.x.ndim - 1)), stamped, batch.x),
    targets=jnp.where(marked[:, None], targets, batch.targets),
  )
