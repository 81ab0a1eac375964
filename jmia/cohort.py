"""Trains a cohort of like models, and compares some of them with all the others.

Ye et al., section 5: `M` models are trained alike, each on a random subset of one pool.
The first few are targets; for each of them the other `M - 1` are shadow and reference
models. Attack D's students learn from a target on the rows that the others were
trained on, and Attack L's models are trained on the first target's rows but one.

Whose rows are whose:

- The dataset is cut at random into a *population*, which calibrates Attacks S and P and
  which no model trains on, and a *pool*. A population row is never evaluated.
- Every model trains on `num_members` rows of the pool, drawn for itself.
- A target is evaluated on its members and as many other rows of its pool.
- A reference or a student that was trained on a sample is left out of that sample's
  null, so every null is of models that have not seen it.

Subsets of a pool overlap: a reference shares about `num_members / pool` of a target's
rows. Only losses are kept, of rows that are evaluated or calibrate; a target itself is
kept until its students are trained.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import _validate, comparison, splits, types
from jmia import evidence as evidence_lib
from jmia.evidence import Evidence
from jmia.training import config as config_lib
from jmia.training import distillation, parallel
from jmia.training import recipe as recipe_lib

# Streams of the seed: each part of a cohort draws from its own.
_CUT, _MEMBERS, _NONMEMBERS, _TARGETS, _REFERENCES, _STUDENTS, _LEFT_OUT = range(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortConfig:
  """Settings of a cohort; sizes are rows.

  Attributes:
    num_models: `M`.
    num_targets: `T`, the first of them.
    num_members: `K`, each model's training set, and as many non-members of a target.
    num_population: `P`.
    num_distilled_targets: `D`, the first of the targets, that are distilled.
    num_students: `S`, models distilled from each. Default: `M - 1`.
    num_left_out: `Q`, samples of the first target that models are retrained without,
      half of them members; 0 for none.
    num_retrained: models retrained for each of them.
    train: how every model is trained.
    seed: of splits and training.
    width: models trained at once. Default: chosen from memory (`parallel.run`).
  """

  num_models: int
  num_targets: int
  num_members: int
  num_population: int
  num_distilled_targets: int = 0
  num_students: int | None = None
  num_left_out: int = 0
  num_retrained: int = 8
  train: config_lib.TrainConfig
  seed: int = 0
  width: int | None = None

  def __post_init__(self) -> None:
    for name in ("num_models", "num_targets", "num_members", "num_population"):
      _validate.positive(name, getattr(self, name))
    if self.num_models < 3:
      raise ValueError(
        f"num_models={self.num_models} must be at least 3: a target is compared with 2"
      )
    _at_most("num_targets", self.num_targets, "num_models", self.num_models)
    _at_most(
      *("num_distilled_targets", self.num_distilled_targets),
      *("num_targets", self.num_targets),
    )
    if self.num_students is not None and not 2 <= self.num_students < self.num_models:
      raise ValueError(
        f"num_students={self.num_students} must be from 2 to num_models - 1 = "
        f"{self.num_models - 1}, whose rows they are trained on"
      )
    if self.num_left_out:
      _at_most("num_left_out", self.num_left_out, "2 num_members", 2 * self.num_members)
      for name in ("num_left_out", "num_retrained"):
        if getattr(self, name) < 2:
          raise ValueError(f"{name}={getattr(self, name)} must be at least 2")


class Cohort(NamedTuple):
  """What training gave: losses on the `U` rows that any target is evaluated on.

  Attributes:
    config: the settings, `num_students` filled in.
    rows: `[U]` int32, each evaluated row in the dataset.
    labels: `[U]` int32.
    population_labels: `[P]` int32.
    num_classes: `C`.
    samples: `[T, 2 K]` int32 positions in `U`: a target's members, its non-members.
    held: `[M, U]` bool, whether model m was trained on the row.
    losses: `[M, U]` float32.
    population_losses: `[M, P]` float32.
    correct: `[T, U]` bool, whether the target predicts the label.
    converged: `[M]` bool; the losses of a model that diverged mean nothing.
    students: `[D, S]` int32: the model on whose rows each student was trained.
    student_losses: `[D, S, U]` float32.
    students_converged: `[D, S]` bool.
    left_out_losses: `[L, Q]` float32, of models trained on the first target's rows
      without that sample: its first `Q // 2` members and `Q - Q // 2` non-members.
    left_out_valid: `[L, Q]` bool, false where such a model diverged.
    notes: what a reader of the results must know, such as models that diverged.
    seconds: wall time of each stage.
  """

  config: CohortConfig
  rows: np.ndarray
  labels: np.ndarray
  population_labels: np.ndarray
  num_classes: int
  samples: np.ndarray
  held: np.ndarray
  losses: np.ndarray
  population_losses: np.ndarray
  correct: np.ndarray
  converged: np.ndarray
  students: np.ndarray
  student_losses: np.ndarray
  students_converged: np.ndarray
  left_out_losses: np.ndarray
  left_out_valid: np.ndarray
  notes: list[str]
  seconds: dict[str, float]


def gather(
  dataset: types.Dataset,
  config: CohortConfig,
  *,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: comparison.Progress = lambda what, done, total: None,
) -> Cohort:
  """Trains a cohort.

  Args:
    dataset: the data.
    config: settings.
    checkpoint_dir: where training is saved and resumed.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: if sizes do not fit the dataset, features are not finite, labels are
      out of range, a target diverges, or `checkpoint_dir` holds another
      configuration's run.
  """
  _validate.finite("features", dataset.x)
  _validate.labels("labels", dataset.y, dataset.num_classes)
  if config.num_students is None:
    config = dataclasses.replace(config, num_students=config.num_models - 1)
  stage = _prepare(dataset, config, checkpoint_dir, progress)
  targets = _train_targets(stage)
  references = _train_references(stage)
  students, student_losses, students_converged = _train_students(stage, targets.logits)
  left_out_losses, left_out_valid = _retrain(stage)
  num_evaluated, (at_references, of_references) = stage.num_evaluated, references
  converged = np.append(np.ones(config.num_targets, bool), of_references)
  return Cohort(
    config=config,
    rows=stage.rows[:num_evaluated],
    labels=stage.y[:num_evaluated],
    population_labels=stage.y[stage.num_pool :],
    num_classes=dataset.num_classes,
    samples=stage.samples,
    held=splits.member_mask(stage.assigned, stage.num_pool)[:, :num_evaluated],
    losses=np.concatenate([targets.losses[:, :num_evaluated], at_references[0]]),
    population_losses=np.concatenate(
      [targets.losses[:, stage.num_pool :], at_references[1]]
    ),
    correct=targets.correct[:, :num_evaluated],
    converged=converged,
    students=students,
    student_losses=student_losses,
    students_converged=students_converged,
    left_out_losses=left_out_losses,
    left_out_valid=left_out_valid,
    notes=stage.notes,
    seconds=stage.seconds,
  )


def evidence(cohort: Cohort, target: int, at: np.ndarray | None = None) -> Evidence:
  """Returns what the attacks are given of one target.

  Args:
    cohort: of `gather`.
    target: one of its `T` targets. Attack D's part is absent unless it was distilled.
    at: `[N]` positions in `U` of other samples. Default: `cohort.samples[target]`, with
      Attack L's part if it is the first target and models were retrained.
  """
  config, is_own = cohort.config, at is None
  at = cohort.samples[target] if at is None else at
  others = np.flatnonzero(cohort.converged & (np.arange(config.num_models) != target))
  found = Evidence(
    index=cohort.rows[at],
    labels=cohort.labels[at],
    members=cohort.held[target, at],
    num_classes=cohort.num_classes,
    losses=cohort.losses[target, at],
    correct=cohort.correct[target, at],
    population_losses=cohort.population_losses[target],
    population_labels=cohort.population_labels,
    reference_losses=cohort.losses[np.ix_(others, at)],
    reference_held=cohort.held[np.ix_(others, at)],
    reference_population_losses=cohort.population_losses[others],
    reference_population_held=np.zeros((len(others), config.num_population), bool),
  )
  if target < config.num_distilled_targets:
    kept = np.flatnonzero(cohort.students_converged[target])
    found = found._replace(
      distilled_losses=cohort.student_losses[target][np.ix_(kept, at)],
      distilled_held=cohort.held[np.ix_(cohort.students[target][kept], at)],
    )
  if target == 0 and is_own and config.num_left_out:
    enough = cohort.left_out_valid.sum(axis=0) >= 2
    found = found._replace(
      left_out=_left_out(config)[enough],
      left_out_losses=cohort.left_out_losses[:, enough],
      left_out_valid=cohort.left_out_valid[:, enough],
    )
  return found


class _Stage(NamedTuple):
  """The cohort's rows, in the order evaluated, rest of the pool, population."""

  dataset: types.Dataset
  config: CohortConfig
  rows: np.ndarray  # of the dataset
  x: np.ndarray
  y: np.ndarray
  num_evaluated: int
  num_pool: int
  assigned: types.Splits  # of all models
  samples: np.ndarray  # [T, 2 K], as in Cohort
  checkpoint_dir: pathlib.Path | None
  progress: comparison.Progress
  notes: list[str]
  seconds: dict[str, float]

  @property
  def evaluated(self) -> slice:
    return slice(self.num_evaluated)

  @property
  def population(self) -> slice:
    return slice(self.num_pool, None)

  def jobs(self, models: Sequence[int] | np.ndarray) -> recipe_lib.Job:
    return recipe_lib.Job(*(a[np.asarray(models)] for a in self.assigned))

  def train(
    self, what: str, trainable: config_lib.Trainable, stream: int, *args, **kwargs
  ) -> parallel.Result:
    """Trains models in a checkpoint folder of their own."""
    start = time.monotonic()
    key = jax.random.fold_in(jax.random.key(self.config.seed), stream)
    settings = dataclasses.asdict(self.config.train)
    result = parallel.run(
      trainable.recipe,
      key,
      *args,
      **kwargs,
      width=self.config.width,
      checkpoint_dir=self.checkpoint_dir and self.checkpoint_dir / what,
      config={"dataset": self.dataset.name, "train": settings},
      progress=lambda done, total: self.progress(what, done, total),
    )
    self.seconds[what] = time.monotonic() - start
    return result

  def converged(self, what: str, result: parallel.Result) -> np.ndarray:
    """Returns `[M]` bool, and notes who diverged, if only where its losses show it."""
    is_finite = [
      np.isfinite(a).reshape(len(a), -1).all(axis=1)
      for a in jax.tree.leaves(result.collected)
    ]
    converged = np.all([result.diverged_epoch < 0, *is_finite], axis=0)
    self.notes.extend(
      f"{what} model {m} diverged: left out" for m in np.flatnonzero(~converged)
    )
    return converged


def _prepare(dataset, config: CohortConfig, checkpoint_dir, progress) -> _Stage:
  """Cuts the dataset, draws who trains on what, and puts evaluated rows in front."""
  num_pool = dataset.num_examples - config.num_population
  if num_pool < 2 * config.num_members:
    raise ValueError(
      f"num_population={config.num_population} leaves a pool of {max(num_pool, 0)} of "
      f"the {dataset.num_examples} rows, and num_members={config.num_members} with as "
      f"many non-members take {2 * config.num_members}"
    )
  generator = np.random.default_rng((config.seed, _CUT))
  order = generator.permutation(dataset.num_examples).astype(np.int32)
  pool, population = np.split(order, [num_pool])
  drawn = splits.draw(
    np.arange(num_pool),
    config.num_members,
    config.num_models,
    seed=(config.seed, _MEMBERS),
  )
  samples = np.stack(
    [
      np.append(members, _nonmembers(members, num_pool, config.seed, t))
      for t, members in enumerate(drawn.member_idx[: config.num_targets])
    ]
  )
  first = samples[0, _left_out(config)]
  evaluated = np.append(first, np.setdiff1d(samples, first))
  rest = np.setdiff1d(np.arange(num_pool), evaluated)
  in_order = np.append(evaluated, rest)
  position = np.empty(num_pool, np.int32)
  position[in_order] = np.arange(num_pool, dtype=np.int32)
  rows = np.concatenate([pool[in_order], population])
  return _Stage(
    dataset=dataset,
    config=config,
    rows=rows,
    x=np.ascontiguousarray(dataset.x[rows]),
    y=dataset.y[rows].astype(np.int32),
    num_evaluated=len(evaluated),
    num_pool=num_pool,
    assigned=drawn._replace(member_idx=position[drawn.member_idx]),
    samples=position[samples],
    checkpoint_dir=None if checkpoint_dir is None else pathlib.Path(checkpoint_dir),
    progress=progress,
    notes=[],
    seconds={},
  )


def _nonmembers(members: np.ndarray, num_pool: int, seed: int, target: int):
  """As many rows of the pool, drawn from those that the target is not trained on."""
  others = np.setdiff1d(np.arange(num_pool), members)
  generator = np.random.default_rng((seed, _NONMEMBERS, target))
  return generator.permutation(others)[: len(members)]


def _left_out(config: CohortConfig) -> np.ndarray:
  """Returns which of the first target's samples models are retrained without, `[Q]`."""
  num_members = config.num_left_out // 2
  nonmembers = np.arange(config.num_left_out - num_members) + config.num_members
  return np.append(np.arange(num_members), nonmembers)


class _Answers(NamedTuple):
  """The targets' answers on all rows `N`."""

  losses: np.ndarray  # [T, N]
  correct: np.ndarray  # [T, N]
  logits: np.ndarray  # [D, N', C], on the pool alone


def _train_targets(stage: _Stage) -> _Answers:
  """Trains the targets, and asks them about every row."""
  config = stage.config
  trainable = config_lib.build(config.train, stage.dataset)
  result = stage.train(
    "targets",
    trainable,
    _TARGETS,
    stage.jobs(range(config.num_targets)),
    recipe_lib.Data(stage.x, stage.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
  )
  for target, epoch in enumerate(result.diverged_epoch):
    if epoch >= 0:
      rate = config.train.optimizer.learning_rate
      raise ValueError(
        f"target {target} diverged at epoch {epoch}: lower learning_rate={rate}"
      )
  forward = jax.jit(trainable.predict)
  start = time.monotonic()
  losses, correct, kept = [], [], []
  for target in range(config.num_targets):
    variables = jax.tree.map(lambda a, t=target: a[t], result.collected)
    predict: Callable[[np.ndarray], Any] = functools.partial(forward, variables)
    logits = comparison.ask(predict, stage.x, stage.dataset.num_classes)
    answer = evidence_lib.losses_and_correct(logits, stage.y)
    losses.append(answer[0])
    correct.append(answer[1])
    if target < config.num_distilled_targets:
      kept.append(logits[: stage.num_pool])
  stage.seconds["signals"] = time.monotonic() - start
  none = np.empty((0, stage.num_pool, stage.dataset.num_classes), np.float32)
  return _Answers(np.stack(losses), np.stack(correct), np.stack(kept) if kept else none)


def _train_references(stage: _Stage) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
  """Returns the others' losses, `[R, U]` and `[R, P]`, and who converged, `[R]`."""
  config = stage.config
  models = np.arange(config.num_targets, config.num_models)
  if not len(models):
    nothing = (
      np.empty((0, stage.num_evaluated), np.float32),
      np.empty((0, config.num_population), np.float32),
    )
    return nothing, np.empty(0, bool)
  trainable = config_lib.build(config.train, stage.dataset)
  parts = [
    comparison.losses_of(trainable.predict, rows)
    for rows in (stage.evaluated, stage.population)
  ]
  result = stage.train(
    "references",
    trainable,
    _REFERENCES,
    stage.jobs(models),
    recipe_lib.Data(stage.x, stage.y),
    collect=lambda *state_job_data: tuple(part(*state_job_data) for part in parts),
  )
  return result.collected, stage.converged("reference", result)


def _train_students(
  stage: _Stage, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns whose rows each student had, their losses, and who converged."""
  config = stage.config
  num_teachers, num_students = config.num_distilled_targets, config.num_students or 0
  others = [np.delete(np.arange(config.num_models), t) for t in range(num_teachers)]
  # Of the last models, so that few students are trained on a target's rows.
  students = np.array([rows[len(rows) - num_students :] for rows in others], np.int32)
  students = students.reshape(num_teachers, num_students)
  shape = (num_teachers, num_students)
  if not students.size:
    empty = np.empty((*shape, stage.num_evaluated), np.float32)
    return students, empty, np.empty(shape, bool)
  trainable = config_lib.build(
    config.train, stage.dataset, transforms=(distillation.soft_labels,)
  )
  teachers = np.repeat(np.arange(num_teachers, dtype=np.int32), num_students)
  result = stage.train(
    "students",
    trainable,
    _STUDENTS,
    distillation.Job(*stage.jobs(students.ravel()), teacher=teachers),
    distillation.Data(stage.x, stage.y, logits),
    collect=comparison.losses_of(trainable.predict, stage.evaluated),
  )
  converged = stage.converged("student", result)
  return students, result.collected.reshape(*shape, -1), converged.reshape(shape)


def _retrain(stage: _Stage) -> tuple[np.ndarray, np.ndarray]:
  """Returns losses on the `Q` left-out samples, and which of them count; `[L, Q]`."""
  config = stage.config
  num_samples, num_models = config.num_left_out, config.num_retrained
  if not num_samples:
    return np.empty((num_models, 0), np.float32), np.empty((num_models, 0), bool)
  num_members = num_samples // 2
  members = stage.samples[0, : config.num_members]
  # Leaving out a non-member changes nothing, so all non-members share their models.
  assigned = splits.concatenate(
    splits.without_each(members, np.repeat(members[:num_members], num_models)),
    splits.ragged([members] * num_models),
  )
  trainable = config_lib.build(config.train, stage.dataset)
  result = stage.train(
    "left_out",
    trainable,
    _LEFT_OUT,
    recipe_lib.Job(*assigned),
    recipe_lib.Data(stage.x, stage.y),
    collect=comparison.losses_of(trainable.predict, slice(num_samples)),
  )
  converged = stage.converged("left_out", result)
  # [Q / 2 + 1, L, Q]: the models of each member, and last those of all non-members.
  losses = result.collected.reshape(num_members + 1, num_models, num_samples)
  valid = converged.reshape(num_members + 1, num_models)
  whose = np.minimum(np.arange(num_samples), num_members)
  valid = valid[whose].T
  return np.where(valid, losses[whose, :, np.arange(num_samples)].T, 0), valid


def _at_most(name: str, value: int, bound_name: str, bound: int) -> None:
  """Raises ValueError unless `value` lies in [0, `bound`]."""
  if not 0 <= value <= bound:
    raise ValueError(f"{name}={value} must be from 0 to {bound_name} = {bound}")
