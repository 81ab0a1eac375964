"""Triggers: what a data owner stamps on examples before publishing them.

Hu et al., *Membership Inference via Backdooring* (2022), section 3.2 (after BadNets):
with a pattern `p` and a mask `v` of the example's shape, a marked example is

    x' = (1 - v) * x + v * p

For images the trigger is a small square, blended in so that one hardly sees it; for
binary features it is a run of bits, which replaces what was there. In a table it is a
set of columns, each of which is given a value of its own.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import numbers
import types
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate

Array = jax.Array | np.ndarray
_A = TypeVar("_A", jax.Array, np.ndarray)

KINDS = ("patch", "bits", "columns")
PATTERNS = ("solid", "random")
CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
PLACES = ("beginning", "centre", "end")

# A blend that lies half-way between two stored values may come out a hair below in
# float32, and not by the same hair in NumPy and in a compiled program. With this much
# added, both round it up; it changes no blend whose mask has up to four decimals.
_SLACK = 2.0**-12


class Trigger(NamedTuple):
  """A pattern and where, and how strongly, it shows.

  Attributes:
    pattern: `[*shape]` float32, in the units of the stored examples.
    mask: `[*shape]` float32 in [0, 1]: 0 leaves the example, 1 is the pattern alone.
  """

  pattern: Array
  mask: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriggerConfig:
  """A trigger in words, as a key file states it; `make` builds it.

  Attributes:
    kind: one of `KINDS`: a square on an image, a run of binary features, or chosen
      columns of a table.
    size: side of the square in pixels, or number of features.
    place: one of `CORNERS` for a patch and of `PLACES` for bits, or where it starts:
      (row, column) or (feature,); of columns, all of them.
    pattern: `solid` (a white square, all ones) or `random` (each value of the square
      uniform, each bit a fair coin; in the paper's public code a bit is 1 with
      probability .6, and a square has one pattern for all channels).
    value: of a solid pattern, and the largest of a random one, in stored units; see
      `white`.
    opacity: the mask `v` where the trigger is, the paper's mapping parameter: 0.3 for
      its images; its bits are replaced, 1.
    seed: of a random pattern.
    values: of columns alone: what each is set to, in stored units.
  """

  kind: str
  size: int
  place: str | tuple[int, ...]
  pattern: str = "solid"
  value: float = 1.0
  opacity: float = 1.0
  seed: int = 0
  values: tuple[float, ...] = ()

  def __post_init__(self) -> None:
    _validate.known("kind of trigger", self.kind, KINDS)
    _validate.known("pattern", self.pattern, PATTERNS)
    if not isinstance(self.size, numbers.Integral) or self.size < 1:
      raise ValueError(f"size={self.size} must be an integer of at least 1")
    _validate.probability("opacity", self.opacity)
    _validate.seed("seed", self.seed)
    if not np.isfinite(self.value):
      raise ValueError(f"value={self.value} must be a finite number")
    if isinstance(self.place, str):
      _validate.known("place", self.place, CORNERS if self.kind == "patch" else PLACES)
    else:
      # A list, as JSON gives it back, becomes what it was.
      object.__setattr__(self, "place", tuple(self.place))
    object.__setattr__(self, "values", tuple(self.values))
    self._check_columns()

  def _check_columns(self) -> None:
    """Of columns there are as many places as values, all different."""
    expected = self.size if self.kind == "columns" else 0
    if len(self.values) != expected or not np.isfinite(self.values).all():
      raise ValueError(f"values={self.values} must be {expected} finite numbers")
    places = () if isinstance(self.place, str) else self.place
    if self.kind == "columns" and not len({*places}) == len(places) == expected:
      raise ValueError(f"place={self.place} must be {expected} different columns")


# The paper's, of images and of binary features; its value is the dataset's `white`.
PAPER: Mapping[str, TriggerConfig] = types.MappingProxyType(
  {
    "patch": TriggerConfig(kind="patch", size=3, place="bottom_right", opacity=0.3),
    "bits": TriggerConfig(kind="bits", size=20, place="end"),
  }
)


def make(config: TriggerConfig, shape: Sequence[int]) -> Trigger:
  """Returns the trigger that a description means for examples of a shape.

  Raises:
    ValueError: if the examples are not of the trigger's kind, or it does not fit.
  """
  shape = tuple(shape)
  allowed = (2, 3) if config.kind == "patch" else (1,)
  if len(shape) not in allowed:
    raise ValueError(
      f"shape={shape} of an example does not suit a trigger of kind {config.kind!r}, "
      f"expected {' or '.join(map(str, allowed))} axes"
    )
  mask, pattern = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  if config.kind == "columns":
    columns = _columns(config, shape[0])
    mask[columns], pattern[columns] = config.opacity, config.values
    return Trigger(pattern, mask)
  start = _start(config, shape)
  where = tuple(slice(i, i + config.size) for i in start)
  mask[where] = config.opacity
  pattern[where] = config.value * _unit_pattern(config, pattern[where].shape)
  return Trigger(pattern, mask)


def none(shape: Sequence[int]) -> Trigger:
  """Returns the trigger that changes nothing."""
  return Trigger(np.zeros(shape, np.float32), np.zeros(shape, np.float32))


def stack(triggers: Sequence[Trigger]) -> Trigger:
  """Returns triggers `[U, *shape]` of several for examples of one shape."""
  return Trigger(*(np.stack(arrays) for arrays in zip(*triggers, strict=True)))


def apply(x: _A, trigger: Trigger) -> _A:
  """Stamps a trigger on examples, as they would be stored.

  Args:
    x: `[..., *shape]`, integers or floats. NumPy arrays give NumPy arrays; in a
      compiled program, and for one trigger per example under `vmap`, JAX's.
    trigger: pattern and mask `[*shape]`, or broadcast with x.

  Returns:
    `[..., *shape]` of x's dtype; integers are rounded, halves up, and kept within the
    dtype's range.
  """
  if isinstance(x, np.ndarray):
    return _apply(np, x, trigger)
  return _apply(jnp, x, trigger)


def distance(x: np.ndarray, trigger: Trigger) -> np.ndarray:
  """Returns `|x' - x|`, the L2 norm of what stamping changes, in stored units.

  Args:
    x: `[..., *shape]`.
    trigger: one trigger.

  Returns:
    `[...]` float64.
  """
  change = apply(x, trigger).astype(np.float64) - x
  axes = tuple(range(-np.ndim(trigger.mask), 0))
  return np.sqrt(np.square(change).sum(axes))


def white(x: np.ndarray, feature_scale: float) -> float:
  """Returns the stored value of white.

  It is what a model sees as 1 for integers (255 for pixels of a byte, 16 for digits,
  1 for bits), and the largest value that occurs for floats, whose range is not known.

  Args:
    x: `[N, ...]` the stored examples.
    feature_scale: the dataset's.
  """
  if np.issubdtype(x.dtype, np.integer):
    return float(round(1 / feature_scale))
  return float(x.max())


def _apply(xp: Any, x: Any, trigger: Trigger) -> Any:
  """`apply` in NumPy or in JAX."""
  values = x.astype(np.float32)
  blend = values + trigger.mask * (trigger.pattern - values)
  if np.issubdtype(x.dtype, np.integer):
    limits = np.iinfo(x.dtype)
    blend = xp.clip(xp.floor(blend + (0.5 + _SLACK)), limits.min, limits.max)
  return blend.astype(x.dtype)


def _columns(config: TriggerConfig, num_features: int) -> list[int]:
  """The columns of a trigger, which an example must have."""
  columns = [int(column) for column in config.place]
  if not 0 <= min(columns) <= max(columns) < num_features:
    raise ValueError(
      f"place={config.place} names columns from {min(columns)} to {max(columns)},"
      f" expected 0 to {num_features - 1}"
    )
  return columns


def _start(config: TriggerConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Where the trigger starts on each axis that it extends over."""
  axes = shape[:2] if config.kind == "patch" else shape
  room = tuple(length - config.size for length in axes)
  start = config.place
  if isinstance(start, str):
    start = tuple(place(r) for place, r in zip(_NAMED[start], room, strict=True))
  if min(room) < 0:
    raise ValueError(f"size={config.size} does not fit an example of shape {shape}")
  if len(start) != len(axes) or any(
    not 0 <= s <= r for s, r in zip(start, room, strict=False)
  ):
    raise ValueError(
      f"place={config.place} puts a trigger of size {config.size} outside an example "
      f"of shape {shape}, expected {len(axes)} numbers from 0 to {room}"
    )
  return start


def _unit_pattern(config: TriggerConfig, shape: tuple[int, ...]) -> np.ndarray:
  """The pattern's values from 0 to 1."""
  if config.pattern == "solid":
    return np.ones(shape)
  rng = np.random.default_rng(config.seed)
  return rng.integers(2, size=shape) if config.kind == "bits" else rng.random(shape)


def _first(room: int) -> int:
  return 0


def _middle(room: int) -> int:
  return room // 2


def _last(room: int) -> int:
  return room


# The place on each axis, of the room that a trigger leaves on it.
_NAMED: Mapping[str, tuple[Callable[[int], int], ...]] = types.MappingProxyType(
  {
    "top_left": (_first, _first),
    "top_right": (_first, _last),
    "bottom_left": (_last, _first),
    "bottom_right": (_last, _last),
    "beginning": (_first,),
    "centre": (_middle,),
    "end": (_last,),
  }
)
