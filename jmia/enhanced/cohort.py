"""A cohort: like models on one pool, some of which are attacked with all the others.

Ye et al., appendix A.2: `M` models are trained alike, each on a random subset of one
pool. The first few are targets; for each of them the other `M - 1` are shadow and
reference models. Attack D's students learn from a target on the rows that the others
were trained on, and Attack L's models are trained on the first target's rows but one.

Whose rows are whose:

- The dataset is cut at random into a *population*, which calibrates Attacks S and P and
  which no model trains on, and a *pool*. A population row is never evaluated.
- Every model trains on `num_members` rows of the pool, drawn for itself.
- A target is evaluated on its members and as many other rows of its pool.
- A reference or a student that was trained on a sample is left out of that sample's
  null, so every null is of models that have not seen it.

Subsets of a pool overlap: a reference shares about `num_members / pool` of a target's
rows.
"""

import dataclasses
import os

import numpy as np

from jmia import _validate, splits, types
from jmia.attacks import registry as attacks
from jmia.audit import design as design_lib
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib
from jmia.audit.design import Design, Part
from jmia.audit.panel import Panel
from jmia.training import config as config_lib

# Streams of the seed: each part of a cohort draws from its own.
_CUT, _MEMBERS, _NONMEMBERS = range(3)
ATTACKS = ("population", "shadow", "reference", "distillation", "leave_one_out")
# Each row's exposure is told from all models' losses, whatever the attacks take.
_OF_MODELS = attacks.Needs(
  groups={"reference": attacks.GroupNeeds(signals=("loss",), population=("loss",))}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortConfig:
  """Settings of a cohort; sizes are rows.

  Attributes:
    attacks: those that it is trained for; the last two only as far as the next settings
      go.
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

  attacks: tuple[str, ...] = ATTACKS
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
    attacks.check(self.attacks)
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


def train(
  dataset: types.Dataset,
  config: CohortConfig,
  *,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: trainer_lib.Progress = trainer_lib.silent,
) -> Panel:
  """Trains a cohort.

  Args:
    dataset: the data.
    config: settings.
    checkpoint_dir: where training is saved and resumed.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: if sizes do not fit the dataset; and as `training.train`.
  """
  trainer = trainer_lib.Trainer(
    dataset=dataset,
    train=config.train,
    num_members=config.num_members,
    seed=config.seed,
    width=config.width,
    checkpoint_dir=trainer_lib.folder(checkpoint_dir),
    progress=progress,
  )
  each = [need for name in config.attacks for need in attacks.get(name).all_needs()]
  needs = attacks.union([*each, _OF_MODELS])
  return training_lib.train(design(dataset, config), trainer, needs)


def design(dataset: types.Dataset, config: CohortConfig) -> Design:
  """Cuts the dataset, draws who trains on what, and puts evaluated rows in front.

  Raises:
    ValueError: if sizes do not fit the dataset.
  """
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
  # Models without a sample are asked about those samples alone, so they come first.
  first = samples[0, _left_out(config)]
  evaluated = np.append(first, np.setdiff1d(samples, first))
  in_order = np.append(evaluated, np.setdiff1d(np.arange(num_pool), evaluated))
  position = np.empty(num_pool, np.int32)
  position[in_order] = np.arange(num_pool, dtype=np.int32)
  assigned = drawn._replace(member_idx=position[drawn.member_idx])
  return Design(
    rows=np.concatenate([pool[in_order], population]),
    num_evaluated=len(evaluated),
    num_population=config.num_population,
    parts=_parts(config, assigned, position[samples], len(evaluated)),
    samples=position[samples],
  )


def _parts(
  config: CohortConfig, assigned: types.Splits, samples: np.ndarray, num_evaluated: int
) -> tuple[Part, ...]:
  """Targets, references, students of the first targets, models without a sample."""
  of = lambda models: types.Splits(*(a[models] for a in assigned))  # noqa: E731
  parts = [Part("target", of(np.arange(config.num_targets)))]
  if config.num_models > config.num_targets:
    parts.append(
      Part("reference", of(np.arange(config.num_targets, config.num_models)))
    )
  num_students = config.num_students or config.num_models - 1
  for target in range(config.num_distilled_targets):
    # Of the last models, so that few students are trained on a target's rows.
    others = np.delete(np.arange(config.num_models), target)[-num_students:]
    parts.append(Part("distilled", of(others), target=target, teacher=target))
  if config.num_left_out:
    members, nonmembers = np.split(samples[0], 2)
    num_members = config.num_left_out // 2
    without = design_lib.left_out(
      members,
      members[:num_members],
      nonmembers[: config.num_left_out - num_members],
      config.num_retrained,
      num_evaluated,
    )
    parts.append(without._replace(num_asked=config.num_left_out))
  return tuple(parts)


def _left_out(config: CohortConfig) -> np.ndarray:
  """Returns which of the first target's samples models are retrained without, `[Q]`."""
  num_members = config.num_left_out // 2
  nonmembers = np.arange(config.num_left_out - num_members) + config.num_members
  return np.append(np.arange(num_members), nonmembers)


def _nonmembers(members: np.ndarray, num_pool: int, seed: int, target: int):
  """As many rows of the pool, drawn from those that the target is not trained on."""
  others = np.setdiff1d(np.arange(num_pool), members)
  generator = np.random.default_rng((seed, _NONMEMBERS, target))
  return generator.permutation(others)[: len(members)]


def _at_most(name: str, value: int, bound_name: str, bound: int) -> None:
  """Raises ValueError unless `value` lies in [0, `bound`]."""
  if not 0 <= value <= bound:
    raise ValueError(f"{name}={value} must be from 0 to {bound_name} = {bound}")
