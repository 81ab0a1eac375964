"""Labels as people write them -> classes numbered from 0.

| labels | become |
|---|---|
| 0 to C - 1, each of them there | themselves |
| other whole numbers (1 to K, -1 and 1, with gaps) | 0 to C - 1 in their order |
| text; true and false | 0 to C - 1 in alphabetical order |
| one-hot rows | the place of the 1 |

Whole numbers may be integers, floats or text. What is renumbered keeps its name and is
said. Labels that no class can be read from are refused with what to do.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate

_SHOWN = 5  # labels that a note names
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


def read(name: str, labels: Any, classes: Sequence[Any] | None = None) -> Labels:
  """Reads labels.

  Args:
    name: for messages.
    labels: an array, `[N]`, `[N, 1]` or one-hot `[N, C]`, of whole numbers, booleans
      or text.
    classes: the names of all classes in their order, where they are known: labels are
      then these names, or numbers from 0, and a class may have no row.

  Raises:
    ValueError: they are no labels, are all of one class, or are of about as many
      classes as rows.
  """
  values, notes = _flat(name, np.asarray(labels))
  if not len(values):
    raise ValueError(f"{name} is empty")
  values, note = _plain(name, values)
  notes += note
  if classes is not None:
    return _of_classes(name, values, [str(c) for c in classes], tuple(notes))
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
    values = np.char.decode(values, "utf-8")
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
  if found.dtype.kind == "U" and (found == "").any():
    row = int(np.argmax(y == np.argmax(found == "")))
    raise ValueError(f"{name} has no label at row {row}, expected one at each")
  if len(found) < 2:
    raise ValueError(
      f"{name} holds {found[0]!s} alone, expected labels of at least 2 classes"
    )
  if len(found) > max(3, len(y) / 2):
    raise ValueError(
      f"{name} holds {len(found)} different labels over {len(y)} rows: expected "
      "classes, at most half as many as rows; are these ids or a quantity?"
    )


def _of_classes(
  name: str, values: np.ndarray, classes: list[str], notes: tuple[str, ...]
) -> Labels:
  """Labels that are names, or numbers, of classes given."""
  if len({*classes}) != len(classes) or len(classes) < 2:
    raise ValueError(
      f"classes holds {len(classes)} names of which {len({*classes})} differ, expected "
      "at least 2, all different"
    )
  number = {label: c for c, label in enumerate(classes)}
  if values.dtype.kind == "U":
    unknown = sorted({*values.tolist()} - number.keys())
    if unknown:
      raise ValueError(f"{name} holds {unknown[0]!r}, which is none of classes")
    y = np.array([number[text] for text in values.tolist()], np.int32)
  else:
    _validate.labels(name, values, len(classes))
    y = values.astype(np.int32)
  return Labels(y, len(classes), tuple(classes), notes)
