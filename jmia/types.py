"""The values that travel between modules, as NamedTuples of arrays."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
  """Labelled examples to draw members and non-members from.

  Attributes:
    name: the name it was loaded by.
    x: `[N, ...]` features, uint8 (bits or pixels) or float32; may be a read-only
      memory map.
    y: `[N]` int32 labels in `[0, num_classes)`.
    num_classes: number of classes `C`.
    num_train: rows from here on are the publisher's test split; `N` where the
      publisher made none.
    feature_scale: a model sees `x.astype(float32) * feature_scale`.
    is_synthetic: whether the rows were generated, not collected.
    description: one sentence for reports, which says plainly if it is synthetic.
    notes: what reading changed or had to guess, a sentence each, for reports.
    class_names: `C` texts, what each class is called where the data came from; empty
      where classes are numbered there as here.
    given: `[N, ...]` the rows as they came, where those of `x` are laid out or scaled
      otherwise: what a model of the user's own knows. A structured array of the columns
      for a table of them. None where `x` holds the same values.
  """

  name: str
  x: np.ndarray
  y: np.ndarray
  num_classes: int
  num_train: int
  feature_scale: float
  is_synthetic: bool
  description: str
  notes: tuple[str, ...] = ()
  class_names: tuple[str, ...] = ()
  given: np.ndarray | None = None

  @property
  def num_examples(self) -> int:
    """Number of rows `N`, of the train and the test split together."""
    return len(self.y)

  @property
  def holds_bits(self) -> bool:
    """Whether all features are 0 or 1 and stored as uint8."""
    return self.x.dtype == np.uint8 and int(self.x.max()) <= 1


class Splits(NamedTuple):
  """Which rows of a dataset each model is trained on.

  Attributes:
    member_idx: `[M, K]` int32 row indices; model m's first `num_members[m]` entries
      are its members, the rest is padding that repeats its first member.
    num_members: `[M]` int32, at least 1 and at most `K`.
  """

  member_idx: np.ndarray
  num_members: np.ndarray


class AuditSplit(NamedTuple):
  """One target's rows, in disjoint parts: no row calibrates and is evaluated.

  Attributes:
    members: `[K]` int32, rows the target is trained on.
    nonmembers: `[K']` int32, rows to evaluate false positives on.
    population: `[P]` int32, rows to calibrate attacks and train reference models on.
  """

  members: np.ndarray
  nonmembers: np.ndarray
  population: np.ndarray
