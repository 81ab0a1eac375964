"""Classes as an owner names them, integers or text, and their numbers 0 to K - 1."""

from collections.abc import Sequence
import re
from typing import NamedTuple

import numpy as np

Name = int | str
_MANY = 12  # names beyond which a message leaves some out
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")  # what an integer is written back as


class Classes(NamedTuple):
  """The classes of a task.

  Attributes:
    names: `K` different integers, or texts, in ascending order; class c is `names[c]`.
    notes: how the labels were read, where there is more than one way.
  """

  names: tuple[Name, ...]
  notes: tuple[str, ...] = ()


def of_labels(y: np.ndarray, num_classes: int | None = None) -> Classes:
  """Returns the classes of labels: those that occur, or as many as are said.

  Args:
    y: `[N]` integers, booleans (0 and 1) or text.
    num_classes: K, where the task has classes that do not occur. Labels are then taken
      for 0 to K - 1, or for 1 to K where K itself occurs. Default: those that occur.

  Raises:
    ValueError: the labels are of another type, there are fewer than two classes, or
      they do not fit `num_classes`; the message has both readings.
  """
  y = np.asarray(y)
  if y.ndim != 1 or y.dtype.kind not in "biuU":
    raise ValueError(
      f"y has shape {y.shape} and dtype {y.dtype}, expected integers or text [N]"
    )
  occurring = _plain(np.unique(y))
  found = len(occurring)
  if num_classes is None:
    if found < 2:
      raise ValueError(
        f"y holds {found} class, {listed(occurring)}, expected 2 or more"
      )
    return Classes(occurring, _gap(occurring))
  if num_classes < 2:
    raise ValueError(f"num_classes={num_classes} must be at least 2")
  if found == num_classes:
    return Classes(occurring)
  if found < num_classes and not isinstance(occurring[0], str):
    low, high = int(occurring[0]), int(occurring[-1])
    for first in (0, 1):
      if first <= low and high < first + num_classes:
        return Classes(tuple(range(first, first + num_classes)))
  raise ValueError(
    f"num_classes={num_classes} does not fit y, in which {found} classes occur:"
    f" {listed(occurring)}; expected {found} (they are all), or integers from 0 to"
    f" {num_classes - 1} or from 1 to {num_classes}"
  )


def numbers(y: np.ndarray, names: Sequence[Name]) -> np.ndarray:
  """Returns `[N]` int, the class of each label; -1 for what is no class.

  Args:
    y: `[N]` integers, booleans or text.
    names: `K`. Text is compared with what a name looks like, so "3" is 3.
  """
  number: dict[Name, int] = {name: c for c, name in enumerate(names)}
  by_text = {str(name): c for name, c in number.items()}
  distinct, inverse = np.unique(np.asarray(y), return_inverse=True)
  found = [
    by_text.get(label.strip(), -1) if isinstance(label, str) else number.get(label, -1)
    for label in _plain(distinct)
  ]
  return np.array(found, np.int64)[inverse.reshape(np.shape(y))]


def as_written(labels: Sequence[str]) -> np.ndarray:
  """Returns labels `[N]` of a file: integers if all are written as such, else text."""
  if all(map(_INTEGER.fullmatch, labels)):
    return np.array([int(label) for label in labels])
  return np.array(labels)


def listed(names: Sequence[Name]) -> str:
  """Returns names as a message shows them."""
  shown = ", ".join(repr(name) for name in names[:_MANY])
  return shown + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")


def _plain(values: np.ndarray) -> tuple[Name, ...]:
  """Python's own integers or text, as JSON has them."""
  if values.dtype.kind == "b":
    values = values.astype(np.int64)
  return tuple(values.tolist())


def _gap(names: tuple[Name, ...]) -> tuple[str, ...]:
  """What to say of integers with a gap."""
  if isinstance(names[0], str) or isinstance(names[-1], str):
    return ()
  low, high = names[0], names[-1]
  if high - low + 1 == len(names):
    return ()
  return (
    f"Labels have gaps: {len(names)} classes occur, {listed(names)}, and are taken for"
    f" all there are; if the task has {high + 1}, from 0 to {high}, say"
    f" --num_classes={high + 1}.",
  )
