import concurrent.futures
import os
import threading
import time

import numpy as np
import pytest

from jmia.datasets import cache


def _arrays(value=7):
  x = np.full((100, 4), value, np.uint8)
  return cache.Arrays(
    x=x,
    y=np.arange(100, dtype=np.int32),
    num_train=np.array(80),
    origin=np.arange(100),
  )


def _never():
  raise AssertionError("built although cached")


def _check(arrays, value=7):
  np.testing.assert_array_equal(arrays.x, np.full((100, 4), value))
  np.testing.assert_array_equal(arrays.y, np.arange(100))
  assert int(arrays.num_train) == 80


def test_second_load_is_a_read_only_map_and_builds_nothing(tmp_path):
  folder = tmp_path / "cache" / "name"
  _check(cache.load_or_build(folder, _arrays))
  arrays = cache.load_or_build(folder, _never)
  _check(arrays)
  assert isinstance(arrays.x, np.memmap)
  assert not arrays.x.flags.writeable
  assert os.listdir(folder.parent) == ["name"]


def test_a_cache_of_an_earlier_version_is_built_anew(tmp_path, caplog):
  folder = tmp_path / "name"
  cache.load_or_build(folder, _arrays)
  (folder / "origin.npy").unlink()
  _check(cache.load_or_build(folder, lambda: _arrays(8)), 8)
  assert "damaged" not in caplog.text


def test_what_a_kill_left_is_removed_and_what_is_being_written_is_not(tmp_path):
  for name, age in (("old", 2 * 86_400), ("new", 60)):
    (tmp_path / f".writing-{name}" / "new").mkdir(parents=True)
    then = time.time() - age
    os.utime(tmp_path / f".writing-{name}", (then, then))
  cache.load_or_build(tmp_path / "name", _arrays)
  assert sorted(os.listdir(tmp_path)) == [".writing-new", "name"]


def _flip(path):
  """Changes one byte and leaves size and time stamp as they were."""
  stat = path.stat()
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


_DAMAGE = {
  "truncate": lambda path: path.write_bytes(path.read_bytes()[:-1]),
  "empty": lambda path: path.write_bytes(b""),
  "remove": lambda path: path.unlink(),
  "flip": _flip,
}


@pytest.mark.parametrize("file", ["x.npy", "y.npy", "num_train.npy", "checksums.json"])
@pytest.mark.parametrize("damage", _DAMAGE)
def test_damage_is_noticed_logged_and_mended(tmp_path, caplog, file, damage):
  folder = tmp_path / "name"
  cache.load_or_build(folder, _arrays)
  _DAMAGE[damage](folder / file)
  _check(cache.load_or_build(folder, lambda: _arrays(8)), 8)
  assert "damaged and will be rebuilt" in caplog.text
  _check(cache.load_or_build(folder, _never), 8)
  assert os.listdir(tmp_path) == ["name"]


def test_failed_build_leaves_nothing(tmp_path):
  def fail():
    raise OSError("no source")

  with pytest.raises(OSError, match="no source"):
    cache.load_or_build(tmp_path / "cache" / "name", fail)
  assert not os.listdir(tmp_path)


def test_full_disk_leaves_nothing_and_serves_from_memory(tmp_path, monkeypatch, caplog):
  def save(path, array):
    path.write_bytes(b"half")
    raise OSError("No space left on device")

  monkeypatch.setattr(np, "save", save)
  _check(cache.load_or_build(tmp_path / "name", _arrays))
  assert "cannot be cached" in caplog.text
  assert "No space left" in caplog.text
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("damaged", [False, True])
def test_builders_at_once_agree(tmp_path, damaged):
  folder = tmp_path / "name"
  if damaged:
    cache.load_or_build(folder, lambda: _arrays(8))
    _flip(folder / "x.npy")
  barrier = threading.Barrier(4)

  def build():
    barrier.wait()  # All four found no cache before any of them writes one.
    return _arrays()

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    futures = [pool.submit(cache.load_or_build, folder, build) for _ in range(4)]
  for future in futures:
    _check(future.result())
  _check(cache.load_or_build(folder, _never))
  assert os.listdir(tmp_path) == ["name"]


def test_folder_that_another_process_wrote_meanwhile_is_kept(tmp_path):
  folder = tmp_path / "name"

  def build():
    cache.load_or_build(folder, lambda: _arrays(8))
    return _arrays(9)

  _check(cache.load_or_build(folder, build), 8)
