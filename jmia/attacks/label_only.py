"""Label-only attacks: how robust is the predicted label where the record is altered?

Whoever sees labels alone can ask about altered copies of a record. Training pushes the
decision boundary away from the records trained on, so that more of a member's copies
are still labelled rightly. The score is that number, the record itself among them:

  label_only_augment   copies mirrored, shifted and turned; of rows of bits, with some
                       bits turned over
  label_only_noise     copies with Gaussian noise of several strengths

A score takes few values, and ties are many: where every copy of most records is
labelled rightly, nothing can be told at a low false positive rate. The threshold is the
number that suits reference models' own members and other rows best.

Source: Choquette-Choo, Tramer, Carlini & Papernot, "Label-Only Membership Inference
Attacks": the data augmentation attack, and the one by robustness to random noise.
Departures: the paper trains a network on which of the copies were labelled rightly, and
chooses the size of a shift, an angle or a noise on a shadow model; here copies of
several sizes are counted alike, so that the score itself needs no shadow model.
Yang's report (section 3.1) says that labels alone leave only the correctness attack:
that is of one query a record, these attacks ask more.
"""

import functools

import numpy as np

from jmia import _validate
from jmia.attacks import metric, registry
from jmia.attacks.evidence import MOVED, NOISY, Evidence, on_copies


def score(correct: np.ndarray) -> np.ndarray:
  """Returns how many copies of each sample are labelled rightly.

  Args:
    correct: `[..., N, Q]`, 1 (or true) where copy q of sample n is given its label, and
      0 elsewhere.

  Returns:
    `[..., N]` float32, from 0 to Q; higher = member.

  Raises:
    ValueError: if it holds anything else, or has no copies.
  """
  correct = np.asarray(correct)
  if correct.ndim < 2 or not correct.shape[-1]:
    raise ValueError(f"correct has shape {correct.shape}, expected (..., N, Q)")
  if not np.isin(correct, (0, 1)).all():
    raise ValueError("correct holds values other than 0 and 1")
  return correct.sum(axis=-1, dtype=np.float32)


def threshold(correct: np.ndarray, members: np.ndarray) -> float:
  """Returns the number of copies from which to say "member".

  Args:
    correct: `[S, Q]`, as in `score`, of shadow models' members and other rows.
    members: `[S]` bool.

  Raises:
    ValueError: as `score` and `metric.threshold`.
  """
  _validate.shape("members", members, correct.shape[:1])
  return metric.threshold(score(correct), members)


def _score(kind: str, evidence: Evidence) -> np.ndarray:
  return score(evidence.signals[on_copies("correctness", kind)])


def _threshold(kind: str, evidence: Evidence) -> float:
  group = evidence.groups["reference"]
  counts = group.population_held | group.population_out
  correct = group.population[on_copies("correctness", kind)][counts]
  return threshold(correct, group.population_held[counts])


_WORDS = {
  "label_only_augment": (
    MOVED,
    "Label only, augmented",
    "Alters the record a little, by mirroring, shifting and turning an image or turning"
    " bits over, and counts how often the label stays right.",
    "data augmentation",
  ),
  "label_only_noise": (
    NOISY,
    "Label only, noise",
    "Adds noise of several strengths to the record and counts how often the label stays"
    " right.",
    "robustness to random noise",
  ),
}

for _name, (_kind, _title, _explanation, _which) in _WORDS.items():
  _correct = (on_copies("correctness", _kind),)
  registry.register(
    registry.Attack(
      name=_name,
      title=_title,
      attacker="who sees labels alone",
      explanation=_explanation,
      source=f"Choquette-Choo et al., {_which}",
      needs=registry.Needs(signals=_correct),
      score=functools.partial(_score, _kind),
      score_threshold=functools.partial(_threshold, _kind),
      threshold_needs=registry.Needs(
        groups={
          "reference": registry.GroupNeeds(population=_correct, population_held=True)
        }
      ),
    )
  )
