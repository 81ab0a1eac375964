"""Datasets that are arrays already: digits, a user's own, and those of an `.npz`."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from jmia import types
from jmia.datasets import columns, features, labels
from jmia.datasets import npz as npz_lib

_NAMES = ("x", "y", "x_test", "y_test", "classes")


def digits() -> types.Dataset:
  """Returns scikit-learn's digits: `x` uint8 `[1797, 8, 8, 1]` from 0 to 16."""
  from sklearn import datasets

  bunch = datasets.load_digits()
  return types.Dataset(
    name="digits",
    x=bunch.images.astype(np.uint8)[..., None],
    y=bunch.target.astype(np.int32),
    num_classes=10,
    num_train=len(bunch.target),
    feature_scale=1 / 16,
    is_synthetic=False,
    description="1,797 handwritten digits of 8 x 8 pixels (UCI, from scikit-learn).",
  )


def npz(name: str, path: str) -> types.Dataset:
  """Reads a user's arrays.

  Args:
    name: the name to give the dataset.
    path: a `.npz` file with `x` and `y` and, where there is a test split, `x_test` and
      `y_test`; and, where they are known, `classes`, the names of all classes. Arrays
      are as `from_arrays` takes them.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is no whole `.npz`, or its arrays are not as said.
  """
  held = npz_lib.read(pathlib.Path(path).expanduser(), _NAMES)
  for key in ("x", "y"):
    if key not in held:
      found = ", ".join(npz_lib.read(path)) or "-"
      raise ValueError(f"{path}: {key} is missing (found: {found})")
  try:
    dataset = from_arrays(**held, name=name)  # type: ignore[arg-type]
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return dataset._replace(
    description=f"{dataset.num_examples:,} examples of {dataset.num_classes} classes "
    f"from {path}."
  )


def from_arrays(
  x: Any,
  y: Any,
  *,
  x_test: Any = None,
  y_test: Any = None,
  classes: Sequence[Any] | None = None,
  name: str = "arrays",
) -> types.Dataset:
  """Returns a dataset of arrays, whatever package they come from.

  Args:
    x: `[N, ...]` features: an array, a list, a tensor in host memory or on a device; or
      a table of named columns, of numbers or text, such as a pandas frame. Scaled as
      `features` says, or `columns`.
    y: `[N]` labels, in any form that `labels` says.
    x_test: features of a test split, alike.
    y_test: its labels.
    classes: the names of all classes in their order, where some may have no row.
    name: of the dataset.

  Returns:
    The dataset; `notes` say what was changed, `class_names` what classes were called.

  Raises:
    ValueError: if an array is missing, of a wrong shape or dtype, not finite, or holds
      labels that cannot be classes.
  """
  if (x_test is None) != (y_test is None):
    raise ValueError(f"{'x' if x_test is None else 'y'}_test is missing")
  for key, array, of in (("y", y, x), ("y_test", y_test, x_test)):
    if array is not None and len(array) != len(of):
      raise ValueError(
        f"{key} has {len(array)} rows, expected {len(of)} as its features"
      )
  parts = [part for part in (x, x_test) if part is not None]
  given: np.ndarray | None
  if columns.is_table(x):
    read, given = columns.read([columns.of_frame(part) for part in parts])
  else:
    stored = _joined("x", *map(_array, parts))
    read = features.read("x", stored)
    given = stored if read.is_changed else None
  targets = _joined("y", *(_array(part) for part in (y, y_test) if part is not None))
  read_labels = labels.read("y", targets, None if classes is None else list(classes))
  num_classes = read_labels.num_classes
  return types.Dataset(
    name=name,
    x=read.x,
    y=read_labels.y,
    num_classes=num_classes,
    num_train=len(y),
    feature_scale=read.scale,
    is_synthetic=False,
    description=f"{len(read_labels.y):,} examples of {num_classes} classes.",
    notes=(*read_labels.notes, *read.notes),
    class_names=read_labels.names,
    given=given,
  )


def _array(value: Any) -> np.ndarray:
  """A NumPy array of an array, a list, or a tensor of another package."""
  if hasattr(value, "detach"):  # PyTorch: off its device and its graph
    value = value.detach().cpu()
    if str(value.dtype) == "torch.bfloat16":
      value = value.float()
  try:
    array = np.asarray(value)
  except (TypeError, ValueError) as error:
    raise ValueError(f"an array cannot be made of {type(value)}: {error}") from error
  return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _joined(name: str, *parts: np.ndarray) -> np.ndarray:
  """The train and the test rows as one array, if they are of one kind."""
  if len(parts) == 1:
    return parts[0]
  train, test = parts
  if train.ndim != test.ndim or train.shape[1:] != test.shape[1:]:
    raise ValueError(
      f"{name}_test has rows of shape {test.shape[1:]}, expected {train.shape[1:]} as "
      f"in {name}"
    )
  # Bytes beside floats are rarely in one unit.
  if _kind(train) != _kind(test):
    raise ValueError(
      f"{name}_test has dtype {test.dtype}, expected {train.dtype} as {name} has"
    )
  return np.concatenate(parts)


def _kind(array: np.ndarray) -> str:
  return {"u": "i", "S": "U"}.get(array.dtype.kind, array.dtype.kind)
