"""Attacks by one number: random guessing, correctness, and thresholds on a metric.

The metric is a signal of the target's answer: loss, confidence, entropy or modified
entropy. A sample is called a member where its score, the metric turned so that members
have more of it, reaches a threshold. The threshold is a preset one, or the one that
suits a shadow model's members and non-members best, for all classes alike or for each.

Source: Yang, "Membership Inference Attack on Classification Models"; the modified
entropy and thresholds for each class are Song & Mittal's, "Systematic Evaluation of
Privacy Risks of Machine Learning Models", section 3.2.
"""

from collections.abc import Mapping
import functools
import types
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence


class Metric(NamedTuple):
  """What a metric reads, and which way it points."""

  signal: str  # one of `signals.SIGNALS`
  sign: int  # 1 where a member's is higher, -1 where it is lower


# Confidence is read as log odds: the same order as the probability's, which in float32
# is 1 for all that the model is sure of, and so tells none of them apart.
METRICS: Mapping[str, Metric] = types.MappingProxyType(
  {
    "loss": Metric("loss", -1),
    "confidence": Metric("top_log_odds", 1),
    "entropy": Metric("entropy", -1),
    "modified_entropy": Metric("modified_entropy", -1),
  }
)


def random_guess(num_samples: int, *, seed: int) -> np.ndarray:
  """Returns the baseline's scores, uniform on [0, 1): `[num_samples]` float32."""
  _validate.positive("num_samples", num_samples)
  return np.random.default_rng(seed).random(num_samples, np.float32)


def correctness(correct: np.ndarray) -> np.ndarray:
  """Returns 1 where the target predicts the label, else 0: `[...]` float32.

  Whoever is predicted rightly is called a member: the prediction correctness, or gap,
  attack.

  Args:
    correct: `[...]` bool.

  Raises:
    ValueError: if `correct` is not bool.
  """
  if correct.dtype != np.bool_:
    raise ValueError(f"correct has dtype {correct.dtype}, expected bool")
  return correct.astype(np.float32)


def gap_accuracy(
  train_accuracy: float, test_accuracy: float, member_share: float = 0.5
) -> float:
  """Returns the accuracy of the correctness attack.

  Members are called rightly where they are predicted rightly, others where they are
  not: `q a + (1 - q) (1 - b)` with accuracies `a` on members and `b` on others, and a
  share `q` of members. With `q = 1/2` it is `(1 + g) / 2`, `g = a - b` the
  generalisation gap (the report's Theorem 2.1). Who may also call everyone the same has
  `max(q, 1 - q, this)`: the first line of its Theorem 5.1.

  Args:
    train_accuracy: `a`, on members, in [0, 1].
    test_accuracy: `b`, on others, in [0, 1].
    member_share: `q`, in [0, 1].

  Raises:
    ValueError: if an argument leaves [0, 1].
  """
  _validate.probability("train_accuracy", train_accuracy)
  _validate.probability("test_accuracy", test_accuracy)
  _validate.probability("member_share", member_share)
  return member_share * train_accuracy + (1 - member_share) * (1 - test_accuracy)


def gap_lower_bound(gap: float, member_share: float = 0.5) -> float:
  """Returns the least accuracy of the correctness attack that a gap allows.

  With the gap `g = a - b` and a share `q` of members, `gap_accuracy` is
  `(1 - q) (1 + g) + (2 q - 1) a`: linear in `a`, which lies between `max(g, 0)` and
  `min(1, 1 + g)`, so its minimum is at one end, the lower one if `q >= 1/2`. With
  `m = min(q, 1 - q)` that is

    `m + (1 - m) g` where `g >= 0`, and `m (1 + g)` where `g < 0`,

  and some model attains it. At `q = 1/2` it is `(1 + g) / 2`, the accuracy itself. An
  attacker who may also call everyone the same has at least `max(1 - m, bound)`.

  The report's Theorem 5.1 (after Bentley et al.) says of `g > 0` that some attack has
  at least `max(q, 1 - q, gap_accuracy)`, so `max(q, 1 - q, m (1 + g))`, above 1/2.
  The bound here is its last term made as large as it can be: more by `(1 - 2 m) g`. At
  `q = .3`, `g = .5` they are .65 and .45, and the maxima with 1 - q both .7; from
  `g = (1 - 2 m) / (1 - m)` on the maximum is larger too: at `g = .8` .86, not .7.

  Args:
    gap: accuracy on members less accuracy on others, in [-1, 1].
    member_share: `q`, in [0, 1].

  Raises:
    ValueError: if `gap` leaves [-1, 1] or `member_share` leaves [0, 1].
  """
  if not -1 <= gap <= 1:
    raise ValueError(f"gap={gap} must lie in [-1, 1]")
  _validate.probability("member_share", member_share)
  rarer = min(member_share, 1 - member_share)
  return rarer + (1 - rarer) * gap if gap >= 0 else rarer * (1 + gap)


def score(values: np.ndarray, metric: str) -> np.ndarray:
  """Returns the metric turned so that a higher score means a member.

  A preset threshold is turned alike: `predict(score(v, m), score(threshold, m))`; of a
  confidence it is a number of log odds, `log(p / (1 - p))`.

  Args:
    values: `[...]` float, the signal `METRICS[metric].signal`.
    metric: one of `METRICS`.

  Raises:
    ValueError: if the metric is unknown.
  """
  _validate.known("metric", metric, METRICS)
  return METRICS[metric].sign * np.asarray(values)


def predict(scores: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
  """Returns who is called a member: `scores >= thresholds`, bool.

  Args:
    scores: `[N]`.
    thresholds: one for all, or `[N]`, such as `class_thresholds(...)[labels]`.
  """
  return scores >= thresholds


def threshold(
  scores: np.ndarray, members: np.ndarray, *, balanced: bool = True
) -> float:
  """Returns the threshold that calls most shadow samples rightly.

  Args:
    scores: `[S]` of a shadow model's members and non-members; finite.
    members: `[S]` bool.
    balanced: whether members and non-members count alike, whatever their numbers;
      else every sample does.

  Returns:
    A score that occurs, the highest of equally good ones; or, where calling no one a
    member is as good, the next number above all scores.

  Raises:
    ValueError: shapes differ, members is not bool, a score is not finite, or there are
      no members or no non-members.
  """
  labels = np.zeros(np.shape(scores), int)
  _check(scores, members, labels, 1)
  if members.all() or not members.any():
    raise ValueError(f"members marks {members.sum()} of {members.size}: needs both")
  return float(_best(scores, members, labels, 1, balanced)[0])


def class_thresholds(
  scores: np.ndarray,
  members: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  *,
  balanced: bool = True,
) -> np.ndarray:
  """Returns a threshold for each class, as `threshold` of the samples of that class.

  A class without shadow members or without shadow non-members takes the threshold of
  all classes together.

  Args:
    scores: `[S]`, as in `threshold`, like those that follow.
    members: `[S]` bool.
    labels: `[S]` integer classes.
    num_classes: number of classes `C`.
    balanced: see `threshold`.

  Returns:
    `[C]` of the dtype of `scores`.

  Raises:
    ValueError: as `threshold`, or a label is not in `[0, num_classes)`.
  """
  _check(scores, members, labels, num_classes)
  everyone = threshold(scores, members, balanced=balanced)
  of_class = _best(scores, members, labels, num_classes, balanced)
  has_both = np.bincount(labels[members], minlength=num_classes) > 0
  has_both &= np.bincount(labels[~members], minlength=num_classes) > 0
  return np.where(has_both, of_class, everyone).astype(scores.dtype)


def _check(scores, members, labels, num_classes) -> None:
  """Raises ValueError unless shadow samples are what `threshold` expects."""
  _validate.shape("scores", scores, (None,))
  _validate.shape("members", members, scores.shape)
  _validate.shape("labels", labels, scores.shape)
  _validate.finite("scores", scores)
  _validate.labels("labels", labels, num_classes)
  if members.dtype != np.bool_:
    raise ValueError(f"members has dtype {members.dtype}, expected bool")


def _best(scores, members, labels, num_classes, balanced) -> np.ndarray:
  """Returns `[C]` best thresholds, of no meaning in a class that lacks one kind."""
  # Sorted by class, and in a class by falling score: a cut after an entry calls those
  # of its class up to it members.
  order = np.lexsort((-scores, labels))
  scores, members, labels = scores[order], members[order], labels[order]
  edges = np.searchsorted(labels, np.arange(num_classes + 1))
  num_members = np.bincount(labels[members], minlength=num_classes)
  num_others = np.diff(edges) - num_members
  best = np.full(num_classes, np.inf, scores.dtype)
  for c in np.flatnonzero(np.diff(edges)):
    of_class = scores[edges[c] : edges[c + 1]]
    is_member = members[edges[c] : edges[c + 1]]
    # Whole numbers, so that equally good cuts are equal.
    worth, cost = (num_others[c], num_members[c]) if balanced else (1, 1)
    gain = np.cumsum(np.where(is_member, worth, -cost))
    gain[:-1][of_class[1:] == of_class[:-1]] = 0  # equal scores are not cut apart
    at = np.argmax(gain)
    above_all = np.nextafter(of_class[0], np.inf, dtype=scores.dtype)
    best[c] = of_class[at] if gain[at] > 0 else above_all
  return best


def _shadow(
  evidence: Evidence, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Shadow models' scores by a metric, who was a member, and the labels."""
  group = evidence.groups["reference"]
  counts = group.population_held | group.population_out
  labels = np.broadcast_to(group.population_labels, counts.shape)
  scores = score(group.population[METRICS[metric].signal][counts], metric)
  return scores, group.population_held[counts], labels[counts]


def _score(metric: str, evidence: Evidence, *, by_class: bool = False) -> np.ndarray:
  """By class it is by how much the score passes the threshold of its class."""
  scores = score(evidence.signals[METRICS[metric].signal], metric)
  if not by_class:
    return scores
  shadow = _shadow(evidence, metric)
  of_class = class_thresholds(*shadow, num_classes=evidence.num_classes)
  # In float64, where the difference of two float32 is 0 only if they are equal.
  return scores.astype(np.float64) - of_class[evidence.labels]


def _threshold(metric: str, evidence: Evidence, *, by_class: bool) -> float:
  if by_class:
    return 0.0
  scores, members, _ = _shadow(evidence, metric)
  return threshold(scores, members)


def _shadow_needs(metric: str) -> registry.Needs:
  of_shadow = registry.GroupNeeds(
    population=(METRICS[metric].signal,), population_held=True
  )
  return registry.Needs(groups={"reference": of_shadow})


def _needs(metric: str, *, by_class: bool) -> registry.Needs:
  of_target = registry.Needs(signals=(METRICS[metric].signal,))
  return registry.union([of_target, _shadow_needs(metric)]) if by_class else of_target


_WORDS = {
  "loss": (
    "Loss",
    "who looks at the loss",
    "Calls members those records on which the model's loss is low; needs nothing but "
    "the model's answer and the record's label.",
  ),
  "confidence": (
    "Confidence",
    "who looks at the highest probability",
    "Calls members those records for which the model is sure of its answer, right or "
    "wrong; needs no label.",
  ),
  "entropy": (
    "Entropy",
    "who looks at the spread of the answer",
    "Calls members those records for which the model's answer is concentrated on few "
    "classes; needs no label.",
  ),
  "modified_entropy": (
    "Modified entropy",
    "who looks at the spread of the answer and the label",
    "As entropy, but being sure of a wrong class speaks against membership.",
  ),
}

for _metric, (_title, _attacker, _explanation) in _WORDS.items():
  registry.register(
    registry.Attack(
      name=f"metric_{_metric}",
      title=_title,
      attacker=_attacker,
      explanation=_explanation,
      source="Song & Mittal, section 3; Yang",
      needs=functools.partial(_needs, _metric),
      score=functools.partial(_score, _metric),
      score_threshold=functools.partial(_threshold, _metric),
      threshold_needs=_shadow_needs(_metric),
    )
  )

registry.register(
  registry.Attack(
    name="correctness",
    title="Correctness",
    attacker="who knows only whether the answer is right",
    explanation=(
      "Calls members those records that the model classifies rightly; it gains exactly "
      "what the model generalises worse than it fits."
    ),
    source="Yang, section 2; Yeom et al.",
    needs=registry.Needs(signals=("correctness",)),
    score=lambda evidence: correctness(evidence.signals["correctness"] > 0),
    score_threshold=lambda evidence: 1.0,
  )
)

registry.register(
  registry.Attack(
    name="random",
    title="Guessing",
    attacker="who guesses",
    explanation="Scores every record at random: the baseline.",
    source="Yang",
    needs=registry.Needs(),
    score=lambda evidence: random_guess(len(evidence.labels), seed=evidence.seed),
    score_threshold=lambda evidence: 0.5,
  )
)
