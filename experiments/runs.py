"""A folder of results and the command that it is of: one at a time, and resumed.

A folder belongs to the first command that writes to it. `RECORD` in it holds that
command's flags, so that the same command resumes an unfinished run or shows a finished
one, and another is refused by the flag in which it differs. Results without a record
are somebody's too. The folder is locked, by a lock that ends with the process.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import hashlib
import json
import pathlib
import shutil
import sys
from typing import Any, NamedTuple

from absl import flags

import jmia
from jmia import atomic, locks

RECORD = ".jmia-run.json"
CHECKPOINTS = "checkpoints"
# One of them is in all results.
_NUMBERS = (
  *("report.json", "results.json", "scores.npz", "comparison.json", "verdict.json"),
)
# Flags that change nothing in results, or are applied to finished ones too.
_NO_MATTER = (
  *("output_dir", "restart", "dry_run", "fail_above"),
  *("compilation_cache", "cpu_devices", "distributed", "verbosity"),
)
_PREFIXES = ("npz:", "folder:", "table:")

RESTART = flags.DEFINE_boolean(
  "restart",
  False,
  "Begin afresh where --output_dir holds an unfinished run or finished results, which"
  " are replaced.",
)

Show = Callable[[pathlib.Path], None]


class Command(NamedTuple):
  """What was asked for.

  Attributes:
    name: of the binary.
    flags: name -> text, of those that are not at their default.
    inputs: path -> size and time of the file, or of a folder's files.
  """

  name: str
  flags: Mapping[str, str]
  inputs: Mapping[str, Any]

  def content(self) -> dict[str, Any]:
    """As JSON values."""
    return {"version": jmia.__version__, **self._asdict()}


def asked(name: str, key_flags: list[flags.Flag]) -> Command:
  """Returns the command that the flags say.

  Args:
    name: of the binary.
    key_flags: its own.
  """
  given: dict[str, str] = {}
  inputs: dict[str, Any] = {}
  for flag in key_flags:
    if flag.name in _NO_MATTER or flag.value == flag.default:
      continue
    given[flag.name] = _text(flag.value)
    if flag.name != "data_dir":
      values = flag.value if isinstance(flag.value, list) else [flag.value]
      inputs |= {text: at for text in map(str, values) if (at := _state(text))}
  return Command(name, given, inputs)


def _text(value: Any) -> str:
  return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _state(text: str) -> list[int] | None:
  """Size and time of the file or folder that a flag names; None if it names none."""
  for prefix in _PREFIXES:
    text = text.removeprefix(prefix)
  path = pathlib.Path(text.partition("?")[0]).expanduser()
  try:
    if not path.exists():
      return None
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
  except OSError:  # a name too long for a path, or a folder that may not be read
    return None
  return [sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


@contextlib.contextmanager
def claimed(
  folder: pathlib.Path, command: Command, show: Show | None
) -> Iterator[frozenset[str]]:
  """Holds a folder for a command while its results are made.

  Ends the process, successfully, if they are there already.

  Args:
    folder: of the results.
    command: that makes them.
    show: prints finished results. By default their files are named.

  Yields:
    Names of the stages of an earlier run that are resumed; "" for one that has no
    stages.

  Raises:
    ValueError: the folder is in use, or belongs to another or an unknown command.
  """
  with locks.held(folder):
    atomic.remove_left(folder, of_running=True)  # the lock is ours
    record, before = _examined(folder, command), _numbers(folder)
    if RESTART.value:
      remove_checkpoints(folder)
      (folder / RECORD).unlink(missing_ok=True)
    elif record is not None and record.get("finished"):
      remove_checkpoints(folder)  # of a run that was killed as it finished
      _check_whole(folder, record)
      _show_finished(folder, command, show)
    checkpoints = folder / CHECKPOINTS
    stages = [path.name for path in checkpoints.glob("*") if _holds_work(path)]
    stages += [""] if (checkpoints / "run.json").exists() else []
    _write(folder, {**command.content(), "finished": False})
    found = _files(folder)
    try:
      yield frozenset(stages)
    except BaseException:
      if not is_resumed(folder):
        remove_checkpoints(folder)
        if _numbers(folder) == before:  # it has left nothing
          _give_back(folder, record if before else None)
      raise
    # In this order: killed in between, it trains nothing again.
    made = sorted(name for name, of in _files(folder).items() if of != found.get(name))
    numbers = {name: _sha256(folder / name) for name in _numbers(folder)}
    content = {**command.content(), "finished": True}
    _write(folder, {**content, "files": made, "sha256": numbers})
    remove_checkpoints(folder)


def check(folder: pathlib.Path, command: Command) -> None:
  """Raises as `claimed` where it would refuse the folder; changes nothing in it."""
  record = _examined(folder, command)
  if record is not None and record.get("finished") and not RESTART.value:
    _check_whole(folder, record)


def _examined(folder: pathlib.Path, command: Command) -> dict[str, Any] | None:
  """The record of what the folder holds, once the command may go on with it."""
  record = _read(folder)
  if record is not None and record.get("finished") and not _numbers(folder):
    record = None  # somebody removed the results
  if RESTART.value:
    return record
  if record is None:
    _check_nobodys(folder)
  else:
    _check_same(folder, record, command)
  return record


def _files(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
  """Name -> what tells a file from one that replaces it, of all but hidden ones."""
  paths = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
  stats = {path.name: path.stat() for path in paths}
  return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def is_resumed(folder: pathlib.Path) -> bool:
  """Whether a run that was interrupted has kept something to go on from."""
  return _holds_work(folder / CHECKPOINTS)


def _holds_work(root: pathlib.Path) -> bool:
  """Whether there is more than what was asked for, and what was being written."""
  names = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
  in_the_making = ("tmp", ".partial")  # Orbax's, and `atomic`'s
  return any(
    not name.endswith("run.json") and not any(part in name for part in in_the_making)
    for name in names
  )


def remove_checkpoints(folder: pathlib.Path) -> None:
  """Removes what a run has kept to be resumed from."""
  shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _numbers(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
  """As `_files`, of the files of numbers."""
  return {name: of for name, of in _files(folder).items() if name in _NUMBERS}


def _sha256(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _give_back(folder: pathlib.Path, record: Mapping[str, Any] | None) -> None:
  """Leaves the folder to whose it was; None for nobody."""
  with contextlib.suppress(OSError):
    if record is None:
      (folder / RECORD).unlink(missing_ok=True)
    else:
      _write(folder, record)


def _check_nobodys(folder: pathlib.Path) -> None:
  """Refuses a folder whose results or checkpoints no record tells the command of."""
  checkpoints = folder / CHECKPOINTS
  found = [*_numbers(folder)]
  found += [CHECKPOINTS] if any(checkpoints.glob("*")) else []
  if found:
    state = "damaged" if (folder / RECORD).exists() else "absent"
    raise ValueError(
      f"output_dir={folder} holds {', '.join(found)}, of an unknown command ({RECORD}"
      f" is {state}): take another folder, or --restart to replace them"
    )


def _check_same(
  folder: pathlib.Path, record: Mapping[str, Any], command: Command
) -> None:
  now, before = command.content(), dict(record)
  changes = []
  if before.get("name") != now["name"]:
    changes.append(f"{before.get('name')} -> {now['name']}")
  for name in sorted({*before.get("flags", {}), *now["flags"]}):
    pair = [of.get("flags", {}).get(name, "(default)") for of in (before, now)]
    if pair[0] != pair[1]:
      changes.append(f"--{name} {pair[0]} -> {pair[1]}")
  for path in sorted({*before.get("inputs", {})} & {*now["inputs"]}):
    if before["inputs"][path] != now["inputs"][path]:
      changes.append(f"{path} was changed")
  if before.get("version") != now["version"]:
    changes.append(f"jmia {before.get('version')} -> {now['version']}")
  if changes:
    what = "finished results" if before.get("finished") else "an unfinished run"
    raise ValueError(
      f"output_dir={folder} holds {what} of another command ({'; '.join(changes)}):"
      " take another folder, or --restart to replace them"
    )


def _check_whole(folder: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Refuses finished results that have changed; older records name no files."""
  names = map(str, record.get("files", []))
  gone = [name for name in names if not (folder / name).exists()]
  if gone:
    are = "is" if len(gone) == 1 else "are"
    raise ValueError(
      f"output_dir={folder} holds this command's finished results, but"
      f" {', '.join(gone)} {are} gone: --restart makes all of them anew"
    )
  for name, sha256 in record.get("sha256", {}).items():
    if _sha256(folder / name) != sha256:  # as where Python wrote others over them
      raise ValueError(
        f"output_dir={folder} holds {name} other than this command made it: take"
        " another folder, or --restart to replace it"
      )


def _show_finished(folder: pathlib.Path, command: Command, show: Show | None) -> None:
  print(
    f"{command.name}: {folder} holds this command's finished results; --restart makes"
    " them anew",
    file=sys.stderr,
  )
  if show is not None:
    show(folder)
  else:
    own = (RECORD, locks.NAME)
    files = sorted(path.name for path in folder.iterdir() if path.name not in own)
    print(f"The results are {', '.join(files)} in {folder}")
  sys.exit(0)


def _read(folder: pathlib.Path) -> dict[str, Any] | None:
  """The record; None if there is none, or one that a person has changed."""
  try:
    content = json.loads((folder / RECORD).read_text("utf-8"))
  except (FileNotFoundError, ValueError, RecursionError):
    return None
  named = ("flags", "inputs")
  is_whole = (
    isinstance(content, dict)
    and all(isinstance(content.get(name), dict) for name in named)
    and isinstance(content.get("files", []), list)
    and isinstance(content.get("sha256", {}), dict)
  )
  return content if is_whole else None


def _write(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
  """Writes the record, whole or not at all."""
  text = json.dumps(content, indent=2) + "\n"
  atomic.write(folder / RECORD, text.encode())
