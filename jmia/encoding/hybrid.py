"""Hybrid encoding: sensitive attributes in the model, membership tells whose they are.

Song and Shokri, section 3.1: for each encoded record the training code hides an entry
in the model, a short hash of the non-sensitive attributes and the sensitive ones. Who
later meets a person and knows the former looks up the hash and reads the latter. A
short hash collides: entries of other people come up, for members and for people who
are in no entry at all. Membership decoding rules these out, since it is asked about
the completed record. (The paper decodes the record without its sensitive attributes,
before the look-up.)

Entries are hidden in the low-order bits of the weights (white-box), or in the labels
that the model learns for extra synthetic rows (black-box; the paper's reference is
Song et al., *Machine Learning Models that Remember Too Much*, 2017).
"""

from collections.abc import Callable
import hashlib
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import _validate
from jmia.encoding import synthetic

PyTree = Any
_ROWS = 4  # a stream of the secret beside those of `synthetic`


class Entries(NamedTuple):
  """What is hidden, one entry for each encoded record.

  Attributes:
    hashes: `[n, H]` uint8 of 0 and 1, of the non-sensitive attributes.
    sensitive: `[n, k]` uint8 of 0 and 1.
  """

  hashes: np.ndarray
  sensitive: np.ndarray


class Recovered(NamedTuple):
  """What a look-up of one person gives.

  Attributes:
    matches: entries with the person's hash.
    accepted: of these, completions that were decoded as members.
    sensitive: `[k]` uint8, of the accepted completions the one that weighs most; None
      if none was accepted.
  """

  matches: int
  accepted: int
  sensitive: np.ndarray | None


def entries(
  records: np.ndarray, is_sensitive: np.ndarray, num_hash_bits: int, secret: int
) -> Entries:
  """Returns the entries of some records of bits.

  Args:
    records: `[n, q]` uint8 of 0 and 1.
    is_sensitive: `[q]` bool; some are, some are not.
    num_hash_bits: `H`, from 1 to 64.
    secret: keys the hash (BLAKE2b), so that entries say nothing to others.

  Raises:
    ValueError: if an argument is not as said.
  """
  if records.ndim != 2 or not np.isin(records, (0, 1)).all():
    raise ValueError(f"records has shape {records.shape}, expected [n, q] of 0 and 1")
  _validate.shape("is_sensitive", is_sensitive, (records.shape[1],))
  if is_sensitive.all() or not is_sensitive.any():
    raise ValueError("is_sensitive must be true of some attributes, not of all")
  if not 1 <= num_hash_bits <= 64:
    raise ValueError(f"num_hash_bits={num_hash_bits} must be from 1 to 64")
  synthetic.check_secret(secret)
  known = np.packbits(records[:, ~is_sensitive].astype(bool), axis=1)
  digests = [
    hashlib.blake2b(
      row.tobytes(), digest_size=8, key=int(secret).to_bytes(8, "big")
    ).digest()
    for row in known
  ]
  bits = np.unpackbits(
    np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 8), axis=1
  )
  return Entries(bits[:, :num_hash_bits], records[:, is_sensitive].astype(np.uint8))


def pack(hidden: Entries) -> np.ndarray:
  """Returns the bits of all entries, `[n * (H + k)]` uint8 of 0 and 1."""
  return np.concatenate(hidden, axis=1).ravel()


def unpack(bits: np.ndarray, num_hash_bits: int, num_sensitive: int) -> Entries:
  """Returns the entries that `pack` made into bits.

  Args:
    bits: of `pack`, `[n]` uint8 of 0 and 1.
    num_hash_bits: of each entry's hash.
    num_sensitive: bits of each entry that are looked up.
  """
  rows = bits.reshape(-1, num_hash_bits + num_sensitive)
  return Entries(rows[:, :num_hash_bits], rows[:, num_hash_bits:])


def hide_in_weights(params: PyTree, bits: np.ndarray, num_low: int) -> PyTree:
  """Returns parameters whose lowest mantissa bits are a message.

  Args:
    params: float32 leaves of one model.
    bits: `[B]` uint8 of 0 and 1.
    num_low: bits taken of each weight, from 1 to 23; a weight moves by less than
      `2^(num_low - 23)` of itself.

  Raises:
    ValueError: if `num_low` is out of range, a leaf is not float32, or the message is
      longer than the weights have room for.
  """
  if not 1 <= num_low <= 23:
    raise ValueError(f"num_low={num_low} must be from 1 to 23")
  leaves, structure = jax.tree.flatten(params)
  room = num_low * sum(np.size(leaf) for leaf in leaves)
  if len(bits) > room:
    raise ValueError(f"bits has {len(bits)} bits, for which weights have room {room}")
  words = _words(leaves)
  used = -(-len(bits) // num_low)
  padded = np.pad(bits, (0, used * num_low - len(bits))).reshape(used, num_low)
  values = (padded.astype(np.uint32) << np.arange(num_low, dtype=np.uint32)).sum(
    1, dtype=np.uint32
  )
  words[:used] = words[:used] >> num_low << num_low | values
  ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
  changed = [
    part.view(np.float32).reshape(np.shape(leaf))
    for part, leaf in zip(np.split(words, ends), leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, changed)


def read_from_weights(params: PyTree, num_bits: int, num_low: int) -> np.ndarray:
  """Returns the `[num_bits]` uint8 that `hide_in_weights` wrote."""
  words = _words(jax.tree.leaves(params))[: -(-num_bits // num_low)]
  bits = words[:, None] >> np.arange(num_low, dtype=np.uint32) & 1
  return bits.astype(np.uint8).ravel()[:num_bits]


def extra_rows(
  secret: int,
  bits: np.ndarray,
  shape: tuple[int, ...],
  num_classes: int,
  dtype: np.dtype | type = np.uint8,
  high: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns synthetic rows whose labels are a message, `floor(log2 C)` bits each.

  Args:
    secret: draws the rows; a query needs nothing else.
    bits: `[B]` uint8 of 0 and 1.
    shape: of one row.
    num_classes: `C`, at least 2.
    dtype: of the rows, as the data are stored.
    high: features are uniform integers from 0 to this, at most 255.

  Returns:
    x `[n, *shape]` and labels y `[n]` int32, to be trained on with the client's data.

  Raises:
    ValueError: if there are fewer than two classes, or `high` is not in [1, 255].
  """
  synthetic.check_secret(secret)
  if num_classes < 2:
    raise ValueError(f"num_classes={num_classes} must be at least 2")
  if not 1 <= high <= 255:
    raise ValueError(f"high={high} must be from 1 to 255")
  each = bits_per_label(num_classes)
  num_rows = -(-len(bits) // each)
  padded = np.pad(bits, (0, num_rows * each - len(bits))).reshape(num_rows, each)
  labels = (padded.astype(np.int32) << np.arange(each, dtype=np.int32)).sum(1)
  source = np.random.Philox(key=np.array([secret, _ROWS], np.uint64))
  words = source.random_raw(num_rows * math.prod(shape)) >> np.uint64(32)
  values = words * np.uint64(high + 1) >> np.uint64(32)
  return values.astype(dtype).reshape(num_rows, *shape), labels.astype(np.int32)


def read_from_labels(labels: np.ndarray, num_bits: int, num_classes: int) -> np.ndarray:
  """Returns the `[num_bits]` uint8 of the labels that a model gives to extra rows."""
  each = bits_per_label(num_classes)
  bits = np.asarray(labels)[:, None] >> np.arange(each) & 1
  return bits.astype(np.uint8).ravel()[:num_bits]


def bits_per_label(num_classes: int) -> int:
  """Returns `floor(log2 C)`."""
  return num_classes.bit_length() - 1


def look_up(
  hidden: Entries,
  record: np.ndarray,
  is_sensitive: np.ndarray,
  secret: int,
  score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Recovered:
  """Returns what the hidden entries say of one person.

  Any entry with the person's hash may be the person's own. By the hash alone, what most
  of them say is believed; with membership each of them counts by the decoder's
  probability that the record so completed is a member.

  Args:
    hidden: as read from the model, perhaps with errors.
    record: `[q]` uint8 of 0 and 1; its sensitive attributes are not looked at.
    is_sensitive: `[q]` bool.
    secret: the hash's.
    score: `[n, q]` completed records -> `[n]` log-odds of membership; those above 0
      are accepted. None: all are, as by the hash alone.

  Raises:
    ValueError: as `entries`.
  """
  own = entries(record[None], is_sensitive, hidden.hashes.shape[1], secret).hashes[0]
  found = hidden.sensitive[(hidden.hashes == own).all(1)]
  if not len(found):
    return Recovered(0, 0, None)
  said, votes = np.unique(found, axis=0, return_counts=True)
  if score is None:
    return Recovered(len(found), len(found), said[votes.argmax()])
  completed = np.tile(record, (len(said), 1))
  completed[:, is_sensitive] = said
  log_odds = score(completed)
  accepted = log_odds > 0
  weight = accepted * votes / (1 + np.exp(-np.maximum(log_odds, 0)))
  best = said[weight.argmax()] if accepted.any() else None
  return Recovered(len(found), int(votes[accepted].sum()), best)


def _words(leaves: list[Any]) -> np.ndarray:
  """All weights as one copy of 32-bit words; raises ValueError unless float32."""
  for leaf in leaves:
    if np.asarray(leaf).dtype != np.float32:
      raise ValueError(f"params holds {np.asarray(leaf).dtype}, expected float32")
  return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]).view(np.uint32)
