"""How much each attack gains from more models that a target is compared with.

One panel is trained with the most models, and its targets are attacked with the first
few of them, so that sizes differ in the models alone.
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jmia import types
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.audit import auditing, view
from jmia.audit import config as config_lib
from jmia.audit import outcome as outcome_lib
from jmia.audit import panel as panel_lib
from jmia.audit import trainer as trainer_lib


def train(
  dataset: types.Dataset,
  config: config_lib.AuditConfig,
  *,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: trainer_lib.Progress = trainer_lib.silent,
) -> panel_lib.Panel:
  """Trains the targets, and the most references, of an audit.

  Args:
    dataset: the data.
    config: of the audit.
    checkpoint_dir: where training is saved and resumed.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: as `audit.run`.
  """
  split = config_lib.split_of(dataset, config, None)
  return panel_lib.train(
    config_lib.design_of(split, config),
    auditing.trainer_of(dataset, config, split, checkpoint_dir, progress),
    config.needs(),
  )


def rows(
  panel: panel_lib.Panel,
  attacks: Sequence[str],
  sizes: Sequence[int],
) -> list[dict[str, Any]]:
  """Returns a row for each attack and number of reference models.

  Args:
    panel: of `train`. Other targets, with which each is compared in an audit too, are
      no references here.
    attacks: names, with options if need be.
    sizes: numbers of reference models, at most those of the panel.

  Returns:
    Rows `{"attack", "num_references", "num_samples", ...}` with what `over_targets`
    measures; none where an attack needs more models, or needs none and has its row
    already (`num_references` 0). An attack that asks about several copies of a row has
    rows of the row alone too, `num_queries` 1.
  """
  evidence = [view.evidence(panel, target) for target in range(len(panel.targets))]
  targets = [of_target for of_target in evidence if of_target is not None]
  num_references = len(panel.design.models("reference"))
  found = _rows(targets, attacks, sizes, num_references)
  several = {row["attack"] for row in found if row["num_queries"] > 1}
  alone = [_without_copies(of_target) for of_target in targets]
  names = [name for name in attacks if name in several]
  return found + _rows(alone, names, sizes, num_references)


def _rows(targets, attacks, sizes, num_references) -> list[dict[str, Any]]:
  found = []
  for attack in attacks:
    (needs,) = registry.get(attack).all_needs()
    for size in sizes if needs.groups else (0,):
      cut = [_with_first(evidence, size, num_references) for evidence in targets]
      try:
        outcomes = [
          outcome_lib.evaluate(evidence, attack)
          for evidence in cut
          if not outcome_lib.lacking(evidence, [attack])
        ]
      except outcome_lib.NothingToCompareError:
        continue
      if len(outcomes) == len(targets):
        found.append(_row(attack, size, outcomes))
  return found


def _with_first(evidence: Evidence, size: int, num_references: int) -> Evidence:
  """The evidence with so many of the references alone."""
  groups = {}
  for name, group in evidence.groups.items():
    first = group.num_models - num_references
    # Other targets stand before the references.
    groups[name] = group.models(slice(first, first + size))
  return evidence._replace(groups=groups)


def _without_copies(evidence: Evidence) -> Evidence:
  """The evidence of the rows themselves."""

  def plain(signals: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    names = [n for n in signals if evidence_lib.parse(n)[1] != evidence_lib.QUERIES]
    return evidence_lib.Lazy(names, lambda name: signals[name])

  groups = {
    name: group._replace(
      signals=plain(group.signals), population=plain(group.population)
    )
    for name, group in evidence.groups.items()
  }
  return evidence._replace(
    signals=plain(evidence.signals),
    population=plain(evidence.population),
    groups=groups,
  )


def _row(attack: str, size: int, outcomes) -> dict[str, Any]:
  summary = outcome_lib.over_targets(outcomes)
  measured = ("auc", "auc_ci", "tpr_at_fpr", "tpr_at_fpr_ci")
  return {
    "attack": attack,
    "num_references": size,
    "num_queries": outcomes[0].summary.get("num_queries", 1),
    "num_targets": len(outcomes),
    "num_samples": int(np.mean([o.summary["num_samples"] for o in outcomes])),
    **{name: summary[name] for name in measured},
  }
