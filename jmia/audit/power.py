"""How much each attack gains from more models that a target is compared with.

One panel is trained with the most models, and its targets are attacked with the first
few of them, so that sizes differ in the models alone.
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jmia import splits, types
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.audit import config as config_lib
from jmia.audit import copies as copies_lib
from jmia.audit import design as design_lib
from jmia.audit import outcome as outcome_lib
from jmia.audit import panel as panel_lib
from jmia.audit import preparation, view
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib


def check(
  dataset: types.Dataset, config: config_lib.AuditConfig, sizes: Sequence[int]
) -> None:
  """Checks, before anything is trained, that every attack can have a row.

  Args:
    dataset: as of `train`.
    config: as of `train`.
    sizes: as of `rows`.

  Raises:
    ValueError: an attack needs more models, or others, than even the largest size has;
      and as `train`.
  """
  split = config_lib.split_of(dataset, config, None)
  design = config_lib.design_of(split, config)
  x = dataset.x[design.rows]
  copies = copies_lib.plan(config.needs(), x, design.population, seed=config.seed)
  held = splits.member_mask(design.members, len(design.rows))
  for attack in config.attacks:
    (needs,) = registry.get(attack).all_needs()
    kinds = {evidence_lib.parse(name)[1] for name in needs.signals}
    if kinds - {None, evidence_lib.QUERIES, *copies}:
      raise ValueError(f"attack {attack!r}: these rows have no copies to ask about")
    for name, of_group in needs.groups.items():
      lacks = _lacks(design, held, name, of_group, max(sizes))
      if lacks is not None:
        raise ValueError(f"attack {attack!r} can have no row: {lacks}")


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
  prepared = preparation.prepare(
    dataset, config, checkpoint_dir=checkpoint_dir, progress=progress
  )
  return training_lib.train(prepared.design, prepared.trainer, config.needs())


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
    sizes: numbers of models of each kind that an attack takes.

  Returns:
    Rows `{"attack", "num_references", "num_samples", ...}` with what `over_targets`
    measures; none where an attack needs more models, or needs none and has its row
    already (`num_references` 0). In place of a size above what every target has of a
    kind, models that diverged left out, stands the number that it has. An attack that
    asks about several copies of a row has rows of the row alone too, `num_queries` 1.

  Raises:
    ValueError: no attack has a row.
  """
  evidence = [view.evidence(panel, target) for target in range(len(panel.targets))]
  targets = [of_target for of_target in evidence if of_target is not None]
  found = _rows(targets, attacks, sizes)
  if not found:
    raise ValueError(f"sizes={list(sizes)}: too few models for any of the attacks")
  several = {row["attack"] for row in found if row["num_queries"] > 1}
  alone = [_without_copies(of_target) for of_target in targets]
  names = [name for name in attacks if name in several]
  return found + _rows(alone, names, sizes)


def _lacks(
  design: design_lib.Design,
  held: np.ndarray,
  name: str,
  needs: registry.GroupNeeds,
  size: int,
) -> str | None:
  """What a group's first models lack for a target's members, or its others."""
  role = name if len(design.models(name)) else "reference"
  for target, members in enumerate(held[design.models("target")]):
    own = np.isin(design.target, (design_lib.EVERY, target)) & (design.role == role)
    models = np.flatnonzero(own)
    serves = np.ones((len(models), design.num_evaluated), bool)
    if design.serves is not None:
      serves = design.serves[models]
    counts = serves & (serves.cumsum(axis=0) <= size)
    is_in = held[models, : design.num_evaluated]
    enough = (counts & is_in).sum(axis=0) >= needs.held
    enough &= (counts & ~is_in).sum(axis=0) >= needs.out
    assert design.samples is not None
    of_kind = members[design.samples[target]]
    enough = enough[design.samples[target]]
    if not (enough[of_kind].any() and enough[~of_kind].any()):
      return (
        f"a sample needs {needs.held} models trained on it and {needs.out} that were"
        f" not, which the first {size} are for none"
      )
    if needs.population_held and not held[models[:size], design.population].any():
      return "it learns from population rows that a reference held, and none did"
  return None


def _rows(
  targets: Sequence[Evidence], attacks: Sequence[str], sizes: Sequence[int]
) -> list[dict[str, Any]]:
  found = []
  for attack in attacks:
    (needs,) = registry.get(attack).all_needs()
    there = [
      _num_own(evidence, name, len(targets))
      for evidence in targets
      for name in needs.groups
    ]
    for size in sorted({min(size, *there) for size in sizes} if there else {0}):
      cut = [_with_first(evidence, size, len(targets)) for evidence in targets]
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


def _num_own(evidence: Evidence, name: str, num_targets: int) -> int:
  """The models of a group beside the other targets, which stand before them."""
  if name not in evidence.groups:
    return 0
  return evidence.groups[name].num_models - _num_mates(name, num_targets)


def _num_mates(name: str, num_targets: int) -> int:
  return num_targets - 1 if name in view.WITH_TARGETS else 0


def _with_first(evidence: Evidence, size: int, num_targets: int) -> Evidence:
  """The evidence with so many models of each group, and no other targets."""
  groups = {}
  for name, group in evidence.groups.items():
    first = _num_mates(name, num_targets)
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
