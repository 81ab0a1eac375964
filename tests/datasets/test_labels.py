import numpy as np
import pytest

from jmia.datasets import labels


@pytest.mark.parametrize(
  ("values", "y", "names", "note"),
  [
    (np.array([0, 2, 1, 0], np.uint8), [0, 2, 1, 0], (), None),
    ([1, 2, 1, 3, 2], [0, 1, 0, 2, 1], ("1", "2", "3"), "are 1, 2, 3: numbered 0 to 2"),
    ([-1, 1, -1], [0, 1, 0], ("-1", "1"), "are -1, 1"),
    ([0, 5, 9, 0], [0, 1, 2, 0], ("0", "5", "9"), "have no row and are no classes"),
    ([0.0, 1.0, 1.0], [0, 1, 1], (), "floats that are whole numbers"),
    ([2.0, 1.0, 1.0], [1, 0, 0], ("1", "2"), "are 1, 2"),
    (["b", "a", " b "], [1, 0, 1], ("a", "b"), "are a, b"),
    ([b"b", b"a", b"b"], [1, 0, 1], ("a", "b"), "are a, b"),
    (["10", "9", "10"], [1, 0, 1], ("9", "10"), "are 9, 10"),
    (["0", "1", "0"], [0, 1, 0], (), None),
    (["01", "1", "01"], [0, 1, 0], ("01", "1"), "are 01, 1"),
    (
      ["1", "1.0", "0", "0"],
      [1, 1, 0, 0],
      (),
      "write one number are one class: '1', '1.",
    ),
    (
      ["1e1", "+10", "9.", "x"] * 2,
      [0, 0, 1, 2] * 2,
      ("10", "9", "x"),
      "'+10', '1e1'",
    ),
    (["0.50", ".5", "a"] * 2, [0, 0, 1] * 2, (".5", "a"), "'.5', '0.50'"),
    (["01", "1", "1.0"] * 2, [0, 1, 1] * 2, ("01", "1"), "one class: '1', '1.0'"),
    (["None", "a", "a"], [0, 1, 1], ("None", "a"), "'None' too, taken for a class"),
    ([True, False, True], [1, 0, 1], ("False", "True"), "are False, True"),
    ([[1, 0], [0, 1], [1, 0]], [0, 1, 0], (), "one-hot"),
    ([[0], [1], [0]], [0, 1, 0], (), None),
    (np.array([True, False], object), [1, 0], ("False", "True"), "are False, True"),
    (np.array([0, 1.0, 1], object), [0, 1, 1], (), "floats"),
    (np.array(["y", "n"], object), [1, 0], ("n", "y"), "are n, y"),
    ([2**62, 2**62 + 1], [0, 1], (str(2**62), str(2**62 + 1)), "numbered"),
  ],
)
def test_labels_as_people_write_them(values, y, names, note):
  found = labels.read("y", values)
  np.testing.assert_array_equal(found.y, y)
  assert found.y.dtype == np.int32
  assert (found.num_classes, found.names) == (max(y) + 1, names)
  assert bool(found.notes) == (note is not None)
  assert note is None or note in " ".join(found.notes)


def test_names_of_folders_may_be_any():
  found = labels.read("label", ["na", "1", "1.0"], are_titles=True)
  assert found.names == ("1", "1.0", "na")
  found = labels.read("y", ["NA", "1.0"], ["NA", "1", "1.0"])  # so are those given
  np.testing.assert_array_equal(found.y, [0, 2])


def test_given_classes_may_have_no_row():
  found = labels.read("y", ["b", "a"], ["c", "b", "a"])
  np.testing.assert_array_equal(found.y, [1, 2])
  assert (found.num_classes, found.names) == (3, ("c", "b", "a"))
  found = labels.read("y", [2, 0], ["c", "b", "a"])
  np.testing.assert_array_equal(found.y, [2, 0])
  assert not found.notes
  found = labels.read("y", [b"b", b"a"], [b"a", b"b "])
  np.testing.assert_array_equal(found.y, [1, 0])
  assert found.names == ("a", "b")


@pytest.mark.parametrize(
  ("values", "classes", "y", "note"),
  [
    ([1, 4, 1], [1, 2, 3, 4], [0, 3, 0], "names of classes: 1, 2, 3, 4 became 0 to 3"),
    ([10, 9], range(1, 11), [9, 8], "names of classes: 1, 2, 3, 4, 5, ... became"),
    ([-1, 1], ["-1", "1"], [0, 1], "names of classes"),
    ([1, 2, 3], np.array([1.0, 2.0, 3.0]), [0, 1, 2], "names of classes"),
    ([0, 2, 1], [0, 1, 2, 3], [0, 2, 1], None),
    ([0, 2], [1, 2, 3], [0, 2], "numbers of classes from 0, in the order 1, 2, 3"),
    ([0, 1], [5, 7], [0, 1], "numbers of classes from 0, in the order 5, 7"),
    (["0", "1"], [2, 1, 0], [2, 1], None),  # text is a name
    ([[0, 1, 0], [0, 0, 1]], [2, 1, 0], [1, 2], "one-hot"),  # columns are in order
  ],
)
def test_classes_that_are_called_numbers(values, classes, y, note):
  found = labels.read("y", values, classes)
  np.testing.assert_array_equal(found.y, y)
  assert found.names == tuple(str(c) for c in classes)
  assert bool(found.notes) == (note is not None)
  assert note is None or note in " ".join(found.notes)


@pytest.mark.parametrize(
  ("values", "classes"),
  [
    ([1, 2, 3, 1], [1, 2, 3, 4]),
    ([0, 1, 2], [2, 1, 0]),
    (range(1, 10), [str(c) for c in range(1, 11)]),
    ([1, 2], ["01", "1", "2"]),
  ],
)
def test_numbers_that_may_be_names_or_places_are_refused(values, classes):
  message = "may be a name in classes .* or a class's number from 0: give y as text"
  with pytest.raises(ValueError, match=message) as caught:
    labels.read("y", list(values), classes)
  assert "\n" not in str(caught.value)
  places = [classes[value] for value in values]  # what the message advises
  found = labels.read("y", [str(c) for c in places], classes)
  np.testing.assert_array_equal(found.y, list(values))


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ([], "y is empty"),
    ([0, 0], "y holds 0 alone, expected labels of at least 2 classes"),
    ([0.5, 1], r"y holds 0\.5, .* np\.digitize"),
    ([np.nan, 1], "y holds 1 NaN"),
    ([np.inf, 1], "y holds 1 NaN or infinite"),
    ([1e300, 1], "y holds 1e.300, expected classes"),
    ([1j, 0], "y has dtype complex128"),
    (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), r"y has dtype datetime64\[D\]"),
    ([["a", "b"]], "its rows are not one-hot"),
    ([[0.3, 0.7]], "its rows are not one-hot, .* probabilities"),
    ([[1, 1], [0, 1]], "its rows are not one-hot, .* several labels"),
    (np.zeros((2, 2, 2)), r"y has shape \(2, 2, 2\)"),
    (["a", "", "a"], "y has no label at row 1"),
    (np.array(["a", None], object), "y has no label at row 1, counted from 0"),
    (["a", "b", float("nan"), "a"], "y has no label at row 2, counted from 0"),
    ([["a"], ["b"], [float("nan")]], "y has no label at row 2, counted from 0"),
    (
      ["b", "NA", "a", "b"],
      "no label at row 1, .* 'NA' says that it is missing; renam",
    ),
    (["1", "0", "1", "nan"], "y has no label at row 3, .* 'nan' says that it is miss"),
    (["?", "a", "b", "a"], r"y has no label at row 0, .* '\?' says that it is missing"),
    (["a", 1], "objects of the types int, str"),
    (np.array([{}, []], object), "objects of the types dict, list"),
    (np.arange(40), "40 different labels over 40 rows: .* ids or a quantity"),
  ],
)
def test_what_no_class_can_be_read_from_is_refused(values, message):
  with pytest.raises(ValueError, match=message) as caught:
    labels.read("y", values)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("values", "classes", "message"),
  [
    (["a", "b"], ["a"], "classes holds 1 names"),
    (["a", "b"], ["a", "a"], "of which 1 differ"),
    (["a", "q"], ["a", "b"], "y holds 'q', which is none of classes"),
    ([0, 2], ["a", "b"], "labels from 0 to 2, expected 0 to 1"),
    ([0, 5], [5, 6, 7], "y holds 0, but its labels are neither all among classes nor"),
    ([[0, 1], [1, 0]], ["a", "b", "c"], "one-hot rows of 2 columns .* holds 3 names"),
    ([0, 1], [["a"], ["b"]], r"classes holds \['a'\], expected names"),
  ],
)
def test_labels_that_are_none_of_the_classes(values, classes, message):
  with pytest.raises(ValueError, match=message):
    labels.read("y", values, classes)
