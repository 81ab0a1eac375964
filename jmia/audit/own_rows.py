"""Models that are each asked about rows of their own, targets and others in one run."""

import functools
import time
from typing import Any, NamedTuple

import numpy as np

from jmia.attacks import evidence as evidence_lib
from jmia.audit import answers as answers_lib
from jmia.audit import asked as asked_lib
from jmia.audit import others
from jmia.audit import panel as panel_lib
from jmia.audit.asked import Asked
from jmia.audit.design import Design
from jmia.audit.panel import Block, Panel
from jmia.audit.targets import ALWAYS
from jmia.audit.trainer import Trainer
from jmia.defenses import registry as defenses_lib
from jmia.training import recipe as recipe_lib


class _Job(NamedTuple):
  """As `recipe.Job`, with rows that the model is asked about: its own, its target's."""

  member_idx: Any
  num_members: Any
  own_idx: Any
  target_idx: Any


def train(
  design: Design,
  trainer: Trainer,
  asked: Asked,
  data: recipe_lib.Data,
) -> Panel:
  """Returns what all models of a design answered, trained in one run.

  Args:
    design: of models that have rows of their own to be asked about.
    trainer: how they are trained.
    asked: what they are asked.
    data: the design's rows.
  """
  start = time.monotonic()
  assert design.own is not None
  on_samples, on_population = asked.kept(design, *design.parts)
  names = {*asked.needs.signals, *ALWAYS, *on_samples, *on_population}
  kept = asked_lib.least(sorted(names))
  trainable = trainer.build()

  def collect(state, job: _Job, data):
    answer = functools.partial(trainable.predict, recipe_lib.model_variables(state))
    ask = functools.partial(answers_lib.signals_of, answer, data)
    own = ask(job.own_idx, kept, others.BATCH, asked.copies)
    of_target = ask(job.target_idx, on_samples, others.BATCH, asked.copies)
    return own, of_target, defenses_lib.chose_epoch(trainer.defenses, state, job)

  own = design.own.astype(np.int32)
  result = trainer.run(
    "models",
    trainable.recipe,
    None,
    _Job(*design.members, own, own[design.role == "target"][design.target]),
    data,
    collect=collect,
    width=trainer.width,
  )
  found, of_target, chose = result.collected
  block = Block(
    models=np.arange(len(design.role)),
    signals=evidence_lib.with_plain(of_target, 2),
    population=evidence_lib.with_plain(found, 2),
    converged=others.diverged_epoch(result, trainer.train.num_epochs) < 0,
  )
  panel = Panel(
    design=design,
    x=np.asarray(data.x),
    y=np.asarray(data.y),
    num_classes=trainer.dataset.num_classes,
    seed=trainer.seed,
    targets=[],
    blocks=(block,),
    notes=[],
    seconds={"models": time.monotonic() - start},
  )
  panel = panel_lib.with_chose(panel, block.models, chose)
  return panel._replace(
    targets=panel_lib.own_targets(panel), notes=panel_lib.chose_notes(panel)
  )
