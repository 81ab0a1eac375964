"""The files of a comparison of audits: `FILES`."""

from collections.abc import Mapping, Sequence
import csv
import os
import pathlib
from typing import Any

import numpy as np

from jmia import atomic, locks
from jmia.audit import compare
from jmia.report import compare_page, results, wording

FILES = ("changes.csv", "comparison.html", "comparison.json")


def write(
  audits: Sequence[compare.Audit], output_dir: str | os.PathLike[str]
) -> dict[str, Any]:
  """Compares audits, and writes `FILES`: all or none.

  Args:
    audits: at least two, of `compare.of` or `compare.load`; the others are compared
      with the first.
    output_dir: made if absent; files of those names in it are replaced.

  Returns:
    What `compare.compare` does.

  Raises:
    ValueError: as `compare.compare`; or another process, or thread, writes there.
    OSError: the folder cannot be written.
  """
  found = compare.compare(audits)
  attack = wording.sharpest(audits[0].report)
  if attack is None or attack not in found["attacks"]:
    attack = found["attacks"][0]
  changes = compare.changes(audits, attack)
  output_dir = pathlib.Path(output_dir)
  output_dir.mkdir(parents=True, exist_ok=True)
  with locks.held(output_dir), atomic.folder(output_dir) as folder:
    _write_changes(folder / "changes.csv", changes)
    reports = [audit.report for audit in audits]
    curves = [_curve(audit) for audit in audits]
    compare_page.write(folder / "comparison.html", found, reports, curves, changes)
    results.write(folder / "comparison.json", found)
    atomic.move(folder, output_dir, FILES)
  return found


def _curve(audit: compare.Audit) -> compare_page.Curve:
  """The strongest attack's curve."""
  attack = wording.strongest(audit.report)
  assert attack is not None, "an audit has an attack in common with the others"
  at = ~np.isnan(audit.scores[attack])
  return compare_page.Curve(
    audit.name, attack, audit.scores[attack][at], audit.members[at]
  )


def _write_changes(path: pathlib.Path, changes: Mapping[str, np.ndarray]) -> None:
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(changes)
    for row in zip(*(column.tolist() for column in changes.values()), strict=True):
      writer.writerow(_shown(value) for value in row)


def _shown(value: Any) -> Any:
  """A cell: truth as 0 or 1, a rank as a whole number, nothing where there is none."""
  if isinstance(value, bool):
    return int(value)
  if isinstance(value, float):
    return "" if np.isnan(value) else int(value)
  return value
