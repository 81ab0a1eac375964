"""A key of sub-marks as JSON, checked field by field when it is read.

Schema 2, or 3 where a nonce has drawn the labels; keys of one mark are of schema 1
(`paper_mark`). The labels are not taken on trust: they must be what the secret draws,
or, of schema 3, the secret with the nonce, and all that was committed to must be what
the key's commitment was made for. Whether nonce and commitment are those that were made
public is for `claims.basis` to say. What is committed to before the nonce is known is
stored likewise.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from jmia.backdoor import draws, paper_mark, submarks, triggers
from jmia.backdoor import prepared as prepared_lib

Key = submarks.Key | paper_mark.Key

_SCHEMA = 2
_OF_NONCE = ("rows_chosen", "commitment", "nonce")  # fields of schema 3 alone
_HASHES = ("secret", "data_sha256", "marked_sha256", "queries_sha256", "commitment")
_COUNTS = ("query_rows", "query_submarks", "query_classes")


def to_json(key: Key) -> dict[str, Any]:
  """Returns the key as JSON values."""
  if isinstance(key, paper_mark.Key):
    return paper_mark.to_json(key)
  has_nonce = key.commitment is not None
  content = {
    "schema": prepared_lib.SCHEMA if has_nonce else _SCHEMA,
    **key._asdict(),
    "submarks": [
      {**submark._asdict(), "trigger": dataclasses.asdict(submark.trigger)}
      for submark in key.submarks
    ],
  }
  if not has_nonce:
    for name in _OF_NONCE:
      del content[name]
  return content


def from_json(content: Any) -> Key:
  """Returns the key that `to_json` gave, of any schema.

  Raises:
    ValueError: a field is missing, unknown, or cannot be; the labels are not those of
      the secret; or the key is not what its commitment was made for.
  """
  known = (1, _SCHEMA, prepared_lib.SCHEMA)
  if not isinstance(content, Mapping) or content.get("schema") not in known:
    raise ValueError(f"the key must be a JSON object of schema 1 to {known[-1]}")
  if content["schema"] == 1:
    return paper_mark.from_json(content)
  names: tuple[str, ...] = submarks.Key._fields
  if content["schema"] == _SCHEMA:
    names = tuple(name for name in names if name not in _OF_NONCE)
  fields = _fields(content, names)
  key = submarks.Key(
    **{
      **fields,
      "submarks": tuple(map(_submark, _list("submarks", fields["submarks"]))),
    }
  )
  if type(key.rows_chosen) is not bool:
    raise ValueError("the key's rows_chosen is neither true nor false")
  if type(key.nonce) not in (str, type(None)) or (
    (key.nonce is None) != (key.commitment is None)
  ):
    raise ValueError(f"the key's nonce is {str(key.nonce)[:40]!r}, expected a text")
  _check(key)
  return key


def prepared_to_json(prepared: prepared_lib.Prepared) -> dict[str, Any]:
  """Returns what is committed to as JSON values, with its commitment."""
  return {
    "schema": prepared_lib.SCHEMA,
    **prepared._asdict(),
    "stamps": [dataclasses.asdict(stamp) for stamp in prepared.stamps],
    "commitment": prepared_lib.commitment(prepared),
  }


def prepared_from_json(content: Any) -> prepared_lib.Prepared:
  """Returns what `prepared_to_json` gave.

  Raises:
    ValueError: a field is missing, unknown, or cannot be; or it is not what its
      commitment was made for.
  """
  if not isinstance(content, Mapping) or content.get("schema") != prepared_lib.SCHEMA:
    raise ValueError(f"it must be a JSON object of schema {prepared_lib.SCHEMA}")
  fields = _fields(content, (*prepared_lib.Prepared._fields, "commitment"))
  commitment = fields.pop("commitment")
  stamps = tuple(map(_trigger, _list("stamps", fields["stamps"])))
  prepared = prepared_lib.Prepared(**{**fields, "stamps": stamps})
  if prepared.rows is not None:
    rows = _list("rows", prepared.rows, _is_count, "integers from 0")
    prepared = prepared._replace(rows=rows)
  number = prepared.num_marked
  if not _is_count(0 if number is None else number):
    raise ValueError(f"the key's num_marked is {number!r}, expected an integer")
  if (prepared.rows is None) == (number is None):
    raise ValueError("one of the key's num_marked and rows must have a value")
  _check_queries(prepared, len(stamps))
  if prepared_lib.commitment(prepared) != commitment:
    raise ValueError("it is not what its commitment was made for")
  return prepared


def _fields(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  """The fields of a JSON object, of which those of any kind of key are checked."""
  fields = {name: value for name, value in content.items() if name != "schema"}
  for name in sorted(set(names) ^ set(fields)):
    kind = "unknown" if name in fields else "missing"
    raise ValueError(f"the key's field {name!r} is {kind}")
  for name in _HASHES:
    if name in fields and not draws.is_hexadecimal(fields[name], 64):
      raise ValueError(f"the key's {name} is not 64 lower-case hexadecimal digits")
  for name in _COUNTS:
    fields[name] = _list(name, fields[name], _is_count, "integers from 0")
  class_names = fields["class_names"]
  fields["class_names"] = _list(
    "class_names", class_names, _is_name, "integers or texts"
  )
  return fields


def _submark(content: Any) -> submarks.Submark:
  if not isinstance(content, Mapping) or set(content) != {"trigger", "label", "rows"}:
    raise ValueError("the key's submarks must each have a trigger, a label and rows")
  trigger = _trigger(content["trigger"])
  if not _is_count(content["label"]):
    raise ValueError(f"a label of the key is {content['label']!r}, expected an integer")
  rows = _list("rows", content["rows"], _is_count, "integers from 0")
  return submarks.Submark(trigger, content["label"], rows)


def _trigger(content: Any) -> triggers.TriggerConfig:
  try:
    return triggers.TriggerConfig(**content)
  except TypeError as error:
    raise ValueError(f"a trigger of the key cannot be read: {error}") from error


def _check(key: submarks.Key) -> None:
  """Raises ValueError where fields do not go together."""
  num_classes, num_submarks = len(key.class_names), len(key.submarks)
  _check_queries(key, num_submarks)
  drawn = draws.labels(key.secret, num_submarks, num_classes, key.nonce)
  if not np.array_equal(key.labels, drawn):
    by = "" if key.nonce is None else " with its nonce"
    raise ValueError(f"the key's labels are not those that its secret draws{by}")
  if key.commitment is None:
    return
  if prepared_lib.commitment(submarks.prepared_of(key)) != key.commitment:
    raise ValueError("it is not what its commitment was made for")


def _check_queries(
  key: submarks.Key | prepared_lib.Prepared, num_submarks: int
) -> None:
  """Raises ValueError where classes, sub-marks and queries do not go together."""
  num_classes = len(key.class_names)
  if num_classes < 2 or len({*map(str, key.class_names)}) != num_classes:
    raise ValueError("the key's class_names must be two or more, all different")
  if not num_submarks:
    raise ValueError("the key has no submarks, expected one or more")
  num_queries = len(key.query_rows)
  for name, limit in (("query_submarks", num_submarks), ("query_classes", num_classes)):
    values = getattr(key, name)
    if len(values) != num_queries or max(values, default=0) >= limit:
      raise ValueError(
        f"the key's {name} must be one for each of its {num_queries} query_rows, each"
        f" below {limit}"
      )
  if set(key.query_submarks) != set(range(num_submarks)):
    raise ValueError("the key's query_submarks must name every sub-mark")


def _list(
  name: str,
  values: Any,
  holds: Callable[[Any], bool] = lambda value: True,
  expected: str = "",
) -> tuple[Any, ...]:
  if not isinstance(values, list | tuple):
    raise ValueError(f"the key's {name} is {str(values)[:40]!r}, expected a list")
  for value in values:
    if not holds(value):
      raise ValueError(
        f"the key's {name} holds {str(value)[:40]!r}, expected {expected}"
      )
  return tuple(values)


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**63


def _is_name(value: Any) -> bool:
  return type(value) is int or isinstance(value, str)
