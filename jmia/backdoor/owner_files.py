"""An owner's files: data as an `.npz`, a folder of images or a table, and the key.

A `secret.json` holds what is committed to before a nonce is known (`prepared`), with
the hashes that the key will have: of what the files show (`in_files`).
"""

from collections.abc import Sequence
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jmia import atomic, locks
from jmia.backdoor import (
  fingerprints,
  keys,
  owner_images,
  owner_tables,
  paper_mark,
  submarks,
)
from jmia.backdoor import prepared as prepared_lib
from jmia.datasets import npz

_Path = str | os.PathLike[str]
_TABLE = "table:"
_KEY = "key.json"
PREPARED = "secret.json"
_SECRET = (_KEY, "queries.npz", PREPARED)  # of what is left here

_Marked = submarks.Marked | paper_mark.Marked


class Data(NamedTuple):
  """Labelled rows, and what is needed to write them as they came.

  Attributes:
    x: `[N, ...]`.
    y: `[N]` integers or text.
    folder: the images as read; None if there are none.
    table: the table as read; None if it is none. x are numbers of its cells.
    notes: what reading changed, a sentence each.
  """

  x: np.ndarray
  y: np.ndarray
  folder: owner_images.Folder | None = None
  table: owner_tables.Table | None = None
  notes: tuple[str, ...] = ()

  @property
  def suffix(self) -> str:
    """Of what `write` calls `marked` and `queries`."""
    if self.table is not None:
      return self.table.suffix
    return ".npz" if self.folder is None else "/"

  def fingerprint(self) -> str:
    """Returns `fingerprints.fingerprint` of a table's cells, or of x and y."""
    if self.table is not None:
      return owner_tables.fingerprint(self.table)
    return fingerprints.fingerprint(self.x, self.y)


def read_data(path: _Path) -> Data:
  """Reads an owner's data.

  Args:
    path: an `.npz` of `x [N, ...]` and `y [N]` and nothing else; a folder of images of
      one size, as an audit reads it (`datasets.image_folder.read`), all listed; or
      `table:PATH?target=NAME`, a CSV or Parquet file (`owner_tables.read`).

  Raises:
    FileNotFoundError: there is no such file or folder, or a listed image is missing.
    ValueError: it is not as said, or a folder holds a key or the queries of a marking,
      which would be published; names the file.
  """
  if str(path).startswith(_TABLE):
    table = owner_tables.read(str(path).removeprefix(_TABLE))
    return Data(table.x, table.y, table=table, notes=table.notes)
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    _check_no_secret(path)
    folder = owner_images.read(path)
    return Data(folder.x, folder.y, folder, notes=folder.notes)
  if path.suffix.lower().startswith((".csv", ".parquet")):  # ?target=NAME behind it
    name = str(path).partition("?")[0]
    raise ValueError(
      f"{path}: expected {_TABLE}{name}?target=NAME, with the column of classes"
    )
  arrays = _read_npz(path, ("x", "y"))
  try:
    submarks.check_data(arrays["x"], arrays["y"])
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return Data(arrays["x"], arrays["y"])


def read_queries(path: _Path) -> np.ndarray:
  """Reads a query set that `write` left: `queries.npz`, `.csv`, `.parquet`, a folder.

  Returns:
    `[m, ...]`; of a table the cells of all lines, titles too.

  Raises:
    FileNotFoundError: there is no such file or folder.
    ValueError: it is no query set.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() in (".csv", ".parquet"):
    return owner_tables.read_queries(path)
  if not path.is_dir():
    return _read_npz(path, ("x",))["x"]
  return owner_images.read_queries(path)


def read_key(path: _Path) -> keys.Key:
  """Reads a `key.json`, of sub-marks or of one mark.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no key.
  """
  try:
    content = json.loads(pathlib.Path(path).expanduser().read_text("utf-8"))
    return keys.from_json(content)
  except RecursionError as error:
    raise ValueError(f"{path}: not a key of this version: nested too deep") from error
  except ValueError as error:
    raise ValueError(f"{path}: not a key of this version: {error}") from error


def read_prepared(path: _Path) -> prepared_lib.Prepared:
  """Reads a `secret.json`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is none, or not what its commitment was made for.
  """
  try:
    content = json.loads(pathlib.Path(path).expanduser().read_text("utf-8"))
    return keys.prepared_from_json(content)
  except RecursionError as error:
    raise ValueError(f"{path}: not a {PREPARED} of mark: nested too deep") from error
  except ValueError as error:
    raise ValueError(f"{path}: not a {PREPARED} of mark: {error}") from error


def write_prepared(folder: pathlib.Path, prepared: prepared_lib.Prepared) -> None:
  """Writes `secret.json`, readable to its owner alone.

  Args:
    folder: empty.
    prepared: of `in_files`.

  Raises:
    ValueError: the folder is not empty.
    OSError: it cannot be written.
  """
  check_unused(folder)
  text = json.dumps(keys.prepared_to_json(prepared), indent=2, default=np.generic.item)
  atomic.write(folder / PREPARED, f"{text}\n".encode(), 0o600)


def in_files(prepared: prepared_lib.Prepared, data: Data) -> prepared_lib.Prepared:
  """Returns what was prepared of arrays with the hashes of what the files show.

  Args:
    prepared: of `data.x` and `data.y`.
    data: as read.
  """
  queries = submarks.queries_of(data.x, prepared)
  if data.table is not None:
    shown = owner_tables.query_fingerprint(queries, prepared.query_rows, data.table)
  else:
    seen = _after_encoding(queries, prepared.query_rows, data)
    shown = fingerprints.fingerprint(seen)
  return prepared._replace(data_sha256=data.fingerprint(), queries_sha256=shown)


def in_arrays(prepared: prepared_lib.Prepared, data: Data) -> prepared_lib.Prepared:
  """Returns what `in_files` was given, for data that are the same.

  Raises:
    ValueError: they are others, or other columns of a table are ignored.
  """
  if data.fingerprint() != prepared.data_sha256:
    raise ValueError(submarks.OTHER_DATA)
  try:
    is_same = in_files(prepared, data) == prepared
  except (IndexError, ValueError):  # the triggers are of cells that are not there
    is_same = False
  if not is_same:
    raise ValueError(
      "the queries are not those that were committed to"
      + (": are other columns ignored?" if data.table is not None else "")
    )
  return prepared._replace(
    data_sha256=fingerprints.fingerprint(data.x, data.y),
    queries_sha256=fingerprints.fingerprint(submarks.queries_of(data.x, prepared)),
  )


def check_unused(folder: pathlib.Path, but: Sequence[str] = ()) -> None:
  """Raises ValueError unless the folder is absent or empty: keys are not replaced.

  Args:
    folder: to write to.
    but: names of what may be in it.
  """
  may = {*but, locks.NAME}  # the lock is this process's own
  if folder.exists() and any(file.name not in may for file in folder.iterdir()):
    raise ValueError(
      f"output_dir={folder} must be new or empty: an overwritten key is lost"
    )


def check_apart(folder: _Path, data: _Path) -> None:
  """Raises ValueError where what is written would lie among the images of the data.

  The query images would be taken for a class of them, and be published, when the data
  are marked or learnt from again.

  Args:
    folder: to write to; it need not exist.
    data: as `read_data` takes it.
  """
  inside = pathlib.Path(folder).expanduser().resolve()
  whole = pathlib.Path(data).expanduser().resolve()
  if whole.is_dir() and inside.is_relative_to(whole):
    raise ValueError(
      f"output_dir={folder} lies in the data, {data}: the secret queries would be taken"
      " for images of it; give a folder beside it"
    )


def _check_no_secret(folder: pathlib.Path) -> None:
  """Raises ValueError if a marking's key or queries lie in a folder, at any depth."""
  found = (file for name in _SECRET for file in sorted(folder.rglob(name)))
  for file in found:
    raise ValueError(
      f"{folder}: holds {file.relative_to(folder)}, of a marking, and its queries would"
      " be published with the data: move the marking elsewhere"
    )


def write(folder: pathlib.Path, marked: _Marked, data: Data) -> keys.Key:
  """Writes the marked data, the query set and the key: all or none.

  They are made under another name, in the folder where there is one: it may be the
  working folder, or a mount point, neither of which can be replaced. `marked` and
  `queries` then take their places, as `.npz`, as tables or as folders, and `key.json`.
  All images are encoded anew, by one encoder, so that the files of marked ones look no
  different from the others. The key is readable to its owner alone; its hashes, and the
  queries, are of what the files show: JPEG loses a little, and a table's are of its
  cells.

  What a commitment and a nonce draw is the same each time: beside their `secret.json`
  those files stay that an earlier run has written.

  Args:
    folder: absent or empty; with a commitment it may hold its `secret.json`, and what
      is written here.
    marked: what `submarks.mark` or `paper_mark.mark` returned.
    data: what it was given, as read.

  Returns:
    The key as written.

  Raises:
    ValueError: the folder is not empty, or holds one of the files with other content.
    OSError: it cannot be written.
  """
  folder = folder.resolve()
  seen = _as_read(marked, data)
  _check_room(folder, seen.key, data)
  is_there = folder.exists()
  with atomic.folder(folder if is_there else folder.parent) as temporary:
    staged = temporary / "new"
    staged.mkdir()
    if data.table is not None:
      owner_tables.write(staged, marked, data.table)
    elif data.folder is None:
      np.savez_compressed(staged / "marked.npz", x=marked.x, y=marked.y)
      np.savez_compressed(staged / "queries.npz", x=marked.queries)
    else:
      owner_images.write(
        staged / "marked", data.folder, marked.kept, marked.x, marked.y
      )
      owner_images.write_queries(staged / "queries", seen.queries)
    text = json.dumps(keys.to_json(seen.key), indent=2)
    secret = os.open(staged / _KEY, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(secret, "w", encoding="utf-8") as file:
      file.write(text + "\n")
    if not is_there:
      os.replace(staged, folder)
    else:
      _move_beside(staged, folder)
  return seen.key


def _check_room(folder: pathlib.Path, key: keys.Key, data: Data) -> None:
  """Raises ValueError where a folder holds what is not of this marking."""
  if isinstance(key, paper_mark.Key) or key.commitment is None:
    check_unused(folder)
    return
  suffix = data.suffix.rstrip("/")
  check_unused(folder, (PREPARED, f"marked{suffix}", f"queries{suffix}", _KEY))
  path = folder / PREPARED
  if path.exists() and prepared_lib.commitment(read_prepared(path)) != key.commitment:
    raise ValueError(f"{path} is of another commitment: name another folder")


def _move_beside(staged: pathlib.Path, folder: pathlib.Path) -> None:
  """Moves what is not there yet, if what is there is the same."""
  # The key last: what it is of is whole.
  made = sorted(staged.iterdir(), key=lambda path: (path.name == _KEY, path.name))
  there = [path for path in made if (folder / path.name).exists()]
  for path in there:
    if _sums(path) != _sums(folder / path.name):
      raise ValueError(
        f"output_dir holds another {path.name}, which would be lost: name another"
        " folder"
      )
  for path in made:
    if path not in there:
      os.replace(path, folder / path.name)


def _sums(path: pathlib.Path) -> dict[pathlib.Path, bytes]:
  """The SHA-256 of a file, or of each below a folder, by its place."""
  files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
  return {
    file.relative_to(path): hashlib.sha256(file.read_bytes()).digest() for file in files
  }


def _as_read(marked: _Marked, data: Data) -> _Marked:
  """What was marked as the files will show it."""
  if data.table is not None:
    marked = owner_tables.hashed(marked, data.table)
  elif data.folder is not None and any(data.folder.encodings):
    x = _after_encoding(marked.x, marked.kept, data)
    queries = _after_encoding(marked.queries, marked.key.query_rows, data)
    key = marked.key._replace(
      marked_sha256=fingerprints.fingerprint(x, marked.y),
      queries_sha256=fingerprints.fingerprint(queries),
    )
    marked = marked._replace(x=x, queries=queries, key=key)  # type: ignore[arg-type]
  if isinstance(marked.key, submarks.Key) and marked.key.commitment is not None:
    committed = prepared_lib.commitment(submarks.prepared_of(marked.key))
    marked = marked._replace(key=marked.key._replace(commitment=committed))
  return marked


def _after_encoding(
  images: np.ndarray, rows: Sequence[int] | np.ndarray, data: Data
) -> np.ndarray:
  """Rows that come from `rows` as a reader of their files sees them."""
  if data.folder is None or not any(data.folder.encodings):
    return images
  encodings = [data.folder.encodings[row] for row in rows]
  return owner_images.after_encoding(images, encodings)


def _read_npz(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
  arrays = npz.read(path)
  if sorted(arrays) != sorted(names):
    raise ValueError(
      f"{path}: not an .npz of {' and '.join(names)} alone: it holds"
      f" {', '.join(arrays) or 'nothing'}"
    )
  return arrays
