"""What every file of results says of its run, and rows as JSON and as a table."""

from collections.abc import Mapping, Sequence
import importlib.metadata
import json
import os
import platform
import sys
from typing import Any

import jax

import jmia
from jmia import atomic

Row = Mapping[str, Any]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def versions() -> dict[str, str]:
  """Returns the versions of what the numbers depend on."""
  found = {"jmia": jmia.__version__, "python": platform.python_version()}
  return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def device() -> str:
  """Returns what the default device calls itself."""
  return jax.devices()[0].device_kind


def document(
  rows: Sequence[Row],
  *,
  config: Mapping[str, Any],
  seed: int,
  seconds: Mapping[str, float],
  notes: Sequence[str] = (),
) -> dict[str, Any]:
  """Returns the content of a study's `results.json`.

  Args:
    rows: one for each result, as JSON values, with the paper's figure beside ours.
    config: every setting the rows depend on; what JSON has no value for, as text.
    seed: of the run.
    seconds: wall time of each stage, and `total`.
    notes: what a reader must know, such as models that diverged.

  Returns:
    `{"schema": 1, "config", "versions", "device", "seed", "notes", "seconds", "rows"}`.
  """
  return {
    "schema": 1,
    "config": json.loads(json.dumps(dict(config), default=str)),
    "versions": versions(),
    "device": device(),
    "seed": seed,
    "notes": list(notes),
    "seconds": dict(seconds),
    "rows": [dict(row) for row in rows],
  }


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
  """Writes JSON to `path`, whole or not at all.

  Raises:
    OSError: if it cannot be written.
    ValueError: if a number is NaN or infinite, which JSON has no value for.
  """
  text = json.dumps(content, indent=2, allow_nan=False)
  atomic.write(path, (text + "\n").encode())


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
  """Returns rows of cells, the first of them the header, in aligned columns.

  Where they are too many for a line they are told in parts, one below another, each
  with the first column: a line that a terminal breaks is read with the wrong title.

  Args:
    rows: as many cells in each; the first column is set to the left, others to the
      right.
    width: of a line. Default: the terminal's, none where there is no terminal.

  Raises:
    ValueError: if the rows' lengths differ.
  """
  columns = [*zip(*rows, strict=True)]
  widths = [max(map(len, column)) for column in columns]
  parts = _parts(widths, terminal_width() if width is None else width)
  return "\n\n".join(_aligned([columns[c] for c in part]) for part in parts)


def terminal_width() -> int | None:
  """Returns the columns of the terminal that is printed to; None if it is none."""
  if os.environ.get("COLUMNS", "").isdecimal():
    return int(os.environ["COLUMNS"]) or None
  try:
    return os.get_terminal_size(sys.stdout.fileno()).columns or None
  except (AttributeError, OSError, ValueError):  # no file, such as a notebook's
    return None


def _parts(widths: Sequence[int], limit: int | None) -> list[list[int]]:
  """Columns that stand side by side, the first one in each part."""
  parts, used = [[0]], widths[0]
  for column, width in enumerate(widths[1:], start=1):
    if limit is not None and len(parts[-1]) > 1 and used + 2 + width > limit:
      parts.append([0])
      used = widths[0]
    parts[-1].append(column)
    used += 2 + width
  return parts


def _aligned(columns: Sequence[Sequence[str]]) -> str:
  """Columns side by side, with a rule below their titles."""
  widths = [max(map(len, column)) for column in columns]
  lines = []
  for first, *others in zip(*columns, strict=True):
    cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
    lines.append("  ".join(cells).rstrip())
  rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
  return "\n".join([lines[0], rule, *lines[1:]])
