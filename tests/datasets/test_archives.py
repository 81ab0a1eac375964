import csv
import io
import tarfile

import archive_files
import numpy as np
import pytest

from jmia.datasets import archives

_SMALL = archives.Archive("small.tgz", "table", None, 3, 4, 2)
_TABLE = '"2",0,1,1,0\n"1",1,1,1,1\n2,0,0,0,1\n'


def _read(tmp_path, members, archive=_SMALL):
  return archives.read(
    archive, archive_files.write_archive(tmp_path / "small.tgz", members)
  )


def test_location30_agrees_with_the_csv_module(location_archive):
  archive = archives.ARCHIVES["location30"]
  x, y = archives.read(archive, location_archive)
  with tarfile.open(location_archive) as tar:
    text = io.TextIOWrapper(tar.extractfile("bangkok"))
    table = np.array([[int(cell) for cell in row] for row in csv.reader(text)])
  np.testing.assert_array_equal(x, table[:, 1:])
  np.testing.assert_array_equal(y, table[:, 0] - 1)
  assert (x.shape, x.dtype) == ((5010, 446), np.uint8)
  assert sorted(set(y)) == list(range(30))


def test_labels_in_the_first_column(tmp_path):
  x, y = _read(tmp_path, {"table": _TABLE})
  np.testing.assert_array_equal(x, [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
  np.testing.assert_array_equal(y, [1, 0, 1])


def test_labels_in_a_member_of_their_own(tmp_path):
  archive = _SMALL._replace(labels="labels")
  table = "0,1,1,0\n1,1,1,1\n0.0, 0, 0, 1.0\n"
  x, y = _read(tmp_path, {"labels": "1\n2\n2.0\n\n", "table": table}, archive)
  np.testing.assert_array_equal(x, [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
  np.testing.assert_array_equal(y, [0, 1, 1])


@pytest.mark.parametrize(
  ("table", "message"),
  [
    (_TABLE[: _TABLE.index("2,0,0")], "table has 2 rows, expected 3"),
    (_TABLE + _TABLE, "table has more rows, expected 3"),
    ("", "table has 0 rows"),
    (_TABLE[:-3], "row 2 is not 4 comma-separated bits"),
    (_TABLE.replace("1,1,1,1", "1,1,1,2"), "row 1 is not 4"),
    (_TABLE.replace("1,1,1,1", "1,1,1;1"), "small.tgz: "),
    (_TABLE.replace("1,1,1,1", "1,1,1,nan"), "row 1 is not 4"),
    (_TABLE.replace('"2"', "3"), "row 0 has label b'3', expected a number from 1 to 2"),
    (_TABLE.replace('"2"', "0"), "row 0 has label"),
    (_TABLE.replace('"2"', "1.5"), "row 0 has label"),
    (_TABLE.replace('"2"', "inf"), "row 0 has label"),
    (_TABLE.replace('"2"', "x"), "row 0 has label"),
  ],
)
def test_bad_tables_are_refused_by_row(tmp_path, table, message):
  with pytest.raises(archives.ArchiveError, match=message) as caught:
    _read(tmp_path, {"table": table})
  assert str(tmp_path / "small.tgz") in str(caught.value)


def test_missing_member(tmp_path):
  with pytest.raises(archives.ArchiveError, match=r"small\.tgz: .*'table' not found"):
    _read(tmp_path, {"other": _TABLE})


def test_truncated_and_foreign_archives(tmp_path):
  noise = np.random.default_rng(0).bytes(10_000)  # does not compress
  path = archive_files.write_archive(
    tmp_path / "small.tgz", {"noise": noise, "table": _TABLE}
  )
  whole = path.read_bytes()
  archives.read(_SMALL, path)
  flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]  # in gzip's checksum
  half = whole[: len(whole) // 2]
  for content in (half, whole[:-60], whole[:-1], flipped, b"", b"<html>"):
    path.write_bytes(content)
    with pytest.raises(archives.ArchiveError, match=r"small\.tgz: "):
      archives.read(_SMALL, path)


def test_known_checksum_tells_truncated_from_altered(location_archive, tmp_path):
  path = tmp_path / "dataset_location.tgz"
  whole = location_archive.read_bytes()
  archive = archives.ARCHIVES["location30"]
  path.write_bytes(whole)
  assert archives.check(archive, path) == archive.sha256
  path.write_bytes(whole[:-1])
  with pytest.raises(
    archives.ArchiveError, match=r"dataset_location\.tgz: .* truncated"
  ):
    archives.read(archive, path)
  path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  with pytest.raises(archives.ArchiveError, match="altered"):
    archives.read(archive, path)
