"""Distillation: models that learn a teacher's soft labels instead of the true ones.

Ye et al., section 4.4 (eq. 28-38): models distilled from the target on population rows
imitate it, but have never seen its members.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jmia.training import recipe as recipe_lib

NO_TEACHER = -1


class Data(NamedTuple):
  """As `recipe.Data`, with the answers of `T` teachers.

  Attributes:
    x: `[N, ...]` features as stored.
    y: `[N]` int32 labels.
    teacher_logits: `[T, N', C]` float32, on the first `N'` rows of `x`; no student is
      trained on others.
  """

  x: recipe_lib.Stored
  y: recipe_lib.Stored
  teacher_logits: recipe_lib.Stored


class Job(NamedTuple):
  """As `recipe.Job`, with whom the model learns from.

  Attributes:
    member_idx: `[K]` int32.
    num_members: `[]` int32.
    teacher: `[]` int32, which of the data's teachers; `NO_TEACHER` for a model that is
      no student and learns the labels.
  """

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  teacher: recipe_lib.Stored


def soft_labels(
  key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any
) -> recipe_lib.Batch:
  """Data seam: a student's targets become its teacher's probabilities.

  Args:
    key: unused.
    batch: a minibatch.
    job: a `Job`; a model without a teacher keeps the true labels, so that students of
      several teachers and other models can be trained side by side.
    data: a `Data`.
  """
  del key
  soft = jax.nn.softmax(data.teacher_logits[job.teacher, batch.rows])
  return batch._replace(targets=jnp.where(job.teacher >= 0, soft, batch.targets))
