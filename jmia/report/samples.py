"""The per-sample arrays that a report draws."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jmia import _validate

# The level the loss histograms and the table of exposed samples decide at.
ALPHA = 0.1


class Samples(NamedTuple):
  """The evaluated samples, members and non-members of the target together.

  Attributes:
    index: `[N]` integer, the sample's row in its dataset or file.
    members: `[N]` bool, whether the target was trained on the sample.
    labels: `[N]` integer class labels.
    loss: `[N]` float32, the target's loss on the sample.
    scores: attack name -> `[N]` float32, `-log(p_value)`; higher = member.
    thresholds: attack name -> `[N]` float32, the loss `c_α` at α = 0.1 at or under
      which the attack calls the sample a member. One number repeated where the attack
      has one threshold for everyone; infinities mean "always" and "never".
  """

  index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, on purpose
  members: np.ndarray
  labels: np.ndarray
  loss: np.ndarray
  scores: Mapping[str, np.ndarray]
  thresholds: Mapping[str, np.ndarray]

  def called(self, attack: str) -> np.ndarray:
    """`[N]` bool, the samples that `attack` calls members at α = 0.1."""
    return self.loss <= self.thresholds[attack]


def check(samples: Samples, attacks: Iterable[str]) -> None:
  """Refuses arrays that do not fit together.

  Args:
    samples: the arrays to check.
    attacks: names that must have scores and thresholds.

  Raises:
    ValueError: if a shape differs from `[N]`, `members` is not boolean or holds only
      one kind, a loss or a score is not finite, a threshold is NaN, or an attack has
      no scores or no thresholds.
  """
  num = len(samples.loss)
  for name in ("index", "members", "labels", "loss"):
    _validate.shape(f"samples.{name}", getattr(samples, name), (num,))
  if samples.members.dtype != bool:
    raise ValueError(
      f"samples.members has dtype {samples.members.dtype}, expected bool"
    )
  if samples.members.all() or not samples.members.any():
    raise ValueError(
      f"samples.members marks {samples.members.sum()} of {num} samples, "
      "expected members and non-members"
    )
  _validate.finite("samples.loss", samples.loss)
  for attack in attacks:
    for name in ("scores", "thresholds"):
      arrays = getattr(samples, name)
      if attack not in arrays:
        raise ValueError(
          f"samples.{name} lacks the attack {attack!r} (has: {', '.join(arrays)})"
        )
      _validate.shape(f"samples.{name}[{attack!r}]", arrays[attack], (num,))
    _validate.finite(f"samples.scores[{attack!r}]", samples.scores[attack])
    if np.isnan(samples.thresholds[attack]).any():
      raise ValueError(f"samples.thresholds[{attack!r}] holds NaN, expected losses")
