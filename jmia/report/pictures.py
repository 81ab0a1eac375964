"""Samples' pictures as `data:` addresses for a page that loads nothing."""

import base64
import io

import numpy as np

_LARGEST = 96  # pixels of a side; larger ones are made smaller


def address(image: np.ndarray) -> str:
  """Returns a PNG as a `data:` address.

  Args:
    image: `[H, W, 1 or 3]` uint8.
  """
  from PIL import Image

  is_grey = image.shape[-1] == 1
  picture = Image.fromarray(image[..., 0] if is_grey else image)
  picture.thumbnail((_LARGEST, _LARGEST))
  content = io.BytesIO()
  picture.save(content, format="PNG", optimize=True)
  return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
