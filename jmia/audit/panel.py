"""What every model of a design answered, and who held what.

`train` trains a design: the targets first, since students learn from their answers, and
then all other models in one program. `view.evidence` is what one target's attacker is
given of it. Signals are kept, not models, and of those only what the attacks need.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import _validate, splits, types
from jmia.adapters import fitted
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import DIVERGENCE, LOGITS, parse
from jmia.audit import answers as answers_lib
from jmia.audit import copies as copies_lib
from jmia.audit import units
from jmia.audit.design import Design, Part
from jmia.audit.trainer import Trainer
from jmia.defenses import registry as defenses_lib
from jmia.training import config as config_lib
from jmia.training import distillation, parallel
from jmia.training import recipe as recipe_lib

Predict = Callable[[np.ndarray], Any]
Signals = Mapping[str, np.ndarray]

_BATCH = 256  # rows that each of many models predicts at once
_TARGETS, _OTHERS = 4, 5  # streams of the seed
_COPIES = 10  # and of what `audit.config` draws from it
# What every target's results say, whatever the attacks take.
_ALWAYS = ("loss", "correctness")
# What the engine trains, though the caller fits all others.
_TRAINED = ("target", "distilled")
# Models of several kinds are trained in one program, though it asks each of them what
# any is asked, unless that costs more than this share of their training.
_MOST_IN_VAIN = 0.05


Copies = Mapping[str, copies_lib.Copies]


class Target(NamedTuple):
  """A target's answers: name -> `[U, ...]` on samples, `[P, ...]` on the population."""

  signals: Signals
  population: Signals


class Block(NamedTuple):
  """What `m` models that were trained in one run answered.

  Attributes:
    models: `[m]` which of the design's.
    signals: name -> `[m, U', ...]` float32, on the first `U'` evaluated rows; the
      divergence `[m, T, U']`, from each target.
    population: name -> `[m, P, ...]`; where each was asked about rows of its own, on
      those.
    converged: `[m]` bool; the answers of a model that diverged mean nothing.
  """

  models: np.ndarray
  signals: Signals
  population: Signals
  converged: np.ndarray


class Panel(NamedTuple):
  """What the `M` models of a design answered.

  Attributes:
    design: who trained on what.
    y: `[n]` int32 labels of the design's rows.
    num_classes: `C`.
    seed: of the run, and of the attacks' own draws.
    targets: each target's answers; None for one that diverged.
    blocks: the other models; all, where each was asked about rows of its own.
    notes: what a reader of the results must know, such as models that diverged.
    seconds: wall time of each stage.
    x: `[n, ...]` features of the design's rows, as stored; None where they are not at
      hand, and attacks that learn from them cannot run.
    chose: `[M, n]` bool, members that chose the epoch of a model and got no gradient;
      None if there are none.
  """

  design: Design
  y: np.ndarray
  num_classes: int
  seed: int
  targets: Sequence[Target | None]
  blocks: tuple[Block, ...]
  notes: list[str]
  seconds: dict[str, float]
  x: np.ndarray | None = None
  chose: np.ndarray | None = None

  def trained(self) -> np.ndarray:
    """`[M, n]` bool, which rows each model was trained on."""
    held = splits.member_mask(self.design.members, len(self.design.rows))
    return held if self.chose is None else held & ~self.chose

  def unseen(self) -> np.ndarray:
    """`[M, n]` bool, which rows each model has not seen, not to choose an epoch."""
    return ~splits.member_mask(self.design.members, len(self.design.rows))


def train(
  design: Design,
  trainer: Trainer,
  needs: registry.Needs,
  *,
  predict: Predict | None = None,
  fit: fitted.Fit | None = None,
) -> Panel:
  """Trains a design's models.

  Args:
    design: who trains on what.
    trainer: how.
    needs: what is kept of their answers.
    predict: the one target, as a black box that is not trained here.
    fit: fits every model but those that learn from a target's answers.

  Raises:
    ValueError: if features are not finite or labels out of range, a target diverges, or
      too many of the other models of a kind do (what they left in the trainer's folder
      is removed); and as `answers.ask` and `parallel.run`.
  """
  num_classes = trainer.dataset.num_classes
  data, given, needs, copies, notes = inputs(
    design, trainer, needs, predict=predict, fit=fit
  )
  x, y = np.asarray(data.x), np.asarray(data.y)
  if design.own is not None:
    return _train_together(design, trainer, needs, data, copies)
  seconds: dict[str, float] = {}
  start = time.monotonic()
  chose = None
  if predict:
    predictors = [predict]
  elif fit:
    predictors = _fit_targets(design, trainer, fit, given, y)
  else:
    predictors, chose = _train_targets(design, trainer, data)
  seconds["targets"] = time.monotonic() - start
  asked = (needs, copies)
  as_given = data._replace(x=given)
  # What is trained here answers in logits.
  outputs = trainer.outputs if predict or fit else "logits"
  targets, teachers, told = _ask_targets(
    design, num_classes, as_given, predictors, asked, outputs
  )
  if told.notes:
    notes = [*notes, *(f"the target's {note}" for note in told.notes)]
  seconds["signals"] = time.monotonic() - start - seconds["targets"]
  panel = Panel(
    design=design,
    x=x,
    y=y,
    num_classes=num_classes,
    seed=trainer.seed,
    targets=targets,
    blocks=(),
    notes=notes,
    seconds=seconds,
  )
  if chose is not None:
    panel = _with_chose(panel, design.models("target"), chose)
    panel = panel._replace(notes=[*panel.notes, *_chose_notes(panel)])
  trained = design
  if fit:
    panel = _fit_others(panel, trainer, needs, fit, given, told)
    trained = design._replace(parts=_parts(design, *_TRAINED))
  for number, parts in enumerate(_runs(trained, trainer, *asked)):
    what = f"others_{number}" if number else "others"
    panel = _train_others(panel, trainer, asked, data, teachers, parts, what, told)
  return panel


class Inputs(NamedTuple):
  """What models are given and asked about.

  Attributes:
    data: the design's rows, as networks take them.
    given: `[n, ...]` the same rows as a model that is not trained here takes them.
    needs: less what is of copies that these rows do not have.
    copies: kind -> altered copies of the rows.
    notes: what a reader of the results must know of them.
  """

  data: recipe_lib.Data
  given: np.ndarray
  needs: registry.Needs
  copies: Copies
  notes: list[str]


def inputs(
  design: Design,
  trainer: Trainer,
  needs: registry.Needs,
  *,
  predict: Predict | None = None,
  fit: fitted.Fit | None = None,
) -> Inputs:
  """Returns what `train` gives to models, checked; trains nothing.

  Args:
    design: as in `train`, like what follows.
    trainer: how.
    needs: what is kept of their answers.
    predict: the one target.
    fit: fits every model.

  Raises:
    ValueError: features are not finite, labels out of range, or there are fewer copies
      of a row than queries.
  """
  dataset = trainer.dataset
  is_whole = np.array_equal(design.rows, np.arange(dataset.num_examples))
  x = dataset.x if is_whole else np.ascontiguousarray(dataset.x[design.rows])
  y = dataset.y[design.rows]
  _validate.finite("features", x)
  _validate.labels("labels", y, dataset.num_classes)
  population = design.population if design.own is None else slice(None)
  given = x
  if (predict or fit) and dataset.given is not None:
    given = dataset.given[design.rows]
  copies: Copies = {}
  # Copies are of rows as networks take them: nobody else could be asked about those.
  if given is x and not fit:
    copies = copies_lib.plan(needs, x, population, seed=(trainer.seed, _COPIES))
  return Inputs(
    recipe_lib.Data(x, y.astype(np.int32)),
    given,
    copies_lib.resolve(needs, copies),
    copies,
    copies_lib.notes_of(needs, copies),
  )


def _ask_targets(
  design: Design,
  num_classes: int,
  data: recipe_lib.Data,
  predictors: Sequence[Predict],
  asked: tuple[registry.Needs, Copies],
  outputs: str,
) -> tuple[list[Target], np.ndarray | None, units.Units]:
  """The targets' answers, and the logits `[T', n', C]` that others learn from.

  Or are compared with: of no more targets and rows than that takes. Then what the last
  target's answers were, made as coarse as any target's before it.
  """
  needs, copies = asked
  wanted = registry.union(
    [needs, registry.Needs(signals=_ALWAYS, population=("loss",))]
  )
  compared = any(DIVERGENCE in group.signals for group in needs.groups.values())
  num_kept = len(predictors) if compared else design.teacher.max() + 1
  num_rows = design.num_evaluated if compared else 0
  is_student = design.teacher >= 0
  if is_student.any():
    num_rows = max(num_rows, int(design.members.member_idx[is_student].max()) + 1)
  teachers = None
  if num_kept:
    teachers = np.empty((num_kept, num_rows, num_classes), np.float32)
  targets = []
  told = units.Units({}, units.EXACT, ())
  for number, predict in enumerate(predictors):
    x, y = np.asarray(data.x), np.asarray(data.y)
    logits, told = answers_lib.ask(
      predict, x, num_classes, outputs=outputs, coarse=told.coarse
    )
    on_copies = functools.partial(
      answers_lib.on_copies, predict, x, y, num_classes, copies=copies, told=told
    )
    targets.append(_target(design, logits, y, wanted, on_copies))
    if teachers is not None and number < num_kept:
      teachers[number] = logits[:num_rows]
  return targets, teachers, told


def _train_targets(
  design: Design, trainer: Trainer, data: recipe_lib.Data
) -> tuple[list[Predict], np.ndarray]:
  """Trains the models under audit; from here on each is a black box.

  Beside them `[T, K]` bool, which members chose the epoch of each.
  """
  trainable = trainer.build()
  members = splits.concatenate(
    *(part.members for part in design.parts if part.role == "target")
  )
  num_targets = len(members.num_members)
  what = "target" if num_targets == 1 else "targets"
  result = trainer.run(
    what,
    trainable.recipe,
    _TARGETS,
    recipe_lib.Job(*members),
    data,
    collect=lambda state, job, data: (
      recipe_lib.model_variables(state),
      defenses_lib.chose_epoch(trainer.defenses, state, job),
    ),
    width=None if num_targets == 1 else trainer.width,
  )
  names = ["the target"]
  if num_targets > 1:
    names = [f"target {number}" for number in range(num_targets)]
  forward = jax.jit(trainable.predict)
  collected, chose = result.collected

  def predictor(name: str, variables: Any) -> Predict:
    def predict(x: np.ndarray) -> np.ndarray:
      logits = np.asarray(forward(variables, x))
      if not np.isfinite(logits).all():  # of weights that are finite, but huge
        last = trainer.train.num_epochs - 1
        trainer.fail_diverged(f"{name} diverged at epoch {last}", what, "others")
      return logits

    return predict

  found = []
  for number, (name, epoch) in enumerate(
    zip(names, result.diverged_epoch, strict=True)
  ):
    if epoch >= 0:
      trainer.fail_diverged(f"{name} diverged at epoch {epoch}", what, "others")
    own = jax.tree.map(lambda a, at=number: a[at], collected)
    found.append(predictor(name, own))
  return found, chose


def _with_chose(panel: Panel, models: np.ndarray, chose: np.ndarray) -> Panel:
  """Tells of some models which members, `[m, K]` bool, chose their epoch."""
  if not chose.any():
    return panel
  design = panel.design
  mask = np.zeros((len(design.role), len(design.rows)), bool)
  if panel.chose is not None:
    mask |= panel.chose
  model, slot = np.nonzero(chose)
  mask[models[model], design.members.member_idx[models[model], slot]] = True
  return panel._replace(chose=mask)


def _chose_notes(panel: Panel) -> list[str]:
  """Says how many members of the targets are neither members nor non-members."""
  if panel.chose is None:
    return []
  targets = panel.design.models("target")
  found, sizes = panel.chose[targets].sum(axis=1), panel.design.members.num_members
  pairs = dict.fromkeys(zip(found.tolist(), sizes[targets].tolist(), strict=True))
  whose = "the target's" if len(targets) == 1 else "each target's"
  number = ", or ".join(f"{num:,} of {whose} {size:,} members" for num, size in pairs)
  return [
    f"{number} only chose the epoch at which its training stopped, and no gradient was"
    " taken on them: they are evaluated neither as members nor as non-members"
  ]


def _parts(design: Design, *roles: str) -> tuple[Part, ...]:
  return tuple(part for part in design.parts if part.role in roles)


def _fit_targets(
  design: Design, trainer: Trainer, fit: fitted.Fit, x: np.ndarray, y: np.ndarray
) -> list[Predict]:
  """The models under audit, fitted by the caller's function."""
  models = design.models("target")
  idx, sizes = design.members
  return [
    fit(x[idx[m, : sizes[m]]], y[idx[m, : sizes[m]]], seed)
    for m, seed in zip(models, fitted.seeds(trainer.seed, models), strict=True)
  ]


def _fit_others(
  panel: Panel,
  trainer: Trainer,
  needs: registry.Needs,
  fit: fitted.Fit,
  x: np.ndarray,
  told: units.Units,
) -> Panel:
  """The other models that the caller's function fits; their logits are kept."""
  start = time.monotonic()
  design, name = panel.design, fitted.name(fit)
  parts = tuple(p for p in design.parts if p.role not in _TRAINED)
  notes = [f"the models compared with are fitted as {name}"] if parts else []
  if _parts(design, "distilled"):
    notes.append(
      f"distilled models are {trainer.train.model}, not {name}: they learn from the"
      " target's answers, not from classes"
    )
  panel = panel._replace(notes=[*panel.notes, *notes])
  if not parts:
    return panel
  models = design.models(*{part.role for part in parts})
  on_population = bool(_kept(design, needs, *parts)[1])
  asked = np.arange(len(design.rows))
  asked = np.append(
    asked[: design.num_evaluated], asked[design.population] if on_population else []
  ).astype(int)
  found = np.empty((len(models), len(asked), panel.num_classes), np.float32)
  fits = fitted.answers(
    fit,
    types.Splits(*(array[models] for array in design.members)),
    x,
    panel.y,
    asked,
    seeds=fitted.seeds(trainer.seed, models),
    num_jobs=trainer.width,
  )
  for done, answer in enumerate(fits):
    found[done], _ = answers_lib.ask(
      answer.__getitem__,
      np.arange(len(asked)),
      panel.num_classes,
      outputs=trainer.outputs,
      coarse=told.coarse,
    )
    trainer.progress("fitted", done + 1, len(models))
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


def _target(
  design: Design,
  logits: np.ndarray,
  y: np.ndarray,
  needs: registry.Needs,
  on_copies: Callable[..., Signals],
) -> Target:
  """What is kept of a target's answers: all, where an attack takes the logits."""
  groups = needs.groups.values()
  on_samples = {*needs.signals, *(n for g in groups for n in g.signals)}
  on_population = {*needs.population, *(n for g in groups for n in g.population)}
  parts: list[Signals] = []
  for names, rows in (
    (on_samples, slice(design.num_evaluated)),
    (on_population, design.population),
  ):
    found = evidence_lib.of_logits(logits[rows], y[rows])
    if not {LOGITS, DIVERGENCE} & names:
      found = {n: found[n] for n in sorted(names) if n in found}
    of_copies = on_copies(rows=rows, names=sorted(names))
    parts.append(evidence_lib.joined(found, evidence_lib.with_plain(of_copies, 1)))
  return Target(*parts)


def _runs(
  design: Design, trainer: Trainer, needs: registry.Needs, copies: Copies
) -> list[tuple[Part, ...]]:
  """Which parts are trained together: all, or those that are asked the same."""
  others = tuple(part for part in design.parts if part.role != "target")
  asked: dict[Any, list[Part]] = {}
  for part in others:
    asked.setdefault((*_kept(design, needs, part), part.num_asked), []).append(part)
  together = _kept(design, needs, *others)
  in_vain = training = 0
  for part in others:
    own = [_num_answers(names, copies) for names in _kept(design, needs, part)]
    of_all = [_num_answers(names, copies) for names in together]
    num_rows = design.num_evaluated * of_all[0] + design.num_population * of_all[1]
    num_rows -= (part.num_asked or design.num_evaluated) * own[0]
    num_rows -= design.num_population * own[1]
    in_vain += num_rows * len(part.members.num_members)
    # A step costs three times what predicting does.
    training += 3 * trainer.train.num_epochs * int(part.members.num_members.sum())
  if len(asked) > 1 and in_vain > _MOST_IN_VAIN * training:
    return [tuple(parts) for parts in asked.values()]
  return [others] if others else []


def _num_answers(names: Sequence[str], copies: Copies) -> int:
  """Answers that a model gives on each row for some signals."""
  kinds = {parse(name)[1] for name in names}
  return sum(1 if kind is None else copies[kind].number for kind in kinds)


def _train_others(
  panel: Panel,
  trainer: Trainer,
  asked: tuple[registry.Needs, Copies],
  data: Any,
  teachers: np.ndarray | None,
  parts: tuple[Part, ...],
  what: str,
  told: units.Units,
) -> Panel:
  """Trains some parts in one run; they answer as coarsely as the target."""
  start = time.monotonic()
  needs, copies = asked
  whole, design = panel.design, panel.design._replace(parts=parts)
  kept = _kept(whole, needs, *parts)
  job: Any = recipe_lib.Job(*design.members)
  transforms: tuple[recipe_lib.Transform, ...] = ()
  if (design.teacher >= 0).any() or DIVERGENCE in kept[0]:
    job = distillation.Job(*design.members, teacher=design.teacher)
    assert teachers is not None, "some model learns from or is compared with a target"
    data = distillation.Data(data.x, data.y, teachers)
    transforms = (distillation.soft_labels,)
  trainable = trainer.build(*transforms)
  exact = trainable.predict
  if not told.coarse.is_exact:
    trainable = trainable._replace(
      predict=lambda variables, x: told.coarsened(exact(variables, x))
    )
  result = trainer.run(
    what,
    trainable.recipe,
    _OTHERS + len(panel.blocks),
    job,
    data,
    collect=_collect(trainable, design, kept, copies, trainer.defenses),
    width=trainer.width,
    settings={}
    if told.coarse.is_exact
    else {"coarse": dataclasses.asdict(told.coarse)},
  )
  diverged = _diverged_epoch(result, trainer.train.num_epochs)
  notes = _divergence_notes(design, trainer, diverged, what)
  on_samples, on_population, chose = result.collected
  block = Block(
    models=whole.models(*{part.role for part in parts}),
    signals=evidence_lib.with_plain(on_samples, 2),
    population=evidence_lib.with_plain(on_population, 2),
    converged=diverged < 0,
  )
  panel = _with_chose(panel, block.models, chose)
  return panel._replace(
    blocks=(*panel.blocks, block),
    notes=[*panel.notes, *notes],
    seconds={**panel.seconds, what: time.monotonic() - start},
  )


def _kept(
  design: Design, needs: registry.Needs, *parts: Part
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Signals that are kept of models, on the samples and on the population.

  Where an attack takes the logits all other signals follow from them, and a row's own
  from those of its copies.
  """
  groups = {part.role for part in parts}
  if "reference" in groups and not design.models("in_out").size:
    groups.add("in_out")  # those references that held a sample stand for them
  found = []
  for which in ("signals", "population"):
    chosen = [of for name, of in needs.groups.items() if name in groups]
    names = dict.fromkeys(name for of in chosen for name in getattr(of, which))
    found.append(_least(tuple(names)))
  return found[0], found[1]


def _least(names: Sequence[str]) -> tuple[str, ...]:
  """Those signals that the others follow from."""
  on_copies = [name for name in names if parse(name)[1] is not None]
  if LOGITS in names:
    return (LOGITS, *on_copies)
  given = {parse(name)[0] for name in on_copies}
  return tuple(name for name in names if name not in given)


def _collect(
  trainable: config_lib.Trainable,
  design: Design,
  kept: tuple[Sequence[str], ...],
  copies: Copies,
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
      answers_lib.signals_of(answer, data, at, names, _BATCH, copies)
      for names, at in zip(kept, rows, strict=True)
    )
    return on_samples, on_population, defenses_lib.chose_epoch(defenses, state, job)

  return collect


def _diverged_epoch(result: parallel.Result, num_epochs: int) -> np.ndarray:
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


class _OwnJob(NamedTuple):
  """As `recipe.Job`, with rows that the model is asked about: its own, its target's."""

  member_idx: Any
  num_members: Any
  own_idx: Any
  target_idx: Any


def _train_together(
  design: Design,
  trainer: Trainer,
  needs: registry.Needs,
  data: recipe_lib.Data,
  copies: Copies,
) -> Panel:
  """Trains targets and others in one run; each is asked about its own rows."""
  start = time.monotonic()
  assert design.own is not None
  on_samples, on_population = _kept(design, needs, *design.parts)
  names = {*needs.signals, *_ALWAYS, *on_samples, *on_population}
  kept = _least(sorted(names))
  trainable = trainer.build()

  def collect(state, job: _OwnJob, data):
    answer = functools.partial(trainable.predict, recipe_lib.model_variables(state))
    ask = functools.partial(answers_lib.signals_of, answer, data)
    own = ask(job.own_idx, kept, _BATCH, copies)
    of_target = ask(job.target_idx, on_samples, _BATCH, copies)
    return own, of_target, defenses_lib.chose_epoch(trainer.defenses, state, job)

  own = design.own.astype(np.int32)
  result = trainer.run(
    "models",
    trainable.recipe,
    None,
    _OwnJob(*design.members, own, own[design.role == "target"][design.target]),
    data,
    collect=collect,
    width=trainer.width,
  )
  found, of_target, chose = result.collected
  block = Block(
    models=np.arange(len(design.role)),
    signals=evidence_lib.with_plain(of_target, 2),
    population=evidence_lib.with_plain(found, 2),
    converged=_diverged_epoch(result, trainer.train.num_epochs) < 0,
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
  panel = _with_chose(panel, block.models, chose)
  return panel._replace(targets=_own_targets(panel), notes=_chose_notes(panel))


def _own_targets(panel: Panel) -> list[Target | None]:
  """The targets' answers on their own rows."""
  (block,) = panel.blocks
  return [
    Target(own_signals(panel, int(m)), {}) if block.converged[m] else None
    for m in panel.design.models("target")
  ]


def own_signals(panel: Panel, models: int | np.ndarray) -> Signals:
  """Returns signals `[R, N, ...]` of models on rows of their own; `[N, ...]` of one."""
  assert panel.design.own is not None
  (block,) = panel.blocks
  kept = {name: array[models] for name, array in block.population.items()}
  if LOGITS not in kept:
    return kept
  labels = panel.y[panel.design.own[models]]
  return evidence_lib.joined(kept, evidence_lib.of_logits(kept[LOGITS], labels))


def with_output(panel: Panel, output: Callable[[jax.Array], jax.Array]) -> Panel:
  """Returns a panel whose models' predictions pass through an output defence.

  Args:
    panel: of models that were asked about rows of their own, with logits; what they
      answered on altered copies is left out, since a defence may change it.
    output: logits `[B, C]` -> logits.
  """
  run = jax.jit(output)

  def defended(signals: Signals) -> Signals:
    if LOGITS not in signals:
      return signals
    logits = signals[LOGITS]
    given = np.asarray(run(logits.reshape(-1, logits.shape[-1])))
    return {LOGITS: given.reshape(logits.shape)}

  (block,) = panel.blocks
  block = block._replace(
    signals=defended(block.signals), population=defended(block.population)
  )
  changed = panel._replace(blocks=(block,))
  return changed._replace(targets=_own_targets(changed))
