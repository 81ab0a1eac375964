"""Which row of a dataset is which row of somebody else's copy of it."""

import hashlib
from typing import Any

import numpy as np

from jmia import types
from jmia.datasets import columns

ABSENT = -1


def rows_of(dataset: types.Dataset, x: Any) -> np.ndarray:
  """Finds rows by their features: another copy's, in another order.

  For instance torchvision's MNIST, of which a model was trained on `index`:

      rows = datasets.rows_of(dataset, mnist.data[index].numpy())
      members = rows[rows >= 0]

  Args:
    dataset: to find them in.
    x: `[K, ...]` rows, all as the dataset stores them, `dataset.x`, or all as they were
      given, `dataset.given`; a last axis of one channel may be left out. Values are
      compared, not types: bytes 0 to 255 and the same numbers as floats are equal.
      Both are looked in; the one that holds more of the rows is taken. Of a dataset of
      named columns also a table of the same ones, in any order, such as a pandas frame:
      rows as they were given.

  Returns:
    `[K]` int64 rows; -1 for one that is not there. Copies among `x` take the copies in
    the dataset in their order, and -1 when there are no more: no row is given twice.

  Raises:
    ValueError: if rows of `x` have another shape or other columns, or are some rows as
      stored and others as given, and neither holds them all.
  """
  is_of_columns = dataset.given is not None and bool(dataset.given.dtype.names)
  if is_of_columns and columns.is_table(x):
    x = columns.as_given(x, dataset.given.dtype)  # type: ignore[union-attr]
  x = np.asarray(x)
  # As stored first: it is taken where both hold as many.
  held = [rows for rows in _held(dataset) if _is_like(rows, x)]
  if not held:
    raise ValueError(f"x has rows of {_form(x)}, expected {_forms(dataset)}")
  found = [_find(rows, x) for rows in held]
  counts = [int((rows != ABSENT).sum()) for rows in found]
  if len(found) > 1 and counts.count(len(x)) != 1:
    stored, given = found
    differ = (stored != ABSENT) & (given != ABSENT) & (stored != given)
    if differ.any():
      row = int(np.argmax(differ))
      raise ValueError(
        f"row {row} of x is row {stored[row]} of {dataset.name} as stored (dataset.x) "
        f"and row {given[row]} as given (dataset.given): which is meant cannot be told"
      )
  return found[int(np.argmax(counts))]


def _held(dataset: types.Dataset) -> list[np.ndarray]:
  """The rows as stored and, where those differ, as given."""
  return [dataset.x] if dataset.given is None else [dataset.x, dataset.given]


def _is_like(held: np.ndarray, x: np.ndarray) -> bool:
  """Whether rows of `x` have the shape, or the columns, of those held."""
  if {*(held.dtype.names or ())} != {*(x.dtype.names or ())}:
    return False
  return held.shape[1:] in (x.shape[1:], (*x.shape[1:], 1))


def _form(x: np.ndarray) -> str:
  return f"the columns {[*x.dtype.names]}" if x.dtype.names else f"shape {x.shape[1:]}"


def _forms(dataset: types.Dataset) -> str:
  forms = dict.fromkeys(map(_form, _held(dataset)))
  return f"{' or '.join(forms)} as {dataset.name}"


def _find(held: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Rows of `x` among those held, each taken once."""
  if held.dtype.names:
    x = x[[*held.dtype.names]]  # in this order
    common = np.promote_types(held.dtype, x.dtype)
    held, x = held.astype(common), x.astype(common)
  places: dict[bytes, list[int]] = {}
  for row in range(len(held) - 1, -1, -1):  # so that the first is popped first
    places.setdefault(_digest(held[row]), []).append(row)
  found = np.full(len(x), ABSENT, np.int64)
  for i, row in enumerate(x):
    here = places.get(_digest(row))
    if here:
      found[i] = here.pop()
  return found


def _digest(row: np.ndarray) -> bytes:
  """Of a row's values, whatever type they are stored in."""
  # Adding 0 makes -0.0 and 0.0 one.
  content = row if row.dtype.names else np.asarray(row, np.float32).ravel() + 0.0
  return hashlib.blake2b(
    np.ascontiguousarray(content).tobytes(), digest_size=16
  ).digest()
