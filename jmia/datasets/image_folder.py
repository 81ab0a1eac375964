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
_OF_SYSTEMS = ("__macosx", "thumbs.db", "desktop.ini")
_SHOWN = 3  # files that a note names
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
      label are these two, else they are the first two, or the first that names files
      and the first of the others with a title; without a line of titles too. Or
      a folder without a CSV, with a folder of images for each class; or with folders
      train and test of such folders. Images are of one size and of the kinds that
      `images` reads; the first says whether they are grey or in colour. Files that are
      not read are said.

  Raises:
    FileNotFoundError: there is no such folder, or a listed image is missing.
    ValueError: the CSV or an image is not as said; names the file.
  """
  folder = pathlib.Path(path).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(f"{path}: no such folder, expected images and a CSV")
  table = read_table(folder)
  try:
    classes = labels.read(
      "label", np.array(table.labels), are_titles=table.path == folder
    )
  except ValueError as error:
    raise ValueError(f"{table.path}: {error}") from error
  pictures = images.read_all([folder / file for file in table.names])
  notes = (*table.notes, *classes.notes, *pictures.notes)
  return Folder(table, pictures.values, classes, notes)


def read_table(folder: pathlib.Path) -> Table:
  """Reads the one CSV of a folder, or the folders of its classes.

  Raises:
    ValueError: there is neither, or more than one CSV; it lists nothing, a line has no
      file and label, or a file is listed twice or lies outside the folder; or a folder
      of a class holds files, none of which is an image that can be read.
  """
  tables = [
    folder / name for name in _files_in(folder) if name.lower().endswith(".csv")
  ]
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
  if listed is not None:
    file_at, label_at = listed, 1 - listed
  else:
    file_at, label_at = _places(header, _file_columns(folder, rows[0]))
  unused = [
    title or f"the {c + 1}. without a title"
    for c, title in enumerate(header)
    if c not in (file_at, label_at)
  ]
  if unused:
    notes = (*notes, f"Columns of {path.name} that are not used: {', '.join(unused)}.")
  names = []
  for at, row in enumerate(rows, start=int(bool(header))):
    if len(row) <= max(file_at, label_at) or not row[file_at] or not row[label_at]:
      line = delimited.line_numbers(path)[at]
      raise ValueError(
        f"{path}: line {line} is {[*row]}, expected a filename and a label"
      )
    name = _inside(folder, row[file_at])
    if name is None:
      line = delimited.line_numbers(path)[at]
      raise ValueError(
        f"{path}: line {line}: {row[file_at]} is no file inside the folder"
      )
    names.append(name)
  if len({*names}) != len(names):
    twice = collections.Counter(names).most_common(1)[0][0]
    raise ValueError(f"{path}: lists {twice} more than once")
  titles = (header[file_at], header[label_at]) if header else ()
  found = tuple(row[label_at] for row in rows)
  notes = (*notes, *_unlisted(path, names))
  return Table(path, titles, tuple(names), found, len(names), notes)


def _listing(folder: pathlib.Path, row: Sequence[str]) -> int | None:
  """Which cell of a CSV's first line is an image's file; None if they are titles."""
  return next(iter(_file_columns(folder, row[:2])), None)


def _file_columns(folder: pathlib.Path, row: Sequence[str]) -> list[int]:
  """Which cells of a line name a file of the folder, or an image."""
  names = [_inside(folder, cell) if cell else None for cell in row]
  return [
    column
    for column, name in enumerate(names)
    if name is not None and ((folder / name).is_file() or is_image(name))
  ]


def _places(header: Sequence[str], with_files: Sequence[int]) -> tuple[int, int]:
  """Which columns hold the file and the label, of those that name files and all."""
  titles = [title.lower() for title in header]
  files = [c for c, title in enumerate(titles) if title in _FILE_TITLES]
  classes = [c for c, title in enumerate(titles) if title in _LABEL_TITLES]
  file_at = files[0] if len(files) == 1 else None
  label_at = classes[0] if len(classes) == 1 else None
  # What has no such title is the first column that is left, of files where any names
  # one, and of labels where any has a title: pandas writes its index without.
  if file_at is None:
    left = [c for c in (*with_files, *range(len(titles))) if c != label_at]
    file_at = left[0]
  if label_at is None:
    left = [c for c in range(len(titles)) if c != file_at]
    label_at = next((c for c in left if titles[c]), left[0])
  return file_at, label_at


def _inside(folder: pathlib.Path, text: str) -> str | None:
  """A file's name relative to the folder; None if it lies outside."""
  if "\\" in text and not (folder / text).is_file():
    text = text.replace("\\", "/")
  root = os.path.abspath(folder)
  name = os.path.relpath(os.path.join(root, os.path.expanduser(text)), root)
  parts = pathlib.PurePath(name).parts
  return None if not parts or parts[0] == ".." else name


def files_below(folder: pathlib.Path) -> list[str]:
  """Returns the files at any depth, relative to a folder and in order.

  Without those that systems leave: hidden ones, and what macOS and Windows add. Links
  to folders are followed, but to those that hold the link.
  """
  root = folder.resolve()
  found = _walked(root, frozenset(root.parents))
  return sorted(map(str, (f.relative_to(root) for f in found)), key=pathlib.PurePath)


def _walked(
  folder: pathlib.Path, around: frozenset[pathlib.Path]
) -> Iterator[pathlib.Path]:
  """The files at any depth; `around` are the folders, resolved, that it is in."""
  real = folder.resolve()
  if real in around:
    return
  for path in folder.iterdir():
    if _is_left(path.name):
      continue
    if path.is_dir():
      yield from _walked(path, around | {real})
    else:
      yield path


def is_image(name: str) -> bool:
  """Whether a file is of a kind that `images` reads, by its name."""
  return pathlib.PurePath(name).suffix.lower() in images.SUFFIXES


def _is_left(name: str) -> bool:
  return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _from_folders(folder: pathlib.Path) -> Table:
  """A table of the images in a folder's folders, each named after its class."""
  found = _subfolders(folder)
  if any(map(is_image, _files_in(folder))):
    found = []  # an image of no class: no folder a class, but a CSV that is missing
  is_split = bool(found) and all(f.name.lower() in (*_TRAIN, *_TEST) for f in found)
  kinds = [(False, kind) for kind in found]
  if is_split:
    kinds = [
      (part.name.lower() in _TEST, kind) for part in found for kind in _subfolders(part)
    ]
  rows: list[list[tuple[str, str]]] = [[], []]
  notes = [
    f"{_listed(loose)} beside the folders of {part} "
    f"{'is' if len(loose) == 1 else 'are'} not read."
    for part in (folder, *(found if is_split else ()))
    if (loose := _files_in(part))
  ]
  for is_test, kind in kinds:
    files, note = _images_of(folder, kind)
    rows[is_test] += [(file, kind.name) for file in files]
    notes += note
  if not rows[0]:
    raise ValueError(
      f"{folder}: holds 0 CSV files, expected 1 with labels, or a folder of images for "
      "each class"
    )
  names, classes = zip(*rows[0], *rows[1], strict=True)
  header = ("filename", "label")
  return Table(folder, header, names, classes, len(rows[0]), tuple(notes))


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    f for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__"))
  )


def _files_in(folder: pathlib.Path) -> list[str]:
  """The names of the files directly in a folder, without those that systems leave."""
  files = (file for file in folder.iterdir() if file.is_file())
  return sorted(file.name for file in files if not _is_left(file.name))


def _images_of(
  folder: pathlib.Path, kind: pathlib.Path
) -> tuple[list[str], tuple[str, ...]]:
  """Files, relative to the folder, of all images of a class; and what else is there.

  A class that would vanish since none of its files can be read is refused.
  """
  names = files_below(kind)
  others = [name for name in names if not is_image(name)]
  where = kind.relative_to(folder)
  if names and len(others) == len(names):
    raise ValueError(
      f"{folder}: {_listed(others)} of {where}/ {_no_images(others)}, and no other is "
      "there: convert them, or take the folder out"
    )
  if not names:
    return [], (f"{where}/ is empty, and no class.",)
  note = f"{_listed(others)} of {where}/ {_no_images(others)}."
  found = [str(where / name) for name in names if is_image(name)]
  return found, (note,) if others else ()


def _unlisted(path: pathlib.Path, listed: Sequence[str]) -> tuple[str, ...]:
  """What to say of files of a CSV's folder that it does not list."""
  names = sorted({*files_below(path.parent)} - {*listed, path.name})
  left_out = [name for name in names if is_image(name)]
  others = [name for name in names if not is_image(name)]
  notes = []
  if left_out:
    be = "is" if len(left_out) == 1 else "are"
    notes.append(
      f"{_listed(left_out, 'image')} {be} not listed in {path.name} and left out."
    )
  if others:
    notes.append(f"{_listed(others)} not listed in {path.name} {_no_images(others)}.")
  return tuple(notes)


def _listed(names: Sequence[str], kind: str = "file") -> str:
  """How many files, and the first of them."""
  shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
  return f"{len(names):,} {kind}{'s' if len(names) > 1 else ''} ({shown})"


def _no_images(names: Sequence[str]) -> str:
  return f"{'are no images' if len(names) > 1 else 'is no image'} that can be read"
