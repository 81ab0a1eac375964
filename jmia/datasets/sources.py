"""What is known of the datasets that are read through TFDS, before they are read."""

import pathlib
from typing import NamedTuple

from jmia.datasets import archives


class Source(NamedTuple):
  """What we know of a TFDS dataset before it is read.

  Attributes:
    feature: the key of its features; labels are always under `label`.
    splits: the splits we use, train first.
    num_classes: number of classes.
    feature_scale: as in `types.Dataset`.
    description: as in `types.Dataset`.
  """

  feature: str
  splits: tuple[str, ...]
  num_classes: int
  feature_scale: float
  description: str


def _images(num_classes: int, description: str) -> Source:
  return Source("image", ("train", "test"), num_classes, 1 / 255, description)


def _bits(num_classes: int, description: str) -> Source:
  return Source("features", ("train",), num_classes, 1.0, description)


SOURCES = {
  "location30": _bits(
    30, "Location-30: 446 places that 5,010 Foursquare users in Bangkok visited or not."
  ),
  "purchase100": _bits(
    100, "Purchase-100: 600 products that 197,324 Kaggle shoppers bought or not."
  ),
  "texas100": _bits(
    100, "Texas-100: 6,169 attributes of 67,330 hospital stays, present or not."
  ),
  "mnist": _images(10, "MNIST: 70,000 handwritten digits of 28 x 28 grey pixels."),
  "cifar10": _images(10, "CIFAR-10: 60,000 photographs of 32 x 32 colour pixels."),
  "cifar100": _images(100, "CIFAR-100: 60,000 photographs of 32 x 32 colour pixels."),
  "stl10": _images(10, "STL-10: 13,000 labelled photographs of 96 x 96 colour pixels."),
}


def local_archive(name: str, data_dir: pathlib.Path) -> pathlib.Path | None:
  """Where the dataset's original archive lies in the manual directory, if it does."""
  if name not in archives.ARCHIVES:
    return None
  path = data_dir / "downloads" / "manual" / archives.ARCHIVES[name].file
  return path if path.is_file() else None


def first_line(error: Exception) -> str:
  """An error's type and the first line of its message."""
  message = str(error).strip().splitlines()
  return f"{type(error).__name__}: {message[0]}" if message else type(error).__name__
