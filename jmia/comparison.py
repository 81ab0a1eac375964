"""Trains a target and the models it is compared with: the evidence of an audit.

One run trains all models but the target: reference models on rows of the population,
models distilled from the target, and models retrained without a member.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jmia import _validate, evaluation, signals, splits, types
from jmia import evidence as evidence_lib
from jmia.attacks import similarity
from jmia.defenses import registry
from jmia.evidence import Evidence
from jmia.stats import nulls
from jmia.training import config as config_lib
from jmia.training import distillation, parallel
from jmia.training import recipe as recipe_lib

Predict = Callable[[np.ndarray], Any]
Progress = Callable[[str, int, int], None]  # (what, done, total)

_TARGET_BATCH = 1024  # rows that the target is asked about at once
# Attacks that train models on the population, and those of them that need some of its
# rows held out of each model.
_FROM_POPULATION = {"shadow", "reference", "distillation", "classifier"}
_HOLD_OUT = {"shadow", "classifier"}
_SIGNAL_BATCH = 256  # rows that each of many models predicts at once
# Streams of the seed: each part of an audit draws from its own.
_SPLIT, _REFERENCE, _STUDENT, _LEFT_OUT, _TARGET, _MODELS, _PAIRED = range(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
  """Settings of an audit that trains models; sizes are rows.

  Attributes:
    attacks: which of `evaluation.EVERY`.
    num_members: the target's training set. Default: a quarter of the dataset, at
      most 2,500.
    num_nonmembers: evaluated beside them. Default: as many as members.
    num_population: rows that calibrate attacks and train the models compared with.
      Default: the rest, at most four times the members.
    num_references: reference models, which are also the shadow models; and, to the next
      even number, models trained on halves of the evaluated rows, for similarity.
    num_distilled: models distilled from the target.
    num_left_out: samples attacked by leave-one-out, half of them members.
    num_retrained: models retrained for each of them.
    estimator: one of `nulls.METHODS` for all attacks. Default: each attack's own.
    train: how every model is trained. Default: the dataset's preset.
    defenses: that every model carries, the target too if it is trained here.
    seed: of splits and training.
    width: models trained at once, the target apart. Default: chosen from memory
      (`parallel.run`).
  """

  attacks: tuple[str, ...] = ("population", "shadow", "reference", "distillation")
  num_members: int | None = None
  num_nonmembers: int | None = None
  num_population: int | None = None
  num_references: int = 16
  num_distilled: int = 16
  num_left_out: int = 20
  num_retrained: int = 8
  estimator: str | None = None
  train: config_lib.TrainConfig | None = None
  defenses: tuple[registry.DefenseConfig, ...] = ()
  seed: int = 0
  width: int | None = None

  def __post_init__(self) -> None:
    check_attacks(self.attacks)
    if self.estimator is not None:
      _validate.known("estimator", self.estimator, nulls.METHODS)
    for name in ("num_references", "num_distilled", "num_left_out", "num_retrained"):
      if getattr(self, name) < 2:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 2")
    if self.width is not None:
      _validate.positive("width", self.width)
    if self.seed < 0:
      raise ValueError(f"seed={self.seed} must be at least 0")


class Gathered(NamedTuple):
  """What training gave.

  Attributes:
    evidence: for the attacks.
    config: the settings with every default filled in.
    notes: what a reader of the results must know, such as models that diverged.
    train_seconds: wall time of all training.
    signal_seconds: wall time of the target's answers.
  """

  evidence: Evidence
  config: AuditConfig
  notes: list[str]
  train_seconds: float
  signal_seconds: float


def gather(
  dataset: types.Dataset,
  config: AuditConfig,
  *,
  predict: Predict | None = None,
  split: types.AuditSplit | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Gathered:
  """Trains what the attacks need; arguments and errors are those of `audit.run`."""
  if predict is not None and split is None:
    raise ValueError("predict needs split: which rows was the model trained on?")
  start = time.monotonic()
  stage = _prepare(dataset, config, split, checkpoint_dir, progress)
  predict = predict or _train_target(stage)
  trained = time.monotonic()
  logits = ask(predict, stage.x, dataset.num_classes)
  asked = time.monotonic()
  evidence, notes = _train_others(stage, logits)
  return Gathered(
    evidence=evidence,
    config=stage.config,
    notes=notes,
    train_seconds=trained - start + time.monotonic() - asked,
    signal_seconds=asked - trained,
  )


def check_attacks(attacks: Sequence[str]) -> None:
  """Raises ValueError if there are no attacks or one is unknown."""
  if not attacks:
    raise ValueError(f"attacks is empty, expected some of {evaluation.EVERY}")
  for name in attacks:
    _validate.known("attack", name, evaluation.EVERY)


class _Stage(NamedTuple):
  """The rows of an audit, in the order members, non-members, population."""

  dataset: types.Dataset
  config: AuditConfig
  train: config_lib.TrainConfig
  x: np.ndarray
  y: np.ndarray
  rows: np.ndarray  # of the dataset
  num_members: int
  num_evaluated: int  # members and non-members
  checkpoint_dir: pathlib.Path | None
  progress: Progress

  @property
  def members(self) -> np.ndarray:
    return np.arange(self.num_members)

  @property
  def nonmembers(self) -> np.ndarray:
    return np.arange(self.num_members, self.num_evaluated)

  @property
  def population(self) -> np.ndarray:
    return np.arange(self.num_evaluated, len(self.y))

  def key(self, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(self.config.seed), stream)

  def defended(self) -> registry.Plan:
    """What the defences change in the training of every model."""
    return registry.plan(
      self.config.defenses, self.train, self.dataset, num_members=self.num_members
    )

  def build(self, *transforms: recipe_lib.Transform) -> config_lib.Trainable:
    """The recipe of every model, and how it predicts."""
    return registry.build(self.defended(), self.dataset, transforms=transforms)

  def run(self, what: str, *args: Any, **kwargs: Any) -> parallel.Result:
    """Trains models in a checkpoint folder of their own."""
    directory = self.checkpoint_dir and self.checkpoint_dir / what
    return parallel.run(
      *args,
      **kwargs,
      checkpoint_dir=directory,
      config={
        "dataset": self.dataset.name,
        "train": dataclasses.asdict(self.train),
        "defenses": [dataclasses.asdict(one) for one in self.config.defenses],
      },
      progress=lambda done, total: self.progress(what, done, total),
    )

  def fail_diverged(self, message: str) -> NoReturn:
    """Raises ValueError; what was trained is of no use, and would be in the way."""
    if self.checkpoint_dir is not None:
      for what in ("target", "others"):
        shutil.rmtree(self.checkpoint_dir / what, ignore_errors=True)
      with contextlib.suppress(OSError):  # it is absent, or holds other files
        self.checkpoint_dir.rmdir()
    rate = self.train.optimizer.learning_rate
    raise ValueError(f"{message}: lower learning_rate={rate}")


def _prepare(dataset, config, split, checkpoint_dir, progress) -> _Stage:
  """Fills in the defaults that depend on the dataset, and gathers the rows."""
  if split is None:
    num_members = config.num_members or min(dataset.num_examples // 4, 2500)
    num_nonmembers = config.num_nonmembers or num_members
    rest = dataset.num_examples - num_members - num_nonmembers
    split = splits.audit(
      dataset.num_examples,
      num_members=num_members,
      num_nonmembers=num_nonmembers,
      num_population=config.num_population or max(1, min(rest, 4 * num_members)),
      seed=(config.seed, _SPLIT),
    )
    if len(split.population) < num_members and _FROM_POPULATION & {*config.attacks}:
      raise ValueError(
        f"num_members={num_members} is above the population's "
        f"{len(split.population)} rows, on which the models compared with are trained: "
        "lower num_members or num_nonmembers, or raise num_population"
      )
  else:
    splits.check_disjoint(split, dataset.num_examples)
  rows = np.concatenate(split)
  x, y = np.ascontiguousarray(dataset.x[rows]), dataset.y[rows]
  _validate.finite("features", x)
  _validate.labels("labels", y, dataset.num_classes)
  y = y.astype(np.int32)
  train = config.train or config_lib.preset(dataset.name)
  config = dataclasses.replace(
    config,
    num_members=len(split.members),
    num_nonmembers=len(split.nonmembers),
    num_population=len(split.population),
    train=train,
  )
  return _Stage(
    dataset=dataset,
    config=config,
    train=train,
    x=x,
    y=y,
    rows=rows,
    num_members=len(split.members),
    num_evaluated=len(split.members) + len(split.nonmembers),
    checkpoint_dir=None if checkpoint_dir is None else pathlib.Path(checkpoint_dir),
    progress=progress,
  )


def _train_target(stage: _Stage) -> Predict:
  """Trains the model under audit; from here on it is a black box."""
  trainable = stage.build()
  result = stage.run(
    "target",
    trainable.recipe,
    stage.key(_TARGET),
    recipe_lib.Job(*splits.ragged([stage.members])),
    recipe_lib.Data(stage.x, stage.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
  )
  if result.diverged_epoch[0] >= 0:
    stage.fail_diverged(f"the target diverged at epoch {result.diverged_epoch[0]}")
  variables = jax.tree.map(lambda a: a[0], result.collected)
  forward = jax.jit(trainable.predict)

  def predict(x: np.ndarray) -> np.ndarray:
    logits = np.asarray(forward(variables, x))
    if not np.isfinite(logits).all():  # of weights that are finite, but huge
      stage.fail_diverged(f"the target diverged at epoch {stage.train.num_epochs - 1}")
    return logits

  return predict


def ask(predict: Predict, x: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns a target's logits on all rows.

  Args:
    predict: features `[B, ...]` -> logits or probabilities `[B, C]`.
    x: `[n, ...]` features.
    num_classes: `C`.

  Returns:
    `[n, C]` float32.

  Raises:
    ValueError: if an answer is of another shape or not finite.
  """
  answers = []
  for start in range(0, len(x), _TARGET_BATCH):
    batch = x[start : start + _TARGET_BATCH]
    answers.append(np.asarray(predict(batch)))
    _validate.shape("predict(x)", answers[-1], (len(batch), num_classes))
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    answer = np.concatenate(answers).astype(np.float32)
  _validate.finite("predict(x)", answer)
  return evidence_lib.as_logits(answer)


def _train_others(stage: _Stage, logits: np.ndarray) -> tuple[Evidence, list[str]]:
  """Trains every other model that the attacks ask for, all in one run."""
  losses, correct = evidence_lib.losses_and_correct(logits, stage.y)
  n = stage.num_evaluated
  evidence = Evidence(
    index=stage.rows[:n],
    labels=stage.y[:n],
    members=np.arange(n) < stage.num_members,
    num_classes=stage.dataset.num_classes,
    losses=losses[:n],
    correct=correct[:n],
    population_losses=losses[n:],
    population_labels=stage.y[n:],
    logits=logits[:n],
  )
  plan = _plan(stage)
  if not plan:
    return evidence, _guarantee_note(stage)
  _check_population(stage, plan)
  trainable = stage.build(distillation.soft_labels)
  assigned = splits.concatenate(*plan.values())
  kind = np.repeat(list(plan), [len(part.num_members) for part in plan.values()])
  result = stage.run(
    "others",
    trainable.recipe,
    stage.key(_MODELS),
    distillation.Job(
      *assigned, teacher=np.where(kind == "distilled", 0, distillation.NO_TEACHER)
    ),
    distillation.Data(stage.x, stage.y, logits[None]),
    collect=_answers_of(trainable.predict, stage.config.attacks, logits, n),
    width=stage.config.width,
  )
  collected = result.collected
  diverged_epoch = _diverged_epoch(result, stage.train.num_epochs)
  notes = _guarantee_note(stage) + _size_note(stage)
  notes += _divergence_notes(stage, kind, diverged_epoch)
  converged = diverged_epoch < 0
  if "reference" in plan:
    kept = (kind == "reference") & converged
    losses = collected["loss"][kept]
    held = splits.member_mask(assigned, len(stage.y))[kept]
    evidence = evidence._replace(
      reference_losses=losses[:, :n],
      reference_held=held[:, :n],
      reference_population_losses=losses[:, n:],
      reference_population_held=held[:, n:],
      shadow_logits=collected["logits"][kept] if "logits" in collected else None,
    )
  if "paired" in plan:
    kept = (kind == "paired") & converged
    evidence = evidence._replace(
      paired_divergences=collected["divergence"][kept],
      paired_held=splits.member_mask(assigned, len(stage.y))[kept][:, :n],
    )
  if "distilled" in plan:
    kept = (kind == "distilled") & converged
    evidence = evidence._replace(distilled_losses=collected["loss"][kept][:, :n])
  if "left_out" in plan:
    members, nonmembers = _left_out(stage)
    # [Q / 2, L, n] and [L, n]: each member has models of its own, while for a
    # non-member leaving it out changes nothing, and all share theirs.
    each = (len(members), -1)
    without = collected["loss"][kind == "left_out"].reshape(*each, len(stage.y))
    full = collected["loss"][kind == "retrained"]
    own = np.take_along_axis(without, members[:, None, None], axis=2)[..., 0]
    valid = np.hstack(
      [
        converged[kind == "left_out"].reshape(each).T,
        np.repeat(converged[kind == "retrained"][:, None], len(nonmembers), axis=1),
      ]
    )
    losses = np.where(valid, np.hstack([own.T, full[:, nonmembers]]), 0)
    enough = valid.sum(axis=0) >= 2  # else too many of a sample's models diverged
    left_out = np.concatenate([members, nonmembers])[enough]
    if len(np.unique(evidence.members[left_out])) == 2:
      evidence = evidence._replace(
        left_out=left_out,
        left_out_losses=losses[:, enough],
        left_out_valid=valid[:, enough],
      )
  return evidence, notes


def _plan(stage: _Stage) -> dict[str, types.Splits]:
  """Returns who trains on what, by kind of model."""
  config, plan = stage.config, {}
  draw = lambda num_models, stream: splits.draw(  # noqa: E731
    stage.population, _train_size(stage), num_models, seed=(config.seed, stream)
  )
  if {"shadow", "reference", "classifier"} & set(config.attacks):
    plan["reference"] = draw(config.num_references, _REFERENCE)
  if "distillation" in config.attacks:
    plan["distilled"] = draw(config.num_distilled, _STUDENT)
  if "similarity" in config.attacks:
    # Halves of the samples themselves: each is in half of the models, which are as
    # large as the target where there are as many members as others.
    evaluated = np.arange(stage.num_evaluated)
    num_pairs = (config.num_references + 1) // 2
    plan["paired"] = splits.paired(evaluated, num_pairs, seed=(config.seed, _PAIRED))
  if "leave_one_out" in config.attacks:
    members, _ = _left_out(stage)
    repeated = np.repeat(members, config.num_retrained)
    plan["left_out"] = splits.without_each(stage.members, repeated)
    plan["retrained"] = splits.ragged([stage.members] * config.num_retrained)
  return plan


def _left_out(stage: _Stage) -> tuple[np.ndarray, np.ndarray]:
  """Returns the members `[Q / 2]` and non-members that leave-one-out attacks."""
  generator = np.random.default_rng((stage.config.seed, _LEFT_OUT))
  members = generator.permutation(stage.members)
  nonmembers = generator.permutation(stage.nonmembers)
  num_members = stage.config.num_left_out // 2
  return members[:num_members], nonmembers[: stage.config.num_left_out - num_members]


def losses_of(
  predict: Callable[[Any, jax.Array], jax.Array], rows: slice = slice(None)
) -> parallel.Collect:
  """Returns the `collect` that keeps a model's loss on rows of the data.

  Args:
    predict: (variables, x as stored) -> logits.
    rows: the `n` rows; the collected losses are `[n]` float32.
  """

  def collect(state, job, data):
    del job
    answer = functools.partial(predict, recipe_lib.model_variables(state))
    return signals.stream(
      answer, data.x[rows], data.y[rows], names=("loss",), batch_size=_SIGNAL_BATCH
    )["loss"]

  return collect


def _answers_of(
  predict: Callable[[Any, jax.Array], jax.Array],
  attacks: Sequence[str],
  target_logits: np.ndarray,
  num_evaluated: int,
) -> parallel.Collect:
  """Keeps a model's losses, and what the attacks need of its answers beside them."""
  losses = losses_of(predict)

  def collect(state, job, data):
    kept = {"loss": losses(state, job, data)}

    def answers(rows):
      variables = recipe_lib.model_variables(state)
      return recipe_lib.answers(
        predict, variables, data.x, rows, batch_size=_SIGNAL_BATCH
      )

    if "classifier" in attacks:
      kept["logits"] = answers(np.arange(num_evaluated, len(target_logits)))
    if "similarity" in attacks:
      kept["divergence"] = similarity.divergence(
        data.teacher_logits[0, :num_evaluated], answers(np.arange(num_evaluated))
      )
    return kept

  return collect


def _guarantee_note(stage: _Stage) -> list[str]:
  """Says what DP-SGD guarantees, if it was used."""
  run = stage.defended().mechanism
  if run is None:
    return []
  return [
    f"every model was trained with DP-SGD: epsilon={run.epsilon:.3g} at"
    f" delta={run.delta:g}, for one member added or removed"
  ]


def _train_size(stage: _Stage) -> int:
  """Returns on how many rows models train: the target's, if the population has them."""
  available = len(stage.population)
  if _HOLD_OUT & {*stage.config.attacks}:
    available -= math.ceil(available / 5)
  return min(stage.num_members, available)


def _size_note(stage: _Stage) -> list[str]:
  """Says so where the models compared with had to be trained on fewer rows."""
  size = _train_size(stage)
  if size == stage.num_members or not {*stage.config.attacks} & _FROM_POPULATION:
    return []
  return [
    f"the population has {len(stage.population)} rows, so the models compared with "
    f"are trained on {size} where the target has {stage.num_members}: they fit less "
    "well, which makes every sample look more like a member"
  ]


def _check_population(stage: _Stage, plan: Mapping[str, types.Splits]) -> None:
  """Refuses, before training, a population that leaves a class without its null."""
  if "shadow" not in stage.config.attacks:
    return
  held = splits.member_mask(plan["reference"], len(stage.y))[:, stage.num_evaluated :]
  labels = stage.y[stage.num_evaluated :]
  for label in np.unique(stage.y[: stage.num_evaluated]):
    num = (~held[:, labels == label]).sum()
    if num < 2:
      raise ValueError(
        f"num_population={len(labels)}: shadow finds {num} rows of class {label} that "
        "a reference model does not train on, and needs 2"
      )


def _diverged_epoch(result: parallel.Result, num_epochs: int) -> np.ndarray:
  """Returns `[M]`: also those whose weights stayed finite, but not their losses."""
  is_finite = np.isfinite(result.collected["loss"]).all(axis=1)
  epoch = result.diverged_epoch
  return np.where((epoch < 0) & ~is_finite, num_epochs - 1, epoch)


def _divergence_notes(
  stage: _Stage, kind: np.ndarray, diverged_epoch: np.ndarray
) -> list[str]:
  """Names the models left out; raises ValueError if a kind is left with too few."""
  notes = []
  for name in dict.fromkeys(kind.tolist()):
    epochs = diverged_epoch[kind == name]
    bad = np.flatnonzero(epochs >= 0)
    if len(epochs) - len(bad) < 2:
      which = ", ".join(f"{m} at epoch {epochs[m]}" for m in bad[:8])
      which += ", ..." if len(bad) > 8 else ""
      stage.fail_diverged(
        f"{len(bad)} of {len(epochs)} {name} models diverged ({which})"
      )
    notes += [f"{name} model {m} diverged at epoch {epochs[m]}: left out" for m in bad]
  return notes
