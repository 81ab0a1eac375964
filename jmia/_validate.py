"""Argument checks on the host. Every message names the argument and what it holds."""

from collections.abc import Iterable, Sequence
import difflib
import numbers

import numpy as np


def positive(name: str, value: float) -> None:
  """Raises ValueError unless `value` is a finite number above zero."""
  if not np.isfinite(value) or value <= 0:
    raise ValueError(f"{name}={value} must be a finite number above 0")


def seed(name: str, value: int) -> None:
  """Raises ValueError unless `value` is a whole number from 0 that int64 holds."""
  if not isinstance(value, numbers.Integral) or not 0 <= value < 2**63:
    raise ValueError(f"{name}={value} must be an integer from 0 to 2^63 - 1")


def key_seed(name: str, value: int) -> None:
  """Raises ValueError unless JAX makes a key of `value` that is of no other seed.

  Of more than 32 bits it takes the lower ones alone.
  """
  if not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
    raise ValueError(f"{name}={value} must be an integer from 0 to 2^32 - 1")


def probability(name: str, value: float, *, open_interval: bool = False) -> None:
  """Raises ValueError unless `value` lies in [0, 1], or in (0, 1) if open."""
  inside = 0 < value < 1 if open_interval else 0 <= value <= 1
  if not inside:
    bounds = "(0, 1)" if open_interval else "[0, 1]"
    raise ValueError(f"{name}={value} must lie in {bounds}")


def known(kind: str, name: str, names: Iterable[str]) -> None:
  """Raises ValueError unless `name` is one of `names`; suggests the nearest one."""
  names = tuple(names)
  if name in names:
    return
  nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
  hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
  raise ValueError(f"unknown {kind} {name!r}{hint} (known: {', '.join(sorted(names))})")


def shape(name: str, array: np.ndarray, expected: Sequence[int | None]) -> None:
  """Raises ValueError unless `array` has the expected shape; None matches any size."""
  actual = np.shape(array)
  matches = len(actual) == len(expected) and all(
    e is None or a == e for a, e in zip(actual, expected, strict=True)
  )
  if not matches:
    wanted = ", ".join("any" if e is None else str(e) for e in expected)
    raise ValueError(f"{name} has shape {actual}, expected ({wanted})")


def finite(name: str, array: np.ndarray) -> None:
  """Raises ValueError if a float array holds a NaN or an infinity; says where."""
  if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
    bad = np.argwhere(~np.isfinite(array))
    where = tuple(int(i) for i in bad[0])
    raise ValueError(
      f"{name} holds {len(bad)} NaN or infinite values, first at {where}"
    )


def storable(name: str, array: np.ndarray) -> None:
  """Raises ValueError if a number is NaN, infinite or beyond what float32 holds."""
  finite(name, array)
  if array.dtype.kind != "f" or array.dtype.itemsize <= 4 or not array.size:
    return
  largest = max(float(array.max()), -float(array.min()))
  if largest > float(np.finfo(np.float32).max):
    raise ValueError(
      f"{name} holds a number of size {largest:g}, expected at most 3.4e+38, which "
      "float32 holds"
    )


def labels(name: str, array: np.ndarray, num_classes: int) -> None:
  """Raises ValueError unless `array` holds integer labels in [0, num_classes)."""
  if not np.issubdtype(array.dtype, np.integer):
    raise ValueError(f"{name} has dtype {array.dtype}, expected integer labels")
  if array.size and (array.min() < 0 or array.max() >= num_classes):
    raise ValueError(
      f"{name} holds labels from {array.min()} to {array.max()}, "
      f"expected 0 to {num_classes - 1}"
    )
