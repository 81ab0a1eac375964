"""A suspect's answers, from a file to one class for each query.

They come as the tools of suspects give them: labels or class names, probabilities or
logits, with or without a line of titles. `read` takes a file as it is, and `classes`
says what it means to the classes of a key.

Of scores the largest alone is read, which is the same in all units, so columns that an
audit would ask about (`outputs.kinds`), such as a sigmoid for each class, are taken.
"""

from collections.abc import Sequence
import os
import pathlib
import re
from typing import Any, NamedTuple
import zipfile

import numpy as np

from jmia.backdoor import answer_titles as titles_lib
from jmia.backdoor import classes as classes_lib
from jmia.datasets import columns, delimited, table_file
from jmia.outputs import coarseness, kinds

_NEAR = 0.02  # of one: what probabilities of 16 bits or few votes may sum to
_ALIKE = 0.2  # sums of rows of probabilities or votes differ by less
_FEW = 3  # columns at most, where labels beside something else pass for scores
_REFUSED = "a query that the suspect refused takes a label that is no class"
_FILE = re.compile(r"(?:.*[/\\])?([0-9]+)(?:\.[A-Za-z]+)?")  # a number, or 07.png


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
      titles; decimals may have a comma where semicolons part cells. A column titled
      label, class, prediction, predicted, top1, answer or the like
      (`answer_titles.LABELS`) holds the labels, and others beside it are ignored, but
      that scores of the classes must not contradict it; one titled index, id, row,
      query, filename or image is left out.

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


def of_array(values: Any) -> Table:
  """Returns answers in memory as a file's: a frame's columns have titles.

  Args:
    values: `[m]` labels or `[m, C]` scores; or a table of named columns, which its
      titles say the meaning of, as those of a CSV.

  Raises:
    ValueError: columns of a table have one title, or are no lists of values.
  """
  if not columns.is_table(values):
    return Table(np.asarray(values))
  found = columns.of_frame(values)
  cells = [[str(cell) for cell in column.tolist()] for column in found.values()]
  return Table(np.array(cells).T, tuple(found))


def classes(
  table: Table, class_names: Sequence[classes_lib.Name], num_queries: int
) -> np.ndarray:
  """Returns `[m]` int, each query's class; -1 for none of them, or a tie of scores.

  A -1 is a query that is answered with no class, be it for want of an answer.

  Args:
    table: of `read`.
    class_names: `K`. Scores have a column for each, in this order; or, where names are
      integers from 0, one for each number; or titles that are names, in any order.
    num_queries: `m`.

  Raises:
    ValueError: the answers are of another number or form, hold a NaN, none of them is
      a class, or a title or column of theirs can be read in two ways.
  """
  if coarseness.narrow_dtype(table.cells):  # NumPy itself has no bfloat16
    table = table._replace(cells=table.cells.astype(np.float32))
  cells, titles = _with_titles(table, class_names, num_queries)
  if cells.ndim not in (1, 2) or cells.dtype.kind not in "iufU":
    raise ValueError(
      f"predictions have shape {cells.shape} and dtype {cells.dtype}, expected labels"
      f" [{num_queries}] or scores [{num_queries}, {len(class_names)}]"
    )
  if len(cells) != num_queries:
    raise ValueError(
      f"predictions hold {len(cells)} answers, expected {num_queries}: one for each row"
      f" of the query set, in its order; {_REFUSED}"
    )
  if titles is not None:
    return _of_titled(cells, titles, class_names)
  if cells.ndim == 2:
    return _of_scores(cells, None, class_names)
  return _of_labels(cells, class_names)


def _read_csv(path: pathlib.Path) -> Table:
  """The cells of a CSV as text, read as a table of data is."""
  rows, delimiter = delimited.read_cells(path)
  if not rows or len({len(row) for row in rows}) > 1:
    raise ValueError(f"{path}: not a table of as many columns in each line")
  found = [
    _with_points(np.array(cells), delimiter) for cells in zip(*rows, strict=True)
  ]
  rows = [[*row] for row in zip(*found, strict=True)]
  titles = None
  if (
    len(rows[0]) > 1
    and not all(map(titles_lib.is_number, rows[0]))
    and _are_titles(rows)
  ):
    titles, rows = tuple(rows[0]), rows[1:]
    if not rows:
      raise ValueError(f"{path}: not a table: it holds titles alone")
  cells = np.array(rows)
  return Table(cells[:, 0] if cells.shape[1] == 1 else cells, titles)


def _with_points(cells: np.ndarray, delimiter: str) -> list[str]:
  """A column with points for decimal commas, below a title or from its first cell."""
  whole = table_file.with_points(cells, delimiter).tolist()
  if whole != cells.tolist():
    return [*whole]
  return [str(cells[0]), *table_file.with_points(cells[1:], delimiter).tolist()]


def _are_titles(rows: Sequence[Sequence[str]]) -> bool:
  """Whether the first line says what stands below it: text above numbers, or ours."""
  known = {*titles_lib.LABELS, *titles_lib.COUNTS}
  is_known = any(cell.lower() in known for cell in rows[0])
  below = rows[1] if len(rows) > 1 else rows[0]
  return is_known or any(
    titles_lib.is_number(under) and not titles_lib.is_number(title)
    for title, under in zip(rows[0], below, strict=True)
  )


def _with_titles(
  table: Table, class_names: Sequence[classes_lib.Name], num_queries: int
) -> tuple[np.ndarray, tuple[str, ...] | None]:
  """The answers, and the titles of columns; those that only their number tells too."""
  cells, titles = table
  if titles is not None:
    return cells, titles
  if cells.ndim == 2 and cells.shape[1] == 1:
    cells = cells[:, 0]
  if cells.dtype.kind != "U" or not cells.size:
    return cells, None
  if cells.ndim == 1:
    return titles_lib.without_title(cells, class_names, num_queries), None
  first = tuple(cells[0].tolist()) if cells.ndim == 2 else ()
  if len(cells) != num_queries + 1 or not titles_lib.are_above(first, class_names):
    return cells, None
  if not _has_titles(cells, class_names):
    raise ValueError(
      f"predictions hold {len(cells)} lines for {num_queries} queries, and the first,"
      f" {classes_lib.listed(first)}, may be titles or an answer: remove it, or title"
      f" the columns class_{class_names[0]} and so on"
    )
  return cells[1:], first


def _check_order(cells: np.ndarray, titles: Sequence[str], label: int | None) -> None:
  """Raises ValueError where a column beside the labels counts the rows out of order.

  By numbers, or by names of files that are numbers, as those of a query set are.
  """
  for column in {*range(len(titles))} - {label}:
    names = [_FILE.fullmatch(cell) for cell in cells[:, column].tolist()]
    count = [int(name[1]) for name in names if name]
    first = min(count, default=0)
    ordered = [*range(first, first + len(cells))]
    if first in (0, 1) and sorted(count) == ordered != count:
      raise ValueError(
        f"predictions' column {titles[column]!r} counts the rows in another order:"
        " sort them by it, as the query set is"
      )


def _of_titled(
  cells: np.ndarray, titles: Sequence[str], class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  """The class of each row, by the column of labels, or else by scores."""
  label = titles_lib.label_column(titles, class_names)
  kept = titles_lib.kept_columns(titles, class_names)
  _check_order(cells, titles, label)
  scores, of_scores = cells[:, kept], [titles[column] for column in kept]
  if label is None:
    if len(kept) == 1:
      return _of_labels(scores[:, 0], class_names)
    return _of_scores(scores, of_scores, class_names)
  found = _of_labels(cells[:, label], class_names)
  if titles_lib.named(of_scores, class_names) is not None:
    largest = _of_scores(scores, of_scores, class_names)
    differ = int(((largest != found) & (largest >= 0)).sum())
    if differ:
      raise ValueError(
        f"predictions' column {titles[label]!r} is not the class of the largest score"
        f" in {differ} rows, so it may be the truth: keep it, or the scores"
      )
  return found


def _numeric(cells: np.ndarray) -> np.ndarray:
  try:
    values = cells.astype(np.float64)
  except ValueError as error:
    texts = [one for one in cells.ravel().tolist() if not titles_lib.is_number(one)]
    raise ValueError(
      f"predictions hold {len(texts)} scores that are no numbers, first {texts[0]!r}"
    ) from error
  bad = np.isnan(values) | np.isposinf(values)  # -inf is the logit of a masked class
  if bad.any():
    raise ValueError(
      f"predictions hold {bad.sum()} NaN or infinite values; a query that the suspect"
      " refused takes equal scores"
    )
  return values


def _of_scores(
  cells: np.ndarray,
  titles: Sequence[str] | None,
  class_names: Sequence[classes_lib.Name],
) -> np.ndarray:
  """The class of each row whose score is above all others; -1 where none is."""
  scores = _numeric(cells)
  of_column = _columns(scores.shape[1], titles, class_names)
  # Names are of scores; numbers may be of any table's columns.
  is_named = titles is not None and titles_lib.named(titles, class_names) is not None
  is_sure = is_named and isinstance(class_names[0], str)
  _check_counts(scores, of_column < 0 if is_sure else np.ones(len(of_column), bool))
  if not is_named or all(map(str.isdecimal, titles or ())):
    _check_no_labels(scores, class_names)
  if titles is not None:
    _check_others(scores, of_column, titles)
  elif cells.dtype.kind == "U" and _has_titles(cells, class_names):
    raise ValueError(
      f"predictions' first line, {classes_lib.listed(cells[0].tolist())}, looks like"
      " titles: then one answer is missing; if it holds scores, put a line of titles"
      " above it"
    )
  largest = scores.max(axis=1, keepdims=True)
  is_alone = (scores == largest).sum(axis=1) == 1
  found = np.where(is_alone, of_column[scores.argmax(axis=1)], -1)
  if (found < 0).all() and (of_column < 0).any():
    raise ValueError(
      "predictions have the largest score in none of the columns of the key's classes,"
      f" {classes_lib.listed(class_names)}"
    )
  return found


def _columns(
  number: int, titles: Sequence[str] | None, class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  """`[C]` int, the class of each column of scores."""
  if titles:
    found = titles_lib.named(titles, class_names)
    if found is not None:
      return found
    titles_lib.check_numbered(titles, class_names)
  if number == len(class_names):
    return np.arange(number)
  counts = [name for name in class_names if isinstance(name, int) and name >= 0]
  if len(counts) == len(class_names) and max(counts) < number:
    return classes_lib.numbers(np.arange(number), class_names)
  raise ValueError(
    f"predictions have {number} columns, expected {len(class_names)}: one for each"
    f" class, {classes_lib.listed(class_names)}"
  )


def _check_counts(scores: np.ndarray, may_count: np.ndarray) -> None:
  """Raises ValueError where a column rises by one from row to row."""
  rises = (scores[1:] == scores[:-1] + 1).all(axis=0) & np.isfinite(scores[0])
  rises &= may_count
  if len(scores) > 2 and rises.any():
    column = int(rises.argmax())
    which = f"column {column + 1}" if column else "first column"
    raise ValueError(f"predictions' {which} counts the rows: leave it out")


def _check_no_labels(
  scores: np.ndarray, class_names: Sequence[classes_lib.Name]
) -> None:
  """Raises ValueError where one of a few columns seems to hold labels.

  It holds classes alone, and more than one or beside whole numbers; and rows do not sum
  to the same, as those of probabilities and votes do.
  """
  if scores.shape[1] > _FEW or _sum_alike(scores):
    return
  numbers = [name if isinstance(name, int) else c for c, name in enumerate(class_names)]
  varies = (scores != scores[0]).any(axis=0)
  is_whole = bool((scores == np.floor(scores)).all())
  is_label = np.isin(scores, numbers).all(axis=0) & (varies | (is_whole & varies.any()))
  if is_label.any():
    raise ValueError(
      f"predictions' column {is_label.argmax() + 1} of {len(is_label)} looks like"
      " labels beside an id or the like: keep it alone, or title scores as"
      f" class_{class_names[0]} and so on"
    )


def _check_others(
  scores: np.ndarray, of_column: np.ndarray, titles: Sequence[str]
) -> None:
  """Raises ValueError where probabilities stand beside columns that are none."""
  is_class = of_column >= 0
  of_classes = kinds.are_probabilities(scores[:, is_class], _NEAR)
  if of_classes and not kinds.are_probabilities(scores, _NEAR):
    others = [t for t, known in zip(titles, is_class, strict=True) if not known]
    raise ValueError(
      f"predictions have columns titled {classes_lib.listed(others)} beside"
      " probabilities that sum to one without them: leave them out"
    )


def _has_titles(cells: np.ndarray, class_names: Sequence[classes_lib.Name]) -> bool:
  """Whether whole numbers in the first line of scores cannot well be scores."""
  if not titles_lib.are_above(cells[0].tolist(), class_names):
    return False
  if not any(cell.isdecimal() for cell in cells[1:].ravel().tolist()):
    return True
  # Two scores of 0 and 1 may be sure of a class: only beside other sums they are none.
  scores = _numeric(cells)
  is_other = cells.shape[1] > 2 or _sum_alike(scores[1:])
  return is_other and not _sum_alike(scores)


def _sum_alike(scores: np.ndarray) -> bool:
  """Whether all rows sum to about the same."""
  sums = scores.sum(axis=1)
  return bool(np.isfinite(sums).all() and np.ptp(sums) < _ALIKE)


def _of_labels(
  cells: np.ndarray, class_names: Sequence[classes_lib.Name]
) -> np.ndarray:
  labels = cells
  if labels.dtype.kind == "U" and not any(isinstance(n, str) for n in class_names):
    if bad := [cell for cell in labels.tolist() if not titles_lib.is_number(cell)]:
      raise ValueError(
        f"predictions hold {bad[0]!r}, expected labels like the key's classes,"
        f" {classes_lib.listed(class_names)}; {_REFUSED}"
      )
    labels = labels.astype(np.float64)
  if labels.dtype.kind == "f":
    if not np.isfinite(labels).all():
      raise ValueError(
        f"predictions hold {(~np.isfinite(labels)).sum()} NaN or infinite values;"
        f" {_REFUSED}"
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
