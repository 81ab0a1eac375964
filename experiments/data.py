"""Lists the datasets that can be audited, or tells how one is read.

    python -m experiments.data
    python -m experiments.data --dataset=npz:FILE.npz

With --dataset it is loaded, and told: rows, classes, shape, and what reading changed.
"""

import textwrap

from absl import flags

from jmia import datasets
from jmia.datasets import groups
from jmia.report import results

from . import common_flags, launch

flags.declare_key_flag("dataset")
flags.declare_key_flag("data_dir")
flags.declare_key_flag("num_examples")
flags.declare_key_flag("seed")


def main() -> None:
  """Prints what there is."""
  if common_flags.DATASET.value is None:
    print("Datasets by name:\n")
    print("\n".join(f"  {name}" for name in datasets.names()))
    print("\nYours: --dataset=npz:PATH with x and y, or what --help of --dataset says.")
    return
  dataset = datasets.load(
    common_flags.DATASET.value,
    data_dir=common_flags.DATA_DIR.value,
    num_examples=common_flags.NUM_EXAMPLES.value,
    seed=common_flags.SEED.value,
  )
  _, counts = _counted(dataset)
  rows = [
    ("what", "value"),
    ("rows", f"{dataset.num_examples:,}"),
    (
      "of which in the publisher's test split",
      f"{dataset.num_examples - dataset.num_train:,}",
    ),
    ("classes", f"{dataset.num_classes:,}"),
    ("rows of a class", f"{counts.min():,} to {counts.max():,}"),
    ("shape of a row", " x ".join(map(str, dataset.x.shape[1:]))),
    ("stored as", f"{dataset.x.dtype}, times {dataset.feature_scale:.4g}"),
    ("synthetic", "yes" if dataset.is_synthetic else "no"),
  ]
  print(f"{dataset.name}: {dataset.description}\n")
  print(results.table(rows))
  columns = ", ".join(groups.names(dataset)) or "none"  # of a table, hundreds
  print("\n" + textwrap.fill(f"Columns for --groups: {columns}.", 88))
  for note in getattr(dataset, "notes", ()):
    print(f"\n{note}")


def _counted(dataset):
  import numpy as np

  return np.unique(dataset.y, return_counts=True)


if __name__ == "__main__":
  launch.run(main)
