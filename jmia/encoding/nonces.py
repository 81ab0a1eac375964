"""Assignment of a watermark's rows by a nonce that the claimant does not control.

Where the secret alone assigns rows (`watermark.assign`), the claimant can choose rows
that suit it. Here he commits first, to the secret, the key, how many rows are claimed
and the set of all rows that may be (`commitment`). Then a value becomes known that
nobody could foresee, the nonce. The order of the rows is that of

    SHA-256(nonce, SHA-256(secret, content)):

the n lowest of all committed rows are claimed, the n highest are controls. No choice is
left after the nonce, and none before it can know the order. So on any model that was
made without the order, claimed rows and controls are exchangeable, whatever rows and
secret were chosen and however: `p_rows` is valid by itself. What remains assumed is
that the commitment was public before the nonce was, and that it was the only one.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from jmia import _validate, commitments
from jmia.encoding import keys as keys_lib
from jmia.encoding import watermark

HASH_BYTES = 32
_SCHEMA = 3  # of what a commitment binds


class Prepared(NamedTuple):
  """What is committed to before the nonce is known.

  Attributes:
    key: of the watermark.
    num_claimed: n, of the claimed rows and of the controls.
    feature_scale: that a model multiplies the rows by.
    rows: `digest` of the hashes of all rows.
  """

  key: keys_lib.Key
  num_claimed: int
  feature_scale: float
  rows: str


def row_hashes(x: np.ndarray, secret: int) -> np.ndarray:
  """Returns a hash of each row, by which only the secret's holder knows it.

  Args:
    x: `[N, ...]` rows as stored.
    secret: of the key.

  Returns:
    `[N, 32]` uint8.
  """
  hashes = b"".join(watermark.content_hashes(x, secret))
  return np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)


def digest(hashes: np.ndarray) -> str:
  """Returns the SHA-256 of a set of hashes `[N, 32]`; their order does not matter."""
  return hashlib.sha256(b"".join(sorted(row.tobytes() for row in hashes))).hexdigest()


def prepare(
  key: keys_lib.Key, x: np.ndarray, num_claimed: int, feature_scale: float
) -> Prepared:
  """Returns what to commit to.

  Args:
    key: of the watermark.
    x: `[N, ...]` all rows that may be claimed, distinct.
    num_claimed: n, from 1 to N / 2.
    feature_scale: of the rows.

  Raises:
    ValueError: if rows are not distinct, there are fewer than 2 n, or the scale is not
      finite and positive.
  """
  _validate.positive("feature_scale", feature_scale)
  if len(watermark.distinct(x)) != len(x):
    raise ValueError("x holds copies of a row, expected distinct rows")
  if not 1 <= num_claimed <= len(x) // 2:
    raise ValueError(f"num_claimed={num_claimed} must be from 1 to {len(x) // 2}")
  return Prepared(
    key, num_claimed, float(feature_scale), digest(row_hashes(x, key.secret))
  )


def commitment(prepared: Prepared) -> str:
  """Returns a SHA-256 to publish before the nonce is known; it tells nobody of what."""
  bound = {
    "schema": _SCHEMA,
    "key": dataclasses.asdict(prepared.key),
    "num_claimed": int(prepared.num_claimed),
    "feature_scale": float(prepared.feature_scale).hex(),
    "all_rows": prepared.rows,
  }
  return commitments.commitment(bound)


def order(hashes: np.ndarray, nonce: str) -> np.ndarray:
  """Returns the places of the rows in the order that the nonce draws.

  Args:
    hashes: `[N, 32]`, `row_hashes` of distinct rows.
    nonce: text of at least 16 characters; blanks around it do not count.

  Returns:
    `[N]` int64: the first n are claimed, the last n are controls.

  Raises:
    ValueError: as `commitments.nonce_digest`.
  """
  prefix = b"jmia nonce " + commitments.nonce_digest(nonce)
  drawn = [hashlib.sha256(prefix + row.tobytes()).digest() for row in hashes]
  return np.array(sorted(range(len(drawn)), key=drawn.__getitem__), np.int64)


def is_assigned(
  x: np.ndarray, is_claimed: np.ndarray, secret: int, nonce: str, committed: np.ndarray
) -> bool:
  """Returns whether rows are the lowest and the highest of all that were committed to.

  Args:
    x: `[2 n, ...]` claimed rows and controls, as stored when they were committed to.
    is_claimed: `[2 n]` bool.
    secret: of the key.
    nonce: see `order`.
    committed: `[N, 32]` uint8 hashes of all rows. That they are those of the commitment
      is for `digest` to show.

  Raises:
    ValueError: as `order`.
  """
  drawn = committed[order(committed, nonce)]
  number, hashes = int(is_claimed.sum()), row_hashes(x, secret)
  return (
    0 < number <= len(drawn) // 2
    and len(x) == 2 * number
    and _same(hashes[is_claimed], drawn[:number])
    and _same(hashes[~is_claimed], drawn[-number:])
  )


def _same(first: np.ndarray, second: np.ndarray) -> bool:
  """Whether two lists of hashes hold the same, each once."""
  ours, theirs = ([row.tobytes() for row in part] for part in (first, second))
  return sorted(ours) == sorted(theirs) and len({*ours}) == len(ours)
