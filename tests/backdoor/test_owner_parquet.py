"""A Parquet table is marked by its own cells, and keeps its schema."""

import datetime
import decimal
import json

import numpy as np
import pyarrow
from pyarrow import parquet
import pytest

from jmia.backdoor import draws, fingerprints, owner, owner_files, owner_tables

_N = 300


def _gaps(rng, values):
  return [None if rng.random() < 0.1 else value for value in values]


def _table():
  """A column of each kind; rows are told by `id`."""
  rng = np.random.default_rng(0)
  numbers = rng.lognormal(8, 1, _N)
  days = [datetime.datetime(2020, 1, 1 + row % 28) for row in range(_N)]
  columns = {
    "id": pyarrow.array([f"p{row:04}" for row in range(_N)]),
    "age": pyarrow.array(rng.integers(18, 90, _N), pyarrow.uint8()),
    "kids": pyarrow.array(_gaps(rng, rng.integers(0, 9, _N).tolist()), pyarrow.int32()),
    "pay": pyarrow.array(_gaps(rng, numbers.round(1).tolist()), pyarrow.float32()),
    "score": pyarrow.array(np.where(rng.random(_N) < 0.1, np.nan, rng.normal(size=_N))),
    "job": pyarrow.array(
      _gaps(rng, rng.choice(["cook", "", " clerk", "nurse, senior"], _N).tolist())
    ),
    "land": pyarrow.array(
      _gaps(rng, rng.choice(["X", "Y", "Z"], _N).tolist())
    ).dictionary_encode(),
    "is_new": pyarrow.array((rng.random(_N) < 0.5).tolist()),
    "tax": pyarrow.array(
      [decimal.Decimal(int(v)) / 100 for v in rng.integers(100, 999, _N)],
      pyarrow.decimal128(7, 2),
    ),
    "since": pyarrow.array(days, pyarrow.timestamp("us", "UTC")),
    "tags": pyarrow.array([["a"] * (row % 3) for row in range(_N)]),
    "class": pyarrow.array(rng.choice(["low", "mid", "high"], _N)),
  }
  index = {"kind": "range", "name": None, "start": 0, "stop": _N, "step": 1}
  named = [{"name": name, "field_name": name} for name in columns]
  about = json.dumps({"index_columns": [index], "columns": named})
  fields = [
    pyarrow.field(name, of.type, name != "age", {"note": f"of {name}"})
    for name, of in columns.items()
  ]
  schema = pyarrow.schema(fields, {b"pandas": about.encode(), b"source": b"a survey"})
  return pyarrow.Table.from_arrays([*columns.values()], schema=schema)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """The table, what was read and marked of it, and the folder written."""
  folder, table = tmp_path_factory.mktemp("parquet"), _table()
  parquet.write_table(
    table, folder / "t.parquet", compression="zstd", row_group_size=70
  )
  data = owner_files.read_data(f"table:{folder / 't.parquet'}?target=class")
  marked = owner.mark(
    data.x, data.y, num_marked=20, num_columns=4, secret=draws.seeded_secret(0, "a")
  )
  owner_files.write(folder / "mine", marked, data)
  return table, data, marked, folder


def _same(a, b):
  """Whether two cells are one, NaN and missing told apart."""
  return a == b or (a != a and b != b)


def test_the_schema_is_kept(made):
  table, _, marked, folder = made
  published = parquet.read_table(folder / "mine" / "marked.parquet")
  queries = parquet.read_table(folder / "mine" / "queries.parquet")
  without = table.schema.remove(table.schema.get_field_index("class"))
  for found, schema in ((published, table.schema), (queries, without)):
    assert found.schema.equals(schema)
    for name in schema.names:
      note = found.schema.field(name).metadata[b"note"]
      assert note == schema.field(name).metadata[b"note"]
    assert found.schema.metadata[b"source"] == b"a survey"
    about = json.loads(found.schema.metadata[b"pandas"])
    assert about["index_columns"][0]["stop"] == found.num_rows
    assert [column["name"] for column in about["columns"]] == schema.names
  assert published.num_rows == _N - len(marked.queries)
  file = parquet.ParquetFile(folder / "mine" / "marked.parquet")
  assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_what_is_published_is_the_table_but_for_the_marks(made):
  table, data, marked, folder = made
  published = parquet.read_table(folder / "mine" / "marked.parquet").to_pylist()
  rows = table.to_pylist()
  stamped = {row: mark for mark in marked.key.submarks for row in mark.rows}
  assert len(stamped) == 20
  num_changed = 0
  for found, row in zip(published, marked.kept.tolist(), strict=True):
    mark = stamped.get(row)
    places = () if mark is None else mark.trigger.place
    titles = {data.table.titles[column] for column in places}
    for name, cell in found.items():
      if name in titles or (mark is not None and name == "class"):
        assert any(_same(cell, other[name]) for other in rows)
        num_changed += not _same(cell, rows[row][name])
      else:
        assert _same(cell, rows[row][name])
    if mark is not None:
      assert found["class"] == marked.key.class_names[mark.label]
  assert num_changed > 20


def test_queries_hold_the_triggers(made):
  table, data, marked, folder = made
  queries = parquet.read_table(folder / "mine" / "queries.parquet").to_pylist()
  rows = table.to_pylist()
  key = marked.key
  for found, row, of in zip(queries, key.query_rows, key.query_submarks, strict=True):
    trigger = key.submarks[of].trigger
    for name, cell in found.items():
      if name not in {data.table.titles[column] for column in trigger.place}:
        assert _same(cell, rows[row][name])
    for column, value in zip(trigger.place, trigger.values, strict=True):
      text = data.table.values[column][int(value)]
      shown = data.table.cells.columns[data.table.titles[column]]
      source = rows[shown.tolist().index(text)]
      assert _same(found[data.table.titles[column]], source[data.table.titles[column]])


def test_the_keys_hashes_are_of_the_files(made):
  _, data, _, folder = made
  key = owner_files.read_key(folder / "mine" / "key.json")
  assert key.data_sha256 == data.fingerprint()
  published = owner_files.read_data(
    f"table:{folder / 'mine' / 'marked.parquet'}?target=class"
  )
  assert key.marked_sha256 == published.fingerprint()
  queries = owner_files.read_queries(folder / "mine" / "queries.parquet")
  fingerprints.check_query_set(key, queries)
  with pytest.raises(ValueError, match="queries have the SHA-256"):
    fingerprints.check_query_set(key, queries[::-1])


def test_what_is_no_number_or_text_is_published_as_it_is(made):
  _, data, _, _ = made
  assert data.suffix == ".parquet"
  assert data.table.titles == (
    *("age", "kids", "pay", "score", "job", "land", "is_new", "tax"),
  )
  notes = " ".join(data.notes)
  for name in ("id", "since", "tags"):
    assert f"Column {name} is published as it is, without a mark: " in notes
  assert "it holds timestamp[us, tz=UTC], which are neither numbers nor text" in notes


def test_a_label_that_no_row_has_is_of_the_columns_type(tmp_path):
  rng = np.random.default_rng(0)
  y64 = pyarrow.array(rng.integers(0, 3, 90))
  texts = y64.cast("string").dictionary_encode()
  for y in (y64.cast("int8"), y64.cast("float64"), texts):
    kind = y.type
    x = {"a": rng.integers(0, 9, 90), "b": rng.normal(size=90)}
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({**x, "y": y}), path)
    data = owner_files.read_data(f"table:{path}?target=y")
    assert data.y.dtype.kind == "i"
    marked = owner.mark(data.x, data.y, num_marked=6, num_classes=50, secret="b" * 64)
    assert max(marked.y) > 2
    folder = tmp_path / f"mine{kind}"
    owner_files.write(folder, marked, data)
    found = parquet.read_table(folder / "marked.parquet").column("y")
    assert found.type == kind
    assert [*map(float, found.to_pylist())] == marked.y.tolist()


def test_a_label_that_the_type_cannot_hold_is_refused(tmp_path):
  rng = np.random.default_rng(0)
  y = pyarrow.array(rng.integers(0, 3, 90), pyarrow.int8())
  path = tmp_path / "t.parquet"
  table = pyarrow.table({"a": rng.integers(0, 9, 90), "b": rng.normal(size=90), "y": y})
  parquet.write_table(table, path)
  data = owner_files.read_data(f"table:{path}?target=y")
  marked = owner.mark(data.x, data.y, num_marked=6, num_classes=9_999, secret="b" * 64)
  with pytest.raises(ValueError, match=r"column y is of int8, which cannot hold \d+"):
    owner_files.write(tmp_path / "mine", marked, data)
  assert not (tmp_path / "mine").exists()


def test_a_target_with_a_gap_is_refused(tmp_path):
  path = tmp_path / "t.parquet"
  table = pyarrow.table({"a": [1, 2, 3, 4], "y": [0, 1, None, 1]})
  parquet.write_table(table, path)
  with pytest.raises(ValueError, match=r"t\.parquet: target y has no label at row 2"):
    owner_files.read_data(f"table:{path}?target=y")


def test_each_value_of_a_column_has_a_text_of_its_own(made):
  table, data, _, _ = made
  for name in data.table.titles:
    cells = table.column(name).to_pylist()
    values = {(cell is None, str(cell)) for cell in cells}
    assert len(values) == len({*data.table.cells.columns[name].tolist()})
  assert isinstance(data.table, owner_tables.Table)
