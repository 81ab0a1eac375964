"""Images in a folder: with a CSV that says their classes, or in a folder a class."""

import collections
from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jmia import types
from jmia.datasets import delimited, features, images, labels

_FILE_TITLES = ("filename", "file", "file_name", "path", "image", "image_path")
_LABEL_TITLES = ("label", "class", "category", "target", "y")
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")

read_lines = delimited.read_lines


class Table(NamedTuple):
  """Which files a folder's images are in, and their labels.

  Attributes:
    path: of the CSV; the folder's own where each class has a folder.
    header: the titles of the two columns; empty where there are none.
    names: `N` files' names, relative to the folder, all different.
    labels: `N` labels as written.
    num_train: rows from here on are a test split, of folders alone.
    notes: what was left out or guessed.
  """

  path: pathlib.Path
  header: tuple[str, ...]
  names: tuple[str, ...]
  labels: tuple[str, ...]
  num_train: int
  notes: tuple[str, ...] = ()


class Folder(NamedTuple):
  """A folder's images as they are stored, and their classes.

  Attributes:
    table: files and labels as written.
    x: `[N, H, W, 1 or 3]` uint8, or uint16.
    classes: `[N]` labels as classes.
    notes: what was changed or guessed, a sentence each.
  """

  table: Table
  x: np.ndarray
  classes: labels.Labels
  notes: tuple[str, ...]


def load(name: str, path: str) -> types.Dataset:
  """Reads a folder of images, anew each time.

  Args:
    name: the name to give the dataset.
    path: a folder as `read` takes it.

  Returns:
    The dataset, `x` `[N, H, W, 1 or 3]` uint8 with `feature_scale` 1/255, or float32 of
    16-bit images with the scale that `features` gives them.

  Raises:
    FileNotFoundError: there is no such folder, or a listed image is missing.
    ValueError: the CSV or an image is not as said; names the file.
  """
  folder = read(path)
  num_classes = folder.classes.num_classes
  x, scale, notes = folder.x, 1 / 255, folder.notes
  if x.dtype != np.uint8:
    largest = float(x.max())
    if not largest:
      raise ValueError(f"{path}: all images are black")
    scale = 1 / features.full_scale(largest, is_whole=True)
    notes = (*notes, f"Images of 16 bits are divided by {1 / scale:.6g}.")
    x = x.astype(np.float32)
  return types.Dataset(
    name=name,
    x=x,
    y=folder.classes.y,
    num_classes=num_classes,
    num_train=folder.table.num_train,
    feature_scale=scale,
    is_synthetic=False,
    description=f"{len(x):,} images of {num_classes} classes from {path}.",
    notes=notes,
    class_names=folder.classes.names,
  )


def read(path: str | os.PathLike[str]) -> Folder:
  """Reads a folder of images: the one reader, of an audit's and of an owner's data.

  Args:
    path: a folder with one CSV (see `delimited`) of an image's file, relative to the
      folder, and its class, a number or any text. Columns titled like filename and
      label are these two, else they are the first two; without a line of titles too. Or
      a folder without a CSV, with a folder of images for each class; or with folders
      train and test of such folders. Images are of one size and of the kinds that
      `images` reads; the first says whether they are grey or in colour.

  Raises:
    FileNotFoundError: there is no such folder, or a listed image is missing.
    ValueError: the CSV or an image is not as said; names the file.
  """
  folder = pathlib.Path(path).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(f"{path}: no such folder, expected images and a CSV")
  table = read_table(folder)
  try:
    classes = labels.read("label", np.array(table.labels))
  except ValueError as error:
    raise ValueError(f"{table.path}: {error}") from error
  pictures = images.read_all([folder / file for file in table.names])
  notes = (*table.notes, *classes.notes, *pictures.notes)
  return Folder(table, pictures.values, classes, notes)


def read_table(folder: pathlib.Path) -> Table:
  """Reads the one CSV of a folder, or the folders of its classes.

  Raises:
    ValueError: there is neither, or more than one CSV; it lists nothing, a line has no
      file and label, or a file is listed twice or lies outside the folder.
  """
  tables = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".csv")
  if not tables:
    return _from_folders(folder)
  if len(tables) > 1:
    raise ValueError(f"{folder}: holds {len(tables)} CSV files, expected 1 with labels")
  (path,) = tables
  rows = delimited.read_lines(path)
  header: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()
  listed = _listing(folder, rows[0]) if rows else None
  if rows and listed is None:
    header, *rows = map(tuple, rows)  # type: ignore[assignment]
  elif rows:
    notes = (f"{path.name} has no line of titles: its first line is an image's.",)
  if (header and len(header) < 2) or not rows:
    raise ValueError(f"{path}: expected columns of a filename and a label and rows")
  file_at, label_at = (listed, 1 - listed) if listed is not None else _places(header)
  unused = [title for c, title in enumerate(header) if c not in (file_at, label_at)]
  if unused:
    notes = (*notes, f"Columns of {path.name} that are not used: {', '.join(unused)}.")
  names = []
  for line, row in enumerate(rows, start=1 + bool(header)):
    if len(row) <= max(file_at, label_at) or not row[file_at] or not row[label_at]:
      raise ValueError(
        f"{path}: row {line} is {[*row]}, expected a filename and a label"
      )
    name = _inside(folder, row[file_at])
    if name is None:
      raise ValueError(
        f"{path}: row {line}: {row[file_at]} is no file inside the folder"
      )
    names.append(name)
  if len({*names}) != len(names):
    twice = collections.Counter(names).most_common(1)[0][0]
    raise ValueError(f"{path}: lists {twice} more than once")
  titles = (header[file_at], header[label_at]) if header else ()
  found = tuple(row[label_at] for row in rows)
  return Table(path, titles, tuple(names), found, len(names), notes)


def _listing(folder: pathlib.Path, row: Sequence[str]) -> int | None:
  """Which cell of a CSV's first line is an image's file; None if they are titles."""
  for column, cell in enumerate(row[:2]):
    name = _inside(folder, cell) if cell else None
    if name is not None and (
      (folder / name).is_file()
      or pathlib.PurePath(name).suffix.lower() in images.SUFFIXES
    ):
      return column
  return None


def _places(header: Sequence[str]) -> tuple[int, int]:
  """Which columns hold the file and the label."""
  titles = [title.lower() for title in header]
  files = [c for c, title in enumerate(titles) if title in _FILE_TITLES]
  classes = [c for c, title in enumerate(titles) if title in _LABEL_TITLES]
  file_at = files[0] if len(files) == 1 else None
  label_at = classes[0] if len(classes) == 1 else None
  # What has no such title is the first column that is left.
  if file_at is None:
    file_at = 1 if label_at == 0 else 0
  if label_at is None:
    label_at = 1 if file_at == 0 else 0
  return file_at, label_at


def _inside(folder: pathlib.Path, text: str) -> str | None:
  """A file's name relative to the folder; None if it lies outside."""
  if "\\" in text and not (folder / text).is_file():
    text = text.replace("\\", "/")
  root = os.path.abspath(folder)
  name = os.path.relpath(os.path.join(root, os.path.expanduser(text)), root)
  parts = pathlib.PurePath(name).parts
  return None if not parts or parts[0] == ".." else name


def _from_folders(folder: pathlib.Path) -> Table:
  """A table of the images in a folder's folders, each named after its class."""
  found = _subfolders(folder)
  if any(file.suffix.lower() in images.SUFFIXES for file in folder.iterdir()):
    found = []  # an image of no class: no folder a class, but a CSV that is missing
  is_split = bool(found) and all(f.name.lower() in (*_TRAIN, *_TEST) for f in found)
  parts: list[list[tuple[str, str]]] = [[], []]
  if is_split:
    for part in found:
      rows = parts[part.name.lower() in _TEST]
      rows += [row for kind in _subfolders(part) for row in _images_of(folder, kind)]
  else:
    parts[0] = [row for kind in found for row in _images_of(folder, kind)]
  rows = [*parts[0], *parts[1]]
  if not parts[0]:
    raise ValueError(
      f"{folder}: holds 0 CSV files, expected 1 with labels, or a folder of images for "
      "each class"
    )
  names, classes = zip(*rows, strict=True)
  return Table(folder, ("filename", "label"), names, classes, len(parts[0]))


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    f for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__"))
  )


def _images_of(folder: pathlib.Path, kind: pathlib.Path) -> Iterator[tuple[str, str]]:
  """(file relative to the folder, class) of all images below a class's folder."""
  for file in sorted(kind.rglob("*")):
    if file.suffix.lower() in images.SUFFIXES and not file.name.startswith("."):
      yield str(file.relative_to(folder)), kind.name
