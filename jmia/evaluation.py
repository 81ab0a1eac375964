"""Runs attacks on evidence and says how well they tell members from non-members.

Each attack asks how low the target's loss on a sample is among losses under the null
hypothesis "not a member", and differs from the others in whose losses those are:

  attack         null losses, of models that did not train on the row
  population     the target's on the population: one null for all samples
  shadow         the references' on the population: one null for each class
  reference      the references' on the sample: one null for each sample
  distillation   the distilled models' on the sample: likewise
  leave_one_out  on the sample, of models trained like the target without it: likewise

The classic attacks only rank samples: their scores are no p-values, and they have no
threshold on the loss (`RANKINGS`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jmia import _validate, signals
from jmia.attacks import (
  classifier,
  distillation,
  leave_one_out,
  metric,
  population,
  reference,
  shadow,
  similarity,
)
from jmia.evidence import Evidence
from jmia.stats import intervals, nulls, roc

ALPHA = 0.1  # the level at which each sample's threshold is reported
FPRS = np.array([0.1, 0.01, 0.001])


class Outcome(NamedTuple):
  """What one attack did to `N` samples.

  Attributes:
    scores: `[N]` float32, higher = member; NaN where a sample was not attacked.
    thresholds: `[N]` float32, the loss `c_alpha` at `evaluate`'s level; NaN likewise.
      All NaN of an attack that only ranks.
    summary: the attack's entry in `report.json`. Its `num_samples`, of which
      `num_nonmembers`, are those attacked; its `num_models` are the models whose
      losses make a sample's null, 0 where that is the target itself.
  """

  scores: np.ndarray
  thresholds: np.ndarray
  summary: dict[str, Any]


class _Attack(NamedTuple):
  """How an attack runs on evidence.

  Attributes:
    null: the field of `Evidence` that holds its null losses.
    lacks: what to say where that is absent.
    estimator: default estimator of its thresholds.
    run: (evidence, alpha `[1]`, method) -> (scores, thresholds), as in `Outcome`.
  """

  null: str
  lacks: str
  estimator: str
  run: Callable[[Any, Sequence[float], str], tuple[np.ndarray, np.ndarray]]


def _population(e, alpha, method):
  scores = population.score(e.losses, e.population_losses, method=method)
  threshold = population.thresholds(e.population_losses, alpha, method=method)
  return scores, np.broadcast_to(threshold[0], scores.shape)


def _shadow(e, alpha, method):
  null = (e.reference_population_losses, e.population_labels)
  valid = ~e.reference_population_held
  scores = shadow.score(e.losses, e.labels, *null, e.num_classes, valid, method=method)
  thresholds = shadow.thresholds(
    *null, e.labels, e.num_classes, alpha, valid, method=method
  )
  return scores, thresholds[0]


def _reference(e, alpha, method):
  valid = ~e.reference_held
  scores = reference.score(e.losses, e.reference_losses, valid, method=method)
  thresholds = reference.thresholds(e.reference_losses, alpha, valid, method=method)
  return scores, thresholds[0]


def _distillation(e, alpha, method):
  null = (e.distilled_losses, None if e.distilled_held is None else ~e.distilled_held)
  scores = distillation.score(e.losses, *null, method=method)
  return scores, distillation.thresholds(null[0], alpha, null[1], method=method)[0]


def _leave_one_out(e, alpha, method):
  null, at = (e.left_out_losses, e.left_out_valid), e.left_out
  scores, thresholds = np.full((2, len(e.losses)), np.nan, np.float32)
  scores[at] = leave_one_out.score(e.losses[at], *null, method=method)
  thresholds[at] = leave_one_out.thresholds(null[0], alpha, null[1], method=method)[0]
  return scores, thresholds


_ATTACKS: Mapping[str, _Attack] = {
  "population": _Attack(
    "population_losses",
    "population_logits and population_labels",
    "linear",
    _population,
  ),
  "shadow": _Attack(
    "reference_population_losses",
    "reference_population_logits and population_labels",
    "linear",
    _shadow,
  ),
  "reference": _Attack(
    "reference_losses", "reference_logits", "min_linear_logit", _reference
  ),
  "distillation": _Attack(
    "distilled_losses", "distilled_logits", "min_linear_logit", _distillation
  ),
  "leave_one_out": _Attack(
    "left_out_losses",
    "models retrained without each sample, which only training gives",
    "min_linear_logit",
    _leave_one_out,
  ),
}
ATTACKS = tuple(_ATTACKS)


class _Ranking(NamedTuple):
  """How an attack that only ranks runs on evidence.

  Attributes:
    needs: the field of `Evidence` that it cannot do without.
    lacks: what to say where that is absent.
    run: evidence -> `[N]` scores.
  """

  needs: str
  lacks: str
  run: Callable[[Any], np.ndarray]


def _metric(name):
  def run(e):
    values = signals.compute(jnp.asarray(e.logits), jnp.asarray(e.labels), (name,))
    return metric.score(np.asarray(values[name]), name)

  return run


def _correctness(e):
  return metric.correctness(e.correct)


def _classifier(e):
  held = e.reference_population_held
  shadow_answers = classifier.Shadow(
    logits=e.shadow_logits.reshape(-1, e.num_classes),
    labels=np.tile(e.population_labels, len(held)),
    members=held.reshape(-1),
  )
  return classifier.score(e.logits, e.labels, shadow_answers).scores


def _similarity(e):
  return similarity.score(e.paired_divergences, e.paired_held)


_RANKINGS: Mapping[str, _Ranking] = {
  **{
    f"metric_{name}": _Ranking("logits", "target_logits", _metric(name))
    for name in metric.METRICS
  },
  "correctness": _Ranking("logits", "target_logits", _correctness),
  "classifier": _Ranking(
    "shadow_logits",
    "reference_population_logits, population_labels and reference_population_members"
    " with both true and false",
    _classifier,
  ),
  "similarity": _Ranking(
    "paired_divergences",
    "reference_logits and reference_members with both true and false for every sample",
    _similarity,
  ),
}
RANKINGS = tuple(_RANKINGS)
EVERY = (*ATTACKS, *RANKINGS)


def lacking(evidence: Evidence, attacks: Sequence[str]) -> dict[str, str]:
  """Returns attack -> what it needs, for those that the evidence does not allow."""
  needed = {
    **{name: (one.null, one.lacks) for name, one in _ATTACKS.items()},
    **{name: (one.needs, one.lacks) for name, one in _RANKINGS.items()},
  }
  return {
    name: f"needs {needed[name][1]}"
    for name in attacks
    if getattr(evidence, needed[name][0]) is None
  }


def evaluate(
  evidence: Evidence,
  attack: str,
  estimator: str | None = None,
  alpha: float = ALPHA,
) -> Outcome:
  """Runs one attack.

  Args:
    evidence: what it is given.
    attack: one of `EVERY`, and not `lacking`.
    estimator: one of `nulls.METHODS`; an attack that only ranks has none. Default: the
      attack's own.
    alpha: the level of the thresholds; scores and summary do not depend on it.

  Returns:
    Scores, thresholds, and a summary with 95 % intervals: AUC (DeLong's), accuracy at
    the best threshold, and TPR at each of `FPRS` (Clopper and Pearson's).

  Raises:
    ValueError: if a name is unknown, or the null is too small (the attacks' errors).
  """
  _validate.known("attack", attack, EVERY)
  if estimator is not None:
    _validate.known("estimator", estimator, nulls.METHODS)
  if attack in _RANKINGS:
    ranking = _RANKINGS[attack]
    scores = np.asarray(ranking.run(evidence), np.float32)
    models = getattr(evidence, ranking.needs)
    num_models = 0 if ranking.needs == "logits" else len(models)
    summary = _summary(evidence, scores, {"num_models": num_models})
    return Outcome(scores, np.full_like(scores, np.nan), summary)
  plan = _ATTACKS[attack]
  method = estimator or plan.estimator
  scores, thresholds = plan.run(evidence, [alpha], method)
  null = getattr(evidence, plan.null)
  num_models = len(null) if null.ndim == 2 else 0
  about = {"estimator": method, "num_models": num_models}
  return Outcome(scores, thresholds, _summary(evidence, scores, about))


def _summary(
  evidence: Evidence, scores: np.ndarray, about: Mapping[str, Any]
) -> dict[str, Any]:
  """An attack's entry in `report.json`."""
  attacked = ~np.isnan(scores)
  ranked = (scores[attacked], evidence.members[attacked])
  auc = intervals.auc(*ranked)
  tpr = roc.tpr_at_fpr(*ranked, FPRS)
  tpr_interval = intervals.tpr_at_fpr(*ranked, FPRS)
  return {
    "auc": float(auc.auc),
    "auc_ci": [float(auc.low), float(auc.high)],
    "accuracy": float(roc.best_accuracy(*ranked)),
    "tpr_at_fpr": _by_level(tpr),
    "tpr_at_fpr_ci": _by_level(np.stack(tpr_interval, axis=-1)),
    "num_samples": int(attacked.sum()),
    "num_nonmembers": int((attacked & ~evidence.members).sum()),
    **about,
  }


def _by_level(values: np.ndarray) -> dict[str, Any]:
  """JSON object with a value or an interval for each false positive rate."""
  return {str(f): v for f, v in zip(FPRS, values.tolist(), strict=True)}
