"""Reconstruction: the missing bits of a record, by asking which completion was encoded.

Song and Shokri, section 3.1: who knows a member's record but for a few attributes
decodes every completion, and takes the one most likely a member.
"""

from collections.abc import Callable
import math

import numpy as np


def candidates(record: np.ndarray, missing: np.ndarray) -> np.ndarray:
  """Returns every completion of a record of bits.

  Args:
    record: `[q]` of 0 and 1.
    missing: `[b]` distinct positions that are not known, at most 16.

  Returns:
    `[2^b, q]` of the record's dtype; row c has the bits of c at `missing`, the lowest
    first.

  Raises:
    ValueError: if the record is no row of bits, or `missing` is empty, too long,
      repeats a position or leaves the record.
  """
  if record.ndim != 1 or not np.isin(record, (0, 1)).all():
    raise ValueError(f"record has shape {record.shape}, expected [q] of 0 and 1")
  missing = np.asarray(missing)
  if not 1 <= len(missing) <= 16 or len(np.unique(missing)) != len(missing):
    raise ValueError(f"missing={missing} must be 1 to 16 distinct positions")
  if missing.min() < 0 or missing.max() >= len(record):
    raise ValueError(f"missing={missing} must be positions below {len(record)}")
  completed = np.tile(record, (2 ** len(missing), 1))
  numbers = np.arange(len(completed))[:, None]
  completed[:, missing] = numbers >> np.arange(len(missing)) & 1
  return completed


def rank_of_truth(
  score: Callable[[np.ndarray], np.ndarray], record: np.ndarray, missing: np.ndarray
) -> int:
  """Returns how many completions score at least the true one, itself not counted.

  0 means that the attacker's first guess is right. Ties count against the attacker.

  Args:
    score: `[n, q]` rows -> `[n]` scores, higher = member.
    record: `[q]` the true record.
    missing: `[b]` positions that the attacker does not know.

  Raises:
    ValueError: as `candidates`.
  """
  missing = np.asarray(missing)
  rows = candidates(record, missing)
  truth = int((record[missing].astype(int) << np.arange(len(missing))).sum())
  scores = score(rows)
  return int((scores >= scores[truth]).sum()) - 1


def chance(num_missing: int) -> float:
  """Returns how often a guess is right: `2^-b`."""
  return math.ldexp(1.0, -num_missing)
