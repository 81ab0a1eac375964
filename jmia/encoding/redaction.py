"""Redaction: images of which a part is blacked out before they are decoded.

Song and Shokri, Tables 5 and 6. A mask is `[H, W]` bool, true where pixels are kept.
"""

import numpy as np


def centre(height: int, width: int, side: int) -> np.ndarray:
  """Returns the mask that removes the `side x side` square in the middle.

  Raises:
    ValueError: if `side` is not from 1 to the smaller of height and width.
  """
  return ~_middle(height, width, side)


def boundary(height: int, width: int, side: int) -> np.ndarray:
  """Returns the mask that removes a frame, `side` pixels of each dimension in all.

  What is left is the middle `(height - side) x (width - side)`, as in the paper's Table
  5: of a 32 x 32 image and side 16 a quarter.

  Raises:
    ValueError: if `side` is not from 1 to one less than the smaller dimension.
  """
  if not 1 <= side < min(height, width):
    raise ValueError(f"side={side} must be from 1 to {min(height, width) - 1}")
  mask = np.zeros((height, width), bool)
  top, left = side // 2, side // 2
  mask[top : top + height - side, left : left + width - side] = True
  return mask


def blocks(height: int, width: int, number: int = 4) -> np.ndarray:
  """Returns `[number^2, H, W]` masks that each remove one block of a grid, by rows.

  Of 32 x 32 and number 4 these are the paper's 16 blocks of 8 x 8.

  Raises:
    ValueError: if `number` is not from 1 to the smaller dimension.
  """
  if not 1 <= number <= min(height, width):
    raise ValueError(f"number={number} must be from 1 to {min(height, width)}")
  rows = np.arange(height) * number // height
  columns = np.arange(width) * number // width
  block = rows[:, None] * number + columns
  return block != np.arange(number**2)[:, None, None]


def apply(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Returns images with the pixels that are not kept set to 0.

  Args:
    x: `[N, H, W, channels]` as stored.
    mask: `[H, W]` bool.

  Raises:
    ValueError: if x is not images of the mask's size.
  """
  if x.ndim != 4 or x.shape[1:3] != mask.shape:
    raise ValueError(f"x has shape {x.shape}, expected images of {mask.shape}")
  return np.where(mask[..., None], x, np.zeros((), x.dtype))


def _middle(height: int, width: int, side: int) -> np.ndarray:
  if not 1 <= side <= min(height, width):
    raise ValueError(f"side={side} must be from 1 to {min(height, width)}")
  mask = np.zeros((height, width), bool)
  top, left = (height - side) // 2, (width - side) // 2
  mask[top : top + side, left : left + side] = True
  return mask
