"""What an attack did: to one target's samples, and over several targets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.stats import conformal, intervals, levels, per_sample, roc
from jmia.stats import epsilon as epsilon_lib
from jmia.stats import over_targets as over_targets_lib

# What is measured on a target's samples, and what is a mean where there are several.
_MEASURED = ("auc", "accuracy", "tpr_at_fpr")
OF_P_VALUES = ("num_calibration", "found_at_fdr", "accused_at_p")


class NothingToCompareError(ValueError):
  """An attack can attack no members, or no non-members."""


class Outcome(NamedTuple):
  """What one attack did to `N` samples.

  Attributes:
    scores: `[N]` float32, higher = member; NaN where a sample was not attacked.
    members: `[N]` bool, who they are.
    thresholds: `[N]` float32, the loss `c_alpha` at `evaluate`'s level; NaN likewise.
      All NaN of an attack that only ranks.
    threshold: the score from which the attack says "member"; None if it has no such
      rule, or was not asked for it.
    summary: the attack's entry in `report.json`. Its `num_samples`, of which
      `num_nonmembers`, are those attacked; its `num_models` are the models that a
      sample is compared with, 0 where that is the target itself.
    notes: what a reader must know, such as samples left out.
    p_values: `[N]` conformal (`stats.conformal`), NaN where a sample was not attacked;
      None without rows that calibrate.
    q_values: `[N]`, of the same, for a false discovery rate.
    excess: the p-value of whether non-members score higher than the rows that
      calibrate, which they must be like (`conformal.excess`); None without such rows.
  """

  scores: np.ndarray
  members: np.ndarray
  thresholds: np.ndarray
  threshold: float | None
  summary: dict[str, Any]
  notes: list[str]
  p_values: np.ndarray | None = None
  q_values: np.ndarray | None = None
  excess: float | None = None


def evaluate(
  evidence: Evidence,
  attack: str | registry.Attack,
  *,
  alpha: float = levels.ALPHA,
  decides: bool = False,
  **options: Any,
) -> Outcome:
  """Runs one attack.

  Samples that lack the models it needs are left out, and said. Those that calibrate are
  scored with the others, and are in no result but the p-values.

  Args:
    evidence: what it is given.
    attack: as `attacks.get` takes it, and not `lacking`.
    alpha: the level of the thresholds; scores and summary do not depend on it.
    decides: whether to ask for the score from which it says "member".
    **options: for `attacks.get`, such as `estimator`; those that the attack does not
      have are left out.

  Returns:
    Scores, thresholds, and a summary with 95 % intervals: AUC, accuracy at
    the best threshold, and TPR at each of `levels.FPRS`.

  Raises:
    NothingToCompareError: if no members, or no non-members, can be attacked.
    ValueError: if a name or an option is unknown; and the attack's errors.
  """
  if isinstance(attack, str):
    attack = registry.get(attack, **options)
  at = registry.covered(evidence, attack)
  attack = attack.tuned(evidence)
  part = evidence if at.all() else evidence.at(at)
  scores, bounds = np.full((2, len(at)), np.nan, np.float32)
  scores[at] = _scores(attack, part)
  if attack.loss_thresholds is not None:
    bounds[at] = attack.loss_thresholds(part, [alpha], **attack.options)[0]
  threshold = None
  if decides and attack.score_threshold is not None:
    threshold = attack.score_threshold(part, **attack.options)
  of_calibration = None
  if evidence.calibrates is not None:
    of_calibration = scores[evidence.calibrates]
    scores, bounds = (a[~evidence.calibrates] for a in (scores, bounds))
    evidence = evidence.evaluated()
  attacked = ~np.isnan(scores)
  members = evidence.members[attacked]
  if members.all() or not members.any():
    kind = "members" if not members.any() else "non-members"
    raise NothingToCompareError(
      f"needs more models, or population rows of the samples' classes: it can attack"
      f" {attacked.sum()} of {len(attacked)} samples, and no {kind} among them"
    )
  about = {**attack.options, "num_models": num_models(evidence, attack)}
  about |= _queries(evidence, attack)
  p = q = excess = None
  if of_calibration is not None and not np.isnan(of_calibration).all():
    p = conformal.p_values(scores, of_calibration)
    q = conformal.q_values(p)
    about |= _discoveries(evidence.members, p, q, of_calibration)
    excess = conformal.excess(scores[~evidence.members], of_calibration)
  return Outcome(
    scores,
    evidence.members,
    bounds,
    threshold,
    _summary(evidence, scores, about),
    _left_out(attack, attacked),
    p,
    q,
    excess,
  )


def _discoveries(members, p, q, of_calibration) -> dict[str, Any]:
  """What the p-values find, and how often they were wrong here."""
  found, others = q <= levels.FDR, p[~members & ~np.isnan(p)]
  counts = {"num_found": int(found.sum()), "num_members": int((found & members).sum())}
  return {
    "num_calibration": int((~np.isnan(of_calibration)).sum()),
    "found_at_fdr": {str(levels.FDR): counts},
    "accused_at_p": {str(a): float((others <= a).mean()) for a in (levels.ALPHA, 0.01)},
  }


def thresholds(
  evidence: Evidence, attack: str, alpha: float = levels.ALPHA
) -> np.ndarray:
  """Returns the losses `[N]` at or under which samples are called members at `alpha`.

  Args:
    evidence: as in `evaluate`, but it may be of members alone.
    attack: one that has thresholds on the loss.
    alpha: the level.
  """
  known = registry.get(attack)
  assert known.loss_thresholds is not None
  return known.loss_thresholds(evidence, [alpha], **known.options)[0]


def lacking(
  evidence: Evidence, attacks: Sequence[str], **options: Any
) -> dict[str, str]:
  """Returns attack -> what it needs, for those that the evidence does not allow."""
  found = {a: registry.lacking(evidence, registry.get(a, **options)) for a in attacks}
  return {name: reason for name, reason in found.items() if reason is not None}


def num_models(evidence: Evidence, attack: registry.Attack) -> int:
  """Returns the models that an attack compares a sample with."""
  (needs,) = attack.all_needs()
  sizes = [evidence.groups[name].num_models for name in needs.groups]
  return max(sizes, default=0)


def _queries(evidence: Evidence, attack: registry.Attack) -> dict[str, int]:
  """Of how many copies of a sample an attack asked, where it may ask of several."""
  (needs,) = attack.all_needs()
  sizes = [
    evidence.signals[name].shape[1]
    for name in needs.signals
    if evidence_lib.parse(name)[1] is not None and name in evidence.signals
  ]
  return {"num_queries": max(sizes)} if sizes else {}


def at_once(outcomes: Sequence[Outcome], num_attacks: int) -> dict[str, Any]:
  """Returns an attack's intervals that hold for all figures of all attacks at once.

  AUC and TPR at each of `levels.FPRS`, of `num_attacks` attacks, by Bonferroni: what is
  picked from among them after seeing them is covered too.

  Args:
    outcomes: of each target.
    num_attacks: of the report.

  Returns:
    `{"auc_ci", "tpr_at_fpr_ci"}`, as in a summary.
  """
  return _intervals(outcomes, confidence_at_once(num_attacks))


def confidence_at_once(num_attacks: int) -> float:
  """Returns the confidence of each interval of `at_once`."""
  return intervals.each_of(num_attacks * (1 + len(levels.FPRS)))


def _intervals(outcomes: Sequence[Outcome], confidence: float) -> dict[str, Any]:
  """`auc_ci` and `tpr_at_fpr_ci` of one target, or of the mean over several."""
  found = over_targets_lib.of_scores(
    [outcome.scores for outcome in outcomes],
    [outcome.members for outcome in outcomes],
    levels.numbers(),
    confidence=confidence,
  )
  return {
    "auc_ci": [float(bound) for bound in found.auc],
    "tpr_at_fpr_ci": levels.by_fpr(np.stack(found.tpr, axis=-1)),
  }


def epsilon_lower(
  outcomes: Sequence[Outcome],
  members: np.ndarray,
  *,
  delta: float,
  num_attacks: int = 1,
) -> dict[str, float]:
  """Returns the epsilon that attacks on one target show at 95 % confidence.

  Of several attacks the best: each is given its share of the level.

  Args:
    outcomes: of the attacks, on the samples of one target.
    members: `[N]` bool.
    delta: of the guarantee that is tried.
    num_attacks: more attacks of which the best is chosen.

  Returns:
    `{"add_remove", "exchange"}`: of a guarantee for one row added or removed, and for
    one exchanged for another; `stats.epsilon.epsilon_lower` says what it takes.
  """
  confidence = intervals.each_of(len(outcomes) * num_attacks)
  found = []
  for outcome in outcomes:
    attacked = ~np.isnan(outcome.scores)
    scores, kinds = outcome.scores[attacked], members[attacked]
    found.append(
      epsilon_lib.epsilon_lower(scores, kinds, delta=delta, confidence=confidence)
    )
  best = np.max(found, axis=0)
  return {"add_remove": float(best[0]), "exchange": float(best[1])}


def over_targets(outcomes: Sequence[Outcome]) -> dict[str, Any]:
  """Returns an attack's summary over targets: means, with intervals over targets.

  Args:
    outcomes: of each target.

  Returns:
    The summary of one target as it is; else the means, with intervals of a mean over
    targets (`stats.over_targets`) in place of those over samples; `ci_of` says which,
    and `by_target` holds each target's own. `num_samples` and `num_nonmembers` are the
    least of any.
  """
  summaries = [outcome.summary for outcome in outcomes]
  if len(summaries) == 1:
    return summaries[0]
  found = dict(summaries[0])
  for name in _MEASURED:
    values = [_numbers(summary[name]) for summary in summaries]
    keys = summaries[0][name].keys() if isinstance(summaries[0][name], dict) else None
    found[name] = _as_json(np.mean(values, axis=0), keys)
  for name in ("num_samples", "num_nonmembers"):
    found[name] = min(summary[name] for summary in summaries)
  found |= _intervals(outcomes, 0.95)
  found["ci_of"] = f"the mean over {len(summaries)} targets"
  found["num_targets"] = len(summaries)
  found["by_target"] = summaries
  return found


def per_sample_fpr(
  outcomes: Sequence[Outcome], targets: Sequence[Evidence], seed: int = 0
) -> dict[str, Any]:
  """Returns how the samples' own false positive rates differ, over several targets.

  Args:
    outcomes: of one attack on each target.
    targets: each one's evidence; samples are the same where `index` is.
    seed: of the permutations.

  Returns:
    False positive rate -> the fields of `per_sample.Spread`; of `levels.FPRS` those
    at which nothing is called, or no sample was out of two targets, are left out.
  """
  samples, at = np.unique(
    np.concatenate([evidence.index for evidence in targets]), return_inverse=True
  )
  shape = len(targets), len(samples)
  scores, members = np.full(shape, np.nan), np.zeros(shape, bool)
  ends = np.cumsum([len(evidence.index) for evidence in targets])[:-1]
  for number, places in enumerate(np.split(at, ends)):
    scores[number, places] = outcomes[number].scores
    members[number, places] = targets[number].members
  found = {
    fpr: per_sample.spread(scores, members, float(fpr), seed=seed)
    for fpr in levels.FPRS
  }
  return {fpr: one._asdict() for fpr, one in found.items() if one is not None}


def pooled(attacks: Mapping[str, Any]) -> list[str]:
  """Says of which attacks a pooled false positive rate is not each sample's own.

  Args:
    attacks: the report's, with `per_sample_fpr` where it was measured.
  """
  level = levels.FPRS[0]
  of = {
    name: entry["per_sample_fpr"][level]
    for name, entry in attacks.items()
    if level in entry.get("per_sample_fpr", {})
  }
  uneven = {n: one for n, one in of.items() if len(of) * one["p_value"] <= 0.05}
  if not uneven:
    return []
  each = ", ".join(f"{name} {one['deviation']:.1%}" for name, one in uneven.items())
  return [
    "the targets' false alarms fall on the same samples more often than chance has it:"
    f" where {levels.percent(level)} of all non-members are called members, the"
    f" standard deviation of the samples' own rates is {each}; a true positive rate at"
    " a low false positive rate is an average over samples, and no certain sample's"
  ]


def _numbers(value: Any) -> np.ndarray:
  return np.array(list(value.values()) if isinstance(value, dict) else value, float)


def _as_json(values: np.ndarray, keys: Any) -> Any:
  if keys is None:
    return values.tolist()
  return dict(zip(keys, values.tolist(), strict=True))


def _scores(attack: registry.Attack, evidence: Evidence) -> np.ndarray:
  """`[N]`, an attack's own; an error that names it where they are none."""
  scores = np.asarray(attack.score(evidence, **attack.options))
  if scores.dtype.kind not in "biuf":
    raise ValueError(
      f"attack {attack.name!r} gives scores of dtype {scores.dtype}, expected numbers"
    )
  _validate.shape(f"attack {attack.name!r}: scores", scores, evidence.labels.shape)
  return scores


def _left_out(attack: registry.Attack, attacked: np.ndarray) -> list[str]:
  """Says how many samples were not attacked, of an attack that is meant for all."""
  (needs,) = attack.all_needs()
  if attacked.all() or "left_out" in needs.groups:
    return []
  return [
    f"{attack.title} leaves {(~attacked).sum():,} of {len(attacked):,} samples out: too"
    " few models, or rows of their class, to compare them with"
  ]


def _summary(
  evidence: Evidence, scores: np.ndarray, about: Mapping[str, Any]
) -> dict[str, Any]:
  """An attack's entry in `report.json`."""
  attacked = ~np.isnan(scores)
  ranked = (scores[attacked], evidence.members[attacked])
  auc = intervals.auc(*ranked)
  tpr = roc.tpr_at_fpr(*ranked, levels.numbers())
  tpr_interval = intervals.tpr_at_fpr(*ranked, levels.numbers())
  return {
    "auc": float(auc.auc),
    "auc_ci": [float(auc.low), float(auc.high)],
    "accuracy": float(roc.best_accuracy(*ranked)),
    "tpr_at_fpr": levels.by_fpr(tpr),
    "tpr_at_fpr_ci": levels.by_fpr(np.stack(tpr_interval, axis=-1)),
    "num_samples": int(attacked.sum()),
    "num_nonmembers": int((attacked & ~evidence.members).sum()),
    **about,
  }
