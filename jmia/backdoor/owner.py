"""An owner's two steps in Python: mark arrays, and later judge a model's answers.

marked = jmia.mark(x, y, num_marked=20)
...  # publish marked.x, marked.y; keep marked.queries and marked.key
verdict = jmia.verify(marked.key, model.predict(marked.queries))

`owner_files.write` stores all of it as `jmia mark` does. What the verdict rests on is
said in `claims` and `randomization`.
"""

from collections.abc import Callable, Sequence
import dataclasses
import numbers
from typing import Any
import warnings

import numpy as np

from jmia.backdoor import answers as answers_lib
from jmia.backdoor import claims, draws, randomization, submarks, triggers
from jmia.backdoor import classes as classes_lib
from jmia.datasets import columns, labels


def mark(
  x: Any,
  y: Any,
  *,
  num_marked: int | None = None,
  rows: Sequence[int] | None = None,
  trigger: triggers.TriggerConfig | None = None,
  num_columns: int | None = None,
  num_submarks: int | None = None,
  num_queries: int | None = None,
  num_classes: int | None = None,
  secret: str | None = None,
  confidence: float = 0.95,
  say: Callable[[str], object] = warnings.warn,
) -> submarks.Marked:
  """Marks an owner's data with a few sub-marks, whose labels a secret draws.

  Args:
    x: `[N, ...]` booleans, integers or finite floats; images are `[N, H, W]` or NHWC.
    y: `[N]` labels, in any form that `datasets.labels` says; they are marked, and
      published, as integers or text.
    num_marked: rows to mark, drawn at random; or
    rows: the rows to mark.
    trigger: the kind, size, pattern, value and opacity of a square or a run; places are
      drawn. Default: of images the paper's square, 3 x 3 of the largest value at
      opacity 0.3; of vectors columns, each set to a value that it has.
    num_columns: of each trigger, where rows are vectors and no trigger is given.
      Default: of `draws.column_triggers`.
    num_submarks: triggers with a label each; no p-value is below 1 / classes ^ this.
      Default: `randomization.default_num_submarks`.
    num_queries: rows to hold back. Default: `submarks.default_num_queries`.
    num_classes: of the task that a suspect learns. Default: those that occur in `y`.
    secret: of `draws.new_secret`, the default: the operating system's entropy.
    confidence: of the verdict that is planned for.
    say: told how the labels were read, and what they leave open, such as gaps.

  Returns:
    What to publish, and what to keep.

  Raises:
    ValueError: as `submarks.mark` and `classes.of_labels`; neither or both of
      `num_marked` and `rows` are given; `num_columns` is given with images or a
      trigger; or the trigger is of columns, which are drawn with their values.
  """
  if (num_marked is None) == (rows is None):
    raise ValueError("one of num_marked and rows must have a value")
  columns.is_table(x)  # refuses what has no rows yet
  columns.check_order("x", x, "y", y)
  x, (y, width, notes) = np.asarray(x), _labels(y)  # lists and tensors too
  submarks.check_data(x, y)
  _check_trigger(x, trigger, num_columns)
  classes = classes_lib.of_labels(y, width if num_classes is None else num_classes)
  for note in (*notes, *classes.notes):
    say(note)
  if num_submarks is None:
    most = len(rows) if num_marked is None and rows is not None else num_marked
    num_submarks = randomization.default_num_submarks(
      len(classes.names), most or 0, confidence
    )
  secret = draws.new_secret() if secret is None else secret
  rng = draws.generator(secret, "triggers")
  if trigger is None and x.ndim > 2:
    trigger = dataclasses.replace(triggers.PAPER["patch"], value=float(x.max()))
  if trigger is None:
    stamps = draws.column_triggers(x, num_submarks, num_columns, rng)
  else:
    stamps = draws.placed_triggers(trigger, x, num_submarks, rng)
  return submarks.mark(
    x,
    y,
    stamps,
    secret=secret,
    class_names=classes.names,
    num_marked=num_marked,
    rows=rows,
    num_queries=num_queries,
  )


def _labels(y: Any) -> tuple[np.ndarray, int | None, tuple[str, ...]]:
  """Labels `[N]` as integers or text, columns of one-hot rows, and what was done."""
  array = _plain(columns.as_array(y))
  if array.ndim == 1 and array.dtype.kind in "biu":
    return array, None, ()
  width = array.shape[1] if array.ndim == 2 and array.shape[1] > 1 else None
  values, notes = labels.plain("y", array)
  return values, width, notes


def _plain(y: np.ndarray) -> np.ndarray:
  """Labels that a frame holds as objects, if all are text or all are integers."""
  if y.dtype != object:
    return y
  for kind in (str, numbers.Integral):
    if all(isinstance(label, kind) for label in y.ravel()):
      return np.array(y.tolist())
  return y


def _check_trigger(
  x: np.ndarray, trigger: triggers.TriggerConfig | None, num_columns: int | None
) -> None:
  """Raises ValueError for what `mark` would not read."""
  if trigger is not None and trigger.kind == "columns":
    raise ValueError(
      "trigger is of columns, which are drawn with their values: expected num_columns"
    )
  if num_columns is not None and (trigger is not None or x.ndim > 2):
    what = "images" if trigger is None else "a trigger of one's own, which has its size"
    raise ValueError(f"num_columns={num_columns} is not read with {what}")


def verify(
  key: submarks.Key,
  answers: Any,
  *,
  confidence: float = 0.95,
) -> claims.Verdict:
  """Judges whether a model was trained on the marked data.

  Args:
    key: of `mark`, fixed before the model was.
    answers: the model's, to the queries in their order: `[m]` labels, numbers or names,
      or `[m, K]` probabilities or logits; of a frame, titles say which column is which.
    confidence: in [0.5, 1).

  Returns:
    The verdict; `claims.sentence` has it in words.

  Raises:
    TypeError: the key is none, but a path or the like.
    ValueError: as `answers.classes` and `claims.judge`.
  """
  if not isinstance(key, submarks.Key):
    raise TypeError(
      f"key is of type {type(key).__name__}, expected marked.key, or"
      " owner_files.read_key(PATH) of a file"
    )
  table = answers_lib.of_array(answers)
  table = table._replace(cells=_plain(table.cells))
  found = answers_lib.classes(table, key.class_names, len(key.query_rows))
  return claims.judge(key, found, confidence=confidence)
