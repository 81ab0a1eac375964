"""Arrays kept on disk as `.npy`, checked by checksum and read by memory map.

A folder of the cache holds `x.npy`, `y.npy`, `num_train.npy`, `origin.npy` and
`checksums.json`. It appears whole or not at all: it is written beside its place and
renamed into it.
"""

from collections.abc import Callable
import contextlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from typing import NamedTuple
import zlib

import numpy as np

_CHECKSUMS = "checksums.json"
_CHUNK = 1 << 24
_WRITING = ".writing-"
_ABANDONED = 86_400  # seconds after which nobody writes any more: a kill left it

_log = logging.getLogger(__name__)


class Arrays(NamedTuple):
  """What is kept of a dataset.

  Attributes:
    x: `[N, ...]` features.
    y: `[N]` int32 labels.
    num_train: int64 scalar array, number of rows of the train split.
    origin: `[N]` int64, each row's place in its split as it was published; -1 where
      that is not known.
  """

  x: np.ndarray
  y: np.ndarray
  num_train: np.ndarray
  origin: np.ndarray


class _DamagedError(Exception):
  """A cache folder that is not as it was written."""


def load_or_build(folder: pathlib.Path, build: Callable[[], Arrays]) -> Arrays:
  """Reads a cached dataset, or builds and caches it.

  Every byte is checked against its CRC-32 (0.1 s for CIFAR-10), so a truncated or
  edited cache is noticed whatever its time stamps say; it is then built anew, with a
  warning in the log. Processes that build at once do not disturb each other.

  Args:
    folder: the cache's place; its name should tell the content's version and digest.
    build: makes the arrays where the cache has none. What it raises is passed on, and
      nothing is written.

  Returns:
    The arrays, `x` as a read-only memory map; from memory, with a warning in the log,
    where the folder cannot be written.
  """
  cached = _try_read(folder)
  if cached is not None:
    return cached
  built = build()
  try:
    _publish(folder, built)
    return _read(folder)
  except OSError as error:
    _log.warning("%s cannot be cached, so every load starts anew: %s", folder, error)
    return built


def _try_read(folder: pathlib.Path) -> Arrays | None:
  """The cached arrays, or None where they are absent or damaged."""
  if not folder.exists():
    return None
  try:
    if not _file(folder, "origin").exists():
      _log.info("cache %s is of an earlier version and will be rebuilt", folder)
      return None
    return _read(folder)
  except (_DamagedError, OSError, ValueError) as error:
    _log.warning("cache %s is damaged and will be rebuilt: %s", folder, error)
    return None


def _read(folder: pathlib.Path) -> Arrays:
  """The cached arrays, checked."""
  checksums = json.loads((folder / _CHECKSUMS).read_text("utf-8"))
  for name in Arrays._fields:
    if crc32(_file(folder, name)) != checksums.get(name):
      raise _DamagedError(f"{name}.npy does not match its checksum")
  return Arrays(
    x=np.load(_file(folder, "x"), mmap_mode="r"),
    y=np.load(_file(folder, "y")),
    num_train=np.load(_file(folder, "num_train")),
    origin=np.load(_file(folder, "origin")),
  )


def _publish(folder: pathlib.Path, arrays: Arrays) -> None:
  """Writes the arrays beside `folder`, then puts them there in one step."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  for left in folder.parent.glob(f"{_WRITING}*"):
    with contextlib.suppress(FileNotFoundError):  # it has just been finished
      if time.time() - left.stat().st_mtime > _ABANDONED:
        shutil.rmtree(left, ignore_errors=True)
  with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_WRITING) as temporary:
    staged = pathlib.Path(temporary, "new")
    staged.mkdir()
    for name, array in arrays._asdict().items():
      np.save(_file(staged, name), array)
    checksums = {name: crc32(_file(staged, name)) for name in Arrays._fields}
    (staged / _CHECKSUMS).write_text(json.dumps(checksums), "utf-8")
    if _try_read(folder) is not None:
      return  # Another process was faster.
    try:
      if folder.exists():
        # A damaged one: a folder that is not empty cannot be renamed over.
        os.replace(folder, pathlib.Path(temporary, "old"))
      os.replace(staged, folder)
    except OSError:
      if _try_read(folder) is None:
        raise


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Where the array `name` is kept."""
  return folder / f"{name}.npy"


def crc32(path: pathlib.Path) -> int:
  """Returns the CRC-32 of a file's bytes."""
  value = 0
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      value = zlib.crc32(chunk, value)
  return value
