"""What a model's answers are: logits, probabilities, and how coarsely they are given.

Answers come as logits, probabilities, percentages, counts or log-probabilities, or cut:
rounded to a few decimals, shares of n votes, in a 16-bit type, or the k largest alone.
Which it is, is decided from every row of every model at once, since a target in other
units than the models that it is compared with tells nothing. A rule that most rows
follow and some do not is said, and what follows none is refused.

**Coarse answers are compared with equally coarse ones.** If one model's probabilities
are rounded to 2 decimals, a 0 of it is anything below .005, and its loss cannot be set
against one of exact answers. So every model's answers are made as coarse as the
coarsest. Probabilities of 0 share what the others leave of one: what the k largest
leave, or what rounding may have hidden, half of the last decimal or of a vote, and at
most as much each. Half of a decimal each would be more than the rest, where classes are
many: of 1,000 with 3 decimals, half of one.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jmia import _validate

OUTPUTS = ("auto", "logits", "probabilities", "log_probabilities")
_PERCENTAGES = "percentages"  # recognised, and divided by 100
_COUNTS = "counts"  # integers, such as votes; recognised, and divided by a row's sum
_TINY = float(np.finfo(np.float32).tiny)  # a loss of 87.3
_MOST_DECIMALS = 4  # more tell as much as float32
_MOST_VOTES = 1000
# Rows that are to show a pattern before it is believed.
_FEWEST_ROWS = 8
_FEWEST_VOTED_ROWS = 32  # that fewer votes would explain them must not be chance
# By how much a decimal may be missed, in float32 or as one less another, and a share of
# votes, which may have been added up.
_OFF_DECIMAL, _OFF_SHARE = 1.2e-7, 1e-6
_NEAR = 1e-3  # of a sum to one, where answers are not coarse
_NARROW: Mapping[str, np.dtype] = {
  "bfloat16": np.dtype(ml_dtypes.bfloat16),
  "float16": np.dtype(np.float16),
}
# What a 0 may have been: below half of the least float16, 2^-24. The exponents of
# bfloat16 are those of float32.
_LEAST: Mapping[str, float] = {"bfloat16": _TINY, "float16": 2.0**-25}
# By what share of itself a number is rounded at most.
_OFF_NARROW: Mapping[str, float] = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
_CHANCE = 0.1  # that any one number is as near to a multiple of 1 / n


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coarse:
  """How coarsely probabilities are given.

  Attributes:
    decimals: that they are rounded to; None if they are not.
    votes: n, if they are multiples of 1 / n, such as a forest's of n trees; else None.
    dtype: `bfloat16` or `float16`; None for 32 bits.
    top_k: how many of a row are given; None for all.
    sums_to_one: whether those given are scaled to a sum of one.
    least: what a 0 stands for, where one column is `1 - p` of the other in floating
      point, half of the last step below 1; None for the least float32.
  """

  decimals: int | None = None
  votes: int | None = None
  dtype: str | None = None
  top_k: int | None = None
  sums_to_one: bool = False
  least: float | None = None

  @property
  def is_exact(self) -> bool:
    """Whether nothing is lost."""
    return self == EXACT

  def logits(self, probabilities: jax.Array) -> jax.Array:
    """Returns logarithms of probabilities that are given so coarsely; traceable.

    Args:
      probabilities: `[..., C]`, exact or as coarse already.
    """
    p, hidden = jnp.asarray(probabilities, jnp.float32), 0.0
    least = _TINY if self.least is None else self.least
    if self.decimals is not None:
      p, hidden = jnp.round(p, self.decimals), 0.5 * 10.0**-self.decimals
    if self.votes is not None:
      p, hidden = jnp.round(p * self.votes) / self.votes, max(hidden, 0.5 / self.votes)
    if self.dtype is not None:
      p = p.astype(_NARROW[self.dtype]).astype(jnp.float32)
      least = max(least, _LEAST[self.dtype])
    if self.top_k is not None and self.top_k < p.shape[-1]:
      p = _cut(p, self.top_k, self.sums_to_one)
    if hidden:
      p = _filled(p, hidden)
    return jnp.log(jnp.maximum(p, least))

  def of_one_class(self, probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities of one class of each row, as coarse; float64.

    Where 0 or 1 may hide something it is half of it: nothing is known of the others.

    Args:
      probabilities: `[...]` in [0, 1].
    """
    p, low, high = np.asarray(probabilities, np.float64), 0.0, 1.0
    hidden = [0.5 * 10.0**-self.decimals] if self.decimals is not None else []
    if self.decimals is not None:
      p = p.round(self.decimals)
    if self.votes is not None:
      p, hidden = np.rint(p * self.votes) / self.votes, [*hidden, 0.5 / self.votes]
    if hidden:
      low, high = max(hidden), 1 - max(hidden)
    if self.dtype is not None:
      p = p.astype(_NARROW[self.dtype]).astype(np.float64)
      low = max(low, _LEAST[self.dtype])
      high = min(high, 1 - float(ml_dtypes.finfo(_NARROW[self.dtype]).epsneg) / 2)
    return np.clip(p, low, high)


EXACT = Coarse()


class Units(NamedTuple):
  """What answers are.

  Attributes:
    kinds: array's name -> one of `OUTPUTS` but `auto`, percentages or counts; of
      several models one of each.
    coarse: how coarsely all are to be taken.
    notes: what a reader of the results must know.
  """

  kinds: Mapping[str, Sequence[str]]
  coarse: Coarse
  notes: tuple[str, ...]

  def logits(self, name: str, values: np.ndarray, model: int = 0) -> np.ndarray:
    """Returns one model's answers as logits, float32.

    Args:
      name: of the array.
      values: `[..., C]`, some or all rows of it.
      model: which of its models.
    """
    kind = self.kinds[name][model]
    with np.errstate(over="ignore"):  # what float64 holds may overflow float32
      values = np.asarray(values, np.float32)
    if kind in ("logits", "log_probabilities"):
      values = _finite_logits(values)
      if self.coarse.is_exact:
        return values
      return np.asarray(self.coarsened(values))
    return np.asarray(self.coarse.logits(jnp.clip(_shares(kind, values), 0, 1)))

  def coarsened(self, logits: jax.typing.ArrayLike) -> jax.Array:
    """Returns another model's logits, made as coarse; traceable."""
    logits = jnp.asarray(logits)
    if self.coarse.is_exact:
      return logits
    return self.coarse.logits(jax.nn.softmax(logits.astype(jnp.float32)))


def recognise(
  arrays: Mapping[str, np.ndarray],
  outputs: str = "auto",
  several: Sequence[str] = (),
  coarse: Coarse = EXACT,
) -> Units:
  """Tells what answers are, of all models together.

  Args:
    arrays: name -> `[..., C]` of real numbers.
    outputs: one of `OUTPUTS`, to say it instead.
    several: names of arrays `[R, ..., C]`, of which each model may be of its own kind.
    coarse: how coarsely other models answer, which are not among the arrays.

  Raises:
    ValueError: a value is NaN or plus infinity, values do not fit `outputs`, or rows
      are neither all of one kind nor nearly.
  """
  _validate.known("outputs", outputs, OUTPUTS)
  kinds: dict[str, Sequence[str]] = {}
  notes: list[str] = []
  found: list[tuple[str, Coarse]] = []
  for name, array in arrays.items():
    _check(name, array)
    models = array if name in several else array[None]
    each = []
    for values in models:
      rows = values.reshape(-1, values.shape[-1])
      kind, of_one, said = _of_one(name, rows, outputs)
      each.append(kind)
      notes += said
      found.append((name, of_one))
    kinds[name] = each
  return Units(
    kinds,
    _coarsest([coarse, *(of_one for _, of_one in found)]),
    tuple(dict.fromkeys([*notes, *_said(found), *_mixed(kinds)])),
  )


def _mixed(kinds: Mapping[str, Sequence[str]]) -> list[str]:
  """What is said where models answer in other units than others, or seem to."""
  if len({kind for each in kinds.values() for kind in each}) < 2:
    return []
  each = [
    f"{name} for {' and '.join(sorted(set(of))).replace('_', '-')}"
    for name, of in kinds.items()
  ]
  return [f"answers are taken for different things: {', '.join(each)}"]


def of_one_class(
  arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns probabilities of one class of each row, all as coarse as the coarsest.

  Args:
    arrays: name -> `[...]` of one model, or of several. Those with values outside of
      [0, 1] are left as they are, to be refused where they are read.

  Returns:
    The arrays, and what is to be said.
  """
  found = [
    (name, _coarseness_of_one_class(array))
    for name, array in arrays.items()
    if _are_in_unit(array)
  ]
  coarse = _coarsest([of for _, of in found])
  if coarse.is_exact:
    return dict(arrays), []
  names = {name for name, _ in found}
  return {
    name: coarse.of_one_class(array) if name in names else array
    for name, array in arrays.items()
  }, _said(found, "a 0 counts as what that may have hidden, as what a 1 lacks does")


def _are_in_unit(array: np.ndarray) -> bool:
  if array.dtype.kind not in "fiu" or not array.size:
    return False
  return bool(((array >= 0) & (array <= 1)).all())  # False of NaN


def _coarseness_of_one_class(array: np.ndarray) -> Coarse:
  p = np.asarray(array, np.float32).reshape(-1, 1)
  if len(p) < _FEWEST_ROWS or not _between(p).any():
    return EXACT  # all are 0 or 1: the class, or a model that is sure
  found = _grid(p)
  narrow = next((n for n, of in _NARROW.items() if array.dtype == of), None)
  return _of_narrow(p, narrow or _narrow(p)) if found.is_exact else found


def two_columns(
  name: str, values: np.ndarray, outputs: str = "auto"
) -> tuple[np.ndarray, str]:
  """Returns answers of two classes that are one number each as two, and what to say.

  Args:
    name: of the array.
    values: `[...]`, logits or probabilities of class 1.
    outputs: one of `OUTPUTS`; by default numbers in [0, 1] are probabilities.

  Returns:
    `[..., 2]` of the same type of float, `(0, z)` of a logit, `(1 - p, p)` of a
    probability.

  Raises:
    ValueError: `outputs` is `log_probabilities`: that of class 0 is not to be had well;
      or by default numbers may be percentages.
  """
  if values.dtype.kind not in "fiu" and values.dtype not in _NARROW.values():
    raise ValueError(f"{name} has dtype {values.dtype}, expected real numbers")
  if outputs == "log_probabilities":
    raise ValueError(
      f"{name} has shape {values.shape}, expected log-probabilities of both classes"
    )
  is_probability = outputs == "probabilities"
  if outputs == "auto":
    is_probability = _are_probabilities(name, values)
  values = values.astype(np.float64) if values.dtype.kind in "iu" else values
  if is_probability:
    values = np.clip(values, 0, 1)
  # In their own type: float32 would lose what float64 has left of a small difference.
  other = 1 - values if is_probability else np.zeros_like(values)
  what = "probabilities" if is_probability else "logits"
  return (
    np.stack([other, values], axis=-1),
    f"{name}: one number a row is taken for {what} of class 1",
  )


def _are_probabilities(name: str, values: np.ndarray) -> bool:
  """Whether numbers of one class are probabilities; if not, they are logits."""
  if not values.size or np.isnan(values).any() or values.min() < 0:
    return False
  if values.max() > 1 + _NEAR and values.max() <= 101 and values.size >= _FEWEST_ROWS:
    raise ValueError(
      f"{name} holds {values.min():g} to {values.max():g}, none below 0, for class 1 of"
      " two: say what they are with outputs=logits, or give probabilities in [0, 1]"
    )
  return bool(values.max() <= 1 + _NEAR)


def _of_one(name: str, rows: np.ndarray, outputs: str) -> tuple[str, Coarse, list[str]]:
  """The kind of one model's answers, how coarse they are, and what is to be said."""
  narrow = next((n for n, of in _NARROW.items() if rows.dtype == of), None)
  as_given = rows
  with np.errstate(over="ignore"):
    rows = np.asarray(rows, np.float32)
  if not len(rows):
    return "logits" if outputs == "auto" else outputs, Coarse(), []
  kind, said = (outputs, []) if outputs != "auto" else _kind(name, rows)
  if kind == "logits" and outputs == "auto" and as_given.dtype.kind in "iu":
    kind, said = _kind_of_integers(name, rows)
  if kind == "probabilities" and (rows.min() < -1e-6 or rows.max() > 1 + _NEAR):
    raise ValueError(
      f"{name} holds {rows.min():g} to {rows.max():g}, expected probabilities in [0, 1]"
    )
  if kind == "log_probabilities" and rows.max() > 1e-3:
    raise ValueError(
      f"{name} holds {rows.max():g}, expected log-probabilities, at most 0"
    )
  num_masked = int(np.isneginf(rows).sum())
  if num_masked:
    said = [
      *said,
      f"{name}: {num_masked:,} values of -inf count as a probability of {_TINY:.0e}",
    ]
  coarse = Coarse()
  if kind in ("probabilities", _PERCENTAGES, _COUNTS):
    coarse = _coarseness(_shares(kind, rows), narrow)
    if coarse.is_exact or coarse == Coarse(dtype=narrow):
      coarse = dataclasses.replace(coarse, least=_least_complement(as_given))
    never = _never_given(rows)
    if len(never):
      which = ", ".join(map(str, never[:8])) + (", ..." if len(never) > 8 else "")
      said = [
        *said,
        f"{name}: {len(never):,} of {rows.shape[-1]:,} classes ({which}, counted from"
        " 0) have a probability of 0 on every row, as from a model that never saw them:"
        " there a row's loss is the largest that such answers can give. It is no cut"
        " to the largest, and no other model's answers are cut for it",
      ]
  return kind, coarse, said


def _check(name: str, array: np.ndarray) -> None:
  """Refuses what is no number; -inf is one, of a class that is ruled out."""
  if array.dtype.kind not in "fiu" and array.dtype not in _NARROW.values():
    raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    values = np.asarray(array, np.float32)
  bad = np.isnan(values) | np.isposinf(values)
  if bad.any():
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
      f"{name} holds {bad.sum()} NaN or infinite values, first at {first}"
    )
  out = np.isneginf(values).all(axis=-1)
  if out.any():
    first = tuple(int(i) for i in np.argwhere(out)[0])
    raise ValueError(f"{name} is -inf for every class, first at {first}")


def _kind(name: str, rows: np.ndarray) -> tuple[str, list[str]]:
  """What rows are, and what is to be said of it."""
  low, high, num_classes = rows.min(), rows.max(), rows.shape[-1]
  sums = rows.sum(axis=-1, dtype=np.float64)
  if low >= -1e-6 and 0 < high <= 1 + _NEAR:
    coarse = _coarseness(rows, None)
    fit = np.abs(sums - 1) <= _tolerance(coarse, num_classes)
    if coarse.top_k is not None:
      fit |= sums <= 1 + _NEAR
    return _mostly(name, "probabilities", fit, sums, "1")
  if low >= -1e-4 and 1 + _NEAR < high <= 101:
    fit = np.abs(sums - 100) <= max(0.5, 0.5 * num_classes * _step(rows))
    if fit.mean() >= 0.5:
      kind, said = _mostly(name, _PERCENTAGES, fit, sums, "100")
      return kind, [*said, f"{name} are percentages: divided by 100"]
  unit = (rows >= -1e-6).all(axis=-1) & (np.abs(sums - 1) <= _NEAR)
  if len(rows) >= _FEWEST_ROWS and unit.mean() >= 0.5:
    row = int(np.flatnonzero(~unit)[0])
    raise ValueError(
      f"{name}: {unit.sum():,} of {len(rows):,} rows are probabilities, and row {row}"
      f" is not: it holds {rows[row].min():g} to {rows[row].max():g}"
    )
  if high <= 0:
    total = np.logaddexp.reduce(rows.astype(np.float64), axis=-1)
    if (np.abs(total) <= 0.02).all():
      return "log_probabilities", []
  return "logits", []


def _kind_of_integers(name: str, rows: np.ndarray) -> tuple[str, list[str]]:
  """Whether integers are counts, whose rows have one sum; if not, they are logits."""
  low, high, sums = rows.min(), rows.max(), rows.sum(axis=-1, dtype=np.float64)
  if low < 0 or high <= 1 or len(rows) < _FEWEST_ROWS:
    return "logits", []
  if np.ptp(sums) == 0:
    return _COUNTS, [f"{name} are counts that sum to {sums[0]:.0f}: divided by it"]
  if np.ptp(sums) <= rows.shape[-1]:  # half of one, up or down, in each class
    raise ValueError(
      f"{name} holds integers from {low:.0f} to {high:.0f} whose rows sum to"
      f" {sums.min():.0f} to {sums.max():.0f}: divide them by their scale if they are"
      " probabilities of 8 bits or the like, or say outputs=logits"
    )
  return "logits", []


def _shares(kind: str, values: np.ndarray) -> np.ndarray:
  """Probabilities, percentages or counts `[..., C]` as probabilities."""
  if kind == _PERCENTAGES:
    return values / np.float32(100)
  return values / values.sum(axis=-1, keepdims=True) if kind == _COUNTS else values


def _mostly(
  name: str, kind: str, fit: np.ndarray, sums: np.ndarray, total: str
) -> tuple[str, list[str]]:
  """A kind that at least half of the rows are of, or a refusal."""
  if fit.all():
    return kind, []
  odd = sums[~fit]
  scale = float(total)
  if fit.mean() < 0.5 or odd.min() < 0.5 * scale or odd.max() > 1.5 * scale:
    raise ValueError(
      f"{name} holds values between 0 and {total}, but only {fit.sum():,} of"
      f" {len(fit):,} rows sum to {total} ({sums.min():.3g} to {sums.max():.3g}): say"
      " what they are with outputs=logits or outputs=probabilities; models of"
      " several labels a row (sigmoids) are not audited"
    )
  return kind, [
    f"{name}: {len(odd):,} of {len(fit):,} rows sum to {odd.min():.3g} to"
    f" {odd.max():.3g}, the others to {total}: all are taken for {kind}, scaled to one"
  ]


def _tolerance(coarse: Coarse, num_classes: int) -> float:
  """By how much a row of coarse probabilities may miss a sum of one."""
  if coarse.decimals is not None:
    return max(_NEAR, 0.5 * num_classes * 10.0**-coarse.decimals)
  if coarse.votes is not None and coarse.votes >= 100:  # fewer are counted, not rounded
    return max(_NEAR, 0.5 * num_classes / coarse.votes)
  return 0.01 if coarse.dtype is not None else _NEAR


def _step(rows: np.ndarray) -> float:
  """The last decimal of percentages; 0 if they are not rounded."""
  decimals = _decimals(rows / np.float32(100))
  return 0.0 if decimals is None else 100 * 10.0**-decimals


def _coarseness(p: np.ndarray, narrow: str | None) -> Coarse:
  """How coarsely probabilities `[n, C]` are given."""
  if len(p) < _FEWEST_ROWS:
    return Coarse(dtype=narrow)
  given = (p > 0).sum(axis=-1)
  top_k = int(given[0])
  is_cut = top_k < p.shape[-1] and (given == top_k).all()
  if is_cut and not len(_never_given(p)):
    sums = p.sum(axis=-1, dtype=np.float64)
    found = Coarse() if top_k == 1 else _grid(p)
    return dataclasses.replace(
      found, top_k=top_k, sums_to_one=bool((np.abs(sums - 1) <= _NEAR).all())
    )
  found = _grid(p)
  return _of_narrow(p, narrow or _narrow(p)) if found.is_exact else found


def _of_narrow(p: np.ndarray, dtype: str | None) -> Coarse:
  """How coarse probabilities of a 16-bit type are: they may be rounded votes."""
  if dtype is None:
    return EXACT
  votes = _votes(p, _OFF_NARROW[dtype])
  return Coarse(dtype=dtype) if votes is None else Coarse(votes=votes)


def _least_complement(p: np.ndarray) -> float | None:
  """What a 0 stands for where one column of `[n, 2]` is `1 - p` of the other.

  Its small values are then multiples of the step that floats have below 1: of a p that
  is nearer to 1 than that, nothing is left. None where no column is like that.
  """
  if p.shape[-1] != 2 or len(p) < _FEWEST_ROWS or p.dtype.kind in "iu":
    return None
  own = float(ml_dtypes.finfo(p.dtype).epsneg)
  steps = [float(np.finfo(np.float32).epsneg), own] if p.dtype == np.float64 else [own]
  for column in np.asarray(p, np.float64).T:
    small = column[(column > 0) & (column < 0.5)]
    for step in steps if len(small) and (column == 0).any() else ():
      if (small % step == 0).all():
        return step / 2
  return None


def _never_given(p: np.ndarray) -> np.ndarray:
  """Classes that every row gives 0 where it gives all others more: no k largest.

  None where a row gives one class alone, which tells no classes from no others.
  """
  given = p > 0
  never = ~given.any(axis=0)
  is_same = (given.sum(axis=-1) == (~never).sum()).all()
  if len(p) < _FEWEST_ROWS or not is_same or (~never).sum() < 2:
    return np.zeros(0, int)
  return np.flatnonzero(never)


def _grid(p: np.ndarray) -> Coarse:
  """What decimals or votes give every value."""
  votes, decimals = _votes(p), _decimals(p)
  if votes is not None and votes != 10 ** (decimals or 0):
    return Coarse(votes=votes)
  return Coarse(decimals=decimals)


def _decimals(p: np.ndarray) -> int | None:
  """The fewest decimals that give every value; None above `_MOST_DECIMALS`."""
  told = _between(p)
  if told.any(axis=-1).sum() < _FEWEST_ROWS and not np.isin(p[~told], (0, 1)).all():
    return None  # a model that is sure, of which a small probability tells how sure
  for decimals in range(1, _MOST_DECIMALS + 1):
    if _are_multiples(p, np.array(10**decimals), _OFF_DECIMAL).all():
      return decimals
  return None


def _votes(p: np.ndarray, off_by: float = 0.0) -> int | None:
  """The least n such that every value is a multiple of 1 / n, if rows enough say so.

  With `off_by` each may be off by that share of it, and n is as small as that takes.
  """
  told = _between(p)
  if told.any(axis=-1).sum() < _FEWEST_VOTED_ROWS:
    return None
  sample = np.unique(p[told][:256])
  most = int(_CHANCE / (2 * off_by)) if off_by else _MOST_VOTES
  candidates = np.arange(2, most + 1)
  while True:
    fits = _are_multiples(sample[:, None], candidates, _OFF_SHARE, off_by).all(axis=0)
    candidates = candidates[fits]
    if not len(candidates):
      return None
    missed = p[~_are_multiples(p, candidates[0], _OFF_SHARE, off_by)]
    if not len(missed):
      votes = int(candidates[0])
      return None if not off_by and _is_bfloat16(p, votes) else votes
    sample = np.unique(missed[:256])  # the next n is at least twice this one


def _between(p: np.ndarray) -> np.ndarray:
  """Which values are neither 0 nor 1, nor what rounding makes of them."""
  return (p > _OFF_SHARE) & (p < 1 - _OFF_SHARE)


def _is_bfloat16(p: np.ndarray, votes: int) -> bool:
  """Whether multiples are what bfloat16 makes of values near one half."""
  # It has steps of 1/256 from one half, of 1/512 from one quarter, finer ones below.
  least = np.where(_between(p), p, 1).min(axis=-1)
  few = (least < 0.25).sum() < _FEWEST_VOTED_ROWS
  return votes in (256, 512) and few and _narrow(p) == "bfloat16"


def _are_multiples(
  p: np.ndarray, n: np.ndarray, off: float, off_by: float = 0.0
) -> np.ndarray:
  """Whether values are within `off` and a share of multiples of 1 / n; broadcast."""
  scaled = p.astype(np.float64) * n
  return np.abs(scaled - np.rint(scaled)) <= off * n + off_by * scaled


def _narrow(p: np.ndarray) -> str | None:
  """The 16-bit type that holds every value; None if neither does."""
  for name, dtype in _NARROW.items():
    if (p.astype(dtype).astype(np.float32) == p).all():
      return name
  return None


def _coarsest(each: Sequence[Coarse]) -> Coarse:
  decimals = [c.decimals for c in each if c.decimals is not None]
  votes = [c.votes for c in each if c.votes is not None]
  dtypes = [c.dtype for c in each if c.dtype is not None]
  least = [c.least for c in each if c.least is not None]
  cut = [c for c in each if c.top_k is not None]
  top = min(cut, key=lambda c: c.top_k or 0) if cut else Coarse()
  return Coarse(
    decimals=min(decimals, default=None),
    votes=min(votes, default=None),
    dtype=min(dtypes, default=None),  # bfloat16 before float16
    top_k=top.top_k,
    sums_to_one=top.sums_to_one,
    least=max(least, default=None),
  )


def _said(
  found: Sequence[tuple[str, Coarse]],
  of_zeros: str = "the 0s of a row share what that may have hidden",
) -> list[str]:
  """What is said of coarse answers."""
  names = lambda has: ", ".join(dict.fromkeys(n for n, c in found if has(c)))  # noqa: E731
  coarse = _coarsest([c for _, c in found])
  said = []
  if coarse.top_k == 1:
    of = names(lambda c: c.top_k == 1)
    said.append(f"{of} give a class alone, no probabilities: all models' are cut alike")
  elif coarse.top_k is not None:
    of = names(lambda c: c.top_k is not None)
    rest = "0" if coarse.sums_to_one else "an even share of the rest"
    said.append(
      f"{of} give the {coarse.top_k} largest probabilities of a row: all models' are"
      f" cut alike, and the others count as {rest}"
    )
  if coarse.decimals is not None:
    of = names(lambda c: c.decimals is not None)
    said.append(
      f"{of} are probabilities rounded to {coarse.decimals} decimals: all models' are"
      f" rounded alike, and {of_zeros}, at most {0.5 * 10.0**-coarse.decimals:g}"
    )
  if coarse.votes is not None:
    of = names(lambda c: c.votes is not None)
    said.append(
      f"{of} are multiples of 1/{coarse.votes}, as of {coarse.votes} votes: all models'"
      f" are rounded alike, and {of_zeros}, at most half a vote"
    )
  if coarse.dtype is not None:
    of = names(lambda c: c.dtype is not None)
    said.append(f"{of} are probabilities of {coarse.dtype}: all models' are taken so")
  if coarse.least is not None:
    of = names(lambda c: c.least is not None)
    said.append(
      f"{of} give one class as 1 less the other, in which nothing is left of a small"
      f" difference: in all models a probability of less counts as {coarse.least:.1e}"
    )
  return said


def _cut(p: jax.Array, k: int, sums_to_one: bool) -> jax.Array:
  """The k largest probabilities; the others share what is left of one."""
  values, index = jax.lax.top_k(p, k)
  is_given = (index[..., None] == jnp.arange(p.shape[-1])).any(axis=-2)
  total = values.sum(axis=-1, keepdims=True)
  if sums_to_one:
    return jnp.where(is_given, p / total, 0.0)
  share = (1 - total) / (p.shape[-1] - k)
  return jnp.where(is_given, p, jnp.clip(share, 0, values[..., -1:]))


def _filled(p: jax.Array, hidden: float) -> jax.Array:
  """Probabilities whose 0s share what rounding may have hidden, evenly."""
  is_zero = p <= 0
  lost = jnp.maximum(1 - p.sum(axis=-1, keepdims=True), hidden)
  share = lost / jnp.maximum(is_zero.sum(axis=-1, keepdims=True), 1)
  return jnp.where(is_zero, jnp.minimum(share, hidden), p)


def _finite_logits(logits: np.ndarray) -> np.ndarray:
  """Logits whose -inf stand for the smallest normal float32 as a probability."""
  if not np.isneginf(logits).any():
    return logits
  total = np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return np.where(np.isneginf(logits), total + np.float32(np.log(_TINY)), logits)
