"""Altered copies of rows, about which models are asked beside the rows themselves.

  queries  of images, mirrored and shifted by a few pixels, as Carlini et al. do
  moved    of images, mirrored, shifted and turned; of bits, with some turned over
  noisy    of images and reals, with Gaussian noise in units of each feature's spread

`moved` and `noisy` are Choquette-Choo et al.'s ("Label-Only Membership Inference
Attacks"). The first copy is always the row itself. A copy depends on the seed and on
the row's position, so that a target and the models compared with it are asked about the
same; and it is made where it is asked, a batch at a time.
"""

from collections.abc import Callable, Mapping
import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia.attacks import registry
from jmia.attacks.evidence import MOVED, NOISY, QUERIES, on_copies, parse

# Shifts by so many pixels together, and turns by so many degrees.
_SHIFTS, _DEGREES = (1, 2), (4.0, 8.0, 15.0)
_RATES = (0.01, 0.02, 0.05, 0.1)  # of bits turned over
_STRENGTHS = (0.1, 0.2, 0.5, 1.0)  # of noise, in standard deviations
_REPEATS = 8  # copies at each rate or strength
_NUM_ROWS = 4096  # that tell a feature's spread


class Copies(NamedTuple):
  """Copies of one kind, `Q` of them.

  Attributes:
    alter: (x `[B, ...]` as stored, their positions `[B]`, parameters of one copy) -> x;
      traceable.
    parameters: pytree of arrays `[Q, ...]`.
  """

  alter: Callable[[Any, Any, Any], jax.Array]
  parameters: Any

  @property
  def number(self) -> int:
    """The number `Q` of copies, the row itself among them."""
    return len(jax.tree.leaves(self.parameters)[0])

  def of(self, number: int) -> Callable[[Any, Any], jax.Array]:
    """Returns what alters rows into one of their copies."""
    parameters = jax.tree.map(lambda array: array[number], self.parameters)
    alter = jax.jit(self.alter)  # compiled once for all copies
    return lambda x, rows: alter(x, rows, parameters)


def plan(
  needs: registry.Needs, x: np.ndarray, population: slice, *, seed: int | tuple
) -> dict[str, Copies]:
  """Returns kind -> copies, of those kinds that are needed and that rows allow.

  Args:
    needs: of the attacks.
    x: `[n, ...]` rows as stored.
    population: of them, those that tell the spread of a feature.
    seed: of what is drawn.

  Raises:
    ValueError: if there are fewer different copies of an image than queries.
  """
  asked = {parse(name)[1] for name in _names(needs)}
  key = jax.random.key(np.random.default_rng(seed).integers(2**31))
  some = np.asarray(x[population][:_NUM_ROWS])
  is_image = x.ndim in (3, 4)
  is_bits = x.dtype == np.uint8 and not is_image and some.max(initial=0) <= 1
  found = {}
  if QUERIES in asked and is_image and needs.num_queries > 1:
    found[QUERIES] = Copies(_move, _views(x.shape[1:3], needs.num_queries, seed))
  if MOVED in asked and is_image:
    found[MOVED] = Copies(_move, _moves())
  if MOVED in asked and is_bits:
    found[MOVED] = Copies(_turn_over, _repeated(_RATES, key))
  if NOISY in asked and not is_bits and len(some):
    found[NOISY] = Copies(_noise_of(some), _repeated(_STRENGTHS, key))
  return found


def resolve(needs: registry.Needs, copies: Mapping[str, Copies]) -> registry.Needs:
  """Returns the needs less what is of copies that there are not.

  Where a row has no copies to be queried it is itself its one query.
  """

  def known(names: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for name in names:
      plain, kind = parse(name)
      if kind is None or kind in copies:
        found.append(name)
      elif kind == QUERIES:
        found.append(plain)
    return tuple(dict.fromkeys(found))

  groups = {
    name: dataclasses.replace(
      of, signals=known(of.signals), population=known(of.population)
    )
    for name, of in needs.groups.items()
  }
  return dataclasses.replace(
    needs,
    signals=known(needs.signals),
    population=known(needs.population),
    groups=groups,
  )


def notes_of(needs: registry.Needs, copies: Mapping[str, Copies]) -> list[str]:
  """Says so where queries were asked for of rows that have no copies."""
  asked = {parse(name)[1] for name in _names(needs)}
  if needs.num_queries == 1 or QUERIES not in asked or QUERIES in copies:
    return []
  return [
    f"num_queries={needs.num_queries}, but the rows are no images, or not those that a"
    " network takes: they are asked about once, as they are"
  ]


def of_kind(names: Any, kind: str) -> list[str]:
  """Returns the plain names of those signals that are of one kind of copies."""
  return [parse(name)[0] for name in names if name == on_copies(parse(name)[0], kind)]


def _names(needs: registry.Needs) -> list[str]:
  groups = needs.groups.values()
  return [
    *needs.signals,
    *needs.population,
    *(name for of in groups for name in (*of.signals, *of.population)),
  ]


def _views(sides: tuple[int, int], number: int, seed: Any) -> jax.Array:
  """`[Q, 4]` of images: as they are, mirrored, and then what is drawn without repeats.

  Shifts are of up to a sixteenth of the shorter side, and of one pixel at least.
  """
  most = max(1, min(sides) // 16)
  steps = range(-most, most + 1)
  every = [(*view, 0.0) for view in itertools.product((0, 1), steps, steps)]
  if number > len(every):
    raise ValueError(
      f"num_queries={number}, but an image of {sides[0]} x {sides[1]} pixels has"
      f" {len(every)} different copies"
    )
  first = [(0, 0, 0, 0.0), (1, 0, 0, 0.0)]
  rest = [view for view in every if view not in first]
  order = np.random.default_rng(seed).permutation(len(rest))
  return jnp.array([*first, *(rest[i] for i in order)][:number], jnp.float32)


def _moves() -> jax.Array:
  """`[Q, 4]`: mirrored, shifted and turned, one at a time."""
  most = max(_SHIFTS)
  steps = itertools.product(range(-most, most + 1), repeat=2)
  shifts = [(0, *step, 0.0) for step in steps if sum(map(abs, step)) in _SHIFTS]
  turns = [(0, 0, 0, sign * angle) for angle in _DEGREES for sign in (-1, 1)]
  return jnp.array([(0, 0, 0, 0.0), (1, 0, 0, 0.0), *shifts, *turns], jnp.float32)


def _move(x: Any, rows: Any, by: jax.Array) -> jax.Array:
  """Images mirrored, shifted down and right, and turned; past an edge, reflected."""
  del rows
  mirrored, down, right, degrees = by
  height, width = x.shape[1:3]
  row, column = jnp.meshgrid(
    jnp.arange(height) - (height - 1) / 2,
    jnp.arange(width) - (width - 1) / 2,
    indexing="ij",
  )
  angle = jnp.deg2rad(degrees)
  from_row = jnp.cos(angle) * row - jnp.sin(angle) * column - down
  from_column = jnp.sin(angle) * row + jnp.cos(angle) * column - right
  from_column = jnp.where(mirrored > 0, -from_column, from_column)
  at = [from_row + (height - 1) / 2, from_column + (width - 1) / 2]
  x = jnp.asarray(x)

  def one(plane: jax.Array) -> jax.Array:
    return jax.scipy.ndimage.map_coordinates(plane, at, order=1, mode="reflect")

  channels = x.reshape(*x.shape[:3], -1)
  moved = jax.vmap(jax.vmap(one, in_axes=-1, out_axes=-1))(channels)
  return moved.reshape(x.shape)


def _repeated(amounts: tuple[float, ...], key: jax.Array) -> tuple[Any, jax.Array]:
  """`[Q]` amounts, none and then each of them `_REPEATS` times, and a key of each."""
  each = jnp.array([0.0, *np.repeat(amounts, _REPEATS)], jnp.float32)
  return each, jax.random.split(key, len(each))


def _keys(key: jax.Array, rows: Any) -> jax.Array:
  """A key of each row."""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.asarray(rows))


def _turn_over(x: Any, rows: Any, by: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Bits, some of which are turned over."""
  rate, key = by
  draw = lambda key: jax.random.bernoulli(key, rate, x.shape[1:])  # noqa: E731
  return jnp.asarray(x) ^ jax.vmap(draw)(_keys(key, rows)).astype(x.dtype)


def _noise_of(some: np.ndarray) -> Callable[..., jax.Array]:
  """Returns what adds noise, in units of the spread of each feature of some rows."""
  spread = some.std(axis=0, dtype=np.float64).astype(np.float32)
  low, high = some.min(), some.max()

  def alter(x: Any, rows: Any, by: tuple[jax.Array, jax.Array]) -> jax.Array:
    strength, key = by
    draw = lambda key: jax.random.normal(key, x.shape[1:])  # noqa: E731
    noisy = x + strength * spread * jax.vmap(draw)(_keys(key, rows))
    if not jnp.issubdtype(x.dtype, jnp.integer):
      return noisy.astype(x.dtype)
    return jnp.clip(jnp.round(noisy), low, high).astype(x.dtype)

  return alter
