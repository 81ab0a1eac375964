"""Flags from a file: `--config=FILE.toml`, whose keys are the flags' names.

    dataset = "location30"
    attacks = ["reference", "lira_offline"]
    num_references = 64

What the command line says wins over the file, whichever comes first. A list is for a
flag that takes one; text may stand for a number, as on the command line.
"""

from collections.abc import Iterator
import csv
import datetime
import difflib
import io
import pathlib
import tomllib
from typing import Any

from absl import flags

from . import failures

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
    # With or without the mark that Windows puts before it.
    content = tomllib.loads(pathlib.Path(path).expanduser().read_text("utf-8-sig"))
  except (OSError, ValueError) as error:
    raise ValueError(f"config={path} cannot be read: {error}") from error
  for name, value in content.items():
    if isinstance(value, dict):
      raise ValueError(
        f"config={path} has the table {name!r}; expected keys that are names of flags,"
        " in no table"
      )
    if _is_no_setting(name):
      raise ValueError(f"config={path} holds {name!r}, which is for the command line")
    if name not in flags.FLAGS:
      near = difflib.get_close_matches(name, flags.FLAGS, n=1)
      hint = f"did you mean {near[0]!r}?" if near else "expected names of flags"
      raise ValueError(f"config={path} has the unknown key {name!r}; {hint}")
    yield from _written(path, name, value)


def _is_no_setting(name: str) -> bool:
  """Whether a flag is absl's own, of how a program is called."""
  if name in ("help", "helpshort", "helpfull", "helpxml"):
    return True
  module = str(flags.FLAGS.find_module_defining_flag(name))
  return module.startswith("absl.") and not module.startswith("absl.logging")


def _written(path: str, name: str, value: Any) -> Iterator[str]:
  """A flag as the command line has it, once for each value of one that is repeated."""
  flag = flags.FLAGS[name]
  entries = value if isinstance(value, list) else [value]
  is_multi = isinstance(flag, flags.MultiFlag)
  takes_list = is_multi or isinstance(flag.parser, flags.ListParser)
  if isinstance(value, list) and not takes_list:
    raise ValueError(f"config={path}: {name} is a list, expected one value")
  texts = [_text(path, name, entry) for entry in entries]
  if not is_multi:
    texts = [_joined(texts) if takes_list else texts[0]]
  for text in texts:
    try:
      flag.parser.parse(text)
    except (TypeError, ValueError) as error:
      why = failures.of_value(error)
      raise ValueError(f"config={path}: {name} is {text!r}: {why}") from error
    yield f"--{name}={text}"


def _text(path: str, name: str, value: Any) -> str:
  """One value as the command line has it."""
  if isinstance(value, dict | list):
    raise ValueError(f"config={path}: {name} holds a table or a list, expected values")
  if isinstance(value, datetime.date | datetime.time):
    raise ValueError(f"config={path}: {name} is {value}: write it in quotes")
  if not isinstance(value, bool):
    return str(value)
  if not flags.FLAGS[name].boolean:
    raise ValueError(f"config={path}: {name} is {str(value).lower()}: write a value")
  return str(value).lower()


def _joined(texts: list[str]) -> str:
  """Entries of one flag; what holds a comma stays one entry."""
  line = io.StringIO()
  csv.writer(line, lineterminator="").writerow(texts)
  return line.getvalue() if texts else ""
