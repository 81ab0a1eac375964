import tracemalloc

import numpy as np
import pytest
from scipy import stats

from jmia import splits, types

POPULATION = np.arange(100, 120)


def test_draws_are_subsets_without_repetition():
  drawn = splits.draw(POPULATION, 7, 50, seed=0)
  assert drawn.member_idx.shape == (50, 7)
  assert drawn.member_idx.dtype == drawn.num_members.dtype == np.int32
  assert drawn.num_members.tolist() == [7] * 50
  assert np.isin(drawn.member_idx, POPULATION).all()
  assert all(len(set(row)) == 7 for row in drawn.member_idx)


def test_draws_are_uniform_and_independent():
  num_models = 20_000
  drawn = splits.draw(np.arange(6), 3, num_models, seed=1)
  mask = splits.member_mask(drawn, 6)
  # Of 20 subsets each is as likely, for a model and given the model before it.
  codes = np.unique(mask @ 2 ** np.arange(6), return_inverse=True)[1]
  assert codes.max() == 19
  assert stats.chisquare(np.bincount(codes)).pvalue > 1e-3
  pairs = np.bincount(20 * codes[::2] + codes[1::2], minlength=400)
  assert stats.chisquare(pairs).pvalue > 1e-3


def test_a_models_draw_depends_on_the_seed_and_on_it_alone():
  few, many = (splits.draw(POPULATION, 7, m, seed=3).member_idx for m in (2, 9))
  np.testing.assert_array_equal(few, many[:2])
  again = splits.draw(POPULATION, 7, 9, seed=3).member_idx
  np.testing.assert_array_equal(again, many)
  other = splits.draw(POPULATION, 7, 9, seed=4).member_idx
  assert (other != many).any(axis=1).all()


def test_seeds_and_streams_do_not_coincide():
  # NumPy pads a seed with zeros: naively (5,) for a split and (5, 0) for model 0 are
  # one generator, and a target's members are those of its first reference model.
  split = splits.audit(20, num_members=7, num_nonmembers=7, seed=5)
  drawn = splits.draw(np.arange(20), 7, 1, seed=5)
  assert set(drawn.member_idx[0]) != set(split.members)
  nested = splits.draw(np.arange(20), 7, 1, seed=(5, 1))
  assert set(nested.member_idx[0]) != set(drawn.member_idx[0])


@pytest.mark.parametrize("size", [20, 21])
def test_pairs_are_complements(size):
  population = np.arange(size) * 2
  paired = splits.paired(population, 4, seed=0)
  mask = splits.member_mask(paired, 2 * size)
  np.testing.assert_array_equal(
    mask[0::2], ~mask[1::2] & (np.arange(2 * size) % 2 == 0)
  )
  np.testing.assert_array_equal(mask.sum(axis=0)[::2], 4)
  assert paired.num_members.tolist() == [-(-size // 2), size // 2] * 4
  assert paired.member_idx.shape == (8, -(-size // 2))
  assert len(np.unique(mask, axis=0)) == 8


def test_ragged_pads_with_a_models_own_member():
  stacked = splits.ragged([np.array([4]), np.array([7, 5, 6])])
  assert stacked.member_idx.tolist() == [[4, 4, 4], [7, 5, 6]]
  assert stacked.num_members.tolist() == [1, 3]
  assert stacked.member_idx.dtype == np.int32


def test_without_each_leaves_one_out():
  left = splits.without_each(np.array([3, 1, 2]), np.array([1, 3]))
  assert left.member_idx.tolist() == [[3, 2], [1, 2]]
  assert left.num_members.tolist() == [2, 2]


def test_member_mask_by_hand():
  parts = types.Splits(np.array([[2, 0, 2], [1, 2, 3]]), np.array([2, 3]))
  expected = [[True, False, True, False], [False, True, True, True]]
  assert splits.member_mask(parts, 4).tolist() == expected


def test_concatenate_keeps_every_model():
  joined = splits.concatenate(
    splits.ragged([np.array([1, 2, 3])]),
    splits.ragged([np.array([5]), np.array([6, 7])]),
  )
  assert joined.member_idx.tolist() == [[1, 2, 3], [5, 5, 5], [6, 7, 6]]
  assert joined.num_members.tolist() == [3, 1, 2]


def test_an_audits_parts_are_disjoint_and_drawn():
  split = splits.audit(50, num_members=10, num_nonmembers=15, seed=2)
  assert [len(part) for part in split] == [10, 15, 25]
  assert sorted(np.concatenate(split)) == list(range(50))
  assert all(part.dtype == np.int32 for part in split)
  fewer = splits.audit(50, num_members=10, num_nonmembers=15, num_population=5, seed=2)
  np.testing.assert_array_equal(fewer.population, split.population[:5])
  np.testing.assert_array_equal(fewer.members, split.members)
  counts = sum(
    np.isin(np.arange(10), splits.audit(
      10, num_members=3, num_nonmembers=3, seed=seed
    ).members)
    for seed in range(2000)
  )  # fmt: skip
  # Each row is a member 600 times, give or take sqrt(2000 * 0.3 * 0.7) = 20.5.
  assert np.abs(counts - 600).max() < 4.5 * 20.5


def test_a_sound_split_passes():
  split = splits.audit(50, num_members=10, num_nonmembers=15, seed=2)
  found = splits.check_disjoint(split, 50)
  for part, expected in zip(found, split, strict=True):
    np.testing.assert_array_equal(part, expected)


def test_a_split_of_lists_and_masks():
  mask = np.array([False, True, False, True])
  found = splits.check_disjoint(types.AuditSplit([2], mask, np.array([0])), 4)
  assert [part.tolist() for part in found] == [[2], [1, 3], [0]]
  assert all(part.dtype == np.int32 for part in found)


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    (([0, 1], [2], [1, 3]), "population overlaps .*1 rows, first 1"),
    (([0, 1], [0, 1, 2], [3]), "nonmembers overlaps .*2 rows, first 0"),
    (([0, 4], [1], [2]), "members holds rows 0 to 4, expected 0 to 3"),
    (([0], [-1], [2]), "nonmembers holds rows -1 to -1"),
    (([0, 0], [1], [2]), "members holds a row more than once"),
    (([0], [], [2]), r"nonmembers has shape \(0,\)"),
    (([0], [1.0], [2]), "nonmembers has shape .* dtype float64"),
    (([0], [[1]], [2]), r"nonmembers has shape \(1, 1\)"),
    (([0], [True, False], [2]), "nonmembers has shape .* dtype bool"),
    (([0], ["1"], [2]), "nonmembers has shape .* dtype <U1"),
  ],
)
def test_an_unsound_split_is_refused(parts, message):
  split = types.AuditSplit(*map(np.array, parts))
  with pytest.raises(ValueError, match=message):
    splits.check_disjoint(split, 4)


def test_parts_are_disjoint_equal_and_drawn_at_random():
  parts = splits.parts(POPULATION, 3, seed=0)
  assert [len(part) for part in parts] == [6, 6, 6]
  joined = np.concatenate(parts)
  assert joined.dtype == np.int32
  assert len(np.unique(joined)) == 18
  assert set(joined) <= set(POPULATION)
  again, other = (splits.parts(POPULATION, 3, seed=seed) for seed in (0, 1))
  np.testing.assert_array_equal(joined, np.concatenate(again))
  assert not np.array_equal(joined, np.concatenate(other))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: splits.draw(POPULATION, 21, 1, seed=0), "num_members=21 .* 20 rows"),
    (lambda: splits.draw(POPULATION, 0, 1, seed=0), "num_members=0"),
    (lambda: splits.draw(POPULATION, 1, 0, seed=0), "num_models=0"),
    (lambda: splits.draw(np.array([1, 1]), 1, 1, seed=0), "population holds a row"),
    (lambda: splits.paired(POPULATION, 0, seed=0), "num_pairs=0"),
    (lambda: splits.paired(POPULATION[:1], 1, seed=0), "population has 1 rows"),
    (lambda: splits.parts(POPULATION, 0, seed=0), "num_parts=0"),
    (lambda: splits.parts(POPULATION, 21, seed=0), "num_parts=21 .* 20 rows"),
    (lambda: splits.ragged([]), "members is empty"),
    (lambda: splits.ragged([[1], []]), r"members\[1\] has shape"),
    (lambda: splits.ragged([[1], [2, 2]]), r"members\[1\] holds a row more"),
    (lambda: splits.without_each([1, 2], [1, 3]), "left_out holds row 3"),
    (lambda: splits.without_each([1], [1]), "members has 1 row"),
    (
      lambda: splits.audit(9, num_members=5, num_nonmembers=5, seed=0),
      "num_members=5 .* num_nonmembers=5 .* exceed the 9 examples",
    ),
    (
      lambda: splits.audit(10, num_members=5, num_nonmembers=5, seed=0),
      "num_population=1 exceed the 10 examples",
    ),
    (
      lambda: splits.audit(
        10, num_members=3, num_nonmembers=3, num_population=5, seed=0
      ),
      "num_population=5 exceed the 10 examples",
    ),
    (
      lambda: splits.audit(
        10, num_members=3, num_nonmembers=3, num_population=0, seed=0
      ),
      "num_population=0 must",
    ),
    (lambda: splits.audit(9, num_members=0, num_nonmembers=5, seed=0), "num_members=0"),
    (lambda: splits.audit(9, num_members=5, num_nonmembers=0, seed=0), "nonmembers=0"),
  ],
)
def test_bad_sizes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_draw_keeps_no_more_than_it_returns():
  population = np.arange(20_000)
  tracemalloc.start()
  drawn = splits.draw(population, 10, 50, seed=0)
  kept, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert kept < 2 * drawn.member_idx.nbytes + 2**16
  # A few copies of the population, and not one for each of 50 models (4 MB).
  assert peak < 20 * population.nbytes / 2
