"""Preparing TFDS datasets without TensorFlow: our builders, and the stock ones.

The only module that imports TFDS.
"""

from collections.abc import Callable, Iterator
import contextlib
import io
import pathlib
import sys
import types
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, downloader, extractor

from jmia.datasets import archives, sources

# TFDS's own 10 retries keep one waiting for three minutes where there is no network.
_MAX_RETRIES = 3


class _ArchiveBuilder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """A table of bits, prepared from its original archive in the archive's row order."""

  VERSION = tfds.core.Version("1.0.0")
  ARCHIVE: archives.Archive

  def __init_subclass__(cls, **kwargs):
    super().__init_subclass__(**kwargs)
    archive = cls.ARCHIVE
    if archive.sha256 is not None:
      info = checksums.UrlInfo(archive.size, archive.sha256, archive.file)
      cls.url_infos = {archive.url: info}

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      # Compressed: bytes of bits shrink to a tenth, and are digested on every load.
      "features": tfds.features.Tensor(
        shape=(self.ARCHIVE.num_features,),
        dtype=np.uint8,
        encoding=tfds.features.Encoding.ZLIB,
      ),
      "label": tfds.features.ClassLabel(num_classes=self.ARCHIVE.num_classes),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=sources.SOURCES[self.name].description,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=("features", "label"),
      homepage="https://github.com/privacytrustlab/datasets",
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    data_dir = pathlib.Path(self.data_dir).parents[1]
    path = sources.local_archive(self.name, data_dir)
    path = path or pathlib.Path(dl_manager.download(self.ARCHIVE.url))
    self.info.metadata["archive_sha256"] = archives.digest(path)
    return {"train": self._generate_examples(path)}

  def _generate_examples(self, path: pathlib.Path) -> Iterator[tuple[int, dict]]:
    x, y = archives.read(self.ARCHIVE, path)
    for i in range(len(y)):
      yield i, {"features": x[i], "label": int(y[i])}


class Location30(_ArchiveBuilder):
  """Location-30."""

  ARCHIVE = archives.ARCHIVES["location30"]


class Purchase100(_ArchiveBuilder):
  """Purchase-100."""

  ARCHIVE = archives.ARCHIVES["purchase100"]


class Texas100(_ArchiveBuilder):
  """Texas-100."""

  ARCHIVE = archives.ARCHIVES["texas100"]


def prepare(name: str, data_dir: pathlib.Path, *, overwrite: bool) -> pathlib.Path:
  """Prepares a dataset, downloading what is not there.

  Args:
    name: a key of `sources.SOURCES`.
    data_dir: TFDS's folder.
    overwrite: whether to prepare it anew where it is prepared already.

  Returns:
    The folder of the prepared dataset.

  Raises:
    archives.ArchiveError: if the archive is truncated or altered.
    OSError: if it cannot be downloaded or prepared.
  """
  mode = tfds.GenerateMode
  config = tfds.download.DownloadConfig(
    download_mode=mode.REUSE_CACHE_IF_EXISTS
    if overwrite
    else mode.REUSE_DATASET_IF_EXISTS,
    try_download_gcs=False,
  )
  builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  folder = pathlib.Path(builder.data_dir)
  try:
    with _without_tensorflow(builder), contextlib.redirect_stdout(sys.stderr):
      builder.download_and_prepare(download_config=config)
  except archives.ArchiveError:
    raise
  # Network, disk and parsing errors of several libraries: all mean the same here.
  except Exception as error:
    # TFDS cannot move its folder into place where another process did so meanwhile.
    if not (folder / "dataset_info.json").exists():
      raise OSError(_absent(name, data_dir, error)) from error
  return folder


def _absent(name: str, data_dir: pathlib.Path, error: Exception) -> str:
  """Says what is missing and what to do."""
  remedy = "connect to the network, or give the data_dir of a prepared one"
  if name in archives.ARCHIVES:
    archive = archives.ARCHIVES[name]
    manual = data_dir / "downloads" / "manual"
    remedy = f"put {archive.file} from {archive.url} into {manual}"
  cause = sources.first_line(error)
  return (
    f"{name} is not in data_dir {data_dir} and cannot be prepared ({cause}); {remedy}"
  )


@contextlib.contextmanager
def _without_tensorflow(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
  """Lends a stock builder what it asks of TensorFlow: opening files, encoding PNG."""
  tf = types.SimpleNamespace(
    io=types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=open)),
    compat=types.SimpleNamespace(as_text=str),
  )
  module = sys.modules[type(builder).__module__]
  lent = [
    (downloader, "MAX_RETRIES", _MAX_RETRIES),
    (extractor, "tf", tf),
  ]
  if not isinstance(builder, _ArchiveBuilder):
    generate = _with_png(builder._generate_examples)
    lent += [(builder, "_generate_examples", generate), (module, "tf", tf)]
  with contextlib.ExitStack() as stack:
    for owner, name, value in lent:
      # `create`: a later TFDS may do without.
      stack.enter_context(mock.patch.object(owner, name, value, create=True))
    yield


def _with_png(generate: Callable[..., Iterator[tuple[Any, dict]]]):
  """Encodes the images that a builder generates; TFDS keeps bytes as they are."""

  def examples(*args, **kwargs):
    for key, example in generate(*args, **kwargs):
      yield key, example | {"image": _png(example["image"])}

  return examples


def _png(image: np.ndarray) -> bytes:
  """Encodes `[height, width, 1 or 3]` uint8 pixels without loss."""
  buffer = io.BytesIO()
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
  return buffer.getvalue()
