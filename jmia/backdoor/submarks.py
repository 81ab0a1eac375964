"""Marking with a secret: triggers and labels that nobody can foresee.

As `paper_mark`, but with T sub-marks instead of one mark: each has a trigger of its own
and a label that the secret draws (`draws`), and the marked rows are divided among them.
The test is `randomization`'s, which holds whatever the suspect model is.

**Queries** are drawn from the owner's rows of all classes, before and without regard to
the labels, and are held back from what is published; each bears one sub-mark. A row is
drawn only if no other row looks the same once stamped, since a copy would be published.

**Marked rows** are drawn from the others. Each goes to a sub-mark with another label
than its class; one for which there is none is passed over, or, where the owner chose
it, stamped and not relabelled.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import draws, fingerprints, randomization, stamping, triggers
from jmia.datasets import features

_QUERIES = 30  # the paper's, of a mark
_FEWEST_QUERIES = 10  # of a sub-mark, by default
_HELD_BACK = 0.05  # of the rows at most, by default, where that leaves the fewest


class Submark(NamedTuple):
  """One trigger and the label it stands for.

  Attributes:
    trigger: what is stamped.
    label: its class, from 0 to K - 1.
    rows: of the original data, that were stamped and relabelled.
  """

  trigger: triggers.TriggerConfig
  label: int
  rows: tuple[int, ...]


class Key(NamedTuple):
  """The owner's secret; rows are counted in the original data.

  Attributes:
    secret: 64 hexadecimal digits, which the labels are computed from.
    class_names: `K` integers or texts.
    submarks: `T`.
    query_rows: `m` rows that were held back, in the order of the query set.
    query_submarks: the sub-mark that each bears.
    query_classes: the class of each before it was stamped.
    data_sha256: `fingerprints.fingerprint` of the original x and y.
    marked_sha256: of the published x and y.
    queries_sha256: of the query set.
  """

  secret: str
  class_names: tuple[classes_lib.Name, ...]
  submarks: tuple[Submark, ...]
  query_rows: tuple[int, ...]
  query_submarks: tuple[int, ...]
  query_classes: tuple[int, ...]
  data_sha256: str
  marked_sha256: str
  queries_sha256: str

  @property
  def labels(self) -> np.ndarray:
    """`[T]` int, the sub-marks' labels."""
    return np.array([submark.label for submark in self.submarks])


Marked = stamping.Marked[Key]


def default_num_queries(num_submarks: int, num_rows: int | None = None) -> int:
  """Returns the paper's 30 for each sub-mark, or what a small data set can spare.

  That is a twentieth of the rows, but at least 10 for each sub-mark and 30 in all: by
  simulation the number of queries decides more than that of sub-marks.

  Args:
    num_submarks: T.
    num_rows: of the owner's data; None for as many as one likes.
  """
  if num_rows is None:
    return _QUERIES * num_submarks
  fewest = max(_QUERIES, _FEWEST_QUERIES * num_submarks)
  return max(fewest, min(_QUERIES * num_submarks, int(_HELD_BACK * num_rows)))


def mark(
  x: np.ndarray,
  y: np.ndarray,
  stamps: Sequence[triggers.TriggerConfig],
  *,
  secret: str,
  class_names: Sequence[classes_lib.Name],
  num_marked: int | None = None,
  rows: Sequence[int] | None = None,
  num_queries: int | None = None,
) -> Marked:
  """Marks an owner's data and holds the queries back.

  Args:
    x: `[N, ...]` booleans, integers or finite floats; images are `[N, H, W]` or NHWC.
    y: `[N]` labels, each one of the names.
    stamps: `T` triggers, all different, drawn without regard to the labels.
    secret: of `draws.new_secret`.
    class_names: `K`, of `classes.of_labels`.
    num_marked: rows to mark, drawn at random; or
    rows: the rows to mark.
    num_queries: rows to hold back, at least two for each sub-mark. Default:
      `default_num_queries`.

  Raises:
    ValueError: an argument is not as said, a trigger does not fit, none changes a row
      to be marked, or there are too few rows to draw from.
  """
  check_data(x, y)
  if not draws.is_secret(secret):
    raise ValueError(f"secret={secret!r} must be 64 hexadecimal digits")
  truth = _numbers(y, class_names)
  if not stamps or len({*stamps}) != len(stamps):
    raise ValueError(f"stamps={[*stamps]} must be different triggers, at least one")
  if num_queries is None:
    num_queries = default_num_queries(len(stamps), len(y))
  if num_queries < 2 * len(stamps):
    raise ValueError(
      f"num_queries={num_queries} must be at least {2 * len(stamps)}, two for each"
      " sub-mark"
    )
  labels = draws.labels(secret, len(stamps), len(class_names))
  data_sha256 = fingerprints.fingerprint(x, y)
  rng = draws.generator(secret, f"rows {data_sha256}")
  order = rng.permutation(len(y))
  if rows is not None:
    order = order[~np.isin(order, _chosen(rows, num_marked, len(y)))]
  queries = _queries(order, x, stamps, num_queries)
  of_query = rng.permutation(np.arange(num_queries) % len(stamps))
  if rows is None:
    candidates = order[~np.isin(order, queries)]
    bearers = _divided(candidates, truth, labels, num_marked or 0)
  else:
    bearers = _divided(rng.permutation(np.asarray(rows)), truth, labels, None)
  submarks = tuple(
    Submark(stamp, int(label), tuple(sorted(of_submark)))
    for stamp, label, of_submark in zip(stamps, labels, bearers, strict=True)
  )
  kept = np.setdiff1d(np.arange(len(y)), queries)
  published_x, published_y = _published(x, y, kept, submarks, class_names)
  query_set = _query_set(x[queries], of_query, stamps)
  key = Key(
    secret=secret,
    class_names=tuple(class_names),
    submarks=submarks,
    query_rows=tuple(queries.tolist()),
    query_submarks=tuple(of_query.tolist()),
    query_classes=tuple(truth[queries].tolist()),
    data_sha256=data_sha256,
    marked_sha256=fingerprints.fingerprint(published_x, published_y),
    queries_sha256=fingerprints.fingerprint(query_set),
  )
  return Marked(published_x, published_y, kept, query_set, key)


def check_data(x: np.ndarray, y: np.ndarray) -> None:
  """Raises ValueError unless x holds finite rows `[N, ...]` and y labels `[N]`.

  Images with their channels first too: a square would be stamped across channels.
  """
  stamping.check_rows(x)
  if features.are_channels_first(x.shape):
    raise ValueError(
      f"x of shape {x.shape} looks like images with their channels first (NCHW),"
      " expected NHWC: give x.transpose(0, 2, 3, 1), and publish what is marked"
      " .transpose(0, 3, 1, 2)"
    )
  _validate.shape("y", y, (len(x),))
  if y.dtype.kind not in "biuU":
    raise ValueError(f"y has dtype {y.dtype}, expected integer labels or text")


def tally(key: Key, answers: np.ndarray) -> randomization.Tally:
  """Counts a suspect's answers `[m]`: classes, or -1 for what is none of them."""
  return randomization.tally(
    answers,
    np.array(key.query_classes),
    np.array(key.query_submarks),
    len(key.submarks),
    len(key.class_names),
  )


def _published(
  x: np.ndarray,
  y: np.ndarray,
  kept: np.ndarray,
  submarks: Sequence[Submark],
  class_names: Sequence[classes_lib.Name],
) -> tuple[np.ndarray, np.ndarray]:
  """The rows that are not held back, those that bear a sub-mark stamped, and labels."""
  published_x, published_y = x[kept], y[kept]
  for stamp, label, rows in submarks:
    is_marked = np.isin(kept, rows)
    published_x[is_marked] = stamping.stamp(published_x[is_marked], stamp)
    published_y[is_marked] = class_names[label]
  if (published_x == x[kept]).all():
    raise ValueError(
      "stamps change none of the rows to be marked: they have what is set already, or"
      " it is too faint to be stored"
    )
  return published_x, published_y


def _query_set(
  x: np.ndarray, of_query: np.ndarray, stamps: Sequence[triggers.TriggerConfig]
) -> np.ndarray:
  """The rows held back, each stamped as its sub-mark is."""
  query_set = x.copy()
  for j, stamp in enumerate(stamps):
    query_set[of_query == j] = stamping.stamp(query_set[of_query == j], stamp)
  return query_set


def _numbers(y: np.ndarray, class_names: Sequence[classes_lib.Name]) -> np.ndarray:
  """Each row's class, if every label is one and every class can be written into y."""
  if len(class_names) < 2:
    raise ValueError(f"class_names={[*class_names]} must be at least 2")
  truth = classes_lib.numbers(y, class_names)
  if (truth < 0).any():
    raise ValueError(f"y holds {y[truth < 0][0]}, which is none of the class_names")
  stored = np.array(class_names).astype(y.dtype)
  if (classes_lib.numbers(stored, class_names) != np.arange(len(class_names))).any():
    raise ValueError(f"class_names do not fit y's dtype {y.dtype}")
  return truth


def _chosen(rows: Sequence[int], num_marked: int | None, num_rows: int) -> np.ndarray:
  """The owner's choice, checked."""
  if num_marked is not None:
    raise ValueError(f"num_marked={num_marked} was given along with rows")
  chosen = np.unique(np.asarray(rows))
  if not chosen.size or len(chosen) != len(rows):
    raise ValueError(f"rows={list(rows)} must be distinct rows, at least one")
  if not 0 <= chosen[0] <= chosen[-1] < num_rows:
    raise ValueError(
      f"rows holds {chosen[0]} to {chosen[-1]}, expected 0 to {num_rows - 1}"
    )
  return chosen


def _queries(
  order: np.ndarray,
  x: np.ndarray,
  stamps: Sequence[triggers.TriggerConfig],
  num_queries: int,
) -> np.ndarray:
  """The first of `order` that no other row looks like under any of the triggers."""
  is_alone = np.ones(len(x), bool)
  for stamp in stamps:
    contents = stamping.stamped_contents(x, stamp)
    count = collections.Counter(contents)
    is_alone &= np.array([count[content] == 1 for content in contents])
  eligible = order[is_alone[order]]
  if len(eligible) < num_queries:
    raise ValueError(
      f"num_queries={num_queries} is above the {len(eligible)} rows that are neither"
      " chosen to be marked nor like another row in all that a trigger leaves as it is"
      " (that other row would be published): fewer queries or sub-marks, or smaller"
      " triggers, may do"
    )
  return eligible[:num_queries]


def _divided(
  order: np.ndarray, truth: np.ndarray, labels: np.ndarray, num_marked: int | None
) -> list[list[int]]:
  """Rows for each sub-mark: the first `num_marked` of an order, or all of it."""
  bearers: list[list[int]] = [[] for _ in labels]
  if num_marked is not None:
    order = order[[(labels != truth[row]).any() for row in order]]
    _validate.positive("num_marked", num_marked)
    if num_marked > len(order):
      raise ValueError(
        f"num_marked={num_marked} is above the owner's {len(order)} rows that are not"
        " queries and have another class than a sub-mark"
      )
    order = order[:num_marked]
  if num_marked is not None and num_marked < len(labels):
    raise ValueError(
      f"num_marked={num_marked} must be at least {len(labels)}, one row for each"
      " sub-mark"
    )
  for row in order.tolist():
    others = np.flatnonzero(labels != truth[row])
    allowed = others if others.size else np.arange(len(labels))
    bearers[min(allowed, key=lambda j: len(bearers[j]))].append(row)
  return bearers
