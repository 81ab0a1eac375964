"""What a user's own data say of each row beside features and class: groups, files."""

import pathlib

import numpy as np

from jmia import types
from jmia.datasets import image_folder
from jmia.datasets import npz as npz_lib


def load(dataset: types.Dataset, names: tuple[str, ...]) -> dict[str, np.ndarray]:
  """Returns the named columns of a dataset's rows.

  They are columns of a table that was learnt from; arrays `NAME` of an `.npz`, `[N]` or
  `[N, 1]` (and `NAME_test` where there is `x_test`); or further columns of a folder's
  CSV, by title.
  A folder for each class, and a CSV without a line of titles, have none; a title that
  two columns share is no column's.

  Args:
    dataset: of `datasets.load`.
    names: of the columns.

  Returns:
    name -> `[num_examples]` values.

  Raises:
    ValueError: there is no such column, it has another number of rows, or its array
      holds Python objects.
  """
  known = _columns(dataset)
  found = {}
  for name in names:
    if name not in known:
      kind, _, path = dataset.name.partition(":")
      if kind == "npz":
        npz_lib.read(path, [name])  # says why, of an array that cannot be read
      raise ValueError(
        f"groups: {dataset.name} has no column {name!r} (has: "
        f"{', '.join(sorted(known)) or 'none'})"
      )
    found[name] = known[name]
    if found[name].shape != (dataset.num_examples,):
      raise ValueError(
        f"groups: {name} has shape {found[name].shape}, expected "
        f"({dataset.num_examples},)"
      )
  return found


def names(dataset: types.Dataset) -> tuple[str, ...]:
  """Returns the columns of a dataset's rows that `load` knows."""
  return tuple(_columns(dataset))


def files(dataset: types.Dataset) -> dict[str, np.ndarray]:
  """Returns `{"file": [N] names}` of a folder of images; nothing of other datasets."""
  table = _folder_table(dataset)
  if table is None or len(table.names) != dataset.num_examples:
    return {}
  return {"file": np.array(table.names)}


def _columns(dataset: types.Dataset) -> dict[str, np.ndarray]:
  """Everything that is known of the rows, by name."""
  kind, _, path = dataset.name.partition(":")
  given = getattr(dataset, "given", None)
  if given is not None and given.dtype.names:
    return {name: given[name] for name in given.dtype.names}
  if kind == "npz":
    return _of_npz(path)
  table = _folder_table(dataset)
  if table is None:
    return {}
  if not table.header or table.path.is_dir():
    return {}  # no titles, or a folder for each class and no CSV
  header, *rows = image_folder.read_lines(table.path)
  return {
    title: np.array([row[at] if at < len(row) else "" for row in rows])
    for at, title in enumerate(header)
    if header.count(title) == 1
  }


def _of_npz(path: str) -> dict[str, np.ndarray]:
  """The archive's arrays `[N]` or `[N, 1]`, the test split's after them."""
  with np.load(pathlib.Path(path).expanduser(), allow_pickle=False) as file:
    names = file.files
  held = {}
  for name in names:
    if name in ("x", "x_test"):  # never one-dimensional, and large
      continue
    try:
      values = npz_lib.read(path, [name])[name]
    except ValueError:  # of Python objects, which is no fault of the other arrays
      continue
    if values.ndim == 1 or values.shape[1:] == (1,):
      held[name] = values.reshape(-1)
  if "x_test" not in names:
    return held
  return {
    name: np.concatenate([values, held[f"{name}_test"]])
    for name, values in held.items()
    if f"{name}_test" in held
  }


def _folder_table(dataset: types.Dataset) -> image_folder.Table | None:
  kind, _, path = dataset.name.partition(":")
  if kind != "folder":
    return None
  return image_folder.read_table(pathlib.Path(path).expanduser())
