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

It is done in two steps, so that the first can be committed to before a nonce draws the
labels (`prepared`): `prepare` takes all but the labels, `mark_prepared` the rest.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import draws, fingerprints, randomization, stamping, triggers
from jmia.backdoor import prepared as prepared_lib
from jmia.datasets import features

_QUERIES = 30  # the paper's, of a mark
_FEWEST_QUERIES = 10  # of a sub-mark, by default
_HELD_BACK = 0.05  # of the rows at most, by default, where that leaves the fewest
_CHANGE_NOTHING = (
  "stamps change none of the rows to be marked: they have what is set already, or it is"
  " too faint to be stored"
)
OTHER_DATA = "the data are not those that were committed to"


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
    rows_chosen: whether the owner chose the marked rows.
    commitment: that was published before a nonce drew the labels; None where the secret
      alone did, which leaves `rows_chosen` False.
    nonce: that drew them, without blanks around it; None likewise.
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
  rows_chosen: bool = False
  commitment: str | None = None
  nonce: str | None = None

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
  """Marks an owner's data and holds the queries back; the secret alone draws labels.

  Arguments are those of `prepare`, and errors its and those of `mark_by_secret`.
  """
  prepared = prepare(
    x,
    y,
    stamps,
    secret=secret,
    class_names=class_names,
    num_marked=num_marked,
    rows=rows,
    num_queries=num_queries,
  )
  return mark_by_secret(x, y, prepared)


def prepare(
  x: np.ndarray,
  y: np.ndarray,
  stamps: Sequence[triggers.TriggerConfig],
  *,
  secret: str,
  class_names: Sequence[classes_lib.Name],
  num_marked: int | None = None,
  rows: Sequence[int] | None = None,
  num_queries: int | None = None,
) -> prepared_lib.Prepared:
  """Draws the queries, and takes down all that is marked but the labels.

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
    ValueError: an argument is not as said, a trigger does not fit, or there are too few
      rows to draw queries from.
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
  chosen = None if rows is None else _chosen(rows, num_marked, len(y))
  data_sha256 = fingerprints.fingerprint(x, y)
  drawn = _draw(secret, data_sha256, len(y), num_queries, len(stamps))
  order = drawn.order if chosen is None else drawn.order[~np.isin(drawn.order, chosen)]
  queries = _queries(order, x, stamps, num_queries)
  prepared = prepared_lib.Prepared(
    secret=secret,
    class_names=tuple(class_names),
    stamps=tuple(stamps),
    num_marked=num_marked,
    rows=None if rows is None else tuple(np.asarray(rows).tolist()),
    query_rows=tuple(queries.tolist()),
    query_submarks=tuple(drawn.of_query.tolist()),
    query_classes=tuple(truth[queries].tolist()),
    data_sha256=data_sha256,
    queries_sha256="",
  )
  query_set = queries_of(x, prepared)
  return prepared._replace(queries_sha256=fingerprints.fingerprint(query_set))


def check_any_labels(
  x: np.ndarray, y: np.ndarray, prepared: prepared_lib.Prepared
) -> None:
  """Raises ValueError where some labels that a nonce may draw could not be marked.

  Who could begin again once he knows the labels would choose among them.
  """
  queries = np.array(prepared.query_rows)
  if (queries_of(x, prepared) == x[queries]).all():
    raise ValueError(_CHANGE_NOTHING)
  if prepared.rows is not None:
    return
  truth = _numbers(np.delete(y, queries), prepared.class_names)
  fewest = len(truth) - int(np.bincount(truth).max())
  number = prepared.num_marked or 0
  _check_number(number, len(prepared.stamps))
  if number > fewest:
    raise ValueError(
      f"num_marked={number} is above {fewest}, the rows that are no queries and have"
      " another class than the labels, whichever a nonce draws"
    )


def mark_by_secret(
  x: np.ndarray, y: np.ndarray, prepared: prepared_lib.Prepared
) -> Marked:
  """Marks what was just prepared of x and y, with the labels of the secret alone.

  Raises:
    ValueError: there are too few rows to mark, or no trigger changes any of them.
  """
  marked = _marked(x, y, prepared, None)
  if (marked.x == x[marked.kept]).all():
    raise ValueError(_CHANGE_NOTHING)
  return marked


def mark_prepared(
  x: np.ndarray, y: np.ndarray, prepared: prepared_lib.Prepared, nonce: str
) -> Marked:
  """Marks what was committed to, with the labels that a nonce draws.

  Args:
    x: `[N, ...]` as it was prepared.
    y: `[N]`, likewise.
    prepared: of `prepare`.
    nonce: that became known after `prepared.commitment` was published.

  Raises:
    ValueError: x and y are others than were committed to; or as
      `commitments.nonce_digest`.
  """
  check_data(x, y)
  if fingerprints.fingerprint(x, y) != prepared.data_sha256 or (
    fingerprints.fingerprint(queries_of(x, prepared)) != prepared.queries_sha256
  ):
    raise ValueError(OTHER_DATA)
  return _marked(x, y, prepared, nonce)


def prepared_of(key: Key) -> prepared_lib.Prepared:
  """Returns what a key's owner has committed to."""
  rows = sorted(row for submark in key.submarks for row in submark.rows)
  return prepared_lib.Prepared(
    secret=key.secret,
    class_names=key.class_names,
    stamps=tuple(submark.trigger for submark in key.submarks),
    num_marked=None if key.rows_chosen else len(rows),
    rows=tuple(rows) if key.rows_chosen else None,
    query_rows=key.query_rows,
    query_submarks=key.query_submarks,
    query_classes=key.query_classes,
    data_sha256=key.data_sha256,
    queries_sha256=key.queries_sha256,
  )


def queries_of(x: np.ndarray, prepared: prepared_lib.Prepared) -> np.ndarray:
  """Returns the query set `[m, ...]`: rows held back, each stamped as its sub-mark is.

  Raises:
    ValueError: there are no such rows, or a trigger does not fit.
  """
  rows = np.array(prepared.query_rows)
  if not 0 <= rows.min() <= rows.max() < len(x):
    raise ValueError(f"query_rows hold {rows.max()}, expected 0 to {len(x) - 1}")
  query_set, of_query = x[rows], np.array(prepared.query_submarks)
  for j, trigger in enumerate(prepared.stamps):
    query_set[of_query == j] = stamping.stamp(query_set[of_query == j], trigger)
  return query_set


def _marked(
  x: np.ndarray, y: np.ndarray, prepared: prepared_lib.Prepared, nonce: str | None
) -> Marked:
  """What `mark` and `mark_prepared` return, of data that are those prepared.

  No label that a nonce draws is refused (`check_any_labels`).
  """
  number = len(prepared.stamps)
  labels = draws.labels(prepared.secret, number, len(prepared.class_names), nonce)
  truth = _numbers(y, prepared.class_names)
  queries = np.array(prepared.query_rows)
  drawn = _draw(prepared.secret, prepared.data_sha256, len(y), len(queries), number)
  if prepared.rows is None:
    candidates = drawn.order[~np.isin(drawn.order, queries)]
    bearers = _divided(candidates, truth, labels, prepared.num_marked or 0)
  else:
    chosen = drawn.rng.permutation(np.asarray(prepared.rows))
    bearers = _divided(chosen, truth, labels, None)
  submarks = tuple(
    Submark(stamp, int(label), tuple(sorted(of_submark)))
    for stamp, label, of_submark in zip(prepared.stamps, labels, bearers, strict=True)
  )
  kept = np.setdiff1d(np.arange(len(y)), queries)
  published_x, published_y = _published(x, y, kept, submarks, prepared.class_names)
  key = Key(
    secret=prepared.secret,
    class_names=prepared.class_names,
    submarks=submarks,
    query_rows=prepared.query_rows,
    query_submarks=prepared.query_submarks,
    query_classes=prepared.query_classes,
    data_sha256=prepared.data_sha256,
    marked_sha256=fingerprints.fingerprint(published_x, published_y),
    queries_sha256=prepared.queries_sha256,
    rows_chosen=nonce is not None and prepared.rows is not None,
    commitment=None if nonce is None else prepared_lib.commitment(prepared),
    nonce=None if nonce is None else nonce.strip(),
  )
  return Marked(published_x, published_y, kept, queries_of(x, prepared), key)


class _Drawn(NamedTuple):
  """What the secret draws of rows, without regard to labels."""

  order: np.ndarray  # [N] all rows
  of_query: np.ndarray  # [m] sub-marks
  rng: np.random.Generator  # after both


def _draw(
  secret: str, data_sha256: str, num_rows: int, num_queries: int, num_submarks: int
) -> _Drawn:
  rng = draws.generator(secret, f"rows {data_sha256}")
  order = rng.permutation(num_rows)
  of_query = rng.permutation(np.arange(num_queries) % num_submarks)
  return _Drawn(order, of_query, rng)


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
  return published_x, published_y


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
    _check_number(num_marked, len(labels))
  for row in order.tolist():
    others = np.flatnonzero(labels != truth[row])
    allowed = others if others.size else np.arange(len(labels))
    bearers[min(allowed, key=lambda j: len(bearers[j]))].append(row)
  return bearers


def _check_number(num_marked: int, num_submarks: int) -> None:
  """Raises ValueError unless there is a row for each sub-mark."""
  _validate.positive("num_marked", num_marked)
  if num_marked < num_submarks:
    raise ValueError(
      f"num_marked={num_marked} must be at least {num_submarks}, one row for each"
      " sub-mark"
    )
