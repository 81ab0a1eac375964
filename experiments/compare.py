"""Compares audits of one dataset: which leaks less, and at what cost.

    python -m experiments.compare plain with_l2 --output_dir=comparison
    python -m experiments.compare A B C --names=none,l2,dropout --output_dir=DIR

Each argument is a folder that an audit left. The first one is what the others are
compared with: other defences, seeds, models or dates on the same data. Audits of the
same samples (the same --seed and sizes) are compared in pairs, which tells smaller
differences apart. DIR gets comparison.html, comparison.json and changes.csv, each
sample's rank in every audit. Another comparison in DIR is refused, unless --restart is
to replace what is there.
"""

import csv
import json
import pathlib

from absl import flags
import numpy as np

from jmia import atomic
from jmia.audit import compare
from jmia.report import compare_page, results, wording

from . import common_flags, launch, run_folder

POSITIONAL = "audits"
flags.declare_key_flag("output_dir")
flags.declare_key_flag("restart")
_AUDITS = flags.DEFINE_list(
  "audits", None, "Folders of audits; may be given without the flag's name."
)
_NAMES = flags.DEFINE_list(
  "names", None, "What to call the audits. Default: their folders' names."
)
FILES = ("changes.csv", "comparison.html", "comparison.json")


def main() -> None:
  """Compares, and writes the files."""
  folders = _AUDITS.value or []
  names = _NAMES.value or [""] * len(folders)
  if len(names) != len(folders):
    raise ValueError(f"names has {len(names)} entries for {len(folders)} audits")
  audits = [
    compare.load(folder, name or None)
    for folder, name in zip(folders, names, strict=True)
  ]
  found = compare.compare(audits)
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value, _show) as output_dir:
    _write(found, audits, output_dir)
  _show(output_dir)


def _show(output_dir: pathlib.Path) -> None:
  """Prints the verdicts of a comparison that is written."""
  found = json.loads((output_dir / "comparison.json").read_text("utf-8"))
  for of in found["comparisons"]:
    print(of["verdict"])
  print(f"\nThe comparison is {output_dir / 'comparison.html'}")


def _write(found, audits, output_dir: pathlib.Path) -> None:
  """Writes all files or none."""
  attack = wording.sharpest(audits[0].report)
  if attack is None or attack not in found["attacks"]:
    attack = found["attacks"][0]
  changes = compare.changes(audits, attack)
  with atomic.folder(output_dir) as folder:
    _write_changes(folder / "changes.csv", changes)
    reports = [audit.report for audit in audits]
    curves = [_curve(audit) for audit in audits]
    compare_page.write(folder / "comparison.html", found, reports, curves, changes)
    results.write(folder / "comparison.json", found)
    atomic.move(folder, output_dir, FILES)


def _curve(audit: compare.Audit) -> compare_page.Curve:
  """The strongest attack's curve."""
  attack = wording.strongest(audit.report)
  assert attack is not None, "an audit has an attack in common with the others"
  at = ~np.isnan(audit.scores[attack])
  return compare_page.Curve(
    audit.name, attack, audit.scores[attack][at], audit.members[at]
  )


def _write_changes(path: pathlib.Path, changes) -> None:
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(changes)
    for row in zip(*(column.tolist() for column in changes.values()), strict=True):
      writer.writerow(_shown(value) for value in row)


def _shown(value):
  if isinstance(value, bool):
    return int(value)
  if isinstance(value, float):
    return "" if np.isnan(value) else int(value)
  return value


if __name__ == "__main__":
  launch.run(main)
