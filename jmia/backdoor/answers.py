"""A suspect's answers, from a file to one class for each query.

They come as the tools of suspects give them: labels or class names, probabilities or
logits, with or without a line of titles. `read` takes a file as it is, and `classes`
says what it means to the classes of a key.
"""

from collections.abc import Sequence
import csv
import os
import pathlib
from typing import NamedTuple
import zipfile

import numpy as np

from jmia.backdoor import classes as classes_lib

_LABEL_TITLES = ("label", "class", "prediction", "predicted", "top1", "top_1", "answer")
_COUNT_TITLES = ("", "index", "id", "row", "query", "filename", "file")


class Table(NamedTuple):
  """What a file holds.

  Attributes:
    cells: `[m]` or `[m, C]`, numbers or text.
    titles: of a CSV's columns; None where it has no such line, or may have none.
  """

  cells: np.ndarray
  titles: tuple[str, ...] | None = None


def read(path: str | os.PathLike[str]) -> Table:
  """Reads a suspect's answers.

  Args:
    path: a `.npy` of `[m]` labels (numbers or text) or `[m, C]` scores; or a `.csv` of
      one line for each query, with a label or with C scores, and maybe one line of
      titles. A column titled label, class, prediction, predicted, top1 or answer holds
      the labels, and others beside it are ignored; one titled index, id, row, query or
      filename is left out.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is neither.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() == ".csv":
    return _read_csv(path)
  try:
    array = np.load(path, allow_pickle=False)
  except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: neither a .npy of numbers or text nor a .csv") from error
  if not isinstance(array, np.ndarray):
    array.close()
    raise ValueError(f"{path}: an .npz, expected a .npy or a .csv")
  return Table(array)


def classes(
  table: Table, class_names: Sequence[classes_lib.Name], num_queries: int
) -> np.ndarray:
  """Returns `[m]` int, each query's class; -1 for none of them, or a tie of scores.

  Args:
    table: of `read`.
    class_names: `K`. Scores have a column for each, in this order; or, where names are
      integers from 0, one for each number; or titles that are names.
    num_queries: `m`.

  Raises:
    ValueError: the answers are of another number or form, hold a NaN, or none of the
      labels is a class.
  """
  cells, titles = _without_titles(table, num_queries)
  if cells.ndim not in (1, 2) or cells.dtype.kind not in "iufU":
    raise ValueError(
      f"predictions have shape {cells.shape} and dtype {cells.dtype}, expected labels"
      f" [{num_queries}] or scores [{num_queries}, {len(class_names)}]"
    )
  if len(cells) != num_queries:
    raise ValueError(
      f"predictions hold {len(cells)} answers, expected {num_queries}: one for each row"
      " of the query set, in its order"
    )
  if cells.ndim == 2:
    return _of_scores(_numeric(cells), titles, class_names)
  return _of_labels(cells, class_names)


def _read_csv(path: pathlib.Path) -> Table:
  """The cells of a CSV as text."""
  try:
    with path.open(newline="", encoding="utf-8-sig") as file:
      text = file.read()
    semicolons = ";" in text and "," not in text
    lines = csv.reader(text.splitlines(), delimiter=";" if semicolons else ",")
    rows = [[cell.strip() for cell in row] for row in lines if any(row)]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: not a CSV in UTF-8: {error}") from error
  if not rows or len({len(row) for row in rows}) > 1:
    raise ValueError(f"{path}: not a table of as many columns in each line")
  titles = None
  if len(rows[0]) > 1 and not all(map(_is_number, rows[0])) and _are_titles(rows):
    titles, rows = tuple(rows[0]), rows[1:]
    if not rows:
      raise ValueError(f"{path}: not a table: it holds titles alone")
  cells = np.array(rows)
  return Table(cells[:, 0] if cells.shape[1] == 1 else cells, titles)


def _are_titles(rows: Sequence[Sequence[str]]) -> bool:
  """Whether the first line says what stands below it: text above numbers, or ours."""
  known = {*_LABEL_TITLES, *_COUNT_TITLES}
  is_known = any(cell.lower() in known for cell in rows[0])
  below = rows[1] if len(rows) > 1 else rows[0]
  return is_known or any(
    _is_number(under) and not _is_number(title)
    for title, under in zip(rows[0], below, strict=True)
  )


def _without_titles(
  table: Table, num_queries: int
) -> tuple[np.ndarray, tuple[str, ...] | None]:
  """The answers alone, and the titles of their columns if there are any."""
  cells, titles = table
  if cells.ndim == 2 and titles is not None:
    named = [title.lower() for title in titles]
    for label in _LABEL_TITLES:
      if label in named:
        return cells[:, named.index(label)], None
    kept = [i for i, title in enumerate(named) if title not in _COUNT_TITLES]
    return cells[:, kept], tuple(titles[i] for i in kept)
  if cells.ndim == 1 and cells.dtype.kind == "U" and len(cells) == num_queries + 1:
    # One more line than queries: the first is a title.
    return cells[1:], None
  return (cells[:, 0] if cells.ndim == 2 and cells.shape[1] == 1 else cells), titles


def _numeric(cells: np.ndarray) -> np.ndarray:
  try:
    values = cells.astype(np.float64)
  except ValueError as error:
    raise ValueError(f"predictions hold scores that are no numbers: {error}") from error
  bad = np.isnan(values) | np.isposinf(values)  # -inf is the logit of a masked class
  if bad.any():
    raise ValueError(f"predictions hold {bad.sum()} NaN or infinite values")
  return values


def _of_scores(
  scores: np.ndarray,
  titles: Sequence[str] | None,
  class_names: Sequence[classes_lib.Name],
) -> np.ndarray:
  """The class of each row whose score is above all others; -1 where none is."""
  of_column = _columns(scores.shape[1], titles, class_names)
  if (scores[:, 0] == np.arange(len(scores))).all() and len(scores) > 2:
    raise ValueError("predictions' first column counts the rows: leave it out")
  largest = scores.max(axis=1, keepdims=True)
  is_alone = (scores == largest).sum(axis=1) == 1
  return np.where(is_alone, of_column[scores.argmax(axis=1)], -1)


def _columns(
  number: int, titles: Sequence[str] | None, class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  """`[C]` int, the class of each column of scores."""
  if titles is not None:
    found = classes_lib.numbers(np.array(titles), class_names)
    if len({*found.tolist()} - {-1}) == len(class_names):
      return found
  if number == len(class_names):
    return np.arange(number)
  counts = [name for name in class_names if isinstance(name, int) and name >= 0]
  if len(counts) == len(class_names) and max(counts) < number:
    return classes_lib.numbers(np.arange(number), class_names)
  raise ValueError(
    f"predictions have {number} columns, expected {len(class_names)}: one for each"
    f" class, {classes_lib.listed(class_names)}"
  )


def _of_labels(
  cells: np.ndarray, class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  labels = cells
  if labels.dtype.kind == "U" and not any(isinstance(n, str) for n in class_names):
    if bad := [cell for cell in labels.tolist() if not _is_number(cell)]:
      raise ValueError(
        f"predictions hold {bad[0]!r}, expected labels like the key's classes,"
        f" {classes_lib.listed(class_names)}"
      )
    labels = labels.astype(np.float64)
  if labels.dtype.kind == "f":
    if not np.isfinite(labels).all():
      raise ValueError(
        f"predictions hold {(~np.isfinite(labels)).sum()} NaN or infinite values"
      )
    if (labels != np.floor(labels)).any():
      raise ValueError("predictions hold numbers that are not whole, expected labels")
    labels = labels.astype(np.int64)
  found = classes_lib.numbers(labels, class_names)
  if (found < 0).all():
    raise ValueError(
      f"predictions hold none of the key's classes, {classes_lib.listed(class_names)},"
      f" but {classes_lib.listed(np.unique(labels).tolist())}"
    )
  return found


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
