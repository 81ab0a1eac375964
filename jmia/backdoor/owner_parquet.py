"""An owner's Parquet table: its cells as text to mark by, and written as it came.

A marked cell takes the place of another one in the same column, of a row that has it:
so types, categories, missing values and what the schema says stay what they are.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jmia import atomic
from jmia.datasets import table_file

SUFFIX = ".parquet"
_MISSING = "<NA>"  # text of a cell that is null; pandas' word, which columns knows
_PANDAS = b"pandas"  # what pandas keeps of a frame in a schema


class File(NamedTuple):
  """A Parquet file.

  Attributes:
    arrow: `pyarrow.Table` of `N` rows.
    compression: of its cells.
    cells: their text.
  """

  arrow: Any
  compression: str
  cells: table_file.Cells

  def why_left(self, title: str) -> str:
    """Why a column is nothing to mark; "" where it holds numbers or text."""
    import pyarrow

    kind = _plain_type(self.arrow.schema.field(title).type)
    known = ("is_integer", "is_floating", "is_boolean", "is_decimal", "is_null")
    text = ("is_string", "is_large_string", "is_string_view")
    is_known = any(getattr(pyarrow.types, name)(kind) for name in (*known, *text))
    return "" if is_known else f"it holds {kind}, which are neither numbers nor text"

  def write(
    self, path: pathlib.Path, columns: Mapping[str, np.ndarray], rows: np.ndarray
  ) -> None:
    """Writes rows of the file, some cells of which are other rows'.

    Args:
      path: without the suffix.
      columns: title -> `[M]` text of the cells, in the order to write.
      rows: `[M]` of the file, which all other cells are of.

    Raises:
      ValueError: a cell is none of its column's, and not of its type.
      OSError: it cannot be written.
    """
    from pyarrow import parquet

    found = self._table(columns, rows)
    path = path.with_name(path.name + SUFFIX)
    codec = self.compression.replace("UNCOMPRESSED", "NONE")
    with atomic.opened(path) as file:
      parquet.write_table(found, file, compression=codec)
    again = read(path).cells.columns
    if any(again[title].tolist() != text.tolist() for title, text in columns.items()):
      raise ValueError(f"{path.name} would not read as it is meant")

  def _table(self, columns: Mapping[str, np.ndarray], rows: np.ndarray) -> Any:
    """The rows as `pyarrow.Table`, with the file's schema."""
    import pyarrow

    arrays = [self._column(title, text, rows) for title, text in columns.items()]
    fields = [self.arrow.schema.field(title) for title in columns]
    metadata = _metadata(self.arrow.schema.metadata, [*columns], len(rows))
    schema = pyarrow.schema(fields, metadata)
    return pyarrow.Table.from_arrays(arrays, schema=schema)

  def _column(self, title: str, text: np.ndarray, rows: np.ndarray) -> Any:
    """Cells of those texts: the row's own, or the first one that reads so."""
    import pyarrow

    column, own = self.arrow.column(title), self.cells.columns[title]
    values, first = np.unique(own, return_index=True)
    place = dict(zip(values.tolist(), first.tolist(), strict=True))
    new = sorted({*text.tolist()} - place.keys())  # a class that no row has
    if new:
      made = pyarrow.chunked_array([_made(title, new, column.type)])
      place |= {word: len(own) + at for at, word in enumerate(new)}
      column = pyarrow.chunked_array([*column.chunks, *made.chunks], column.type)
    is_own = own[rows] == text
    source = np.where(is_own, rows, [place[word] for word in text.tolist()])
    return column.take(pyarrow.array(source.astype(np.int64)))


def read(path: pathlib.Path) -> File:
  """Reads a file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: as `table_file.read_parquet`.
  """
  arrow, compression = table_file.read_parquet(path)
  text = {name: _text(arrow.column(name)) for name in arrow.column_names}
  return File(arrow, compression, table_file.Cells(tuple(text), text, delimiter=""))


def _plain_type(kind: Any) -> Any:
  """Of categories, what they are called in."""
  import pyarrow

  return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _text(column: Any) -> np.ndarray:
  """A column's cells as text `[N]`: another one for each other value."""
  import pyarrow

  kind = _plain_type(column.type)
  if kind != column.type:
    column = column.cast(kind)
  if pyarrow.types.is_floating(kind):
    return _of_floats(column)
  return np.array(
    [_MISSING if value is None else str(value) for value in column.to_pylist()], str
  )


def _of_floats(column: Any) -> np.ndarray:
  """Whole numbers without a point, as of pandas' integers with gaps."""
  texts = column.to_numpy().astype(str).tolist()  # 0.1 of a float32 too
  nulls = column.is_null().to_pylist()
  cells = zip(texts, nulls, strict=True)
  return np.array([_MISSING if null else _shortest(text) for text, null in cells], str)


def _shortest(text: str) -> str:
  return text[:-2] if text.endswith(".0") and text != "-0.0" else text


def _made(title: str, texts: list[str], kind: Any) -> Any:
  """Cells that no row has."""
  import pyarrow

  try:
    made = pyarrow.array(texts).cast(_plain_type(kind))
    if made.type == kind:
      return made
    numbers = pyarrow.array(range(len(texts)), kind.index_type)
    return pyarrow.DictionaryArray.from_arrays(numbers, made, ordered=kind.ordered)
  except (pyarrow.ArrowException, ValueError) as error:
    raise ValueError(
      f"column {title} is of {kind}, which cannot hold {', '.join(texts)}"
    ) from error


def _metadata(
  metadata: Mapping[bytes, bytes] | None, titles: list[str], num_rows: int
) -> dict[bytes, bytes]:
  """What a schema says besides, of such columns and so many rows.

  pandas counts the rows of a frame whose index counts, and names all columns.
  """
  found = dict(metadata or {})
  if _PANDAS not in found:
    return found
  try:
    content = json.loads(found[_PANDAS])
    for index in content["index_columns"]:
      if isinstance(index, dict) and index.get("kind") == "range":
        index["stop"] = index["start"] + num_rows * index["step"]
    named = [c for c in content["columns"] if c.get("field_name", c["name"]) in titles]
    content["columns"] = named
  except (KeyError, TypeError, ValueError, AttributeError):
    return found  # of another version, or another tool
  return {**found, _PANDAS: json.dumps(content).encode()}
