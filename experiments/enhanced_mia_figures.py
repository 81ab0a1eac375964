"""The figures of `enhanced_mia`, from what was found."""

from typing import Any

import numpy as np

from experiments import enhanced_mia_rows as rows
from jmia import cohort as cohort_lib
from jmia import cohort_metrics, evaluation
from jmia.report import study_plots, wording
from jmia.stats import roc

_ATTACKS = ("population", "shadow", "reference", "distillation")
_ALPHA = evaluation.ALPHA
_NUM_MODELS_SHOWN = (10, 20, 50, 100, 200)
_POPULATION_SHOWN = (100, 200, 500, 1000)  # rows per class
_FPR = np.unique(np.concatenate([np.linspace(0, 1, 201), np.geomspace(1e-3, 1, 121)]))


def draw(found: rows.Found) -> dict[str, Any]:
  """Returns file name -> figure."""
  cohort, outcomes = found.cohort, found.outcomes
  names = [attack for attack in _ATTACKS if attack in outcomes]
  auc = {a: float(np.mean([o.summary["auc"] for o in outcomes[a]])) for a in names}
  figures = {
    "roc.png": study_plots.mean_roc_figure(
      _FPR,
      {a: _mean_tpr(outcomes[a]) for a in names},
      auc,
      cohort.config.num_members,
    ),
    "null_losses.png": study_plots.null_figure(_null_panels(found, names), _ALPHA),
    "auc_by_size.png": study_plots.auc_by_size_figure(_sizes(cohort)),
    "differences.png": _differences(found),
  }
  enough = found.num_holding >= rows.LEAST_HOLDING
  if enough.any():
    figures["sample_auc.png"] = study_plots.sample_auc_figure(
      {attack: found.exposure[attack].auc[enough] for attack in found.exposure},
      least=rows.LEAST_HOLDING,
    )
  return figures


def _mean_tpr(outcomes: list[evaluation.Outcome]) -> np.ndarray:
  """The mean ROC of targets whose first half of samples are members, at `_FPR`."""
  num = len(outcomes[0].scores)
  members = np.arange(num) < num // 2
  return np.mean([roc.tpr_at_fpr(o.scores, members, _FPR) for o in outcomes], axis=0)


def _differences(found: rows.Found):
  """Figure 4, of the first target."""
  evidence = cohort_lib.evidence(found.cohort, 0)
  pairs = [("shadow", "population"), ("reference", "distillation")]
  pairs = [pair for pair in pairs if set(pair) <= found.outcomes.keys()]
  differences = {
    attack: evidence.losses - found.outcomes[attack][0].thresholds
    for pair in pairs
    for attack in pair
  }
  return study_plots.difference_figure(pairs, differences, evidence.members, _ALPHA)


def _null_panels(
  found: rows.Found, names: list[str]
) -> list[list[study_plots.NullPanel]]:
  """Figure 1: an easy and a hard member of one target, there and on a second target."""
  cohort = found.cohort
  targets = range(min(2, len(found.outcomes[names[-1]])))
  samples = _easy_and_hard(cohort, targets)
  grid = []
  for target in targets:
    evidence = cohort_lib.evidence(cohort, target, samples)
    thresholds = {a: evaluation.evaluate(evidence, a).thresholds for a in names}
    for i, sample in enumerate(samples):
      titles = [wording.attack(attack).title for attack in names]
      kind = "member" if evidence.members[i] else "non-member"
      place = f"target {target + 1}, sample {cohort.rows[sample]}: {kind}"
      titles[0] = f"{place}\n{titles[0]}"
      grid.append(
        [
          study_plots.NullPanel(
            title,
            _null_losses(evidence, attack, i),
            float(thresholds[attack][i]),
            float(evidence.losses[i]),
          )
          for title, attack in zip(titles, names, strict=True)
        ]
      )
  return grid


def _easy_and_hard(cohort: cohort_lib.Cohort, targets: range) -> np.ndarray:
  """A member of only the first target that others find easy, and one they find hard."""
  members = cohort.samples[0][: cohort.config.num_members]
  if len(targets) > 1:
    members = members[~cohort.held[targets[1], members]]
  at = np.ix_(np.flatnonzero(cohort.converged), members)
  hardness = np.where(cohort.held[at], 0, cohort.losses[at]).sum(axis=0)
  order = members[np.argsort(hardness / (~cohort.held[at]).sum(axis=0))]
  return order[[len(order) // 4, 9 * len(order) // 10]]


def _null_losses(evidence, attack: str, i: int) -> np.ndarray:
  """The losses that make the null of sample `i`."""
  if attack == "population":
    return evidence.population_losses
  if attack == "shadow":
    same = evidence.population_labels == evidence.labels[i]
    return evidence.reference_population_losses[:, same].ravel()
  if attack == "reference":
    return evidence.reference_losses[~evidence.reference_held[:, i], i]
  return evidence.distilled_losses[~evidence.distilled_held[:, i], i]


def _sizes(cohort: cohort_lib.Cohort) -> dict[str, Any]:
  """Figure 3's two panels."""
  most = cohort.config.num_models - 1
  models = sorted({size for size in _NUM_MODELS_SHOWN if size < most} | {most})
  per_class = cohort.config.num_population // cohort.num_classes
  rows = sorted({size for size in _POPULATION_SHOWN if size < per_class} | {per_class})
  return {
    "shadow, reference or distilled models": (
      models,
      cohort_metrics.by_num_models(cohort, models),
    ),
    "population rows per class": (
      rows,
      cohort_metrics.by_population(cohort, [cohort.num_classes * row for row in rows]),
    ),
  }
