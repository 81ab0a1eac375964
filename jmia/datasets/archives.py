"""The original archives of Location-30, Purchase-100 and Texas-100, read to arrays.

Published with Shokri et al., *Membership Inference Attacks Against Machine Learning
Models* (S&P 2017), https://github.com/privacytrustlab/datasets. All are tables of
bits, one row a person, with labels from 1.

Song & Shokri's 5-class Purchase and 10-class Texas are these features under other
labels, from a clustering that was not published with them. Each would be one more
`Archive` here over the same file, with labels of its own, and one more builder in
`builders`.
"""

from collections.abc import Iterator
import gzip
import hashlib
import pathlib
import tarfile
from typing import IO, NamedTuple
import zlib

import numpy as np

_URL = "https://github.com/privacytrustlab/datasets/raw/master"
_CHUNK = 1 << 20


class Archive(NamedTuple):
  """What one archive holds.

  Attributes:
    file: its file name.
    features: the member with one row of comma-separated bits a line.
    labels: the member with one label a line; None where the label is the first
      column of `features`.
    num_examples: number of rows.
    num_features: bits per row.
    num_classes: number of classes.
    size: bytes of the archive, None where not known.
    sha256: its digest, None where not known.
  """

  file: str
  features: str
  labels: str | None
  num_examples: int
  num_features: int
  num_classes: int
  size: int | None = None
  sha256: str | None = None

  @property
  def url(self) -> str:
    """Where the publisher keeps it."""
    return f"{_URL}/{self.file}"


class ArchiveError(ValueError):
  """An archive that is not what its publisher released."""


ARCHIVES = {
  "location30": Archive(
    file="dataset_location.tgz",
    features="bangkok",
    labels=None,
    num_examples=5_010,
    num_features=446,
    num_classes=30,
    size=287_293,
    sha256="927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
  ),
  "purchase100": Archive(
    file="dataset_purchase.tgz",
    features="dataset_purchase",
    labels=None,
    num_examples=197_324,
    num_features=600,
    num_classes=100,
  ),
  "texas100": Archive(
    file="dataset_texas.tgz",
    features="texas/100/feats",
    labels="texas/100/labels",
    num_examples=67_330,
    num_features=6_169,
    num_classes=100,
  ),
}


def digest(path: pathlib.Path) -> str:
  """Returns a file's SHA-256 in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def check(archive: Archive, path: pathlib.Path) -> str:
  """Returns the SHA-256 of the archive at `path`.

  Raises:
    ArchiveError: if it is not the one known for this archive.
  """
  found, size = digest(path), path.stat().st_size
  if archive.sha256 is None or archive.sha256 == found:
    return found
  cause = "truncated" if size < (archive.size or 0) else "altered"
  raise ArchiveError(
    f"{path}: archive is {cause}: {size} bytes with sha256 {found[:12]}..., expected "
    f"{archive.size} bytes with sha256 {archive.sha256[:12]}... ({archive.url})"
  )


def read(archive: Archive, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Reads an archive to arrays, rows in the file's order.

  Args:
    archive: what it should hold.
    path: where it lies.

  Returns:
    Features, uint8 bits `[N, F]`, and labels from 0, int32 `[N]`.

  Raises:
    ArchiveError: if the archive is truncated, altered, or its table is not as stated.
  """
  check(archive, path)
  try:
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
      table = _read_members(archive, tar)
      while stream.read(_CHUNK):  # To the end, where gzip keeps its checksum.
        pass
      return table
  except (tarfile.TarError, EOFError, zlib.error, OSError, KeyError) as error:
    raise ArchiveError(f"{path}: archive is truncated or altered ({error})") from error
  except ValueError as error:
    raise ArchiveError(f"{path}: {error}") from error


def _read_members(
  archive: Archive, tar: tarfile.TarFile
) -> tuple[np.ndarray, np.ndarray]:
  """Features and labels of an open archive."""
  x = np.empty((archive.num_examples, archive.num_features), np.uint8)
  y = np.zeros(archive.num_examples, np.int32)
  for i, line in _lines(archive, tar, archive.features):
    if archive.labels is None:
      label, _, line = line.partition(b",")
      y[i] = _label(label, archive.num_classes, i)
    x[i] = _bits(line, archive.num_features, i)
  if archive.labels is not None:
    for i, line in _lines(archive, tar, archive.labels):
      y[i] = _label(line, archive.num_classes, i)
  return x, y


def _lines(
  archive: Archive, tar: tarfile.TarFile, member: str
) -> Iterator[tuple[int, bytes]]:
  """The member's lines, numbered from 0, if there are as many as there should be."""
  file: IO[bytes] | None = tar.extractfile(member)
  if file is None:
    raise ValueError(f"{member} is not a file")
  num_lines = 0
  filled = (line.strip() for line in file if not line.isspace())
  for num_lines, line in enumerate(filled, start=1):
    if num_lines > archive.num_examples:
      break
    yield num_lines - 1, line
  if num_lines != archive.num_examples:
    count = "more" if num_lines > archive.num_examples else num_lines
    raise ValueError(f"{member} has {count} rows, expected {archive.num_examples}")


def _label(text: bytes, num_classes: int, row: int) -> int:
  """A label that counts from 1, plain or in quotes, as one that counts from 0."""
  try:
    label = float(text.strip(b'"'))
  except ValueError:
    label = 0.0
  if not (label.is_integer() and 1 <= label <= num_classes):
    raise ValueError(
      f"row {row} has label {text[:20]!r}, expected a number from 1 to {num_classes}"
    )
  return int(label) - 1


def _bits(text: bytes, num_features: int, row: int) -> np.ndarray:
  """One row of comma-separated bits."""
  # "0,1,1" as bytes: the even ones are the digits. Parsing numbers takes 20 times
  # as long, over the 415 million of Texas-100; it is for files written otherwise.
  codes = np.frombuffer(text, np.uint8)
  if len(codes) == 2 * num_features - 1 and (codes[1::2] == ord(",")).all():
    bits = codes[::2] - ord("0")
  else:
    bits = np.array(text.split(b","), np.float32)
  if len(bits) != num_features or not ((bits == 0) | (bits == 1)).all():
    raise ValueError(f"row {row} is not {num_features} comma-separated bits")
  return bits
