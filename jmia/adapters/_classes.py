"""Which column of the answers is which class of the dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jmia import types


def columns(classes: Sequence[Any], dataset: types.Dataset) -> np.ndarray:
  """Returns the dataset's number of each class that a model knows.

  Args:
    classes: `K` of them as the model calls them: by the names that they have in
      `dataset.class_names`, or by numbers from 0. Text is a name where it may be one.
    dataset: what is audited.

  Returns:
    `[K]` int, all different.

  Raises:
    ValueError: a class is none of the dataset's, or classes are numbers, of which
      names and numbers from 0 are both possible and differ.
  """
  called = [_text(one) for one in classes]
  numbers = [str(number) for number in range(dataset.num_classes)]
  names = list(dataset.class_names) or numbers
  possible = [known for known in (names, numbers) if {*called} <= {*known}]
  if not possible or len({*called}) < len(called):
    raise ValueError(
      f"the model's classes are {_shown(called)}, expected some of the dataset's, "
      f"{_shown(names)}"
    )
  is_text = all(isinstance(one, str | bytes) for one in classes)
  if len(possible) == 2 and names != numbers and not is_text:
    raise ValueError(
      f"the model's classes are {_shown(called)}: numbers from 0, or classes that the"
      f" dataset calls so, in the order {_shown(names)}? Fit it on their names as text"
    )
  return np.array([possible[0].index(one) for one in called])


def spread(answers: np.ndarray, at: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns probabilities `[B, C]` of `[B, K]`, 0 for classes the model never saw."""
  if answers.ndim != 2 or answers.shape[1] != len(at):
    raise ValueError(
      f"the model answers in shape {answers.shape}, expected [B, {len(at)}]"
    )
  found = np.zeros((len(answers), num_classes), answers.dtype)
  found[:, at] = answers
  return found


def _text(one: Any) -> str:
  """A class as `Dataset.class_names` calls it: 1.0 is 1."""
  if isinstance(one, bytes):
    return one.decode()
  is_whole = isinstance(one, float | np.floating) and float(one).is_integer()
  return str(int(one)) if is_whole else str(one)


def _shown(names: Sequence[str]) -> str:
  return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
