"""An ONNX file as a black box, by onnxruntime."""

from collections.abc import Callable
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


def from_onnx(
  path: str | os.PathLike[str],
  dataset: types.Dataset,
  *,
  prepare: Prepare | None = None,
  output: str | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns `predict` of an ONNX model with one input.

  Args:
    path: of the file.
    dataset: what is audited.
    prepare: rows as the audit has them -> an array. Default: the values as they are,
      flattened if the model takes `[B, F]`, in the type of its input.
    output: the name of the output with logits or probabilities. Default: the one of
      floats, or of class -> probability as exporters of scikit-learn write it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no ONNX model, has several inputs, or no output or several could
      be meant.
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

  def predict(x: np.ndarray) -> np.ndarray:
    rows = _rows(x, given, prepare)
    parts = [
      _answer(session.run([name], {given.name: part})[0], dataset)
      for part in _batches(rows, fixed)
    ]
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


def _answer(found: Any, dataset: types.Dataset) -> np.ndarray:
  """Logits or probabilities `[B, C]`; of class -> probability in the classes' order."""
  if isinstance(found, np.ndarray):
    return found
  classes = list(found[0])
  values = np.array([[row[one] for one in classes] for row in found], np.float32)
  at = _classes.columns(classes, dataset)
  return _classes.spread(values, at, dataset.num_classes)
