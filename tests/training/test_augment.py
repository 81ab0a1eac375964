"""Random flips: half of the images, each by its own draw."""

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
