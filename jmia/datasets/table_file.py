"""`table:PATH?target=NAME`: a CSV or Parquet file with a column of classes."""

from collections.abc import Collection, Mapping
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate, types
from jmia.datasets import arrays, columns, delimited, labels, memory

_OPTIONS = ("target", "ignore")
_PARQUET = b"PAR1"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?")  # 1.440, 2.469,38
_ENGLISH = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 1,440, 2,469.38
# Where options begin, and what parts them: titles hold ? and & too.
_QUERY = re.compile(r"\?(?=(target|ignore)=)")
_AND = re.compile(r"&(?=\w+=)")
_WHOLE = re.compile(r"[+-]?\d+")
_SHORT = re.compile(r"[+-]?\d{1,3}")  # has no thousands


class Cells(NamedTuple):
  """A CSV as it is written.

  Attributes:
    header: its line of titles; None where it has none.
    columns: by title, all different, each `[N]` text; where there are no titles, by
      number from 0.
    delimiter: between cells.
  """

  header: tuple[str, ...] | None
  columns: Mapping[str, np.ndarray]
  delimiter: str


def load(name: str, spec: str) -> types.Dataset:
  """Reads a table, anew each time.

  Args:
    name: the name to give the dataset.
    spec: `PATH?target=NAME`, or `PATH?target=NAME&ignore=NAME,NAME` for columns not to
      learn from. A CSV has a line of titles; where it has none, columns are called 0,
      1, ..., and -1 is the last. Columns are read as `columns` says, the target as
      `labels` does.

  Returns:
    The dataset, `x [N, F]`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: there is no target, or the table is not as said; names the file.
  """
  path_text, options = parse(spec)
  path = pathlib.Path(path_text).expanduser()
  table, cells = {}, None
  if is_parquet(path):
    arrow, _ = read_parquet(path)
    table = {name: _plain(arrow.column(name)) for name in arrow.column_names}
  else:
    cells = read_cells(path, options["target"])
    table = {c: with_points(v, cells.delimiter) for c, v in cells.columns.items()}
  try:
    target, ignored = chosen(table, options)
    kept = {c: v for c, v in table.items() if c != target and c not in ignored}
    if not kept:
      raise ValueError(f"no column but the target {target!r} is left")
    if cells is not None:
      check_points(cells, kept)
    dataset = arrays.from_arrays(kept, _target(target, table[target]), name=name)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return dataset._replace(
    description=f"{dataset.num_examples:,} rows of {dataset.num_classes} classes of "
    f"{target} from {path_text}."
  )


def is_parquet(path: pathlib.Path) -> bool:
  """Whether a file is Parquet, and not text; FileNotFoundError if there is none."""
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file, expected a CSV or Parquet table")
  with path.open("rb") as file:
    return file.read(4) == _PARQUET


def parse(spec: str) -> tuple[str, Mapping[str, str]]:
  """Returns the path and the options of `PATH?target=NAME&ignore=...`.

  Raises:
    ValueError: it names no target, or an unknown option.
  """
  begin = _QUERY.search(spec)
  path, _, query = spec.rpartition("?")
  if begin:
    path, query = spec[: begin.start()], spec[begin.end() :]
  options = dict(part.partition("=")[::2] for part in _AND.split(query) if part)
  if not options.get("target"):
    raise ValueError(
      f"table:{spec} names no target, expected table:PATH?target=NAME, the column of "
      "classes"
    )
  for option in options:
    _validate.known("option of table:", option, _OPTIONS)
  return path, options


def chosen(
  table: Mapping[str, Any], options: Mapping[str, str]
) -> tuple[str, set[str]]:
  """Returns the titles of the target and of what is ignored, by a table's options.

  Raises:
    ValueError: there is no such column.
  """
  ignored = _listed(table, options.get("ignore", "").split(","))
  return _column(table, "target", options["target"]), {
    _column(table, "ignored column", text) for text in ignored if text
  }


def _listed(table: Mapping[str, Any], parts: list[str]) -> list[str]:
  """What commas part, but for those inside a title: the longest that is one."""
  found = []
  while parts:
    ways = (",".join(parts[:n]).strip() for n in range(len(parts), 1, -1))
    title = next((way for way in ways if way in table), parts[0].strip())
    found.append(title)
    parts = parts[title.count(",") + 1 :]
  return found


def _column(table: Mapping[str, Any], what: str, name: str) -> str:
  """The column's name, which may be counted from the end where there are no titles."""
  names = list(table)
  if name not in table and names == [str(c) for c in range(len(names))]:
    if name.startswith("-") and name[1:].isdecimal():
      return names[max(-len(names), int(name))]
    raise ValueError(
      f"it has no line of titles: give the {what} as a number from 0 to "
      f"{len(names) - 1}, or -1, not {name!r}"
    )
  _validate.known(what, name, names)
  return name


def _target(name: str, values: np.ndarray) -> np.ndarray:
  """Classes, of which none may be missing; a CSV's numbers as such."""
  for row, value in enumerate(values.tolist()):
    if value is None or value == "" or value != value:
      raise ValueError(f"target {name} has no label at row {row}, counted from 0")
  if values.dtype.kind == "U":  # which names the column; what it says is said later
    labels.clean(f"target {name}", values)
  if values.dtype.kind != "U" or not all(map(columns.is_number, values.tolist())):
    return values
  numbers = values.astype(np.float64)
  if len(np.unique(numbers)) < len(np.unique(values)):  # `labels` says which are one
    return values
  is_whole = (numbers == np.rint(numbers)).all() and np.abs(numbers).max() < 2**53
  return numbers.astype(np.int64) if is_whole else numbers


def read_cells(path: pathlib.Path, target: str) -> Cells:
  """Returns a CSV's cells, of lines that are not empty, without blanks around them.

  Args:
    path: of the file.
    target: title of its column of classes, which tells a line of titles from one of
      numbers.

  Raises:
    ValueError: it is no table of columns of different titles.
  """
  rows, delimiter = delimited.read_cells(path)
  if len(rows) > 2 and len(rows[0]) == 1 and len({*map(len, rows[1:])} - {1}) == 1:
    raise ValueError(
      f"{path}: the first line, {rows[0][0]!r}, has one cell and others"
      f" {max(map(len, rows))}, expected titles: take out what stands above them"
    )
  if len(rows) < 2 or len(rows[0]) < 2:
    raise ValueError(f"{path}: expected a table of at least two rows and two columns")
  titles = [str(c) for c in range(len(rows[0]))]
  is_text = not any(columns.is_number(cell.replace(",", ".", 1)) for cell in rows[0])
  # Or numbers that count, as of a frame that nobody gave titles; or some are years.
  names_target = target in rows[0] and not columns.is_number(target)
  has_titles = is_text or names_target or rows[0] == titles
  if has_titles:  # pandas leaves its index without one
    titles = [title or f"column {c}" for c, title in enumerate(rows[0])]
  if len({*titles}) != len(titles):
    raise ValueError(f"{path}: titles are {titles}, expected all different")
  body = rows[1:] if has_titles else rows
  for at, row in enumerate(body, start=int(has_titles)):
    if len(row) != len(titles):
      line = delimited.line_numbers(path)[at]
      raise ValueError(
        f"{path}: line {line} has {len(row)} cells, expected the first's {len(titles)}"
      )
  found = [np.array(column) for column in zip(*body, strict=True)]
  return Cells(
    header=tuple(rows[0]) if has_titles else None,
    columns=dict(zip(titles, found, strict=True)),
    delimiter=delimiter,
  )


def with_points(column: np.ndarray, delimiter: str) -> np.ndarray:
  """Returns a column `[N]`, numbers such as 1,5 or 2.469,38 with a point alone.

  Where the column holds such numbers alone. Where cells are parted by semicolons,
  points are of thousands where another cell has a decimal comma, or one cell has two
  points. Elsewhere commas are of thousands, as in 2,469.38, where a cell has a point or
  two commas, and of decimals where they stand before other than three digits.
  """
  cells = column.tolist()
  known = [cell for cell in cells if not columns.is_missing(cell)]
  if delimiter != ";":
    return _without_commas(column, known)
  if not any(map(_is_european, known)):
    return column
  if all(
    _DECIMAL_COMMA.fullmatch(cell)
    or _THOUSANDS.fullmatch(cell)
    or _WHOLE.fullmatch(cell)
    for cell in known
  ):
    new = {cell: cell.replace(".", "").replace(",", ".") for cell in known}
    return np.array([new.get(cell, cell) for cell in cells])
  if all(_DECIMAL_COMMA.fullmatch(c) or columns.is_number(c) for c in known):
    return np.array([cell.replace(",", ".") for cell in cells])
  return column


def _without_commas(column: np.ndarray, known: list[str]) -> np.ndarray:
  """A column whose commas can be of thousands alone, or of decimals alone."""
  if not any("," in cell for cell in known):
    return column
  of_thousands = all(_ENGLISH.fullmatch(c) or columns.is_number(c) for c in known)
  if of_thousands and any("." in cell or cell.count(",") > 1 for cell in known):
    new = {cell: cell.replace(",", "") for cell in known}
  elif not of_thousands and all(
    _DECIMAL_COMMA.fullmatch(c) or _WHOLE.fullmatch(c) for c in known
  ):
    new = {cell: cell.replace(",", ".") for cell in known}
  else:
    return column
  return np.array([new.get(cell, cell) for cell in column.tolist()])


def check_points(cells: Cells, titles: Collection[str]) -> None:
  """Refuses columns whose points, or commas, may be of thousands or of decimals.

  Points in a file that is parted by semicolons, as where decimals have a comma, and in
  which no other number tells which; commas in other files.

  Args:
    cells: of the file.
    titles: of the columns that are learnt from.

  Raises:
    ValueError: there is such a column; names it.
  """
  if cells.delimiter != ";":
    for title in titles:
      _check_commas(title, cells.columns[title])
    return
  if any(map(_has_decimal_points, cells.columns.values())):
    return
  for title in titles:
    known = [c for c in cells.columns[title].tolist() if not columns.is_missing(c)]
    dotted = [cell for cell in known if _THOUSANDS.fullmatch(cell)]
    if (
      dotted
      and not any(map(_is_european, known))
      and all(_THOUSANDS.fullmatch(cell) or _SHORT.fullmatch(cell) for cell in known)
    ):
      thousands, decimal = dotted[0].replace(".", ""), f"{float(dotted[0]):g}"
      raise ValueError(
        f"column {title} holds {dotted[0]}, which may be {thousands} or {decimal} in a "
        "file that semicolons part: write it without the point, or all with a comma "
        "for decimals"
      )


def _check_commas(title: str, column: np.ndarray) -> None:
  known = [cell for cell in column.tolist() if not columns.is_missing(cell)]
  of_one = {c for c in known if _ENGLISH.fullmatch(c) and _DECIMAL_COMMA.fullmatch(c)}
  if of_one and all(cell in of_one or _WHOLE.fullmatch(cell) for cell in known):
    first = next(cell for cell in known if cell in of_one)
    thousands, decimal = (first.replace(",", new) for new in ("", "."))
    raise ValueError(
      f"column {title} holds {first!r}, which may be {thousands} or {decimal}:"
      " write it without the comma"
    )


def _is_european(cell: str) -> bool:
  """Whether a number can only be one with a decimal comma or points of thousands."""
  is_of_thousands = _THOUSANDS.fullmatch(cell) is not None
  is_sure = "," in cell or cell.count(".") > 1
  return _DECIMAL_COMMA.fullmatch(cell) is not None or (is_of_thousands and is_sure)


def _has_decimal_points(column: np.ndarray) -> bool:
  """Whether a number of a column has a point that is not of thousands."""
  return any(
    "." in cell and columns.is_number(cell) and not _THOUSANDS.fullmatch(cell)
    for cell in column.tolist()
  )


def read_parquet(path: pathlib.Path) -> tuple[Any, str]:
  """Returns a Parquet file's `pyarrow.Table`, and how its cells are compressed.

  Raises:
    ValueError: it is not whole, has two columns of one name, or is too large.
  """
  import pyarrow  # slow to import
  from pyarrow import parquet

  try:
    with parquet.ParquetFile(path) as file:
      groups = [file.metadata.row_group(g) for g in range(file.num_row_groups)]
      memory.check(f"{path}: the table", sum(g.total_byte_size for g in groups))
      codecs = {g.column(0).compression for g in groups if g.num_columns}
      table = file.read()
  except (pyarrow.ArrowException, OSError) as error:
    cause = str(error).strip().splitlines()
    raise ValueError(f"{path}: not a whole Parquet file: {cause[0]}") from error
  names = table.column_names
  if len({*names}) != len(names):
    raise ValueError(f"{path}: columns are {names}, expected all different")
  return table, min(codecs, default="SNAPPY")


def _plain(column: Any) -> np.ndarray:
  """An Arrow column as numbers or as objects, whatever its encoding."""
  kind = str(column.type)
  if kind.startswith(("int", "uint", "float", "double", "halffloat")):
    return column.to_numpy()
  values = column.to_pylist()
  # Filled so, since NumPy would make lists of one length a second axis.
  plain = np.empty(len(values), object)
  plain[:] = values
  return plain
