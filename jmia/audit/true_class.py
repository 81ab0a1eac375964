"""Signals of answers that are one number a row: losses, log odds or probabilities.

Each of the three gives the other two, in float64. What no float of the given type
tells from certainty is cut: a loss of 0 to the smallest normal float32, a probability
of 0 to the same, and one of 1 to half a step below it, log odds of 17.3 in float32.
"""

from collections.abc import Mapping

import numpy as np

from jmia import _validate
from jmia.attacks import evidence as evidence_lib

# Kind, as arrays are called after it -> the signal it is.
KINDS = {
  "losses": "loss",
  "scaled_logits": "scaled_logit",
  "true_class_probabilities": "true_class_probability",
}
_TINY = float(np.finfo(np.float32).tiny)


def signals(
  name: str, values: np.ndarray, kind: str, num_axes: int
) -> Mapping[str, np.ndarray]:
  """Returns the signals of one number for each row, or each copy of it.

  Args:
    name: of the array, for errors.
    values: `[N]` or `[R, N]`; with one axis Q more, of copies, the row itself first.
    kind: one of `KINDS`.
    num_axes: 1 or 2, those before the copies.

  Returns:
    `loss`, `scaled_logit` and `true_class_probability` -> float32 of the shape of
    `values` without Q; with it also `NAME@queries`.

  Raises:
    ValueError: if values are no real numbers, not finite, or none of their kind.
  """
  if values.dtype.kind not in "fiu":
    raise ValueError(f"{name} has dtype {values.dtype}, expected real numbers")
  _validate.finite(name, values)
  lowest, highest = values.min(initial=0), values.max(initial=0)
  if kind == "losses" and lowest < 0:
    raise ValueError(f"{name} holds a loss of {lowest:g}, expected at least 0")
  if kind == "true_class_probabilities" and (lowest < 0 or highest > 1):
    outside = lowest if lowest < 0 else highest
    raise ValueError(f"{name} holds {outside:g}, expected probabilities in [0, 1]")
  has_copies = values.ndim > num_axes
  suffix = evidence_lib.QUERIES if has_copies else ""
  names = {
    evidence_lib.on_copies(plain, suffix) if has_copies else plain: plain
    for plain in KINDS.values()
  }

  def compute(wanted: str) -> np.ndarray:
    to = names[wanted]
    if KINDS[kind] == to:
      return values.astype(np.float32)
    if num_axes == 1:
      return _convert(values, KINDS[kind], to)
    # One model at a time, to bound the memory of float64.
    return np.stack([_convert(of_model, KINDS[kind], to) for of_model in values])

  found = evidence_lib.Lazy(names, compute)
  return evidence_lib.with_plain(found, num_axes) if has_copies else found


def _convert(values: np.ndarray, of: str, to: str) -> np.ndarray:
  """One signal from another, float32."""
  if of == "true_class_probability":
    step = np.finfo(values.dtype if values.dtype.kind == "f" else np.float32).epsneg
    p = np.maximum(values.astype(np.float64), _TINY)
    losses = np.maximum(-np.log(p), float(step) / 2)
  elif of == "loss":
    losses = np.maximum(values.astype(np.float64), _TINY)
  else:
    # log(1 + exp(-phi)), without overflow.
    losses = np.logaddexp(0, -values.astype(np.float64))
  if to == "true_class_probability":
    found = np.exp(-losses)
  elif to == "loss":
    found = losses
  else:
    found = scaled_logits(losses)
  return found.astype(np.float32)


def scaled_logits(losses: np.ndarray) -> np.ndarray:
  """Returns `-log(expm1(loss))` of losses `[...]` above 0, float64, without overflow.

  Above log 2 it is `-loss - log1p(-exp(-loss))`, whose last term is small; below,
  `expm1` itself keeps every digit.
  """
  small = np.minimum(losses, 1)
  large = np.maximum(losses, np.log(2))
  above = -large - np.log1p(-np.exp(-large))
  return np.where(losses > np.log(2), above, -np.log(np.expm1(small)))
