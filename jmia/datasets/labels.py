"""Labels as people write them -> classes numbered from 0.

| labels | become |
|---|---|
| 0 to C - 1, each of them there | themselves |
| other whole numbers (1 to K, -1 and 1, with gaps) | 0 to C - 1 in their order |
| text; true and false | 0 to C - 1 in alphabetical order |
| one-hot rows | the place of the 1 |
| what says that a value is missing (`columns.is_missing`) | refused, but for "none" |

Ways to write one number (1 and 1.0, not 01) are one class. Whole numbers may be
integers, floats or text. What is renumbered keeps its name and is said. Labels that no
class can be read from are refused with what to do.
"""

from collections.abc import Sequence
import decimal
import re
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.datasets import columns

_SHOWN = 5  # labels that a note names
_MAY_BE_CLASS = "none"  # of the words that say that a value is missing
_LEADING_ZERO = re.compile(r"[+-]?0[0-9].*")
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")  # a class that is called a whole number
_ABSENT = (
  " Numbers between them have no row and are no classes; for a model with outputs for"
  " them, give the names of all classes as `classes`."
)


class Labels(NamedTuple):
  """Classes of `N` rows.

  Attributes:
    y: `[N]` int32, from 0.
    num_classes: `C`.
    names: `C` texts, what each class was called; empty if its number.
    notes: what was done to them.
  """

  y: np.ndarray
  num_classes: int
  names: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()


def read(
  name: str,
  labels: Any,
  classes: Sequence[Any] | None = None,
  *,
  are_titles: bool = False,
) -> Labels:
  """Reads labels.

  Args:
    name: for messages.
    labels: an array, `[N]`, `[N, 1]` or one-hot `[N, C]`, of whole numbers, booleans
      or text.
    classes: the names of all classes in their order, where they are known: labels are
      then these names, or numbers from 0, and a class may have no row. Whole numbers
      may be either where names are numbers too: they are what they can be, which a note
      says. One-hot rows have a column for each class, in this order.
    are_titles: whether text is folders' names or the like, none of which says that a
      label is missing, or is a number.

  Raises:
    ValueError: they are no labels, a row has none, they are all of one class, are of
      about as many classes as rows, or may be names of `classes` and numbers from 0
      alike and differ.
  """
  labels = columns.as_array(labels)
  values, notes = _flat(name, labels)
  if not len(values):
    raise ValueError(f"{name} is empty")
  values, note = _plain(name, values)
  notes += note
  if classes is not None:
    width = labels.shape[1] if labels.shape[1:] > (1,) else None
    return _of_classes(name, values, _called(classes), tuple(notes), width)
  if values.dtype.kind == "U" and not are_titles:
    values, said = clean(name, values)
    notes += said
  found, y = _distinct(values)
  _check_classes(name, found, y)
  if found.dtype.kind in "iu" and np.array_equal(found, np.arange(len(found))):
    return Labels(y.astype(np.int32), len(found), (), tuple(notes))
  names = tuple(str(value) for value in found.tolist())
  shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
  notes.append(
    f"Labels of {name} are {shown}: numbered 0 to {len(names) - 1} in this order."
    + (_ABSENT if _has_gaps(found) else "")
  )
  return Labels(y.astype(np.int32), len(names), names, tuple(notes))


def plain(name: str, labels: Any) -> tuple[np.ndarray, tuple[str, ...]]:
  """Returns labels `[N]`, integers or text, of any form that `read` takes.

  Args:
    name: for messages.
    labels: as `read` takes them.

  Returns:
    `[N]` integers or text, not renumbered, and what was done, a sentence each.

  Raises:
    ValueError: they are no labels, or a row has none; names the row.
  """
  values, flattened = _flat(name, columns.as_array(labels))
  values, said = _plain(name, values)
  notes = (*flattened, *said)
  if values.dtype.kind != "U":
    return values, notes
  values, cleaned = clean(name, values)
  return values, (*notes, *cleaned)


def clean(name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
  """Returns labels of text with each number written in one way.

  Where a number is written in several ways, whole numbers become as Python writes an
  integer. Those with leading zeros are ids, and stay what they are.

  Args:
    name: for messages.
    values: `[N]` text.

  Returns:
    `[N]` text, and what was done or guessed, a sentence each.

  Raises:
    ValueError: text says that a label is missing; names the row.
  """
  found, first, place = np.unique(values, return_index=True, return_inverse=True)
  texts = found.tolist()
  notes = _check_known(name, texts, first.tolist())
  ways: dict[decimal.Decimal, list[str]] = {}
  for text in texts:
    if columns.is_number(text) and not _LEADING_ZERO.fullmatch(text.strip()):
      ways.setdefault(decimal.Decimal(text.strip()), []).append(text)
  several = [", ".join(map(repr, way)) for way in ways.values() if len(way) > 1]
  if not several:
    return values, notes
  shown = "; ".join(several[:_SHOWN]) + ("; ..." if len(several) > _SHOWN else "")
  notes = (*notes, f"Labels of {name} that write one number are one class: {shown}.")
  new = {text: _written(number, way) for number, way in ways.items() for text in way}
  return np.array([new.get(text, text) for text in texts])[place.reshape(-1)], notes


def _check_known(
  name: str, texts: Sequence[str], first: Sequence[int]
) -> tuple[str, ...]:
  """Refuses text, first found in given rows, that says that a label is missing."""
  missing = {
    row: text
    for text, row in zip(texts, first, strict=True)
    if columns.is_missing(text)
  }
  for row in sorted(missing):
    text = missing[row].strip()
    if text.lower() != _MAY_BE_CLASS:
      why = f": {text!r} says that it is missing; rename it if it is a class"
      raise ValueError(
        f"{name} has no label at row {row}, counted from 0, expected one at each"
        f"{why if text else ''}"
      )
  shown = ", ".join(map(repr, missing.values()))
  note = f"Labels of {name} are {shown} too, taken for a class and not for missing."
  return (note,) if missing else ()


def _written(number: decimal.Decimal, way: Sequence[str]) -> str:
  """How a number is written that labels write in several ways."""
  is_whole = abs(number) < 2**53 and number == number.to_integral_value()
  return str(int(number)) if is_whole else min(way, key=len)


def _flat(name: str, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Labels `[N]`, from a column or one-hot rows too, and what was done."""
  if values.ndim == 1:
    return values, []
  if values.ndim != 2:
    raise ValueError(f"{name} has shape {values.shape}, expected labels [N]")
  if values.shape[1] == 1:
    return values[:, 0], []
  if values.dtype.kind in "biuf":
    is_one_hot = ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
    if is_one_hot:
      return values.argmax(1), [f"{name} holds one-hot rows: read as classes."]
  raise ValueError(
    f"{name} has shape {values.shape} and its rows are not one-hot, expected one label "
    "a row [N]; of several labels, or of probabilities, take one (y.argmax(1))"
  )


def _plain(name: str, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Labels as integers or text, and what was done."""
  if values.dtype.kind == "O":
    values = _from_objects(name, values)
  if values.dtype.kind == "S":
    try:
      values = np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
      raise ValueError(f"{name} holds {error.object!r}, expected UTF-8") from error
  if values.dtype.kind == "U":
    return np.char.strip(values), []
  if values.dtype.kind == "b":
    return values.astype(str), []
  if values.dtype.kind in "iu":
    return values, []
  if values.dtype.kind != "f":
    raise ValueError(
      f"{name} has dtype {values.dtype}, expected whole numbers or text as labels"
    )
  _validate.finite(name, values)
  broken = np.flatnonzero(values != np.rint(values))
  if broken.size or np.abs(values).max() > 2**53:
    value = values[broken[0]] if broken.size else np.abs(values).max()
    raise ValueError(
      f"{name} holds {value:g}, expected classes: a classifier's labels are whole "
      "numbers or text; cut a quantity into classes first, for instance by "
      "np.digitize"
    )
  return values.astype(np.int64), [f"{name} holds floats that are whole numbers."]


def _from_objects(name: str, values: np.ndarray) -> np.ndarray:
  """An array of Python's objects as one of numbers or of text."""
  for row, value in enumerate(values.tolist()):
    if not isinstance(value, str) and columns.is_missing(value):
      raise ValueError(
        f"{name} has no label at row {row}, counted from 0, expected one at each"
      )
  kinds = {type(value) for value in values.tolist()}
  if kinds and kinds <= {bool, np.bool_}:
    return values.astype(bool)
  if kinds and all(issubclass(kind, int | float | np.number) for kind in kinds):
    return values.astype(np.float64)
  if kinds == {str}:
    return values.astype(str)
  found = ", ".join(sorted(kind.__name__ for kind in kinds))
  raise ValueError(
    f"{name} holds objects of the types {found or '-'}, expected whole numbers, or "
    "text, and no row without a label"
  )


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The labels in their order, and each row's place among them; "10" is after "9"."""
  found, y = np.unique(values, return_inverse=True)
  if found.dtype.kind == "U" and all(text.isdecimal() for text in found.tolist()):
    numbers = np.array([int(text) for text in found.tolist()], object)
    order = np.argsort(numbers, kind="stable")
    if len({*numbers.tolist()}) == len(numbers):  # "01" and "1" stay apart
      found, y = found[order], np.argsort(order)[y]
      if np.array_equal(found, np.arange(len(found)).astype(str)):
        found = np.arange(len(found))
  return found, y.reshape(-1)


def _has_gaps(found: np.ndarray) -> bool:
  """Whether whole numbers, in order, leave some out; -1 and 1 are two signs."""
  if found.dtype.kind not in "iu" or found[0] < 0:
    return False
  return int(found[-1]) - int(found[0]) >= len(found)


def _check_classes(name: str, found: np.ndarray, y: np.ndarray) -> None:
  """Refuses labels of one class, and those that are rather ids or quantities."""
  if len(found) < 2:
    raise ValueError(
      f"{name} holds {found[0]!s} alone, expected labels of at least 2 classes"
    )
  if len(found) > max(3, len(y) / 2):
    raise ValueError(
      f"{name} holds {len(found)} different labels over {len(y)} rows: expected "
      "classes, at most half as many as rows; are these ids or a quantity?"
    )


def _called(classes: Sequence[Any]) -> list[str]:
  """What classes are called, as text."""
  names = []
  for c in classes:
    if not isinstance(c, str | bytes | bool | int | float | np.generic):
      raise ValueError(f"classes holds {c!r}, expected names: text or numbers")
    names.append((c.decode() if isinstance(c, bytes) else str(c)).strip())
  return names


def _of_classes(
  name: str,
  values: np.ndarray,
  classes: list[str],
  notes: tuple[str, ...],
  width: int | None,
) -> Labels:
  """Labels that are names, or numbers, of classes given; or of `width` one-hot columns.

  Only one reading of whole numbers is taken: where they are names and numbers from 0
  alike, nothing says which.
  """
  if len({*classes}) != len(classes) or len(classes) < 2:
    raise ValueError(
      f"classes holds {len(classes)} names of which {len({*classes})} differ, expected "
      "at least 2, all different"
    )
  if width not in (None, len(classes)):
    raise ValueError(
      f"{name} has one-hot rows of {width} columns and classes holds {len(classes)} "
      "names, expected as many"
    )
  if values.dtype.kind == "U":
    number = {label: c for c, label in enumerate(classes)}
    unknown = sorted({*values.tolist()} - number.keys())
    if unknown:
      raise ValueError(f"{name} holds {unknown[0]!r}, which is none of classes")
    y = np.array([number[text] for text in values.tolist()], np.int32)
    return Labels(y, len(classes), tuple(classes), notes)
  if width is None:
    place, note = _places(name, values, classes)
    notes = (*notes, *note)
  else:
    place = {c: c for c in range(len(classes))}
  found, at = np.unique(values, return_inverse=True)
  y = np.array([place[value] for value in found.tolist()], np.int32)[at.reshape(-1)]
  return Labels(y, len(classes), tuple(classes), notes)


def _places(
  name: str, values: np.ndarray, classes: list[str]
) -> tuple[dict[int, int], list[str]]:
  """Whole numbers -> places among classes; and which reading it is, if one may ask."""
  called: dict[int, list[int]] = {}
  for c, text in enumerate(classes):
    match = _WHOLE.fullmatch(text)
    if match:
      called.setdefault(int(match[1]), []).append(c)
  found = np.unique(values).tolist()
  are_names = all(value in called for value in found)
  are_places = found[0] >= 0 and found[-1] < len(classes)
  if not called:
    _validate.labels(name, values, len(classes))
  if not are_names and not are_places:
    wrong = next(v for v in found if v not in called or not 0 <= v < len(classes))
    raise ValueError(
      f"{name} holds {wrong}, but its labels are neither all among classes nor all "
      f"numbers from 0 to {len(classes) - 1}"
    )
  shown = ", ".join(classes[:_SHOWN]) + (", ..." if len(classes) > _SHOWN else "")
  differ = [v for v in found if called.get(v, [v]) != [v]]
  is_same = are_names and are_places and not differ
  is_clear = not are_places and all(len(called.get(v, [v])) == 1 for v in found)
  if are_names and not is_same and not is_clear:
    raise ValueError(
      f"{name} holds {(differ or found)[0]}, which may be a name in classes ({shown}) "
      f"or a class's number from 0: give {name} as text, as classes writes the names"
    )
  if not called or is_same:
    return {v: v for v in found}, []
  if are_names:
    note = f"Labels of {name} are names of classes: {shown} became 0 to"
    return {v: called[v][0] for v in found}, [f"{note} {len(classes) - 1}."]
  note = f"Labels of {name} are numbers of classes from 0, in the order {shown}."
  return {v: v for v in found}, [note]
