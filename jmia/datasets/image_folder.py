"""Images in a folder, with a CSV that says which class each belongs to."""

import collections
from collections.abc import Callable, Sequence
import csv
import pathlib
from typing import NamedTuple

import numpy as np

from jmia import types


class Table(NamedTuple):
  """A CSV of files and labels.

  Attributes:
    path: of the CSV.
    header: its two titles.
    names: `N` files' names, relative to the folder, all different.
    labels: `N` labels as written.
  """

  path: pathlib.Path
  header: tuple[str, ...]
  names: tuple[str, ...]
  labels: tuple[str, ...]


def load(name: str, path: str) -> types.Dataset:
  """Reads a folder of images, anew each time.

  Args:
    name: the name to give the dataset.
    path: a folder with one CSV of two columns under a line of titles: an image's file,
      relative to the folder, and its class, a number or any text; further columns are
      ignored. Images are what Pillow reads, all of one size. The first says whether
      they are grey or in colour; grey ones among coloured ones are taken for coloured.

  Returns:
    The dataset, `x` uint8 `[N, H, W, 1 or 3]` and `feature_scale` 1/255. Classes are
    numbered in the order of their numbers, or else of their names.

  Raises:
    FileNotFoundError: there is no such folder, or a listed image is missing.
    ValueError: the CSV or an image is not as said; names the file.
  """
  folder = pathlib.Path(path).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(f"{path}: no such folder, expected images and a CSV")
  table = read_table(folder)
  is_numbered = all(label.isdecimal() for label in table.labels)
  classes = sorted({*table.labels}, key=int if is_numbered else str)
  if len(classes) < 2:
    raise ValueError(f"{table.path}: all images are of class {classes[0]!r}")
  number = {label: c for c, label in enumerate(classes)}
  x = read_images([folder / file for file in table.names], read_any)
  return types.Dataset(
    name=name,
    x=x,
    y=np.array([number[label] for label in table.labels], np.int32),
    num_classes=len(classes),
    num_train=len(x),
    feature_scale=1 / 255,
    is_synthetic=False,
    description=f"{len(x):,} images of {len(classes)} classes from {path}.",
  )


def read_table(folder: pathlib.Path) -> Table:
  """Reads the one CSV of a folder.

  Raises:
    ValueError: there is none or more than one, it lists nothing, a line has no file
      and label, or a file is listed twice or lies outside the folder.
  """
  tables = sorted(folder.glob("*.csv"))
  if len(tables) != 1:
    raise ValueError(f"{folder}: holds {len(tables)} CSV files, expected 1 with labels")
  (path,) = tables
  header, *rows = read_lines(path) or [[]]
  if len(header) < 2 or not rows:
    raise ValueError(f"{path}: expected columns of a filename and a label and rows")
  for line, row in enumerate(rows, start=2):
    if len(row) < 2 or not row[0].strip() or not row[1].strip():
      raise ValueError(f"{path}: row {line} is {row}, expected a filename and a label")
    name = pathlib.PurePath(row[0])
    if name.is_absolute() or ".." in name.parts:
      raise ValueError(f"{path}: row {line}: {row[0]} is no file inside the folder")
  names = tuple(str(pathlib.PurePath(row[0])) for row in rows)
  if len({*names}) != len(names):
    twice = collections.Counter(names).most_common(1)[0][0]
    raise ValueError(f"{path}: lists {twice} more than once")
  return Table(path, tuple(header), names, tuple(row[1].strip() for row in rows))


def read_lines(path: pathlib.Path) -> list[list[str]]:
  """Returns the cells of all lines of a CSV that are not empty.

  Raises:
    ValueError: it is no CSV.
  """
  try:
    with path.open(newline="") as file:
      return [row for row in csv.reader(file) if row]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: not a CSV: {error}") from error


def read_images(
  files: Sequence[pathlib.Path],
  read_one: Callable[[pathlib.Path, tuple[int, ...] | None], np.ndarray],
) -> np.ndarray:
  """Returns images of one shape as one array `[N, ...]` uint8.

  Args:
    files: at least one.
    read_one: (file, shape of the first, or None for the first itself) -> image.

  Raises:
    ValueError: their shapes differ; names the file.
  """
  first = read_one(files[0], None)
  images = np.empty((len(files), *first.shape), np.uint8)
  for row, file in zip(images, files, strict=True):
    image = read_one(file, first.shape)
    if image.shape != first.shape:
      raise ValueError(
        f"{file}: of shape {image.shape}, expected {first.shape} as {files[0].name}"
      )
    row[...] = image
  return images


def read_any(path: pathlib.Path, first: tuple[int, ...] | None) -> np.ndarray:
  """Reads an image that Pillow knows: `[H, W, 1]` if grey, else `[H, W, 3]`; uint8.

  Args:
    path: the file.
    first: shape of the folder's first image: a grey one becomes coloured like it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no whole image.
  """
  from PIL import Image

  try:
    with Image.open(path) as image:
      is_grey = image.mode in ("1", "L", "LA")
      to_colour = not is_grey or (first is not None and first[-1] == 3)
      values = np.asarray(image.convert("RGB" if to_colour else "L"))
  except FileNotFoundError:
    raise
  except (OSError, SyntaxError, ValueError) as error:
    raise ValueError(f"{path}: not a whole image: {error}") from error
  return values.reshape(*values.shape[:2], -1)
