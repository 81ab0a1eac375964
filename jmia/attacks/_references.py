"""What attacks take of reference models' signals: moments and mean probabilities.

Signals are `[R, N]`, or `[R, N, Q]` where each sample is asked about in Q copies; the
masks that say which model counts for which sample are `[R, N]`. All is float64.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jmia import _validate

# Numbers held at a time in float64: bounds the memory beyond inputs and outputs to some
# 100 MB.
_BLOCK_SIZE = 2**22


class Moments(NamedTuple):
  """Of each sample's references.

  Attributes:
    number: `[N, ...]` float64, of the models; alike for all queries.
    mean: `[N, ...]` float64.
    squares: `[N, ...]` float64, the sum of squared deviations from the mean.
  """

  number: np.ndarray
  mean: np.ndarray
  squares: np.ndarray


def check(
  name: str, values: np.ndarray, references: np.ndarray, **masks: np.ndarray
) -> None:
  """Raises ValueError unless a target's and its references' signals agree.

  Args:
    name: of the signal: `values` is called so, `references` "reference_" and that.
    values: `[N]` or `[N, Q]`; finite.
    references: `[R, N]` or `[R, N, Q]`; finite where a mask is true.
    **masks: name -> `[R, N]` bool; each is true somewhere in every column.
  """
  if np.ndim(values) not in (1, 2):
    raise ValueError(f"{name} has shape {np.shape(values)}, expected (N,) or (N, Q)")
  _validate.finite(name, values)
  _validate.shape(f"reference_{name}", references, (None, *values.shape))
  counts = np.zeros(references.shape[:2], bool)
  for mask_name, mask in masks.items():
    _validate.shape(mask_name, mask, counts.shape)
    if mask.dtype != np.bool_:
      raise ValueError(f"{mask_name} has dtype {mask.dtype}, expected bool")
    lacking = np.flatnonzero(~mask.any(axis=0))
    if lacking.size:
      raise ValueError(
        f"{mask_name} is false of every model for {lacking.size} samples, first sample "
        f"{lacking[0]}"
      )
    counts |= mask
  bad = counts & ~_finite(references)
  if bad.any():
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
      f"reference_{name} holds {bad.sum()} NaN or infinite values, first at {first}"
    )


def moments(references: np.ndarray, mask: np.ndarray) -> Moments:
  """Returns number, mean and sum of squares of the references that count."""

  def of_block(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    number = np.broadcast_to(counts.sum(axis=0), values.shape[1:])
    mean = values.sum(axis=0) / number
    # From the mean, in a second pass: the difference of two sums would cancel.
    deviation = np.where(counts, values - mean, 0.0)
    return np.stack([number, mean, np.square(deviation).sum(axis=0)])

  return Moments(*_in_blocks(of_block, references, mask))


def log_mean_probability(losses: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Returns `log mean_r exp(-loss_r)` over the references that count: `[N, ...]`.

  With `m` the least loss it is `-m + log1p(mean_r expm1(m - loss_r))`. Both terms are
  at most 0 and the mean is above -1, so that neither losses near 0, whose probabilities
  are 1 in floating point, nor large ones, whose are 0, lose their relative precision.
  """

  def of_block(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    least = np.where(counts, values, np.inf).min(axis=0)
    ratio = np.where(counts, np.expm1(np.where(counts, least - values, 0.0)), 0.0)
    return (np.log1p(ratio.sum(axis=0) / counts.sum(axis=0)) - least)[np.newaxis]

  return _in_blocks(of_block, losses, mask)[0]


def sum_queries(scores: np.ndarray) -> np.ndarray:
  """Returns `[N]` of scores `[N]` or `[N, Q]`, summed over the queries."""
  return scores if scores.ndim == 1 else scores.sum(axis=1)


def mean_queries(scores: np.ndarray) -> np.ndarray:
  """Returns `[N]` of scores `[N]` or `[N, Q]`, averaged over the queries."""
  return scores if scores.ndim == 1 else scores.mean(axis=1)


def _in_blocks(
  function: Callable[[np.ndarray, np.ndarray], np.ndarray],
  references: np.ndarray,
  mask: np.ndarray,
) -> np.ndarray:
  """Applies a function of samples' references to some samples at a time.

  Args:
    function: (`[R, n, ...]` float64, 0 where no reference counts; `[R, n, ...]` bool)
      -> `[K, n, ...]`.
    references: `[R, N, ...]`.
    mask: `[R, N]`.
  """
  parts = []
  for columns in _columns(references):
    counts = mask[:, columns]
    counts = counts.reshape(counts.shape + (1,) * (references.ndim - 2))
    values = np.where(counts, references[:, columns].astype(np.float64), 0.0)
    parts.append(function(values, counts))
  return np.concatenate(parts, axis=1)


def _columns(references: np.ndarray) -> Iterator[slice]:
  num_samples = references.shape[1]
  of_sample = references.size // max(num_samples, 1)
  width = max(1, _BLOCK_SIZE // max(of_sample, 1))
  for start in range(0, max(num_samples, 1), width):
    yield slice(start, start + width)


def _finite(references: np.ndarray) -> np.ndarray:
  """`[R, N]` bool: whether all queries' answers are finite."""
  finite = np.isfinite(references)
  return finite if finite.ndim == 2 else finite.all(axis=2)
