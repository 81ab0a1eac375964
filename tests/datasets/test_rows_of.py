import numpy as np
import pytest

from jmia import datasets

_RNG = np.random.default_rng(0)
_X = _RNG.integers(256, size=(20, 6, 5, 1), dtype=np.uint8)
_Y = np.arange(20) % 2


@pytest.mark.parametrize(
  "as_stored",
  [
    lambda x: x,
    lambda x: x[..., 0],
    lambda x: x.astype(np.float64),
    lambda x: x.tolist(),
  ],
)
def test_rows_of_another_copy_in_another_order(as_stored):
  dataset = datasets.from_arrays(_X, _Y)
  order = _RNG.permutation(20)[:12]
  np.testing.assert_array_equal(datasets.rows_of(dataset, as_stored(_X[order])), order)


def test_rows_that_are_not_there_and_copies():
  x = _X.copy()
  x[7] = x[3]
  dataset = datasets.from_arrays(x, _Y)
  asked = np.stack([x[3], 255 - x[0], x[3], x[3], x[1]])
  np.testing.assert_array_equal(datasets.rows_of(dataset, asked), [3, -1, 7, -1, 1])


def test_rows_as_they_were_given():
  first = np.moveaxis(np.repeat(_X, 3, axis=3), 3, 1)
  dataset = datasets.from_arrays(first, _Y)
  np.testing.assert_array_equal(datasets.rows_of(dataset, first[[4, 2]]), [4, 2])
  table = {"a": _RNG.random(20) * 1e3, "b": list("xy") * 10}
  dataset = datasets.from_arrays(table, _Y)
  np.testing.assert_array_equal(
    datasets.rows_of(dataset, dataset.given[[4, 2]]), [4, 2]
  )


def test_rows_as_stored_where_they_were_given_otherwise():
  x = _RNG.normal(size=(20, 3)) * [9e3, 10, 1] + [5e4, 40, 0]
  table = {"a": x[:, 0], "b": list("xy") * 10}
  for dataset in (datasets.from_arrays(x, _Y), datasets.from_arrays(table, _Y)):
    assert not np.array_equal(dataset.x, dataset.given)
    for rows in (dataset.x, dataset.given):
      found = datasets.rows_of(dataset, rows[[4, 2, 9]])
      np.testing.assert_array_equal(found, [4, 2, 9])
  absent = np.concatenate([dataset.x[[4]], dataset.x[[2]] + 9])
  np.testing.assert_array_equal(datasets.rows_of(dataset, absent), [4, -1])


def test_rows_that_may_be_stored_or_given():
  x = np.arange(1.0, 21)[:, None]
  dataset = datasets.from_arrays(x, _Y)._replace(x=x / 2, given=x)
  for asked, expected in (([4, 19], [3, 18]), ([0.5, 4], [0, 7]), ([3, 3.5], [5, 6])):
    found = datasets.rows_of(dataset, np.array(asked, float)[:, None])
    np.testing.assert_array_equal(found, expected)
  message = r"row 1 of x is row 3 of arrays as stored .* and row 1 as given"
  with pytest.raises(ValueError, match=message):
    datasets.rows_of(dataset, np.array([[-7.0], [2.0]]))
  with pytest.raises(ValueError, match="row 0 of x is row 7 of arrays as stored"):
    datasets.rows_of(dataset, np.array([[4.0], [5.0]]))


def test_columns_are_compared_by_name_and_value():
  table = {"a": np.arange(20), "b": ["x", "long"] * 10}
  dataset = datasets.from_arrays(table, _Y, name="own")
  other = np.array([("x", 4), ("longer", 1)], [("b", "U9"), ("a", int)])
  np.testing.assert_array_equal(datasets.rows_of(dataset, other), [4, -1])
  message = r"rows of shape \(\), expected shape \(2,\) or the columns \['a', 'b'\] as"
  with pytest.raises(ValueError, match=message):
    datasets.rows_of(dataset, np.arange(4))


def test_signed_zeros_are_one():
  x = np.array([[0.0, 1], [1, 0.5]])
  dataset = datasets.from_arrays(x, [0, 1])
  assert datasets.rows_of(dataset, [[-0.0, 1]]).tolist() == [0]


def test_rows_of_another_shape_are_refused():
  dataset = datasets.from_arrays(_X, _Y)
  with pytest.raises(
    ValueError, match=r"x has rows of shape \(5, 5\), expected shape \(6"
  ):
    datasets.rows_of(dataset, _X[:, :5, :, 0])


@pytest.mark.parametrize("package", ["dict", "pandas", "polars"])
@pytest.mark.parametrize("is_text", [False, True])
def test_rows_of_a_frame_whatever_the_order_of_its_columns(package, is_text):
  frame = dict if package == "dict" else pytest.importorskip(package).DataFrame
  rng = np.random.default_rng(0)
  table = {"age": rng.normal(50, 9, 20), "pay": rng.integers(100, 900, 20)}
  if is_text:
    table["job"] = rng.choice(["cook", "clerk"], 20)
  dataset = datasets.from_arrays(frame(table), _Y)
  asked = {name: table[name][[7, 3, 11, 3]] for name in reversed(table)}
  asked["age"][2] = 0.5
  found = datasets.rows_of(dataset, frame(asked))
  np.testing.assert_array_equal(found, [7, 3, -1, -1])


def test_a_frame_that_says_that_values_are_missing():
  table = {"a": [1.0, np.nan, 3.0] * 6, "b": ["x", None, "?"] * 6}
  dataset = datasets.from_arrays(table, _Y[:18])
  asked = {"b": [None, "?"], "a": np.array([None, 3], object)}
  np.testing.assert_array_equal(datasets.rows_of(dataset, asked), [1, 2])


def test_frames_of_other_columns_are_refused():
  dataset = datasets.from_arrays({"a": np.arange(20) / 7, "b": _Y}, _Y)
  with pytest.raises(ValueError, match=r"x has the columns \['a'\], expected \['a', '"):
    datasets.rows_of(dataset, {"a": [1.0]})
  with pytest.raises(ValueError, match="column a holds text, expected numbers"):
    datasets.rows_of(dataset, {"a": ["x"], "b": [1]})
