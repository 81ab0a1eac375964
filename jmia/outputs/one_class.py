"""Answers that are one number a row: of one class of two, or of a row's own class."""

from collections.abc import Mapping

import numpy as np

from jmia.outputs import coarse as coarse_lib
from jmia.outputs import coarseness, words
from jmia.outputs.coarse import is_real
from jmia.outputs.coarseness import FEWEST_ROWS, NEAR


def two_columns(
  name: str, values: np.ndarray, outputs: str = "auto"
) -> tuple[np.ndarray, str]:
  """Returns answers of two classes that are one number each as two, and what to say.

  Args:
    name: of the array.
    values: `[...]`, logits or probabilities of class 1.
    outputs: one of `kinds.OUTPUTS`; by default numbers in [0, 1] are probabilities.

  Returns:
    `[..., 2]` of the same type of float, `(0, z)` of a logit, `(1 - p, p)` of a
    probability.

  Raises:
    ValueError: `outputs` is `log_probabilities`: that of class 0 is not to be had well;
      or by default numbers may be percentages.
  """
  if not is_real(values.dtype):
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


def as_coarse(
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
    (name, coarseness.of_one_class(array))
    for name, array in arrays.items()
    if _are_in_unit(array)
  ]
  coarse = coarse_lib.coarsest([of for _, of in found])
  if coarse.is_exact:
    return dict(arrays), []
  names = {name for name, _ in found}
  return {
    name: coarse.of_one_class(array) if name in names else array
    for name, array in arrays.items()
  }, words.of(found, "a 0 counts as what that may have hidden, as what a 1 lacks does")


def _are_in_unit(array: np.ndarray) -> bool:
  if array.dtype.kind not in "fiu" or not array.size:
    return False
  return bool(((array >= 0) & (array <= 1)).all())  # False of NaN


def _are_probabilities(name: str, values: np.ndarray) -> bool:
  """Whether numbers of one class are probabilities; if not, they are logits."""
  if not values.size or np.isnan(values).any() or values.min() < 0:
    return False
  if values.max() > 1 + NEAR and values.max() <= 101 and values.size >= FEWEST_ROWS:
    raise ValueError(
      f"{name} holds {values.min():g} to {values.max():g}, none below 0, for class 1 of"
      " two: say what they are with outputs=logits, or give probabilities in [0, 1]"
    )
  return bool(values.max() <= 1 + NEAR)
