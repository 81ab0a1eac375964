"""How coarsely probabilities are given, told from their values.

Rounded to a few decimals, shares of n votes, in a 16-bit type, or the k largest alone.
"""

from collections.abc import Mapping
import dataclasses

import ml_dtypes
import numpy as np

from jmia.outputs.coarse import EXACT, NARROW, Coarse

FEWEST_ROWS = 8  # that are to show a pattern before it is believed
_FEWEST_VOTED_ROWS = 32  # that fewer votes would explain them must not be chance
_MOST_DECIMALS = 4  # more tell as much as float32
_MOST_VOTES = 1000
# By how much a decimal may be missed, in float32 or as one less another, and a share of
# votes, which may have been added up.
_OFF_DECIMAL, _OFF_SHARE = 1.2e-7, 1e-6
# By what share of itself a number of a 16-bit type is rounded at most.
_OFF_NARROW: Mapping[str, float] = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
_CHANCE = 0.1  # that any one number is as near to a multiple of 1 / n
NEAR = 1e-3  # of a sum to one, where answers are not coarse


def of(p: np.ndarray, narrow: str | None = None) -> Coarse:
  """Returns how coarsely probabilities `[n, C]` float32 are given.

  Args:
    p: of one model, in [0, 1].
    narrow: the 16-bit type that they came in, of `narrow_dtype`.
  """
  if len(p) < FEWEST_ROWS:
    return Coarse(dtype=narrow)
  given = (p > 0).sum(axis=-1)
  top_k = int(given[0])
  is_cut = top_k < p.shape[-1] and (given == top_k).all()
  if is_cut and not len(never_given(p)):
    sums = p.sum(axis=-1, dtype=np.float64)
    found = Coarse() if top_k == 1 else _grid(p)
    return dataclasses.replace(
      found, top_k=top_k, sums_to_one=bool((np.abs(sums - 1) <= NEAR).all())
    )
  found = _grid(p)
  return _of_narrow(p, narrow or _narrow_by_values(p)) if found.is_exact else found


def of_one_class(array: np.ndarray) -> Coarse:
  """Returns how coarsely probabilities `[...]` of one class of each row are given."""
  p = np.asarray(array, np.float32).reshape(-1, 1)
  if len(p) < FEWEST_ROWS or not _between(p).any():
    return EXACT  # all are 0 or 1: the class, or a model that is sure
  found = _grid(p)
  if not found.is_exact:
    return found
  return _of_narrow(p, narrow_dtype(array) or _narrow_by_values(p))


def narrow_dtype(array: np.ndarray) -> str | None:
  """Returns the name of the 16-bit type of an array `[...]`; None of any other."""
  return next((name for name, of in NARROW.items() if array.dtype == of), None)


def least_complement(p: np.ndarray) -> float | None:
  """Returns what a 0 stands for where one column of `[n, 2]` is `1 - p` of the other.

  Its small values are then multiples of the step that floats have below 1: of a p that
  is nearer to 1 than that, nothing is left. None where no column is like that.
  """
  if p.shape[-1] != 2 or len(p) < FEWEST_ROWS or p.dtype.kind in "iu":
    return None
  own = float(ml_dtypes.finfo(p.dtype).epsneg)
  steps = [float(np.finfo(np.float32).epsneg), own] if p.dtype == np.float64 else [own]
  for column in np.asarray(p, np.float64).T:
    small = column[(column > 0) & (column < 0.5)]
    for step in steps if len(small) and (column == 0).any() else ():
      if (small % step == 0).all():
        return step / 2
  return None


def never_given(p: np.ndarray) -> np.ndarray:
  """Returns classes that every row of `[n, C]` gives 0 where it gives all others more.

  They are no cut to the k largest. None where a row gives one class alone: that tells
  no classes from no others.
  """
  given = p > 0
  never = ~given.any(axis=0)
  is_same = (given.sum(axis=-1) == (~never).sum()).all()
  if len(p) < FEWEST_ROWS or not is_same or (~never).sum() < 2:
    return np.zeros(0, int)
  return np.flatnonzero(never)


def decimals_of(p: np.ndarray) -> int | None:
  """Returns the fewest decimals that give all of `[n, C]`; None above 4."""
  told = _between(p)
  if told.any(axis=-1).sum() < FEWEST_ROWS and not np.isin(p[~told], (0, 1)).all():
    return None  # a model that is sure, of which a small probability tells how sure
  for decimals in range(1, _MOST_DECIMALS + 1):
    if _are_multiples(p, np.array(10**decimals), _OFF_DECIMAL).all():
      return decimals
  return None


def _narrow_by_values(p: np.ndarray) -> str | None:
  """The 16-bit type that holds every value; None if neither does."""
  for name, dtype in NARROW.items():
    if (p.astype(dtype).astype(np.float32) == p).all():
      return name
  return None


def _of_narrow(p: np.ndarray, dtype: str | None) -> Coarse:
  """How coarse probabilities of a 16-bit type are: they may be rounded votes."""
  if dtype is None:
    return EXACT
  votes = _votes(p, _OFF_NARROW[dtype])
  return Coarse(dtype=dtype) if votes is None else Coarse(votes=votes)


def _grid(p: np.ndarray) -> Coarse:
  """What decimals or votes give every value."""
  votes, decimals = _votes(p), decimals_of(p)
  if votes is not None and votes != 10 ** (decimals or 0):
    return Coarse(votes=votes)
  return Coarse(decimals=decimals)


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
  return votes in (256, 512) and few and _narrow_by_values(p) == "bfloat16"


def _are_multiples(
  p: np.ndarray, n: np.ndarray, off: float, off_by: float = 0.0
) -> np.ndarray:
  """Whether values are within `off` and a share of multiples of 1 / n; broadcast."""
  scaled = p.astype(np.float64) * n
  return np.abs(scaled - np.rint(scaled)) <= off * n + off_by * scaled
