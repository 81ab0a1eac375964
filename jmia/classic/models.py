"""Targets and their shadow models, trained in one run, and what they answer."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, splits, types
from jmia.defenses import dp_sgd, early_stopping, registry
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

_ANSWER_BATCH = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """How the models of a study are trained.

  Attributes:
    train: of every model.
    defenses: that every model carries.
    num_shadows: shadow models of each target.
    num_members: rows each model trains on, and as many others it is evaluated on.
      Default: all rows, in equal parts.
    num_trials: targets, each with a cut of its own.
    seed: of cuts and training.
    width: models trained at once. Default: chosen from memory.
  """

  train: config_lib.TrainConfig
  defenses: tuple[registry.DefenseConfig, ...] = ()
  num_shadows: int = 1
  num_members: int | None = None
  num_trials: int = 1
  seed: int = 0
  width: int | None = None

  def __post_init__(self) -> None:
    for name in ("num_shadows", "num_trials"):
      _validate.positive(name, getattr(self, name))
    if self.num_members is not None:
      _validate.positive("num_members", self.num_members)


class Answers(NamedTuple):
  """What the models of a study answered; model 0 of a trial is its target.

  Attributes:
    logits: `[T, 1 + k, n, C]` float32, each model's on its own members and then on as
      many others.
    labels: `[T, 1 + k, n]` int32.
    members: `[n]` bool.
    is_evaluated: `[T, 1 + k, n]` bool, false for members that only chose the epoch of
      early stopping.
    converged: `[T, 1 + k]` bool.
    train_loss: `[T, 1 + k]` of the last epoch.
    mechanism: of DP-SGD; None without it.
  """

  logits: np.ndarray
  labels: np.ndarray
  members: np.ndarray
  is_evaluated: np.ndarray
  converged: np.ndarray
  train_loss: np.ndarray
  mechanism: dp_sgd.Mechanism | None


class _Job(NamedTuple):
  """As `recipe.Job`, with the others that the model is evaluated on."""

  member_idx: Any
  num_members: Any
  nonmember_idx: Any


def part_size(dataset: types.Dataset, setting: Setting) -> int:
  """Returns the rows of each part: members, or others, of one model.

  Raises:
    ValueError: if the dataset has too few rows for `2 (1 + num_shadows)` such parts.
  """
  num_parts = 2 * (1 + setting.num_shadows)
  largest = dataset.num_examples // num_parts
  size = setting.num_members or largest
  if not 1 <= size <= largest:
    raise ValueError(
      f"num_members={size} in {num_parts} parts (members and others of a target and"
      f" num_shadows={setting.num_shadows}) exceed the {dataset.num_examples} examples"
    )
  return size


def train(
  dataset: types.Dataset,
  setting: Setting,
  *,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: parallel.Progress = lambda done, total: None,
) -> Answers:
  """Trains targets and shadow models, all alike, on disjoint parts of a dataset.

  Of each trial the rows are cut at random into `2 (1 + k)` equal parts: members and
  others of the target, and of each of its `k` shadow models (the report's `D_train,
  D_test, D'_train, D'_test` if `k = 1`).

  Args:
    dataset: to train on.
    setting: how.
    checkpoint_dir: where to save and resume.
    progress: called as `progress(done, total)` in model-epochs.

  Raises:
    ValueError: as `part_size`, `registry.plan`, `registry.build` and `parallel.run`.
  """
  size = part_size(dataset, setting)
  num_models = 1 + setting.num_shadows
  parts = np.stack(
    [
      _cut(dataset.num_examples, size, num_models, (setting.seed, trial))
      for trial in range(setting.num_trials)
    ]
  )  # [T, 1 + k, 2, K]
  members, others = parts.reshape(-1, 2, size).swapaxes(0, 1)
  plan = registry.plan(setting.defenses, setting.train, dataset, num_members=size)
  trainable = registry.build(plan, dataset)
  result = parallel.run(
    trainable.recipe,
    jax.random.key(setting.seed),
    _Job(members, np.full(len(members), size, np.int32), others),
    recipe_lib.Data(dataset.x, dataset.y),
    collect=_collect(trainable, _validation_share(setting.defenses)),
    width=setting.width,
    checkpoint_dir=checkpoint_dir,
    config={"setting": dataclasses.asdict(setting), "dataset": dataset.name},
    progress=progress,
  )
  logits, is_evaluated = result.collected
  shape = (setting.num_trials, num_models)
  is_finite = np.isfinite(logits).all(axis=(1, 2))
  return Answers(
    logits=logits.reshape(*shape, *logits.shape[1:]),
    labels=dataset.y[parts.reshape(*shape, 2 * size)],
    members=np.arange(2 * size) < size,
    is_evaluated=is_evaluated.reshape(*shape, 2 * size),
    converged=((result.diverged_epoch < 0) & is_finite).reshape(shape),
    train_loss=result.metrics["loss"][:, -1].reshape(shape),
    mechanism=plan.mechanism,
  )


def _cut(num_examples: int, size: int, num_models: int, seed) -> np.ndarray:
  """Returns `[M, 2, K]` rows: each model's members and others."""
  parts = splits.parts(np.arange(num_examples), 2 * num_models, seed=seed)
  return np.stack([part[:size] for part in parts]).reshape(num_models, 2, size)


def _validation_share(defenses: Sequence[registry.DefenseConfig]) -> float | None:
  for defense in defenses:
    if defense.name == "early_stopping":
      return defense.strength
  return None


def _collect(
  trainable: config_lib.Trainable, validation_share: float | None
) -> parallel.Collect:
  """A model's logits on its members and others, and which of them count."""

  def collect(state, job: _Job, data):
    rows = jnp.concatenate([job.member_idx, job.nonmember_idx])
    logits = recipe_lib.answers(
      trainable.predict,
      recipe_lib.model_variables(state),
      data.x,
      rows,
      batch_size=_ANSWER_BATCH,
    )
    counts = jnp.ones(len(rows), bool)
    if validation_share is not None and isinstance(state, early_stopping.State):
      validates = early_stopping.is_validation(state.inner.key, job, validation_share)
      counts = counts.at[: len(validates)].set(~validates)
    return logits, counts

  return collect
