"""What `enhanced_mia` finds, as the rows of its results and as text."""

from typing import Any, NamedTuple

import numpy as np

from jmia.audit import outcome as outcome_lib
from jmia.audit.outcome import Outcome
from jmia.audit.panel import Panel
from jmia.enhanced import cohort as cohort_lib
from jmia.enhanced import configs, metrics
from jmia.report import results, wording
from jmia.stats import intervals

LEAST_HOLDING = 3  # models that held a sample, for its AUC over models to be shown
_ALPHA = 0.3  # of Table 3
_NUM_EXPOSED = 20


class Found(NamedTuple):
  """What the attacks did.

  Attributes:
    config: of the cohort.
    panel: that was attacked.
    outcomes: attack -> its outcome on each of its targets.
    exposure: attack -> AUC `[U]` of each sample over models.
    num_holding: `[U]` models that were trained on each sample.
  """

  config: cohort_lib.CohortConfig
  panel: Panel
  outcomes: dict[str, list[Outcome]]
  exposure: dict[str, intervals.AucInterval]
  num_holding: np.ndarray


def find(config: cohort_lib.CohortConfig, panel: Panel) -> Found:
  """Attacks every target, and every sample over all models."""
  models = metrics.Models(panel)
  num_holding = models.held.sum(axis=0)
  # The most exposed of all candidates are shown, so their intervals hold for all.
  confidence = intervals.each_of(max(1, int((num_holding >= LEAST_HOLDING).sum())))
  return Found(
    config=config,
    panel=panel,
    outcomes=metrics.by_target(panel, config.attacks),
    exposure={
      attack: metrics.by_sample(models, attack, confidence=confidence)
      for attack in ("population", "reference")
    },
    num_holding=num_holding,
  )


def rows(
  config: configs.Config, config_name: str, dataset_name: str, found: Found
) -> list[dict[str, Any]]:
  """Returns a row for each attack: means over its targets, beside the paper's."""
  settings = found.config
  train_accuracy, test_accuracy = (part.mean() for part in _accuracies(found))
  of_all = {
    "config": config_name,
    "dataset": dataset_name,
    "num_models": settings.num_models,
    "num_members": settings.num_members,
    "train_accuracy": float(train_accuracy),
    "test_accuracy": float(test_accuracy),
    "paper_train_accuracy": config.paper_accuracy[0] / 100,
    "paper_test_accuracy": config.paper_accuracy[1] / 100,
  }
  return [
    {**of_all, "attack": attack, **_figures_of(outcomes), **_of_paper(config, attack)}
    for attack, outcomes in found.outcomes.items()
  ]


def accuracy_by_target(found: Found) -> dict[str, list[float]]:
  """Returns each target's accuracy on its members, `train`, and on others, `test`."""
  train, test = _accuracies(found)
  return {"train": train.tolist(), "test": test.tolist()}


def _accuracies(found: Found) -> list[np.ndarray]:
  """Each target's accuracy `[T]` on its members, and on its non-members."""
  samples = found.panel.design.samples
  assert samples is not None
  correct = np.stack(
    [
      target.signals["correctness"][at]
      for target, at in zip(found.panel.targets, samples, strict=True)
      if target is not None
    ]
  )
  parts = np.split(correct, [found.config.num_members], axis=1)
  return [part.mean(axis=1) for part in parts]


def _figures_of(outcomes: list[Outcome]) -> dict[str, Any]:
  """One attack's figures, as means over its targets."""
  found = outcome_lib.over_targets(outcomes)
  each = found.get("by_target", [found])
  several = len(each) > 1
  return {
    "auc": found["auc"],
    "auc_ci": found["auc_ci"],
    "auc_ci_of": "the mean, over targets" if several else "this target's AUC",
    "auc_by_target": [summary["auc"] for summary in each],
    "tpr_at_fpr": found["tpr_at_fpr"],
    "tpr_at_fpr_ci": found["tpr_at_fpr_ci"],
    "num_targets": len(each),
    "num_samples": found["num_samples"],
    "num_null_models": found["num_models"],
    "estimator": found.get("estimator"),
  }


def _of_paper(config: configs.Config, attack: str) -> dict[str, float | None]:
  figures = config.paper_auc.get(attack)
  return {
    "paper_auc": figures and figures.mean,
    "paper_auc_deviation": figures and figures.deviation,
  }


def agreement(panel: Panel) -> dict[str, Any]:
  """Returns Table 3: how often the attacks on the first target decide alike.

  The paper's upper triangle is `share_of_members`, its lower `share_of_others`.
  """
  evidence = metrics.of_target(panel, 0)
  names, share = metrics.agreement(evidence, _ALPHA)
  parts = {
    name: metrics.agreement(evidence, _ALPHA, of=of)[1].tolist()
    for name, of in (("members", evidence.members), ("others", ~evidence.members))
  }
  return {
    "alpha": _ALPHA,
    "num_samples": len(metrics.agreement_samples(evidence)),
    "attacks": names,
    "share": share.tolist(),
    "share_of_members": parts["members"],
    "share_of_others": parts["others"],
  }


def exposed(found: Found) -> list[dict[str, Any]]:
  """Returns the samples of highest AUC over models, by its interval's lower end.

  Intervals hold for all candidates at once, at 95 %: they are chosen by them.
  """
  panel, auc = found.panel, found.exposure["reference"]
  candidates = np.flatnonzero(found.num_holding >= LEAST_HOLDING)
  order = candidates[np.argsort(-auc.low[candidates], kind="stable")]
  return [
    {
      "index": int(panel.design.rows[i]),
      "label": int(panel.y[i]),
      "num_holding": int(found.num_holding[i]),
      "auc": float(auc.auc[i]),
      "auc_ci": [float(auc.low[i]), float(auc.high[i])],
      "auc_population": float(found.exposure["population"].auc[i]),
    }
    for i in order[:_NUM_EXPOSED]
  ]


def text(content: dict[str, Any]) -> str:
  """Returns what a person reads of `results.json` on the terminal."""
  first = content["rows"][0]
  accuracy = [
    f"{part} {100 * first[f'{part}_accuracy']:.1f} % (paper"
    f" {100 * first[f'paper_{part}_accuracy']:.1f} %)"
    for part in ("train", "test")
  ]
  header = ("attack", "AUC", "95 % interval", "paper", "TPR at 1 % FPR", "targets")
  rows = [
    (
      wording.attack(row["attack"]).title,
      f"{row['auc']:.3f}",
      f"{row['auc_ci'][0]:.3f}-{row['auc_ci'][1]:.3f}",
      f"{row['paper_auc']:.3f}" if row["paper_auc"] else "",
      f"{100 * row['tpr_at_fpr']['0.01']:.1f} %",
      str(row["num_targets"]),
    )
    for row in content["rows"]
  ]
  agreement = content["agreement"]
  short = [name.split("_")[0][:12] for name in agreement["attacks"]]
  shares = [
    (name, *(f"{share:.2f}" for share in of_name))
    for name, of_name in zip(short, agreement["share"], strict=True)
  ]
  return "\n".join(
    [
      f"{first['config']} on {first['dataset']}: {first['num_models']} models of"
      f" {first['num_members']} rows; accuracy {', '.join(accuracy)}",
      "",
      results.table([header, *rows]),
      "",
      f"Decisions alike at alpha = {agreement['alpha']:g}, on"
      f" {agreement['num_samples']} samples of the first target:",
      results.table([("", *short), *shares]),
      *_exposed_text(content["exposed_samples"]),
    ]
  )


def _exposed_text(samples: list[dict[str, Any]]) -> list[str]:
  if not samples:
    return []
  header = (
    "most exposed sample",
    "class",
    "models holding it",
    "AUC",
    "95 % interval of all",
  )
  rows = [
    (
      str(sample["index"]),
      str(sample["label"]),
      str(sample["num_holding"]),
      f"{sample['auc']:.3f}",
      f"{sample['auc_ci'][0]:.3f}-{sample['auc_ci'][1]:.3f}",
    )
    for sample in samples[:5]
  ]
  return ["", results.table([header, *rows])]
