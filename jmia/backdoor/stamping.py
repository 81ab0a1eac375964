"""An owner's rows: checked, stamped, and told apart as they look when stamped."""

import hashlib
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from jmia import _validate
from jmia.backdoor import triggers

K = TypeVar("K")
_BLOCK_BYTES = 1 << 22  # of rows stamped at once


class Marked(NamedTuple, Generic[K]):
  """What an owner has of `N` rows once some of them are marked.

  Attributes:
    x: `[N - m, ...]`, to be published, in the original order.
    y: `[N - m]` labels, to be published.
    kept: `[N - m]` int, the original row of each.
    queries: `[m, ...]` stamped rows to send to a suspect, to be kept.
    key: to be kept.
  """

  x: np.ndarray
  y: np.ndarray
  kept: np.ndarray
  queries: np.ndarray
  key: K


def stamp(x: np.ndarray, trigger: triggers.TriggerConfig) -> np.ndarray:
  """Returns rows `[N, ...]` stamped; values outside the trigger stay bit by bit.

  Raises:
    ValueError: the trigger does not fit the rows.
  """
  made = triggers.make(trigger, x.shape[1:])
  if trigger.kind == "columns" and trigger.opacity == 1:
    # As they are: a float32 between would tell values of more digits.
    stamped = x.copy()
    stamped[:, np.array(trigger.place)] = np.array(trigger.values).astype(x.dtype)
    return stamped
  as_stored = stored(x)
  stamped = np.where(made.mask > 0, triggers.apply(as_stored, made), as_stored)
  return stamped.astype(x.dtype)


def stamped_contents(x: np.ndarray, trigger: triggers.TriggerConfig) -> list[bytes]:
  """Returns a hash of every row of `[N, ...]` as it looks when stamped."""
  step = max(1, _BLOCK_BYTES // x[0].nbytes)
  return [
    hashlib.blake2b(row.tobytes(), digest_size=16).digest()
    for start in range(0, len(x), step)
    for row in stamp(x[start : start + step], trigger)
  ]


def stored(x: np.ndarray) -> np.ndarray:
  """Returns booleans `[...]` as bytes, so that a blend is rounded; others as given."""
  return x.view(np.uint8) if x.dtype == np.bool_ else x


def check_rows(x: np.ndarray) -> None:
  """Raises ValueError unless x holds finite rows `[N, ...]`."""
  if x.ndim < 2 or not x.size or x.dtype.kind not in "biuf":
    raise ValueError(
      f"x has shape {x.shape} and dtype {x.dtype}, expected booleans or real numbers "
      "[N, ...], N > 0"
    )
  _validate.finite("x", x)


def check_data(x: np.ndarray, y: np.ndarray) -> None:
  """Raises ValueError unless x holds finite rows `[N, ...]` and y integers `[N]`."""
  check_rows(x)
  _validate.shape("y", y, (len(x),))
  if not np.issubdtype(y.dtype, np.integer):
    raise ValueError(f"y has dtype {y.dtype}, expected integer labels")
