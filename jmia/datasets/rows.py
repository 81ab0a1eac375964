"""Which row of a dataset is which row of somebody else's copy of it."""

import hashlib

import numpy as np

from jmia import types

ABSENT = -1


def rows_of(dataset: types.Dataset, x: np.ndarray) -> np.ndarray:
  """Finds rows by their features: another copy's, in another order.

  For instance torchvision's MNIST, of which a model was trained on `index`:

      rows = datasets.rows_of(dataset, mnist.data[index].numpy())
      members = rows[rows >= 0]

  Args:
    dataset: to find them in.
    x: `[K, ...]` rows as the dataset stores them, `dataset.x`, or as they were given,
      `dataset.given`; a last axis of one channel may be left out. Values are compared,
      not types: bytes 0 to 255 and the same numbers as floats are equal.

  Returns:
    `[K]` int64 rows; -1 for one that is not there. Copies among `x` take the copies in
    the dataset in their order, and -1 when there are no more: no row is given twice.

  Raises:
    ValueError: if rows of `x` have another shape.
  """
  x = np.asarray(x)
  held = dataset.x
  if dataset.given is not None and dataset.given.shape[1:] == x.shape[1:]:
    held = dataset.given
  if held.shape[1:] not in (x.shape[1:], (*x.shape[1:], 1)):
    raise ValueError(
      f"x has rows of shape {x.shape[1:]}, expected {held.shape[1:]} as {dataset.name}"
    )
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
