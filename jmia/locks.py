"""One process at a time in a folder of results.

The lock ends with its process, however that ends. It is of a file in the folder which
is open for writing: an NFS client asks its server for that one, and of a folder it
would be this machine's alone, or none.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import threading
import types

NAME = ".jmia-run.lock"
# (device, inode) of folders that threads of this process hold, and the thread.
_HOLDERS: dict[tuple[int, int], int] = {}


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Holds a folder's lock, where the file system has locks.

  Who holds it may hold it once more: a command that holds its folder calls what holds
  it for the writing alone.

  Args:
    folder: that exists.

  Raises:
    ValueError: another process, or another thread, holds it.
  """
  stat = folder.stat()
  at = stat.st_dev, stat.st_ino
  if _HOLDERS.get(at) == threading.get_ident():
    yield
    return
  with _locked(folder):
    _HOLDERS[at] = threading.get_ident()
    try:
      yield
    finally:
      del _HOLDERS[at]


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a folder that this thread does not hold."""
  try:
    import fcntl
  except ImportError:  # no lock on such a system
    yield
    return
  path = folder / NAME
  descriptor = _lock(path, fcntl)
  try:
    yield
  finally:
    path.unlink(missing_ok=True)  # while it is held: see `_lock`
    os.close(descriptor)


def is_empty(folder: pathlib.Path) -> bool:
  """Whether a folder holds nothing but what holding its lock has put there."""
  return all(path.name == NAME for path in folder.iterdir())


def _lock(path: pathlib.Path, fcntl: types.ModuleType) -> int:
  """Returns the descriptor of the file of that name, locked."""
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      # Not lockf, which is lost as soon as any descriptor of the file is closed.
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(descriptor)
      raise ValueError(
        f"output_dir={path.parent} is in use by another run: wait for it, or take"
        " another folder"
      ) from None
    except OSError:  # a file system without locks, as some network ones
      return descriptor
    # Whoever held it may have removed it since it was opened.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(descriptor), path.stat()):
        return descriptor
    os.close(descriptor)
