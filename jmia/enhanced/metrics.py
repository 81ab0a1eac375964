"""What a cohort says of the attacks: by target, by sample, by size, and one by another.

Ye et al., section 5, beside the AUC of an attack over all targets: the AUC of each
target over its samples, the AUC of each sample over models, how the AUC grows with what
an attacker has, and how often two attacks decide alike.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jmia import splits
from jmia.attacks import population, registry
from jmia.attacks.evidence import Evidence
from jmia.audit import exposure, view
from jmia.audit import outcome as outcome_lib
from jmia.audit.outcome import Outcome
from jmia.audit.panel import Panel
from jmia.stats import intervals, roc

TRUTH = "ground truth"
# As in the paper's Table 3.
_COMPARED = ("leave_one_out", "shadow", "population", "reference", "distillation")


class Models:
  """The losses of all models of a cohort that converged, targets first.

  Attributes:
    losses: `[M, U]` float32, on the evaluated rows.
    population: `[M, P]` float32.
    held: `[M, U]` bool, whether model m was trained on the row.
  """

  def __init__(self, panel: Panel):
    design = panel.design
    parts = [target for target in panel.targets if target is not None]
    losses = [part.signals["loss"][None] for part in parts]
    population = [part.population["loss"][None] for part in parts]
    models = [design.models("target")]
    for block in panel.blocks:
      at = block.converged & (design.role[block.models] == "reference")
      if at.any():
        losses.append(block.signals["loss"][at])
        population.append(block.population["loss"][at])
        models.append(block.models[at])
    self.losses = np.concatenate(losses)
    self.population = np.concatenate(population)
    mask = splits.member_mask(design.members, len(design.rows))
    self.held = mask[np.concatenate(models), : design.num_evaluated]


def by_target(panel: Panel, attacks: Sequence[str]) -> dict[str, list[Outcome]]:
  """Returns attack -> what it did to each target that it can be run on.

  Args:
    panel: of `cohort.train`.
    attacks: names, in the order of the result; one that no target has models for is
      absent.
  """
  outcomes: dict[str, list[Outcome]] = {attack: [] for attack in attacks}
  for target in range(len(panel.targets)):
    evidence = of_target(panel, target)
    missing = outcome_lib.lacking(evidence, attacks)
    for attack in attacks:
      if attack not in missing:
        outcomes[attack].append(outcome_lib.evaluate(evidence, attack))
  return {attack: of_attack for attack, of_attack in outcomes.items() if of_attack}


def of_target(panel: Panel, target: int, at: np.ndarray | None = None) -> Evidence:
  """Returns the evidence of one target, which must not have diverged.

  Args:
    panel: of the cohort.
    target: its number.
    at: `[N]` evaluated rows. Default: the target's samples.
  """
  evidence = view.evidence(panel, target, at=at)
  assert evidence is not None, "a target that diverges ends the training"
  return evidence


def by_sample(
  models: Models, attack: str, *, confidence: float = 0.95
) -> intervals.AucInterval:
  """Returns how well an attack tells models that hold a sample from models that do not.

  Every model of the cohort that converged is attacked in turn. For one sample, Attacks
  S and R have one threshold for all models, so their order is that of the losses;
  Attack P compares a loss with the same model's on the population.

  Args:
    models: of the cohort.
    attack: "population" or "reference", which stands for "shadow" too.
    confidence: of each interval.

  Returns:
    An `AucInterval` of `[U]`; NaN where no model, or every model, holds the sample.

  Raises:
    ValueError: if `attack` is another.
  """
  if attack not in ("population", "reference"):
    raise ValueError(f"attack={attack!r}, expected 'population' or 'reference'")
  scores = -models.losses
  if attack == "population":
    pairs = zip(models.losses, models.population, strict=True)
    scores = np.stack([population.score(*pair) for pair in pairs])
  return exposure.by_sample(scores, models.held, confidence=confidence)


def by_num_models(
  panel: Panel, attacks: Sequence[str], sizes: Sequence[int]
) -> dict[str, np.ndarray]:
  """Returns attack -> AUC `[T, len(sizes)]` with the first so many of its models.

  NaN where a target has fewer models, or a sample fewer than the attack needs.

  Args:
    panel: of `cohort.train`.
    attacks: names of attacks on groups of models.
    sizes: numbers of shadow, reference or distilled models.
  """

  def cut(evidence: Evidence, attack: registry.Attack, size: int) -> Evidence | None:
    (needs,) = attack.all_needs()
    groups = {name: evidence.groups.get(name) for name in needs.groups}
    if any(group is None or group.num_models < size for group in groups.values()):
      return None
    less = {name: group.first(size) for name, group in groups.items() if group}
    found = evidence._replace(groups={**evidence.groups, **less})
    return found if registry.covered(found, attack).all() else None

  return _auc_by_size(panel, attacks, sizes, cut)


def by_population(
  panel: Panel, attacks: Sequence[str], sizes: Sequence[int]
) -> dict[str, np.ndarray]:
  """Returns attack -> AUC `[T, len(sizes)]` with the first so many population rows.

  Args:
    panel: of `cohort.train`.
    attacks: names of attacks that use the population.
    sizes: numbers of rows, at most `P`. NaN where an attack whose null is by class
      lacks a class among a target's samples.
  """

  def cut(evidence: Evidence, attack: registry.Attack, size: int) -> Evidence | None:
    del attack
    return evidence.with_first_rows(size)

  return _auc_by_size(panel, attacks, sizes, cut)


def agreement(
  evidence: Evidence, alpha: float, *, of: np.ndarray | None = None
) -> tuple[list[str], np.ndarray]:
  """Returns how often two attacks call a sample alike at level `alpha`.

  The paper's Table 3 has members above the diagonal and non-members below; here they
  are taken together.

  Args:
    evidence: of one target; where there are leave-one-out models, on their samples
      alone.
    alpha: the level.
    of: `[N]` bool, the samples to count among those. Default: all.

  Returns:
    `A` names, `TRUTH` first, and the share of samples `[A, A]` on which two agree.
  """
  at = agreement_samples(evidence)
  at = at if of is None else at[of[at]]
  missing = outcome_lib.lacking(evidence, _COMPARED)
  calls: Mapping[str, np.ndarray] = {TRUTH: evidence.members} | {
    attack: evidence.signals["loss"]
    <= outcome_lib.evaluate(evidence, attack, alpha=alpha).thresholds
    for attack in _COMPARED
    if attack not in missing
  }
  decisions = np.stack([call[at] for call in calls.values()])
  return list(calls), (decisions[:, None] == decisions).mean(axis=-1)


def agreement_samples(evidence: Evidence) -> np.ndarray:
  """Returns the samples that have leave-one-out models; all, if there are none."""
  at = np.arange(len(evidence.members))
  if outcome_lib.lacking(evidence, ["leave_one_out"]):
    return at
  return at[registry.covered(evidence, registry.get("leave_one_out"))]


def _auc_by_size(panel, attacks, sizes, cut) -> dict[str, np.ndarray]:
  """The AUC of each attack on each target's evidence, cut to each size."""
  num_targets = len(panel.targets)
  auc = {attack: np.full((num_targets, len(sizes)), np.nan) for attack in attacks}
  for target in range(num_targets):
    evidence = of_target(panel, target)
    for name in attacks:
      attack = registry.get(name)
      if registry.lacking(evidence, attack):
        continue
      for i, size in enumerate(sizes):
        less = cut(evidence, attack, size)
        if less is None:
          continue
        tuned = attack.tuned(less)
        scores = tuned.score(less, **tuned.options)
        if not np.isnan(scores).any():
          auc[name][target, i] = roc.auc(scores, evidence.members)
  return auc
