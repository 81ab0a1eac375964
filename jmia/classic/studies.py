"""The studies: which models are trained, and which attacks are run on which."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate, splits, types
from jmia.attacks import registry as attacks
from jmia.attacks.evidence import FEATURES, LOGITS
from jmia.audit import design as design_lib
from jmia.audit import outcome as outcome_lib
from jmia.audit import panel as panel_lib
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib
from jmia.audit import view
from jmia.audit.panel import Panel
from jmia.classic import rows as rows_lib
from jmia.classic import settings as settings_lib
from jmia.defenses import registry
from jmia.training import config as config_lib

Row = dict[str, Any]
Defenses = tuple[registry.DefenseConfig, ...]
DEFAULT_ATTACKS = (
  "random", "correctness", "metric_loss", "metric_confidence", "metric_entropy",
  "metric_modified_entropy", "classifier",
)  # fmt: skip
_SPLIT, _DRAWS = range(2)  # streams of the seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What all studies share.

  Attributes:
    dataset: to train on.
    networks: name -> training; the first is the default.
    attacks: names, with options if need be (`attacks.get`).
    num_members: rows each model trains on, and as many others it is evaluated on.
      Default: all rows, in equal parts.
    num_shadows: shadow models of each target.
    num_trials: targets, each with a cut of its own.
    seed: of cuts, training and the attacks' own draws.
    width: models trained at once. Default: chosen from memory.
    checkpoint_dir: where to save and resume; each run has a folder in it.
    progress: told of each run's model-epochs.
  """

  dataset: types.Dataset
  networks: Mapping[str, config_lib.TrainConfig]
  attacks: tuple[str, ...] = DEFAULT_ATTACKS
  num_members: int | None = None
  num_shadows: int = 1
  num_trials: int = 1
  seed: int = 0
  width: int | None = None
  checkpoint_dir: pathlib.Path | None = None
  progress: trainer_lib.Progress = trainer_lib.silent

  def __post_init__(self) -> None:
    attacks.check(self.attacks)
    for name in ("num_shadows", "num_trials", "num_members", "width"):
      if getattr(self, name) is not None:
        _validate.positive(name, getattr(self, name))
    if not self.networks:
      raise ValueError("networks is empty, expected at least one")
    for name in self.attacks:
      lacks = _lacks(name, self.num_shadows)
      if lacks is not None:
        raise ValueError(f"attacks holds {name!r}, which needs {lacks}")


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
  first = next(iter(plan.networks.values()))
  size = min(part_size(d, None, plan.num_shadows) for d in pair)
  plan = dataclasses.replace(plan, num_members=plan.num_members or size)
  trained: dict[str, tuple[str, Panel]] = {}
  # Images of two sizes may need two networks: of the same name, if there is one.
  default, others = next(iter(plan.networks)), settings_lib.networks(other)
  for number, networks in enumerate((plan.networks, others)):
    name = default if default in networks else next(iter(networks))
    train = config_lib.with_epochs(networks[name], first.num_epochs)
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

  Raises:
    ValueError: as `registry.plan`.
  """
  name, train = next(iter(plan.networks.items()))
  about = {"model": name, "shadow_model": name, "aware": aware}
  # All of them before anything is trained: one that cannot be is refused at once.
  mechanisms = [_planned(plan, train, chosen).mechanism for chosen in candidates]
  plain = _train(plan, "none", plan.dataset, train)
  found = [_attack(plan, plain, plain, {**about, "defense": "none"})]
  for chosen, mechanism in zip(candidates, mechanisms, strict=True):
    label = "+".join(map(str, chosen))
    answers = _defended(plan, label, train, chosen, plain)
    shadows = answers if aware else plain
    about_it = {**about, "defense": label}
    found.append(_attack(plan, answers, shadows, about_it, mechanism))
  return _joined(found)


def similarity(plan: Plan, num_queries: int, num_models: int) -> Found:
  """The similarity attack on the plan's first network, and the loss beside it.

  For each of `Q` samples there are `k` models without it and `k` with it. The rows are
  cut into the target's members, as many others, and a population. Model i without a
  sample is trained on the i-th draw from the population; as it knows none of the
  samples it serves for all. Model i with sample q is trained on that draw and q. So
  `k (Q + 1)` models stand for `2 k` of each sample.

  Args:
    plan: what is shared. Its attacks and numbers of shadow models and trials are not
      used.
    num_queries: `Q`, half of them members.
    num_models: `k`.
  """
  name, train = next(iter(plan.networks.items()))
  num_members = plan.num_members or plan.dataset.num_examples // 4
  design = _with_and_without(plan, num_members, num_queries, num_models)
  trainer = _trainer(plan, "similarity", plan.dataset, train, num_members)
  needs = [
    *attacks.get("similarity").all_needs(), *attacks.get("metric_loss").all_needs(),
  ]  # fmt: skip
  panel = training_lib.train(design, trainer, attacks.union(needs))
  evidence = view.evidence(panel, 0)
  assert evidence is not None, "a target that diverges ends the training"
  loss = outcome_lib.evaluate(evidence, "metric_loss")
  outcomes = {
    "similarity": outcome_lib.evaluate(evidence, "similarity", decides=True),
    # Without shadow models: where the label is more likely than not.
    "metric_loss": loss._replace(threshold=-np.log(2)),
  }
  (block,) = panel.blocks
  trained, seconds = len(block.models), panel.seconds["others"]
  about = {"model": name, "shadow_model": name}
  rows = [
    {
      **_about(plan, about),
      **rows_lib.row(evidence, attack, outcome),
      "num_models": trained,
      "models_per_second": trained / seconds,
    }
    for attack, outcome in outcomes.items()
  ]
  notes = (
    f"{trained:,} models, {num_models} with and {num_models} without each of"
    f" {len(evidence.labels)} samples, took {seconds:.1f} s:"
    f" {trained / seconds:.1f} models per second",
    *panel.notes,
  )
  curves = {a: (outcome.scores, evidence.members) for a, outcome in outcomes.items()}
  return Found(rows, notes, {name: curves})


def _with_and_without(
  plan: Plan, num_members: int, num_queries: int, num_models: int
) -> design_lib.Design:
  """A target, and models with and without each of some samples."""
  _validate.positive("num_with", num_models)
  if not 2 <= num_queries <= 2 * num_members:
    raise ValueError(
      f"num_samples={num_queries} must be between 2 and twice num_members={num_members}"
    )
  cut = splits.audit(
    plan.dataset.num_examples,
    num_members=num_members,
    num_nonmembers=num_members,
    seed=(plan.seed, _SPLIT),
  )
  if num_members > len(cut.population):
    raise ValueError(
      f"num_members={num_members} is above the population's {len(cut.population)}"
      " rows, on which the models compared with are trained: lower num_members"
    )
  num_others = num_queries // 2
  num_own = num_queries - num_others
  queries = np.append(cut.members[:num_own], cut.nonmembers[:num_others])
  rows = np.concatenate([queries, cut.members[num_own:], cut.population])
  members = np.append(
    np.arange(num_own), np.arange(num_queries, num_members + num_others)
  )
  population = np.arange(len(rows) - len(cut.population), len(rows))
  drawn = splits.draw(population, num_members, num_models, seed=(plan.seed, _DRAWS))
  return design_lib.Design(
    rows=rows,
    num_evaluated=num_queries,
    num_population=len(cut.population),
    parts=(
      design_lib.Part("target", splits.ragged([members])),
      design_lib.with_and_without(
        drawn.member_idx, np.arange(num_queries), num_queries
      ),
    ),
  )


def default_defenses(dataset: types.Dataset) -> list[str]:
  """Returns the defences that suit a dataset, as `registry.parse` takes them."""
  if dataset.x.ndim > 2:
    side = min(dataset.x.shape[1:3])
    varied = ["flip", f"crop:{max(1, side // 8)}", f"cutout:{max(2, side // 4)}"]
    varied.append("rand_augment:0.5")
  else:
    varied = ["bit_flip:0.02", "bit_flip:0.1"]
  varied = [v for v in varied if registry.suits(registry.parse(v).name, dataset)]
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


def part_size(dataset: types.Dataset, num_members: int | None, num_shadows: int) -> int:
  """Returns the rows of each part: members, or others, of one model.

  Raises:
    ValueError: if the dataset has too few rows for `2 (1 + num_shadows)` such parts.
  """
  num_parts = 2 * (1 + num_shadows)
  largest = dataset.num_examples // num_parts
  size = num_members or largest
  if not 1 <= size <= largest:
    raise ValueError(
      f"num_members={size} in {num_parts} parts (members and others of a target and"
      f" num_shadows={num_shadows}) exceed the {dataset.num_examples} examples"
    )
  return size


def _train_each(plan: Plan) -> dict[str, Panel]:
  return {
    name: _train(plan, name, plan.dataset, train)
    for name, train in plan.networks.items()
  }


def _trainer(plan, what, dataset, train, num_members, chosen=()) -> trainer_lib.Trainer:
  """A run's training, in a checkpoint folder of its own."""
  return trainer_lib.Trainer(
    dataset=dataset,
    train=train,
    num_members=num_members,
    defenses=chosen,
    seed=plan.seed,
    width=plan.width,
    checkpoint_dir=plan.checkpoint_dir and plan.checkpoint_dir / what.replace(":", "-"),
    progress=lambda _, done, total: plan.progress(what, done, total),
  )


def _train(
  plan: Plan,
  what: str,
  dataset: types.Dataset,
  train: config_lib.TrainConfig,
  chosen: Defenses = (),
) -> Panel:
  """Targets and their shadow models, on disjoint parts of the dataset, in one run."""
  size = part_size(dataset, plan.num_members, plan.num_shadows)
  design = design_lib.disjoint(
    dataset.num_examples, size, plan.num_shadows, plan.num_trials, seed=plan.seed
  )
  trainer = _trainer(plan, what, dataset, train, size, chosen)
  return training_lib.train(design, trainer, _needs(plan))


def _lacks(name: str, num_shadows: int) -> str | None:
  """What an attack needs that answers of shadow models on their rows do not give."""
  (needs,) = attacks.get(name).all_needs()
  of_shadows = needs.groups.get("reference", attacks.GroupNeeds())
  if FEATURES in needs.signals:
    return "the rows' features: none are kept beside answers here"
  if needs.population:
    return "a population that is apart from the shadow models' rows"
  if needs.groups.keys() - {"reference"} or of_shadows.held:
    return "other models than shadow models of other rows: an audit trains them"
  if of_shadows.out > num_shadows:
    return f"num_shadows of at least {of_shadows.out}, not {num_shadows}"
  return None


def _needs(plan: Plan) -> attacks.Needs:
  """What the attacks take; logits always, on which defences of predictions act."""
  chosen = [attacks.get(name) for name in plan.attacks]
  needs = [need for one in chosen for need in one.all_needs(decides=True)]
  return attacks.union([*needs, attacks.Needs(signals=(LOGITS,))])


def _defended(plan, label, train, chosen, plain: Panel) -> Panel:
  """Trains with defences; those of predictions alone are applied to `plain`."""
  if all(registry.acts_on_output(one.name) for one in chosen):
    return panel_lib.with_output(plain, _planned(plan, train, chosen).output)
  return _train(plan, label, plan.dataset, train, chosen)


def _planned(plan: Plan, train: config_lib.TrainConfig, chosen: Defenses):
  size = part_size(plan.dataset, plan.num_members, plan.num_shadows)
  return registry.plan(chosen, train, plan.dataset, num_members=size)


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
  plan: Plan,
  target: Panel,
  shadows: Panel,
  about: Mapping[str, Any],
  mechanism: Any = None,
) -> Found:
  """Rows of all attacks on the target of every trial."""
  found: list[Row] = []
  notes: list[str] = []
  curves = {}
  label = ", ".join(
    dict.fromkeys(
      str(about[key]) for key in ("model", "shadow_model", "defense") if key in about
    )
  )
  for trial in range(plan.num_trials):
    evidence = view.evidence(target, trial, others=shadows)
    if evidence is None:
      notes.append(f"{label}: trial {trial} diverged and has no rows")
      continue
    notes += [f"{label}: {note}" for note in target.notes]
    missing = outcome_lib.lacking(evidence, plan.attacks)
    notes += [f"{label}: {attack} {lack}" for attack, lack in missing.items()]
    for attack in plan.attacks:
      if attack in missing:
        continue
      outcome = outcome_lib.evaluate(evidence, attack, decides=True)
      row = {
        **_about(plan, about),
        "trial": trial,
        **rows_lib.row(
          evidence, attack, outcome, delta=mechanism.delta if mechanism else 0.0
        ),
        "num_shadows": plan.num_shadows,
        "epsilon": _finite(mechanism.epsilon) if mechanism else None,
        "delta": mechanism.delta if mechanism else None,
        "paper_auc": settings_lib.paper_auc(plan.dataset, about["model"], attack)
        if _is_the_reports(about)
        else None,
      }
      found.append(row)
      if trial == 0:
        curves[attack] = (outcome.scores, evidence.members)
  return Found(found, tuple(dict.fromkeys(notes)), {label: curves})


def _finite(value: float) -> float | None:
  return value if np.isfinite(value) else None


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
