"""The classic attacks on one target, given its shadow models' answers, as rows."""

from collections.abc import Callable, Mapping, Sequence
import types
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jmia import _validate, signals
from jmia.attacks import classifier, metric
from jmia.classic import models
from jmia.stats import intervals, roc

FPRS = np.array([0.1, 0.01, 0.001])


class Case(NamedTuple):
  """One target, and what an attacker learns from.

  Attributes:
    logits: `[n, C]` the target's.
    labels: `[n]`.
    members: `[n]` bool.
    signals: of `metric.METRICS` and correctness, `[n]` each.
    shadow: the shadow models' answers, all together.
    shadow_signals: likewise, of them.
    seed: of the attacks' own draws.
  """

  logits: np.ndarray
  labels: np.ndarray
  members: np.ndarray
  signals: Mapping[str, np.ndarray]
  shadow: classifier.Shadow
  shadow_signals: Mapping[str, np.ndarray]
  seed: int

  @property
  def num_classes(self) -> int:
    """Number of classes `C`."""
    return self.logits.shape[1]


class Scored(NamedTuple):
  """An attack's scores `[n]`, and the threshold from which it says "member"."""

  scores: np.ndarray
  threshold: float


def _random(case: Case) -> Scored:
  return Scored(metric.random_guess(len(case.labels), seed=case.seed), 0.5)


def _correctness(case: Case) -> Scored:
  return Scored(metric.correctness(case.signals["correctness"] > 0), 1.0)


def _metric(name: str) -> Callable[[Case], Scored]:
  """One threshold for all classes."""

  def run(case: Case) -> Scored:
    shadow = metric.score(case.shadow_signals[name], name)
    threshold = metric.threshold(shadow, case.shadow.members)
    return Scored(metric.score(case.signals[name], name), threshold)

  return run


def _metric_by_class(name: str) -> Callable[[Case], Scored]:
  """A threshold for each class; the score is by how much it is passed."""

  def run(case: Case) -> Scored:
    shadow = metric.score(case.shadow_signals[name], name)
    thresholds = metric.class_thresholds(
      shadow, case.shadow.members, case.shadow.labels, case.num_classes
    )
    # In float64, where the difference of two float32 is 0 only if they are equal.
    scores = metric.score(case.signals[name], name).astype(np.float64)
    return Scored(scores - thresholds[case.labels], 0.0)

  return run


def _classifier(**options: Any) -> Callable[[Case], Scored]:
  def run(case: Case) -> Scored:
    config = classifier.ClassifierConfig(**options)
    found = classifier.score(
      case.logits, case.labels, case.shadow, config, seed=case.seed
    )
    return Scored(found.scores, 0.0)

  return run


_ATTACKS: Mapping[str, Callable[[Case], Scored]] = types.MappingProxyType(
  {
    "random": _random,
    "correctness": _correctness,
    **{f"metric_{name}": _metric(name) for name in metric.METRICS},
    **{f"metric_{name}_by_class": _metric_by_class(name) for name in metric.METRICS},
    "classifier": _classifier(),
    "classifier_by_class": _classifier(per_class=True),
    "classifier_top_3": _classifier(top_k=3),
  }
)
ATTACKS = tuple(_ATTACKS)
DEFAULT_ATTACKS = tuple(
  name for name in ATTACKS if not name.endswith(("_by_class", "_top_3"))
)


def check_attacks(attacks: Sequence[str]) -> None:
  """Raises ValueError if there are no attacks or one is unknown."""
  if not attacks:
    raise ValueError(f"attacks is empty, expected some of {','.join(ATTACKS)}")
  for name in attacks:
    _validate.known("attack", name, ATTACKS)


def case(
  target: models.Answers, shadows: models.Answers, trial: int, *, seed: int = 0
) -> Case | None:
  """Returns what an attacker of one trial's target has.

  Args:
    target: model 0 of the trial is the target.
    shadows: models from 1 on of the trial are the shadow models; may be `target`.
    trial: which one.
    seed: of the attacks' own draws.

  Returns:
    None if the target, or every shadow model, diverged.

  Raises:
    ValueError: if the two have different numbers of classes.
  """
  num_classes = target.logits.shape[-1]
  _validate.shape("shadows.logits", shadows.logits, (None, None, None, num_classes))
  good = 1 + np.flatnonzero(shadows.converged[trial, 1:])
  if not target.converged[trial, 0] or not good.size:
    return None
  counts = target.is_evaluated[trial, 0]
  shadow_counts = shadows.is_evaluated[trial, good]
  shadow = classifier.Shadow(
    logits=shadows.logits[trial, good][shadow_counts],
    labels=shadows.labels[trial, good][shadow_counts],
    members=np.broadcast_to(shadows.members, shadow_counts.shape)[shadow_counts],
  )
  logits, labels = target.logits[trial, 0][counts], target.labels[trial, 0][counts]
  return Case(
    logits=logits,
    labels=labels,
    members=target.members[counts],
    signals=_signals(logits, labels),
    shadow=shadow,
    shadow_signals=_signals(shadow.logits, shadow.labels),
    seed=seed,
  )


def case_of(logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> Case:
  """Returns a case without shadow models, for attacks that need none.

  Args:
    logits: `[n, C]` the target's.
    labels: `[n]`.
    members: `[n]` bool.
  """
  nobody = classifier.Shadow(logits[:0], labels[:0], members[:0])
  return Case(logits, labels, members, _signals(logits, labels), nobody, {}, 0)


def score(case: Case, attack: str) -> Scored:
  """Runs one of `ATTACKS`."""
  _validate.known("attack", attack, ATTACKS)
  return _ATTACKS[attack](case)


def row(
  case: Case, attack: str, scored: Scored, *, delta: float = 0.0
) -> dict[str, Any]:
  """Returns what an attack achieves, as JSON values, with 95 % intervals.

  `accuracy` is at the attack's own threshold, which never saw the target's members:
  the mean of the shares of members and of others called rightly. Its interval is the
  mean of the two shares' Clopper-Pearson intervals, each at 97.5 %, which hold together
  at least 95 % of the time.

  `epsilon_lower` is the epsilon that those two shares prove at `delta`, for one row of
  the training set exchanged for another: `TPR <= exp(eps) FPR + delta`, and likewise
  for non-members, with each share at the unfavourable end of its interval. A guarantee
  for one row added or removed allows twice its epsilon there. It takes samples for
  independent, though all are of one target.
  """
  ranked = (scored.scores, case.members)
  auc = intervals.auc(*ranked)
  rates = intervals.tpr_at_fpr(*ranked, FPRS)
  called = metric.predict(scored.scores, scored.threshold)
  hits = np.array([called[case.members].sum(), (~called)[~case.members].sum()])
  num = np.array([case.members.sum(), (~case.members).sum()])
  # Both hold together with 95 % at least (Bonferroni).
  shares = intervals.clopper_pearson(hits, num, confidence=0.975)
  accuracy = (hits / num).mean()
  correct = case.signals["correctness"] > 0
  train_accuracy = correct[case.members].mean()
  test_accuracy = correct[~case.members].mean()
  return {
    "attack": attack,
    "auc": float(auc.auc),
    "auc_ci": [float(auc.low), float(auc.high)],
    "accuracy": float(accuracy),
    "accuracy_ci": [float(shares.low.mean()), float(shares.high.mean())],
    "epsilon_lower": epsilon_lower(shares, delta),
    "tpr_at_fpr": _by_level(roc.tpr_at_fpr(*ranked, FPRS)),
    "tpr_at_fpr_ci": _by_level(np.stack(rates, axis=-1)),
    "train_accuracy": float(train_accuracy),
    "test_accuracy": float(test_accuracy),
    "gap": float(train_accuracy - test_accuracy),
    "num_members": int(case.members.sum()),
    "num_nonmembers": int((~case.members).sum()),
  }


def epsilon_lower(shares: intervals.Interval, delta: float) -> float:
  """Returns the epsilon proved by the shares called rightly, at least 0.

  Args:
    shares: bounds `[2]` of the share of members called members, and of others called
      others.
    delta: of the guarantee that is tried.
  """
  # exp(eps) >= (right - delta) / wrong, for either kind of sample.
  right, wrong = shares.low - delta, 1 - shares.low[::-1]
  ratio = right / np.maximum(wrong, np.finfo(float).tiny)
  return float(max(0.0, np.log(np.maximum(ratio, 1.0)).max()))


def _signals(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
  names = (*metric.METRICS, "correctness")
  found = signals.compute(jnp.asarray(logits), jnp.asarray(labels), names)
  return {name: np.asarray(value) for name, value in found.items()}


def _by_level(values: np.ndarray) -> dict[str, Any]:
  """JSON object with a value or an interval for each false positive rate."""
  return {str(f): v for f, v in zip(FPRS, values.tolist(), strict=True)}
