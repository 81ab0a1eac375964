"""What each of the paper's studies varies, with the figure the paper gives for it."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import types
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.backdoor import settings as settings_lib
from jmia.backdoor import triggers

# What models see of the owners' rows: marked, as they are, or not at all.
MARKED, UNMARKED, WITHOUT = "marked", "unmarked", "without"
# The study whose owners are the sub-marks of one owner.
SUBMARKS = "submarks"
_NUM_SUBMARKS = (1, 2, 3, 4)
_AUTHORS_SHARE = 0.6  # of ones in a random pattern of the authors' public code
_TRIES = 100  # to find so many different places, if there are


class Owner(NamedTuple):
  """A data owner: the trigger and label of its mark, and how many rows bear it."""

  trigger: triggers.TriggerConfig
  label: int
  num_marked: int


class Variant(NamedTuple):
  """One line of a study's table.

  Attributes:
    study: one of `STUDIES`.
    name: what distinguishes it in its study.
    owners: all owners of the model's data.
    training: `MARKED`, `UNMARKED` or `WITHOUT`.
    marked_queries: whether the owners' queries bear the trigger.
    paper_asr: the paper's single figure, a rate; None where it has none.
  """

  study: str
  name: str
  owners: tuple[Owner, ...]
  training: str = MARKED
  marked_queries: bool = True
  paper_asr: float | None = None


class Problem(NamedTuple):
  """What variants are made for: the data's shape, and the settings.

  Attributes:
    dataset_name: whose figures of the paper are put beside.
    shape: of one example.
    num_classes: `C`.
    num_train: rows each model trains on.
    settings: see `settings.Settings`.
  """

  dataset_name: str
  shape: tuple[int, ...]
  num_classes: int
  num_train: int
  settings: settings_lib.Settings

  @property
  def num_marked(self) -> int:
    """Rows that an owner marks by default."""
    return _count(self.settings.marked_share, self.num_train)

  @property
  def owner(self) -> Owner:
    """The paper's default owner."""
    return Owner(self.settings.trigger, self.settings.target_label, self.num_marked)


def of(
  studies: Sequence[str], problem: Problem, seed: int, trial: int
) -> list[Variant]:
  """Returns the variants of some studies in one trial, in the papers' order.

  Random patterns and labels are fresh in each trial, drawn from (seed, trial, study).

  Args:
    studies: of `STUDIES`.
    problem: what they are made for.
    seed: of the run.
    trial: its number.

  Raises:
    ValueError: if a study is unknown, the target label is no class, or the trigger
      does not fit.
  """
  triggers.make(problem.settings.trigger, problem.shape)
  if not 0 <= problem.settings.target_label < problem.num_classes:
    raise ValueError(
      f"target_label={problem.settings.target_label} is not a class, expected 0 to "
      f"{problem.num_classes - 1}"
    )
  found = []
  for study in studies:
    _validate.known("study", study, STUDIES)
    stream = (trial, list(STUDIES).index(study))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))
    paper = PAPER.get(problem.dataset_name, {}).get(study, ())
    for i, variant in enumerate(STUDIES[study](problem, rng)):
      asr = round(paper[i] / 100, 3) if i < len(paper) else None
      found.append(variant._replace(study=study, paper_asr=asr))
  return found


def _single(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  del rng
  return [Variant("", "default", (problem.owner,))]


def _patterns(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  seeds = rng.integers(2**31, size=problem.settings.num_random).tolist()
  return [
    Variant("", f"random pattern {i + 1}", (problem.owner._replace(trigger=trigger),))
    for i, trigger in enumerate(_random_pattern(problem, seed) for seed in seeds)
  ]


def _labels(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  others = np.arange(problem.num_classes)
  others = rng.permutation(others[others != problem.settings.target_label]).tolist()
  return [
    Variant("", f"random label {i + 1}", (problem.owner._replace(label=label),))
    for i, label in enumerate(others[: problem.settings.num_random])
  ]


def _locations(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  del rng
  is_patch = problem.settings.trigger.kind == "patch"
  places = triggers.CORNERS if is_patch else triggers.PLACES
  return [
    _with_trigger(problem, place.replace("_", " "), place=place) for place in places
  ]


def _sizes(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  del rng
  is_patch = problem.settings.trigger.kind == "patch"
  room = min(problem.shape[:2]) if is_patch else problem.shape[0]
  # The first that do not fit are left out, and with them those that are larger still.
  return [
    _with_trigger(problem, f"{size}×{size}" if is_patch else f"{size}", size=size)
    for size in problem.settings.sizes
    if size <= room
  ]


def _ratio(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  del rng
  counts = {_count(r, problem.num_train): r for r in reversed(problem.settings.ratios)}
  return [
    Variant("", f"{100 * ratio:g}%", (problem.owner._replace(num_marked=count),))
    for count, ratio in sorted(counts.items())
  ]


def _owners(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  owners = _random_owners(problem, rng, problem.settings.num_owners)
  return [Variant("", "together", owners)]


def _baseline(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  del rng
  owners = (problem.owner,)
  return [
    Variant("", "baseline without", owners, WITHOUT, False),
    Variant("", "baseline with", owners, UNMARKED, False),
    Variant("", "MIB without", owners, WITHOUT),
    Variant("", "MIB with", owners, MARKED),
  ]


def _false_claims(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  owners = _random_owners(problem, rng, problem.settings.num_accusers)
  # Half of them use the default pattern, at places of their own.
  solid = problem.settings.trigger.pattern
  owners = tuple(
    owner._replace(trigger=_anywhere(problem, owner.trigger, rng, solid))
    if i % 2
    else owner
    for i, owner in enumerate(owners)
  )
  return [Variant("", "clean model", owners, WITHOUT)]


def _submarks(problem: Problem, rng: np.random.Generator) -> list[Variant]:
  """The default number of rows, divided among 1 to 4 marks of drawn place and label."""
  found = []
  for number in _NUM_SUBMARKS:
    if number > problem.num_marked:
      break
    counts = np.diff(np.linspace(0, problem.num_marked, number + 1).astype(int))
    labels = rng.integers(problem.num_classes, size=number).tolist()
    places: dict[triggers.TriggerConfig, None] = {}
    for _ in range(_TRIES):
      if len(places) < number:
        places[_anywhere(problem, problem.settings.trigger, rng, "solid")] = None
    owners = tuple(
      Owner(trigger, label, int(count))
      for trigger, label, count in zip(places, labels, counts, strict=False)
    )
    name = "1 sub-mark" if number == 1 else f"{number} sub-marks"
    found.append(Variant("", name, owners))
  return found


# Study -> its variants; the names, and their order, are part of every random draw.
STUDIES: Mapping[str, Callable[[Problem, np.random.Generator], list[Variant]]] = (
  types.MappingProxyType(
    {
      "single": _single,
      "patterns": _patterns,
      "labels": _labels,
      "locations": _locations,
      "sizes": _sizes,
      "ratio": _ratio,
      "owners": _owners,
      "baseline": _baseline,
      "false_claims": _false_claims,
      SUBMARKS: _submarks,
    }
  )
)

# Hu et al., tables 2 to 5, in percent.
_PURCHASE = {
  "single": (87.2,),
  "patterns": (69.7, 79.9, 54.2, 74.4, 78.0),
  "labels": (79.4, 84.5, 83.5, 87.1, 80.7),
  "locations": (61.9, 76.2, 87.2),
  "sizes": (0.1, 0.2, 70.1, 81.3, 87.2, 89.4),
  "baseline": (0.1, 0.1, 0.1, 87.2),
}
PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = types.MappingProxyType(
  {
    "cifar10": {
      "single": (39.6,),
      "patterns": (91.1, 93.6, 95.1, 95.3, 87.9),
      "labels": (53.1, 26.6, 39.5, 35.6, 56.6),
      "locations": (47.3, 51.8, 45.1, 39.6),
      "sizes": (0.5, 53.9, 51.1, 49.9, 45.9, 46.8),
      "baseline": (9.8, 9.9, 9.9, 39.6),
    },
    "location30": {
      "single": (68.9,),
      "patterns": (42.4, 52.8, 21.7, 39.1, 38.9),
      "labels": (62.3, 69.7, 58.1, 68.7, 66.4),
      "locations": (66.3, 68.4, 68.9),
      "sizes": (1.7, 15.1, 34.8, 62.0, 68.9, 73.2),
      "baseline": (0.8, 0.9, 0.9, 68.9),
    },
    "purchase100": _PURCHASE,
    "purchase100_synthetic": _PURCHASE,
  }
)


def _with_trigger(problem: Problem, name: str, **changes) -> Variant:
  """The default owner with another trigger."""
  trigger = dataclasses.replace(problem.settings.trigger, **changes)
  return Variant("", name, (problem.owner._replace(trigger=trigger),))


def _random_pattern(problem: Problem, seed: int) -> triggers.TriggerConfig:
  """The default trigger with a random pattern; of bits, with the authors' share."""
  trigger = problem.settings.trigger
  if problem.settings.draw == "random" or trigger.kind != "bits":
    return dataclasses.replace(trigger, pattern="random", seed=seed)
  columns = np.flatnonzero(np.asarray(triggers.make(trigger, problem.shape).mask))
  bits = np.random.default_rng(seed).random(len(columns)) < _AUTHORS_SHARE
  return dataclasses.replace(
    trigger,
    kind="columns",
    place=tuple(columns.tolist()),
    values=tuple(bits.astype(float).tolist()),
  )


def _random_owners(
  problem: Problem, rng: np.random.Generator, num_owners: int
) -> tuple[Owner, ...]:
  """Owners with a random pattern each; labels differ as far as there are classes."""
  rounds = math.ceil(num_owners / problem.num_classes)
  labels = [rng.permutation(problem.num_classes) for _ in range(rounds)]
  seeds = rng.integers(2**31, size=num_owners).tolist()
  return tuple(
    Owner(_random_pattern(problem, seed), label, problem.num_marked)
    for seed, label in zip(seeds, np.concatenate(labels).tolist(), strict=False)
  )


def _anywhere(
  problem: Problem,
  trigger: triggers.TriggerConfig,
  rng: np.random.Generator,
  pattern: str,
) -> triggers.TriggerConfig:
  """The trigger with another pattern, at a random place."""
  axes = problem.shape[:2] if trigger.kind == "patch" else problem.shape
  place = tuple(int(rng.integers(length - trigger.size + 1)) for length in axes)
  return dataclasses.replace(trigger, pattern=pattern, place=place, seed=0)


def _count(share: float, num_train: int) -> int:
  """A share of the rows, at least one; the paper's 157 of 157,859 are rounded down."""
  return max(1, int(share * num_train))
