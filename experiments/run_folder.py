"""The folder of a command: made, locked, and what it holds not lost.

What can be made anew belongs to one command, which resumes it, shows it, or replaces it
when asked to (`run_dir`). What cannot, such as keys, is never replaced (`owner_dir`).
"""

from collections.abc import Iterator, Sequence
import contextlib
import errno
import os
import pathlib

from jmia import atomic, locks

from . import common_flags, runs

# The command that this process runs, and the stages that it resumes.
_command: runs.Command | None = None
_resumed: frozenset[str] = frozenset()
# Whether what it did is kept, where it ended before its results.
_has_kept = False
# A write fails by these without a name, and then the folder for results is meant.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def command(asked: runs.Command) -> Iterator[None]:
  """Says which command this process runs while it does."""
  global _command
  _command = asked
  try:
    yield
  finally:
    _command = None


def is_resumed(what: str) -> bool:
  """Whether a stage goes on where it was interrupted."""
  return bool(_resumed & {what, ""})


def forget() -> None:
  """Forgets what an earlier run of this process has kept."""
  global _has_kept
  _has_kept = False


def following() -> str:
  """What goes on with an interrupted run, if it has kept something."""
  if not _has_kept:
    return ""
  how = " without --restart" if runs.RESTART.value else ""
  return f"; the same command{how} resumes"


@contextlib.contextmanager
def run_dir(path: str | None, show: runs.Show | None = None) -> Iterator[pathlib.Path]:
  """Yields the folder of a run that can be resumed: one command's, and locked.

  Where it holds the finished results of the same command the process ends
  (`runs.claimed`). Its checkpoints are removed when the work is done.

  Args:
    path: of the folder.
    show: prints finished results.

  Raises:
    ValueError: no path is given, or the folder is in use or another command's.
    OSError: the folder cannot be made, or written.
  """
  with results_dir(path) as folder, _claimed(folder, show):
    yield folder


@contextlib.contextmanager
def owner_dir(path: str | None, names: Sequence[str] = ()) -> Iterator[pathlib.Path]:
  """Yields a folder, locked, for files that nothing can make again, such as keys.

  Args:
    path: of the folder, which may hold other things.
    names: of files that must not be there.

  Raises:
    ValueError: no path is given, one of the files is there, or the folder is in use.
    OSError: the folder cannot be made, or written.
  """
  with results_dir(path) as folder, locks.held(folder):
    for name in names:
      if (folder / name).exists():
        raise ValueError(
          f"output_dir={folder} holds {name}, which would be lost: take another folder"
        )
    yield folder


def check(path: str) -> None:
  """Raises as `run_dir` where a folder that is there would be refused; makes none.

  Raises:
    ValueError: as `run_dir`, but that a folder which is in use is not refused.
    OSError: it cannot be written.
  """
  folder = pathlib.Path(path).expanduser()
  with _named(path):
    if not path or not folder.exists():
      return
    _check_writable(folder)
  if _command is not None:
    runs.check(folder, _command)


@contextlib.contextmanager
def results_dir(path: str | None) -> Iterator[pathlib.Path]:
  """Yields the folder for results, made if absent; an OSError where it cannot be.

  Made before the work, since hours may lie between it and the first file. Folders made
  here go again if the work fails and has left nothing in them.
  """
  if not path:
    raise ValueError("--output_dir must have a value: the folder for the results")
  folder = pathlib.Path(path).expanduser()
  with _named(path):
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    _make(folder)
    _check_writable(folder)
  atomic.remove_left(folder)
  global _has_kept
  try:
    yield folder
  except BaseException as error:
    _has_kept = runs.is_resumed(folder)
    with contextlib.suppress(OSError):  # not empty
      for new in made:
        new.rmdir()
    if isinstance(error, OSError) and is_full(error):
      raise OSError(error.errno, error.strerror, str(folder)) from error
    raise


def is_full(error: BaseException) -> bool:
  """Whether a disk was full as something was written that is not named."""
  is_nameless = isinstance(error, OSError) and error.filename is None
  return is_nameless and getattr(error, "errno", None) in _FULL


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
  """Names the flag in an error of its folder."""
  try:
    yield
  except OSError as error:
    raise OSError(f"output_dir={path} cannot be used: {error}") from error


def _make(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    is_link = folder.is_symlink() and not folder.exists()
    what = "a link to nothing" if is_link else "no folder"
    raise NotADirectoryError(f"it is {what}") from None


def _check_writable(folder: pathlib.Path) -> None:
  if not folder.is_dir():
    raise NotADirectoryError("it is no folder")
  if not os.access(folder, os.W_OK):
    raise PermissionError("it is not writable")


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, show: runs.Show | None) -> Iterator[None]:
  """Holds the folder, if this is a command, and the process that writes."""
  global _resumed
  is_first = True
  if common_flags.DISTRIBUTED.value is not None:
    import jax

    is_first = jax.process_index() == 0
  if _command is None or not is_first:
    yield
    runs.remove_checkpoints(folder)
    return
  with runs.claimed(folder, _command, show) as stages:
    _resumed = stages
    try:
      yield
    finally:
      _resumed = frozenset()
