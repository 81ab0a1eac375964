"""Reads an `.npz` or `.npy` of unknown origin, within the memory that the file fills.

`np.load` believes an array's header. One that asks for 10^12 elements, in a file of a
kilobyte, ends in a MemoryError; here it is compared with what the archive holds before
anything is allocated.
"""

from collections.abc import Collection
import math
import os
import pathlib
import struct
import tokenize
from typing import IO
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

from jmia.datasets import memory

_SUFFIX = ".npy"
_MAX_HEADER = 10_000  # bytes; NumPy's own limit
_CHUNK = 1 << 22
# A zip's fields and an array's header can be wrong in many ways.
_BROKEN = (
  EOFError, MemoryError, NotImplementedError, OSError, OverflowError, RecursionError,
  RuntimeError, SyntaxError, ValueError, struct.error, tokenize.TokenError,
  zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read(
  path: str | os.PathLike[str], names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads an archive of plain arrays.

  Args:
    path: an `.npz`, compressed or not; `~` is the home folder.
    names: of the arrays to read, where they are there. Default: all.

  Returns:
    The arrays by name, in the file's order.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no whole `.npz`, an array holds Python objects, its header does
      not fit what is stored, or it would not fit into memory.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    _, prefix, rest = str(path).partition("npz:")  # as --dataset has it
    hint = f"; did you mean {rest!r}?" if prefix and rest else ""
    raise FileNotFoundError(f"{path}: no such file, expected an .npz of arrays{hint}")
  try:
    with path.open("rb") as file:
      return _read(file, names)
  except _BROKEN as error:
    raise ValueError(
      f"{path}: not a whole .npz file of plain arrays ({_reason(error)})"
    ) from error


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads a bare `.npy` with the same care.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: as `read`.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file, expected an .npy array")
  try:
    with path.open("rb") as file:
      memory.check("its array", path.stat().st_size)
      return _array(path.name, file, path.stat().st_size)
  except _BROKEN as error:
    raise ValueError(
      f"{path}: not a whole .npy file of plain numbers ({_reason(error)})"
    ) from error


def _reason(error: BaseException) -> str:
  cause = str(error).strip().splitlines()
  return cause[0] if cause else type(error).__name__


def _read(file: IO[bytes], names: Collection[str] | None) -> dict[str, np.ndarray]:
  """All arrays of an open file, or those of `names`."""
  if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
    raise ValueError("it holds one bare array")
  arrays: dict[str, np.ndarray] = {}
  with zipfile.ZipFile(file) as archive:
    members = {}
    for info in archive.infolist():
      name = info.filename.removesuffix(_SUFFIX)
      if name in members:
        raise ValueError(f"it holds {name} twice")
      members[name] = info
    wanted = [name for name in members if names is None or name in names]
    memory.check("its arrays", sum(members[name].file_size for name in wanted))
    for name in wanted:
      if not members[name].filename.endswith(_SUFFIX):
        raise ValueError(f"{name} is no array")
      with archive.open(members[name]) as member:
        arrays[name] = _array(name, member, members[name].file_size)
  return arrays


def _array(name: str, member: IO[bytes], size: int) -> np.ndarray:
  """One array, whose header is held against its `size` in bytes first."""
  version = npy.read_magic(member)
  if version == (1, 0):
    header = npy.read_array_header_1_0(member, max_header_size=_MAX_HEADER)
  elif version == (2, 0):
    header = npy.read_array_header_2_0(member, max_header_size=_MAX_HEADER)
  else:
    raise ValueError(f"{name} is of npy version {version}, expected 1.0 or 2.0")
  shape, is_fortran, dtype = header
  if dtype.hasobject:
    raise ValueError(
      f"{name} holds Python objects, expected numbers or text; save "
      f"{name}.astype(str), or a numeric type"
    )
  num_bytes = dtype.itemsize * math.prod(shape)
  stored = size - member.tell()
  if min(shape, default=0) < 0 or num_bytes != stored:
    raise ValueError(
      f"{name} has the header of an array of shape {shape} and dtype {dtype}, "
      f"{num_bytes} bytes, but {stored} bytes"
    )
  # Memory is filled chunk by chunk: a member that is cut short takes no more.
  array = np.empty(math.prod(shape), dtype)
  filled = 0
  while num_bytes and (part := member.read(_CHUNK)):
    array.view(np.uint8)[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
    filled += len(part)
  if filled != num_bytes:
    raise ValueError(f"{name} is cut short")
  return array.reshape(shape, order="F" if is_fortran else "C")
