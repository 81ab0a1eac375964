"""What an attack is given: a target's answers, and those of models compared with it.

Everything is a host array. Answers are *signals* by name: those of `signals.SIGNALS`
(`loss`, `confidence`, ...), `logits`, and `divergence`, which compares a model with the
target (`similarity.divergence`). `features`, the rows themselves, are the target's too.

A signal may be of altered copies of each sample: `loss@queries` is `[N, Q]` where
`loss` is `[N]`, and its first copy is the sample itself.

  queries  as many as the audit asks for, mirrored and shifted, of all models alike
  moved    mirrored, shifted and turned; of rows of bits, with some turned over
  noisy    with Gaussian noise
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import signals

LOGITS, DIVERGENCE, FEATURES = "logits", "divergence", "features"
_ANSWERS = (*signals.SIGNALS, LOGITS, DIVERGENCE)
SIGNALS = (*_ANSWERS, FEATURES)  # every name
QUERIES, MOVED, NOISY = "queries", "moved", "noisy"
COPIES = (QUERIES, MOVED, NOISY)  # every kind of them
_BLOCK = 2**22  # logits whose signals are computed at once, 16 MiB of float32

# Op by op each would be compiled, and read and written, by itself.
_compute = jax.jit(signals.compute, static_argnames="names")
_divergence = jax.jit(signals.divergence)


class Lazy(Mapping[str, np.ndarray]):
  """Signals that are computed when an attack asks for them, and then kept.

  Args:
    names: of the signals there are.
    compute: name -> array.
  """

  def __init__(self, names: Iterable[str], compute: Callable[[str], np.ndarray]):
    self._names = tuple(names)
    self._compute = functools.cache(compute)

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._names:
      raise KeyError(name)
    return self._compute(name)

  def __contains__(self, name: object) -> bool:  # without computing it
    return name in self._names

  def __iter__(self) -> Iterator[str]:
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)


class Group(NamedTuple):
  """Models of one kind that a target is compared with, `R` of them.

  Row r is one model, unless each sample has models of its own (leave-one-out): then
  column n holds those of sample n, and where a column has fewer, both masks are false.

  Attributes:
    held: `[R, N]` bool, whether model r was trained on sample n.
    out: `[R, N]` bool, whether model r was not, and its answer counts.
    signals: name -> `[R, N, ...]` float32, `[R, N, Q, ...]` of copies; of no meaning
      where neither mask is true.
    population_held: `[R, P]` bool, as `held`, of rows that are not evaluated.
    population_out: `[R, P]` bool.
    population: name -> `[R, P, ...]` float32.
    population_labels: `[P]` int32, or `[R, P]` where each model was asked about rows of
      its own.
  """

  held: np.ndarray
  out: np.ndarray
  signals: Mapping[str, np.ndarray]
  population_held: np.ndarray
  population_out: np.ndarray
  population: Mapping[str, np.ndarray]
  population_labels: np.ndarray

  @property
  def num_models(self) -> int:
    """The number `R` of models, or of the most that a sample has."""
    return max(len(self.held), len(self.population_held))

  def first(self, num_models: int) -> "Group":
    """The group with its first models alone."""
    return self.models(slice(num_models))

  def models(self, which: slice) -> "Group":
    """The group with some of its models alone."""
    cut = lambda array: array[which]  # noqa: E731
    labels = self.population_labels
    return Group(
      cut(self.held),
      cut(self.out),
      _changed(self.signals, cut),
      cut(self.population_held),
      cut(self.population_out),
      _changed(self.population, cut),
      cut(labels) if labels.ndim == 2 else labels,
    )


class Evidence(NamedTuple):
  """One target's answers on `N` samples and `P` population rows, and others'.

  Attributes:
    index: `[N]` int, the samples' rows in their dataset or file.
    labels: `[N]` int32.
    members: `[N]` bool, whether the target was trained on the sample. No attack may
      look: it is what they are to find.
    num_classes: `C`.
    signals: name -> `[N, ...]` float32, `[N, Q, ...]` of copies, the target's.
    population_labels: `[P]` int32 of rows that the target was not trained on and that
      are not evaluated; `P` may be 0.
    population: name -> `[P, ...]` float32, the target's.
    groups: name -> the models compared with it: `reference`, trained like the target on
      other rows; `in_out`, of which some held a sample and some did not; `distilled`
      from the target; `left_out`, trained on the target's rows without the sample.
    seed: of the attacks' own draws.
    calibrates: `[N]` bool, the samples that are known to be no members and are not
      evaluated: their scores calibrate the others' p-values. To every model they are
      what the non-members among the samples are. None if there are none.
    notes: how answers were read, for the reader of the results.
  """

  index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, on purpose
  labels: np.ndarray
  members: np.ndarray
  num_classes: int
  signals: Mapping[str, np.ndarray]
  population_labels: np.ndarray
  population: Mapping[str, np.ndarray]
  groups: Mapping[str, Group]
  seed: int = 0
  calibrates: np.ndarray | None = None
  notes: tuple[str, ...] = ()

  def evaluated(self) -> "Evidence":
    """The evidence of the samples that do not calibrate."""
    return self if self.calibrates is None else self.at(~self.calibrates)

  def at(self, samples: np.ndarray) -> "Evidence":
    """The evidence of some of the samples, by index or mask."""

    def part(group: Group) -> Group:
      cut = lambda array: array[:, samples]  # noqa: E731
      return group._replace(
        held=cut(group.held), out=cut(group.out), signals=_changed(group.signals, cut)
      )

    return self._replace(
      index=self.index[samples],
      labels=self.labels[samples],
      members=self.members[samples],
      calibrates=None if self.calibrates is None else self.calibrates[samples],
      signals=_changed(self.signals, lambda array: array[samples]),
      groups={name: part(group) for name, group in self.groups.items()},
    )

  def with_first_rows(self, num_rows: int) -> "Evidence":
    """The evidence with the first rows of the population alone.

    Raises:
      ValueError: if a group's models were asked about rows of their own.
    """

    def part(group: Group) -> Group:
      if group.population_labels.ndim == 2:
        raise ValueError("the population's rows are each model's own")
      cut = lambda array: array[:, :num_rows]  # noqa: E731
      return group._replace(
        population_held=cut(group.population_held),
        population_out=cut(group.population_out),
        population=_changed(group.population, cut),
        population_labels=group.population_labels[:num_rows],
      )

    return self._replace(
      population_labels=self.population_labels[:num_rows],
      population=_changed(self.population, lambda array: array[:num_rows]),
      groups={name: part(group) for name, group in self.groups.items()},
    )


def of_logits(
  logits: np.ndarray, labels: np.ndarray, target_logits: np.ndarray | None = None
) -> Mapping[str, np.ndarray]:
  """Returns every signal of answers that are at hand, computed where it is asked for.

  Args:
    logits: `[N, C]` finite logits, or `[R, N, C]` of several models, of which a few at
      a time are computed, to bound memory.
    labels: `[N]`, or `[R, N]` where each model has rows of its own.
    target_logits: `[N, C]`, for the divergence from the target; absent without it.

  Returns:
    name -> `[N, ...]` or `[R, N, ...]` float32.
  """
  names = _ANSWERS if target_logits is not None else _ANSWERS[:-1]
  target = target_logits

  def of_one(of_model: np.ndarray, of_labels: np.ndarray, name: str) -> np.ndarray:
    if name == DIVERGENCE:
      assert target is not None, "without a target it is no name of a signal"
      return np.asarray(_divergence(target, of_model))
    return np.asarray(_compute(of_model, of_labels, (name,))[name])

  def compute(name: str) -> np.ndarray:
    if name == LOGITS:
      return logits
    if logits.ndim == 2:
      return of_one(logits, labels, name)
    each = np.broadcast_to(labels, logits.shape[:-1])
    step = max(1, _BLOCK // logits[0].size)
    blocks = [slice(first, first + step) for first in range(0, len(logits), step)]
    return np.concatenate([of_one(logits[at], each[at], name) for at in blocks])

  return Lazy(names, compute)


def on_copies(name: str, copies: str) -> str:
  """Returns the name of a signal of altered copies, such as `loss@queries`."""
  return f"{name}@{copies}"


def parse(name: str) -> tuple[str, str | None]:
  """Returns a signal's plain name, and of which copies it is, if it is of any."""
  plain, _, copies = name.partition("@")
  return plain, copies or None


def queried(of: Mapping[str, np.ndarray], name: str) -> np.ndarray:
  """Returns a signal of all queries, `[..., N, Q]`, or `[..., N]` of the one there is.

  Args:
    of: an evidence's or a group's signals.
    name: the plain name.
  """
  copies = on_copies(name, QUERIES)
  return of[copies if copies in of else name]


def joined(*of: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
  """Returns the signals of all; of one name those of the first that has it."""

  def compute(name: str) -> np.ndarray:
    return next(one for one in of if name in one)[name]

  return Lazy(dict.fromkeys(name for one in of for name in one), compute)


def with_plain(of: Mapping[str, np.ndarray], num_axes: int) -> Mapping[str, np.ndarray]:
  """Returns signals with those of the samples themselves, the first of their copies.

  Args:
    of: name -> array.
    num_axes: before the copies' axis: 1 of one model, 2 of several.
  """
  found = {parse(name)[0]: name for name in of if parse(name)[1] is not None}

  def compute(name: str) -> np.ndarray:
    return of[name] if name in of else of[found[name]].take(0, axis=num_axes)

  return Lazy(dict.fromkeys([*of, *found]), compute)


def of_queries(
  logits: np.ndarray, labels: np.ndarray, target_logits: np.ndarray | None = None
) -> Mapping[str, np.ndarray]:
  """Returns every signal of answers on copies, and of the first ones by plain names.

  Args:
    logits: `[N, Q, C]` finite logits, or `[R, N, Q, C]` of several models.
    labels: as in `of_logits`.
    target_logits: `[N, C]`, likewise; of the first copies.

  Returns:
    As `of_logits`, and `NAME@queries` -> `[N, Q, ...]` or `[R, N, Q, ...]`.
  """
  each = [of_logits(logits[..., q, :], labels) for q in range(logits.shape[-2])]
  first = of_logits(logits[..., 0, :], labels, target_logits)
  names = [on_copies(name, QUERIES) for name in each[0]]
  axis = logits.ndim - 2

  def compute(name: str) -> np.ndarray:
    plain, copies = parse(name)
    if copies is None:
      return first[plain]
    return np.stack([of_copy[plain] for of_copy in each], axis=axis)

  return Lazy([*first, *names], compute)


def no_population(num_models: int) -> dict[str, Any]:
  """Returns the fields of a `Group` that was not asked about a population."""
  none = np.zeros((num_models, 0), bool)
  return {
    "population_held": none,
    "population_out": none,
    "population": {},
    "population_labels": np.zeros(0, np.int32),
  }


def no_samples(num_models: int, num_samples: int) -> dict[str, Any]:
  """Returns the fields of a `Group` that was not asked about the samples."""
  none = np.zeros((num_models, num_samples), bool)
  return {"held": none, "out": none, "signals": {}}


def check_members(members: np.ndarray) -> None:
  """Raises ValueError unless there are members and non-members."""
  if members.dtype != bool:
    raise ValueError(f"members has dtype {members.dtype}, expected bool")
  if members.all() or not members.any():
    kind = "non-members" if members.all() else "members"
    raise ValueError(f"members marks {members.sum()} of {members.size} rows: no {kind}")


def _changed(
  arrays: Mapping[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> Mapping[str, np.ndarray]:
  """Signals with a change that is made where they are asked for."""
  return Lazy(arrays, lambda name: change(arrays[name]))
