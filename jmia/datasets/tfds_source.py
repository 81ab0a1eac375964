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

import numpy as np

from jmia import types
from jmia.datasets import archives, cache, sources

_BATCH = 1000
_SHUFFLED = (
  "Rows are in TFDS's order, not in that of the publisher's files, torchvision or"
  " Keras: their indices name other images (see datasets.load(..., order='publisher')"
  " and datasets.rows_of)."
)

_log = logging.getLogger(__name__)


def load(name: str, data_dir: pathlib.Path, order: str = "prepared") -> types.Dataset:
  """Loads one of `sources.SOURCES`, from the cache where it can.

  Args:
    name: a key of `sources.SOURCES`.
    data_dir: TFDS's folder.
    order: "prepared" or "publisher".

  Returns:
    The dataset. Rows keep the order of the prepared files: that of the archive for
    ours, TFDS's own shuffle, the same on every machine, for the stock ones; or they are
    put into that of the publisher's files.

  Raises:
    ValueError: if the prepared files do not say what the publisher's order was.
    archives.ArchiveError: if the local archive is truncated or altered.
    OSError: if the dataset is neither there nor to be had, or is damaged.
    ImportError: if TFDS is needed and not installed.
  """
  prepared = _prepared(name, data_dir)
  outdated = prepared is not None and _is_outdated(name, prepared, data_dir)
  if prepared is None or outdated:
    _log.info("preparing %s in %s, once", name, data_dir)
    prepared = _import_builders(name).prepare(name, data_dir, overwrite=outdated)
  source = sources.SOURCES[name]
  folder = f"{name}-{prepared.name}-{_digest(prepared, source)}"
  arrays = cache.load_or_build(
    data_dir / "jmia_cache" / folder, lambda: _read(name, prepared)
  )
  rows = _order(name, arrays, order)
  x, y = arrays.x, arrays.y
  if rows is not None:
    x, y = x[rows], y[rows]
  is_shuffled = order == "prepared" and source.feature == "image"
  return types.Dataset(
    name=name,
    x=x,
    y=y,
    num_classes=source.num_classes,
    num_train=int(arrays.num_train),
    feature_scale=source.feature_scale,
    is_synthetic=False,
    description=source.description,
    notes=(_SHUFFLED,) if is_shuffled else (),
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
  path = sources.local_archive(name, data_dir)
  if archive is None or path is None:
    return False
  metadata = json.loads((prepared / "metadata.json").read_text("utf-8"))
  return metadata.get("archive_sha256") != archives.check(archive, path)


def _digest(prepared: pathlib.Path, source: sources.Source) -> str:
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
  source = sources.SOURCES[name]
  try:
    builder = tfds.builder_from_directory(prepared)
    parts = [builder.as_data_source(split) for split in source.splits]
    x, y, origin = _rows(parts, source.feature)
  except NotImplementedError as error:
    raise OSError(
      f"{name}: {prepared} is in a format that only TensorFlow reads; delete it or "
      "give another data_dir, to have it prepared as array_record"
    ) from error
  # TFDS and array_record document no error types for files that are damaged.
  except Exception as error:
    raise OSError(
      f"{name}: {prepared} is damaged ({sources.first_line(error)}); delete it to have "
      "it prepared anew"
    ) from error
  return cache.Arrays(x=x, y=y, num_train=np.array(len(parts[0])), origin=origin)


def _rows(parts, feature: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Features, labels and origins of data sources, joined."""
  num_rows = sum(len(part) for part in parts)
  row = parts[0][0][feature]
  x = np.empty((num_rows, *row.shape), row.dtype)
  y = np.empty(num_rows, np.int32)
  # Rows of bits are prepared in the archive's order. CIFAR's images say where they
  # were: "train_16399". MNIST's and STL-10's do not.
  keeps_order = feature == "features"
  origin = np.arange(num_rows) if keeps_order else np.full(num_rows, -1)
  i = 0
  for part in parts:
    for start in range(0, len(part), _BATCH):
      stop = min(start + _BATCH, len(part))
      for example in part.__getitems__(list(range(start, stop))):
        x[i], y[i] = example[feature], example["label"]
        if "id" in example:
          origin[i] = _number(example["id"])
        i += 1
  return x, y, origin


def _number(identity: bytes | str) -> int:
  """The number at the end of a record's id; -1 if there is none."""
  text = identity.decode() if isinstance(identity, bytes) else str(identity)
  found = re.search(r"\d+$", text)
  return int(found.group()) if found else -1


def _order(name: str, arrays: cache.Arrays, order: str) -> np.ndarray | None:
  """The cached row at each place of the order asked for; None if it is theirs."""
  splits = np.split(arrays.origin, [int(arrays.num_train)])
  # Every place is taken once: else the records' ids are not what they were taken for.
  if any(not np.array_equal(np.sort(s), np.arange(len(s))) for s in splits):
    if order == "prepared":
      return None
    raise ValueError(
      f"order={order!r}: {name} as TFDS prepares it does not say where a row was; map "
      "rows of your own copy with datasets.rows_of"
    )
  if order == "prepared" or all((np.diff(s) > 0).all() for s in splits):
    return None
  train, test = map(np.argsort, splits)
  return np.concatenate([train, int(arrays.num_train) + test])


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
