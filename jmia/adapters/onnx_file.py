"""An ONNX file as a black box, by onnxruntime."""

from collections.abc import Callable, Sequence
import os
import pathlib
from typing import Any

import numpy as np

from jmia import types
from jmia.adapters import _classes

Prepare = Callable[[np.ndarray], Any]

_TYPES = {
  "tensor(float)": np.float32,
  "tensor(double)": np.float64,
  "tensor(float16)": np.float16,
  "tensor(uint8)": np.uint8,
  "tensor(int64)": np.int64,
  "tensor(int32)": np.int32,
  "tensor(bool)": np.bool_,
}
# Rows of the dataset that tell which column is which class, where labels say it.
_ROWS, _BATCH = 10_000, 1_000


def from_onnx(
  path: str | os.PathLike[str],
  dataset: types.Dataset,
  *,
  prepare: Prepare | None = None,
  output: str | None = None,
  classes: Sequence[Any] | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns `predict` of an ONNX model with one input.

  Args:
    path: of the file.
    dataset: what is audited.
    prepare: rows as the audit has them -> an array. Default: the values as they are,
      flattened if the model takes `[B, F]`, in the type of its input.
    output: the name of the output with logits or probabilities. Default: the one of
      floats, or of class -> probability as exporters of scikit-learn write it.
    classes: the class of each column of that output, by the dataset's names or numbers;
      not asked where the output names them. Default: of a model that gives labels
      besides, the label of the rows on which a column is the largest, found by asking
      about the dataset's rows, up to 10,000; else the dataset's, in its order.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no ONNX model, has several inputs, no output or several could be
      meant, or the labels that it gives do not say which column is which class and
      contradict the dataset's order.
    ImportError: onnxruntime is not installed.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file, expected an ONNX model")
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError(f"{path} is asked by onnxruntime; pip install it") from error
  try:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
  except Exception as error:  # its own types, which it does not document
    cause = str(error).strip().splitlines()
    raise ValueError(f"{path}: no ONNX model: {cause[0] if cause else '-'}") from error
  if len(session.get_inputs()) != 1:
    names = [one.name for one in session.get_inputs()]
    raise ValueError(f"{path}: takes {names}, expected one input")
  (given,) = session.get_inputs()
  name = _output(path, session, output)
  fixed = given.shape[0] if given.shape and isinstance(given.shape[0], int) else None

  def ask(x: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """What each output holds, part by part: the last may have rows too many."""
    parts = _batches(_rows(x, given, prepare), fixed)
    return [session.run([*names], {given.name: part}) for part in parts]

  at = None
  if classes is not None:
    at = _classes.columns(classes, dataset)
  elif (labels := _labels(session)) is not None:
    at = _by_labels(path, lambda x: ask(x, (name, labels)), dataset)

  def predict(x: np.ndarray) -> np.ndarray:
    parts = [_answer(found, dataset, at) for (found,) in ask(x, (name,))]
    return np.concatenate(parts)[: len(x)]

  return predict


def _output(path: pathlib.Path, session: Any, name: str | None) -> str:
  """The name of the output to ask for."""
  outputs = {one.name: one.type for one in session.get_outputs()}
  if name is None:
    # Labels are integers or text.
    floats = [n for n, kind in outputs.items() if "float" in kind or "double" in kind]
    if len(floats) != 1:
      raise ValueError(
        f"{path}: gives {outputs}, expected one output of floats; say which by `output`"
      )
    return floats[0]
  if name not in outputs:
    raise ValueError(f"{path}: gives {[*outputs]}, not output={name!r}")
  return name


def _labels(session: Any) -> str | None:
  """The name of the output of labels, if there is one: a class of each row."""
  found = [
    one.name
    for one in session.get_outputs()
    if one.type in ("tensor(int64)", "tensor(int32)", "tensor(string)")
    and len(one.shape or ()) == 1
  ]
  return found[0] if len(found) == 1 else None


def _by_labels(
  path: pathlib.Path,
  ask: Callable[[np.ndarray], list[list[Any]]],
  dataset: types.Dataset,
) -> np.ndarray | None:
  """`[K]` classes of the columns, by which of them is largest where a label is given.

  None if the columns name their classes themselves, or are one.
  """
  rows = dataset.x if dataset.given is None else dataset.given
  rows = rows[np.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).astype(int)]
  largest: list[np.ndarray] = []
  labels: list[np.ndarray] = []
  num_columns = 0
  for start in range(0, len(rows), _BATCH):
    for answers, given in ask(rows[start : start + _BATCH]):
      if not isinstance(answers, np.ndarray) or answers.ndim != 2:
        return None
      num_columns = answers.shape[1]
      is_clear = (answers == answers.max(axis=1, keepdims=True)).sum(axis=1) == 1
      largest.append(answers.argmax(axis=1)[is_clear])
      labels.append(np.asarray(given)[is_clear])
  if num_columns < 2:
    return None
  return _matched(
    path, np.concatenate(largest), np.concatenate(labels), num_columns, dataset
  )


def _matched(
  path: pathlib.Path,
  largest: np.ndarray,
  labels: np.ndarray,
  num_columns: int,
  dataset: types.Dataset,
) -> np.ndarray | None:
  """`[K]` the class of each column: the label of most rows where it is the largest.

  A few rows may have another label, of exporters that decide by other numbers than the
  ones they give.
  """
  order = range(dataset.num_classes)
  try:
    names, which = np.unique(labels, return_inverse=True)
    counts = np.zeros((num_columns, len(names)), int)
    np.add.at(counts, (largest, which), 1)
    seen = np.flatnonzero(counts.any(axis=1))
    of_seen = _classes.columns([names[k] for k in counts[seen].argmax(1)], dataset)
  except ValueError as error:
    raise ValueError(
      f"{path}: which column is which class? {error}; or give `classes`"
    ) from error
  if len(seen) == num_columns:
    return of_seen
  if num_columns == len(order) and (of_seen == seen).all():
    return None
  raise ValueError(
    f"{path}: its labels contradict the dataset's order of classes, and no more than"
    f" {len(seen)} of {num_columns} columns are the largest on some row: give"
    " `classes`, the class of each column"
  )


def _rows(x: np.ndarray, given: Any, prepare: Prepare | None) -> np.ndarray:
  """Rows in the type, and the number of axes, that the model takes."""
  if prepare is not None:
    return np.asarray(prepare(x))
  if given.type not in _TYPES or x.dtype.kind not in "biuf":
    raise ValueError(
      f"the model takes {given.type} and rows are of dtype {x.dtype}: give `prepare`"
    )
  if len(given.shape) == 2:
    x = x.reshape(len(x), -1)
  return np.ascontiguousarray(x, _TYPES[given.type])


def _batches(rows: np.ndarray, fixed: int | None):
  """All rows, or as many at once as the model was exported for, the last repeated."""
  if fixed is None:
    yield rows
    return
  for start in range(0, len(rows), fixed):
    part = rows[start : start + fixed]
    missing = fixed - len(part)
    yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])


def _answer(found: Any, dataset: types.Dataset, at: np.ndarray | None) -> np.ndarray:
  """Logits or probabilities `[B, C]` of columns that are the classes `at`, `[K]`.

  None is the dataset's order; of class -> probability neither is asked.
  """
  if isinstance(found, np.ndarray):
    return found if at is None else _classes.spread(found, at, dataset.num_classes)
  classes = list(found[0])
  values = np.array([[row[one] for one in classes] for row in found], np.float32)
  named = _classes.columns(classes, dataset)
  return _classes.spread(values, named, dataset.num_classes)
