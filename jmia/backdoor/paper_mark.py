"""One mark with a chosen label, as in the paper: mark data, and judge a suspect later.

**Queries.** They are drawn from the owner's own rows at random, together with the rows
to mark, and held back from what is published. So no suspect can have trained on one,
and to a model that never saw the marks they are a random sample of the owner's
distribution, which is what the test asks for (`verification`). A row is drawn only if
it is not of the target class and if no other row, once stamped, looks the same: a copy
of it would be published.

**The key** is written before anything is published and holds what the claim rests on.
An owner who deposits a hash of it with a third party at that time can show later that
trigger, label and queries were not made up to suit the model. The draws are seeded with
a hash of the data too: whoever guesses the seed still needs the rows held back.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.backdoor import (
  answers,
  draws,
  fingerprints,
  marking,
  stamping,
  triggers,
  verification,
)

_SCHEMA = 1


class Key(NamedTuple):
  """The owner's secret; rows are counted in the original data.

  Attributes:
    trigger: what was stamped.
    target_label: what marked rows were relabelled as.
    num_classes: `K`.
    marked_rows: rows that were stamped and relabelled.
    query_rows: rows that were held back, in the order of the query set.
    seed: of the draws.
    data_sha256: `fingerprints.fingerprint` of the original x and y.
    marked_sha256: `fingerprints.fingerprint` of the published x and y.
    queries_sha256: `fingerprints.fingerprint` of the query set.
  """

  trigger: triggers.TriggerConfig
  target_label: int
  num_classes: int
  marked_rows: tuple[int, ...]
  query_rows: tuple[int, ...]
  seed: int
  data_sha256: str
  marked_sha256: str
  queries_sha256: str


Marked = stamping.Marked[Key]


class Verdict(NamedTuple):
  """What a suspect's answers say; see `sentence`.

  Attributes:
    num_queries: `m`.
    successes: queries answered with the target label.
    needed: successes from which on the claim is made.
    target_label: of the key.
    baseline: the rate that a model which never saw the marks is granted.
    confidence: 1 minus the chance of a false claim.
    asr_threshold_t: the ASR above which the paper's t-test makes the claim.
    result: ASR, p-values and decisions, each of shape `[]`.
  """

  num_queries: int
  successes: int
  needed: int
  target_label: int
  baseline: float
  confidence: float
  asr_threshold_t: float
  result: verification.Verification


def mark(
  x: np.ndarray,
  y: np.ndarray,
  trigger: triggers.TriggerConfig,
  *,
  target_label: int,
  num_classes: int,
  num_marked: int | None = None,
  rows: Sequence[int] | None = None,
  num_queries: int = 30,
  seed: int = 0,
) -> Marked:
  """Marks an owner's data and holds the queries back.

  Values outside the trigger are left as they are, bit by bit, so that nothing but the
  trigger and the label tells a marked row.

  Args:
    x: `[N, ...]` booleans, integers or finite floats; images are `[N, H, W]` or NHWC.
    y: `[N]` int labels below `num_classes`.
    trigger: what to stamp.
    target_label: what marked rows are relabelled as.
    num_classes: `K`, of the task that a suspect learns.
    num_marked: rows to mark, drawn at random; or
    rows: the rows to mark, none of them of the target class.
    num_queries: rows to hold back, at least 2, and enough for a claim at 95 %.
    seed: of the draws, which depend on the data as well.

  Raises:
    ValueError: an argument is not as said, the trigger does not fit or changes no row
      to be marked, or there are too few rows to draw from.
  """
  stamping.check_data(x, y)
  _validate.labels("y", y, num_classes)
  _check_label(target_label, num_classes)
  if target_label > np.iinfo(y.dtype).max:
    raise ValueError(f"target_label={target_label} does not fit y's dtype {y.dtype}")
  _check_queries(num_queries, num_classes)
  made = triggers.make(trigger, x.shape[1:])
  data_sha256 = fingerprints.fingerprint(x, y)
  order = _generator(seed, data_sha256).permutation(len(y))
  if rows is not None:
    if num_marked is not None:
      raise ValueError(f"num_marked={num_marked} was given along with rows")
    chosen = _chosen_rows(rows, y, target_label)
    order = order[~np.isin(order, chosen)]
  queries = _query_rows(order, x, y, trigger, target_label, num_queries)
  if rows is None:
    rest = order[~np.isin(order, queries)]
    chosen = np.sort(marking.choose_rows(rest, y, target_label, num_marked or 0))
  if not triggers.distance(stamping.stored(x[chosen]), made).any():
    raise ValueError(f"trigger={trigger} changes none of the rows to be marked")
  kept = np.setdiff1d(np.arange(len(y)), queries)
  is_marked = np.isin(kept, chosen)
  published_x, published_y = x[kept], y[kept]
  published_x[is_marked] = stamping.stamp(published_x[is_marked], trigger)
  published_y[is_marked] = target_label
  query_set = stamping.stamp(x[queries], trigger)
  key = Key(
    trigger=trigger,
    target_label=target_label,
    num_classes=num_classes,
    marked_rows=tuple(chosen.tolist()),
    query_rows=tuple(queries.tolist()),
    seed=seed,
    data_sha256=data_sha256,
    marked_sha256=fingerprints.fingerprint(published_x, published_y),
    queries_sha256=fingerprints.fingerprint(query_set),
  )
  return Marked(published_x, published_y, kept, query_set, key)


def judge(
  key: Key,
  predictions: np.ndarray | answers.Table,
  *,
  confidence: float = 0.95,
  baseline: float | None = None,
) -> Verdict:
  """Judges a suspect by its answers to the query set; the exact test decides.

  Args:
    key: the owner's.
    predictions: labels `[m]`, or logits or probabilities `[m, K]`, in the order of the
      query set; see `answers.classes`. A query counts as a success where the target
      label alone is the largest: a tie counts against the claim.
    confidence: tau, in [0.5, 1).
    baseline: beta, in (0, 1); by default 1 / K.

  Raises:
    ValueError: the predictions do not fit the key, or a number is out of range.
  """
  num_queries = len(key.query_rows)
  if not isinstance(predictions, answers.Table):
    predictions = answers.Table(np.asarray(predictions))
  found = answers.classes(predictions, range(key.num_classes), num_queries)
  successes = int((found == key.target_label).sum())
  baseline = 1 / key.num_classes if baseline is None else baseline
  threshold = verification.asr_threshold(num_queries, baseline, confidence)
  return Verdict(
    num_queries=num_queries,
    successes=successes,
    needed=int(verification.critical_successes(num_queries, baseline, confidence)),
    target_label=key.target_label,
    baseline=baseline,
    confidence=confidence,
    asr_threshold_t=threshold,
    result=verification.verify(successes, num_queries, baseline, confidence),
  )


def sentence(verdict: Verdict) -> str:
  """Returns the verdict in words."""
  level = f"{100 * verdict.confidence:.4g} %"
  baseline = f"a baseline of {100 * verdict.baseline:.4g} %"
  said = (
    f"{verdict.successes} of {verdict.num_queries} marked queries as class "
    f"{verdict.target_label}"
  )
  p_value = f"p = {verdict.result.p_value_exact:.2g} at {baseline}"
  if verdict.result.rejected:
    return (
      f"At {level} confidence the model was trained on the marked data: it classified "
      f"{said}, and {verdict.needed} are enough for the claim ({p_value})."
    )
  if verdict.needed > verdict.num_queries:
    return (
      f"No claim can be made at {level} confidence from {verdict.num_queries} queries "
      f"at {baseline}: even if all succeeded they would be "
      "too few."
    )
  return (
    f"No claim at {level} confidence: the model classified {said}, "
    f"and {verdict.needed} are needed ({p_value}). This does not show that it was not "
    "trained on the marked data."
  )


def assumption(key: Key, verdict: Verdict) -> str:
  """Returns what the verdict assumes, in words."""
  return (
    "This key is of one mark with a chosen label, and the verdict assumes that a model"
    f" which never saw the mark answers with class {key.target_label} at most"
    f" {100 * verdict.baseline:.4g} % of the queries. It cannot be told from the marks"
    " of another owner with the same label and a trigger like it (`mark` used to give"
    " everybody the same), nor does it hold for a model that favours the label."
  )


def document(verdict: Verdict) -> dict[str, Any]:
  """Returns the verdict as JSON values; an infinite t statistic is null."""
  result = verdict.result
  t_statistic = float(result.t_statistic)
  return {
    "schema": _SCHEMA,
    "claim": bool(result.rejected),
    "verdict": sentence(verdict),
    "confidence": verdict.confidence,
    "baseline": verdict.baseline,
    "target_label": verdict.target_label,
    "num_queries": verdict.num_queries,
    "successes": verdict.successes,
    "successes_needed": verdict.needed,
    "asr": float(result.asr),
    "p_value_exact": float(result.p_value_exact),
    "t_test": {
      "t_statistic": t_statistic if np.isfinite(t_statistic) else None,
      "p_value": float(result.p_value),
      "asr_threshold": verdict.asr_threshold_t,
      "claim": bool(result.rejected_t),
    },
  }


def to_json(key: Key) -> dict[str, Any]:
  """Returns the key as JSON values."""
  return {
    "schema": _SCHEMA,
    **key._asdict(),
    "trigger": dataclasses.asdict(key.trigger),
  }


def from_json(content: Mapping[str, Any]) -> Key:
  """Returns the key that `to_json` gave.

  Raises:
    ValueError: a field is missing, unknown, or cannot be.
  """
  if not isinstance(content, Mapping) or content.get("schema") != _SCHEMA:
    raise ValueError(f"the key must be a JSON object of schema {_SCHEMA}")
  fields = {name: value for name, value in content.items() if name != "schema"}
  for name in sorted(set(Key._fields) ^ set(fields)):
    kind = "unknown" if name in fields else "missing"
    raise ValueError(f"the key's field {name!r} is {kind}")
  try:
    trigger = triggers.TriggerConfig(**fields["trigger"])
    rows = {
      name: tuple(int(row) for row in fields[name])
      for name in ("marked_rows", "query_rows")
    }
  except TypeError as error:
    raise ValueError(f"the key's trigger or rows cannot be read: {error}") from error
  key = Key(**{**fields, **rows, "trigger": trigger})
  for name in ("target_label", "num_classes", "seed"):
    if type(fields[name]) is not int:
      raise ValueError(f"the key's {name} is {fields[name]!r}, expected an integer")
  for name in ("data_sha256", "marked_sha256", "queries_sha256"):
    if not draws.is_hexadecimal(fields[name], 64):
      raise ValueError(f"the key's {name} is not 64 lower-case hexadecimal digits")
  _check_label(key.target_label, key.num_classes)
  if len(key.query_rows) < 2:
    raise ValueError(
      f"the key has {len(key.query_rows)} query_rows, expected 2 or more"
    )
  return key


def _check_label(target_label: int, num_classes: int) -> None:
  if num_classes < 2 or not 0 <= target_label < num_classes:
    raise ValueError(
      f"target_label={target_label} must be one of num_classes={num_classes} classes, "
      "of which there are at least 2"
    )


def _check_queries(num_queries: int, num_classes: int) -> None:
  if num_queries < 2:
    raise ValueError(f"num_queries={num_queries} must be at least 2")
  needed = verification.critical_successes(num_queries, 1 / num_classes)
  if needed > num_queries:
    raise ValueError(
      f"num_queries={num_queries} are too few for any claim at 95 % confidence among "
      f"{num_classes} classes"
    )


def _chosen_rows(rows: Sequence[int], y: np.ndarray, target_label: int) -> np.ndarray:
  """The owner's choice, checked and sorted."""
  chosen = np.unique(np.asarray(rows))
  if not chosen.size or len(chosen) != len(rows):
    raise ValueError(f"rows={list(rows)} must be distinct rows, at least one")
  if not 0 <= chosen[0] <= chosen[-1] < len(y):
    raise ValueError(
      f"rows holds {chosen[0]} to {chosen[-1]}, expected 0 to {len(y) - 1}"
    )
  of_target = chosen[y[chosen] == target_label]
  if of_target.size:
    raise ValueError(
      f"rows holds {of_target[0]}, which is of the target class {target_label} already"
    )
  return chosen


def _query_rows(
  order: np.ndarray,
  x: np.ndarray,
  y: np.ndarray,
  trigger: triggers.TriggerConfig,
  target_label: int,
  num_queries: int,
) -> np.ndarray:
  """The first of `order` that may be queries."""
  contents = stamping.stamped_contents(x, trigger)
  count = collections.Counter(contents)
  is_alone = np.array([count[content] == 1 for content in contents])
  eligible = order[is_alone[order] & (y[order] != target_label)]
  if len(eligible) < num_queries:
    raise ValueError(
      f"num_queries={num_queries} is above the {len(eligible)} rows that are neither "
      f"marked nor of the target class {target_label} nor like another row in all that "
      "the trigger leaves as it is (that other row would be published)"
    )
  return eligible[:num_queries]


def _generator(seed: int, data_sha256: str) -> np.random.Generator:
  return np.random.default_rng([seed, int(data_sha256, 16)])
