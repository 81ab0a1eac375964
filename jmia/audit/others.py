"""The models that targets are compared with: trained together, or fitted."""

from collections.abc import Sequence
import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np

from jmia import types
from jmia.adapters import fitted
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import DIVERGENCE, LOGITS
from jmia.audit import answers as answers_lib
from jmia.audit.asked import Asked
from jmia.audit.design import Design, Part
from jmia.audit.panel import Block, Panel, with_chose
from jmia.audit.trainer import Trainer
from jmia.defenses import registry as defenses_lib
from jmia.outputs import coarse as coarse_lib
from jmia.outputs import units
from jmia.training import config as config_lib
from jmia.training import distillation, parallel
from jmia.training import recipe as recipe_lib

BATCH = 256  # rows that each of many models predicts at once
_STREAM = 5  # of the seed, for the first run; each further one has the next
# What the engine trains, though the caller fits all others.
_TRAINED = ("target", "distilled")
# Models of several kinds are trained in one program, though it asks each of them what
# any is asked, unless that costs more than this share of their training.
_MOST_IN_VAIN = 0.05


def runs(design: Design, trainer: Trainer, asked: Asked) -> list[tuple[Part, ...]]:
  """Returns which parts are trained together: all, or those that are asked the same.

  Args:
    design: whose models but the targets are trained.
    trainer: how long each is trained.
    asked: what they are asked.
  """
  others = tuple(part for part in design.parts if part.role != "target")
  alike: dict[Any, list[Part]] = {}
  for part in others:
    alike.setdefault((*asked.kept(design, part), part.num_asked), []).append(part)
  together = asked.kept(design, *others)
  in_vain = training = 0
  for part in others:
    own = [asked.num_answers(names) for names in asked.kept(design, part)]
    of_all = [asked.num_answers(names) for names in together]
    num_rows = design.num_evaluated * of_all[0] + design.num_population * of_all[1]
    num_rows -= (part.num_asked or design.num_evaluated) * own[0]
    num_rows -= design.num_population * own[1]
    in_vain += num_rows * len(part.members.num_members)
    # A step costs three times what predicting does.
    training += 3 * trainer.train.num_epochs * int(part.members.num_members.sum())
  if len(alike) > 1 and in_vain > _MOST_IN_VAIN * training:
    return [tuple(parts) for parts in alike.values()]
  return [others] if others else []


def train(
  panel: Panel,
  trainer: Trainer,
  asked: Asked,
  data: Any,
  teachers: np.ndarray | None,
  told: units.Units,
  parts: tuple[Part, ...],
  what: str,
) -> Panel:
  """Returns a panel with the answers of some parts, trained in one run.

  Args:
    panel: of the targets, and of what was trained before.
    trainer: how they are trained.
    asked: what they are asked.
    data: the design's rows, a `recipe.Data`.
    teachers: the targets' logits `[T', n', C]`, of `targets.ask`.
    told: what the targets answer in; these answer as coarsely.
    parts: of the design, of `runs`.
    what: the run's name.

  Raises:
    ValueError: too many models of a kind diverge.
  """
  start = time.monotonic()
  whole, design = panel.design, panel.design._replace(parts=parts)
  kept = asked.kept(whole, *parts)
  job: Any = recipe_lib.Job(*design.members)
  transforms: tuple[recipe_lib.Transform, ...] = ()
  if (design.teacher >= 0).any() or DIVERGENCE in kept[0]:
    job = distillation.Job(*design.members, teacher=design.teacher)
    assert teachers is not None, "some model learns from or is compared with a target"
    data = distillation.Data(data.x, data.y, teachers)
    transforms = (distillation.soft_labels,)
  trainable = _coarsened(trainer.build(*transforms), told)
  is_exact = told.coarse.is_exact
  result = trainer.run(
    what,
    trainable.recipe,
    _STREAM + len(panel.blocks),
    job,
    data,
    collect=_collect(trainable, design, kept, asked, trainer.defenses),
    width=trainer.width,
    settings={} if is_exact else {"coarse": dataclasses.asdict(told.coarse)},
  )
  diverged = diverged_epoch(result, trainer.train.num_epochs)
  notes = _divergence_notes(design, trainer, diverged, what)
  on_samples, on_population, chose = result.collected
  block = Block(
    models=whole.models(*{part.role for part in parts}),
    signals=evidence_lib.with_plain(on_samples, 2),
    population=evidence_lib.with_plain(on_population, 2),
    converged=diverged < 0,
  )
  panel = with_chose(panel, block.models, chose)
  return panel._replace(
    blocks=(*panel.blocks, block),
    notes=[*panel.notes, *notes],
    seconds={**panel.seconds, what: time.monotonic() - start},
  )


def fit_all(
  panel: Panel,
  trainer: Trainer,
  asked: Asked,
  fit: fitted.Fit,
  x: np.ndarray,
  told: units.Units,
) -> Panel:
  """Returns a panel with the models that the caller's function fits.

  Those that learn from a target's answers are left to `train`.

  Args:
    panel: of the targets.
    trainer: its seed, width and progress.
    asked: what they are asked; their logits are kept.
    fit: the caller's function.
    x: `[n, ...]` the design's rows, as it takes them.
    told: what the targets answer in.
  """
  start = time.monotonic()
  design, name = panel.design, fitted.name(fit)
  parts = tuple(p for p in design.parts if p.role not in _TRAINED)
  notes = [f"the models compared with are fitted as {name}"] if parts else []
  if design.models("distilled").size:
    notes.append(
      f"distilled models are {trainer.train.model}, not {name}: they learn from the"
      " target's answers, not from classes"
    )
  panel = panel._replace(notes=[*panel.notes, *notes])
  if not parts:
    return panel
  models = design.models(*{part.role for part in parts})
  on_population = bool(asked.kept(design, *parts)[1])
  rows = np.arange(len(design.rows))
  of_population = rows[design.population] if on_population else rows[:0]
  found = _fitted_logits(
    panel,
    trainer,
    fit,
    x,
    models,
    np.append(rows[: design.num_evaluated], of_population),
    told.coarse,
  )
  block = Block(
    models=models,
    signals={LOGITS: found[:, : design.num_evaluated]},
    population={LOGITS: found[:, design.num_evaluated :]} if on_population else {},
    converged=np.ones(len(models), bool),
  )
  return panel._replace(
    blocks=(*panel.blocks, block),
    seconds={**panel.seconds, "fitted": time.monotonic() - start},
  )


def trained_parts(design: Design) -> Design:
  """Returns the parts that are trained here though the caller fits all others."""
  parts = tuple(part for part in design.parts if part.role in _TRAINED)
  return design._replace(parts=parts)


def _coarsened(
  trainable: config_lib.Trainable, told: units.Units
) -> config_lib.Trainable:
  """Models that answer as coarsely as the target."""
  if told.coarse.is_exact:
    return trainable
  exact = trainable.predict
  return trainable._replace(
    predict=lambda variables, x: told.coarsened(exact(variables, x))
  )


def _fitted_logits(
  panel: Panel,
  trainer: Trainer,
  fit: fitted.Fit,
  x: np.ndarray,
  models: np.ndarray,
  rows: np.ndarray,
  coarse: coarse_lib.Coarse,
) -> np.ndarray:
  """`[m, n, C]` logits of models on some rows, each fitted on its members."""
  found = np.empty((len(models), len(rows), panel.num_classes), np.float32)
  fits = fitted.answers(
    fit,
    types.Splits(*(array[models] for array in panel.design.members)),
    x,
    panel.y,
    rows,
    seeds=fitted.seeds(trainer.seed, models),
    num_jobs=trainer.width,
  )
  for done, answer in enumerate(fits):
    found[done], _ = answers_lib.ask(
      answer.__getitem__,
      np.arange(len(rows)),
      panel.num_classes,
      outputs=trainer.outputs,
      coarse=coarse,
    )
    trainer.progress("fitted", done + 1, len(models))
  return found


def _collect(
  trainable: config_lib.Trainable,
  design: Design,
  kept: tuple[Sequence[str], ...],
  asked: Asked,
  defenses: Sequence[defenses_lib.DefenseConfig],
) -> parallel.Collect:
  """Keeps a model's signals on the evaluated rows and on the population.

  And which members chose its epoch.
  """
  num_rows = max(part.num_asked or design.num_evaluated for part in design.parts)
  population = np.arange(design.population.start, design.population.stop)
  rows = (np.arange(num_rows), population)

  def collect(state, job, data):
    answer = functools.partial(trainable.predict, recipe_lib.model_variables(state))
    on_samples, on_population = (
      answers_lib.signals_of(answer, data, at, names, BATCH, asked.copies)
      for names, at in zip(kept, rows, strict=True)
    )
    return on_samples, on_population, defenses_lib.chose_epoch(defenses, state, job)

  return collect


def diverged_epoch(result: parallel.Result, num_epochs: int) -> np.ndarray:
  """Returns `[M]`: also those whose weights stayed finite, but not their answers."""
  epoch = result.diverged_epoch
  is_finite = np.ones(len(epoch), bool)
  for array in jax.tree.leaves(result.collected):
    is_finite &= np.isfinite(array).reshape(len(array), -1).all(axis=1)
  return np.where((epoch < 0) & ~is_finite, num_epochs - 1, epoch)


def _divergence_notes(
  design: Design, trainer: Trainer, diverged_epoch: np.ndarray, what: str
) -> list[str]:
  """Names the models left out; raises ValueError if a kind is left with too few."""
  notes = []
  for role in dict.fromkeys(design.role.tolist()):
    epochs = diverged_epoch[design.role == role]
    bad = np.flatnonzero(epochs >= 0)
    if bad.size and len(epochs) - len(bad) < 2:
      which = ", ".join(f"{m} at epoch {epochs[m]}" for m in bad[:8])
      which += ", ..." if len(bad) > 8 else ""
      trainer.fail_diverged(
        f"{len(bad)} of {len(epochs)} {role} models diverged ({which})",
        *("target", "targets", "others", what),
      )
    notes += [f"{role} model {m} diverged at epoch {epochs[m]}: left out" for m in bad]
  return notes
