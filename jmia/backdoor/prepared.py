"""What an owner of data commits to before a nonce draws the labels of his sub-marks.

Under the null a suspect's answers depend on the queries, and the p-value on them, the
classes and the labels (`randomization`). The commitment binds the queries and all else,
and the nonce, which nobody could foresee, draws the labels, uniformly whatever was
committed to. So the test holds its level however many secrets, rows, triggers and
queries were tried before, on whatever models. What remains assumed is that the
commitment was public before the nonce was, and that it was the only one.

Which rows bear the marks is no part of the test. Their number, or the owner's choice,
is bound; a row goes to a sub-mark of another label than its class, so after the nonce.
"""

import dataclasses
from typing import NamedTuple

from jmia import commitments
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import triggers

SCHEMA = 3  # of what a commitment binds, and of keys with a nonce


class Prepared(NamedTuple):
  """What is committed to before the nonce is known; secret.

  Attributes:
    secret: 64 hexadecimal digits.
    class_names: `K` integers or texts.
    stamps: `T` triggers.
    num_marked: rows to mark, drawn by the secret; None where they were chosen.
    rows: those that the owner chose; None where they are drawn.
    query_rows: `m` rows that are held back, in the order of the query set.
    query_submarks: the sub-mark that each bears.
    query_classes: the class of each before it is stamped.
    data_sha256: `fingerprints.fingerprint` of the data.
    queries_sha256: of the query set.
  """

  secret: str
  class_names: tuple[classes_lib.Name, ...]
  stamps: tuple[triggers.TriggerConfig, ...]
  num_marked: int | None
  rows: tuple[int, ...] | None
  query_rows: tuple[int, ...]
  query_submarks: tuple[int, ...]
  query_classes: tuple[int, ...]
  data_sha256: str
  queries_sha256: str


def commitment(prepared: Prepared) -> str:
  """Returns a SHA-256 to publish before the nonce is known; it tells nobody of what."""
  rows = prepared.rows
  bound = {
    "schema": SCHEMA,
    **prepared._asdict(),
    "rows": None if rows is None else sorted(rows),
    "stamps": [dataclasses.asdict(stamp) for stamp in prepared.stamps],
  }
  return commitments.commitment(bound)
