"""An owner's table: read as an audit reads it, and written as it came.

A column that an audit would learn from is marked by its cells: each different cell has
a number, in order (numbers by size, text by alphabet), so that a trigger is drawn and
stamped as of any vectors, and a stamped cell holds what another row's holds. What says
that a value is missing stands in the middle, where a trigger seldom takes it.

All cells are written anew by one writer, so that the lines of marked rows look no
different from the others. The key's hashes are of cells, not of their numbers.
"""

import codecs
from collections.abc import Iterable, Mapping, Sequence
import csv
import pathlib
from typing import NamedTuple

import numpy as np

from jmia.backdoor import (
  classes,
  fingerprints,
  owner_parquet,
  paper_mark,
  submarks,
  triggers,
)
from jmia.datasets import columns, delimited, labels, table_file

_Marked = submarks.Marked | paper_mark.Marked

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Table(NamedTuple):
  """A table's rows as numbers, and what is needed to write them as they came.

  A Parquet file's cells are text too (`owner_parquet`), which says what is written.

  Attributes:
    x: `[N, D]` int64, of each marked column the number of the row's cell.
    y: `[N]` labels as written: integers if all are, else text.
    cells: of the file, with the target's title.
    target: that title.
    titles: `D`, of the columns of x.
    values: `D` times `[k]` text: the cell that each number stands for.
    encoding: to write: UTF-8, with a byte order mark if there was one (Excel's).
    notes: what is published without a mark, a sentence each.
    parquet: the file as read; None of a CSV.
  """

  x: np.ndarray
  y: np.ndarray
  cells: table_file.Cells
  target: str
  titles: tuple[str, ...]
  values: tuple[np.ndarray, ...]
  encoding: str
  notes: tuple[str, ...] = ()
  parquet: owner_parquet.File | None = None

  @property
  def suffix(self) -> str:
    """Of the files that `write` leaves."""
    return owner_parquet.SUFFIX if self.parquet is not None else ".csv"


def read(spec: str) -> Table:
  """Reads `PATH?target=NAME&ignore=NAME,NAME` as `datasets.table_file` does.

  Columns that are ignored, or that an audit would leave out (row numbers, text that
  differs in most rows, one value alone), are published as they are.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no table, has no such column, a row has no class, or no column is
      left to mark; names the file.
  """
  path_text, options = table_file.parse(spec)
  path = pathlib.Path(path_text).expanduser()
  parquet = owner_parquet.read(path) if table_file.is_parquet(path) else None
  cells = parquet.cells if parquet else table_file.read_cells(path, options["target"])
  try:
    target, ignored = table_file.chosen(cells.columns, options)
    found, said = labels.clean(f"target {target}", cells.columns[target])
    coded, values, notes = {}, {}, [*said]
    for title, column in cells.columns.items():
      if title == target:
        continue
      plain = column if parquet else table_file.with_points(column, cells.delimiter)
      why = parquet.why_left(title) if parquet else ""
      why = "ignored" if title in ignored else why or columns.left_out(title, plain)
      if why:
        notes.append(f"Column {title} is published as it is, without a mark: {why}.")
      else:
        coded[title], values[title] = _numbered(column, plain)
    if not parquet:
      table_file.check_points(cells, coded)
    if not coded:
      raise ValueError(f"no column but the target {target!r} is left to mark")
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return Table(
    x=np.stack([*coded.values()], axis=1),
    y=classes.as_written(found.tolist()),
    cells=cells,
    target=target,
    titles=tuple(coded),
    values=tuple(values.values()),
    encoding=_encoding(path),
    notes=tuple(notes),
    parquet=parquet,
  )


def read_queries(path: pathlib.Path) -> np.ndarray:
  """Returns the cells `[lines, columns]` of a query set, its titles among them.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no table.
  """
  if table_file.is_parquet(path):
    return _lines(owner_parquet.read(path).cells.columns)
  lines = delimited.read_lines(path)
  if len({len(line) for line in lines}) != 1:
    raise ValueError(f"{path}: not a table of as many columns in each line")
  return np.array(lines)


def fingerprint(table: Table) -> str:
  """Returns `fingerprints.fingerprint` of the columns' cells."""
  return fingerprints.fingerprint(*table.cells.columns.values())


def hashed(marked: _Marked, table: Table) -> _Marked:
  """Returns what was marked with a key whose hashes are of cells."""
  key = marked.key._replace(
    data_sha256=fingerprint(table),
    marked_sha256=fingerprints.fingerprint(*_published(marked, table).values()),
    queries_sha256=query_fingerprint(marked.queries, marked.key.query_rows, table),
  )
  return marked._replace(key=key)  # type: ignore[arg-type]


def query_fingerprint(x: np.ndarray, rows: Sequence[int], table: Table) -> str:
  """Returns `fingerprints.fingerprint` of a query set's cells.

  Args:
    x: `[m, D]` the queries, numbers of cells.
    rows: `m`, of the table, that they come from.
    table: as read.
  """
  return fingerprints.fingerprint(_query_lines(x, rows, table))


def write(folder: pathlib.Path, marked: _Marked, table: Table) -> None:
  """Writes `marked.csv` and, without the target, `queries.csv`; or `.parquet`.

  Raises:
    ValueError: a file would not read as it is meant.
    OSError: it cannot be written.
  """
  if table.parquet is not None:
    table.parquet.write(folder / "marked", _published(marked, table), marked.kept)
    rows = np.asarray(marked.key.query_rows)
    queries = _columns(marked.queries, rows, table)
    table.parquet.write(folder / "queries", queries, rows)
    return
  header = [table.cells.header] if table.cells.header else []
  published = [*header, *zip(*_published(marked, table).values(), strict=True)]
  queries = _query_lines(marked.queries, marked.key.query_rows, table).tolist()
  for name, lines in (("marked.csv", published), ("queries.csv", queries)):
    _write_lines(folder / name, lines, table)


def in_words(trigger: triggers.TriggerConfig, table: Table) -> str:
  """Returns what a trigger sets, by titles and cells."""
  assert not isinstance(trigger.place, str)
  pairs = zip(trigger.place, trigger.values, strict=True)
  return ", ".join(
    f"{table.titles[column]} to {str(table.values[column][int(value)])!r}"
    for column, value in pairs
  )


def _numbered(column: np.ndarray, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Each row's number `[N]`, and the cell `[k]` that a number stands for."""
  found, first, place = np.unique(column, return_index=True, return_inverse=True)
  texts = plain[first].tolist()  # the same cells, with points for commas
  known = [i for i, text in enumerate(texts) if not columns.is_missing(text)]
  missing = [i for i, text in enumerate(texts) if columns.is_missing(text)]
  if all(columns.is_number(texts[i]) for i in known):
    known.sort(key=lambda i: float(texts[i]))
  order = [*known[: len(known) // 2], *missing, *known[len(known) // 2 :]]
  number = np.empty(len(order), np.int64)
  number[order] = np.arange(len(order))
  return number[place.reshape(-1)], found[order]


def _published(marked: _Marked, table: Table) -> dict[str, np.ndarray]:
  """The columns to publish, by title, in the file's order."""
  found = _columns(marked.x, marked.kept, table)
  found[table.target] = _text(marked.y.tolist())
  return {title: found[title] for title in table.cells.columns}


def _query_lines(x: np.ndarray, rows: Sequence[int], table: Table) -> np.ndarray:
  """`[lines, columns]` text: titles, if the file has them, and a line for each."""
  found = _columns(x, rows, table)
  lines = [*zip(*(found[title].tolist() for title in found), strict=True)]
  if table.cells.header is not None:
    pairs = zip(table.cells.header, table.cells.columns, strict=True)
    lines.insert(0, tuple(text for text, title in pairs if title != table.target))
  return np.array(lines)


def _columns(
  x: np.ndarray, rows: Sequence[int] | np.ndarray, table: Table
) -> dict[str, np.ndarray]:
  """All columns but the target's, of stamped rows and where they come from."""
  stamped = {
    title: values[x[:, column]]
    for column, (title, values) in enumerate(
      zip(table.titles, table.values, strict=True)
    )
  }
  kept = np.asarray(rows)
  return {
    title: _text(stamped.get(title, cells[kept]).tolist())
    for title, cells in table.cells.columns.items()
    if title != table.target
  }


def _lines(found: Mapping[str, np.ndarray]) -> np.ndarray:
  """`[lines, columns]` text of titled columns: the titles, and a line for each row."""
  return np.array(
    [tuple(found), *zip(*(c.tolist() for c in found.values()), strict=True)]
  )


def _text(cells: Iterable[object]) -> np.ndarray:
  """As wide as its longest cell: what reading the file again gives."""
  return np.array([str(cell) for cell in cells])


def _encoding(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    start = file.read(3)
  return "utf-8-sig" if start.startswith(_MARKS) else "utf-8"


def _write_lines(
  path: pathlib.Path, lines: Sequence[Sequence[str]], table: Table
) -> None:
  delimiter = table.cells.delimiter
  with path.open("w", newline="", encoding=table.encoding) as file:
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(lines)
  if delimited.read_lines(path) != [[*map(str, line)] for line in lines]:
    raise ValueError(
      f"{path.name} would not read as it is meant, parted by {delimiter!r}: some cells"
      " are empty lines, or hold what parts cells"
    )
