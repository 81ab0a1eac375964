"""An owner's folder of images: read as an audit reads it, and written as it came.

PNG and JPEG images stay what they are, a JPEG with the tables and the subsampling of
its original; other kinds become PNG. All are encoded anew by one encoder, so that the
files of marked images look no different from the others. What a JPEG shows is not what
was encoded; `after_encoding` gives that, so that the key's hashes and the queries are
of pixels that a reader of the published files sees.
"""

from collections.abc import Sequence
import csv
import io
import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.backdoor import classes
from jmia.datasets import image_folder, images
from jmia.datasets import labels as labels_lib

if TYPE_CHECKING:
  from PIL import Image

_TITLES = ("filename", "label")
_JPEG = (".jpg", ".jpeg")
_SUBSAMPLINGS = (0, 1, 2)  # 4:4:4, 4:2:2 and 4:2:0, as Pillow counts them
_COARSEST = 2


class Jpeg(NamedTuple):
  """How a JPEG image was encoded: `tables[i][k]` divide its coefficients."""

  tables: tuple[tuple[int, ...], ...]
  subsampling: int


class Folder(NamedTuple):
  """A folder's images, and what is needed to write them as they came.

  Attributes:
    x: `[N, H, W]` or `[N, H, W, 3]` uint8, or uint16.
    y: `[N]` labels as written: integers if all are, else text.
    names: `N` files' names, of `.png` and `.jpg`, relative to the folder.
    csv_name: of the CSV; None where each class has a folder.
    titles: of the CSV's two columns.
    encodings: `N`; None for a PNG.
    notes: what reading changed, a sentence each.
  """

  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...]
  csv_name: str | None
  titles: tuple[str, str]
  encodings: tuple[Jpeg | None, ...]
  notes: tuple[str, ...] = ()


def read(folder: pathlib.Path) -> Folder:
  """Reads a folder as `image_folder.read` takes it, without folders train and test.

  Raises:
    FileNotFoundError: a listed image is missing.
    ValueError: the CSV or an image is not as said, an image is not listed, or names
      would be the same in what is written; names the file.
  """
  table = image_folder.read_table(folder)
  files = [folder / name for name in table.names]
  if table.num_train < len(files):
    raise ValueError(
      f"{folder}: has folders train and test, expected one data set: mark the train"
      " folder alone"
    )
  listed = {file.resolve() for file in files}
  for name in image_folder.files_below(folder):
    if image_folder.is_image(name) and (folder / name).resolve() not in listed:
      raise ValueError(f"{table.path}: does not list {name}")
  said: tuple[str, ...] = ()
  found = np.array(table.labels)
  if table.path != folder:  # names of folders are neither missing nor numbers
    try:
      found, said = labels_lib.clean("label", found)
    except ValueError as error:
      raise ValueError(f"{table.path}: {error}") from error
  pictures = images.read_all(files)
  names, renamed = _names(table.names)
  return Folder(
    x=pictures.values[..., 0] if pictures.values.shape[-1] == 1 else pictures.values,
    y=classes.as_written(found.tolist()),
    names=names,
    csv_name=table.path.name if table.path != folder else None,
    titles=(table.header or _TITLES)[:2],  # type: ignore[arg-type]
    encodings=tuple(map(_encoding, files)),
    notes=(*table.notes, *said, *pictures.notes, *renamed),
  )


def read_queries(folder: pathlib.Path) -> np.ndarray:
  """Returns `[m, H, W]` or `[m, H, W, 3]`, the images of a folder by their names.

  Raises:
    ValueError: it holds none, or they are not of one shape.
  """
  files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in images.SUFFIXES]
  if not files:
    raise ValueError(f"{folder}: holds no images")
  values = images.read_all(files).values
  return values[..., 0] if values.shape[-1] == 1 else values


def after_encoding(x: np.ndarray, encodings: Sequence[Jpeg | None]) -> np.ndarray:
  """Returns images `[N, ...]` as a reader of their files sees them.

  Args:
    x: `[N, ...]` to be encoded.
    encodings: of each.
  """
  from PIL import Image

  seen = x.copy()
  for i, encoding in enumerate(encodings):
    if encoding is not None:
      with Image.open(io.BytesIO(_encoded(x[i], encoding))) as image:
        seen[i] = np.asarray(image)
  return seen


def write(
  folder: pathlib.Path, data: Folder, rows: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
  """Writes the published images and their labels.

  Where each class has a folder, images lie in that of their new label, and all are
  numbered anew, so that no name tells one that has moved.

  Args:
    folder: which does not exist.
    data: as read.
    rows: `[M]` of data, to be written.
    x: `[M, ...]` their images.
    y: `[M]` their labels.
  """
  names = [data.names[row] for row in rows]
  labels = [str(label) for label in y.tolist()]
  if data.csv_name is None:
    digits = len(str(len(names) - 1))
    names = [
      f"{label}/{i:0{digits}}{pathlib.PurePath(name).suffix}"
      for i, (label, name) in enumerate(zip(labels, names, strict=True))
    ]
  for name, row, image in zip(names, rows, x, strict=True):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encoded(image, data.encodings[row]))
  if data.csv_name is not None:
    with (folder / data.csv_name).open("w", newline="", encoding="utf-8") as file:
      csv.writer(file).writerows([data.titles, *zip(names, labels, strict=True)])


def write_queries(folder: pathlib.Path, x: np.ndarray) -> None:
  """Writes images `[m, ...]` as PNG, named by their place."""
  folder.mkdir()
  digits = len(str(len(x) - 1))
  for i, image in enumerate(x):
    (folder / f"{i:0{digits}}.png").write_bytes(_encoded(image, None))


def surviving(
  x: np.ndarray, stamped: np.ndarray, encodings: Sequence[Jpeg | None]
) -> float:
  """Returns which share of what stamping changes is left in the files, in the mean.

  For one image it is `<d, e> / <d, d>` of `d = stamped - x` and e the same after
  encoding: 1 for PNG.

  Args:
    x: `[N, ...]`.
    stamped: `[N, ...]`, each different from x.
    encodings: of each.
  """
  wanted = (stamped.astype(np.float64) - x).reshape(len(x), -1)
  seen = after_encoding(stamped, encodings).astype(np.float64)
  left = (seen - after_encoding(x, encodings)).reshape(len(x), -1)
  norm = (wanted**2).sum(axis=1)
  return float(((wanted * left).sum(axis=1)[norm > 0] / norm[norm > 0]).mean())


def _names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """The files' names in what is written, and what to say of them."""
  found = tuple(
    name
    if (pure := pathlib.PurePath(name)).suffix.lower() in (".png", *_JPEG)
    else str(pure.with_suffix(".png"))
    for name in names
  )
  if len({*found}) < len(found):
    twice = next(name for name in found if found.count(name) > 1)
    raise ValueError(f"two images would be written as {twice}: rename one")
  changed = sum(a != b for a, b in zip(found, names, strict=True))
  note = f"{changed} images that are neither PNG nor JPEG are written as PNG."
  return found, (note,) if changed else ()


def _encoding(path: pathlib.Path) -> Jpeg | None:
  """How a JPEG was encoded; None for what is written as PNG."""
  from PIL import Image, JpegImagePlugin

  expected = {".png": ("PNG",), **dict.fromkeys(_JPEG, ("JPEG", "MPO"))}
  with Image.open(path) as image:
    if image.format not in expected.get(path.suffix.lower(), (image.format,)):
      raise ValueError(f"{path}: is {image.format}, which its name does not say")
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
      return None
    if image.mode not in ("L", "RGB"):
      raise ValueError(
        f"{path}: a JPEG of {image.mode} colours, expected grey or RGB: convert it"
      )
    tables = tuple(tuple(image.quantization[i]) for i in sorted(image.quantization))
    sampling = JpegImagePlugin.get_sampling(image)
  return Jpeg(tables, sampling if sampling in _SUBSAMPLINGS else _COARSEST)


def _encoded(image: np.ndarray, encoding: Jpeg | None) -> bytes:
  """An image as the bytes of its file."""
  from PIL import Image

  buffer = io.BytesIO()
  drawn = Image.fromarray(image)
  if encoding is None:
    drawn.save(buffer, format="PNG")
  else:
    _save_jpeg(drawn, buffer, encoding)
  return buffer.getvalue()


def _save_jpeg(drawn: "Image.Image", buffer: io.BytesIO, encoding: Jpeg) -> None:
  tables = {i: [*table] for i, table in enumerate(encoding.tables)}
  if drawn.mode == "L":
    drawn.save(buffer, format="JPEG", qtables={0: tables[0]})
  else:
    drawn.save(buffer, format="JPEG", qtables=tables, subsampling=encoding.subsampling)
