"""Asking models: a black box on the host, many models at once on a device."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, signals
from jmia.attacks.evidence import DIVERGENCE, LOGITS
from jmia.training import recipe as recipe_lib

_TARGET_BATCH = 1024  # rows that a target is asked about at once


def ask(
  predict: Callable[[np.ndarray], Any], x: np.ndarray, num_classes: int
) -> np.ndarray:
  """Returns a target's logits on all rows.

  Args:
    predict: features `[B, ...]` -> logits or probabilities `[B, C]`.
    x: `[n, ...]` features.
    num_classes: `C`.

  Returns:
    `[n, C]` float32.

  Raises:
    ValueError: if an answer is of another shape or not finite.
  """
  answers = []
  for start in range(0, len(x), _TARGET_BATCH):
    batch = x[start : start + _TARGET_BATCH]
    answers.append(np.asarray(predict(batch)))
    _validate.shape("predict(x)", answers[-1], (len(batch), num_classes))
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    answer = np.concatenate(answers).astype(np.float32)
  _validate.finite("predict(x)", answer)
  return as_logits(answer)


def as_logits(predictions: np.ndarray) -> np.ndarray:
  """Returns a black box's answers as logits; probabilities become their logarithms.

  Rows that are nowhere negative and all sum to one are taken for probabilities. A
  probability of 0 becomes the smallest normal float32, a loss of 87.3.

  Args:
    predictions: `[..., C]` finite logits or probabilities.
  """
  predictions = np.asarray(predictions, np.float32)
  sums = predictions.sum(axis=-1, dtype=np.float64)
  if predictions.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
    return np.log(np.maximum(predictions, np.finfo(np.float32).tiny))
  return predictions


def signals_of(
  answer: Callable[[jax.Array], jax.Array],
  data: Any,
  rows: Any,
  names: Sequence[str],
  batch_size: int,
) -> dict[str, jax.Array]:
  """Returns a model's named signals on rows of the data; traceable.

  Args:
    answer: `x [B, ...]` as stored -> logits `[B, C]`.
    data: as `recipe.Data`; with `teacher_logits [T, n, C]` for the divergence.
    rows: `[n]` int.
    names: of signals, `logits` and `divergence` among them.
    batch_size: rows predicted at once.

  Returns:
    name -> `[n, ...]` float32; of the divergence `[T, n]`, from each target.
  """
  plain = [name for name in names if name not in (LOGITS, DIVERGENCE)]
  found = {}
  if plain and len(rows):
    found = signals.stream(
      answer, data.x, data.y, names=plain, batch_size=batch_size, rows=rows
    )
  if len(plain) < len(names) and len(rows):
    logits = recipe_lib.answers(
      lambda _, x: answer(x), None, data.x, rows, batch_size=batch_size
    )
    if LOGITS in names:
      found[LOGITS] = logits
    if DIVERGENCE in names:
      targets = jnp.asarray(data.teacher_logits)[:, rows]
      found[DIVERGENCE] = jax.vmap(signals.divergence, (0, None))(targets, logits)
  return found
