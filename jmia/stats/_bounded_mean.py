"""Bounds of the mean of a bounded quantity that assume nothing of its distribution.

Gaffke's lower bound of the mean of `m` values that are at least `a`: one value more, at
`a`, stands for what was not seen, and the values have the weights of a flat Dirichlet;
the bound is the quantile of the weighted mean. For zeros and ones it is Clopper and
Pearson's, and for many values of a continuous quantity that of the normal law: so it is
wide just where few of the values decide the mean, or where rare ones may not have been
seen at all. That it never misses more often than it says is proven for zeros and ones,
and conjectured otherwise (Gaffke 2005; Learned-Miller & Thomas 2019).

The quantile is that of Pearson's type III (a shifted gamma) with the weighted mean's
own first three moments, which are known: exact where one value decides, and at a normal
law.

Of two samples' independent means the distances of the bounds are joined as the sides of
a right angle (Zou & Donner 2008).
"""

from collections.abc import Sequence

import numpy as np


def lower(
  values: np.ndarray, mask: np.ndarray, least: float, tail: float
) -> np.ndarray:
  """Returns the lower bounds of the means along the last axis, `[...]` float64.

  Args:
    values: `[..., N]`, of no meaning where `mask` is false.
    mask: `[..., N]` bool, which are values; their number is `m`.
    least: `a`, below which no value can lie.
    tail: how often the mean may lie below.
  """
  from scipy import special

  num = mask.sum(axis=-1) + 1
  mean = (np.sum(values, axis=-1, where=mask) + least) / num
  off = np.where(mask, values - mean[..., None], 0)
  unseen = least - mean
  second = (np.square(off).sum(axis=-1) + unseen**2) / num
  third = ((off * np.square(off)).sum(axis=-1) + unseen**3) / num
  # Central moments of a flat Dirichlet's weighted mean.
  variance = second / (num + 1)
  with np.errstate(divide="ignore", invalid="ignore"):
    skewness = 2 * third / ((num + 1) * (num + 2)) / variance**1.5
    below = _quantile(-skewness, 1 - tail, special) * np.sqrt(variance)
  return np.where(variance > 0, np.maximum(mean - below, least), least)


def upper(values: np.ndarray, mask: np.ndarray, most: float, tail: float) -> np.ndarray:
  """Returns the upper bounds: as `lower`, of values that are at most `most`."""
  return -lower(-values, mask, -most, tail)


def joined(
  value: np.ndarray,
  samples: Sequence[tuple[np.ndarray, np.ndarray]],
  span: tuple[float, float],
  tail: float,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both bounds of a quantity that is the mean over either of two samples.

  Args:
    value: `[...]`, the mean over each.
    samples: of each its values and their mask, as of `lower`.
    span: the least and the most that a value can be.
    tail: how often it may lie below the one, and above the other.
  """
  below = [value - lower(*of, span[0], tail) for of in samples]
  above = [upper(*of, span[1], tail) - value for of in samples]
  low = value - np.hypot(*np.maximum(0, below))
  high = value + np.hypot(*np.maximum(0, above))
  return np.maximum(low, span[0]), np.minimum(high, span[1])


def _quantile(skewness: np.ndarray, level: float, special) -> np.ndarray:
  """Of Pearson's type III of mean 0 and variance 1; skewness below 0 counts as 0."""
  skewness = np.maximum(skewness, 1e-5)  # a gamma that is a normal law to six digits
  shape = 4 / skewness**2
  return (special.gammaincinv(shape, level) - shape) / np.sqrt(shape)
