import functools
import gzip
import http.server
import os
import shutil
import sys
import threading
import time

import archive_files
import numpy as np
import pytest

from jmia import datasets
from jmia.datasets import archives, tfds_source

pytest.importorskip("tensorflow_datasets")

from jmia.datasets import builders

_SMALL = archives.Archive("dataset_texas.tgz", "feats", "labels", 3, 4, 3)
_ROWS = [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]


@pytest.fixture
def small_texas(tmp_path, monkeypatch):
  """A data_dir with an archive like Texas-100's of three rows; the path of it."""
  monkeypatch.setitem(archives.ARCHIVES, "texas100", _SMALL)
  monkeypatch.setattr(builders.Texas100, "ARCHIVE", _SMALL)
  path = tmp_path / "downloads" / "manual" / "dataset_texas.tgz"
  return archive_files.write_table(path, _ROWS, [3, 1, 2])


@pytest.fixture
def no_network(monkeypatch):
  def open_url(url, **unused):
    raise ConnectionError(f"cannot reach {url}")

  monkeypatch.setattr(builders.downloader, "_open_url", open_url)


def test_location30_from_its_archive(location_archive, tmp_path):
  manual = tmp_path / "downloads" / "manual"
  manual.mkdir(parents=True)
  shutil.copy(location_archive, manual)
  x, y = archives.read(archives.ARCHIVES["location30"], location_archive)
  for _ in range(2):  # prepared, then cached
    dataset = datasets.load("location30", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.x, x)
    np.testing.assert_array_equal(dataset.y, y)
    assert isinstance(dataset.x, np.memmap)
    assert (dataset.num_classes, dataset.num_train) == (30, 5010)
    assert (dataset.feature_scale, dataset.is_synthetic) == (1.0, False)
    assert not dataset.notes
  assert len(os.listdir(tmp_path / "jmia_cache")) == 1
  assert "tensorflow" not in sys.modules


def test_cached_dataset_needs_no_tfds(small_texas, tmp_path, monkeypatch):
  first = datasets.load("texas100", data_dir=tmp_path)
  np.testing.assert_array_equal(first.x, _ROWS)
  np.testing.assert_array_equal(first.y, [2, 0, 1])

  def refuse(name):
    raise AssertionError(f"{name} needed TFDS")

  monkeypatch.setattr(tfds_source, "_import_builders", refuse)
  second = datasets.load("texas100", data_dir=tmp_path, order="publisher")
  np.testing.assert_array_equal(second.x, _ROWS)


def test_another_archive_is_prepared_anew(small_texas, tmp_path):
  datasets.load("texas100", data_dir=tmp_path)
  archive_files.write_table(small_texas, _ROWS[::-1], [3, 1, 2])
  dataset = datasets.load("texas100", data_dir=tmp_path)
  np.testing.assert_array_equal(dataset.x, _ROWS[::-1])


def test_truncated_archive_is_named_and_leaves_nothing(small_texas, tmp_path):
  small_texas.write_bytes(small_texas.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r"dataset_texas\.tgz: archive is truncated"):
    datasets.load("texas100", data_dir=tmp_path)
  assert not (tmp_path / "jmia_cache").exists()
  assert not list(tmp_path.glob("texas100/*"))


def test_location30_archive_is_checked_even_where_prepared(location_archive, tmp_path):
  manual = tmp_path / "downloads" / "manual"
  manual.mkdir(parents=True)
  datasets_archive = manual / "dataset_location.tgz"
  datasets_archive.write_bytes(location_archive.read_bytes())
  datasets.load("location30", data_dir=tmp_path)
  datasets_archive.write_bytes(location_archive.read_bytes()[:1000])
  with pytest.raises(ValueError, match=r"dataset_location\.tgz: archive is truncated"):
    datasets.load("location30", data_dir=tmp_path)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
  ("name", "remedy"),
  [("location30", "put dataset_location.tgz from https"), ("cifar100", "connect")],
)
def test_absent_dataset_without_network_is_one_line(tmp_path, name, remedy):
  with pytest.raises(OSError, match=f"{name} is not in data_dir .*{remedy}") as caught:
    datasets.load(name, data_dir=tmp_path)
  assert str(tmp_path) in str(caught.value)
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "jmia_cache").exists()


def test_damaged_prepared_files_are_named(small_texas, tmp_path):
  datasets.load("texas100", data_dir=tmp_path)
  (shard,) = (tmp_path / "texas100" / "1.0.0").glob("*array_record*")
  shard.write_bytes(shard.read_bytes()[:-10])
  with pytest.raises(OSError, match=r"texas100: .*1\.0\.0 is damaged"):
    datasets.load("texas100", data_dir=tmp_path)


def test_prepared_for_tensorflow_only_is_said(small_texas, tmp_path):
  datasets.load("texas100", data_dir=tmp_path)
  info = tmp_path / "texas100" / "1.0.0" / "dataset_info.json"
  info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
  with pytest.raises(OSError, match="format that only TensorFlow reads"):
    datasets.load("texas100", data_dir=tmp_path)


def test_another_process_that_prepared_first_is_no_error(
  small_texas, tmp_path, monkeypatch
):
  prepare = builders.Texas100.download_and_prepare

  def lose_the_race(self, **kwargs):
    prepare(self, **kwargs)
    raise OSError("Directory not empty")

  monkeypatch.setattr(builders.Texas100, "download_and_prepare", lose_the_race)
  dataset = datasets.load("texas100", data_dir=tmp_path)
  np.testing.assert_array_equal(dataset.x, _ROWS)


def test_newest_version_is_read(tmp_path):
  for version in ("1.9.0", "1.10.0", "1.2.0", "incomplete.X_2.0.0"):
    folder = tmp_path / "mnist" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
  assert tfds_source._prepared("mnist", tmp_path).name == "1.10.0"
  assert tfds_source._prepared("cifar10", tmp_path) is None


@pytest.fixture
def web(tmp_path, monkeypatch):
  """A folder, and the address on which this machine serves it."""
  folder = tmp_path / "web"
  folder.mkdir()

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      pass

  handler = functools.partial(Handler, directory=folder)
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("registered", [None, "right", "wrong"])
def test_archive_is_downloaded_and_its_checksum_held(
  small_texas, web, tmp_path, monkeypatch, registered
):
  folder, url = web
  monkeypatch.setattr(archives, "_URL", url)
  path = small_texas.rename(folder / small_texas.name)
  sha256 = {"right": archives.digest(path), "wrong": 64 * "0"}.get(registered)
  if sha256:
    info = builders.checksums.UrlInfo(path.stat().st_size, sha256, path.name)
    monkeypatch.setattr(builders.Texas100, "url_infos", {_SMALL.url: info})
  if registered == "wrong":
    with pytest.raises(OSError, match=r"texas100 is not in .*checksum"):
      datasets.load("texas100", data_dir=tmp_path)
  else:
    dataset = datasets.load("texas100", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.x, _ROWS)


def test_known_checksums_are_registered_with_tfds():
  archive = archives.ARCHIVES["location30"]
  info = builders.Location30.url_infos[archive.url]
  assert (info.size, info.checksum) == (archive.size, archive.sha256)


def _check_images(dataset, train, test):
  """The splits hold the (image, label) pairs given, each in any order."""

  def pairs(x, y):
    return sorted(
      (image.tobytes(), int(label)) for image, label in zip(x, y, strict=True)
    )

  num_train = dataset.num_train
  assert num_train == len(train[1])
  assert dataset.x.shape[1:] == train[0].shape[1:]
  assert pairs(dataset.x[:num_train], dataset.y[:num_train]) == pairs(*train)
  assert pairs(dataset.x[num_train:], dataset.y[num_train:]) == pairs(*test)
  assert (dataset.feature_scale, dataset.num_classes) == (1 / 255, 10)
  assert "tensorflow" not in sys.modules


def _random_images(shape, seed):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, shape, dtype=np.uint8)
  return images, rng.integers(0, 10, len(images), dtype=np.uint8)


def test_cifar10_is_downloaded_and_prepared_without_tensorflow(
  web, tmp_path, monkeypatch
):
  from tensorflow_datasets.image_classification import cifar

  folder, url = web
  train, test = _random_images((10, 32, 32, 3), 0), _random_images((4, 32, 32, 3), 1)

  def batch(images, labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()

  prefix = "cifar-10-batches-bin/"
  members = {
    f"{prefix}data_batch_{i + 1}.bin": batch(*(a[2 * i : 2 * i + 2] for a in train))
    for i in range(5)
  }
  members[f"{prefix}test_batch.bin"] = batch(*test)
  members[f"{prefix}batches.meta.txt"] = "".join(f"class {i}\n" for i in range(10))
  archive_files.write_archive(folder / "cifar.tar.gz", members)
  original = cifar.Cifar10._cifar_info
  info = property(lambda self: original.fget(self)._replace(url=f"{url}/cifar.tar.gz"))
  monkeypatch.setattr(cifar.Cifar10, "_cifar_info", info)
  shuffled = datasets.load("cifar10", data_dir=tmp_path)
  _check_images(shuffled, train, test)
  assert "not in that of the publisher's files" in shuffled.notes[0]
  ordered = datasets.load("cifar10", data_dir=tmp_path, order="publisher")
  np.testing.assert_array_equal(ordered.x, np.concatenate([train[0], test[0]]))
  np.testing.assert_array_equal(ordered.y, np.concatenate([train[1], test[1]]))
  assert not np.array_equal(ordered.x, shuffled.x)
  assert not ordered.notes


def test_mnist_is_downloaded_and_prepared_without_tensorflow(
  web, tmp_path, monkeypatch
):
  from tensorflow_datasets.image_classification import mnist

  folder, url = web
  train, test = _random_images((6, 28, 28, 1), 0), _random_images((3, 28, 28, 1), 1)
  for prefix, (images, labels) in {"train": train, "t10k": test}.items():
    for kind, header, content in (
      ("images-idx3", 16, images),
      ("labels-idx1", 8, labels),
    ):
      with gzip.open(folder / f"{prefix}-{kind}-ubyte.gz", "wb") as file:
        file.write(bytes(header) + content.tobytes())
  monkeypatch.setattr(mnist.MNIST, "URL", f"{url}/")
  monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 6)
  monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 3)
  shuffled = datasets.load("mnist", data_dir=tmp_path)
  _check_images(shuffled, train, test)
  with pytest.raises(ValueError, match=r"order='publisher': mnist .*rows_of"):
    datasets.load("mnist", data_dir=tmp_path, order="publisher")
  rows = datasets.rows_of(shuffled, train[0][..., 0])
  np.testing.assert_array_equal(shuffled.x[rows], train[0])


def test_stl10_is_downloaded_and_prepared_without_tensorflow(
  web, tmp_path, monkeypatch
):
  import tensorflow_datasets as tfds

  module = sys.modules[tfds.builder_cls("stl10").__module__]
  folder, url = web
  train, test = _random_images((5, 96, 96, 3), 0), _random_images((2, 96, 96, 3), 1)
  members = {
    "stl10_binary/class_names.txt": "".join(f"class {i}\n" for i in range(10)),
    "stl10_binary/unlabeled_X.bin": bytes(3 * 96 * 96),
  }
  for split, (images, labels) in {"train": train, "test": test}.items():
    columns = images.transpose(0, 3, 2, 1)  # the format's order of pixels
    members[f"stl10_binary/{split}_X.bin"] = columns.tobytes()
    members[f"stl10_binary/{split}_y.bin"] = (labels + 1).tobytes()
  archive_files.write_archive(folder / "stl10.tar.gz", members)
  monkeypatch.setattr(module, "URL", f"{url}/stl10.tar.gz")
  _check_images(datasets.load("stl10", data_dir=tmp_path), train, test)


@pytest.mark.tfds
@pytest.mark.parametrize(
  ("name", "shape", "train_counts", "test_counts", "mean"),
  [
    (
      "mnist",
      (70_000, 28, 28, 1),
      [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
      [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
      [33.3184],
    ),
    ("cifar10", (60_000, 32, 32, 3), [5000] * 10, [1000] * 10, [125.3, 122.95, 113.87]),
  ],
)
def test_published_images(
  prepared_dir, tmp_path, name, shape, train_counts, test_counts, mean
):
  """Class counts and the train split's mean pixel are those that are published."""
  (tmp_path / name).symlink_to(prepared_dir / name)
  datasets.load(name, data_dir=tmp_path)
  start = time.process_time()
  dataset = datasets.load(name, data_dir=tmp_path)
  seconds = time.process_time() - start
  assert dataset.x.shape == shape
  assert dataset.x.dtype == np.uint8
  train, test = np.split(dataset.y, [dataset.num_train])
  assert np.bincount(train).tolist() == train_counts
  assert np.bincount(test).tolist() == test_counts
  # CIFAR-10 may have been through JPEG on its way.
  pixels = dataset.x[: dataset.num_train].mean((0, 1, 2))
  np.testing.assert_allclose(pixels, mean, atol=0.5)
  assert seconds < 1
