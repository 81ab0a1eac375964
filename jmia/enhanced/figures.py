"""The figures of `enhanced_mia`, from what was found."""

from typing import Any

import numpy as np

from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.audit import outcome as outcome_lib
from jmia.audit.outcome import Outcome
from jmia.enhanced import metrics, rows
from jmia.report import study_plots, wording
from jmia.stats import levels, roc

# Figure 4 sets these against each other.
_PAIRS = (("shadow", "population"), ("reference", "distillation"))
_NUM_MODELS_SHOWN = (10, 20, 50, 100, 200)
_POPULATION_SHOWN = (100, 200, 500, 1000)  # rows per class
_FPR = np.unique(np.concatenate([np.linspace(0, 1, 201), np.geomspace(1e-3, 1, 121)]))


def draw(found: rows.Found) -> dict[str, Any]:
  """Returns file name -> figure, of those that the attacks that ran have part in."""
  outcomes = found.outcomes
  # One attack on few samples of one target has no place among means over targets.
  names = [a for a in outcomes if not np.isnan(outcomes[a][0].scores).any()]
  auc = {a: float(np.mean([o.summary["auc"] for o in outcomes[a]])) for a in names}
  figures = {
    "roc.png": study_plots.mean_roc_figure(
      _FPR,
      {a: _mean_tpr(outcomes[a]) for a in names},
      auc,
      found.config.num_members,
    ),
  }
  with_nulls = [a for a in names if a in _NULLS]
  if with_nulls:
    figures["null_losses.png"] = study_plots.null_figure(
      _null_panels(found, with_nulls), levels.ALPHA
    )
  sizes = {panel: curves for panel, curves in _sizes(found).items() if curves[1]}
  if sizes:
    figures["auc_by_size.png"] = study_plots.auc_by_size_figure(sizes)
  pairs = [pair for pair in _PAIRS if set(pair) <= outcomes.keys()]
  if pairs:
    figures["differences.png"] = _differences(found, pairs)
  enough = found.num_holding >= rows.LEAST_HOLDING
  if enough.any():
    figures["sample_auc.png"] = study_plots.sample_auc_figure(
      {attack: found.exposure[attack].auc[enough] for attack in found.exposure},
      least=rows.LEAST_HOLDING,
    )
  return figures


def _mean_tpr(outcomes: list[Outcome]) -> np.ndarray:
  """The mean ROC of targets whose first half of samples are members, at `_FPR`."""
  num = len(outcomes[0].scores)
  members = np.arange(num) < num // 2
  return np.mean([roc.tpr_at_fpr(o.scores, members, _FPR) for o in outcomes], axis=0)


def _differences(found: rows.Found, pairs: list[tuple[str, str]]):
  """Figure 4, of the first target; the paper's dots are members alone, here both."""
  evidence = metrics.of_target(found.panel, 0)
  differences = {
    attack: evidence.signals["loss"] - found.outcomes[attack][0].thresholds
    for pair in pairs
    for attack in pair
  }
  return study_plots.difference_figure(
    pairs, differences, evidence.members, levels.ALPHA
  )


def _null_panels(
  found: rows.Found, names: list[str]
) -> list[list[study_plots.NullPanel]]:
  """Figure 1: an easy and a hard member of one target, there and on a second target.

  The paper's two samples are of one class, and members of both targets.
  """
  targets = range(min(2, len(found.outcomes[names[-1]])))
  samples = _easy_and_hard(found, targets)
  grid = []
  for target in targets:
    evidence = metrics.of_target(found.panel, target, samples)
    thresholds = {a: outcome_lib.thresholds(evidence, a) for a in names}
    for i, sample in enumerate(samples):
      titles = [wording.attack(attack).title for attack in names]
      kind = "member" if evidence.members[i] else "non-member"
      row = found.panel.design.rows[sample]
      titles[0] = f"target {target + 1}, sample {row}: {kind}\n{titles[0]}"
      grid.append(
        [
          study_plots.NullPanel(
            title,
            _NULLS[attack](evidence, i),
            float(thresholds[attack][i]),
            float(evidence.signals["loss"][i]),
          )
          for title, attack in zip(titles, names, strict=True)
        ]
      )
  return grid


def _easy_and_hard(found: rows.Found, targets: range) -> np.ndarray:
  """A member of only the first target that others find easy, and one they find hard."""
  models, samples = metrics.Models(found.panel), found.panel.design.samples
  assert samples is not None
  members = samples[0][: found.config.num_members]
  if len(targets) > 1:
    members = members[~models.held[targets[1], members]]
  out = ~models.held[:, members]
  hardness = np.where(out, models.losses[:, members], 0).sum(axis=0) / out.sum(axis=0)
  order = members[np.argsort(hardness)]
  return order[[len(order) // 4, 9 * len(order) // 10]]


def _of_class(evidence: Evidence, i: int) -> np.ndarray:
  same = evidence.population_labels == evidence.labels[i]
  return evidence.groups["reference"].population["loss"][:, same].ravel()


def _of_sample(group: str):
  def losses(evidence: Evidence, i: int) -> np.ndarray:
    of_group = evidence.groups[group]
    return of_group.signals["loss"][of_group.out[:, i], i]

  return losses


# The losses that make the null of sample `i` in the paper's attacks.
_NULLS = {
  "population": lambda evidence, i: evidence.population["loss"],
  "shadow": _of_class,
  "reference": _of_sample("reference"),
  "distillation": _of_sample("distilled"),
}


def _sizes(found: rows.Found) -> dict[str, Any]:
  """Figure 3's two panels."""
  most = found.config.num_models - 1
  models = sorted({size for size in _NUM_MODELS_SHOWN if size < most} | {most})
  num_classes = found.panel.num_classes
  per_class = found.config.num_population // num_classes
  sizes = sorted({size for size in _POPULATION_SHOWN if size < per_class} | {per_class})
  chosen = [registry.get(a) for a in found.outcomes if "left_out" not in _groups(a)]
  of_models = [attack.name for attack in chosen if _groups(attack.name)]
  of_rows = [attack.name for attack in chosen if _uses_population(attack)]
  return {
    "shadow, reference or distilled models": (
      models,
      metrics.by_num_models(found.panel, of_models, models),
    ),
    "population rows per class": (
      sizes,
      metrics.by_population(found.panel, of_rows, [num_classes * n for n in sizes]),
    ),
  }


def _groups(attack: str) -> set[str]:
  """The groups of models that an attack takes."""
  (needs,) = registry.get(attack).all_needs()
  return set(needs.groups)


def _uses_population(attack: registry.Attack) -> bool:
  (needs,) = attack.all_needs()
  return bool(needs.population or any(g.population for g in needs.groups.values()))
