"""Composes an audit: dataset -> splits -> models -> losses -> attacks -> report.

result = audit.run(datasets.load("digits"))
audit.write(result, "report")
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import comparison, evaluation, types
from jmia.evidence import Evidence
from jmia.report import results
from jmia.report import samples as samples_lib

AuditConfig = comparison.AuditConfig
Predict = comparison.Predict
Progress = comparison.Progress


class Result(NamedTuple):
  """The values of `report.json`, and what was found of each sample."""

  report: dict[str, Any]
  samples: samples_lib.Samples


def run(
  dataset: types.Dataset,
  config: AuditConfig | None = None,
  *,
  predict: Predict | None = None,
  split: types.AuditSplit | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Result:
  """Audits a classifier, training the models that the attacks compare it with.

  Args:
    dataset: the data.
    config: settings; their sizes give way to those of `split`.
    predict: the model under audit as a black box: features `[B, ...]` as stored in
      `dataset.x` -> logits or probabilities `[B, C]`. Default: a target is trained.
    split: the rows the target was trained on, others to evaluate it on, and others
      again to calibrate on. Required with `predict`. Default: drawn from the seed.
    checkpoint_dir: where training is saved and resumed.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: if sizes do not fit the dataset, parts of the split overlap, features
      are not finite, labels are out of range, the target's answers are misshapen or not
      finite, the target or too many of the other models diverge (what they left in
      `checkpoint_dir` is removed), or `checkpoint_dir` holds another configuration's
      run.
  """
  start = time.monotonic()
  gathered = comparison.gather(
    dataset,
    config or AuditConfig(),
    predict=predict,
    split=split,
    checkpoint_dir=checkpoint_dir,
    progress=progress,
  )
  config = gathered.config
  assert config.train is not None
  settings = {
    "dataset": dataset.name,
    "model": config.train.model if predict is None else "black box",
    **dataclasses.asdict(config),
    "defenses": [str(defense) for defense in config.defenses],  # an epsilon may be inf
  }
  report, samples = from_evidence(
    gathered.evidence, config.attacks, config.estimator, settings
  )
  report |= {"notes": gathered.notes, "dataset": _describe(dataset)}
  report["seconds"] |= {
    "train": gathered.train_seconds,
    "signals": gathered.signal_seconds,
    "total": time.monotonic() - start,
  }
  return Result(report, samples)


def from_evidence(
  evidence: Evidence,
  attacks: Sequence[str] = evaluation.ATTACKS,
  estimator: str | None = None,
  settings: Mapping[str, Any] | None = None,
) -> Result:
  """Audits a model on losses that exist already; trains nothing.

  Args:
    evidence: of `evidence.load`, for instance.
    attacks: which of `evaluation.EVERY`; those that lack something are named in the
      report's `missing`.
    estimator: one of `nulls.METHODS` for all attacks. Default: each attack's own.
    settings: recorded as the report's `config`; what JSON has no value for, as text.

  Raises:
    ValueError: if no attack can run, or one's null is too small.
  """
  start = time.monotonic()
  comparison.check_attacks(attacks)
  missing = evaluation.lacking(evidence, attacks)
  outcomes = {
    name: evaluation.evaluate(evidence, name, estimator)
    for name in attacks
    if name not in missing
  }
  if not outcomes:
    reasons = "; ".join(f"{name} {reason}" for name, reason in missing.items())
    raise ValueError(f"no attack can run: {reasons}")
  members = evidence.members
  seconds = time.monotonic() - start
  config = {
    "attacks": attacks,
    "estimator": estimator,
    "matmul_precision": jax.config.values["jax_default_matmul_precision"],
    **(settings or {}),
  }
  config = json.loads(json.dumps(config, default=str))
  report = {
    "schema": 1,
    "config": config,
    "versions": results.versions(),
    "device": results.device(),
    "seed": config.get("seed", 0),
    "target": {
      "train_accuracy": float(evidence.correct[members].mean()),
      "test_accuracy": float(evidence.correct[~members].mean()),
      "num_members": int(members.sum()),
      "num_nonmembers": int((~members).sum()),
    },
    "attacks": {name: outcome.summary for name, outcome in outcomes.items()},
    "missing": missing,
    "notes": [],
    "seconds": {"train": 0.0, "signals": 0.0, "attacks": seconds, "total": seconds},
  }
  samples = samples_lib.Samples(
    index=evidence.index,
    members=members,
    labels=evidence.labels,
    loss=evidence.losses,
    scores={name: outcome.scores for name, outcome in outcomes.items()},
    thresholds={name: outcome.thresholds for name, outcome in outcomes.items()},
  )
  return Result(report, samples)


def write(result: Result, output_dir: str | os.PathLike[str]) -> None:
  """Writes `report.json`, `scores.npz`, `roc.png` and `report.html`, all or none.

  They are made in a folder beside and moved into place, `report.json` last.

  Args:
    result: an audit's.
    output_dir: made if absent; files of those names in it are replaced.

  Raises:
    OSError: if the folder cannot be written.
  """
  from jmia.report import page, plots  # matplotlib and jinja2 are slow to import

  report, samples = result
  output_dir = pathlib.Path(output_dir)
  output_dir.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=output_dir, prefix=".incomplete-") as name:
    folder = pathlib.Path(name)
    content = json.dumps(report, indent=2, allow_nan=False)
    (folder / "report.json").write_text(content + "\n")
    arrays: dict[str, Any] = {
      "index": samples.index,
      "members": samples.members,
      "labels": samples.labels,
      "loss": samples.loss,
    }
    arrays |= {f"score_{attack}": score for attack, score in samples.scores.items()}
    np.savez(folder / "scores.npz", **arrays)
    plots.write_roc(folder / "roc.png", report, samples)
    page.write(folder / "report.html", report, samples)
    for file in ("scores.npz", "roc.png", "report.html", "report.json"):
      os.replace(folder / file, output_dir / file)


def _describe(dataset: types.Dataset) -> dict[str, Any]:
  return {
    "name": dataset.name,
    "description": dataset.description,
    "is_synthetic": dataset.is_synthetic,
    "num_examples": dataset.num_examples,
    "num_classes": dataset.num_classes,
  }
