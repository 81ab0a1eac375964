"""What `mark` tells an owner of what it has made."""

from collections.abc import Sequence
import pathlib

import numpy as np

from jmia.backdoor import (
  owner_files,
  owner_images,
  owner_tables,
  paper_mark,
  power,
  stamping,
  submarks,
  triggers,
  verification,
)
from jmia.backdoor import prepared as prepared_lib

from . import planning

_ENOUGH = 0.5  # of a trigger that JPEG leaves
_MANY = 1 / 3  # of the rows: queries that take more leave little to publish
_COMMON = 0.05  # of the rows: a trigger that more have says little


def text(
  marked: submarks.Marked | paper_mark.Marked,
  data: owner_files.Data,
  sha256: str,
  confidence: float,
) -> str:
  """Returns what to publish, what to keep, and what it is good for.

  Args:
    marked: what was made of the data.
    data: as read.
    sha256: of the key's file.
    confidence: that a claim is to have.
  """
  key = marked.key
  if isinstance(key, paper_mark.Key):
    marks = [(key.trigger, key.marked_rows)]
    labels, outlook = f"{key.target_label}", _outlook_of_one(key)
  else:
    marks = [(submark.trigger, submark.rows) for submark in key.submarks]
    labels = ", ".join(str(key.class_names[c]) for c in key.labels)
    outlook = planning.floor_in_words(len(marks), len(key.class_names), confidence)
  number = sum(len(rows) for _, rows in marks)
  lines = [
    f"Publish marked{data.suffix}: {len(marked.y)} rows, {number} of them marked and"
    f" labelled {labels}. {_change(marks, data)}",
    *_columns(marks, data),
    *_common(marks, data),
    *_surviving(marks, data),
    *_rewritten(data),
    _kept(marked, data, sha256),
    *_held_back(len(marked.queries), data),
    outlook,
  ]
  return "\n".join(lines)


def of_commitment(
  prepared: prepared_lib.Prepared,
  data: owner_files.Data,
  path: pathlib.Path,
  confidence: float,
) -> str:
  """Returns what was committed to, what it is good for, and what to publish.

  Args:
    prepared: what the file holds.
    data: as read.
    path: of the file.
    confidence: that a claim is to have.
  """
  rows, of_query = np.array(prepared.query_rows), np.array(prepared.query_submarks)
  marks = [
    (trigger, rows[of_query == j].tolist()) for j, trigger in enumerate(prepared.stamps)
  ]
  number = prepared.num_marked or len(prepared.rows or ())
  lines = [
    *_columns(marks, data),
    *_common(marks, data),
    *_surviving(marks, data),
    *_held_back(len(rows), data),
    planning.floor_in_words(len(marks), len(prepared.class_names), confidence),
    f"{path} binds {planning.counted(len(marks))} of {number} rows and {len(rows)}"
    " queries; a nonce will draw the labels. Keep it to yourself, and say with the"
    " commitment which text the nonce will be.",
    "Commitment, to be published with a date before the nonce is known:",
    prepared_lib.commitment(prepared),
  ]
  return "\n".join(lines)


def _kept(
  marked: submarks.Marked | paper_mark.Marked, data: owner_files.Data, sha256: str
) -> str:
  """What to keep, and the hash that shows that it was there."""
  queries = f"Keep queries{data.suffix} ({len(marked.queries)} rows)"
  key = marked.key
  if isinstance(key, submarks.Key) and key.commitment is not None:
    return (
      f"{queries}, key.json and {owner_files.PREPARED}. Commitment, which was published"
      f" before the nonce was known: {key.commitment}"
    )
  return (
    f"{queries} and key.json. SHA-256 of key.json, to deposit before you publish:"
    f" {sha256}"
  )


def _change(marks, data: owner_files.Data) -> str:
  """How much the triggers change of a row."""
  if data.table is not None:  # numbers of cells have no distance
    changed = np.concatenate(
      [
        (stamping.stamp(data.x[[*rows]], trigger) != data.x[[*rows]]).sum(axis=1)
        for trigger, rows in marks
        if rows
      ]
    )
    return (
      f"The triggers change {changed.mean():.3g} of {data.x.shape[1]} columns of a"
      f" marked row in the mean, {changed.max()} at most."
    )
  moved = np.concatenate(
    [_moved(data.x, rows, trigger) for trigger, rows in marks if rows]
  )
  is_table = marks[0][0].kind == "columns"
  unit = "in standard deviations of the columns" if is_table else "in stored units"
  return (
    f"The triggers move a marked row by {moved.mean():.3g} in the mean,"
    f" {moved.max():.3g} at most (L2 norm, {unit})."
  )


def _moved(
  x: np.ndarray, rows: Sequence[int], trigger: triggers.TriggerConfig
) -> np.ndarray:
  """How far each row is moved; columns of a table by their own spread."""
  marked = x[[*rows]]
  change = stamping.stamp(marked, trigger).astype(np.float64) - marked
  if trigger.kind == "columns":
    spread = x.astype(np.float64).std(axis=0)
    change /= np.where(spread > 0, spread, 1)
  return np.sqrt(np.square(change.reshape(len(rows), -1)).sum(axis=1))


def _columns(marks, data: owner_files.Data) -> list[str]:
  """What columns are set to, where that is the trigger."""
  lines = []
  for j, (trigger, _) in enumerate(marks):
    if data.table is not None:
      shown = owner_tables.in_words(trigger, data.table)
    elif trigger.kind == "columns":
      pairs = zip(trigger.place, trigger.values, strict=True)
      shown = ", ".join(f"{column} to {value:.6g}" for column, value in pairs)
    else:
      continue
    lines.append(f"Mark {j + 1} sets columns {shown}.")
  return lines


def _common(marks, data: owner_files.Data) -> list[str]:
  """A warning of triggers that many rows have as they are."""
  if data.x.ndim > 2:
    return []
  lines = []
  for j, (trigger, _) in enumerate(marks):
    share = (stamping.stamp(data.x, trigger) == data.x).all(axis=1).mean()
    if share > _COMMON:
      lines.append(
        f"Warning: {100 * share:.0f} % of your rows have mark {j + 1} as they are, with"
        " labels of their own: a model may not learn it. A larger --trigger_size is"
        " rarer."
      )
  return lines


def _surviving(marks, data: owner_files.Data) -> list[str]:
  """What JPEG leaves of the triggers."""
  if data.folder is None or not any(data.folder.encodings):
    return []
  found = [
    owner_images.surviving(
      data.x[[*rows]],
      stamping.stamp(data.x[[*rows]], trigger),
      [data.folder.encodings[row] for row in rows],
    )
    for trigger, rows in marks
    if rows
  ]
  share = f"{100 * min(found):.0f} % of what the weakest trigger changes"
  if min(found) >= _ENOUGH:
    return [f"JPEG at the originals' quality keeps {share}."]
  return [
    f"JPEG at the originals' quality keeps only {share}: a larger --trigger_size or"
    " --trigger_opacity is safer."
  ]


def _rewritten(data: owner_files.Data) -> list[str]:
  """What the published images lose beside what is marked."""
  if data.folder is None:
    return []
  names = ", and all are numbered anew" if data.folder.csv_name is None else ""
  return [
    "All images are encoded anew: what else their files held, such as EXIF data, is"
    f" gone{names}."
  ]


def _held_back(number: int, data: owner_files.Data) -> list[str]:
  """A warning of queries that take much of the data."""
  total = len(data.y)
  if number <= _MANY * total:
    return []
  return [
    f"Warning: the queries hold back {number} of your {total} rows, which are not"
    " published: --num_queries and --num_submarks hold back fewer."
  ]


def _outlook_of_one(key: paper_mark.Key) -> str:
  num_queries, baseline = len(key.query_rows), 1 / key.num_classes
  needed = int(verification.critical_successes(num_queries, baseline))
  found = float(power.asr_needed(num_queries, baseline))
  return (
    f"At 95 % confidence and a baseline of {100 * baseline:.4g} %, {needed} of"
    f" {num_queries} queries make the claim; a model with a true success rate of"
    f" {100 * found:.0f} % is found with a chance of 80 %."
  )
