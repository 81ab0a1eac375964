"""`purchase100_synthetic`: a SYNTHETIC stand-in for Purchase-100, drawn from a seed.

No row here was ever a shopper's: every record is generated. Purchase-100 itself
(Shokri et al., *Membership Inference Attacks against Machine Learning Models*, 2017;
600 products bought or not, labels by k-means into 100 classes) cannot be
redistributed; this module imitates its shape, the way its labels were made, and how
fast a classifier's test accuracy grows with its training set. Nothing else about the
original is claimed, and a result on these data is never a result on Purchase-100.

How a record is made:
  1. The products have a heavy-tailed popularity. Each of `NUM_STYLES` shopping styles
     likes a random tenth of the products and buys those more often.
  2. A shopper has a main style and, for a random share of the products, a second one.
     Popular styles are drawn more often. Each product is bought with the probability
     that the product's style gives it, independently.
  3. The label is the nearest of 100 centroids, found by k-means on a fitting sample
     of such records. It is a function of the record, and the styles are not kept.

All of this is integer arithmetic on raw Philox words, whose stream NumPy guarantees,
so a row depends on (seed, index) alone: not on the machine, its BLAS, the NumPy
version, or which other rows are asked for.

Calibration: test accuracy (%) of the MLP 600-512-256-128-64-100 (ReLU, LeCun-normal
initial weights, zero biases) trained by Adam at 1e-3, batches of 128 without the last
partial one, 16 / 12 / 10 epochs, on 10,000 fresh rows. Training accuracy is 100.0 in
every run. For seeds 0 and 1, two runs (other rows, other initial weights).

  | trained on              | 2,500      | 5,000      | 10,000     |
  |-------------------------|------------|------------|------------|
  | Purchase-100, the paper | 52.5       | 65.4       | 75.5       |
  | seed 0                  | 52.7, 53.4 | 66.8, 65.3 | 75.9, 74.9 |
  | seed 1                  | 53.6, 52.0 | 65.2, 65.6 | 74.3, 74.5 |
  | seed 2                  | 55.9       | 68.7       | 76.5       |

(The paper: Ye et al., *Enhanced Membership Inference Attacks against Machine Learning
Models*, 2022.) The recipe matters most at 2,500: on seed 0, SGD at 0.05 with momentum
0.9 gives 47.9 / 65.0 / 76.3, and Adam from He-normal weights 55.1 / 68.0 / 77.1.
"""

import functools
from typing import NamedTuple

import numpy as np

from jmia.datasets import memory

NUM_FEATURES = 600
NUM_CLASSES = 100
DEFAULT_NUM_EXAMPLES = 200_000
DESCRIPTION = (
  "SYNTHETIC stand-in for Purchase-100: generated from a seed, not shopping records "
  "(600 binary features, 100 classes by k-means)."
)

# The calibrated parameters. Probabilities are in 1/256, so that a random byte decides.
NUM_STYLES = 200  # more styles: fewer examples of each, so a lower accuracy
STYLE_ZIPF = 0.2  # popularity of the s-th style is s^-zipf; larger: slower growth
LIKED_SHARE = 26  # share of the products that a style likes
LIKED_PROBABILITY = 130  # a style buys what it likes; larger: styles easier to tell
MAX_SECOND_SHARE = 102  # the second style's share is uniform below this; larger: harder
# Probability of buying the r-th most popular product, unless liked: 39 % to 1 %.
POPULARITY = 2000 // (20 + np.arange(NUM_FEATURES))

BLOCK_SIZE = 2_000  # rows drawn from one stream
FIT_BLOCKS = 5  # blocks of the k-means fitting sample
FIT_ITERATIONS = 10
MIN_CLUSTER = 30  # a cluster smaller than this in the fitting sample starts anew
_FIRST_FIT_BLOCK = 2**63  # streams no row of the population can reach
_WORLD_STREAM = 2**64 - 1


class _Styles(NamedTuple):
  """What the records of one seed are drawn from."""

  probability: np.ndarray  # [S, 600] uint8, in 1/256
  tickets: np.ndarray  # [T] a style's index, as often as the style is popular


def generate(
  num_examples: int = DEFAULT_NUM_EXAMPLES, *, seed: int = 0, start: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows `start` to `start + num_examples` of the synthetic population.

  Args:
    num_examples: how many rows, at least 1.
    seed: which population (styles, centroids and records), 0 to 2^64 - 1.
    start: index of the first row, at least 0.

  Returns:
    x [num_examples, 600] uint8 of 0 and 1, and y [num_examples] int32 in [0, 100).
    Row i of a seed is the same whatever `start` and `num_examples` are.

  Raises:
    ValueError: if an argument is not an integer in its range, or so many rows would
      not fit into memory.
  """
  num_examples = _integer("num_examples", num_examples, 1, 2**62)
  seed = _integer("seed", seed, 0, 2**64 - 1)
  start = _integer("start", start, 0, 2**62)
  memory.check(f"num_examples={num_examples} rows", num_examples * NUM_FEATURES)
  styles, centres = _styles(seed), centroids(seed)
  x = np.empty((num_examples, NUM_FEATURES), np.uint8)
  y = np.empty(num_examples, np.int32)
  stop = start + num_examples
  for block in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
    first = block * BLOCK_SIZE
    lo, hi = max(start, first), min(stop, first + BLOCK_SIZE)
    records = _records(styles, seed, block)[lo - first : hi - first]
    x[lo - start : hi - start] = records
    y[lo - start : hi - start] = _nearest(records, centres)
  return x, y


@functools.lru_cache(maxsize=4)
def centroids(seed: int = 0) -> np.ndarray:
  """Returns the read-only [100, 600] int64 centroids of a population, in 1/256.

  Lloyd's k-means on a fitting sample of the seed's own; class c is the cell of row c.
  Raises ValueError if `seed` is not an integer from 0 to 2^64 - 1.
  """
  seed = _integer("seed", seed, 0, 2**64 - 1)
  blocks = range(_FIRST_FIT_BLOCK, _FIRST_FIT_BLOCK + FIT_BLOCKS)
  x = np.concatenate([_records(_styles(seed), seed, b) for b in blocks])
  x = x.astype(np.float32)
  mean = 256 * x.sum(0).astype(np.int64) // len(x)
  # Records are sparse and far from one another. Started at single ones, most clusters
  # would stay empty; so each starts a quarter of the way from the mean to a record.
  centres = (3 * mean + 256 * x[:NUM_CLASSES].astype(np.int64)) // 4
  for _ in range(FIT_ITERATIONS):
    y = _nearest(x, centres)
    count = np.bincount(y, minlength=NUM_CLASSES)
    sums = np.stack([x[y == c].sum(0) for c in range(NUM_CLASSES)]).astype(np.int64)
    centres = 256 * sums // np.maximum(count, 1)[:, None]
    # A cluster that lost its records takes a part of a large one.
    by_size = np.argsort(count, kind="stable")
    starved = by_size[: np.sum(count < MIN_CLUSTER)]
    for small, large in zip(starved, by_size[::-1], strict=False):
      record = x[np.argmax(y == large)].astype(np.int64)
      centres[small] = (7 * centres[large] + 256 * record) // 8
  centres.setflags(write=False)
  return centres


def _integer(name: str, value: int, low: int, high: int) -> int:
  """Returns `value` as an int; raises ValueError unless it is one in [low, high]."""
  if not isinstance(value, int | np.integer) or not low <= value <= high:
    raise ValueError(f"{name}={value!r} must be an integer from {low} to {high}")
  return int(value)


def _philox(seed: int, stream: int) -> np.random.Philox:
  """A counter-based generator of its own for each (seed, stream)."""
  return np.random.Philox(key=np.array([seed, stream], np.uint64))


def _bytes(source: np.random.Philox, rows: int) -> np.ndarray:
  """[rows, 600] random bytes, the same on machines of either byte order."""
  words = source.random_raw(rows * NUM_FEATURES // 8).astype("<u8", copy=False)
  return words.view(np.uint8).reshape(rows, NUM_FEATURES)


@functools.lru_cache(maxsize=4)
def _styles(seed: int) -> _Styles:
  """Draws the popularity of the products and what each style likes."""
  source = _philox(seed, _WORLD_STREAM)
  popularity = POPULARITY[np.argsort(source.random_raw(NUM_FEATURES))]
  liked = _bytes(source, NUM_STYLES) < LIKED_SHARE
  probability = np.where(liked, np.maximum(popularity, LIKED_PROBABILITY), popularity)
  weights = np.rint(1000 * np.arange(1, NUM_STYLES + 1) ** -STYLE_ZIPF).astype(int)
  return _Styles(probability.astype(np.uint8), np.repeat(range(NUM_STYLES), weights))


def _records(styles: _Styles, seed: int, block: int) -> np.ndarray:
  """[BLOCK_SIZE, 600] uint8: one block's records."""
  source = _philox(seed, block)
  words = source.random_raw(3 * BLOCK_SIZE).reshape(3, BLOCK_SIZE) >> np.uint64(32)
  tickets = words[:2] * np.uint64(len(styles.tickets)) >> np.uint64(32)
  main, second = styles.probability[styles.tickets[tickets]]
  share = (words[2] * np.uint64(MAX_SECOND_SHARE) >> np.uint64(32)).astype(np.uint8)
  is_second = _bytes(source, BLOCK_SIZE) < share[:, None]
  bought = _bytes(source, BLOCK_SIZE) < np.where(is_second, second, main)
  return bought.astype(np.uint8)


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """[N] int32: argmin_c |x - centre_c|^2, the first if tied; centres are in 1/256."""
  # Sums of integers below 2^24 are exact in float32 in any order, so no BLAS can
  # round a near tie its own way.
  dot = x.astype(np.float32, copy=False) @ centres.T.astype(np.float32)
  score = 512 * dot.astype(np.int64) - (centres**2).sum(1)
  return score.argmax(1).astype(np.int32)
