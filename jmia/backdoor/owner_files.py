"""An owner's files: data as an `.npz` or a folder of PNG images, and the key."""

from collections.abc import Sequence
import csv
import json
import os
import pathlib
import re
import tempfile
from typing import NamedTuple
import zipfile
import zlib

import numpy as np
from PIL import Image

from jmia.backdoor import keys, ownership, submarks
from jmia.datasets import image_folder

_Path = str | os.PathLike[str]
_COLUMNS = ["filename", "label"]
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")  # what a number is written back as
_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: "grey", 2: "RGB"}  # PNG's colour types that NumPy holds as they are


class Data(NamedTuple):
  """Labelled rows, and what is needed to write them as they came.

  Attributes:
    x: `[N, ...]`.
    y: `[N]` integers or text.
    names: of the images' files, in the order of the CSV; None for an `.npz`.
    csv_name: of the CSV; None for an `.npz`.
  """

  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...] | None = None
  csv_name: str | None = None


def read_data(path: _Path) -> Data:
  """Reads an owner's data.

  Args:
    path: an `.npz` of `x [N, ...]` and `y [N]` and nothing else; or a folder of PNG
      images of one size, 8 bits deep, grey or RGB, with one CSV of the columns
      `filename` and `label` that lists them all.

  Raises:
    FileNotFoundError: there is no such file or folder, or a listed image is missing.
    ValueError: it is not as said; names the file.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    return _read_folder(path)
  arrays = _read_npz(path, ("x", "y"))
  try:
    submarks.check_data(arrays["x"], arrays["y"])
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return Data(arrays["x"], arrays["y"])


def read_queries(path: _Path) -> np.ndarray:
  """Reads a query set, `[m, ...]`: the `queries.npz`, or folder, that `write` left.

  Raises:
    FileNotFoundError: there is no such file or folder.
    ValueError: it is no query set.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_dir():
    return _read_npz(path, ("x",))["x"]
  files = sorted(path.glob("*.png"))
  if not files:
    raise ValueError(f"{path}: holds no PNG images")
  return _read_images(files)


def read_key(path: _Path) -> keys.Key:
  """Reads a `key.json`, of sub-marks or of one mark.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no key.
  """
  try:
    content = json.loads(pathlib.Path(path).expanduser().read_text())
    return keys.from_json(content)
  except RecursionError as error:
    raise ValueError(f"{path}: not a key of this version: nested too deep") from error
  except ValueError as error:
    raise ValueError(f"{path}: not a key of this version: {error}") from error


def check_unused(folder: pathlib.Path) -> None:
  """Raises ValueError unless the folder is absent or empty: keys are not replaced."""
  if folder.exists() and any(folder.iterdir()):
    raise ValueError(
      f"output_dir={folder} must be new or empty: an overwritten key is lost"
    )


def write(
  folder: pathlib.Path, marked: submarks.Marked | ownership.Marked, data: Data
) -> None:
  """Writes the marked data, the query set and the key: all or none.

  They are written beside the folder, which then takes its place in one step:
  `marked.npz` and `queries.npz`, or `marked/` and `queries/`, and `key.json`. All
  images are encoded anew, by one encoder, so that the files of marked ones look no
  different from the others. The key is readable to its owner alone.

  Args:
    folder: absent or empty.
    marked: what `submarks.mark` or `ownership.mark` returned.
    data: what it was given, as read.

  Raises:
    ValueError: the folder is not empty.
    OSError: it cannot be written.
  """
  folder = folder.resolve()
  check_unused(folder)
  with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
    staged = pathlib.Path(temporary, "new")
    staged.mkdir()
    if data.names is None or data.csv_name is None:
      np.savez_compressed(staged / "marked.npz", x=marked.x, y=marked.y)
      np.savez_compressed(staged / "queries.npz", x=marked.queries)
    else:
      names = [data.names[row] for row in marked.kept]
      _write_images(staged / "marked", names, marked.x)
      with (staged / "marked" / data.csv_name).open("w", newline="") as file:
        rows = zip(names, marked.y.tolist(), strict=True)
        csv.writer(file).writerows([_COLUMNS, *rows])
      digits = len(str(len(marked.queries) - 1))
      order = [f"{i:0{digits}}.png" for i in range(len(marked.queries))]
      _write_images(staged / "queries", order, marked.queries)
    text = json.dumps(keys.to_json(marked.key), indent=2)
    secret = os.open(staged / "key.json", os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(secret, "w") as file:
      file.write(text + "\n")
    os.replace(staged, folder)


def _read_npz(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:  # TypeError: a bare .npy
      if sorted(file.files) != sorted(names):
        raise ValueError(f"it holds {', '.join(file.files) or 'nothing'}")
      return dict(file)
  except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(
      f"{path}: not an .npz of {' and '.join(names)} alone: {error}"
    ) from error


def _read_folder(folder: pathlib.Path) -> Data:
  table = image_folder.read_table(folder)
  if list(table.header) != _COLUMNS:
    raise ValueError(
      f"{table.path}: expected the columns {','.join(_COLUMNS)} and rows"
    )
  for line, row in enumerate(zip(table.names, table.labels, strict=True), start=2):
    if pathlib.PurePath(row[0]).suffix != ".png":
      raise ValueError(f"{table.path}: row {line}: {row[0]} is no .png")
  files = [folder / name for name in table.names]
  extra = set(folder.rglob("*.png")) - set(files)
  if extra:
    raise ValueError(f"{table.path}: does not list {min(extra).relative_to(folder)}")
  is_numbered = all(_NUMBER.fullmatch(label) for label in table.labels)
  y = np.array([int(label) if is_numbered else label for label in table.labels])
  return Data(_read_images(files), y, table.names, table.path.name)


def _read_images(files: Sequence[pathlib.Path]) -> np.ndarray:
  """`[N, H, W]` or `[N, H, W, 3]` uint8."""
  return image_folder.read_images(files, _read_image)


def _read_image(path: pathlib.Path, first: tuple[int, ...] | None) -> np.ndarray:
  """An image as it is, so that it can be written so again."""
  del first
  with path.open("rb") as file:
    header = file.read(26)
    # Pillow would open deeper or indexed images too, but not as they are.
    if header[:8] != _PNG or header[24:25] != b"\x08" or header[25] not in _CHANNELS:
      raise ValueError(f"{path}: not a PNG image 8 bits deep, grey or RGB")
    file.seek(0)
    try:
      with Image.open(file) as image:
        if "transparency" in image.info:
          raise ValueError("it has a transparent colour")
        return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
      raise ValueError(f"{path}: not a whole opaque PNG image: {error}") from error


def _write_images(
  folder: pathlib.Path, names: Sequence[str], images: np.ndarray
) -> None:
  for name, image in zip(names, images, strict=True):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")
