"""Datasets that are arrays already: digits, a user's own, and those of an `.npz`."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from jmia import types
from jmia.datasets import columns, features, labels
from jmia.datasets import npz as npz_lib

_NAMES = ("x", "y", "x_test", "y_test", "classes")
_OTHER_UNIT = 100.0  # beside fractions of one: percent, bytes


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
    classes: the names of all classes in their order, where some may have no row; which
      whole numbers in `y` may be, or numbers from 0, as `labels` says.
    name: of the dataset.

  Returns:
    The dataset; `notes` say what was changed, `class_names` what classes were called.

  Raises:
    ValueError: if an array is missing, of a wrong shape or dtype, not finite, or holds
      labels that cannot be classes; test rows are in another unit; or the index of a
      pandas frame is that of its labels in another order.
  """
  if (x_test is None) != (y_test is None):
    raise ValueError(f"{'x' if x_test is None else 'y'}_test is missing")
  columns.check_order("x", x, "y", y)
  columns.check_order("x_test", x_test, "y_test", y_test)
  rows = {"x": x} if x_test is None else {"x": x, "x_test": x_test}
  given: np.ndarray | None
  if columns.is_table(x):
    lengths = [len(_first_column(part)) for part in rows.values()]
    read, given = columns.read([columns.of_frame(part) for part in rows.values()])
  else:
    parts = [_array(key, part) for key, part in rows.items()]
    lengths = [len(part) for part in parts]
    stored = _joined("x", *parts)
    _check_units(*parts)
    read = features.read("x", stored)
    given = stored if read.is_changed else None
  of_rows = {"y": y} if y_test is None else {"y": y, "y_test": y_test}
  targets = [_array(key, part) for key, part in of_rows.items()]
  read_labels = labels.read(
    "y", _joined("y", *targets), None if classes is None else _names("classes", classes)
  )
  num_train, num_classes = len(targets[0]), read_labels.num_classes
  for of_x, length, of_y, target in zip(rows, lengths, of_rows, targets, strict=True):
    if length != len(target):
      raise ValueError(
        f"{of_x} has {length} rows and {of_y} has {len(target)}, expected as many"
      )
  return types.Dataset(
    name=name,
    x=read.x,
    y=read_labels.y,
    num_classes=num_classes,
    num_train=num_train,
    feature_scale=read.scale,
    is_synthetic=False,
    description=f"{len(read_labels.y):,} examples of {num_classes} classes.",
    notes=(*read_labels.notes, *read.notes),
    class_names=read_labels.names,
    given=given,
  )


def on_host(value: Any) -> Any:
  """Returns a tensor of PyTorch off its device and its graph, as NumPy takes it.

  Anything else comes back as it is; bfloat16, which NumPy lacks, as float32.
  """
  if not hasattr(value, "detach"):
    return value
  value = value.detach().cpu()
  return value.float() if str(value.dtype) == "torch.bfloat16" else value


def _names(key: str, value: Any) -> list[Any]:
  """The entries of a list of names, which one name alone is not."""
  try:
    names = [] if isinstance(value, str | bytes) else list(value)
  except TypeError:  # a number, or an array of no axis
    names = []
  if not names:
    raise ValueError(f"{key} is {value!s}, expected the names of all classes")
  return names


def _first_column(table: Any) -> Any:
  """What has as many entries as a table has rows."""
  return next(iter(columns.of_frame(table).values()))


def _array(name: str, value: Any) -> np.ndarray:
  """A NumPy array of an array, a list, or a tensor of another package."""
  value = on_host(value)
  if hasattr(value, "toarray"):  # SciPy's sparse matrices
    value = value.toarray()
  if np.ma.is_masked(value):
    raise ValueError(f"{name} has masked values, expected a value at each place")
  try:
    array = columns.as_array(value)
  except (TypeError, ValueError) as error:
    cause = str(error).splitlines()[0]
    raise ValueError(f"{name} is no array, but {type(value)}: {cause}") from error
  if not array.ndim:
    raise ValueError(f"{name} is one {type(value).__name__}, expected an array of rows")
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


def _check_units(*parts: np.ndarray) -> None:
  """Refuses test rows in another unit: over both, no scale would be right."""
  if any(part.dtype.kind != "f" for part in parts) or not all(p.size for p in parts):
    return
  largest = [max(float(part.max()), -float(part.min())) for part in parts]
  smaller = parts[int(np.argmin(largest))]
  # Fractions, as pixels over 255, beside numbers that are none.
  if min(largest) <= 1 and max(largest) >= _OTHER_UNIT and (smaller % 1 != 0).any():
    raise ValueError(
      f"x reaches {largest[0]:g} and x_test {largest[1]:g}, expected one unit in both"
    )


def _kind(array: np.ndarray) -> str:
  return {"u": "i", "S": "U"}.get(array.dtype.kind, array.dtype.kind)
