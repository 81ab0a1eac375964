"""Named datasets: `load(name) -> types.Dataset`.

| name | rows | source |
|---|---|---|
| `digits` | 1,797 | bundled with scikit-learn |
| `purchase100_synthetic` | any number | generated, see `purchase_synthetic` |
| `location30`, `purchase100`, `texas100` | fixed | original archives, see `archives` |
| `mnist`, `cifar10`, `cifar100`, `stl10` | fixed | the stock TFDS builders |
| `npz:PATH` | the user's | a NumPy archive, see `arrays.npz` |
| `folder:PATH` | the user's | images with a CSV, see `image_folder.load` |

TFDS is imported only where one of its datasets is read for the first time; from then
on a memory-mapped copy is used (`cache`).
"""

import os
import pathlib

from jmia import _validate, types
from jmia.datasets import arrays, image_folder, sources, tfds_source

_FROM_PATH = {"npz": arrays.npz, "folder": image_folder.load}
_EMBEDDED = ("digits", "purchase100_synthetic")


def names() -> tuple[str, ...]:
  """Returns the names `load` knows, but for `npz:PATH` and `folder:PATH`."""
  return (*_EMBEDDED, *sources.SOURCES)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  num_examples: int | None = None,
  seed: int = 0,
) -> types.Dataset:
  """Loads a dataset, preparing and caching it first where that is needed.

  Args:
    name: one of `names()`, or `npz:PATH` or `folder:PATH` for arrays or images of one's
      own.
    data_dir: TFDS's folder, by default its own default: `$TFDS_DATA_DIR`, else
      `~/tensorflow_datasets`. Original archives are looked for in its
      `downloads/manual/`, caches are kept in its `jmia_cache/`.
    num_examples: rows to generate, for a dataset of any size only.
    seed: seed of a generated dataset; a collected one ignores it.

  Returns:
    The dataset: the publisher's train rows, then its test rows.

  Raises:
    ValueError: if the name is unknown, `num_examples` is given for a dataset of fixed
      size, or an archive or array is not what it should be.
    OSError: if the dataset is absent and cannot be downloaded, or is damaged.
    ImportError: if the dataset needs tensorflow-datasets and that is not installed.
  """
  kind, colon, path = name.partition(":")
  is_path = bool(colon) and kind in _FROM_PATH
  if not is_path:
    _validate.known("dataset", name, (*names(), *(f"{k}:PATH" for k in _FROM_PATH)))
  if num_examples is not None and name != "purchase100_synthetic":
    raise ValueError(
      f"num_examples={num_examples} was given, but {name!r} has a fixed size; "
      "expected None"
    )
  if is_path:
    return _FROM_PATH[kind](name, path)
  if name == "digits":
    return arrays.digits()
  if name == "purchase100_synthetic":
    return _purchase100_synthetic(num_examples, seed)
  return tfds_source.load(name, _data_dir(data_dir))


def _data_dir(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
  """The folder given, or else TFDS's default, found without importing TFDS."""
  default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  return pathlib.Path(data_dir or default).expanduser()


def _purchase100_synthetic(num_examples: int | None, seed: int) -> types.Dataset:
  """Generates the Purchase-100 look-alike."""
  from jmia.datasets import purchase_synthetic

  if num_examples is None:
    num_examples = purchase_synthetic.DEFAULT_NUM_EXAMPLES
  x, y = purchase_synthetic.generate(num_examples, seed=seed, start=0)
  return types.Dataset(
    name="purchase100_synthetic",
    x=x,
    y=y,
    num_classes=purchase_synthetic.NUM_CLASSES,
    num_train=len(y),
    feature_scale=1.0,
    is_synthetic=True,
    description=purchase_synthetic.DESCRIPTION,
  )
