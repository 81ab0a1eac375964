"""Many tests at once: p-values adjusted so that one level holds for all of them.

An adjusted p-value is the least level at which the procedure rejects that hypothesis:
reject where it is at most the level.
"""

import numpy as np


def holm(p_values: np.ndarray, *, axis: int = -1) -> np.ndarray:
  """Adjusts for the family-wise error: the chance of any false rejection.

  With n p-values in ascending order `p_1 .. p_n`, the k-th is adjusted to
  `max over j <= k of min(1, (n - j + 1) p_j)`. Valid however the tests depend on one
  another.

  Args:
    p_values: `[...]` in [0, 1].
    axis: the axis of the tests that form one family.

  Returns:
    Adjusted p-values, float64 of the same shape.

  Raises:
    ValueError: a p-value is NaN or outside [0, 1], or there is no such axis.

  Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
  """
  ordered, order = _ascending(p_values, axis)
  count = ordered.shape[-1]
  scaled = np.minimum(ordered * (count - np.arange(count)), 1)
  return _restore(np.maximum.accumulate(scaled, axis=-1), order, axis)


def benjamini_hochberg(p_values: np.ndarray, *, axis: int = -1) -> np.ndarray:
  """Adjusts for the false discovery rate: the expected share of false rejections.

  With n p-values in ascending order `p_1 .. p_n`, the k-th is adjusted to
  `min over j >= k of min(1, n p_j / j)`. Valid for tests that are independent or
  positively dependent (Benjamini & Yekutieli 2001).

  Args:
    p_values: `[...]` in [0, 1].
    axis: the axis of the tests that form one family.

  Returns:
    Adjusted p-values, float64 of the same shape.

  Raises:
    ValueError: a p-value is NaN or outside [0, 1], or there is no such axis.

  Source: Benjamini & Hochberg, "Controlling the False Discovery Rate" (1995).
  """
  ordered, order = _ascending(p_values, axis)
  count = ordered.shape[-1]
  scaled = np.minimum(ordered * count / np.arange(1, count + 1), 1)
  least = np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
  return _restore(least, order, axis)


def _ascending(p_values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
  """The p-values sorted along their last axis, to which `axis` is moved; the order."""
  p_values = np.asarray(p_values, np.float64)
  if not -p_values.ndim <= axis < p_values.ndim:
    raise ValueError(f"axis={axis} is none of p_values of shape {p_values.shape}")
  inside = (p_values >= 0) & (p_values <= 1)
  if not inside.all():
    raise ValueError(f"p_values holds {p_values[~inside][0]}, expected [0, 1]")
  p_values = np.moveaxis(p_values, axis, -1)
  order = np.argsort(p_values, axis=-1)
  return np.take_along_axis(p_values, order, axis=-1), order


def _restore(ordered: np.ndarray, order: np.ndarray, axis: int) -> np.ndarray:
  restored = np.empty_like(ordered)
  np.put_along_axis(restored, order, ordered, axis=-1)
  return np.moveaxis(restored, -1, axis)
