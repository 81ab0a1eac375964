"""The studies: which models are trained, and which attacks are run on which."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import types
from jmia.classic import models, scoring, similarity_study
from jmia.classic import settings as settings_lib
from jmia.defenses import registry
from jmia.training import config as config_lib

Row = dict[str, Any]
Defenses = tuple[registry.DefenseConfig, ...]
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What all studies share.

  Attributes:
    dataset: to train on.
    networks: name -> training; the first is the default.
    attacks: some of `scoring.ATTACKS`.
    num_members: see `models.Setting`, as for all that follow.
    num_shadows: shadow models of each target.
    num_trials: targets.
    seed: of everything.
    width: models trained at once.
    checkpoint_dir: where to save and resume; each run has a folder in it.
    progress: told of each run's model-epochs.
  """

  dataset: types.Dataset
  networks: Mapping[str, config_lib.TrainConfig]
  attacks: tuple[str, ...] = scoring.DEFAULT_ATTACKS
  num_members: int | None = None
  num_shadows: int = 1
  num_trials: int = 1
  seed: int = 0
  width: int | None = None
  checkpoint_dir: pathlib.Path | None = None
  progress: Progress = lambda what, done, total: None

  def __post_init__(self) -> None:
    scoring.check_attacks(self.attacks)
    if not self.networks:
      raise ValueError("networks is empty, expected at least one")


class Found(NamedTuple):
  """What a study found.

  Attributes:
    rows: as `results.json` holds them.
    notes: what a reader must know.
    curves: target -> attack -> (scores, members), of the first trial.
  """

  rows: list[Row]
  notes: tuple[str, ...] = ()
  curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]] = {}


def metrics(plan: Plan) -> Found:
  """Every attack on every network, beside the report's AUC."""
  found = [
    _attack(plan, answers, answers, {"model": name, "shadow_model": name})
    for name, answers in _train_each(plan).items()
  ]
  return _joined(found)


def gap(plan: Plan, sizes: Sequence[int], epochs: Sequence[int]) -> Found:
  """Every attack over networks, sizes of the training set and epochs of training."""
  found = []
  for name, train in plan.networks.items():
    for size in sizes:
      for num_epochs in epochs:
        cut = dataclasses.replace(plan, num_members=size)
        shorter = config_lib.with_epochs(train, num_epochs)
        what = f"{name}-{size}-{num_epochs}"
        answers = _train(cut, what, cut.dataset, shorter)
        about = {"model": name, "shadow_model": name, "num_epochs": num_epochs}
        found.append(_attack(cut, answers, answers, about))
  return _joined(found)


def transfer_arch(plan: Plan) -> Found:
  """Shadow models of every network against a target of every network."""
  trained = _train_each(plan)
  found = [
    _attack(plan, target, shadows, {"model": name, "shadow_model": other})
    for name, target in trained.items()
    for other, shadows in trained.items()
  ]
  return _joined(found)


def transfer_data(plan: Plan, other: types.Dataset) -> Found:
  """Targets and shadow models of two datasets, each with each.

  Both are cut to the smaller number of classes, and their models to the smaller number
  of members.
  """
  num_classes = min(plan.dataset.num_classes, other.num_classes)
  pair = [cut_to_classes(d, num_classes) for d in (plan.dataset, other)]
  setting = _setting(plan, next(iter(plan.networks.values())))
  free = dataclasses.replace(setting, num_members=None)
  size = min(models.part_size(d, free) for d in pair)
  plan = dataclasses.replace(plan, num_members=plan.num_members or size)
  trained: dict[str, tuple[str, models.Answers]] = {}
  # Images of two sizes may need two networks: of the same name, if there is one.
  default, others = next(iter(plan.networks)), settings_lib.networks(other)
  for number, networks in enumerate((plan.networks, others)):
    name = default if default in networks else next(iter(networks))
    train = config_lib.with_epochs(networks[name], setting.train.num_epochs)
    answers = _train(plan, f"data-{number}", pair[number], train)
    trained[pair[number].name] = (name, answers)
  found = [
    _attack(
      plan,
      target,
      shadows,
      {
        "dataset": dataset,
        "model": name,
        "shadow_dataset": shadow_dataset,
        "shadow_model": shadow_name,
      },
    )
    for dataset, (name, target) in trained.items()
    for shadow_dataset, (shadow_name, shadows) in trained.items()
  ]
  return _joined(found)


def defenses(
  plan: Plan, candidates: Sequence[Defenses], *, aware: bool = True
) -> Found:
  """Every attack against every defence, on the plan's first network.

  Args:
    plan: what is shared.
    candidates: defences that go together, one tuple for each variant; the undefended
      one is always run.
    aware: whether the shadow models carry the target's defence.
  """
  name, train = next(iter(plan.networks.items()))
  about = {"model": name, "shadow_model": name, "aware": aware}
  plain = _train(plan, "none", plan.dataset, train)
  found = [_attack(plan, plain, plain, {**about, "defense": "none"})]
  for chosen in candidates:
    label = "+".join(map(str, chosen))
    answers = _defended(plan, label, train, chosen, plain)
    shadows = answers if aware else plain
    found.append(_attack(plan, answers, shadows, {**about, "defense": label}))
  return _joined(found)


def similarity(plan: Plan, num_queries: int, num_models: int) -> Found:
  """The similarity attack on the plan's first network, and the loss beside it."""
  name, train = next(iter(plan.networks.items()))
  num_members = plan.num_members or plan.dataset.num_examples // 4
  found = similarity_study.run(
    plan.dataset,
    similarity_study.Setting(
      train=train,
      num_members=num_members,
      num_queries=num_queries,
      num_models=num_models,
      seed=plan.seed,
      width=plan.width,
    ),
    checkpoint_dir=_folder(plan, "similarity"),
    progress=plan.progress,
  )
  case = scoring.case_of(found.logits, found.labels, found.members)
  rows, curves = [], {}
  # Similarity has no threshold of its own but 0, where both groups are as near.
  losses = scoring.Scored(-case.signals["loss"], -np.log(2))
  for attack, scored in (
    ("similarity", scoring.Scored(found.scores, 0.0)),
    ("metric_loss", losses),
  ):
    row = {
      **_about(plan, {"model": name, "shadow_model": name}),
      **scoring.row(case, attack, scored),
      "num_models": found.num_models,
      "models_per_second": found.num_models / found.seconds,
    }
    rows.append(row)
    curves[attack] = (scored.scores, found.members)
  notes: tuple[str, ...] = (
    f"{found.num_models:,} models, {num_models} with and {num_models} without each of"
    f" {len(found.members)} samples, took {found.seconds:.1f} s:"
    f" {found.num_models / found.seconds:.1f} models per second",
  )
  if found.num_diverged:
    notes += (f"{found.num_diverged} models diverged and are left out",)
  return Found(rows, notes, {name: curves})


def default_defenses(dataset: types.Dataset) -> list[str]:
  """Returns the defences that suit a dataset, as `registry.parse` takes them."""
  if dataset.x.ndim > 2:
    side = min(dataset.x.shape[1:3])
    varied = ["flip", f"crop:{max(1, side // 8)}", f"cutout:{max(2, side // 4)}"]
    varied.append("rand_augment:0.5")
  elif dataset.x.dtype == np.uint8:
    varied = ["bit_flip:0.02", "bit_flip:0.1"]
  else:
    varied = []
  return [
    "top_k:1", "top_k:3", "rounding:1", "noise:0.05", "temperature:5", "label_only",
    "l2:1e-4", "l2:1e-3", "l2:1e-2", "dropout:0.5", *varied, "early_stopping:0.1",
    "label_smoothing:0.1", "mixup:1", "stacking:3",
    "dp_sgd:1", "dp_sgd:2", "dp_sgd:8", "dp_sgd:inf",
  ]  # fmt: skip


def cut_to_classes(dataset: types.Dataset, num_classes: int) -> types.Dataset:
  """Returns the rows of the first `num_classes` classes; all, if there are no more."""
  if dataset.num_classes <= num_classes:
    return dataset
  kept = np.flatnonzero(dataset.y < num_classes)
  return dataset._replace(
    x=dataset.x[kept],
    y=dataset.y[kept],
    num_classes=num_classes,
    num_train=int((kept < dataset.num_train).sum()),
    name=f"{dataset.name} ({num_classes} classes)",
  )


def _train_each(plan: Plan) -> dict[str, models.Answers]:
  return {
    name: _train(plan, name, plan.dataset, train)
    for name, train in plan.networks.items()
  }


def _setting(
  plan: Plan, train: config_lib.TrainConfig, chosen: Defenses = ()
) -> models.Setting:
  return models.Setting(
    train=train,
    defenses=chosen,
    num_shadows=plan.num_shadows,
    num_members=plan.num_members,
    num_trials=plan.num_trials,
    seed=plan.seed,
    width=plan.width,
  )


def _train(
  plan: Plan,
  what: str,
  dataset: types.Dataset,
  train: config_lib.TrainConfig,
  chosen: Defenses = (),
) -> models.Answers:
  """One run, in a checkpoint folder of its own."""
  return models.train(
    dataset,
    _setting(plan, train, chosen),
    checkpoint_dir=_folder(plan, what),
    progress=lambda done, total: plan.progress(what, done, total),
  )


def _folder(plan: Plan, what: str) -> pathlib.Path | None:
  return plan.checkpoint_dir and plan.checkpoint_dir / what.replace(":", "-")


def _defended(plan, label, train, chosen, plain) -> models.Answers:
  """Trains with defences; those of predictions alone are applied to `plain`."""
  if all(registry.acts_on_output(one.name) for one in chosen):
    size = models.part_size(plan.dataset, _setting(plan, train))
    change = registry.plan(chosen, train, plan.dataset, num_members=size)
    given = jax.jit(change.output)(plain.logits.reshape(-1, plain.logits.shape[-1]))
    return plain._replace(logits=np.asarray(given).reshape(plain.logits.shape))
  return _train(plan, label, plan.dataset, train, chosen)


def _about(plan: Plan, about: Mapping[str, Any]) -> Row:
  """What identifies a row."""
  return {
    "dataset": plan.dataset.name,
    "shadow_dataset": plan.dataset.name,
    "defense": "none",
    "aware": True,
    "trial": 0,
    **about,
  }


def _attack(
  plan: Plan, target: models.Answers, shadows: models.Answers, about: Mapping[str, Any]
) -> Found:
  """Rows of all attacks on the target of every trial."""
  rows: list[Row] = []
  notes: tuple[str, ...] = ()
  curves = {}
  label = ", ".join(
    dict.fromkeys(
      str(about[key]) for key in ("model", "shadow_model", "defense") if key in about
    )
  )
  run = target.mechanism
  for trial in range(plan.num_trials):
    case = scoring.case(target, shadows, trial, seed=plan.seed)
    if case is None:
      notes += (f"{label}: trial {trial} diverged and has no rows",)
      continue
    for attack in plan.attacks:
      scored = scoring.score(case, attack)
      row = {
        **_about(plan, about),
        "trial": trial,
        **scoring.row(case, attack, scored, delta=run.delta if run else 0.0),
        "num_shadows": plan.num_shadows,
        "epsilon": run.epsilon if run and np.isfinite(run.epsilon) else None,
        "delta": run.delta if run else None,
        "paper_auc": settings_lib.paper_auc(plan.dataset, about["model"], attack)
        if _is_the_reports(about)
        else None,
      }
      rows.append(row)
      if trial == 0:
        curves[attack] = (scored.scores, case.members)
  return Found(rows, notes, {label: curves})


def _is_the_reports(about: Mapping[str, Any]) -> bool:
  """Whether the report has a table of such targets: as it trains them, undefended."""
  changed = {"dataset", "num_epochs"} & about.keys()
  return (
    not changed
    and about["model"] == about["shadow_model"]
    and about.get("defense", "none") == "none"
  )


def _joined(found: Sequence[Found]) -> Found:
  return Found(
    [row for one in found for row in one.rows],
    tuple(note for one in found for note in one.notes),
    {label: curve for one in found for label, curve in one.curves.items()},
  )
