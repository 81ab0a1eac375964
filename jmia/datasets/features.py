"""Features as people store them -> what a network can learn from, by a stated rule.

A network learns nothing from features far out of scale, and then nothing leaks: an
audit of it would be false comfort. The rule, for arrays of numbers:

| features | a model sees |
|---|---|
| 0 and 1 alone | them |
| in scale: within [-1, 1] and not all tiny, or of a root mean square up to 2 | them |
| images, and vectors whose columns share one scale | value / full scale |
| the same far from zero (300 K +- 1) | (value - mean) / deviation, of all values |
| vectors of columns of different scales | each column out of scale standardised |

Full scale is 255 or 65,535 where the largest value is at least half of it and none is
above it and all are whole numbers, else the largest absolute value. Means and
deviations are of all rows: an affine map that every model shares.

Images are NHWC. `[N, C, H, W]` with 1 or 3 channels is transposed, `[N, H, W]` gets a
channel. Rows of a sequence `[N, T, F]` are vectors of `F` columns.
"""

from typing import NamedTuple

import numpy as np

from jmia import _validate

_FULL_SCALES = (255, 65_535)
_TINY = 0.05  # features nowhere above are too small to learn from
_LARGE = 2.0  # root mean square of features that need no scaling
_ROWS = 2_000  # a step of what goes over all rows
_CHANNELS = (1, 3)
_SMALLEST_SIDE = 7  # [N, H, W] of fewer is no image


class Features(NamedTuple):
  """Features as `types.Dataset` holds them.

  Attributes:
    x: `[N, ...]` uint8 or float32.
    scale: as `types.Dataset.feature_scale`.
    notes: what was done, for people.
    is_changed: whether `x` holds other values, or the same laid out otherwise.
  """

  x: np.ndarray
  scale: float
  notes: tuple[str, ...]
  is_changed: bool


def read(name: str, x: np.ndarray) -> Features:
  """Reads features.

  Args:
    name: for messages.
    x: `[N, ...]` booleans or real numbers.

  Raises:
    ValueError: they are of another type, not finite, one value alone, or look like
      images in another layout or like tokens, which no scale makes sense of.
  """
  x = np.asarray(x)
  if x.ndim < 2 or not x.size:
    raise ValueError(
      f"{name} has shape {x.shape}, expected [N, ...] with a value or more a row; of"
      " one number a row, [N, 1]"
    )
  if x.dtype.kind not in "biuf":
    hint = "; give text as table:PATH?target=NAME" if x.dtype.kind in "OUS" else ""
    raise ValueError(
      f"{name} has dtype {x.dtype}, expected booleans or real numbers{hint}"
    )
  _validate.storable(name, x)
  x, notes = _as_nhwc(name, x)
  if x.min() == x.max():  # bytes that were divided by 255 are all 0
    raise ValueError(_constant(name, x))
  found = _scaled(name, x)
  return found._replace(
    notes=(*notes, *found.notes), is_changed=bool(notes) or found.is_changed
  )


def _constant(name: str, x: np.ndarray) -> str:
  return f"{name} holds {x.flat[0]!s} alone: there is nothing to learn"


def _scaled(name: str, x: np.ndarray) -> Features:
  """Features that a network can learn from."""
  if _is_bits(x):
    return Features(x.astype(np.uint8), 1.0, (), False)
  summary = _summary(x)
  if x.ndim > 3 or summary.is_within_one or _share_one_scale(x):
    if x.ndim == 2:
      _check_tokens(name, x, summary)
    return _one_scale(name, x, summary)
  flat = _standardise_columns(name, x.reshape(-1, x.shape[-1]))
  return flat._replace(x=flat.x.reshape(x.shape))


def standardise(x: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
  """Returns `(x - mean) / deviation` of each column, float32.

  Args:
    x: `[N, F]` finite numbers.
    rows: the rows whose mean and deviation count. Default: all.

  Returns:
    `[N, F]`; zeros where a column is constant on those rows.
  """
  x = np.asarray(x)
  chosen = x if rows is None else x[rows]
  # In float64: years, times and incomes have more digits than float32.
  centre = chosen.mean(0, dtype=np.float64)
  deviation = chosen.std(0, dtype=np.float64)
  # The rounding of a mean makes a constant column's deviation nearly zero.
  constant = deviation <= 1e-12 * np.abs(centre)
  deviation = np.where(constant, 1.0, deviation)
  parts = np.empty(x.shape, np.float32)
  for i in range(0, len(x), _ROWS):
    part = (x[i : i + _ROWS].astype(np.float64) - centre) / deviation
    parts[i : i + _ROWS] = np.where(constant, 0.0, part)
  return parts


def full_scale(largest: float, *, is_whole: bool) -> float:
  """Returns what to divide by: see the module.

  Args:
    largest: absolute value, above 0.
    is_whole: whether all values are whole numbers, none of them negative.
  """
  for full in _FULL_SCALES:
    if is_whole and full / 2 <= largest <= full:
      return float(full)
  return float(largest)


def are_channels_first(shape: tuple[int, ...]) -> bool:
  """Whether arrays `[N, ...]` of a shape are images NCHW of 1 or 3 channels."""
  return len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in (*_CHANNELS, 4)


def _as_nhwc(name: str, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Images with their channels last, and what was done."""
  if x.ndim == 3:
    _, height, width = x.shape
    is_image = min(height, width) >= _SMALLEST_SIDE and (
      x.dtype.kind in "biu" or height == width
    )
    if not is_image:
      return x, []
    return x[..., None], [
      f"{name} of shape {_shape(x)} was taken for grey images, with one channel."
    ]
  if x.ndim != 4 or x.shape[3] in (*_CHANNELS, 4):
    return x, []
  if are_channels_first(x.shape):
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return moved, [
      f"{name} of shape {_shape(x)} was taken for images with their channels first "
      "(NCHW); they were put last."
    ]
  if x.shape[1] < min(x.shape[2:]) and x.shape[2] == x.shape[3]:
    raise ValueError(
      f"{name} of shape {_shape(x)} looks like images with their channels first "
      f"(NCHW), expected NHWC: give {name}.transpose(0, 2, 3, 1)"
    )
  return x, []


def _shape(x: np.ndarray) -> str:
  return "[" + ", ".join(["N", *map(str, x.shape[1:])]) + "]"


def _is_bits(x: np.ndarray) -> bool:
  """Whether all values are 0 or 1."""
  if x.dtype.kind == "b":
    return True
  return all(
    ((part == 0) | (part == 1)).all()
    for part in (x[i : i + _ROWS] for i in range(0, len(x), _ROWS))
  )


class _Summary(NamedTuple):
  """Of all values of an array, in float64."""

  low: float
  high: float
  mean: float
  deviation: float

  @property
  def largest(self) -> float:
    return max(abs(self.low), abs(self.high))

  @property
  def rms(self) -> float:
    return float(np.hypot(self.mean, self.deviation))

  @property
  def is_crowded(self) -> bool:
    """Whether values lie so close together, far from zero, that they look alike."""
    return self.deviation < 0.05 * self.rms

  @property
  def is_within_one(self) -> bool:
    """Whether values are in [-1, 1] and told apart there."""
    return _TINY <= self.largest <= 1 and not self.is_crowded

  @property
  def is_in_scale(self) -> bool:
    """Whether a network learns from these values as they are."""
    is_moderate = self.largest >= _TINY and self.rms <= _LARGE
    return self.is_within_one or (is_moderate and not self.is_crowded)


def _summary(x: np.ndarray) -> _Summary:
  """Over parts of the rows, since a float64 copy of all may not fit."""
  parts = [x[i : i + _ROWS] for i in range(0, len(x), _ROWS)]
  mean = sum(float(part.sum(dtype=np.float64)) for part in parts) / x.size
  square = sum(float(np.square(part - np.float64(mean)).sum()) for part in parts)
  return _Summary(float(x.min()), float(x.max()), mean, float(np.sqrt(square / x.size)))


def _share_one_scale(x: np.ndarray) -> bool:
  """Whether the columns of `[..., F]` are alike in size, as flattened pixels are."""
  x = x.reshape(-1, x.shape[-1])
  low, high = x.min(0).astype(np.float64), x.max(0).astype(np.float64)
  varies = high > low
  if not varies.any():
    return True
  sizes = np.maximum(np.abs(low), np.abs(high))[varies]
  spread = (high - low)[varies] / sizes
  # Pixels at an image's edge are dark in most; half of the columns decide.
  return bool(np.median(sizes) >= sizes.max() / 4 and np.median(spread) >= 0.5)


def _one_scale(name: str, x: np.ndarray, summary: _Summary) -> Features:
  """Features that are alike in size, over one number for all."""
  if summary.is_in_scale:
    stored = x if x.dtype == np.uint8 else x.astype(np.float32)
    return Features(stored, 1.0, (), False)
  if summary.is_crowded:
    mean, deviation = summary.mean, summary.deviation
    if deviation <= 1e-12 * summary.largest:
      raise ValueError(_constant(name, x))
    parts = [x[i : i + _ROWS] for i in range(0, len(x), _ROWS)]
    stored = np.concatenate(
      [((part - np.float64(mean)) / deviation).astype(np.float32) for part in parts]
    )
    note = f"{name} is centred at {mean:.6g} and divided by {deviation:.6g}."
    return Features(stored, 1.0, (note,), True)
  is_whole = x.dtype.kind in "iu" or bool((x == np.rint(x)).all())
  is_whole = is_whole and summary.low >= 0
  full = full_scale(summary.largest, is_whole=is_whole)
  is_byte = is_whole and summary.largest <= 255
  stored = x.astype(np.uint8 if is_byte else np.float32)
  if x.dtype == np.uint8 and full == 255:  # what is always done needs no word
    return Features(stored, 1 / full, (), False)
  kind = "full scale" if is_whole and full in _FULL_SCALES else "largest value"
  note = f"{name} is divided by {full:.6g}, its {kind}."
  return Features(stored, 1 / full, (note,), False)


def _standardise_columns(name: str, x: np.ndarray) -> Features:
  """Columns `[N, F]` out of scale standardised, the others as they are."""
  outside = np.array(
    [not (_is_bits(column) or _summary(column).is_in_scale) for column in x.T]
  )
  stored = x.astype(np.float32)
  if not outside.any():
    return Features(stored, 1.0, (), False)
  stored[:, outside] = standardise(x[:, outside])
  note = (
    f"{int(outside.sum())} of the {x.shape[1]} columns of {name} are standardised (mean"
    " 0, deviation 1 over all rows): they are of different scales."
  )
  return Features(stored, 1.0, (note,), True)


def _check_tokens(name: str, x: np.ndarray, summary: _Summary) -> None:
  """Refuses whole numbers that are a vocabulary's: no scale makes sense of them."""
  if x.dtype.kind not in "iu" or summary.low < 0 or summary.high <= 255:
    return
  rows = x[:_ROWS].astype(np.float64)
  rows = rows[:, rows.std(0) > 0]
  if rows.shape[1] < 8 or len(rows) < 20:
    return
  standard = (rows - rows.mean(0)) / rows.std(0)
  beside = np.abs((standard[:, 1:] * standard[:, :-1]).mean(0))
  # Neighbouring pixels, or moments of a signal, go together; tokens do not.
  if np.median(beside) < max(0.1, 2 / np.sqrt(len(rows))):
    raise ValueError(
      f"{name} looks like tokens (whole numbers up to {summary.high:.0f} in "
      f"{x.shape[1]} columns of one range that have nothing to do with one another), "
      "expected measurements: give embeddings or counts of them, or save measurements "
      "as floats"
    )
