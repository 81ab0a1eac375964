"""Asking models: a black box on the host, many models at once on a device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, signals
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import DIVERGENCE, LOGITS
from jmia.audit import copies as copies_lib
from jmia.training import recipe as recipe_lib

_TARGET_BATCH = 1024  # rows that a target is asked about at once


def ask(
  predict: Callable[[np.ndarray], Any],
  x: np.ndarray,
  num_classes: int,
  rows: slice = slice(None),
  alter: Callable[[Any, Any], Any] | None = None,
) -> np.ndarray:
  """Returns a target's logits on all rows, or some.

  Args:
    predict: features `[B, ...]` -> logits or probabilities `[B, C]`.
    x: `[n, ...]` features.
    num_classes: `C`.
    rows: which of them, one after another.
    alter: (features `[B, ...]`, their rows `[B]`) -> features asked about instead.

  Returns:
    `[n, C]` float32.

  Raises:
    ValueError: if an answer is of another shape or not finite.
  """
  answers = []
  first, last, _ = rows.indices(len(x))
  for start in range(first, last, _TARGET_BATCH):
    stop = min(start + _TARGET_BATCH, last)
    batch = x[start:stop]
    if alter is not None:
      batch = np.asarray(alter(batch, np.arange(start, stop)))
    answers.append(np.asarray(predict(batch)))
    _validate.shape("predict(x)", answers[-1], (len(batch), num_classes))
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    answer = np.concatenate(answers).astype(np.float32)
  _validate.finite("predict(x)", answer)
  return as_logits(answer)


def on_copies(
  predict: Callable[[np.ndarray], Any],
  x: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  rows: slice,
  names: Sequence[str],
  copies: Mapping[str, copies_lib.Copies],
) -> dict[str, np.ndarray]:
  """Returns a target's signals on altered copies of rows, one copy at a time.

  Args:
    predict: as in `ask`, like what follows.
    x: `[n, ...]`.
    labels: `[n]`.
    num_classes: `C`.
    rows: `[n']` of them.
    names: of signals; those that are of no copies are left out.
    copies: kind -> copies.

  Returns:
    name -> `[n', Q]` float32.
  """
  found = {}
  for kind, of in copies.items():
    wanted = copies_lib.of_kind(names, kind)
    each = []
    for number in range(of.number if wanted else 0):
      logits = ask(predict, x, num_classes, rows, of.of(number))
      one = evidence_lib.of_logits(logits, labels[rows])
      each.append([one[name] for name in wanted])
    for name, arrays in zip(wanted, zip(*each, strict=True), strict=True):
      found[evidence_lib.on_copies(name, kind)] = np.stack(arrays, axis=1)
  return found


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
  copies: Mapping[str, copies_lib.Copies],
) -> dict[str, jax.Array]:
  """Returns a model's named signals on rows of the data; traceable.

  Args:
    answer: `x [B, ...]` as stored -> logits `[B, C]`.
    data: as `recipe.Data`; with `teacher_logits [T, n, C]` for the divergence.
    rows: `[n]` int.
    names: of signals, `logits` and `divergence` among them.
    batch_size: rows predicted at once.
    copies: kind -> altered copies, one of which is asked about at a time.

  Returns:
    name -> `[n, ...]` float32; of copies `[n, Q]`, of the divergence `[T, n]`, from
    each target.
  """
  found: dict[str, jax.Array] = {}
  for kind, of in copies.items():
    wanted = copies_lib.of_kind(names, kind)
    if wanted and len(rows):
      found |= _on_copies(answer, data, rows, wanted, batch_size, kind, of)
  names = [name for name in names if evidence_lib.parse(name)[1] is None]
  plain = [name for name in names if name not in (LOGITS, DIVERGENCE)]
  if plain and len(rows):
    found |= signals.stream(
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


def _on_copies(answer, data, rows, names, batch_size, kind, of) -> dict[str, jax.Array]:
  """A model's signals on copies, `[n, Q]`."""

  def one(parameters: Any) -> dict[str, jax.Array]:
    return signals.stream(
      answer,
      data.x,
      data.y,
      names=names,
      batch_size=batch_size,
      rows=rows,
      alter=lambda x, at: of.alter(x, at, parameters),
    )

  found = jax.lax.map(one, of.parameters)
  return {evidence_lib.on_copies(name, kind): v.T for name, v in found.items()}
