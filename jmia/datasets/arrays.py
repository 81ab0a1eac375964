"""Datasets that are arrays already: scikit-learn's digits and a user's own `.npz`."""

import pathlib
import zipfile
import zlib

import numpy as np

from jmia import _validate, types


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
    path: a `.npz` file with `x` `[N, ...]` and `y` `[N]`, and, where there is a test
      split, `x_test` and `y_test`. Features that are uint8 stay so, booleans become
      uint8, everything else float32. Images are NHWC. The number of classes is the
      largest label plus one.

  Returns:
    The dataset; `feature_scale` is 1/255 for uint8 that exceeds 1, else 1.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is no whole `.npz`, or an array is missing, of a wrong
      shape or dtype, not finite, or holds labels that cannot be class numbers.
  """
  held = _read(pathlib.Path(path).expanduser())
  splits = ("", "_test") if {"x_test", "y_test"} & held.keys() else ("",)
  parts = [_part(path, held, suffix) for suffix in splits]
  if len(parts) == 2 and parts[0][0].shape[1:] != parts[1][0].shape[1:]:
    raise ValueError(
      f"{path}: x_test has rows of shape {parts[1][0].shape[1:]}, "
      f"expected {parts[0][0].shape[1:]} as in x"
    )
  if len({x.dtype for x, _ in parts}) > 1:
    raise ValueError(
      f"{path}: x_test has dtype {parts[1][0].dtype}, "
      f"expected {parts[0][0].dtype} as x has"
    )
  x = np.concatenate([x for x, _ in parts])
  y = np.concatenate([y for _, y in parts])
  num_classes = _num_classes(path, y)
  is_pixels = x.dtype == np.uint8 and x.max() > 1
  return types.Dataset(
    name=name,
    x=x,
    y=y.astype(np.int32),
    num_classes=num_classes,
    num_train=len(parts[0][1]),
    feature_scale=1 / 255 if is_pixels else 1.0,
    is_synthetic=False,
    description=f"{len(y):,} examples of {num_classes} classes from {path}.",
  )


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of the file, by name."""
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file, expected an .npz with x and y")
  try:
    held = np.load(path, allow_pickle=False)
    if isinstance(held, np.ndarray):
      raise ValueError("it holds one bare array")
    with held:
      return dict(held)
  except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(
      f"{path}: not a whole .npz file of plain arrays ({error})"
    ) from error


def _part(
  path: str, held: dict[str, np.ndarray], suffix: str
) -> tuple[np.ndarray, np.ndarray]:
  """One split's checked features, cast, and labels, as they are."""
  x_name, y_name = f"x{suffix}", f"y{suffix}"
  for key in (x_name, y_name):
    if key not in held:
      raise ValueError(f"{path}: {key} is missing (found: {', '.join(held) or '-'})")
  x, y = held[x_name], held[y_name]
  if x.ndim < 2 or not x.size:
    raise ValueError(f"{path}: {x_name} has shape {x.shape}, expected [N, ...], N > 0")
  _validate.shape(f"{path}: {y_name}", y, (len(x),))
  if not np.issubdtype(y.dtype, np.integer):
    raise ValueError(f"{path}: {y_name} has dtype {y.dtype}, expected integer labels")
  return _cast(f"{path}: {x_name}", x), y


def _cast(name: str, x: np.ndarray) -> np.ndarray:
  """Features as uint8 or float32."""
  if x.dtype == np.uint8:
    return x
  if x.dtype == np.bool_:
    return x.astype(np.uint8)
  if not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)):
    raise ValueError(f"{name} has dtype {x.dtype}, expected booleans or real numbers")
  with np.errstate(over="ignore"):
    cast = x.astype(np.float32)
  # After the cast: what float64 holds may overflow float32.
  _validate.finite(name, cast)
  return cast


def _num_classes(path: str, y: np.ndarray) -> int:
  """The number of classes, if the labels can be class numbers."""
  low, high = int(y.min()), int(y.max())
  # More classes than rows means that ids or values were taken for labels.
  if low < 0 or high == 0 or high >= len(y):
    raise ValueError(
      f"{path}: y holds labels from {low} to {high} over {len(y)} rows, "
      "expected class numbers from 0 to C - 1 with 2 <= C <= N"
    )
  return high + 1
