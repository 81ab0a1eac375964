import io
import struct
import time
import zlib

import numpy as np
from PIL import Image
import pytest

from jmia.datasets import images

_GREY = np.random.default_rng(0).integers(256, size=(5, 4), dtype=np.uint8)
_COLOUR = np.random.default_rng(1).integers(256, size=(5, 4, 3), dtype=np.uint8)
_ALPHA = np.full((5, 4), 255, np.uint8)
_SHAPE = np.where(_GREY > 128, 255, 0).astype(np.uint8)  # drawn in alpha alone


def _save(tmp_path, image, kind="png", **options):
  path = tmp_path / f"own.{kind}"
  image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
  image.save(path, **options)
  return path


def _layers(*planes):
  return np.stack(planes, axis=2)


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tiff", "webp", "pgm"])
def test_grey_images(tmp_path, kind):
  found = images.read(_save(tmp_path, _GREY, kind, lossless=True))
  expected = _GREY[..., None]
  if kind in ("gif", "webp"):  # which know colours alone
    expected = np.repeat(expected, 3, axis=2)
  np.testing.assert_array_equal(found.values, expected)
  assert found.values.dtype == np.uint8
  assert not found.notes


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp", "ppm"])
def test_colour_images(tmp_path, kind):
  found = images.read(_save(tmp_path, _COLOUR, kind, lossless=True))
  np.testing.assert_array_equal(found.values, _COLOUR)
  assert not found.notes


def test_jpeg(tmp_path):
  smooth = np.full((16, 16, 3), [200, 100, 50], np.uint8)
  found = images.read(_save(tmp_path, smooth, "jpg", quality=95))
  assert np.abs(found.values.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_keeps_them(tmp_path, kind):
  deep = _GREY.astype(np.uint16) * 257 - 3 * (_GREY > 0)
  found = images.read(_save(tmp_path, deep.astype(np.uint16), kind))
  np.testing.assert_array_equal(found.values, deep[..., None])
  assert found.values.dtype == np.uint16


def _png(width, height, colour_type, depth, rows=b""):
  """A PNG of any header, by hand."""

  def chunk(name, content):
    checksum = zlib.crc32(name + content)
    return (
      struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
    )

  header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
  content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
  return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


def test_colour_of_16_bits_keeps_the_upper_8_and_says_so(tmp_path):
  deep = _COLOUR.astype(">u2") * 256 + 200
  path = tmp_path / "deep.png"
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
  path.write_bytes(_png(4, 5, 2, 16, rows))
  found = images.read(path)
  np.testing.assert_array_equal(found.values, _COLOUR)
  assert found.notes == ("of 16 bits a colour and read at 8",)


def test_a_palette_is_looked_up(tmp_path):
  indexed = Image.frombytes("P", (4, 5), (_GREY % 3).tobytes())
  indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
  expected = np.eye(3, dtype=np.uint8)[_GREY % 3] * 255
  found = images.read(_save(tmp_path, indexed))
  np.testing.assert_array_equal(found.values, expected)


def test_one_bit(tmp_path):
  bits = Image.fromarray(_SHAPE).convert("1")
  found = images.read(_save(tmp_path, bits))
  np.testing.assert_array_equal(found.values[..., 0], _SHAPE)


def test_cmyk_becomes_rgb(tmp_path):
  inks = np.zeros((16, 16, 4), np.uint8)
  inks[..., 0] = 255  # cyan: no red
  found = images.read(_save(tmp_path, Image.fromarray(inks, "CMYK"), "jpg"))
  assert np.abs(found.values.astype(int) - [0, 255, 255]).max() <= 4


def test_what_is_transparent_is_drawn_on_white(tmp_path):
  black = np.zeros_like(_GREY)
  drawn = _save(tmp_path, _layers(black, black, black, _SHAPE))
  found = images.read(drawn)
  np.testing.assert_array_equal(found.values, _layers(*[255 - _SHAPE] * 3))
  assert found.notes == ("drawn on white where they are transparent",)
  grey = _save(
    tmp_path, Image.merge("LA", [Image.fromarray(p) for p in (black, _SHAPE)])
  )
  found = images.read(grey)
  np.testing.assert_array_equal(found.values[..., 0], 255 - _SHAPE)


def test_an_opaque_alpha_changes_nothing(tmp_path):
  layers = _layers(*np.moveaxis(_COLOUR, 2, 0), _ALPHA)
  found = images.read(_save(tmp_path, layers))
  np.testing.assert_array_equal(found.values, _COLOUR)
  assert not found.notes


def test_a_transparent_colour_of_a_palette(tmp_path):
  indexed = Image.frombytes("P", (4, 5), (_GREY % 2).tobytes())
  indexed.putpalette([9, 9, 9, 70, 80, 90])
  found = images.read(_save(tmp_path, indexed, transparency=0))
  expected = np.where((_GREY % 2)[..., None], [70, 80, 90], 255)
  np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize(
  ("orientation", "upright"),
  [
    (1, lambda x: x),
    (3, lambda x: x[::-1, ::-1]),
    (6, lambda x: np.rot90(x, -1)),
    (8, lambda x: np.rot90(x)),
  ],
)
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_camera_turned_is_turned_back(tmp_path, orientation, upright, depth):
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored = _GREY.astype(depth)
  found = images.read(_save(tmp_path, stored, exif=exif))
  np.testing.assert_array_equal(found.values[..., 0], upright(stored))


def test_grey_images_among_coloured_ones(tmp_path):
  first = _save(tmp_path, _COLOUR, "png")
  second = _save(tmp_path, _GREY, "bmp")
  found = images.read_all([first, second])
  np.testing.assert_array_equal(found.values[1], _layers(*[_GREY] * 3))


def _animation(tmp_path, kind):
  frames = [Image.fromarray(a) for a in (_COLOUR, 255 - _COLOUR)]
  return _save(tmp_path, frames[0], kind, save_all=True, append_images=frames[1:])


def _bytes(tmp_path, content):
  path = tmp_path / "own.png"
  path.write_bytes(content)
  return path


def _float(tmp_path):
  return _save(tmp_path, Image.fromarray(_GREY.astype(np.float32)), "tiff")


def _deep(tmp_path, values):
  return _save(tmp_path, Image.fromarray(values.astype(np.int32)), "tiff")


def _cut(tmp_path):
  path = _save(tmp_path, np.tile(_COLOUR, (20, 20, 1)))
  return _bytes(tmp_path, path.read_bytes()[:200])


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda d: _animation(d, "gif"), r"own\.gif: .* 2 images .animation or pages"),
    (lambda d: _animation(d, "png"), "2 images"),
    (lambda d: _animation(d, "tiff"), "2 images"),
    (lambda d: _animation(d, "webp"), "2 images"),
    (_float, "it holds floats"),
    (lambda d: _deep(d, _GREY * 1_000.0), "expected 0 to 65535"),
    (lambda d: _deep(d, _GREY - 255.0), "expected 0 to 65535"),
    (_cut, "own.png: not a whole image"),
    (lambda d: _bytes(d, b""), "own.png: not a whole image"),
    (lambda d: _bytes(d, b"<svg></svg>"), "own.png: not a whole image"),
    (lambda d: _bytes(d, b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not a whole image"),
    (lambda d: _bytes(d, _png(4, 5, 0, 16)), "not a whole image"),
    (
      lambda d: _save(d, _layers(_ALPHA, _ALPHA, _ALPHA, _SHAPE)),
      "white on white where not transparent",
    ),
  ],
)
def test_what_has_no_one_reading_is_refused(tmp_path, make, message):
  path = make(tmp_path)
  with pytest.raises(ValueError, match=message) as caught:
    images.read(path)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
  path = _bytes(tmp_path, _png(side, side, 2, 8, bytes(1_000)))
  start = time.process_time()
  with pytest.raises(ValueError, match=r"own\.png.*(pixels|not a whole image)"):
    images.read(path)
  assert time.process_time() - start < 1


def test_all_images_together_must_fit_into_memory(tmp_path, monkeypatch):
  path = _save(tmp_path, _COLOUR)
  monkeypatch.setattr(images.memory, "_physical", lambda: 100)
  with pytest.raises(ValueError, match=r"3 images like .*own\.png would take"):
    images.read_all([path] * 3)


def test_damaged_images_are_refused_in_one_line(tmp_path):
  """Whatever bytes are wrong: Pillow's own errors are of many types."""
  rng = np.random.default_rng(2)
  refused = []
  for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"):
    buffer = io.BytesIO()
    Image.fromarray(_COLOUR).save(buffer, kind)
    whole = np.frombuffer(buffer.getvalue(), np.uint8)
    for _ in range(40):
      damaged = whole[: rng.integers(len(whole))].copy()
      flips = rng.integers(len(whole), size=5)
      damaged = whole.copy() if rng.random() < 0.5 else damaged
      damaged[flips[flips < len(damaged)]] ^= 255
      path = _bytes(tmp_path, damaged.tobytes())
      try:
        images.read(path)
      except ValueError as error:
        refused.append(str(error))
  assert len(refused) > 100
  assert all(str(tmp_path / "own.png") in message for message in refused)


def test_absent_image(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.png"):
    images.read(tmp_path / "none.png")
