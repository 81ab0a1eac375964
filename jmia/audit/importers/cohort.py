"""Models that were trained alike, each on some of the same rows; any is the target."""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib

import numpy as np

from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import Evidence, Group
from jmia.audit import calibration, counts
from jmia.datasets import memory


class _Rows(Mapping[str, np.ndarray]):
  """Signals of some models, cut where asked for and not kept: targets are many."""

  def __init__(self, of: Mapping[str, np.ndarray], models: np.ndarray | int):
    self._of, self._models = of, models

  def __getitem__(self, name: str) -> np.ndarray:
    return self._of[name][self._models]

  def __contains__(self, name: object) -> bool:
    return name in self._of

  def __iter__(self) -> Iterator[str]:
    return iter(self._of)

  def __len__(self) -> int:
    return len(self._of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cohort:
  """What `M` models answered on `N` rows, and who was trained on which.

  Attributes:
    names: of the models, in order.
    held: `[M, N]` bool.
    labels: `[N]` int32; all 0 where the tool did not keep them.
    num_classes: `C`; 1 where labels are not known.
    signals: name -> `[M, N, ...]` float32, `NAME@queries` with copies.
    population: name -> `[M, P, ...]` of rows that no model was trained on, or empty.
    population_labels: `[P]` int32.
    notes: for the reader.
  """

  names: tuple[str, ...]
  held: np.ndarray
  labels: np.ndarray
  num_classes: int
  signals: Mapping[str, np.ndarray]
  population: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  population_labels: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  notes: list[str] = dataclasses.field(default_factory=list)

  def evidence(self, target: str | None, *, seed: int = 0) -> list[Evidence]:
    """Returns the evidence of one model, by name or number, or of each.

    A quarter of a target's non-members, or of the fewest that any target has, drawn at
    random whatever the answers, are evaluated no more but calibrate p-values: other
    models hold them as they hold the rest of the non-members.

    Raises:
      ValueError: if there is no such model, only one model, a model twice, or a target
        whose rows are all members or all not.
    """
    if len(self.names) < 2:
      raise ValueError(f"it holds {len(self.names)} model, expected at least 2")
    self._check_no_copy()
    if target is not None:
      return [self._of_target(self.number(target), seed)]
    # Each target has masks of its own of who was trained on what.
    memory.check(
      "masks of each target's references", 2 * self.held.size * len(self.names)
    )
    return [self._of_target(number, seed) for number in range(len(self.names))]

  def number(self, target: str) -> int:
    """Returns a model's number, by its name or by the number itself."""
    if target in self.names:
      return self.names.index(target)
    if target.isdecimal() and int(target) < len(self.names):
      return int(target)
    raise ValueError(
      f"target={target} is no model, expected 0 to {len(self.names) - 1}, or one of"
      f" {', '.join(self.names[:8])}{', ...' if len(self.names) > 8 else ''}"
    )

  def _check_no_copy(self) -> None:
    """Refuses a model that is there twice: as a reference it knows all of a target."""
    answers = np.asarray(self.signals["scaled_logit"])
    seen: dict[bytes, int] = {}
    for number, held in enumerate(self.held):
      if (answers[number] == answers[number][:1]).all():
        continue  # it says one thing of all rows, so may another model
      content = hashlib.sha256(np.packbits(held))
      content.update(np.ascontiguousarray(answers[number]))
      other = seen.setdefault(content.digest(), number)
      if other != number:
        raise ValueError(
          f"model {self.names[number]} has the answers and the members of model"
          f" {self.names[other]}: it is no other model, so take it out"
        )

  def _of_target(self, target: int, seed: int) -> Evidence:
    members = self.held[target]
    try:
      evidence_lib.check_members(members)
    except ValueError as error:
      raise ValueError(f"model {self.names[target]}: {error}") from error
    others = np.delete(np.arange(len(self.names)), target)
    # As many for each target: their samples are written as one array.
    number = int(calibration.SHARE * (~self.held).sum(axis=1).min())
    held, out = counts.equal(self.held[others], members, (seed, target))
    num_rows = len(self.population_labels)
    none = np.zeros((len(others), num_rows), bool)
    group = Group(
      held=held,
      out=out,
      signals=_Rows(self.signals, others),
      population_held=none,
      population_out=~none,
      population=_Rows(self.population, others),
      population_labels=self.population_labels,
    )
    return Evidence(
      index=np.arange(len(members)),
      labels=self.labels,
      members=members,
      num_classes=self.num_classes,
      signals=_Rows(self.signals, target),
      population_labels=self.population_labels,
      population=_Rows(self.population, target),
      groups={"reference": group, "in_out": group},
      seed=seed,
      calibrates=_calibrates(members, number, (seed, target)),
    )


def _calibrates(
  members: np.ndarray, number: int, seed: tuple[int, int]
) -> np.ndarray | None:
  """A random part of the non-members; None where there are too few to spare."""
  others = np.flatnonzero(~members)
  if number == 0:
    return None
  drawn = np.random.default_rng(seed).choice(others, number, replace=False)
  return np.isin(np.arange(len(members)), drawn)
