"""An owner's two steps in Python: mark arrays, and later judge a model's answers.

marked = jmia.mark(x, y, num_marked=20)
...  # publish marked.x, marked.y; keep marked.queries and marked.key
verdict = jmia.verify(marked.key, model.predict(marked.queries))

`owner_files.write` stores all of it as `jmia mark` does. What the verdict rests on is
said in `claims` and `randomization`; among it that the secret was not chosen among many
that were tried. Who wants to show that too commits first (`prepared`):

committed = jmia.commit(x, y, num_marked=20)
...  # publish committed.commitment; wait for a text that nobody could foresee
marked = jmia.mark(x, y, prepared=committed.prepared, nonce=nonce)
...
verdict = jmia.verify(
  marked.key, answers, nonce=nonce, commitment=committed.commitment
)
"""

from collections.abc import Callable, Sequence
import dataclasses
import numbers
from typing import Any, NamedTuple
import warnings

import numpy as np

from jmia.backdoor import answers as answers_lib
from jmia.backdoor import claims, draws, randomization, submarks, triggers
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import prepared as prepared_lib
from jmia.datasets import columns, labels


class Committed(NamedTuple):
  """What an owner commits to.

  Attributes:
    prepared: to keep, for `mark`; secret.
    commitment: to publish, with a date, before the nonce is known.
  """

  prepared: prepared_lib.Prepared
  commitment: str


def commit(
  x: Any,
  y: Any,
  *,
  say: Callable[[str], object] = warnings.warn,
  **options: Any,
) -> Committed:
  """Draws all that is marked but the labels: what to commit to before a nonce is known.

  Args:
    x: `[N, ...]`, as of `mark`.
    y: `[N]`, as of `mark`.
    say: as of `mark`.
    **options: all others of `mark` but `prepared` and `nonce`.

  Raises:
    ValueError: as `mark`; or so many rows are to be marked that some labels would leave
      too few.
  """
  x, y, prepared = _prepared(x, y, say=say, **options)
  submarks.check_any_labels(x, y, prepared)
  return Committed(prepared, prepared_lib.commitment(prepared))


def mark(
  x: Any,
  y: Any,
  *,
  prepared: prepared_lib.Prepared | None = None,
  nonce: str | None = None,
  num_marked: int | None = None,
  rows: Sequence[int] | None = None,
  trigger: triggers.TriggerConfig | None = None,
  num_columns: int | None = None,
  num_submarks: int | None = None,
  num_queries: int | None = None,
  num_classes: int | None = None,
  secret: str | None = None,
  confidence: float | None = None,
  say: Callable[[str], object] = warnings.warn,
) -> submarks.Marked:
  """Marks an owner's data with a few sub-marks, whose labels a secret draws.

  Args:
    x: `[N, ...]` booleans, integers or finite floats; images are `[N, H, W]` or NHWC.
    y: `[N]` labels, in any form that `datasets.labels` says; they are marked, and
      published, as integers or text.
    prepared: of `commit`, with the same x and y; and
    nonce: a text of 16 characters or more that became known after the commitment was
      published, and that nobody could foresee or choose. It draws the labels with the
      secret. Without both the secret does, and a verdict holds only if that was not
      chosen among several. With them, what follows is said already.
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
    confidence: of the verdict that is planned for. Default: 95 %.
    say: told how the labels were read, and what they leave open, such as gaps.

  Returns:
    What to publish, and what to keep.

  Raises:
    TypeError: `prepared` is none, but what `commit` returned or the like.
    ValueError: as `submarks.mark` and `classes.of_labels`; neither or both of
      `num_marked` and `rows` are given; `num_columns` is given with images or a
      trigger; the trigger is of columns, which are drawn with their values; one of
      `prepared` and `nonce` is lacking, what `prepared` says is given too, or as
      `submarks.mark_prepared`.
  """
  options: dict[str, Any] = {
    "num_marked": num_marked,
    "rows": rows,
    "trigger": trigger,
    "num_columns": num_columns,
    "num_submarks": num_submarks,
    "num_queries": num_queries,
    "num_classes": num_classes,
    "secret": secret,
    "confidence": confidence,
  }
  if (prepared is None) != (nonce is None):
    raise ValueError("prepared and nonce need each other")
  if prepared is None or nonce is None:
    x, y, made = _prepared(x, y, say=say, **options)
    return submarks.mark_by_secret(x, y, made)
  if not isinstance(prepared, prepared_lib.Prepared):
    raise TypeError(
      f"prepared is of type {type(prepared).__name__}, expected committed.prepared"
    )
  given = [name for name, value in options.items() if value is not None]
  if given:
    raise ValueError(f"{', '.join(given)} is not read with prepared, which says it")
  x, y, _, _ = _arrays(x, y)
  return submarks.mark_prepared(x, y, prepared, nonce)


def _prepared(
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
  confidence: float | None = None,
  say: Callable[[str], object],
) -> tuple[np.ndarray, np.ndarray, prepared_lib.Prepared]:
  """The data as arrays, and all of the marks but their labels; arguments of `mark`."""
  if (num_marked is None) == (rows is None):
    raise ValueError("one of num_marked and rows must have a value")
  x, y, width, notes = _arrays(x, y)
  _check_trigger(x, trigger, num_columns)
  classes = classes_lib.of_labels(y, width if num_classes is None else num_classes)
  for note in (*notes, *classes.notes):
    say(note)
  if num_submarks is None:
    most = len(rows) if num_marked is None and rows is not None else num_marked
    num_submarks = randomization.default_num_submarks(
      len(classes.names), most or 0, 0.95 if confidence is None else confidence
    )
  secret = draws.new_secret() if secret is None else secret
  rng = draws.generator(secret, "triggers")
  if trigger is None and x.ndim > 2:
    trigger = dataclasses.replace(triggers.PAPER["patch"], value=float(x.max()))
  if trigger is None:
    stamps = draws.column_triggers(x, num_submarks, num_columns, rng)
  else:
    stamps = draws.placed_triggers(trigger, x, num_submarks, rng)
  prepared = submarks.prepare(
    x,
    y,
    stamps,
    secret=secret,
    class_names=classes.names,
    num_marked=num_marked,
    rows=rows,
    num_queries=num_queries,
  )
  return x, y, prepared


def _arrays(
  x: Any, y: Any
) -> tuple[np.ndarray, np.ndarray, int | None, tuple[str, ...]]:
  """Rows as an array, and as `_labels`."""
  columns.is_table(x)  # refuses what has no rows yet
  columns.check_order("x", x, "y", y)
  x, (y, width, notes) = np.asarray(x), _labels(y)  # lists and tensors too
  submarks.check_data(x, y)
  return x, y, width, notes


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
  nonce: str | None = None,
  commitment: str | None = None,
  confidence: float = 0.95,
) -> claims.Verdict:
  """Judges whether a model was trained on the marked data.

  Args:
    key: of `mark`, fixed before the model was.
    answers: the model's, to the queries in their order: `[m]` labels, numbers or names,
      or `[m, K]` probabilities or logits; of a frame, titles say which column is which.
    nonce: that drew the key's labels, if one did.
    commitment: that was published before the nonce was known. None: not compared.
    confidence: in [0.5, 1).

  Returns:
    The verdict; `claims.sentence` has it in words, and `claims.assumption` of its
    `basis` what it assumes.

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
  return claims.judge(
    key, found, nonce=nonce, commitment=commitment, confidence=confidence
  )
