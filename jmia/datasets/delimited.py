"""Delimited text (CSV) as it comes: from Excel, from Windows, from elsewhere."""

import codecs
import csv
import io
import pathlib
import re
from typing import Any

# Before the comma, which European files have inside numbers.
_DELIMITERS = ("\t", ";", "|", ",")
_PROBED = 50  # lines that say which delimiter it is
_LONGEST_CELL = 1 << 20
_SAID = re.compile(r"sep=([\t;|,])\r?(?=\n)", re.IGNORECASE)  # Excel's first line


def read_lines(path: pathlib.Path) -> list[list[str]]:
  """Returns the cells of all lines of a CSV that are not empty.

  UTF-8 or UTF-16, with or without a byte order mark; any line ends; cells parted by
  commas, semicolons, tabs or bars, whichever part the lines alike; in quotes where they
  hold one. Blanks around a cell go. A first line such as sep=; says what parts them.

  Raises:
    ValueError: it is no CSV.
  """
  return read_cells(path)[0]


def read_cells(path: pathlib.Path) -> tuple[list[list[str]], str]:
  """Returns a file's cells, line by line, and the delimiter found; as `read_lines`.

  Raises:
    ValueError: it holds zero bytes, or is no CSV.
  """
  try:
    csv.field_size_limit(_LONGEST_CELL)
    text, delimiter = _read(path)
    return _cells(text, delimiter), delimiter
  except (csv.Error, UnicodeDecodeError, ValueError) as error:
    raise ValueError(f"{path}: not a CSV: {error}") from error


def line_numbers(path: pathlib.Path) -> list[int]:
  """Returns where each of the lines that `read_lines` returns ends in the file, from 1.

  Which is another number than its place where lines are empty, or cells hold several.

  Raises:
    ValueError: it is no CSV.
  """
  reader = _reader(*_read(path))
  return [reader.line_num for row in reader if any(cell.strip() for cell in row)]


def _read(path: pathlib.Path) -> tuple[str, str]:
  """The text, with an empty line for one that names the delimiter, and that."""
  text = _decode(path.read_bytes())
  if "\0" in text:
    raise ValueError("it holds zero bytes")
  said = _SAID.match(text)
  return (text[said.end() :], said[1]) if said else (text, _delimiter(text))


def _decode(content: bytes) -> str:
  for mark, encoding in (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
  ):
    if content.startswith(mark):
      return content.decode(encoding)
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"it is not UTF-8 ({error}); save it as UTF-8") from error


def _delimiter(text: str) -> str:
  """What parts the first lines into as many cells each, at least two."""
  lines = io.StringIO(text, newline=None).readlines()
  head, is_cut = "".join(lines[:_PROBED]), len(lines) > _PROBED
  for delimiter in _DELIMITERS:
    rows = _cells(head, delimiter)
    if is_cut and len(rows) > 1:
      del rows[-1]  # which may be cut inside quotes
    if rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
      return delimiter
  return ","


def _cells(text: str, delimiter: str) -> list[list[str]]:
  rows = ([cell.strip() for cell in row] for row in _reader(text, delimiter))
  return [row for row in rows if any(row)]


def _reader(text: str, delimiter: str) -> Any:
  # newline=None: "\r" alone ends a line too.
  lines = io.StringIO(text, newline=None)
  return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
