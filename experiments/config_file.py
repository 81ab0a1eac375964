"""Flags from a file: `--config=FILE.toml`, whose keys are the flags' names.

    dataset = "location30"
    attacks = ["reference", "lira_offline"]
    num_references = 64

What the command line says wins over the file, whichever comes first.
"""

from collections.abc import Iterator
import difflib
import pathlib
import tomllib
from typing import Any

from absl import flags

_FLAG, _SUFFIX = "--config", ".toml"


def expand(argv: list[str]) -> None:
  """Puts a file's flags in the place of `--config=FILE.toml`, before all others.

  Args:
    argv: the command line, its first entry the program's name; changed in place.

  Raises:
    ValueError: the file cannot be read, is no TOML, or holds what is no flag.
  """
  found = [path for argument in argv[1:] if (path := _path(argument))]
  if not found:
    return
  if len(found) > 1:
    raise ValueError(f"{_FLAG} is given {len(found)} times, expected one file")
  (path,) = found
  rest = [argument for argument in argv[1:] if _path(argument) is None]
  argv[1:] = [*_arguments(path), *rest]


def _path(argument: str) -> str | None:
  """The file that an argument names, if it does."""
  name, is_given, value = argument.partition("=")
  named = is_given and f"--{name.lstrip('-')}" == _FLAG and name.startswith("-")
  return value if named and value.endswith(_SUFFIX) else None


def _arguments(path: str) -> Iterator[str]:
  """The flags of a file, as a command line has them."""
  try:
    content = tomllib.loads(pathlib.Path(path).expanduser().read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"config={path} cannot be read: {error}") from error
  for name, value in content.items():
    if name not in flags.FLAGS:
      near = difflib.get_close_matches(name, flags.FLAGS, n=1)
      hint = f"did you mean {near[0]!r}?" if near else "expected names of flags"
      raise ValueError(f"config={path} has the unknown key {name!r}; {hint}")
    yield from _written(path, name, value)


def _written(path: str, name: str, value: Any) -> Iterator[str]:
  flag = flags.FLAGS[name]
  entries = value if isinstance(value, list) else [value]
  if any(isinstance(entry, dict | list) for entry in entries):
    raise ValueError(f"config={path}: {name} is a table, expected a value or a list")
  if isinstance(value, bool):
    yield f"--{name}={str(value).lower()}"
  elif isinstance(flag, flags.MultiFlag):
    yield from (f"--{name}={entry}" for entry in entries)
  else:
    yield f"--{name}={','.join(map(str, entries))}"
