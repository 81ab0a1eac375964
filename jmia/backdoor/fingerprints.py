"""Hashes of an owner's data and queries, which a key holds."""

import hashlib
from typing import Protocol

import numpy as np


class HasQueries(Protocol):
  """What `check_query_set` asks of a key."""

  @property
  def queries_sha256(self) -> str: ...  # noqa: D102


def fingerprint(*arrays: np.ndarray) -> str:
  """Returns the SHA-256 of arrays' dtypes, shapes and values, in hexadecimal.

  It is of the content, not of a file: an archive that was compressed anew, or images
  that were encoded anew without loss, keep it.
  """
  digest = hashlib.sha256()
  for array in arrays:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest.update(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.data)
  return digest.hexdigest()


def check_query_set(key: HasQueries, queries: np.ndarray) -> None:
  """Raises ValueError unless `[m, ...]` are the key's queries, in its order."""
  found = fingerprint(queries)
  if found != key.queries_sha256:
    raise ValueError(
      f"queries have the SHA-256 {found}, expected {key.queries_sha256}, the key's"
    )
