"""A key of sub-marks as JSON, checked field by field when it is read.

Schema 2; keys of one mark are of schema 1 (`paper_mark`). The labels are not taken on
trust: they must be what the secret draws.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from jmia.backdoor import draws, paper_mark, submarks, triggers

Key = submarks.Key | paper_mark.Key

_SCHEMA = 2


def to_json(key: Key) -> dict[str, Any]:
  """Returns the key as JSON values."""
  if isinstance(key, paper_mark.Key):
    return paper_mark.to_json(key)
  return {
    "schema": _SCHEMA,
    **key._asdict(),
    "submarks": [
      {**submark._asdict(), "trigger": dataclasses.asdict(submark.trigger)}
      for submark in key.submarks
    ],
  }


def from_json(content: Any) -> Key:
  """Returns the key that `to_json` gave, of either schema.

  Raises:
    ValueError: a field is missing, unknown, or cannot be; or the labels are not those
      of the secret.
  """
  if not isinstance(content, Mapping) or content.get("schema") not in (1, _SCHEMA):
    raise ValueError(f"the key must be a JSON object of schema 1 or {_SCHEMA}")
  if content["schema"] == 1:
    return paper_mark.from_json(content)
  fields = {name: value for name, value in content.items() if name != "schema"}
  for name in sorted(set(submarks.Key._fields) ^ set(fields)):
    kind = "unknown" if name in fields else "missing"
    raise ValueError(f"the key's field {name!r} is {kind}")
  for name in ("secret", "data_sha256", "marked_sha256", "queries_sha256"):
    if not draws.is_hexadecimal(fields[name], 64):
      raise ValueError(f"the key's {name} is not 64 lower-case hexadecimal digits")
  names = _list("class_names", fields["class_names"], _is_name, "integers or texts")
  key = submarks.Key(
    **{
      **fields,
      "class_names": names,
      "submarks": tuple(map(_submark, _list("submarks", fields["submarks"]))),
      **{
        name: _list(name, fields[name], _is_count, "integers from 0")
        for name in ("query_rows", "query_submarks", "query_classes")
      },
    }
  )
  _check(key)
  return key


def _submark(content: Any) -> submarks.Submark:
  if not isinstance(content, Mapping) or set(content) != {"trigger", "label", "rows"}:
    raise ValueError("the key's submarks must each have a trigger, a label and rows")
  try:
    trigger = triggers.TriggerConfig(**content["trigger"])
  except TypeError as error:
    raise ValueError(f"a trigger of the key cannot be read: {error}") from error
  if not _is_count(content["label"]):
    raise ValueError(f"a label of the key is {content['label']!r}, expected an integer")
  rows = _list("rows", content["rows"], _is_count, "integers from 0")
  return submarks.Submark(trigger, content["label"], rows)


def _check(key: submarks.Key) -> None:
  """Raises ValueError where fields do not go together."""
  num_classes, num_submarks = len(key.class_names), len(key.submarks)
  if num_classes < 2 or len({*map(str, key.class_names)}) != num_classes:
    raise ValueError("the key's class_names must be two or more, all different")
  if not num_submarks:
    raise ValueError("the key has no submarks, expected one or more")
  if not np.array_equal(
    key.labels, draws.labels(key.secret, num_submarks, num_classes)
  ):
    raise ValueError("the key's labels are not those that its secret draws")
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
