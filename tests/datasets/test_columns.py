import numpy as np
import pytest

from jmia import datasets
from jmia.datasets import columns

_AGES = np.array([20.0, 40.0] * 6)


def _read(*tables):
  return columns.read([columns.of_frame(table) for table in tables])


@pytest.mark.parametrize(
  ("values", "expected", "note"),
  [
    (_AGES, [[-1], [1]] * 6, "1 of 2 columns are numbers and standardised"),
    (_AGES.astype(int), [[-1], [1]] * 6, "standardised"),
    ([str(age) for age in _AGES], [[-1], [1]] * 6, "standardised"),
    ([0, 1] * 6, [[0], [1]] * 6, None),
    ([False, True] * 6, [[0], [1]] * 6, None),
    (["m", "f"] * 6, [[0, 1], [1, 0]] * 6, "1 of 2 columns are categories"),
    (np.array(["m", "f"] * 6, "S"), [[0, 1], [1, 0]] * 6, "became 2 columns"),
    (
      [20, None, np.nan, 40] * 3,
      [[-(2**0.5), 0], [0, 1], [0, 1], [2**0.5, 0]] * 3,
      "Gaps in c are filled with the column's mean",
    ),
    (["1", "?", "", "0"] * 3, [[1, 0], [0.5, 1], [0.5, 1], [0, 0]] * 3, "Gaps in c"),
    (
      ["1", float("nan"), "", "0"] * 3,
      [[1, 0], [0.5, 1], [0.5, 1], [0, 0]] * 3,
      "Gaps",
    ),
    (["m", float("nan"), ""] * 4, [[0, 1], [1, 0], [1, 0]] * 4, "became 2 columns"),
    (["m", "", None] * 4, [[0, 1], [1, 0], [1, 0]] * 4, "became 2 columns"),
    (["1_1", "11"] * 6, [[0, 1], [1, 0]] * 6, "became 2 columns"),  # 11 to Python
    (["٣", "3"] * 6, [[0, 1], [1, 0]] * 6, "became 2 columns"),
    ([" +1.e0", "-.5E-1 "] * 6, [[1], [-1]] * 6, "standardised"),
    (np.array([1, "a"] * 6, object), [[1, 0], [0, 1]] * 6, "became 2 columns"),
    (np.array([b"b", "a"] * 6, object), [[0, 1], [1, 0]] * 6, "became 2 columns"),
  ],
)
def test_a_column_of_each_kind(values, expected, note):
  found, given = _read({"c": values, "bit": [0, 1] * 6})
  np.testing.assert_allclose(found.x[:, :-1], expected, rtol=1e-6)
  np.testing.assert_array_equal(found.x[:, -1], [0, 1] * 6)
  assert found.scale == 1
  assert bool(found.notes) == (note is not None)
  assert note is None or note in " ".join(found.notes)
  assert given.dtype.names == ("c", "bit")


@pytest.mark.parametrize(
  ("values", "reason"),
  [
    (range(100, 112), "row numbers"),
    (["x"] * 12, "one value alone"),
    ([3.5] * 12, "one value alone"),
    ([f"patient {i}" for i in range(12)], "text that differs in most rows"),
  ],
)
def test_what_says_nothing_of_a_class_is_left_out(values, reason):
  found, given = _read({"c": list(values), "age": _AGES})
  assert found.x.shape == (12, 1)
  assert f"Column c is left out: {reason}." in found.notes
  assert given["c"].tolist() == list(values)  # a model of the user's may know it


@pytest.mark.parametrize("of_row", [int, "patient {}".format])
@pytest.mark.parametrize("start", [0, 7, 40])
@pytest.mark.parametrize("num_test", [1, 20, 40])
def test_row_numbers_that_start_again(of_row, start, num_test):
  train = {"c": [of_row(row) for row in range(40)], "bit": np.arange(40) % 2}
  rows = range(start, start + num_test)
  test = {"c": [of_row(row) for row in rows], "bit": np.arange(num_test) % 2}
  found, _ = _read(train, test)
  assert found.x.shape == (40 + num_test, 1)
  assert "Column c is left out" in " ".join(found.notes)


def _objects(*cells):
  return np.array(cells, object)


@pytest.mark.parametrize(
  ("train", "test", "message"),
  [
    ([1.0, 2.0], ["1", "x"], "column c is numbers in x and text in x_test"),
    (["1", "x"], [1, 2], "column c is numbers in x_test and text in x"),
    ([True, False], ["True", "False"], "numbers in x and text in x_test"),
    (_objects(1, 2), ["a", "b"], "numbers in x and text in x_test"),
    (["1.0", "2.0"], ["1", "x"], "the number 1 as '1' and '1.0', which would be two"),
    (_objects(1.0, "x"), _objects(1, "x"), "the number 1 as '1' and '1.0'"),
    (_objects(1.0, "1", "x"), ["x"], "the number 1 as '1' and '1.0'"),
  ],
)
def test_a_format_that_tells_train_rows_from_test_rows_is_refused(train, test, message):
  tables = [{"c": part, "bit": np.arange(len(part)) % 2} for part in (train, test)]
  with pytest.raises(ValueError, match=message) as caught:
    _read(*tables)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("train", "test", "expected"),
  [
    ([0.0, 1.0], ["1", "0"], [0, 1, 1, 0]),
    ([False, True], ["1", "0"], [0, 1, 1, 0]),
    (["a", "b"], [np.nan, np.nan], ["a", "b", "", ""]),
    (["1", "2"], ["1", "x"], ["1", "2", "1", "x"]),
    (_objects(1, "x"), _objects(1, 1), ["1", "x", "1", "1"]),
    (["01", "1", "x"], ["1", "x"], ["01", "1", "x", "1", "x"]),  # codes
  ],
)
def test_parts_of_one_kind_are_read_as_one(train, test, expected):
  _, given = _read({"c": train}, {"c": test})
  assert given["c"].tolist() == expected


def test_rare_categories_share_a_column():
  names = [f"c{i % 150 if i < 300 else i % 100}" for i in range(1_000)]
  found, _ = _read({"c": names, "bit": np.arange(1_000) % 2})
  assert found.x.shape == (1_000, 102)
  one_hot = found.x[:, :101]
  np.testing.assert_array_equal(one_hot.sum(1), 1)
  assert one_hot.dtype == np.uint8
  is_rare = np.array([int(name[1:]) >= 100 for name in names])
  np.testing.assert_array_equal(one_hot[:, 100], is_rare)


def test_train_and_test_rows_are_read_alike():
  found, given = _read({"c": ["a", "b"], "n": [0.0, 5.0]}, {"c": ["c"], "n": [10.0]})
  np.testing.assert_array_equal(found.x[:, :3], np.eye(3))
  np.testing.assert_allclose(found.x[:, 3], [-(1.5**0.5), 0, 1.5**0.5])
  assert given["c"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
  ("tables", "message"),
  [
    (({"a": [1, 2]}, {"b": [1]}), r"x_test has the columns \['b'\], not \['a'\]"),
    (({"a": [1.0, np.inf]},), "column a holds 1 NaN or infinite"),
    (
      ({"a": [1e300, 2]},),
      r"column a holds a number of size 1e\+300, expected at most",
    ),
    (({"a": ["1e999", "2"]},), "column a holds 1 NaN or infinite"),
    (({"a": [1j, 2]},), "column a has dtype complex128"),
    (({"a": np.array(["2020-01-01"] * 2, "M8[D]")},), "give times as a number of days"),
    (({"a": np.array([{}, 1], object)},), "column a holds dict at row 0"),
    (({"a": [7, 7]},), r"x has the columns \['a'\], none to learn from"),
    (({"a": [np.nan, np.nan]},), "none to learn from"),
  ],
)
def test_what_is_no_feature_is_refused(tables, message):
  with pytest.raises(ValueError, match=message):
    _read(*tables)


def test_a_dataset_of_columns_keeps_what_came():
  table = {"age": _AGES, "sex": ["m", "f"] * 6}
  dataset = datasets.from_arrays(table, [0, 1] * 6)
  assert dataset.given["age"].tolist() == _AGES.tolist()
  assert dataset.x.shape == (12, 3)


@pytest.mark.parametrize("odd", ["<5", "40 mg", "1,75", "unknown"])
def test_a_cell_that_makes_text_of_numbers_is_named(odd):
  crp = [str(row % 9) for row in range(300)]
  crp[7], crp[8] = odd, "NA"
  found, _ = _read({"crp": crp, "sex": ["m", "f"] * 150, "bit": [0, 1] * 150})
  said = f"298 of 299 cells are numbers, {odd!r} in row 7, counted from 0, is not"
  assert f"crp: {said}: taken for categories." in found.notes
  assert not any(note.startswith("sex") for note in found.notes)
  crp = [f"{row}.5" for row in range(300)]
  crp[7] = odd
  found, _ = _read({"crp": crp, "sex": ["m", "f"] * 150})
  why = "text that differs in most rows"
  said = said.replace("298 of 299", "299 of 300")
  assert f"Column crp is left out: {why} ({said})." in found.notes


@pytest.mark.parametrize("kind", [int, str])
def test_ids_that_are_too_long_to_tell_apart(kind):
  ids = [kind(10**20 + row) for row in range(12)]
  found, _ = _read({"id": ids, "bit": [0, 1] * 6})
  assert "Column id is left out: numbers too long to tell apart." in found.notes
  found, _ = _read({"id": [kind(10**20)] * 12, "bit": [0, 1] * 6})
  assert "Column id is left out: one value alone." in found.notes
