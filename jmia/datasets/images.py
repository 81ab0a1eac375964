"""The one reader of image files: what a file shows is what comes out, or it is refused.

| image | becomes |
|---|---|
| grey of 1 to 8 bits, colour of 8, palette, CMYK | uint8 `[H, W, 1 or 3]` |
| grey of 16 bits | uint16 `[H, W, 1]`, nothing cut off |
| colour of 16 bits | uint8: the upper half of each value; said |
| with transparency | drawn on white; refused if nothing is left to see; said |
| turned by its EXIF data, as a camera's | upright |
| animated, of several pages, of floats, of over 67 million pixels | refused |

Sizes are read from the header and checked before memory is taken.
"""

from collections.abc import Sequence
import pathlib
from typing import TYPE_CHECKING, NamedTuple
import warnings

import numpy as np

from jmia.datasets import memory

if TYPE_CHECKING:
  from PIL import Image

# No others: Pillow would start Ghostscript for some, and each is code that a hostile
# file could be written for.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
SUFFIXES = (
  ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm",
  ".jp2",
)  # fmt: skip
_MOST_PIXELS = 1 << 26
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
_DEEP = ("I", "I;16", "I;16B", "I;16L")
_TRANSPARENT = "drawn on white where they are transparent"
_HALVED = "of 16 bits a colour and read at 8"


class Picture(NamedTuple):
  """An image.

  Attributes:
    values: `[H, W, 1 or 3]` uint8, or uint16 if grey.
    notes: what was done to it: "drawn on white where they are transparent".
  """

  values: np.ndarray
  notes: tuple[str, ...] = ()


class Pictures(NamedTuple):
  """Images of one shape.

  Attributes:
    values: `[N, H, W, 1 or 3]` uint8 or uint16.
    notes: what was done to some of them, a sentence each.
  """

  values: np.ndarray
  notes: tuple[str, ...] = ()


def read(path: pathlib.Path, *, as_colour: bool = False) -> Picture:
  """Reads an image file, as the module says.

  Args:
    path: the file.
    as_colour: whether a grey image is to become a coloured one.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no whole image, or one that is refused; names the file.
  """
  from PIL import Image

  try:
    with warnings.catch_warnings():
      # Of too many pixels, or of damage that Pillow would read around.
      warnings.simplefilter("error", RuntimeWarning)
      warnings.simplefilter("error", UserWarning)
      with Image.open(path, formats=FORMATS) as image:
        _check(image)
        notes = (_HALVED,) if _is_halved(image) else ()
        return _read(image, as_colour, notes)
  except FileNotFoundError:
    raise
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise ValueError(f"{path}: of more than {_MOST_PIXELS:,} pixels") from error
  except Exception as error:  # Pillow documents none for files that are damaged
    raise ValueError(f"{path}: not a whole image: {error}") from error


def read_all(files: Sequence[pathlib.Path]) -> Pictures:
  """Reads images of one shape; grey ones are taken for coloured if the first is.

  Args:
    files: at least one.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: an image is refused, or of another shape or depth than the first, or all
      together do not fit into memory; names the file.
  """
  first = read(files[0]).values
  memory.check(f"{len(files):,} images like {files[0]}", len(files) * first.nbytes)
  values = np.empty((len(files), *first.shape), first.dtype)
  counts: dict[str, int] = {}
  for row, file in zip(values, files, strict=True):
    picture = read(file, as_colour=first.shape[2] == 3)
    if picture.values.shape != first.shape:
      raise ValueError(
        f"{file}: of shape {picture.values.shape}, expected {first.shape} as "
        f"{files[0].name}; bring all to one size and kind first"
      )
    if picture.values.dtype != first.dtype:
      raise ValueError(
        f"{file}: of {8 * picture.values.itemsize} bits, expected "
        f"{8 * first.itemsize} as {files[0].name}"
      )
    row[...] = picture.values
    for note in picture.notes:
      counts[note] = counts.get(note, 0) + 1
  notes = (f"{n:,} of {len(files):,} images are {note}." for note, n in counts.items())
  return Pictures(values, tuple(notes))


def _check(image: "Image.Image") -> None:
  """Refuses what has no one right reading, or is too large, by its header."""
  width, height = image.size
  if width * height > _MOST_PIXELS:
    raise ValueError(f"{width} x {height} are more than {_MOST_PIXELS:,} pixels")
  frames = getattr(image, "n_frames", 1)
  # A camera's second picture in an MPO is of the same scene, for 3D or a preview.
  if frames > 1 and image.format != "MPO":
    raise ValueError(f"it holds {frames} images (animation or pages), expected 1")
  if image.mode == "F":
    raise ValueError("it holds floats, whose white is unknown; give an .npz")


def _is_halved(image: "Image.Image") -> bool:
  """Whether Pillow keeps the upper 8 of a colour's 16 bits."""
  if image.mode in _DEEP:
    return False
  return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _read(image: "Image.Image", as_colour: bool, notes: tuple[str, ...]) -> Picture:
  """The pixels of an open image."""
  from PIL import ImageOps

  is_grey = image.mode in _GREY
  if image.mode in _DEEP:
    if as_colour:
      raise ValueError("it is grey of 16 bits among coloured images")
    if "transparency" in image.info:
      raise ValueError("it is grey of 16 bits with a transparent value")
    values = np.asarray(ImageOps.exif_transpose(image))
    if values.min() < 0 or values.max() > 65_535:
      raise ValueError(
        f"its values are {values.min()} to {values.max()}, expected 0 to 65535; give "
        "an .npz"
      )
    return Picture(values.astype(np.uint16)[..., None], notes)
  image = ImageOps.exif_transpose(image)
  if image.has_transparency_data:
    image, is_seen = _on_white(image)
    notes = (*notes, _TRANSPARENT) if is_seen else notes
  values = np.asarray(image.convert("L" if is_grey and not as_colour else "RGB"))
  return Picture(values.reshape(*values.shape[:2], -1), notes)


def _on_white(image: "Image.Image") -> tuple["Image.Image", bool]:
  """The image drawn on white, and whether that made any difference."""
  from PIL import Image

  layered = image.convert("RGBA")
  alpha = np.asarray(layered.getchannel("A"))
  if (alpha == 255).all():
    return layered.convert("RGB"), False
  white = Image.new("RGBA", layered.size, "white")
  drawn = Image.alpha_composite(white, layered).convert("RGB")
  if (np.asarray(drawn) == 255).all():
    raise ValueError("it is white on white where not transparent; give it a background")
  return drawn, True
