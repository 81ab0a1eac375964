import numpy as np
import pytest

from jmia import attacks
from jmia.audit import copies

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 7, 9, 3)).astype(np.uint8)
BITS = RNG.integers(0, 2, (50, 200)).astype(np.uint8)
REALS = RNG.normal(3, [1.0, 10.0, 0.1, 5.0], (4000, 4)).astype(np.float32)
ALL = slice(None)


def _needs(*kinds, num_queries=1):
  return attacks.Needs(
    signals=tuple(f"correctness@{kind}" for kind in kinds), num_queries=num_queries
  )


def _reflected(image, row, column):
  """The pixel at a place that may be beyond the edge, by reflecting at the edge."""
  height, width = image.shape[:2]
  at = lambda i, size: i if 0 <= i < size else (-1 - i if i < 0 else 2 * size - 1 - i)  # noqa: E731
  return image[at(row, height), at(column, width)]


def test_queries_are_the_image_its_mirror_image_and_different_shifts_of_both():
  found = copies.plan(_needs("queries", num_queries=18), IMAGES, ALL, seed=3)["queries"]
  assert found.number == 18
  views = np.asarray(found.parameters)
  np.testing.assert_array_equal(views[:2, :3], [[0, 0, 0], [1, 0, 0]])
  assert len(np.unique(views, axis=0)) == 18
  assert np.abs(views[:, 1:3]).max() == 1
  for q, (mirrored, down, right, _) in enumerate(views.astype(int)):
    altered = np.asarray(found.of(q)(IMAGES, np.arange(6)))
    assert altered.dtype == np.uint8
    for image, copy in zip(IMAGES, altered, strict=True):
      source = image[:, ::-1] if mirrored else image
      expected = [
        [_reflected(source, r - down, c - right) for c in range(9)] for r in range(7)
      ]
      np.testing.assert_array_equal(copy, expected)


def test_more_queries_than_there_are_copies_are_refused():
  with pytest.raises(ValueError, match="num_queries=19, but an image of 7 x 9 pixels"):
    copies.plan(_needs("queries", num_queries=19), IMAGES, ALL, seed=0)


def test_copies_follow_the_seed_alone():
  draw = lambda seed: copies.plan(  # noqa: E731
    _needs("queries", "noisy", num_queries=9), IMAGES, ALL, seed=seed
  )
  one, same, other = draw((1, 2)), draw((1, 2)), draw((1, 3))
  for kind in ("queries", "noisy"):
    given = [
      np.asarray(of[kind].of(5)(IMAGES, np.arange(6))) for of in (one, same, other)
    ]
    np.testing.assert_array_equal(given[0], given[1])
  assert (given[0] != given[2]).any()


def test_turns_keep_what_lies_in_the_middle_and_undo_each_other():
  smooth = np.add.outer(np.arange(21.0), 2 * np.arange(21.0)).astype(np.float32)
  found = copies.plan(_needs("moved"), smooth[None], ALL, seed=0)["moved"]
  views = np.asarray(found.parameters)
  assert found.number == 20
  assert len(np.unique(views, axis=0)) == 20
  for q in np.flatnonzero(views[:, 3]):
    angle = np.deg2rad(views[q, 3])
    altered = np.asarray(found.of(q)(smooth[None], np.zeros(1, int)))[0]
    row, column = np.mgrid[-5:6, -5:6]
    # A plane is interpolated exactly: its value where each pixel comes from.
    expected = (np.cos(angle) * row - np.sin(angle) * column + 10) + 2 * (
      np.sin(angle) * row + np.cos(angle) * column + 10
    )
    np.testing.assert_allclose(altered[5:16, 5:16], expected, atol=1e-4)


def test_bits_are_turned_over_at_each_rate():
  found = copies.plan(_needs("moved", "noisy"), BITS, ALL, seed=0)
  assert list(found) == ["moved"]
  moved = found["moved"]
  rates = np.asarray(moved.parameters[0])
  shares = [
    (np.asarray(moved.of(q)(BITS, np.arange(50))) != BITS).mean()
    for q in range(moved.number)
  ]
  assert shares[0] == 0
  # 10,000 bits: four standard errors.
  np.testing.assert_allclose(shares, rates, atol=4 * np.sqrt(0.1 * 0.9 / 10_000))


def test_noise_is_in_units_of_the_populations_spread():
  found = copies.plan(_needs("noisy", "moved"), REALS, slice(1000, 3000), seed=0)
  assert list(found) == ["noisy"]
  noisy, spread = found["noisy"], REALS[1000:3000].std(axis=0)
  for q, strength in enumerate(np.asarray(noisy.parameters[0])):
    added = np.asarray(noisy.of(q)(REALS, np.arange(4000))) - REALS
    np.testing.assert_allclose(added.std(axis=0) / spread, strength, rtol=0.06)
    np.testing.assert_allclose(added.mean(axis=0) / spread, 0, atol=0.07)
  np.testing.assert_array_equal(noisy.of(0)(REALS, np.arange(4000)), REALS)


def test_a_row_has_the_same_copy_in_whatever_batch_it_is_asked():
  found = copies.plan(_needs("noisy"), REALS, ALL, seed=0)["noisy"]
  together = np.asarray(found.of(9)(REALS[:50], np.arange(50)))
  apart = np.asarray(found.of(9)(REALS[20:30], np.arange(20, 30)))
  np.testing.assert_array_equal(together[20:30], apart)
  assert (np.asarray(found.of(10)(REALS[:50], np.arange(50))) != together).any()


def test_pixels_stay_pixels():
  found = copies.plan(_needs("noisy"), IMAGES, ALL, seed=0)["noisy"]
  for q in (1, found.number - 1):
    altered = np.asarray(found.of(q)(IMAGES // 2, np.arange(6)))
    assert altered.dtype == np.uint8
    assert altered.max() <= IMAGES.max()
    assert (altered != IMAGES // 2).mean() > 0.5


def test_needs_are_cut_to_the_copies_that_there_are():
  needs = attacks.Needs(
    signals=("loss@queries", "loss", "correctness@moved"),
    groups={"reference": attacks.GroupNeeds(signals=("loss@queries",), out=1)},
    num_queries=4,
  )
  cut = copies.resolve(needs, {})
  assert cut.signals == ("loss",)
  assert cut.groups["reference"] == attacks.GroupNeeds(signals=("loss",), out=1)
  found = copies.plan(needs, IMAGES, ALL, seed=0)
  assert copies.resolve(needs, found) == needs
  assert copies.notes_of(needs, found) == []
  # Rows that are no images, or one query, have no copies to be asked about.
  assert list(copies.plan(needs, REALS, ALL, seed=0)) == []
  assert copies.notes_of(needs, {}) == [
    "num_queries=4, but the rows are no images, or not those that a network takes: they"
    " are asked about once, as they are"
  ]
  assert "queries" not in copies.plan(_needs("queries"), IMAGES, ALL, seed=0)
