"""Who trains on what: draws only, no training.

A design names the rows of a dataset that matter, in the order evaluated, others,
population, and then speaks of *positions* among them. Its parts are models of one kind:

  role       trained                                 compared with
  target     like any model; it is attacked          other targets, as a reference
  reference  like the target, on other rows          every target
  in_out     on some of the evaluated rows           every target, or its own
  distilled  on a target's answers (Ye et al., 4.4)  its target
  left_out   on a target's rows without one sample   its target

A part whose models are of use for some samples alone says which (`serves`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmia import splits, types
from jmia.training import distillation

EVERY = -1  # a model that is compared with every target
NO_TEACHER = distillation.NO_TEACHER


class Part(NamedTuple):
  """Models of one kind, `M` of them.

  Attributes:
    role: as in the module's table.
    members: `[M, K]` positions each is trained on.
    target: the number of the target they are compared with, or `EVERY`.
    teacher: the number of the target they are distilled from, or `NO_TEACHER`.
    serves: `[M, U]` bool, the evaluated rows each may be compared on. Default: all.
    num_asked: evaluated rows that they are asked about, the first so many. Default:
      all `U`.
  """

  role: str
  members: types.Splits
  target: int = EVERY
  teacher: int = NO_TEACHER
  serves: np.ndarray | None = None
  num_asked: int | None = None


class Design(NamedTuple):
  """All models of a panel; `M` in all, in the order of the parts, targets first.

  Attributes:
    rows: `[n]` int32 rows of the dataset: `U` evaluated, others, `P` of the population.
    num_evaluated: `U`.
    num_population: `P`.
    parts: of models.
    samples: `[T, N]` positions that each target is attacked on. Default: all `U`.
    own: `[M, N]` positions, where each model is asked about rows of its own: a target's
      are its samples, and those of the models compared with it their population.
  """

  rows: np.ndarray
  num_evaluated: int
  num_population: int
  parts: tuple[Part, ...]
  samples: np.ndarray | None = None
  own: np.ndarray | None = None

  @property
  def members(self) -> types.Splits:
    """Who trains on what, of all models."""
    return splits.concatenate(*(part.members for part in self.parts))

  @property
  def role(self) -> np.ndarray:
    """`[M]` str."""
    return self._each([part.role for part in self.parts])

  @property
  def target(self) -> np.ndarray:
    """`[M]` int, the target that each model is compared with."""
    return self._each([part.target for part in self.parts])

  @property
  def teacher(self) -> np.ndarray:
    """`[M]` int32."""
    return self._each([part.teacher for part in self.parts]).astype(np.int32)

  @property
  def serves(self) -> np.ndarray | None:
    """`[M, U]` bool; None if every model serves every row."""
    if all(part.serves is None for part in self.parts):
      return None
    return np.concatenate(
      [
        np.ones((len(part.members.num_members), self.num_evaluated), bool)
        if part.serves is None
        else part.serves
        for part in self.parts
      ]
    )

  def models(self, *roles: str) -> np.ndarray:
    """The models of some roles, in order."""
    return np.flatnonzero(np.isin(self.role, roles))

  @property
  def population(self) -> slice:
    """The population's positions."""
    return slice(len(self.rows) - self.num_population, len(self.rows))

  def _each(self, of_parts: Sequence) -> np.ndarray:
    sizes = [len(part.members.num_members) for part in self.parts]
    return np.repeat(np.array(of_parts), sizes)


def of_split(split: types.AuditSplit) -> Design:
  """Returns the design of rows cut as a split, with a target on its members."""
  num_evaluated = len(split.members) + len(split.nonmembers)
  members = np.arange(len(split.members), dtype=np.int32)
  return Design(
    rows=np.concatenate(split),
    num_evaluated=num_evaluated,
    num_population=len(split.population),
    parts=(Part("target", splits.ragged([members])),),
  )


def left_out(
  members: np.ndarray,
  samples: np.ndarray,
  nonmembers: np.ndarray,
  num_models: int,
  num_evaluated: int,
  *,
  target: int = 0,
) -> Part:
  """Returns models without each of some samples, `num_models` for each.

  A member has models of its own, trained on the target's members but it. For a
  non-member leaving it out changes nothing, and all of them share theirs.

  Args:
    members: `[K]` the target's.
    samples: `[Q]` of them, to be left out.
    nonmembers: `[Q']` positions attacked beside them.
    num_models: for each sample.
    num_evaluated: `U`.
    target: its number.
  """
  repeated = np.repeat(samples, num_models)
  rows = splits.concatenate(
    splits.without_each(members, repeated), splits.ragged([members] * num_models)
  )
  serves = np.zeros((len(rows.num_members), num_evaluated), bool)
  serves[np.arange(len(repeated)), repeated] = True
  serves[len(repeated) :, nonmembers] = True
  return Part("left_out", rows, target=target, serves=serves)


def with_and_without(
  draws: np.ndarray, samples: np.ndarray, num_evaluated: int
) -> Part:
  """Returns models without any of the samples, and the same with each (Long et al.).

  Args:
    draws: `[k, K]` positions, none of them a sample: model i without is trained on draw
      i, and serves for all samples; model i with sample q on that draw and q.
    samples: `[Q]` positions.
    num_evaluated: `U`.

  Returns:
    `k (1 + Q)` models: those without, model 0 with each sample, model 1, and so on.
  """
  rows = [*draws, *(np.append(draw, sample) for draw in draws for sample in samples)]
  serves = np.zeros((len(rows), num_evaluated), bool)
  serves[: len(draws), samples] = True
  at = np.tile(samples, len(draws))
  serves[len(draws) + np.arange(len(at)), at] = True
  return Part("in_out", splits.ragged(rows), serves=serves)


def disjoint(
  num_examples: int, size: int, num_others: int, num_targets: int, *, seed: int
) -> Design:
  """Returns targets, each with others, on disjoint parts of a dataset (Shokri et al.).

  For each target the rows are cut at random into `2 (1 + num_others)` parts: members
  and as many others of it and of each model compared with it (Yang's `D_train, D_test,
  D'_train, D'_test` with one). Every model is asked about its own two parts.

  Args:
    num_examples: rows of the dataset.
    size: of each part.
    num_others: models compared with each target.
    num_targets: each with a cut of its own.
    seed: of the cuts.

  Raises:
    ValueError: as `splits.parts`.
  """
  num_models = 1 + num_others
  own = []
  for target in range(num_targets):
    parts = splits.parts(np.arange(num_examples), 2 * num_models, seed=(seed, target))
    cut = np.stack([part[:size] for part in parts])
    own.append(cut.reshape(num_models, 2 * size))
  cuts = np.stack(own)  # [T, 1 + k, 2 size]
  sizes = np.full(num_models, size, np.int32)
  parts_of = []
  for target, cut in enumerate(cuts):
    rows = types.Splits(cut[:, :size], sizes)
    first, others = (
      types.Splits(*(a[at] for a in rows)) for at in (np.s_[:1], np.s_[1:])
    )
    parts_of.append(Part("target", first, target=target))
    parts_of.append(Part("reference", others, target=target))
  return Design(
    rows=np.arange(num_examples, dtype=np.int32),
    num_evaluated=0,
    num_population=0,
    parts=tuple(parts_of),
    own=cuts.reshape(-1, 2 * size),
  )
