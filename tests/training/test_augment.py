"""Random flips, crops, holes and distortions, each image by its own draw."""

import jax
import numpy as np
import pytest

from jmia.training import augment
from jmia.training import recipe as recipe_lib


def _batch(x):
  return recipe_lib.Batch(x, np.zeros((len(x), 2)), np.arange(len(x)), None)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
def test_images_are_mirrored_or_left(shape):
  x = np.random.default_rng(0).integers(256, size=(400, *shape), dtype=np.uint8)
  flip = jax.jit(lambda key: augment.random_flip(key, _batch(x), None, None).x)
  found = np.asarray(flip(jax.random.key(0)))
  assert found.dtype == np.uint8
  left = (found == x).all(axis=tuple(range(1, x.ndim)))
  np.testing.assert_array_equal(found[~left], x[~left][:, :, ::-1])
  assert abs(left.mean() - 0.5) < 4 * 0.5 / np.sqrt(400)
  np.testing.assert_array_equal(found, flip(jax.random.key(0)))
  assert (found != flip(jax.random.key(1))).any()


def test_what_is_no_image_is_refused():
  with pytest.raises(ValueError, match=r"x has shape \(5, 4\), expected images"):
    augment.random_flip(jax.random.key(0), _batch(np.zeros((5, 4))), None, None)


def _apply(transform, x, seed=0):
  run = jax.jit(lambda key: transform(key, _batch(x), None, None).x)
  return np.asarray(run(jax.random.key(seed)))


def _random_images(num=200, side=6):
  x = np.random.default_rng(0).integers(1, 17, size=(num, side, side, 2))
  return x.astype(np.uint8)


def test_crops_are_the_image_shifted_with_zeros_behind():
  x = _random_images()
  found = _apply(augment.random_crop(2), x)
  assert found.dtype == np.uint8
  padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
  seen = set()
  for image, out in zip(padded, found, strict=True):
    at = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if (image[i : i + 6, j : j + 6] == out).all()
    ]
    assert len(at) == 1
    seen.update(at)
  assert len(seen) == 25


def test_cutout_clears_a_square_around_any_pixel():
  x = _random_images()
  found = _apply(augment.cutout(3), x)
  kept = found == x
  assert (found[~kept] == 0).all()
  hole = ~kept.all(axis=-1)
  np.testing.assert_array_equal(hole, (~kept).all(axis=-1))
  for one in hole:
    rows, columns = np.nonzero(one)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert one.sum() == height * width  # a rectangle
    assert {height, width} <= {2, 3}  # two where the edge cuts it
  assert hole.any(axis=0).all()


def _augmented(config, x, feature_scale=1 / 16):
  for transform in augment.transforms(config, 1 / feature_scale):
    x = _apply(transform, x)
  return x


def test_crops_of_a_recipe_bring_in_the_reflection():
  x = _random_images()
  found = _augmented(augment.AugmentConfig(crop=2), x)
  padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect")
  seen = set()
  for image, out in zip(padded, found, strict=True):
    at = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if (image[i : i + 6, j : j + 6] == out).all()
    ]
    assert at
    seen.update(at)
  assert len(seen) == 25


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_squares_of_a_recipe_lie_inside_and_have_its_colour(dtype):
  x = _random_images().astype(dtype)
  config = augment.AugmentConfig(cutout=4, fill=(0.45, 0.6))
  found = _augmented(config, x, 1 / 64)
  # Of 64 for white; no image has such values. Bytes are rounded.
  expected = (29, 38) if dtype == np.uint8 else (28.8, 38.4)
  hole = (found != x).any(axis=-1)
  places = set()
  for one, image in zip(hole, found, strict=True):
    rows, columns = np.nonzero(one)
    assert one.sum() == 16
    assert np.ptp(rows) == np.ptp(columns) == 3
    places.add((rows[0], columns[0]))
    np.testing.assert_allclose(image[one], np.tile(expected, (16, 1)), rtol=1e-6)
  assert len(places) == 9


def test_a_colour_of_three_is_its_mean_on_grey_images():
  x = np.full((5, 6, 6, 1), 7, np.uint8)
  config = augment.AugmentConfig(cutout=6, fill=(0.25, 0.5, 0.75))
  assert set(np.unique(_augmented(config, x))) == {8}
  assert set(np.unique(_augmented(config, x[..., 0]))) == {8}


def test_a_recipe_without_augmentation_has_no_seam_and_flips_if_told():
  assert augment.transforms(augment.AugmentConfig(), 1.0) == []
  flips = augment.transforms(augment.AugmentConfig(flip=True), 1.0)
  assert flips == [augment.random_flip]


def test_rand_augment_keeps_type_and_range_and_leaves_out_what_was_not_drawn():
  x = _random_images()
  found = _apply(augment.rand_augment(0.5, 16.0), x)
  assert found.dtype == np.uint8
  assert found.max() <= 16
  assert (found != x).any(axis=(1, 2, 3)).mean() > 0.9
  # Without an amount an image stays as it is.
  neutral = augment._distort(x[0], np.zeros(7, np.float32), 16.0)
  np.testing.assert_array_equal(neutral, x[0])


def test_each_distortion_does_what_it_is_called():
  image = np.arange(25, dtype=np.float32).reshape(5, 5) / 25

  def distort(number, amount):
    return augment._distort(image, amount * np.eye(7, dtype=np.float32)[number], 1.0)

  np.testing.assert_allclose(distort(0, -0.5), image * 0.55, rtol=1e-5)
  low = distort(1, -1.0)  # less contrast about the same mean
  np.testing.assert_allclose(
    low, image.mean() + 0.1 * (image - image.mean()), rtol=1e-4
  )
  np.testing.assert_allclose(
    distort(2, 0.5), np.where(image > 0.5, 1 - image, image), rtol=1e-5
  )
  down = distort(3, 1 / 2.25)  # by one pixel of five
  np.testing.assert_allclose(down[:-1], image[1:], rtol=1e-5)
  np.testing.assert_allclose(down[-1], 0, atol=1e-6)
  np.testing.assert_allclose(distort(4, 1 / 2.25)[:, :-1], image[:, 1:], rtol=1e-5)
  # A shear leaves the middle row.
  np.testing.assert_allclose(distort(5, 1.0)[2], image[2], rtol=1e-5)
  turned = augment._distort(image, np.array([0, 0, 0, 0, 0, 0, 3.0]), 1.0)
  np.testing.assert_allclose(turned, np.rot90(image, -1), rtol=1e-5, atol=1e-6)


def test_bits_are_turned_over_at_the_rate():
  x = np.random.default_rng(0).integers(2, size=(100, 400), dtype=np.uint8)
  found = _apply(augment.bit_flip(0.1), x)
  assert set(np.unique(found)) == {0, 1}
  assert abs((found != x).mean() - 0.1) < 4 * 0.3 / np.sqrt(x.size)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: augment.random_crop(0), "padding=0"),
    (lambda: augment.cutout(0), "side=0"),
    (lambda: augment.AugmentConfig(crop=-1), "crop=-1"),
    (lambda: augment.AugmentConfig(cutout=-1), "cutout=-1"),
    (
      lambda: augment.cutout(7, inside=True)(
        jax.random.key(0), _batch(_random_images()), None, None
      ),
      r"cutout=7 does not fit into images of \(6, 6\)",
    ),
    (lambda: augment.rand_augment(1.5, 1.0), "magnitude=1.5"),
    (lambda: augment.rand_augment(0.5, 0.0), "white=0.0"),
    (lambda: augment.rand_augment(0.5, 1.0, 8), "num_operations=8 must be between"),
    (lambda: augment.bit_flip(2), "rate=2"),
    (
      lambda: augment.bit_flip(0.5)(None, _batch(np.zeros((2, 3))), None, None),
      "x has dtype float64, expected bits",
    ),
    (
      lambda: augment.cutout(2)(None, _batch(np.zeros((2, 3))), None, None),
      r"x has shape \(2, 3\), expected images",
    ),
  ],
)
def test_bad_settings_and_features_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
