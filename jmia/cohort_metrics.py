"""What a cohort says of the attacks: by target, by sample, by size, and one by another.

Ye et al., section 5, beside the AUC of an attack over all targets: the AUC of each
target over its samples, the AUC of each sample over models, how the AUC grows with what
an attacker has, and how often two attacks decide alike.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jmia import cohort as cohort_lib
from jmia import evaluation
from jmia.attacks import population
from jmia.cohort import Cohort
from jmia.evidence import Evidence
from jmia.stats import intervals, roc

_BLOCK_SIZE = 2**22  # scores ranked at a time, to bound memory
TRUTH = "ground truth"
# As in the paper's Table 3.
_COMPARED = ("leave_one_out", "shadow", "population", "reference", "distillation")


def by_target(cohort: Cohort) -> dict[str, list[evaluation.Outcome]]:
  """Returns attack -> what it did to each target that it can be run on.

  The attacks are those of `evaluation.ATTACKS`, and so is their order; one that no
  target has models for is absent.
  """
  outcomes: dict[str, list[evaluation.Outcome]] = {a: [] for a in evaluation.ATTACKS}
  for target in range(cohort.config.num_targets):
    evidence = cohort_lib.evidence(cohort, target)
    missing = evaluation.lacking(evidence, evaluation.ATTACKS)
    for attack in evaluation.ATTACKS:
      if attack not in missing:
        outcomes[attack].append(evaluation.evaluate(evidence, attack))
  return {attack: of_attack for attack, of_attack in outcomes.items() if of_attack}


def by_sample(cohort: Cohort, attack: str) -> intervals.AucInterval:
  """Returns how well an attack tells models that hold a sample from models that do not.

  Every model of the cohort that converged is attacked in turn. For one sample, Attacks
  S and R have one threshold for all models, so their order is that of the losses;
  Attack P compares a loss with the same model's on the population.

  Args:
    cohort: of `cohort.gather`.
    attack: "population" or "reference", which stands for "shadow" too.

  Returns:
    An `AucInterval` of `[U]`; NaN where no model, or every model, holds the sample.

  Raises:
    ValueError: if `attack` is another.
  """
  if attack not in ("population", "reference"):
    raise ValueError(f"attack={attack!r}, expected 'population' or 'reference'")
  models = np.flatnonzero(cohort.converged)
  scores = -cohort.losses[models]
  if attack == "population":
    pairs = zip(cohort.losses[models], cohort.population_losses[models], strict=True)
    scores = np.stack([population.score(*pair) for pair in pairs])
  held = cohort.held[models]
  step = max(1, _BLOCK_SIZE // len(models))
  blocks = [
    intervals.auc(scores[:, i : i + step], held[:, i : i + step], axis=0)
    for i in range(0, scores.shape[1], step)
  ]
  return intervals.AucInterval(*map(np.concatenate, zip(*blocks, strict=True)))


def by_num_models(cohort: Cohort, sizes: Sequence[int]) -> dict[str, np.ndarray]:
  """Returns attack -> AUC `[T, len(sizes)]` with the first so many of its models.

  Attacks S, R and, of the targets that are distilled, D. NaN where a target has fewer
  models, or a sample has fewer than 2 that were not trained on it.

  Args:
    cohort: of `cohort.gather`.
    sizes: numbers of shadow, reference or distilled models.
  """

  def cut(e: Evidence, size: int) -> dict[str, Evidence | None]:
    reference = e._replace(
      reference_losses=_head(e.reference_losses, size),
      reference_held=_head(e.reference_held, size),
      reference_population_losses=_head(e.reference_population_losses, size),
      reference_population_held=_head(e.reference_population_held, size),
    )
    distilled = e._replace(
      distilled_losses=_head(e.distilled_losses, size),
      distilled_held=_head(e.distilled_held, size),
    )
    return {
      "shadow": reference
      if reference.reference_population_losses is not None
      else None,
      "reference": reference if _enough(reference.reference_held) else None,
      "distillation": distilled if _enough(distilled.distilled_held) else None,
    }

  return _auc_by_size(cohort, sizes, ("shadow", "reference", "distillation"), cut)


def by_population(cohort: Cohort, sizes: Sequence[int]) -> dict[str, np.ndarray]:
  """Returns attack -> AUC `[T, len(sizes)]` with the first so many population rows.

  Args:
    cohort: of `cohort.gather`.
    sizes: numbers of rows, at most `P`. Attack S, whose null is by class, is NaN where
      a class among a target's samples has none.
  """

  def cut(e: Evidence, size: int) -> dict[str, Evidence | None]:
    parts = (e.population_losses, e.population_labels)
    shadow = (e.reference_population_losses, e.reference_population_held)
    assert all(part is not None for part in (*parts, *shadow)), "a cohort has them"
    losses, labels = (part[:size] for part in parts if part is not None)
    of_shadow, held = (part[:, :size] for part in shadow if part is not None)
    less = e._replace(
      population_losses=losses,
      population_labels=labels,
      reference_population_losses=of_shadow,
      reference_population_held=held,
    )
    covered = set(e.labels.tolist()) <= set(labels.tolist())
    return {"population": less, "shadow": less if covered else None}

  return _auc_by_size(cohort, sizes, ("population", "shadow"), cut)


def agreement(evidence: Evidence, alpha: float) -> tuple[list[str], np.ndarray]:
  """Returns how often two attacks call a sample alike at level `alpha`.

  Args:
    evidence: of one target; where there are leave-one-out models, on their samples
      alone.
    alpha: the level.

  Returns:
    `A` names, `TRUTH` first, and the share of samples `[A, A]` on which two agree.
  """
  at = evidence.left_out
  if at is None:
    at = np.arange(len(evidence.members))
  missing = evaluation.lacking(evidence, _COMPARED)
  calls: Mapping[str, np.ndarray] = {TRUTH: evidence.members} | {
    attack: evidence.losses
    <= evaluation.evaluate(evidence, attack, alpha=alpha).thresholds
    for attack in _COMPARED
    if attack not in missing
  }
  decisions = np.stack([call[at] for call in calls.values()])
  return list(calls), (decisions[:, None] == decisions).mean(axis=-1)


def _auc_by_size(cohort, sizes, attacks, cut) -> dict[str, np.ndarray]:
  """The AUC of each attack on each target's evidence, cut to each size."""
  num_targets = cohort.config.num_targets
  auc = {attack: np.full((num_targets, len(sizes)), np.nan) for attack in attacks}
  for target in range(num_targets):
    evidence = cohort_lib.evidence(cohort, target)
    for i, size in enumerate(sizes):
      for attack, less in cut(evidence, size).items():
        if less is not None:
          outcome = evaluation.evaluate(less, attack)
          auc[attack][target, i] = roc.auc(outcome.scores, evidence.members)
  return auc


def _head(array: np.ndarray | None, size: int) -> np.ndarray | None:
  """The first rows; None if there are not so many."""
  return None if array is None or len(array) < size else array[:size]


def _enough(held: np.ndarray | None) -> bool:
  """Whether every sample has 2 models that were not trained on it."""
  return held is not None and bool(((~held).sum(axis=0) >= 2).all())
