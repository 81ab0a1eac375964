"""The per-sample arrays that a report draws."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jmia import _validate


class Samples(NamedTuple):
  """The evaluated samples, members and non-members of the target together.

  Attributes:
    index: `[N]` integer, the sample's row in its dataset or file.
    members: `[N]` bool, whether the target was trained on the sample.
    labels: `[N]` integer class labels.
    loss: `[N]` float32, the target's loss on the sample.
    scores: attack name -> `[N]` float32, higher = member.
    p_values: attack name -> `[N]` conformal p-values of its scores; empty where no rows
      calibrate.
    q_values: attack name -> `[N]`, likewise, for a false discovery rate.
    thresholds: attack name -> `[N]` float32, the loss `c_α` at α = 0.1 at or under
      which the attack calls the sample a member. One number repeated where the attack
      has one threshold for everyone; infinities mean "always" and "never".
    predicted: `[N]` integer classes that the target answered; None if not kept.
    correct: `[N]` bool, whether the target answered rightly; None if not kept.
    class_names: `C` texts; empty where classes are numbers alone.
    groups: name -> `[N]` values of any kind that sorts, to tell the exposure of.
    columns: name -> `[N]` values that say which record a sample is, such as its file.
    images: `[N, H, W, 1 or 3]` uint8 pictures of the samples; None without any.

  An attack may leave samples out: there its score and its threshold both are NaN. One
  whose thresholds are all NaN has none on the loss, and `called` calls no one by it.
  """

  index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, on purpose
  members: np.ndarray
  labels: np.ndarray
  loss: np.ndarray
  scores: Mapping[str, np.ndarray]
  thresholds: Mapping[str, np.ndarray]
  p_values: Mapping[str, np.ndarray] = {}
  q_values: Mapping[str, np.ndarray] = {}
  predicted: np.ndarray | None = None
  correct: np.ndarray | None = None
  class_names: tuple[str, ...] = ()
  groups: Mapping[str, np.ndarray] = {}
  columns: Mapping[str, np.ndarray] = {}
  images: np.ndarray | None = None

  def class_name(self, label: int) -> str:
    """What a class is called."""
    return self.class_names[label] if self.class_names else str(label)

  def called(self, attack: str) -> np.ndarray:
    """`[N]` bool, the samples that `attack` calls members at α = 0.1."""
    return self.loss <= self.thresholds[attack]

  def only_ranks(self, attack: str) -> bool:
    """Whether `attack` has no thresholds on the loss; p-values it may have."""
    return bool(np.isnan(self.thresholds[attack]).all())

  def attacked(self, attack: str) -> np.ndarray:
    """`[N]` bool, the samples that `attack` was run on."""
    return ~np.isnan(self.scores[attack])

  def only(self, attack: str) -> "Samples":
    """The samples that `attack` was run on, with what it alone says of them."""
    at = self.attacked(attack)
    return Samples(
      self.index[at],
      self.members[at],
      self.labels[at],
      self.loss[at],
      scores={attack: self.scores[attack][at]},
      thresholds={attack: self.thresholds[attack][at]},
      p_values={name: p[at] for name, p in self.p_values.items() if name == attack},
    )


def check(samples: Samples, attacks: Iterable[str]) -> None:
  """Refuses arrays that do not fit together.

  Args:
    samples: the arrays to check.
    attacks: names that must have scores and thresholds.

  Raises:
    ValueError: if a shape differs from `[N]`, `members` is not boolean, a loss is not
      finite, a score is infinite, an attack has no scores or no thresholds, only one of
      a sample's two is NaN, or all members or all non-members are left out.
  """
  num = len(samples.loss)
  for name in ("index", "members", "labels", "loss"):
    _validate.shape(f"samples.{name}", getattr(samples, name), (num,))
  if samples.members.dtype != bool:
    raise ValueError(
      f"samples.members has dtype {samples.members.dtype}, expected bool"
    )
  _check_both_kinds("samples.members marks", samples.members)
  _validate.finite("samples.loss", samples.loss)
  for attack in attacks:
    for name in ("scores", "thresholds"):
      arrays = getattr(samples, name)
      if attack not in arrays:
        raise ValueError(
          f"samples.{name} lacks the attack {attack!r} (has: {', '.join(arrays)})"
        )
      _validate.shape(f"samples.{name}[{attack!r}]", arrays[attack], (num,))
    half = samples.attacked(attack) == np.isnan(samples.thresholds[attack])
    if half.any() and not samples.only_ranks(attack):
      raise ValueError(
        f"samples.scores[{attack!r}] and thresholds[{attack!r}] hold NaN in different "
        f"places, first at {np.flatnonzero(half)[0]}; a sample that was not attacked "
        "has NaN in both"
      )
    part = samples.only(attack)
    _validate.finite(f"samples.scores[{attack!r}]", part.scores[attack])
    _check_both_kinds(f"{attack!r} attacked", part.members)


def _check_both_kinds(what: str, members: np.ndarray) -> None:
  """Raises ValueError unless there are members and non-members."""
  if members.all() or not members.any():
    raise ValueError(
      f"{what} {members.sum()} members among {members.size} samples, "
      "expected members and non-members"
    )
