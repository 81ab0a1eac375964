"""What an audit looks for: rows, or gradients, that a private model should not show."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, types
from jmia.training import recipe as recipe_lib

KINDS = ("gradient", "mislabelled", "feature", "noise", "natural")

# A gradient canary's norm over the clipping norm: clipped, it is as large as any
# example's may be, and where clipping is left out it gives that away.
_OVER_CLIP = 100.0


class Canaries(NamedTuple):
  """`m` canaries, each a row that training may hold.

  Attributes:
    x: `[m, ...]` float32 features as a model sees them.
    y: `[m]` int32 labels.
  """

  x: np.ndarray
  y: np.ndarray


def make(
  kind: str, dataset: types.Dataset, rows: np.ndarray, num: int, *, seed: int
) -> Canaries:
  """Returns canaries of a kind.

  - `natural`: rows of the dataset as they are.
  - `mislabelled`: rows of the dataset, each with a wrong label drawn at random.
  - `noise`: features uniform between the dataset's least and largest, random labels.
  - `feature`: nothing but one feature, four times as large as the dataset's largest
    value: of features that no row has if there are such, else of those that vary
    least; canaries share them in turn. Random labels.
  - `gradient`: empty rows, in whose place the step takes a fixed gradient; see
    `coordinate_loss`.

  Args:
    kind: one of `KINDS`.
    dataset: to take rows and ranges from.
    rows: at least `num` rows of it that no model trains on but as canaries.
    num: `m`.
    seed: of the draws.

  Raises:
    ValueError: the kind is unknown, or there are not enough rows.
  """
  _validate.known("canary", kind, KINDS)
  _validate.positive("num_canaries", num)
  if kind in ("natural", "mislabelled") and len(rows) < num:
    raise ValueError(f"num_canaries={num} is above the {len(rows)} rows left for them")
  rng = np.random.default_rng(np.random.SeedSequence([seed, KINDS.index(kind)]))
  all_x = dataset.x.reshape(len(dataset.x), -1)
  shape = (num, *dataset.x.shape[1:])
  y = rng.integers(dataset.num_classes, size=num).astype(np.int32)
  x = np.zeros((num, all_x.shape[1]), np.float32)
  if kind in ("natural", "mislabelled"):
    x = as_seen(dataset, rows[:num]).reshape(num, -1)
    y = dataset.y[rows[:num]].astype(np.int32)
  if kind == "mislabelled":
    shift = rng.integers(1, dataset.num_classes, size=num)
    y = ((y + shift) % dataset.num_classes).astype(np.int32)
  if kind == "noise":
    low, high = float(all_x.min()), float(all_x.max())
    x = rng.uniform(low, high, x.shape).astype(np.float32) * dataset.feature_scale
  if kind == "feature":
    spread = all_x.std(axis=0, dtype=np.float64)
    unused = np.flatnonzero(spread == 0)
    features = unused if unused.size else np.argsort(spread, kind="stable")
    largest = float(np.abs(all_x).max()) * dataset.feature_scale
    x[np.arange(num), features[np.arange(num) % len(features)]] = 4 * largest
  return Canaries(np.asarray(x, np.float32).reshape(shape), y)


def as_seen(dataset: types.Dataset, rows: np.ndarray) -> np.ndarray:
  """Returns rows as a model sees them: float32, scaled."""
  return dataset.x[rows].astype(np.float32) * np.float32(dataset.feature_scale)


def coordinates(params: Any, num: int) -> tuple[int, np.ndarray]:
  """Returns which leaf of the parameters, and where in it, each canary pushes.

  Args:
    params: of the model, or their shapes.
    num: canaries, each of which has one number of the largest leaf to itself.

  Returns:
    The leaf's number in `jax.tree.leaves`, and `[m]` int32 places in it, flattened.

  Raises:
    ValueError: the leaf has fewer numbers than there are canaries.
  """
  sizes = [int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)]
  largest = int(np.argmax(sizes))
  if sizes[largest] < num:
    raise ValueError(
      f"num_canaries={num} is above the {sizes[largest]} numbers of the largest layer:"
      " each gradient canary needs one of its own"
    )
  step = sizes[largest] // num
  return largest, (np.arange(num) * step + step // 2).astype(np.int32)


def coordinate_loss(
  loss: recipe_lib.Loss,
  places: tuple[int, np.ndarray],
  first_row: int,
  clip_norm: float,
) -> recipe_lib.Loss:
  """Loss seam of the gradient canary, for losses that are called one example at a time.

  A canary's loss is a multiple of one parameter of its own, so that its gradient is a
  constant, along that parameter: clipped, exactly the largest step that DP-SGD allows
  an example, in every step that samples it.

  Args:
    loss: of ordinary examples.
    places: of `coordinates`.
    first_row: rows from here on are canaries.
    clip_norm: of DP-SGD.

  Source: the Dirac canary of Nasr et al. (2023) and Steinke et al. (2023).
  """
  leaf_number, place = places

  def with_canaries(params, variables, batch: recipe_lib.Batch, key, job):
    value, aux = loss(params, variables, batch, key, job)
    row = batch.rows[0]
    number = jnp.clip(row - first_row, 0, len(place) - 1)
    leaf = jax.tree.leaves(params)[leaf_number].reshape(-1)
    pushed = _OVER_CLIP * clip_norm * leaf[jnp.asarray(place)[number]]
    return jnp.where(row >= first_row, pushed, value), aux

  return with_canaries
