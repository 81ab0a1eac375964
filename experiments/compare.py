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

import json
import pathlib

from absl import flags

from jmia.audit import compare, comparison_files

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
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value, _show) as output_dir:
    comparison_files.write(audits, output_dir)
  _show(output_dir)


def _show(output_dir: pathlib.Path) -> None:
  """Prints the verdicts of a comparison that is written."""
  found = json.loads((output_dir / "comparison.json").read_text("utf-8"))
  for of in found["comparisons"]:
    print(of["verdict"])
  print(f"\nThe comparison is {output_dir / 'comparison.html'}")


if __name__ == "__main__":
  launch.run(main)
