"""Distillation: models that learn a teacher's soft labels instead of the true ones.

Ye et al., section 4.4 (eq. 28-38): models distilled from the target on population rows
imitate it, but have never seen its members.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jmia.training import recipe as recipe_lib


class Data(NamedTuple):
  """As `recipe.Data`, with the teacher's answers: `teacher_logits [N, C]` float32."""

  x: recipe_lib.Stored
  y: recipe_lib.Stored
  teacher_logits: recipe_lib.Stored


class Job(NamedTuple):
  """As `recipe.Job`, with whether the model is distilled: `is_student []` bool."""

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  is_student: recipe_lib.Stored


def soft_labels(
  key: jax.Array, batch: recipe_lib.Batch, job: Any, data: Any
) -> recipe_lib.Batch:
  """Data seam: a student's targets become the teacher's probabilities.

  Args:
    key: unused.
    batch: a minibatch.
    job: a `Job`; a model that is no student keeps the true labels, so that both kinds
      can be trained side by side.
    data: a `Data`.
  """
  del key
  teacher = jax.nn.softmax(data.teacher_logits[batch.rows])
  return batch._replace(targets=jnp.where(job.is_student, teacher, batch.targets))
