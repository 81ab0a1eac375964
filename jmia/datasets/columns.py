"""Tables of named columns, of numbers and of text, as features.

| column | becomes |
|---|---|
| numbers | itself, standardised: mean 0 and deviation 1 over all rows |
| 0 and 1, true and false | itself |
| text | a column of 0 and 1 for each of 100 categories; the rarest share one more |
| numbers with gaps | gaps are the column's mean, and a column of 0 and 1 says where |
| row numbers, text that differs in most rows, one value alone | left out |

Numbers that stand for categories (zip codes) are numbers to this module: write them as
text that is no number. Text is a number as people write one; 1_000, which Python reads
too, is none. A column is of one kind in the train and the test rows, or refused.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.datasets import features, memory

# "#n/a" is Excel's, "<na>" pandas'.
_MISSING = ("", "na", "nan", "n/a", "null", "none", "?", "#n/a", "<na>")
_MOST_CATEGORIES = 100
_NUMBER = re.compile(
  r"\s*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)\s*",
  re.IGNORECASE,
)
_LONGEST = 2.0**53  # from here on float64 does not hold every whole number
_FEW = 10  # rows below which nothing is said to be a row number, or to differ in most

Columns = Mapping[str, np.ndarray]


class _Read(NamedTuple):
  """What one column becomes: `[N, F]`, and why it is left out, if it is.

  `note` says why cells that are mostly numbers are text.
  """

  values: np.ndarray
  given: np.ndarray
  is_standardised: bool = False
  is_category: bool = False
  has_gaps: bool = False
  left_out: str = ""
  note: str = ""


def is_number(text: str) -> bool:
  """Whether text is a number as people write it: no 1_000, no digits but 0 to 9."""
  return _NUMBER.fullmatch(text) is not None


def is_missing(value: Any) -> bool:
  """Whether a cell says that its value is not known: None, NaN, "", "NA", "?"."""
  if value is None or (isinstance(value, float) and np.isnan(value)):
    return True
  if isinstance(value, str):
    return value.strip().lower() in _MISSING
  return type(value).__name__ in ("NAType", "NaTType")  # pandas'


def as_array(values: Any) -> np.ndarray:
  """Returns `np.asarray`, but of a list of text and other things one of objects.

  NumPy would make text of all of them, and of a NaN the word "nan".
  """
  array = np.asarray(values)
  if array.dtype.kind not in "US" or hasattr(values, "dtype"):
    return array
  objects = np.asarray(values, object)
  is_text = all(isinstance(value, str | bytes) for value in objects.ravel().tolist())
  return array if is_text else objects


def is_table(x: Any) -> bool:
  """Whether `x` has named columns: a mapping, or a frame of any package.

  Raises:
    ValueError: it is a lazy frame, which has no rows yet.
  """
  if type(x).__name__ == "LazyFrame":
    raise ValueError("x is a LazyFrame, which has no rows yet: collect() it first")
  return isinstance(x, Mapping) or (
    hasattr(x, "__getitem__") and (hasattr(x, "columns") or hasattr(x, "column_names"))
  )


def check_order(name: str, x: Any, name_y: str, y: Any) -> None:
  """Refuses labels whose index has that of the features in another order.

  As pandas' frames and series have one: rows are matched by their place, so that these
  would be matched with labels of others.

  Args:
    name: of x, for messages.
    x: features, of any package.
    name_y: of y.
    y: labels, of any package.

  Raises:
    ValueError: both have an index, of the same values in another order.
  """
  of_x: Any = getattr(x, "index", None)
  of_y: Any = getattr(y, "index", None)
  if not hasattr(of_x, "equals") or not hasattr(of_y, "equals") or of_x.equals(of_y):
    return
  if len(of_x) == len(of_y) and {*of_x} == {*of_y}:
    raise ValueError(
      f"{name_y} has the index of {name} in another order: give "
      f"{name_y}.loc[{name}.index], or reset_index(drop=True) of both if rows belong "
      "together as they stand"
    )


def left_out(name: str, values: np.ndarray) -> str:
  """Returns why a column `[N]` is nothing to learn from; "" if it is something.

  Raises:
    ValueError: as `read`.
  """
  return _why_left_out(_read(name, [_comparable(values)]))


def of_frame(x: Any) -> dict[str, np.ndarray]:
  """Returns the columns of what `is_table` names, as `[N]` arrays.

  Raises:
    ValueError: there are none, or a column is no list of values.
  """
  names = x.keys() if isinstance(x, Mapping) else getattr(x, "column_names", None)
  names = list(x.columns if names is None else names)
  found = {str(name): as_array(x[name]) for name in names}
  if len(found) != len(names) or not found:
    raise ValueError(f"x has the columns {names}, expected some, all different")
  for name, values in found.items():
    if values.ndim != 1:
      raise ValueError(f"column {name} has shape {values.shape}, expected values [N]")
  return found


def as_given(x: Any, dtype: np.dtype) -> np.ndarray:
  """Returns a table's rows as those that `read` gives back: a structured array `[N]`.

  Args:
    x: as `of_frame` takes it, its columns in any order.
    dtype: of the rows that they are to be compared with: float64 or text of each name.

  Raises:
    ValueError: the columns are others, or one holds text where numbers are expected.
  """
  found = of_frame(x)
  names = dtype.names or ()
  if {*found} != {*names}:
    raise ValueError(f"x has the columns {[*found]}, expected {[*names]}")
  parts = {}
  for name in names:
    values = _comparable(found[name])
    is_text = dtype[name].kind == "U"
    part = _text(values.tolist()) if is_text else _numbers(name, values)
    if part is None:
      raise ValueError(f"column {name} holds text, expected numbers")
    parts[name] = _Read(part[:, None], part)
  return _given(parts)


def read(parts: Sequence[Columns]) -> tuple[features.Features, np.ndarray]:
  """Reads columns as features.

  Args:
    parts: the train rows, and maybe the test rows, of the same columns `[N]`.

  Returns:
    Features `[N, F]`, and the columns as they came: a structured array `[N]` with a
    field for each, numbers as float64.

  Raises:
    ValueError: the parts have other columns, a column is numbers in one and text in
      another or writes one number in two ways, it holds neither numbers nor text or an
      infinity, or nothing is left to learn from.
  """
  for part in parts[1:]:
    if list(part) != list(parts[0]):
      raise ValueError(f"x_test has the columns {list(part)}, not {list(parts[0])}")
  lengths = {len(values) for part in parts for values in part.values()}
  if len(lengths) > len(parts):
    raise ValueError(
      f"x has columns of {sorted(lengths)} rows, expected as many in all"
    )
  columns = {
    name: _read(name, [_comparable(part[name]) for part in parts]) for name in parts[0]
  }
  used = {name: column for name, column in columns.items() if not column.left_out}
  if not used:
    raise ValueError(f"x has the columns {list(columns)}, none to learn from")
  num_rows = len(next(iter(used.values())).values)
  width = sum(column.values.shape[1] for column in used.values())
  memory.check(f"{num_rows:,} rows of {width:,} columns", 4 * num_rows * width)
  is_bits = all(column.values.dtype == np.uint8 for column in used.values())
  x = np.empty((num_rows, width), np.uint8 if is_bits else np.float32)
  start = 0
  for column in used.values():
    stop = start + column.values.shape[1]
    x[:, start:stop] = column.values
    start = stop
  return features.Features(x, 1.0, _notes(columns), True), _given(columns)


def _comparable(values: np.ndarray) -> np.ndarray:
  """Values of one part so that another's can follow."""
  values = np.asarray(values)
  if values.dtype.kind == "S":
    return np.char.decode(values, "utf-8")
  if values.dtype.kind == "O" and any(isinstance(cell, bytes) for cell in values):
    plain = np.empty(len(values), object)
    plain[:] = [c.decode() if isinstance(c, bytes) else c for c in values]
    return plain
  return values


def _read(name: str, parts: Sequence[np.ndarray]) -> _Read:
  """What a column becomes, of the train rows and maybe the test rows."""
  of_parts = [_numbers(name, part) for part in parts]
  lengths = [len(part) for part in parts]
  read = [part for part in of_parts if part is not None]
  if len(read) < len(parts):
    _check_kinds(name, parts, of_parts)
    cells = [cell for part in parts for cell in part.tolist()]
    known = np.array(["" if is_missing(cell) else str(cell) for cell in cells])
    return _read_text(known, lengths)._replace(
      given=_text(cells), note=_mostly_numbers(known.tolist())
    )
  numbers = np.concatenate(read)
  _validate.storable(f"column {name}", np.where(np.isnan(numbers), 0, numbers))
  is_gap = np.isnan(numbers)
  known = numbers[~is_gap]
  if not known.size or ((known == known[0]).all() and not is_gap.any()):
    why = "one value alone"
    if len({str(cell) for part in parts for cell in part.tolist()}) > 1 and known.size:
      why = why if abs(known[0]) < _LONGEST else "numbers too long to tell apart"
    return _Read(numbers[:, None], numbers, left_out=why)
  if not is_gap.any() and _are_row_numbers(numbers, lengths):
    return _Read(numbers[:, None], numbers, left_out="row numbers")
  is_bits = bool(((known == 0) | (known == 1)).all())
  filled = np.where(is_gap, known.mean(), numbers)[:, None]
  if is_bits and not is_gap.any():
    return _Read(filled.astype(np.uint8), numbers)
  if not is_bits:
    filled = features.standardise(filled)
  if is_gap.any():
    filled = np.concatenate([filled, is_gap[:, None]], axis=1)
  return _Read(
    filled.astype(np.float32),
    numbers,
    is_standardised=not is_bits,
    has_gaps=bool(is_gap.any()),
  )


def _text(cells: Sequence[Any]) -> np.ndarray:
  """Cells as text; what a model of the user's was given may have told "?" from ""."""
  return np.array(
    [c if isinstance(c, str) or not is_missing(c) else "" for c in cells], str
  )


def _check_kinds(
  name: str, parts: Sequence[np.ndarray], numbers: Sequence[np.ndarray | None]
) -> None:
  """Refuses what is a number here and text there, which would be two categories."""
  is_one_kind = all(read is None for read in numbers)
  if is_one_kind and all(part.dtype.kind == "U" for part in parts):
    return
  # Each cell once, by whether it is text and how it is written.
  cells = [
    {(isinstance(cell, str), str(cell)): cell for cell in part.tolist()}
    for part in parts
  ]
  text_at = next(p for p, read in enumerate(numbers) if read is None)
  is_all_text = all(is_text for is_text, _ in cells[text_at])
  for p, (part, read) in enumerate(zip(parts, numbers, strict=True)):
    is_stored = not any(is_text for is_text, _ in cells[p])
    if (
      read is not None
      and not np.isnan(read).all()
      and is_stored
      and (is_all_text or part.dtype.kind != "O")
    ):
      where = ("x", "x_test")
      raise ValueError(
        f"column {name} is numbers in {where[p]} and text in {where[text_at]}, "
        "expected numbers, or text, in both"
      )
  for value, ways in _ways(cells).items():
    texts = sorted({text for of_part in ways for _, text in of_part})
    is_stored = any(not is_text for of_part in ways for is_text, _ in of_part)
    is_apart = not is_one_kind and all(ways) and not set.intersection(*ways)
    if len(texts) > 1 and (is_stored or is_apart):
      raise ValueError(
        f"column {name} holds text, and the number {value:g} as {texts[0]!r} and "
        f"{texts[1]!r}, which would be two categories: write it in one way"
      )


def _ways(
  cells: Sequence[Mapping[tuple[bool, str], Any]],
) -> dict[float, list[set[tuple[bool, str]]]]:
  """Number -> how each part writes it: whether as text, and the text."""
  found: dict[float, list[set[tuple[bool, str]]]] = {}
  for p, of_part in enumerate(cells):
    for (is_text, text), cell in of_part.items():
      if is_missing(cell) or (is_text and not is_number(text)):
        continue
      try:
        value = float(cell)
      except (TypeError, ValueError):
        continue
      found.setdefault(value, [set() for _ in cells])[p].add((is_text, text))
  return found


def _read_text(values: np.ndarray, lengths: Sequence[int]) -> _Read:
  """Categories as columns of 0 and 1."""
  found, place, counts = np.unique(values, return_inverse=True, return_counts=True)
  if len(found) < 2:
    return _Read(values[:, None], values, left_out="one value alone")
  parts = np.split(values, np.cumsum(lengths)[:-1])
  if len(values) >= _FEW and (
    len(found) > len(values) / 2
    or all(len(np.unique(part)) > len(part) / 2 for part in parts)
  ):
    return _Read(values[:, None], values, left_out="text that differs in most rows")
  width = len(found)
  if width > _MOST_CATEGORIES:
    common = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CATEGORIES])
    column_of = np.full(len(found), _MOST_CATEGORIES)
    column_of[common] = np.arange(_MOST_CATEGORIES)
    place, width = column_of[place], _MOST_CATEGORIES + 1
  memory.check(f"a column of {width} categories", len(values) * width)
  one_hot = np.zeros((len(values), width), np.uint8)
  one_hot[np.arange(len(values)), place.reshape(-1)] = 1
  return _Read(one_hot, values, is_category=True)


def _mostly_numbers(cells: Sequence[str]) -> str:
  """Says what makes text of a column of numbers; "" if most cells are text anyway."""
  known = [cell for cell in cells if cell]
  others = [cell for cell in known if not is_number(cell)]
  if 2 * len(others) >= len(known):
    return ""
  first, row = others[0], cells.index(others[0])
  return (
    f"{len(known) - len(others):,} of {len(known):,} cells are numbers, {first!r} in "
    f"row {row}, counted from 0, is not"
  )


def _numbers(name: str, values: np.ndarray) -> np.ndarray | None:
  """A column as float64 with NaN for gaps; None if it holds text."""
  if values.dtype.kind in "biuf":
    return values.astype(np.float64)
  if values.dtype.kind not in "OU":
    raise ValueError(
      f"column {name} has dtype {values.dtype}, expected numbers or text; give times "
      "as a number of days or the like"
    )
  numbers = np.full(len(values), np.nan)
  for row, value in enumerate(values.tolist()):
    if is_missing(value):
      continue
    if isinstance(value, str) and not is_number(value):
      return None
    try:
      numbers[row] = float(value)
    except (TypeError, ValueError):
      raise ValueError(
        f"column {name} holds {type(value).__name__} at row {row}, expected numbers or "
        "text"
      ) from None
  return numbers


def _are_row_numbers(numbers: np.ndarray, lengths: Sequence[int]) -> bool:
  """Whether a column counts the rows, from whichever number, of one part or of each."""
  counts = [
    bool((np.diff(part) == 1).all())
    for part in np.split(numbers, np.cumsum(lengths)[:-1])
  ]
  many = [length >= _FEW for length in lengths]
  return (len(numbers) >= _FEW and all(counts)) or any(
    is_count and is_long for is_count, is_long in zip(counts, many, strict=True)
  )


def _given(columns: Mapping[str, _Read]) -> np.ndarray:
  """The columns as they came, as one structured array."""
  num_rows = len(next(iter(columns.values())).given)
  given = np.empty(num_rows, [(name, c.given.dtype) for name, c in columns.items()])
  for name, column in columns.items():
    given[name] = column.given
  return given


def _why_left_out(column: _Read) -> str:
  """Why, and what made text of it; "" if it is not left out."""
  has_note = column.left_out and column.note
  return f"{column.left_out} ({column.note})" if has_note else column.left_out


def _notes(columns: Mapping[str, _Read]) -> tuple[str, ...]:
  """What was done, for people."""
  notes = []
  used = [column for column in columns.values() if not column.left_out]
  numbers = sum(column.is_standardised for column in used)
  if numbers:
    notes.append(
      f"{numbers} of {len(columns)} columns are numbers and standardised (mean 0, "
      "deviation 1 over all rows)."
    )
  widths = [column.values.shape[1] for column in used if column.is_category]
  if widths:
    notes.append(
      f"{len(widths)} of {len(columns)} columns are categories and became "
      f"{sum(widths)} columns of 0 and 1."
    )
  notes += [
    f"{name}: {column.note}: taken for categories."
    for name, column in columns.items()
    if column.note and not column.left_out
  ]
  gaps = [name for name, column in columns.items() if column.has_gaps]
  if gaps:
    notes.append(
      f"Gaps in {', '.join(gaps)} are filled with the column's mean, and a column of 0 "
      "and 1 says where."
    )
  notes += [
    f"Column {name} is left out: {_why_left_out(column)}."
    for name, column in columns.items()
    if column.left_out
  ]
  return tuple(notes)
