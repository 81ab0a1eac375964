import hashlib

import numpy as np
import pytest

from jmia.datasets import purchase_synthetic

BLOCK = purchase_synthetic.BLOCK_SIZE


@pytest.fixture(scope="module")
def population() -> tuple[np.ndarray, np.ndarray]:
  return purchase_synthetic.generate(5 * BLOCK)


def test_shapes_dtypes_and_values(population):
  x, y = population
  assert x.shape == (5 * BLOCK, 600)
  assert x.dtype == np.uint8
  assert set(np.unique(x)) == {0, 1}
  assert y.shape == (5 * BLOCK,)
  assert y.dtype == np.int32


@pytest.mark.parametrize(
  ("start", "num_examples"),
  [
    (0, 1),
    (0, BLOCK),
    (17, 3),
    (BLOCK - 1, 2),
    (BLOCK, BLOCK + 1),
    (1500, 2 * BLOCK),
    (5 * BLOCK - 1, 1),
  ],
)
def test_a_row_does_not_depend_on_which_others_are_asked_for(
  population, start, num_examples
):
  x, y = purchase_synthetic.generate(num_examples, start=start)
  rows = slice(start, start + num_examples)
  np.testing.assert_array_equal(x, population[0][rows])
  np.testing.assert_array_equal(y, population[1][rows])


def test_rows_are_the_same_on_every_machine(population):
  x, y = population
  digest = hashlib.sha256(x.tobytes() + y.astype("<i4").tobytes()).hexdigest()
  assert digest == ("bff833fe715f7610695db866670a949fce2c652c66a89fd989ea75d5c7833c99")


def test_rows_do_not_repeat(population):
  x, _ = population
  assert len(np.unique(x, axis=0)) == len(x)


def test_another_seed_is_another_population(population):
  x, y = purchase_synthetic.generate(BLOCK, seed=1)
  assert np.mean(x != population[0][:BLOCK]) > 0.1
  assert np.mean(y != population[1][:BLOCK]) > 0.9
  first, other = purchase_synthetic.centroids(0), purchase_synthetic.centroids(1)
  assert np.abs(first - other).mean() > 1


def test_the_label_is_the_nearest_centroid_of_the_record(population):
  x, y = population[0][:500].astype(np.float64), population[1][:500]
  centres = purchase_synthetic.centroids(0) / 256
  # Multiples of 2^-16 below 2^10: float64 holds every one of these sums exactly.
  distance = ((x[:, None] - centres) ** 2).sum(-1)
  np.testing.assert_array_equal(y, distance.argmin(1))


def test_a_centroid_is_near_the_mean_of_its_class(population):
  x, y = population
  centres = purchase_synthetic.centroids(0) / 256
  means = np.stack([x[y == c].mean(0) for c in range(100)])
  distance = ((means[:, None] - centres) ** 2).sum(-1)
  np.testing.assert_array_equal(distance.argmin(1), np.arange(100))


def test_every_class_occurs_and_none_dominates(population):
  share = np.bincount(population[1], minlength=100) / len(population[1])
  assert len(share) == 100
  assert share.min() >= 0.001
  assert share.max() <= 0.1


def test_products_have_a_heavy_tailed_popularity(population):
  popularity = np.sort(population[0].mean(0))[::-1]
  assert 0.05 < popularity.mean() < 0.15
  assert popularity[:60].sum() > 0.2 * popularity.sum()  # an even share would be 0.1
  assert popularity[0] > 5 * popularity[-1]


def test_centroids_cannot_be_written_to():
  with pytest.raises(ValueError, match="read-only"):
    purchase_synthetic.centroids(0)[0, 0] = 1


def test_the_last_row_of_the_largest_index_is_drawn():
  x, _ = purchase_synthetic.generate(1, start=2**62, seed=2**64 - 1)
  assert x.shape == (1, 600)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"num_examples": 0}, "num_examples=0 must be an integer from 1"),
    ({"num_examples": -3}, "num_examples=-3"),
    ({"num_examples": 2.0}, r"num_examples=2\.0"),
    ({"num_examples": 5, "seed": -1}, "seed=-1 must be an integer from 0"),
    ({"num_examples": 5, "seed": 2**64}, "seed=18446744073709551616"),
    ({"num_examples": 5, "start": -1}, "start=-1 must be an integer from 0"),
    ({"num_examples": 5, "start": "a"}, "start='a'"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    purchase_synthetic.generate(**arguments)


def test_centroids_of_a_bad_seed_are_refused():
  with pytest.raises(ValueError, match="seed=-1 must be an integer from 0"):
    purchase_synthetic.centroids(-1)


def test_the_description_says_synthetic():
  assert "synthetic" in purchase_synthetic.DESCRIPTION.lower()
  assert "SYNTHETIC" in purchase_synthetic.__doc__


def test_more_rows_than_memory_are_refused_before_any_is_drawn():
  with pytest.raises(ValueError, match=r"num_examples=1000000000000 rows would take"):
    purchase_synthetic.generate(10**12)
