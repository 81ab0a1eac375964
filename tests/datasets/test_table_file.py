import numpy as np
import pyarrow as arrow
from pyarrow import parquet
import pytest

from jmia import datasets

_PLAIN = "age,sex,y\n20,m,no\n40,f,yes\n20,f,no\n40,m,yes\n"
_X = [[-1, 0, 1], [1, 1, 0], [-1, 1, 0], [1, 0, 1]]
_BOM = b"\xef\xbb\xbf"


def _load(tmp_path, content, options="target=y", name="own.csv"):
  path = tmp_path / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return datasets.load(f"table:{path}?{options}")


@pytest.mark.parametrize(
  ("content", "target"),
  [
    (_PLAIN, "y"),
    (_PLAIN.replace("\n", "\r\n"), "y"),
    (_PLAIN.replace("\n", "\r"), "y"),
    (_PLAIN.rstrip("\n"), "y"),
    (_PLAIN.replace("\n", "\n\n"), "y"),
    (_PLAIN.replace(",", ";"), "y"),
    (_PLAIN.replace(",", "\t"), "y"),
    (_PLAIN.replace(",", "|"), "y"),
    (_PLAIN.replace(",", " , "), "y"),
    (_PLAIN.replace("20,", '"20",').replace("yes", '"yes"'), "y"),
    (_PLAIN.replace(",", ";").replace("0;", "0,0;"), "y"),
    (_BOM + _PLAIN.encode(), "y"),
    (_PLAIN.encode("utf-16"), "y"),
    ("sep=;\n" + _PLAIN.replace(",", ";"), "y"),
    (_BOM + ("SEP=;\n" + _PLAIN.replace(",", ";")).replace("\n", "\r\n").encode(), "y"),
    (_PLAIN.replace("y\n", "R&D?\n"), "R&D?"),
    (_PLAIN.split("\n", 1)[1], "2"),
    (_PLAIN.split("\n", 1)[1], "-1"),
    (_PLAIN.replace("age,sex,y", "0,1,2"), "2"),
    (_PLAIN.replace("age", "2024"), "y"),
    (_PLAIN.replace("yes", "1").replace("no", "0"), "y"),
  ],
)
def test_tables_as_they_come(tmp_path, content, target):
  dataset = _load(tmp_path, content, f"target={target}")
  np.testing.assert_array_equal(dataset.x, _X)
  np.testing.assert_array_equal(dataset.y, [0, 1, 0, 1])
  assert dataset.class_names in (("no", "yes"), ())
  assert (dataset.num_classes, dataset.num_train) == (2, 4)


@pytest.mark.parametrize("at", [47, 48, 49, 50])
def test_a_cell_of_two_lines_does_not_hide_what_parts_cells(tmp_path, at):
  """What parts cells is told by the first 50 lines, of which it may be the last."""
  rows = [f"{row};text;{'ab'[row % 2]}" for row in range(60)]
  rows[at] = f'{at};"two, or\nmore";a'
  dataset = _load(tmp_path, "\n".join(["n;t;y", *rows]), "target=y")
  assert dataset.given.dtype.names == ("n", "t")
  assert dataset.given["t"][at] == "two, or\nmore"


def test_decimal_commas_stand_beside_what_says_that_a_value_is_missing(tmp_path):
  rows = ["1,5;a", "NA;b", "2,5;a", "n/a;b", "0,5;a"]
  dataset = _load(tmp_path, "\n".join(["pay;y", *rows]), "target=y")
  np.testing.assert_array_equal(dataset.given["pay"], [1.5, np.nan, 2.5, np.nan, 0.5])


def test_numbers_of_a_target_are_ordered_as_numbers(tmp_path):
  rows = ["1,10.0", "2,2.0", "3,1.0", "4,10.0", "5,2.0", "6,1.0"]
  dataset = _load(tmp_path, "\n".join(["a,y", *rows]))
  np.testing.assert_array_equal(dataset.y, [2, 1, 0, 2, 1, 0])
  assert dataset.class_names == ("1", "2", "10")


def test_text_that_python_alone_reads_as_a_number(tmp_path):
  rows = ["1_1,1_1,1", "11,2_2,2", "1_1,1_1,3", "11,2_2,4"]
  dataset = _load(tmp_path, "\n".join(["2_1,y,n", *rows]))
  assert dataset.class_names == ("1_1", "2_2")
  assert dataset.given.dtype.names == ("2_1", "n")
  assert dataset.given["2_1"].tolist() == ["1_1", "11"] * 2


def test_quoted_cells_may_hold_anything(tmp_path):
  rows = ['"a, ""b""",1,x', '"c\nd",2,y', '"a, ""b""",3,x', '"c\nd",4,y']
  dataset = _load(tmp_path, "\n".join(["t,n,y", *rows]))
  assert dataset.given["t"].tolist() == ['a, "b"', "c\nd"] * 2


def test_an_index_without_a_title_is_left_out(tmp_path):
  rows = [f"{i},{i % 3},{i % 2}" for i in range(12)]
  dataset = _load(tmp_path, "\n".join([",a,y", *rows]))
  assert dataset.x.shape == (12, 1)
  assert any("row numbers" in note for note in dataset.notes)


def test_columns_that_are_ignored(tmp_path):
  dataset = _load(tmp_path, _PLAIN, "target=y&ignore=sex")
  assert dataset.given.dtype.names == ("age",)


def test_parquet(tmp_path):
  table = arrow.table(
    {
      "age": [20, 40, 20, 40],
      "sex": arrow.array(["m", "f", "f", "m"]).dictionary_encode(),
      "gap": [1.5, None, 2.5, 1.5],
      "y": [False, True, False, True],
    }
  )
  parquet.write_table(table, tmp_path / "own.parquet")
  dataset = datasets.load(f"table:{tmp_path / 'own.parquet'}?target=y")
  np.testing.assert_array_equal(dataset.x[:, :3], _X)
  np.testing.assert_array_equal(dataset.x[:, 4], [0, 1, 0, 0])
  assert dataset.class_names == ("False", "True")
  content = (tmp_path / "own.parquet").read_bytes()
  with pytest.raises(ValueError, match="not a whole Parquet file"):
    _load(tmp_path, content[:-20], name="cut.parquet")
  nested = arrow.table({"a": [[1], [2]], "y": [0, 1]})
  parquet.write_table(nested, tmp_path / "nested.parquet")
  with pytest.raises(ValueError, match=r"nested.parquet: column a holds list at row 0"):
    datasets.load(f"table:{tmp_path / 'nested.parquet'}?target=y")


@pytest.mark.parametrize(
  ("content", "options", "message"),
  [
    (_PLAIN, "", "names no target, expected table:PATH.target=NAME"),
    (_PLAIN, "target=", "names no target"),
    (_PLAIN, "target=z", "unknown target 'z'"),
    (_PLAIN, "target=y&colour=red", "unknown option of table: 'colour'"),
    (_PLAIN, "target=y&ignore=z", "unknown ignored column 'z'"),
    (_PLAIN, "target=y&ignore=age,sex", "no column but the target 'y' is left"),
    ("", "target=y", "at least two rows and two columns"),
    ("a\n1\n", "target=a", "at least two rows and two columns"),
    ("a,y\n", "target=y", "at least two rows"),
    ("a,a\n1,2\n", "target=a", "titles are .* all different"),
    ("a,y\n1,0\n2\n3,1\n", "target=y", "line 3 has 1 cells, expected the first's 2"),
    ("a,y\n1,0\n2,0,9\n3,1\n", "target=y", "line 3 has 3 cells"),
    (
      "a,y\n1,0\n2,\n3,1\n",
      "target=y",
      "target y has no label at row 1, counted from 0",
    ),
    ("a,y\n1,0\n2,NA\n3,1\n", "target=y", "own.csv: target y has no label at row 1, "),
    ("a,y\n1,0.5\n2,1\n", "target=y", r"own.csv: y holds 0\.5, expected classes"),
    ("1,0\n2,1\n", "target=y", "no line of titles: give the target as a number from 0"),
    ("1,0\n2,1\n", "target=7", "no line of titles"),
    (b"a,y\n\xe9,0\n1,1\n", "target=y", "not a CSV: it is not UTF-8"),
    (b"a,y\n\0,0\n1,1\n", "target=y", "not a CSV: it holds zero bytes"),
    (b"\xff\xfea", "target=y", "not a CSV"),
    ("a,y\n" + "x" * (1 << 21) + ",0\n1,1\n", "target=y", "not a CSV: field larger"),
  ],
)
def test_what_is_no_table_is_refused(tmp_path, content, options, message):
  with pytest.raises(ValueError, match=message) as caught:
    _load(tmp_path, content, options)
  assert "\n" not in str(caught.value)


def test_absent_table(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
    datasets.load(f"table:{tmp_path / 'none.csv'}?target=y")


def test_ways_to_write_one_number_are_one_class(tmp_path):
  dataset = _load(tmp_path, "a,y\n1,1\n2,1.0\n3,0\n4,0\n")
  np.testing.assert_array_equal(dataset.y, [1, 1, 0, 0])
  assert dataset.num_classes == 2
  assert any("are one class: '1', '1.0'." in note for note in dataset.notes)


@pytest.mark.parametrize(
  ("cells", "values"),
  [
    (["540", "900", "1.440", "2,5"], [540, 900, 1440, 2.5]),
    (
      ["2.469,38", "867,62", "1.000", "-1.234.567,5"],
      [2469.38, 867.62, 1e3, -1234567.5],
    ),
    (["1.234.567", "900", "1.440", "2"], [1234567, 900, 1440, 2]),
    (["1440", "900", "1.440", "2"], [1440, 900, 1.44, 2]),  # no points of thousands
    (["0.540", "900", "1.440", "2"], [0.54, 900, 1.44, 2]),
    (["1.5", "2,5", "1.440", "2"], [1.5, 2.5, 1.44, 2]),
  ],
)
def test_points_of_thousands_in_a_file_of_semicolons(tmp_path, cells, values):
  rows = [f"{cell};{i % 2};{'ab'[i % 2]}" for i, cell in enumerate(cells * 3)]
  dataset = _load(tmp_path, "\n".join(["cost;bit;y", *rows]))
  np.testing.assert_array_equal(dataset.given["cost"], values * 3)


def test_points_that_may_be_of_thousands_are_refused(tmp_path):
  rows = [f"{540 + i};1.{440 + i};{'ab'[i % 2]}" for i in range(20)]
  rows += ["7;NA;a", "8;540;b"]
  text = "\n".join(["age;cost;y", *rows])
  message = r"own\.csv: column cost holds 1\.440, which may be 1440 or 1\.44 in a file"
  with pytest.raises(ValueError, match=message) as caught:
    _load(tmp_path, text)
  assert "\n" not in str(caught.value)
  assert _load(tmp_path, text, "target=y&ignore=cost").given.dtype.names == ("age",)
  found = _load(tmp_path, text.replace("7;NA", "0.5;NA"))  # points are of decimals
  assert found.given["cost"][0] == 1.44
  commas = _load(tmp_path, text.replace(";", ","))
  assert commas.given["cost"][0] == 1.44


@pytest.mark.parametrize(
  ("cells", "values"),
  [
    (["1,000.5", "950", "-12,345,678", "1e3"], [1000.5, 950, -12345678, 1000]),
    (["1,5", "2", "?", "-0,25"], [1.5, 2, np.nan, -0.25]),
    (["#N/A", "2.5", "<NA>", "1,234"], [np.nan, 2.5, np.nan, 1234]),
  ],
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_commas_in_numbers_of_other_files(tmp_path, cells, values, delimiter):
  lines = [["n", "y"], *([f'"{cell}"', "ab"[i % 2]] for i, cell in enumerate(cells))]
  content = "\n".join(delimiter.join(line) for line in lines)
  np.testing.assert_array_equal(_load(tmp_path, content).given["n"], values)


def test_commas_that_may_be_of_thousands_are_refused(tmp_path):
  content = 'n,y\n"1,234",a\n950,b\n"1,235",a\n'
  with pytest.raises(ValueError, match="column n holds '1,234', which may be 1234 or"):
    _load(tmp_path, content)
  beside = 'n,m,y\n"1,234",3,a\n950,4,b\n"1,235",3,a\n'
  assert _load(tmp_path, beside, "target=y&ignore=n").given.dtype.names == ("m",)


def test_titles_with_commas_are_ignored(tmp_path):
  content = '"a, net",b,"a",y\n1,20,3,m\n2,30,3,f\n4,20,5,m\n3,40,9,f\n'
  for ignore, left in (
    ("a, net", ("b", "a")),
    ("b, a, net", ("a",)),
    ("a,b", ("a, net",)),
  ):
    found = _load(tmp_path, content, f"target=y&ignore={ignore}")
    assert found.given.dtype.names == left


def test_a_line_above_the_titles_is_named(tmp_path):
  with pytest.raises(ValueError, match="the first line, '# of May', has one cell"):
    _load(tmp_path, "# of May\n" + _PLAIN)


def test_lines_are_counted_below_what_names_the_delimiter(tmp_path):
  with pytest.raises(ValueError, match="line 4 has 2 cells"):
    _load(tmp_path, "sep=;\na;b;y\n1;2;u\n1;2\n")
