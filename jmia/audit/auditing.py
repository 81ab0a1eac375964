"""An audit from a dataset, or from evidence that exists already, to its report."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import types
from jmia.adapters import fitted
from jmia.attacks import registry as attacks_lib
from jmia.attacks.evidence import Evidence
from jmia.audit import config as config_lib
from jmia.audit import group_exposure, preparation, repeat, view
from jmia.audit import outcome as outcome_lib
from jmia.audit import targets as targets_lib
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib
from jmia.audit.checks import calibrating, inverted, learnt
from jmia.audit.checks import references as references_check
from jmia.audit.checks import split as split_check
from jmia.audit.config import AuditConfig
from jmia.audit.outcome import Outcome
from jmia.audit.panel import Panel
from jmia.defenses import dp_sgd
from jmia.defenses import registry as defenses_lib
from jmia.report import exposed_file, results, tables
from jmia.report import samples as samples_lib
from jmia.stats import epsilon


class Result(NamedTuple):
  """What an audit found.

  Attributes:
    report: the values of `report.json`.
    targets: each sample's scores, of every target.
  """

  report: dict[str, Any]
  targets: tuple[samples_lib.Samples, ...]

  def __repr__(self) -> str:
    """As the command prints it: the values are thousands of lines."""
    return tables.text(self.report)

  def _repr_html_(self) -> str:
    """Verdict, table and ROC, as a notebook shows them."""
    from jmia.report import notebook  # draws

    return notebook.fragment(self.report, self.samples)

  def frame(self) -> Any:
    """The columns of `exposed.csv` as a pandas frame; ImportError without pandas."""
    import io

    try:
      import pandas as pd
    except ImportError as error:
      raise ImportError(
        "frame() needs pandas: pip install pandas; audit.write leaves the same as"
        " exposed.csv without it"
      ) from error
    return pd.read_csv(io.StringIO(exposed_file.content(self.report, self.samples)))

  @property
  def samples(self) -> samples_lib.Samples:
    """The first target's samples: those of the page and of `scores.npz`."""
    return self.targets[0]


def run(
  dataset: types.Dataset,
  config: AuditConfig | None = None,
  *,
  predict: targets_lib.Predict | None = None,
  references: fitted.Fit | None = None,
  split: types.AuditSplit | None = None,
  groups: Mapping[str, np.ndarray] | None = None,
  columns: Mapping[str, np.ndarray] | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: trainer_lib.Progress = trainer_lib.silent,
) -> Result:
  """Audits a classifier, training the models that the attacks compare it with.

  Args:
    dataset: the data.
    config: settings; their sizes give way to those of `split`.
    predict: the model under audit as a black box: features `[B, ...]`, of
      `dataset.given` where rows were laid out or scaled otherwise, else as stored in
      `dataset.x` -> logits or probabilities `[B, C]`, or classes alone, integers `[B]`.
      Asked about 32 rows twice: a note says where it answers otherwise. Default: a
      target is trained.
    references: how the models it is compared with are fitted, where they are of another
      kind than the networks trained here: `(x [K, ...], y [K], seed) -> predict`, with
      `x` and `predict` as above, called in processes of their own (`fitted.logits`).
      Without `predict` the target is fitted so too. Models fitted so are not saved in
      `checkpoint_dir`.
    split: the rows the target was trained on, others to evaluate it on, and others
      again to calibrate on. Required with `predict`. Default: drawn from the seed.
    groups: name -> `[num_examples]` values of the dataset's rows, to tell the exposure
      of each group of them beside that of each class.
    columns: likewise, shown beside exposed records.
    checkpoint_dir: where training is saved and resumed.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: if sizes do not fit the dataset, a group or a column has another number
      of rows than it, parts of the split overlap, features are not finite, labels are
      out of range, the target's answers are misshapen or not finite, the target or too
      many of the other models diverge (what they left in `checkpoint_dir` is removed),
      or `checkpoint_dir` holds another configuration's run.
  """
  start = time.monotonic()
  config = config or AuditConfig()
  prepared = preparation.prepare(
    dataset,
    config,
    predict=predict,
    references=references,
    split=split,
    groups=groups,
    columns=columns,
    checkpoint_dir=checkpoint_dir,
    progress=progress,
  )
  split, trainer = prepared.split, prepared.trainer
  panel = training_lib.train(
    prepared.design, trainer, config.needs(), predict=predict, fit=references
  )
  # Of a black box nobody here knows how it was trained.
  mechanism = trainer.defended().mechanism if predict is None else None
  targets = _evidence(panel)
  result = _of_targets(
    targets,
    config.attacks,
    config.options(),
    _settings(config, split, trainer, predict, references),
    config.delta if mechanism is None else mechanism.delta,
  )
  report = result.report
  notes = [
    *_guarantee(mechanism, report),
    *_of_black_box(predict, config),
    *dataset.notes,
    *defenses_lib.notes(config.defenses, trainer.train),
    *config_lib.notes_of(split, config),
    *panel.notes,
  ]
  report["blind"], checked = _checks(
    targets, result.samples, dataset.x, config.seed, config.near_copies
  )
  if predict is not None:
    kind = _name(trainer, None, references)
    checked += references_check.notes(targets[0].evaluated(), kind)
  report["notes"] = [*checked, *notes, *report["notes"]]
  report["dataset"] = _describe(dataset)
  report["seconds"] |= {**_seconds(panel), "total": time.monotonic() - start}
  report, first = group_exposure.with_exposure(
    report, result.samples, dataset, groups, columns
  )
  return Result(report, (first, *result.targets[1:]))


def from_evidence(
  evidence: Evidence | Sequence[Evidence],
  attacks: Sequence[str] = config_lib.DEFAULT_ATTACKS,
  estimator: str | None = None,
  settings: Mapping[str, Any] | None = None,
  *,
  delta: float = 0.0,
  x: np.ndarray | None = None,
  groups: Mapping[str, np.ndarray] | None = None,
) -> Result:
  """Audits a model on answers that exist already; trains nothing.

  Args:
    evidence: of `signals_file.load`, for instance; or of each of several targets.
    attacks: names, with options if need be; those that lack something are named in the
      report's `missing`.
    estimator: one of `nulls.METHODS` for all attacks. Default: each attack's own.
    settings: recorded as the report's `config`; what JSON has no value for, as text.
    delta: at which an epsilon is shown.
    x: `[n, ...]` features of the rows that `evidence.index` counts, if they are at
      hand: for copies of members and the blind baseline, which else looks at labels
      alone.
    groups: name -> `[n]` values of those rows, to tell the exposure of each group of
      them beside that of each class, of the first target. Without `x` nothing says how
      many rows there are: groups must reach the last row of `index`, and longer ones
      are taken as they are, the first value for row 0.

  Raises:
    ValueError: if no attack can run, delta is not in [0, 1), `x` or a group ends before
      the last row of `index`, or groups have another number of rows than `x` or than
      each other.
  """
  options = {} if estimator is None else {"estimator": estimator}
  settings = {"estimator": estimator, **(settings or {})}
  targets = [evidence] if isinstance(evidence, Evidence) else evidence
  index = targets[0].evaluated().index  # rows that calibrate are counted beyond them
  num_rows = None if x is None else len(x)
  if num_rows is not None and num_rows <= index.max(initial=-1):
    raise ValueError(
      f"x has {num_rows} rows, but the audited rows go up to {index.max()}, counted "
      "from 0"
    )
  group_exposure.check_rows("groups", groups, index, num_rows)
  result = _of_targets(targets, attacks, options, settings, delta)
  report, samples = group_exposure.with_exposure(
    result.report, result.samples, groups=groups, num_rows=num_rows
  )
  report["blind"], checked = _checks(targets, samples, x, report["seed"])
  marks = inverted.notes(targets[0].evaluated())
  report["notes"] = [*marks, *checked, *report["notes"]]
  return Result(report, (samples, *result.targets[1:]))


def _seconds(panel: Panel) -> dict[str, float]:
  """How long the target's signals took, and all training."""
  seconds = dict(panel.seconds)
  return {"signals": seconds.pop("signals"), "train": sum(seconds.values())}


def _evidence(panel: Panel) -> list[Evidence]:
  """What the attacks are given of each target that did not diverge."""
  found = [view.evidence(panel, target) for target in range(len(panel.targets))]
  return [evidence for evidence in found if evidence is not None]


def _settings(
  config: AuditConfig,
  split: types.AuditSplit,
  trainer: trainer_lib.Trainer,
  predict: targets_lib.Predict | None,
  references: fitted.Fit | None,
) -> dict[str, Any]:
  """The configuration as it is recorded: what was left to defaults is filled in."""
  filled = dataclasses.replace(
    config,
    num_members=len(split.members),
    num_nonmembers=len(split.nonmembers),
    num_population=len(split.population),
    num_calibration=config_lib.num_calibration_of(split, config),
    train=trainer.train,
  )
  return {
    "dataset": trainer.dataset.name,
    "model": _name(trainer, predict, references),
    "reference_model": _name(trainer, None, references),
    **dataclasses.asdict(filled),
    "defenses": [str(defense) for defense in config.defenses],
    "defense_settings": [repeat.written(defense) for defense in config.defenses],
  }


def _of_targets(
  targets: Sequence[Evidence],
  attacks: Sequence[str],
  options: Mapping[str, Any],
  settings: Mapping[str, Any],
  delta: float = 0.0,
) -> Result:
  """Attacks every target; the report is of one, or of the mean over several."""
  start = time.monotonic()
  attacks_lib.check(attacks)
  outcomes, missing = _attack(targets, attacks, options)
  if not outcomes:
    raise ValueError(f"no attack can run: {_reasons(targets[0], missing)}")
  seconds = time.monotonic() - start
  targets = [evidence.evaluated() for evidence in targets]
  config = {
    "attacks": attacks,
    "matmul_precision": jax.config.values["jax_default_matmul_precision"],
    **settings,
  }
  report = _report(targets, outcomes, json.loads(json.dumps(config, default=str)))
  report["missing"] = missing
  report["seconds"] |= {"attacks": seconds, "total": seconds}
  if len(targets) > 1:
    for name, of_attack in outcomes.items():
      spread = outcome_lib.per_sample_fpr(of_attack, targets, report["seed"])
      report["attacks"][name]["per_sample_fpr"] = spread
    report["notes"] += outcome_lib.pooled(report["attacks"])
  else:
    report["epsilon_lower"] = _epsilon_lower(report, outcomes, targets[0], delta)
  samples = [
    _samples(evidence, {name: each[number] for name, each in outcomes.items()})
    for number, evidence in enumerate(targets)
  ]
  return Result(report, tuple(samples))


def _report(
  targets: Sequence[Evidence],
  outcomes: Mapping[str, Sequence[Outcome]],
  config: Mapping[str, Any],
) -> dict[str, Any]:
  """The report but for what compares attacks, or targets, with each other."""
  described = [_target(evidence) for evidence in targets]
  notes = [
    *(note for evidence in targets for note in evidence.notes),
    *(note for each in outcomes.values() for o in each for note in o.notes),
  ]
  report = {
    "schema": 1,
    "config": config,
    "versions": results.versions(),
    "device": results.device(),
    "seed": config.get("seed", 0),
    "target": _over_targets(described),
    "attacks": {
      name: {
        **outcome_lib.over_targets(of_attack),
        "at_once": outcome_lib.at_once(of_attack, len(outcomes)),
      }
      for name, of_attack in outcomes.items()
    },
    "missing": {},
    "notes": list(dict.fromkeys(notes)),
    "seconds": {"train": 0.0, "signals": 0.0, "attacks": 0.0, "total": 0.0},
  }
  if len(targets) > 1:
    report["targets"] = described
  return report


def _checks(
  targets: Sequence[Evidence],
  samples: samples_lib.Samples,
  x: np.ndarray | None,
  seed: int,
  near: float | None = None,
) -> tuple[dict[str, Any], list[str]]:
  """The blind baseline, and what stands above all other notes, of the first target."""
  evidence = targets[0].evaluated()
  rows = None if x is None else np.asarray(x)[evidence.index]
  baseline, notes = split_check.describe(evidence, rows, samples.scores, seed, near)
  notes = [*learnt.notes(evidence), *notes]
  if len(targets) > 1:
    notes = [f"of the first target: {note}" for note in notes]
  return baseline, notes


def _epsilon_lower(
  report: dict[str, Any],
  outcomes: Mapping[str, list[Outcome]],
  evidence: Evidence,
  delta: float,
) -> dict[str, Any]:
  """The epsilon that all attacks show together; each one's own into its entry."""
  members = evidence.members
  for name, (outcome,) in outcomes.items():
    report["attacks"][name]["epsilon_lower"] = outcome_lib.epsilon_lower(
      [outcome], members, delta=delta
    )
  together = outcome_lib.epsilon_lower(
    [outcome for (outcome,) in outcomes.values()], members, delta=delta
  )
  return {
    **together, "delta": delta, "confidence": 0.95, "assumption": epsilon.ASSUMPTION,
  }  # fmt: skip


def _attack(
  targets: Sequence[Evidence], attacks: Sequence[str], options: Mapping[str, Any]
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
  """Attack -> its outcome on each target, and what those that cannot run lack."""
  missing = outcome_lib.lacking(targets[0], attacks, **options)
  found = {}
  for name in attacks:
    if name in missing:
      continue
    try:
      found[name] = [outcome_lib.evaluate(e, name, **options) for e in targets]
    except outcome_lib.NothingToCompareError as error:
      missing[name] = str(error)
  return calibrating.checked(found), missing


def _reasons(evidence: Evidence, missing: Mapping[str, str]) -> str:
  """Why attacks cannot run, and which others could."""
  lacking = outcome_lib.lacking(evidence, attacks_lib.names())
  others = [n for n in attacks_lib.names() if n not in (*lacking, *missing, "random")]
  reasons = [f"{name} {reason}" for name, reason in missing.items()]
  if others:
    reasons.append(f"attacks that can: {', '.join(others)}")
  return "; ".join(reasons)


def _target(evidence: Evidence) -> dict[str, Any]:
  """What a target's entry says of it."""
  members, accuracy = evidence.members, {}
  if "correctness" in evidence.signals:  # a loss alone does not say
    correct = evidence.signals["correctness"] > 0
    accuracy = {
      "train_accuracy": float(correct[members].mean()),
      "test_accuracy": float(correct[~members].mean()),
    }
  return {
    **accuracy,
    "num_members": int(members.sum()),
    "num_nonmembers": int((~members).sum()),
  }


def _over_targets(described: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The mean accuracies, and the sizes that every target has at least."""
  return {
    key: min(t[key] for t in described)
    if isinstance(value, int)
    else float(np.mean([t[key] for t in described]))
    for key, value in described[0].items()
  }


def _samples(
  evidence: Evidence, outcomes: Mapping[str, Outcome]
) -> samples_lib.Samples:
  return samples_lib.Samples(
    index=evidence.index,
    members=evidence.members,
    labels=evidence.labels,
    loss=evidence.signals["loss"],
    scores={name: outcome.scores for name, outcome in outcomes.items()},
    thresholds={name: outcome.thresholds for name, outcome in outcomes.items()},
    p_values={n: o.p_values for n, o in outcomes.items() if o.p_values is not None},
    q_values={n: o.q_values for n, o in outcomes.items() if o.q_values is not None},
    predicted=(
      np.argmax(evidence.signals["logits"], axis=-1)
      if "logits" in evidence.signals
      else None
    ),
    correct=(
      evidence.signals["correctness"] > 0 if "correctness" in evidence.signals else None
    ),
  )


def _name(trainer, predict, fit: fitted.Fit | None) -> str:
  """What a model is called: how it was trained, as far as that is known."""
  if predict is not None:
    return "black box"
  return trainer.train.model if fit is None else fitted.name(fit)


def _guarantee(mechanism: dp_sgd.Mechanism | None, report: dict[str, Any]) -> list[str]:
  """Says what DP-SGD guarantees, if it was used, and whether the attacks agree."""
  if mechanism is None:
    return []
  notes = [
    f"every model was trained with DP-SGD: epsilon={mechanism.epsilon:.3g} at"
    f" delta={mechanism.delta:g}, for one member added or removed"
  ]
  if "epsilon_lower" in report and np.isfinite(mechanism.epsilon):
    shown = report["epsilon_lower"]["add_remove"]
    notes.append(f"{epsilon.verdict(mechanism.epsilon, shown)} {epsilon.ASSUMPTION}")
  return notes


def _of_black_box(predict, config: AuditConfig) -> list[str]:
  if predict is None or not config.defenses:
    return []
  named = ", ".join(map(str, config.defenses))
  return [
    f"the models compared with carry {named}; whether the black box does is not known"
    " here, and no guarantee of its training is tried"
  ]


def _describe(dataset: types.Dataset) -> dict[str, Any]:
  return {
    "name": dataset.name,
    "description": dataset.description,
    "is_synthetic": dataset.is_synthetic,
    "num_examples": dataset.num_examples,
    "num_classes": dataset.num_classes,
    "class_names": list(dataset.class_names),
    "shape": list(dataset.x.shape[1:]),
    "dtype": str(dataset.x.dtype),
    "holds_bits": dataset.holds_bits,
  }
