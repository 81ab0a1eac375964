import numpy as np
import pytest

from jmia.encoding import redaction


def test_centre_and_boundary():
  centre = redaction.centre(6, 8, 2)
  assert not centre[2:4, 3:5].any()
  assert centre.sum() == 48 - 4
  boundary = redaction.boundary(6, 8, 2)
  assert boundary[1:5, 1:7].all()
  assert boundary.sum() == 24
  odd = redaction.boundary(6, 6, 3)
  assert odd.sum() == 9


@pytest.mark.parametrize("side", [4, 8, 12, 16])
def test_the_papers_sizes(side):
  assert redaction.centre(32, 32, side).sum() == 32**2 - side**2
  assert redaction.boundary(32, 32, side).sum() == (32 - side) ** 2


def test_blocks_tile_the_image():
  masks = redaction.blocks(32, 32)
  assert masks.shape == (16, 32, 32)
  assert ((~masks).sum(0) == 1).all()
  assert not masks[6, 8:16, 16:24].any()
  assert ((~masks).sum((1, 2)) == 64).all()
  assert ((~redaction.blocks(28, 28, 4)).sum((1, 2)) == 49).all()


def test_apply():
  x = np.arange(1, 33, dtype=np.uint8).reshape(2, 4, 4, 1)
  found = redaction.apply(x, redaction.centre(4, 4, 2))
  assert found.dtype == np.uint8
  assert (found[:, 1:3, 1:3] == 0).all()
  np.testing.assert_array_equal(found[:, 0], x[:, 0])


def test_errors():
  for side in (0, 33):
    with pytest.raises(ValueError, match=f"side={side}"):
      redaction.centre(32, 32, side)
  for side in (0, 32):
    with pytest.raises(ValueError, match=f"side={side}"):
      redaction.boundary(32, 32, side)
  with pytest.raises(ValueError, match="number=33"):
    redaction.blocks(32, 32, 33)
  with pytest.raises(ValueError, match="x has shape"):
    redaction.apply(np.zeros((2, 5, 4, 1)), redaction.centre(4, 4, 2))
