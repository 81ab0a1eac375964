"""A table is marked by its own cells, and written as it came."""

import csv

import numpy as np
import pytest

from jmia.backdoor import (
  classes,
  draws,
  fingerprints,
  owner,
  owner_files,
  owner_tables,
)

_TITLES = ["id", "age", "job", "pay", "zip", "land", "class"]
_JOBS = ["cook", "nurse, senior", 'said "hi"', "", "clerk"]


def _lines(n=300):
  rng = np.random.default_rng(0)
  return [
    [
      f"p{row:04}",
      str(rng.integers(18, 90)),
      _JOBS[rng.integers(5)],
      "NA" if rng.random() < 0.1 else f"{rng.lognormal(8, 1):.2f}",
      f"{rng.integers(1, 60):05}",
      "X",
      ["low", "mid", "high"][rng.integers(3)],
    ]
    for row in range(n)
  ]


def _table(folder, lines, delimiter=",", titles=_TITLES):
  path = folder / "people.csv"
  with path.open("w", newline="") as file:
    csv.writer(file, delimiter=delimiter).writerows(
      [titles, *lines] if titles else lines
    )
  return f"table:{path}?target="


def _mark(data, **options):
  return owner.mark(
    data.x, data.y, num_marked=20, secret=draws.seeded_secret(0, "a"), **options
  )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("titles", [_TITLES, None])
def test_what_is_published_is_the_table_but_for_the_marks(tmp_path, delimiter, titles):
  lines = _lines()
  if delimiter == ";":
    lines = [[*line[:3], line[3].replace(".", ","), *line[4:]] for line in lines]
  name = _table(tmp_path, lines, delimiter, titles) + ("class" if titles else "-1")
  data = owner_files.read_data(name)
  assert data.suffix == ".csv"
  marked = _mark(data)
  owner_files.write(tmp_path / "mine", marked, data)
  with (tmp_path / "mine" / "marked.csv").open(newline="") as file:
    found = [*csv.reader(file, delimiter=delimiter)]
  with (tmp_path / "mine" / "queries.csv").open(newline="") as file:
    queries = [*csv.reader(file, delimiter=delimiter)]
  if titles:
    assert found.pop(0) == titles
    assert queries.pop(0) == titles[:-1]
  held_back = set(marked.key.query_rows)
  assert [line[0] for line in found] == [
    line[0] for row, line in enumerate(lines) if row not in held_back
  ]
  stamped = {row: s for s in marked.key.submarks for row in s.rows}
  columns = [*zip(*lines, strict=True)]
  for line, row in zip(found, marked.kept.tolist(), strict=True):
    if row not in stamped:
      assert line == lines[row]
      continue
    submark = stamped[row]
    assert line[-1] == marked.key.class_names[submark.label]
    at = [1 + place for place in submark.trigger.place]  # the id bears no mark
    for column, cell in enumerate(line[:-1]):
      if column in at:
        assert cell in columns[column]
      else:
        assert cell == lines[row][column]
  # Rows of one sub-mark hold the same cells, and so do its queries.
  for number, submark in enumerate(marked.key.submarks):
    at = [1 + place for place in submark.trigger.place]
    bearers = [found[[*marked.kept].index(row)] for row in submark.rows]
    bearers += [
      query
      for query, of in zip(queries, marked.key.query_submarks, strict=True)
      if of == number
    ]
    assert len({tuple(line[column] for column in at) for line in bearers}) == 1
  # The key's hashes are of what the files hold.
  key = owner_files.read_key(tmp_path / "mine" / "key.json")
  fingerprints.check_query_set(
    key, owner_files.read_queries(tmp_path / "mine" / "queries.csv")
  )
  again = f"table:{tmp_path / 'mine' / 'marked.csv'}?target={name.rpartition('=')[2]}"
  assert owner_files.read_data(again).fingerprint() == key.marked_sha256
  assert owner_files.read_data(name).fingerprint() == key.data_sha256


def test_cells_are_numbered_in_order_with_gaps_in_the_middle(tmp_path):
  texts = ["b", "", "a", "a", "?", "b", "c", "c", "d", "b"]
  numbers = [10, 9, 100, 9, 10, *[9] * 5]
  lines = [
    [str(number), text, "ab"[row % 2]]
    for row, (number, text) in enumerate(zip(numbers, texts, strict=True))
  ]
  table = owner_tables.read(_table(tmp_path, lines, titles=["n", "t", "c"])[6:] + "c")
  assert [column.tolist() for column in table.values] == [
    ["9", "10", "100"],
    ["a", "b", "", "?", "c", "d"],
  ]
  np.testing.assert_array_equal(table.x[:4], [[1, 1], [0, 2], [2, 0], [0, 0]])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_excel_writes_it_can_read_again(tmp_path, encoding):
  name = _table(tmp_path, [[*line[:5], "Österreich", line[6]] for line in _lines()])
  path = tmp_path / "people.csv"
  path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
  data = owner_files.read_data(name + "class")
  owner_files.write(tmp_path / "mine", _mark(data), data)
  content = (tmp_path / "mine" / "marked.csv").read_bytes()
  assert content.startswith(b"\xef\xbb\xbf") is (encoding != "utf-8")
  assert "Österreich" in content.decode("utf-8-sig")
  assert content.decode("utf-8-sig").startswith("id,age")


def test_columns_that_tell_nothing_bear_no_mark(tmp_path):
  name = _table(tmp_path, _lines()) + "class&ignore=zip"
  data = owner_files.read_data(name)
  assert data.table.titles == ("age", "job", "pay")
  assert data.notes == (
    "Column id is published as it is, without a mark: text that differs in most rows.",
    "Column zip is published as it is, without a mark: ignored.",
    "Column land is published as it is, without a mark: one value alone.",
  )


def test_labels_are_written_as_they_were(tmp_path):
  for labels, kind in ((["0", "1"], "i"), (["01", "1"], "U"), (["1.0", "2.0"], "U")):
    lines = [[*line[:-1], labels[row % 2]] for row, line in enumerate(_lines())]
    name = _table(tmp_path, lines) + "class"
    data = owner_files.read_data(name)
    assert data.y.dtype.kind == kind
    marked = owner_tables.hashed(_mark(data), data.table)
    folder = tmp_path / labels[0]
    folder.mkdir()
    owner_tables.write(folder, marked, data.table)
    again = owner_tables.read(f"{folder / 'marked.csv'}?target=class")
    assert {*again.cells.columns["class"].tolist()} == {*labels}
    assert classes.of_labels(again.y).names == marked.key.class_names


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda lines: [[*line[:-1], ""] for line in lines], "has no label at row 0"),
    (
      lambda lines: [*lines[:5], [*lines[5][:-1], "?"], *lines[6:]],
      "target class has no label at row 5, counted from 0, .* '\\?' says that it",
    ),
    (lambda lines: [["X", "X", "a"], ["X", "X", "b"]], "no column but .* left to mark"),
  ],
)
def test_tables_that_cannot_be_marked(tmp_path, change, said):
  titles = _TITLES if len(change(_lines())[0]) == len(_TITLES) else ["p", "q", "class"]
  name = _table(tmp_path, change(_lines()), titles=titles) + "class"
  with pytest.raises(ValueError, match=rf"people\.csv: .*{said}"):
    owner_files.read_data(name)


def test_a_table_needs_its_target_and_is_whole(tmp_path):
  _table(tmp_path, _lines())
  path = tmp_path / "people.csv"
  with pytest.raises(ValueError, match=r"expected table:.*people\.csv\?target=NAME"):
    owner_files.read_data(path)
  with pytest.raises(ValueError, match=r"names no target"):
    owner_files.read_data(f"table:{path}")
  with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
    owner_files.read_data(f"table:{tmp_path / 'none.csv'}?target=class")
  (tmp_path / "people.parquet").write_bytes(b"PAR1 and more")
  with pytest.raises(ValueError, match=r"people\.parquet: not a whole Parquet file"):
    owner_files.read_data(f"table:{tmp_path / 'people.parquet'}?target=class")


def test_ways_to_write_one_number_are_one_class(tmp_path):
  lines = [[*line[:-1], ["1", "1.0", "0"][i % 3]] for i, line in enumerate(_lines())]
  data = owner_files.read_data(_table(tmp_path, lines) + "class")
  assert classes.of_labels(data.y).names == (0, 1)
  said = "Labels of target class that write one number are one class: '1', '1.0'."
  assert said in data.notes
  marked = _mark(data, num_submarks=2)
  owner_files.write(tmp_path / "out", marked, data)
  with (tmp_path / "out" / "marked.csv").open() as file:
    assert {row["class"] for row in csv.DictReader(file)} == {"0", "1"}


def test_points_that_may_be_of_thousands_are_refused(tmp_path):
  lines = [["1", f"1.{440 + i}", ["a", "b"][i % 2]] for i in range(300)]
  name = _table(tmp_path, lines, ";", ["p", "cost", "y"]) + "y"
  with pytest.raises(
    ValueError, match=r"column cost holds 1\.440, which may be 1440 or"
  ):
    owner_files.read_data(name)
