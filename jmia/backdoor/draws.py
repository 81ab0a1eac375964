"""What an owner's secret decides: the labels of the sub-marks, and their triggers.

Labels are computed in a way that anybody can repeat: the label of sub-mark j is SHA-256
of the text `jmia label j SECRET` as a number, modulo K (j from 0; the secret as 64
lower-case hexadecimal digits). So an owner who has deposited a hash of the key cannot
choose labels later, and `verify` sees whether they are the secret's. Before, he can: by
trying secrets. After a commitment (`prepared`) the text is `jmia label j SECRET NONCE`,
with the SHA-256 of a nonce that nobody could foresee in hexadecimal, and no secret that
he tried before tells its labels. Everything else is drawn by streams of the secret and
is written into the key.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import math
import numbers
import secrets

import numpy as np

from jmia import commitments
from jmia.backdoor import triggers

_SECRET_BYTES = 32
_TRIES = 64  # places, or columns, tried; those that overlap least are taken
_ENOUGH_COLUMNS = 4  # of a trigger: what fewer hold, many rows hold as they are
_LEAST_ALONE = 0.2
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


def labels(
  secret: str, num_submarks: int, num_classes: int, nonce: str | None = None
) -> np.ndarray:
  """Returns the labels of `T` sub-marks among `K` classes, which a secret stands for.

  Args:
    secret: of `new_secret`.
    num_submarks: T.
    num_classes: K.
    nonce: that became known after the secret was committed to; None for none.

  Returns:
    `[T]` int, each uniform over the classes to within `K / 2^256`.

  Raises:
    ValueError: as `commitments.nonce_digest`.
  """
  if nonce is not None:
    secret = f"{secret} {commitments.nonce_digest(nonce).hex()}"
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
  Triggers share no column if there are enough. If there are not, each is the one of
  many draws, at either end of its columns, that shares the fewest values with those
  before, and of these the one that the fewest rows have as they are: what many rows
  have is no trigger.

  Args:
    x: `[N, D]` the owner's rows.
    number: of triggers.
    size: columns of each. Default: the paper's 20, or what columns there are divided
      by twice the number, or more where so few make no different triggers; but 4, or
      half of them, if a fifth of the rows can then be told apart by the columns that a
      trigger does not set, as queries must.
    rng: of the draws.

  Raises:
    ValueError: there are fewer columns that vary than `size`, or fewer triggers of them
      than `number`.
  """
  varies = np.flatnonzero((x != x[0]).any(axis=0))
  if size is None:
    size = min(triggers.PAPER["bits"].size, max(1, len(varies) // (2 * number)))
    for more in range(min(_ENOUGH_COLUMNS, len(varies) // 2), size, -1):
      if _num_different(len(varies), more) >= number:
        found = _draw_columns(x, varies, number, more, rng)
        if _share_alone(x, found) >= _LEAST_ALONE:
          return found
    while _num_different(len(varies), size) < number and size < len(varies):
      size += 1
  if not isinstance(size, numbers.Integral) or not 0 < size <= len(varies):
    raise ValueError(
      f"num_columns={size} of a trigger (--trigger_size) does not fit {len(varies)}"
      " columns of more than one value"
    )
  if _num_different(len(varies), int(size)) < number:
    raise ValueError(
      f"{number} different triggers of {size} columns do not fit {len(varies)} columns"
      " of more than one value: ask for fewer sub-marks"
    )
  return _draw_columns(x, varies, number, int(size), rng)


def _num_different(num_columns: int, size: int) -> int:
  """Triggers of so many columns, each at one of its ends."""
  return math.comb(num_columns, size) * 2**size


def _draw_columns(
  x: np.ndarray, varies: np.ndarray, number: int, size: int, rng: np.random.Generator
) -> list[triggers.TriggerConfig]:
  """Triggers of so many columns each, their own if there are enough."""
  if number * size > len(varies):
    return _sharing_columns(x, varies, number, size, rng)
  pool = rng.permutation(varies).tolist()
  found = []
  for start in range(0, number * size, size):
    columns = sorted(pool[start : start + size])
    values = [_rare_value(x[:, column], rng) for column in columns]
    found.append(_set_columns(columns, values))
  return found


def _share_alone(x: np.ndarray, found: Sequence[triggers.TriggerConfig]) -> float:
  """Share of the rows that are like no other under any of the triggers."""
  is_alone = np.ones(len(x), bool)
  for trigger in found:
    rest = np.delete(x, np.array(trigger.place), axis=1)
    _, place, count = np.unique(rest, axis=0, return_inverse=True, return_counts=True)
    is_alone &= (count == 1)[place.reshape(-1)]
  return float(is_alone.mean())


def _sharing_columns(
  x: np.ndarray, varies: np.ndarray, number: int, size: int, rng: np.random.Generator
) -> list[triggers.TriggerConfig]:
  """Triggers of columns of which there are too few for each to have its own."""
  ends = {column: _ends(x[:, column]) for column in varies.tolist()}
  found: list[dict[int, float]] = []
  while len(found) < number:
    tries = []
    for _ in range(_TRIES):
      columns = sorted(rng.permutation(varies)[:size].tolist())
      sides = rng.integers(2, size=size)
      tries.append({c: ends[c][s] for c, s in zip(columns, sides, strict=True)})

    def in_the_way(one: dict[int, float]) -> tuple[int, int]:
      shared = max((len(one.items() & other.items()) for other in found), default=0)
      held = np.logical_and.reduce([x[:, c] == value for c, value in one.items()])
      return shared, int(held.sum())

    best = min(tries, key=in_the_way)
    if best not in found:  # all were there: try others
      found.append(best)
  return [_set_columns([*one], [*one.values()]) for one in found]


def _set_columns(
  columns: Sequence[int], values: Sequence[float]
) -> triggers.TriggerConfig:
  return triggers.TriggerConfig(
    kind="columns", size=len(columns), place=tuple(columns), values=tuple(values)
  )


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
  """A value that the column has, at the end where fewer rows have it."""
  ends = _ends(column)
  counts = [int((column == end).sum()) for end in ends]
  return ends[min(rng.permutation(2), key=lambda end: counts[end])]


def _ends(column: np.ndarray) -> tuple[float, float]:
  """Two values that the column has: its tails, or its least and its largest."""
  ordered = np.sort(column.astype(np.uint8) if column.dtype == np.bool_ else column)
  low, high = (ordered[round(tail * (len(ordered) - 1))] for tail in _TAILS)
  if low == high:
    low, high = ordered[0], ordered[-1]
  return low.item(), high.item()


def _hash(text: str) -> int:
  return int.from_bytes(hashlib.sha256(text.encode()).digest())
