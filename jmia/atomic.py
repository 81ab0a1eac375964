"""Files that are there whole or not at all.

A file is made beside its place, under a name of this process, and takes the place in
one step; several files that belong together are made in a folder beside theirs. What a
killed process leaves in the making is known by its name (`remove_left`).
"""

from collections.abc import Iterable, Iterator
import contextlib
import os
import pathlib
import secrets
import shutil
import tempfile
from typing import BinaryIO

_Path = str | os.PathLike[str]
_FOLDER = ".incomplete-"  # and then the process and something random
_PARTIAL = ".partial"


@contextlib.contextmanager
def opened(path: _Path, mode: int = 0o666) -> Iterator[BinaryIO]:
  """Opens a new file that takes its place when the block ends, and not if it fails.

  Args:
    path: of the file, in a folder that exists. A file that is there is replaced, and
      stays as it is where the block or the disk fails.
    mode: permissions, less the umask, as `open` gives them; 0o600 for secrets.

  Yields:
    The file, open for writing bytes.

  Raises:
    OSError: it cannot be written; nothing is left of it.
  """
  path = pathlib.Path(path)
  # The same command may have been started twice, on another machine by one number.
  maker = f"{os.getpid()}-{secrets.token_hex(4)}"
  partial = path.with_name(f".{path.name}.{maker}{_PARTIAL}")
  try:
    # Never a file that somebody else made, who could read a secret in it.
    new = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(new, "wb") as file:
      yield file
      _sync(file)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write(path: _Path, content: bytes, mode: int = 0o666) -> None:
  """Writes `content` to `path`; arguments and errors as of `opened`."""
  with opened(path, mode) as file:
    file.write(content)


@contextlib.contextmanager
def folder(parent: _Path) -> Iterator[pathlib.Path]:
  """Makes a folder for files in the making, which goes when the block ends.

  Args:
    parent: the folder that they are for (`move`).
  """
  prefix = f"{_FOLDER}{os.getpid()}-"
  with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as name:
    yield pathlib.Path(name)


def move(made: pathlib.Path, parent: _Path, names: Iterable[str]) -> None:
  """Moves files to where they belong, each whole, in the order of `names`.

  Args:
    made: of `folder`.
    parent: on the same disk; files of those names in it are replaced.
    names: of files in `made`.

  Raises:
    OSError: one of them is not there, or cannot be written.
  """
  names = list(names)
  for name in names:  # all before the first: then only renames can be cut off
    with (made / name).open("rb+") as file:
      _sync(file)
  for name in names:
    os.replace(made / name, pathlib.Path(parent, name))


def remove_left(parent: _Path, *, of_running: bool = False) -> None:
  """Removes what killed processes left in the making, as far as that can be done.

  Args:
    parent: the folder that it was for.
    of_running: also what a process that runs on this machine may be making: for whoever
      has the folder to himself.
  """
  parent = pathlib.Path(parent)
  for left in parent.glob(f"{_FOLDER}*"):
    maker = left.name.removeprefix(_FOLDER)
    if of_running or not _is_running(maker):
      shutil.rmtree(left, ignore_errors=True)
  for left in parent.glob(f".*.[0-9]*{_PARTIAL}"):
    maker = left.name.removesuffix(_PARTIAL).rpartition(".")[2]
    if of_running or not _is_running(maker):
      left.unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
  """A rename must not reach the disk before the content."""
  file.flush()
  os.fsync(file.fileno())


def _is_running(maker: str) -> bool:
  """Whether another process of the number that a name begins with runs here."""
  number = maker.partition("-")[0]
  if not number.isdecimal():
    return False
  try:
    os.kill(int(number), 0)
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):
    return True
  return int(number) != os.getpid()
