"""The paper's studies: all models of all studies asked for, in one parallel run."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jmia import types
from jmia.backdoor import marking, outcomes, triggers
from jmia.backdoor import plan as plan_lib
from jmia.backdoor import settings as settings_lib
from jmia.defenses import registry
from jmia.training import augment, parallel
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

_EVALUATION_BATCH = 128


class Result(NamedTuple):
  """What a run of studies found.

  Attributes:
    rows: as `results.json` holds them, one for each variant, trial and owner.
    num_models: trained.
    notes: what a reader must know, such as models that diverged.
  """

  rows: list[dict[str, Any]]
  num_models: int
  notes: tuple[str, ...]


def run(
  dataset: types.Dataset,
  settings: settings_lib.Settings,
  studies: Sequence[str],
  *,
  num_trials: int,
  seed: int = 0,
  width: int | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: parallel.Progress = lambda done, total: None,
) -> Result:
  """Trains every model of the studies in one run, and verifies every owner.

  Args:
    dataset: to train on.
    settings: see `settings.Settings`.
    studies: of `variants.STUDIES`.
    num_trials: seeds that each variant is run with.
    seed: of every draw.
    width: see `parallel.run`, as for all that follow.
    checkpoint_dir: where to save and resume.
    progress: called as `progress(done, total)` in model-epochs.

  Raises:
    ValueError: as `plan.make` and `parallel.run`.
  """
  planned = plan_lib.make(dataset, settings, studies, num_trials, seed)
  flip = (augment.random_flip,) if settings.flip else ()
  num_members = planned.jobs.member_idx.shape[1]
  defended = registry.plan(
    settings.defenses, settings.train, dataset, num_members=num_members
  )
  trainable = registry.build(defended, dataset, transforms=(marking.mark, *flip))
  trained = parallel.run(
    trainable.recipe,
    jax.random.key(seed, impl="threefry2x32"),
    planned.jobs,
    marking.Data(dataset.x, dataset.y, planned.marks),
    collect=_collect(trainable),
    width=width,
    checkpoint_dir=checkpoint_dir,
    config={"settings": dataclasses.asdict(settings), "dataset": dataset.name},
    progress=progress,
  )
  rows = outcomes.rows(dataset, settings, planned, trained, seed)
  notes = planned.notes
  if num_diverged := int((trained.diverged_epoch >= 0).sum()):
    notes += (
      f"{num_diverged} of {len(trained.diverged_epoch)} models diverged and have no "
      "rows",
    )
  return Result(rows, len(trained.diverged_epoch), notes)


def _collect(trainable: config_lib.Trainable) -> parallel.Collect:
  """Of one trained model: its training accuracy, and its answers `[E, T]` int16."""

  def collect(state, job: plan_lib.Job, data: marking.Data):
    variables = recipe_lib.model_variables(state)

    def answers(rows, mark):
      trigger = jax.tree.map(lambda table: table[mark], data.marks.triggers)
      batch_size = min(_EVALUATION_BATCH, len(rows))
      num_batches = -(-len(rows) // batch_size)
      # The last batch is filled up with its last row.
      slots = jnp.minimum(jnp.arange(num_batches * batch_size), len(rows) - 1)

      def one_batch(idx):
        logits = trainable.predict(variables, triggers.apply(data.x[idx], trigger))
        return logits.argmax(-1).astype(jnp.int16)

      batches = rows[slots].reshape(num_batches, batch_size)
      return jax.lax.map(one_batch, batches).reshape(-1)[: len(rows)]

    is_member = jnp.arange(len(job.member_idx)) < job.num_members
    correct = answers(job.member_idx, plan_lib.NO_MARK) == data.y[job.member_idx]
    return {
      "train_accuracy": (correct & is_member).sum() / job.num_members,
      "answers": jax.lax.map(lambda mark: answers(job.test_idx, mark), job.query_marks),
    }

  return collect
