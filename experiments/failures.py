"""How a binary ends where it fails: one line on stderr, and an exit code."""

from collections.abc import Callable
import io
import os
import pathlib
import re
import signal
import sys
import traceback
from typing import NoReturn

# What a user can cause and mend. Anything else is a defect, and keeps its traceback.
USER_ERRORS = (ValueError, OSError, ImportError)


def is_expected(error: BaseException) -> bool:
  """Whether it was raised on purpose: by this code, or by the operating system."""
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  source = frames[-1].f_globals["__name__"].split(".")[0]
  return not isinstance(error, ValueError) or source in (
    "jmia",
    "experiments",
    "__main__",
  )


def of_value(error: Exception) -> str:
  """What is wrong with a flag's value, in words: absl's are for programmers."""

  def choices(found: re.Match[str]) -> str:
    return f"expected one of {found[1].replace('|', ', ')}"

  said = str(error)
  rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"invalid literal for int\(\) with base \d+: .*", "expected a whole number"),
    (r"could not convert string to float: .*", "expected a number"),
    (r"\('Non-boolean argument to boolean flag', .*\)", "expected true or false"),
    (r"value should be one of <(.*)>", choices),
  )
  for theirs, ours in rules:
    said = re.sub(theirs, ours, said, flags=re.DOTALL)
  return said


def print_anything() -> None:
  """Makes stdout show ? for what the locale's encoding lacks, such as a dash."""
  if isinstance(sys.stdout, io.TextIOWrapper):  # else a notebook's or a test's
    sys.stdout.reconfigure(errors="replace")


def end_unread() -> NoReturn:
  """Ends the process where whoever read its output, such as `head`, has gone."""
  # What is still buffered would fail again as the interpreter ends.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(128 + signal.SIGPIPE)


def fail(message: str, code: int = 2) -> None:
  """Ends the process with one line on stderr that names the program."""
  print(f"{pathlib.Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
  sys.exit(code)
