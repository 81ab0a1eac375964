"""Canaries in somebody's data, each by a coin of its own."""

import numpy as np
import pytest

from jmia.dp import planting
from jmia.stats import one_run

N, M = 60, 20


def _data():
  """Rows that are told apart by their number, of three classes by name."""
  return np.arange(2 * N).reshape(N, 2), np.array(["a", "b", "c"])[np.arange(N) % 3]


def _pairs(x, y):
  return sorted(zip(x[:, 0].tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize("kind", planting.KINDS)
def test_training_set_is_the_other_rows_and_the_canaries_that_are_in(kind):
  x, y = _data()
  found = planting.plant(x, y, M, kind=kind, seed=1)
  np.testing.assert_array_equal(found.canary_x, x[found.rows])
  assert len(set(found.rows.tolist())) == M
  others = np.setdiff1d(np.arange(N), found.rows)
  expected = _pairs(x[others], y[others]) + _pairs(
    found.canary_x[found.is_in], found.canary_y[found.is_in]
  )
  assert _pairs(found.x, found.y) == sorted(expected)
  same = found.canary_y == y[found.rows]
  assert same.all() if kind == "natural" else not same.any()
  assert found.canary_x.dtype == x.dtype
  assert found.y.dtype == y.dtype


def test_wrong_labels_are_uniform_among_the_others():
  y = np.zeros(3000, int)
  y[:4] = [1, 1, 2, 3]
  found = planting.plant(np.zeros((3000, 1)), y, 2900, seed=0)
  of_zero = found.canary_y[y[found.rows] == 0]
  counts = np.bincount(of_zero, minlength=4)
  assert counts[0] == 0
  # Four standard errors of a third of some 2,900.
  assert (abs(counts[1:] - len(of_zero) / 3) < 4 * np.sqrt(len(of_zero) * 2 / 9)).all()


def test_coins_are_fair_and_depend_on_no_row():
  x, y = _data()
  seeds = range(400)
  is_in = np.zeros((400, N))
  counts = []
  for seed in seeds:
    found = planting.plant(x, y, M, seed=seed)
    is_in[seed, found.rows] = np.where(found.is_in, 1, -1)
    counts.append(found.is_in.sum())
  # Each row is in as often as out; the number in is a binomial's, not M / 2.
  assert abs(is_in.mean(axis=0)).max() < 4.5 * np.sqrt(M / N / 400)
  assert abs(np.mean(counts) - M / 2) < 4 * np.sqrt(M / 4 / 400)
  assert 0.7 < np.var(counts) / (M / 4) < 1.4


def test_order_of_the_training_set_tells_nothing():
  x, y = np.arange(200)[:, None], np.arange(200) % 2
  places = []
  for seed in range(50):
    found = planting.plant(x, y, 100, seed=seed)
    place = np.flatnonzero(np.isin(found.x[:, 0], found.rows))
    places.append(place.mean() / (len(found.x) - 1))
  assert abs(np.mean(places) - 0.5) < 4 * 0.29 / np.sqrt(50 * 50)


def test_a_seed_repeats_and_none_does_not():
  x, y = _data()
  one, two = (planting.plant(x, y, M, seed=3) for _ in range(2))
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)
  drawn = [planting.plant(x, y, M).rows.tolist() for _ in range(2)]
  assert drawn[0] != drawn[1]


def test_most_is_what_perfect_guesses_prove():
  is_in = np.arange(100) % 2 == 0
  expected = one_run.lower_bound(is_in.astype(float), is_in, delta=1e-5)
  assert planting.most(100, 1e-5) == expected
  assert 2.5 < expected < 3.5  # 3.49 where nothing is paid for the choice of guesses
  assert planting.most(8) > 0.4  # a few canaries are guessed half in, half out


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"num_canaries": 0}, "num_canaries=0 must be from 1 to 59"),
    ({"num_canaries": N}, "num_canaries=60 must be from 1 to 59"),
    ({"y": np.zeros(N - 1)}, r"x has shape \(60, 2\) and y \(59,\)"),
    ({"y": np.zeros(N)}, "y holds one class, 0.0"),
    ({"kind": "noise"}, "unknown canary 'noise'"),
  ],
)
def test_what_cannot_be_planted_is_refused(change, said):
  x, y = _data()
  with pytest.raises(ValueError, match=said):
    planting.plant(**{"x": x, "y": y, "num_canaries": M, "seed": 0, **change})
