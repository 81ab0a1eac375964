"""Datasets read through TFDS: the stock image sets and our builders' archives.

TFDS prepares a dataset in `DATA_DIR/NAME/VERSION/` as array_record files, and
`as_data_source` reads those without TensorFlow. What is read is cached under
`DATA_DIR/jmia_cache/NAME-VERSION-DIGEST/`, where the digest is that of the prepared
files; with a cache, TFDS is not so much as imported.
"""

import hashlib
import json
import logging
import pathlib
import re
from typing import NamedTuple

import numpy as np

from jmia import types
from jmia.datasets import archives, cache

_BATCH = 1000

_log = logging.getLogger(__name__)


class Source(NamedTuple):
  """What we know of a TFDS dataset before it is read.

  Attributes:
    feature: the key of its features; labels are always under `label`.
    splits: the splits we use, train first.
    num_classes: number of classes.
    feature_scale: as in `types.Dataset`.
    description: as in `types.Dataset`.
  """

  feature: str
  splits: tuple[str, ...]
  num_classes: int
  feature_scale: float
  description: str


def _images(num_classes: int, description: str) -> Source:
  return Source("image", ("train", "test"), num_classes, 1 / 255, description)


def _bits(num_classes: int, description: str) -> Source:
  return Source("features", ("train",), num_classes, 1.0, description)


SOURCES = {
  "location30": _bits(
    30, "Location-30: 446 places that 5,010 Foursquare users in Bangkok visited or not."
  ),
  "purchase100": _bits(
    100, "Purchase-100: 600 products that 197,324 Kaggle shoppers bought or not."
  ),
  "texas100": _bits(
    100, "Texas-100: 6,169 attributes of 67,330 hospital stays, present or not."
  ),
  "mnist": _images(10, "MNIST: 70,000 handwritten digits of 28 x 28 grey pixels."),
  "cifar10": _images(10, "CIFAR-10: 60,000 photographs of 32 x 32 colour pixels."),
  "cifar100": _images(100, "CIFAR-100: 60,000 photographs of 32 x 32 colour pixels."),
  "stl10": _images(10, "STL-10: 13,000 labelled photographs of 96 x 96 colour pixels."),
}


def load(name: str, data_dir: pathlib.Path) -> types.Dataset:
  """Loads one of `SOURCES`, from the cache where it can.

  Args:
    name: a key of `SOURCES`.
    data_dir: TFDS's folder.

  Returns:
    The dataset. Rows keep the order of the prepared files: that of the archive for
    ours, TFDS's own shuffle, the same on every machine, for the stock ones.

  Raises:
    archives.ArchiveError: if the local archive is truncated or altered.
    OSError: if the dataset is neither there nor to be had, or is damaged.
    ImportError: if TFDS is needed and not installed.
  """
  prepared = _prepared(name, data_dir)
  outdated = prepared is not None and _is_outdated(name, prepared, data_dir)
  if prepared is None or outdated:
    _log.info("preparing %s in %s, once", name, data_dir)
    prepared = _import_builders(name).prepare(name, data_dir, overwrite=outdated)
  source = SOURCES[name]
  folder = f"{name}-{prepared.name}-{_digest(prepared, source)}"
  arrays = cache.load_or_build(
    data_dir / "jmia_cache" / folder, lambda: _read(name, prepared)
  )
  return types.Dataset(
    name=name,
    x=arrays.x,
    y=arrays.y,
    num_classes=source.num_classes,
    num_train=int(arrays.num_train),
    feature_scale=source.feature_scale,
    is_synthetic=False,
    description=source.description,
  )


def _prepared(name: str, data_dir: pathlib.Path) -> pathlib.Path | None:
  """The folder of the newest version prepared, if there is one."""
  folders = [
    info.parent
    for info in data_dir.glob(f"{name}/*/dataset_info.json")
    if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
  ]
  return max(folders, key=lambda f: tuple(map(int, f.name.split("."))), default=None)


def _is_outdated(name: str, prepared: pathlib.Path, data_dir: pathlib.Path) -> bool:
  """Whether a local archive has other bytes than the one prepared from."""
  archive = archives.ARCHIVES.get(name)
  path = local_archive(name, data_dir)
  if archive is None or path is None:
    return False
  metadata = json.loads((prepared / "metadata.json").read_text())
  return metadata.get("archive_sha256") != archives.check(archive, path)


def local_archive(name: str, data_dir: pathlib.Path) -> pathlib.Path | None:
  """Where the dataset's original archive lies in the manual directory, if it does."""
  if name not in archives.ARCHIVES:
    return None
  path = data_dir / "downloads" / "manual" / archives.ARCHIVES[name].file
  return path if path.is_file() else None


def _digest(prepared: pathlib.Path, source: Source) -> str:
  """Digest of the prepared files that are read."""
  patterns = ["*.json", *(f"*-{split}.*" for split in source.splits)]
  files = sorted(file for pattern in patterns for file in prepared.glob(pattern))
  # CRC-32 keeps a second load of CIFAR-10 well under a second; SHA-256 need not.
  checksums = [(file.name, file.stat().st_size, cache.crc32(file)) for file in files]
  return hashlib.sha256(repr(checksums).encode()).hexdigest()[:16]


def _read(name: str, prepared: pathlib.Path) -> cache.Arrays:
  """All rows of a prepared dataset, in memory."""
  tfds = _import_builders(name).tfds
  _log.info("reading %s from %s, once", name, prepared)
  source = SOURCES[name]
  try:
    builder = tfds.builder_from_directory(prepared)
    parts = [builder.as_data_source(split) for split in source.splits]
    x, y = _rows(parts, source.feature)
  except NotImplementedError as error:
    raise OSError(
      f"{name}: {prepared} is in a format that only TensorFlow reads; delete it or "
      "give another data_dir, to have it prepared as array_record"
    ) from error
  # TFDS and array_record document no error types for files that are damaged.
  except Exception as error:
    raise OSError(
      f"{name}: {prepared} is damaged ({first_line(error)}); delete it to have it "
      "prepared anew"
    ) from error
  return cache.Arrays(x=x, y=y, num_train=np.array(len(parts[0])))


def _rows(parts, feature: str) -> tuple[np.ndarray, np.ndarray]:
  """Features and labels of data sources, joined."""
  num_rows = sum(len(part) for part in parts)
  row = parts[0][0][feature]
  x = np.empty((num_rows, *row.shape), row.dtype)
  y = np.empty(num_rows, np.int32)
  i = 0
  for part in parts:
    for start in range(0, len(part), _BATCH):
      stop = min(start + _BATCH, len(part))
      for example in part.__getitems__(list(range(start, stop))):
        x[i], y[i] = example[feature], example["label"]
        i += 1
  return x, y


def first_line(error: Exception) -> str:
  """An error's type and the first line of its message."""
  message = str(error).strip().splitlines()
  return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__


def _import_builders(name: str):
  """The module that needs TFDS; says what is missing where TFDS is not installed."""
  try:
    from jmia.datasets import builders
  except ImportError as error:
    raise ImportError(
      f"{name} is read with tensorflow-datasets, which cannot be imported ({error}); "
      "pip install tensorflow-datasets"
    ) from error
  return builders
