import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from jmia.datasets import memory, npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_as_numpy_reads_them(tmp_path, save):
  rng = np.random.default_rng(0)
  arrays = {
    "x": rng.normal(size=(7, 3, 2)),
    "fortran": np.asfortranarray(rng.integers(9, size=(4, 5))),
    "big": np.arange(5, dtype=">i4"),
    "text": np.array(["a", "bcd"]),
    "scalar": np.array(3.5),
    "empty": np.empty((0, 4), np.float32),
    "bits": np.array([True, False]),
    "blank": np.array(["", ""]),
    "large": np.arange(3_000_000, dtype=np.uint16),
  }
  path = tmp_path / "a.npz"
  save(path, **arrays)
  found = npz.read(path)
  with np.load(path) as expected:
    assert list(found) == list(expected)
    for name, array in expected.items():
      np.testing.assert_array_equal(found[name], array)
      assert found[name].dtype == array.dtype
      assert found[name].shape == array.shape
  assert list(npz.read(path, ("x", "absent"))) == ["x"]


def _header(shape, descr="<f8"):
  buffer = io.BytesIO()
  fields = {"descr": descr, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(buffer, fields)
  return buffer.getvalue()


def _write(path, **members):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(f"{name}.npy", content)
  return path


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (_header((10**12,)) + bytes(80), r"shape \(1000000000000,\) and dtype float64"),
    (_header((10**6, 10**6, 10**6)), "shape"),
    (_header((2**62, 2**62)), "shape"),
    (_header((3,)) + bytes(80), "24 bytes, but 80 bytes"),
    (_header((3,)) + bytes(8), "24 bytes, but 8 bytes"),
    (_header((-3,)), "shape"),
    (_header((2,), "|O") + bytes(16), r"Python objects.*x\.astype\(str\)"),
    (b"hello", "not a whole"),
    (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "not a whole"),
    (b"\x93NUMPY\x01\x00\x10\x27" + b"[" * 10_000, "not a whole"),
    (b"\x93NUMPY\x03\x00\x10\x00" + b" " * 16, "npy version"),
    (b"", "not a whole"),
  ],
)
def test_headers_that_lie_are_refused_without_memory(tmp_path, content, message):
  path = _write(tmp_path / "own.npz", x=content)
  tracemalloc.start()
  with pytest.raises(ValueError, match=message) as caught:
    npz.read(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 3e7
  assert str(caught.value).startswith(f"{path}: ")
  assert "\n" not in str(caught.value)


def test_what_no_memory_holds_is_refused(tmp_path, monkeypatch):
  path = _write(tmp_path / "bomb.npz", x=_header((10**6,)) + bytes(8 * 10**6))
  assert path.stat().st_size < 20_000
  assert npz.read(path)["x"].shape == (10**6,)
  monkeypatch.setattr(memory, "_physical", lambda: 10**6)
  with pytest.raises(ValueError, match=r"would take 0\.0 GiB, and this machine has"):
    npz.read(path)
  monkeypatch.setattr(memory, "_physical", lambda: None)
  assert npz.read(path)["x"].shape == (10**6,)


def test_a_directory_that_lies_is_refused(tmp_path):
  path = _write(tmp_path / "own.npz", x=_header((10,)) + bytes(80))
  content = bytearray(path.read_bytes())
  # Both records of the member say that it is larger than it is.
  size = len(_header((10,))) + 80
  grown = _header((10**6,)) + bytes(80)
  assert len(grown) == size
  path = _write(tmp_path / "own.npz", x=grown)
  content = path.read_bytes().replace(
    size.to_bytes(4, "little"), (len(_header((10,))) + 8 * 10**6).to_bytes(4, "little")
  )
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"cut short|CRC"):
    npz.read(path)


def test_damage_is_named(tmp_path):
  path = tmp_path / "own.npz"
  np.savez(path, x=np.arange(1000), y=np.arange(1000))
  whole = path.read_bytes()
  for cut in (0, 3, 100, len(whole) // 2, len(whole) - 30):
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=r"own\.npz: not a whole"):
      npz.read(path)
  path.write_bytes(whole[:500] + b"x" + whole[501:])
  with pytest.raises(ValueError, match="CRC"):
    npz.read(path)
  np.save(tmp_path / "bare.npy", np.arange(3))
  with pytest.raises(ValueError, match="one bare array"):
    npz.read(tmp_path / "bare.npy")
  with pytest.raises(FileNotFoundError, match=r"did you mean 'a/b\.npz'\?$"):
    npz.read("npz:a/b.npz")
  with pytest.raises(FileNotFoundError, match=r"absent\.npz: no such file"):
    npz.read(tmp_path / "absent.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_and_foreign_members(tmp_path):
  path = tmp_path / "own.npz"
  with zipfile.ZipFile(path, "w") as archive:
    for _ in range(2):
      archive.writestr("x.npy", _header((0,)))
  with pytest.raises(ValueError, match="holds x twice"):
    npz.read(path)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x.txt", "1 2 3")
  with pytest.raises(ValueError, match=r"x\.txt is no array"):
    npz.read(path)
