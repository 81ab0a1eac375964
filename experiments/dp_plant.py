"""Plants canaries in your data, to tell later what private training has kept to.

    python -m experiments.dp_plant --dataset=npz:FILE.npz --output_dir=DIR
    python -m experiments.dp_plant --dataset=npz:FILE.npz --num_canaries=4000 ...

DIR gets train.npz, to train on with whatever makes your training private; canaries.npz,
all canaries, of which a coin each put about a half into train.npz; and coins.npz, the
coins, which training must not see. Then score every canary by the model: what it
answers to x of canaries.npz, probabilities or logits [m, C]; or a number each, [m],
higher where it seems to have seen one, such as how far its loss has fallen since
training began. experiments.dp_audit --scores says what they prove.

Canaries are rows of the data (--canary): mislabelled, with a wrong label each, the
sharper ones; or natural, as they are. The more, the more can be proved: that is said.
Rows and coins are drawn from the operating system's entropy; --seed repeats them.
"""

from absl import flags
import numpy as np

from jmia import atomic, datasets, types
from jmia.dp import planting

from . import common_flags, dp_flags, launch, run_folder

flags.declare_key_flag("output_dir")
flags.declare_key_flag("dataset")
flags.declare_key_flag("data_dir")
flags.declare_key_flag("num_examples")
flags.declare_key_flag("seed")
flags.adopt_module_key_flags(dp_flags)
FILES = ("train.npz", "canaries.npz", "coins.npz")  # in the order they are written


def main() -> None:
  """Draws, and writes the three files."""
  kind = dp_flags.CANARY.value or planting.KINDS[0]
  if kind not in planting.KINDS:
    raise ValueError(
      f"canary={kind} is of training that is done here, by dp_audit; expected"
      f" {' or '.join(planting.KINDS)}"
    )
  with run_folder.owner_dir(common_flags.OUTPUT_DIR.value, FILES) as output_dir:
    dataset = _dataset()
    rows = slice(dataset.num_train)
    x = dataset.x if dataset.given is None else dataset.given
    planted = planting.plant(
      x[rows], dataset.y[rows], dp_flags.NUM_CANARIES.value, kind=kind, seed=_seed()
    )
    classes = _classes(dataset)
    with atomic.folder(output_dir) as folder:
      np.savez(folder / "train.npz", x=planted.x, y=classes[planted.y])
      np.savez(folder / "canaries.npz", x=planted.canary_x, y=classes[planted.canary_y])
      np.savez(
        folder / "coins.npz",
        is_in=planted.is_in,
        labels=planted.canary_y,  # which column of answers
        classes=classes,
        rows=planted.rows,
      )
      atomic.move(folder, output_dir, FILES)
  print(_summary(planted, output_dir, classes))


def _dataset() -> types.Dataset:
  """The rows, as their training may take them."""
  dataset = datasets.load(
    common_flags.DATASET.value or "digits",
    data_dir=common_flags.DATA_DIR.value,
    num_examples=common_flags.NUM_EXAMPLES.value,
    seed=common_flags.SEED.value,
  )
  if dataset.given is not None and dataset.given.dtype.names:
    raise ValueError(
      f"dataset={dataset.name} is a table of named columns: plant canaries in Python,"
      " by dp.plant(x, y, num_canaries), with x as your training takes it"
    )
  return dataset


def _classes(dataset: types.Dataset) -> np.ndarray:
  """What the classes are called in the data, in their order: numbers or text."""
  names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
  if all(name.lstrip("-").isdecimal() and str(int(name)) == name for name in names):
    return np.array([int(name) for name in names])
  return np.array(names)


def _seed() -> int | None:
  """None, for the operating system's entropy, unless a seed was asked for."""
  return common_flags.SEED.value if flags.FLAGS["seed"].present else None


def _summary(planted: planting.Planted, output_dir, classes: np.ndarray) -> str:
  num = len(planted.is_in)
  delta = dp_flags.delta()
  train, canaries, coins = (output_dir / name for name in FILES)
  return "\n".join(
    [
      f"Train on {train}, {len(planted.y):,} rows, in the way that is to be audited.",
      f"Then ask the model about all {num:,} rows of {canaries}, save [{num},"
      f" {len(classes)}] probabilities or logits, or a score each, and give both to",
      f"  jmia dp-audit --scores=SCORES.npy --coins={coins} --claimed_epsilon=EPSILON"
      f" --delta={delta:g} --output_dir=DIR",
      f"If every guess is right, so many canaries prove an epsilon of"
      f" {planting.most(num, delta):.2f}, and no larger one.",
    ]
  )


if __name__ == "__main__":
  launch.run(main)
