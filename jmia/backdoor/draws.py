"""What an owner's secret decides: the labels of the sub-marks, and their triggers.

Labels are computed from the secret alone and in a way that anybody can repeat: the
label of sub-mark j is SHA-256 of the text `jmia label j SECRET` as a number, modulo K
(j from 0; the secret as 64 lower-case hexadecimal digits). So an owner who has
deposited a hash of the key cannot choose labels later, and `verify` sees whether they
are the secret's. Everything else is drawn by streams of the secret and is written into
the key.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import numbers
import secrets

import numpy as np

from jmia.backdoor import triggers

_SECRET_BYTES = 32
_TRIES = 64  # places tried for a square; the one that overlaps least is taken
_SAMPLE = 200  # rows that tell how far a trigger moves one
_TAILS = (0.01, 0.99)


def new_secret() -> str:
  """Returns 32 bytes of the operating system's entropy, in hexadecimal."""
  return secrets.token_hex(_SECRET_BYTES)


def seeded_secret(seed: int, data_sha256: str) -> str:
  """Returns the secret of a seed and a data set: whoever has both has the marks."""
  return hashlib.sha256(f"jmia seed {seed} {data_sha256}".encode()).hexdigest()


def is_secret(text: object) -> bool:
  """Whether it has the form of a secret."""
  return is_hexadecimal(text, 2 * _SECRET_BYTES)


def is_hexadecimal(text: object, length: int) -> bool:
  """Whether it is text of so many lower-case hexadecimal digits."""
  return (
    isinstance(text, str)
    and len(text) == length
    and all(digit in "0123456789abcdef" for digit in text)
  )


def labels(secret: str, num_submarks: int, num_classes: int) -> np.ndarray:
  """Returns `[T]` int, each uniform over the classes to within `K / 2^256`."""
  return np.array(
    [_hash(f"jmia label {j} {secret}") % num_classes for j in range(num_submarks)]
  )


def generator(secret: str, purpose: str) -> np.random.Generator:
  """Returns the secret's stream for one purpose."""
  return np.random.default_rng(_hash(f"jmia {purpose} {secret}"))


def column_triggers(
  x: np.ndarray, number: int, size: int | None, rng: np.random.Generator
) -> list[triggers.TriggerConfig]:
  """Returns triggers of columns that are set to values inside their own range.

  A column is set to its 1st or 99th percentile, whichever is rarer, by a coin where
  they are equally rare; where both are the same, to its least or largest value.
  Triggers share no column as far as there are enough.

  Args:
    x: `[N, D]` the owner's rows.
    number: of triggers.
    size: columns of each. Default: the paper's 20, or what columns there are divided
      by twice the number.
    rng: of the draws.

  Raises:
    ValueError: there are fewer columns that vary than `size`.
  """
  varies = np.flatnonzero((x != x[0]).any(axis=0))
  if size is None:
    size = min(20, max(1, len(varies) // (2 * number)))
  if not isinstance(size, numbers.Integral) or not 0 < size <= len(varies):
    raise ValueError(
      f"num_columns={size} of a trigger (--trigger_size) does not fit {len(varies)}"
      " columns of more than one value"
    )
  found = []
  pool: list[int] = []
  for _ in range(number):
    if len(pool) < size:
      pool = rng.permutation(varies).tolist()
    columns, pool = sorted(pool[:size]), pool[size:]
    values = tuple(_rare_value(x[:, column], rng) for column in columns)
    found.append(
      triggers.TriggerConfig(
        kind="columns", size=size, place=tuple(columns), values=values
      )
    )
  return found


def placed_triggers(
  trigger: triggers.TriggerConfig,
  x: np.ndarray,
  number: int,
  rng: np.random.Generator,
) -> list[triggers.TriggerConfig]:
  """Returns squares or runs like one, at random places that overlap little.

  Of the places that are tried those are kept where the trigger moves the rows at least
  as far as at half of them: a white square on white paper is no mark.

  Args:
    trigger: kind, size, pattern, value and opacity; a random pattern is drawn anew.
    x: `[N, ...]` the owner's rows.
    number: of triggers.
    rng: of the draws.

  Raises:
    ValueError: the trigger does not fit.
  """
  shape, num_axes = x.shape[1:], 2 if trigger.kind == "patch" else 1
  triggers.make(dataclasses.replace(trigger, place=(0, 0)[:num_axes]), shape)
  room = [length - trigger.size + 1 for length in shape[:num_axes]]
  sample = rng.permutation(len(x))[:_SAMPLE]
  rows = x[sample].astype(np.float32)
  taken: list[tuple[int, ...]] = []
  for _ in range(number):
    tries = [tuple(int(rng.integers(r)) for r in room) for _ in range(_TRIES)]
    seed = int(rng.integers(2**31))
    tried = [dataclasses.replace(trigger, place=p, seed=seed) for p in tries]
    moved = [triggers.distance(rows, triggers.make(t, shape)).mean() for t in tried]
    seen = [p for p, m in zip(tries, moved, strict=True) if m >= np.median(moved)]
    taken.append(min(seen, key=lambda place: _overlap(place, taken, trigger.size)))
  return [
    dataclasses.replace(trigger, place=place, seed=int(rng.integers(2**31)))
    for place in taken
  ]


def _overlap(
  place: tuple[int, ...], taken: Sequence[tuple[int, ...]], size: int
) -> int:
  """The most values that a trigger at a place shares with one that is there."""
  shared = [
    int(np.prod([max(0, size - abs(a - b)) for a, b in zip(place, other, strict=True)]))
    for other in taken
  ]
  return max(shared, default=0)


def _rare_value(column: np.ndarray, rng: np.random.Generator) -> float:
  """A value that the column has, at one of its ends."""
  ordered = np.sort(column.astype(np.uint8) if column.dtype == np.bool_ else column)
  ends = [ordered[round(tail * (len(ordered) - 1))] for tail in _TAILS]
  if ends[0] == ends[1]:
    ends = [ordered[0], ordered[-1]]
  counts = [int((ordered == end).sum()) for end in ends]
  return ends[min(rng.permutation(2), key=lambda end: counts[end])].item()


def _hash(text: str) -> int:
  return int.from_bytes(hashlib.sha256(text.encode()).digest())
