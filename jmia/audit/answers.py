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
from jmia.datasets import arrays
from jmia.outputs import coarse as coarse_lib
from jmia.outputs import one_class, units
from jmia.training import recipe as recipe_lib

_NAME = "predict(x)"  # of a target's answers, for errors
_TARGET_BATCH = 1024  # rows that a target is asked about at once
# By how much a probability may differ where it is asked for again: kernels of another
# batch size, in 16 bits, round otherwise.
_SAME = 0.02


def ask(
  predict: Callable[[np.ndarray], Any],
  x: np.ndarray,
  num_classes: int,
  rows: slice = slice(None),
  alter: Callable[[Any, Any], Any] | None = None,
  *,
  outputs: str = "auto",
  told: units.Units | None = None,
  coarse: coarse_lib.Coarse = coarse_lib.EXACT,
  again: int = 0,
) -> tuple[np.ndarray, units.Units]:
  """Returns a target's logits on all rows, or some, and what its answers were.

  Args:
    predict: features `[B, ...]` -> logits or probabilities `[B, C]`; of two classes
      also `[B]` or `[B, 1]`, of class 1; of more, integers `[B]` are classes alone.
    x: `[n, ...]` features.
    num_classes: `C`.
    rows: which of them, one after another.
    alter: (features `[B, ...]`, their rows `[B]`) -> features asked about instead.
    outputs: one of `kinds.OUTPUTS`.
    told: what its answers were before, so that they are taken alike; found from these
      by default.
    coarse: how coarsely other models answer.
    again: of how many of the first rows a black box is asked once more, by themselves:
      whether it answers them alike stands in the notes.

  Returns:
    `[n, C]` float32, and `told`.

  Raises:
    ValueError: if an answer is no array, of another shape, NaN or infinite, or no
      answer that `units.recognise` can tell.
  """
  answers = []
  first, last, _ = rows.indices(len(x))
  for start in range(first, last, _TARGET_BATCH):
    stop = min(start + _TARGET_BATCH, last)
    batch = x[start:stop]
    if alter is not None:
      batch = np.asarray(alter(batch, np.arange(start, stop)))
    answers.append(_columns(_array(predict(batch)), len(batch), num_classes, outputs))
  values = np.concatenate(answers)
  is_one = values.ndim == 1
  if is_one:
    # Some rows do not tell again what all of them told.
    kind = outputs if told is None else told.kinds[_NAME][0]
    values, note = one_class.two_columns(_NAME, values, kind)
  if told is None:
    told = units.recognise({_NAME: values}, outputs, coarse=coarse)
    told = told._replace(notes=(note, *told.notes)) if is_one else told
  logits = told.logits(_NAME, values)
  if again:
    once_more = _array(predict(x[first : first + again]))
    notes = _unlike(once_more, logits[:again], told)
    told = told._replace(notes=(*told.notes, *notes))
  return logits, told


def _array(answer: Any) -> np.ndarray:
  """An answer as an array, of whatever package."""
  try:
    array = np.asarray(arrays.on_host(answer))
  except (TypeError, ValueError, RuntimeError) as error:  # ragged, or on a device
    raise ValueError(_no_array(answer)) from error
  if array.dtype == object:
    raise ValueError(_no_array(answer))
  return array


def _no_array(answer: Any) -> str:
  return (
    f"{_NAME} is a {type(answer).__name__}, expected an array of logits or"
    " probabilities [B, C] alone: jmia.adapters takes them out of what a model returns"
  )


def _columns(
  answer: np.ndarray, num_rows: int, num_classes: int, outputs: str = "auto"
) -> np.ndarray:
  """An answer `[B, C]`, of classes alone too, or `[B]` of two classes in one number."""
  if num_classes == 2 and answer.shape in ((num_rows,), (num_rows, 1)):
    return answer.reshape(num_rows)
  is_one = answer.shape in ((num_rows,), (num_rows, 1))
  if is_one and outputs in ("auto", "probabilities"):
    return _one_hot(answer.reshape(num_rows), num_classes)
  _validate.shape(_NAME, answer, (num_rows, num_classes))
  return answer


def _one_hot(classes: np.ndarray, num_classes: int) -> np.ndarray:
  """Classes `[B]` as sure answers `[B, C]`; ValueError where they are none."""
  if classes.dtype.kind not in "iu":
    raise ValueError(
      f"{_NAME} has shape {classes.shape} and dtype {classes.dtype}, expected logits or"
      f" probabilities [B, {num_classes}], or the class of each row as an integer"
    )
  _validate.labels(_NAME, classes, num_classes)
  return np.eye(num_classes, dtype=np.float32)[classes]


def _unlike(
  answer: np.ndarray, logits: np.ndarray, told: units.Units
) -> tuple[str, ...]:
  """What is said where rows `[n, C]` are answered otherwise by themselves."""
  number, num_classes = logits.shape
  if len(answer) != number:  # answers that were saved, of all rows whatever is asked
    return ()
  values = _columns(answer, number, num_classes)
  if values.ndim == 1:
    values, _ = one_class.two_columns(_NAME, values, told.kinds[_NAME][0])
  found = jax.nn.softmax(told.logits(_NAME, values)) - jax.nn.softmax(logits)
  off = np.abs(np.asarray(found)).max(axis=1)
  if (off <= _SAME).all():
    return ()
  return (
    f"{_NAME} answers {(off > _SAME).sum()} of {number} rows otherwise when it is asked"
    f" about them once more, by up to {off.max():.2g} in a probability: is dropout on,"
    " or batch normalisation in training mode? Figures are of one answer a row",
  )


def on_copies(
  predict: Callable[[np.ndarray], Any],
  x: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  rows: slice,
  names: Sequence[str],
  copies: Mapping[str, copies_lib.Copies],
  told: units.Units,
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
    told: what its answers are, as `ask` found.

  Returns:
    name -> `[n', Q]` float32.
  """
  found = {}
  for kind, of in copies.items():
    wanted = copies_lib.of_kind(names, kind)
    each = []
    for number in range(of.number if wanted else 0):
      logits, _ = ask(predict, x, num_classes, rows, of.of(number), told=told)
      one = evidence_lib.of_logits(logits, labels[rows])
      each.append([one[name] for name in wanted])
    for name, columns in zip(wanted, zip(*each, strict=True), strict=True):
      found[evidence_lib.on_copies(name, kind)] = np.stack(columns, axis=1)
  return found


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
