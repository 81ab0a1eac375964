"""Named datasets: `load(name) -> types.Dataset`; a user's own: `from_arrays(x, y)`.

| name | rows | source |
|---|---|---|
| `digits` | 1,797 | bundled with scikit-learn |
| `purchase100_synthetic` | any number | generated, see `purchase_synthetic` |
| `location30`, `purchase100`, `texas100` | fixed | original archives, see `archives` |
| `mnist`, `cifar10`, `cifar100`, `stl10` | fixed | the stock TFDS builders |
| `npz:PATH` | the user's | a NumPy archive, see `arrays.npz` |
| `folder:PATH` | the user's | images, see `image_folder.read` |
| `table:PATH?target=NAME` | the user's | a CSV or Parquet file, see `table_file.load` |

What a user's own data are taken for, and how they are scaled, say `features`,
`columns`, `labels` and `images`; `Dataset.notes` say what was done.

**Order.** TFDS shuffles the rows of `mnist`, `cifar10`, `cifar100` and `stl10`: an
index of torchvision or Keras names another image. `load(name, order="publisher")` puts
CIFAR's back; `rows_of(dataset, x)` finds the rows of any copy by their values.

TFDS is imported only where one of its datasets is read for the first time; from then
on a memory-mapped copy is used (`cache`).
"""

import os
import pathlib

from jmia import _validate, types
from jmia.datasets import arrays, image_folder, sources, table_file, tfds_source
from jmia.datasets.arrays import from_arrays as from_arrays
from jmia.datasets.rows import rows_of as rows_of

ORDERS = ("prepared", "publisher")
_FROM_PATH = {
  "npz": ("npz:PATH", arrays.npz),
  "folder": ("folder:PATH", image_folder.load),
  "table": ("table:PATH?target=NAME", table_file.load),
}
_OF_SUFFIX = {".npz": "npz", ".csv": "table", ".parquet": "table"}
_EMBEDDED = ("digits", "purchase100_synthetic")


def names() -> tuple[str, ...]:
  """Returns the names `load` knows, but for those of files."""
  return (*_EMBEDDED, *sources.SOURCES)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  num_examples: int | None = None,
  seed: int = 0,
  order: str = "prepared",
) -> types.Dataset:
  """Loads a dataset, preparing and caching it first where that is needed.

  Args:
    name: one of `names()`, or `npz:PATH`, `folder:PATH` or `table:PATH?target=NAME` for
      arrays, images or a table of one's own.
    data_dir: TFDS's folder, by default its own default: `$TFDS_DATA_DIR`, else
      `~/tensorflow_datasets`. Original archives are looked for in its
      `downloads/manual/`, caches are kept in its `jmia_cache/`.
    num_examples: rows to generate, for a dataset of any size only.
    seed: seed of a generated dataset; a collected one ignores it.
    order: of the rows in each split. "prepared" is TFDS's own for its image sets, which
      is shuffled, the same everywhere, and not that of torchvision or Keras;
      "publisher" is that of the publisher's files, as they have it. The other datasets
      are in their source's order either way.

  Returns:
    The dataset: the publisher's train rows, then its test rows, each in `order`.

  Raises:
    ValueError: if the name or order is unknown, `num_examples` is given for a dataset
      of fixed size, the publisher's order is not known (`mnist`, `stl10`: see
      `rows_of`), or an archive, array, image or table is not what it should be.
    OSError: if the dataset is absent and cannot be downloaded, or is damaged.
    ImportError: if the dataset needs tensorflow-datasets and that is not installed.
  """
  kind, colon, path = name.partition(":")
  is_path = bool(colon) and kind in _FROM_PATH
  if not is_path:
    _check_no_path(name)
    _validate.known(
      "dataset", name, (*names(), *(form for form, _ in _FROM_PATH.values()))
    )
  _validate.known("order", order, ORDERS)
  if num_examples is not None and name != "purchase100_synthetic":
    raise ValueError(
      f"num_examples={num_examples} was given, but {name!r} has a fixed size; "
      "expected None"
    )
  if is_path:
    return _FROM_PATH[kind][1](name, path)
  if name == "digits":
    return arrays.digits()
  if name == "purchase100_synthetic":
    return _purchase100_synthetic(num_examples, seed)
  return tfds_source.load(name, _data_dir(data_dir), order)


def _check_no_path(name: str) -> None:
  """Raises ValueError where a file or folder is named without what it is."""
  path, question, _ = name.partition("?")
  kind = _OF_SUFFIX.get(pathlib.Path(path).suffix.lower())
  if kind is None and name not in names() and pathlib.Path(path).is_dir():
    kind = "folder"
  if kind is not None:
    target = "?target=NAME" if kind == "table" and not question else ""
    raise ValueError(
      f"dataset={name!r} is a path alone; did you mean '{kind}:{name}{target}'?"
    )


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
