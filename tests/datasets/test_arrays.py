import collections.abc

import numpy as np
import pytest

from jmia import datasets


def _save(tmp_path, **arrays):
  path = tmp_path / "own.npz"
  np.savez(path, **arrays)
  return f"npz:{path}"


@pytest.mark.parametrize(
  ("dtype", "kept", "values", "scale"),
  [
    (np.uint8, np.uint8, [0, 1], 1.0),
    (np.uint8, np.uint8, [0, 255], 1 / 255),
    (np.bool_, np.uint8, [0, 1], 1.0),
    (np.float64, np.float32, [0.5, -0.25], 1.0),
    (np.float16, np.float32, [0.5, -0.25], 1.0),
    (np.int64, np.float32, [-150, 300], 1 / 300),
  ],
)
def test_features_are_cast_and_scaled(tmp_path, dtype, kept, values, scale):
  x = np.array([values, values[::-1], values], dtype)
  dataset = datasets.load(_save(tmp_path, x=x, y=np.array([0, 1, 0], np.uint8)))
  assert dataset.x.dtype == kept
  np.testing.assert_array_equal(dataset.x, [values, values[::-1], values])
  assert dataset.feature_scale == scale
  np.testing.assert_array_equal(dataset.y, [0, 1, 0])
  assert dataset.y.dtype == np.int32
  assert (dataset.num_classes, dataset.num_train) == (2, 3)
  assert dataset.given is None


def test_test_rows_come_after_train_rows(tmp_path):
  name = _save(
    tmp_path, x=[[1.0], [2.0]], y=[0, 1], x_test=[[3.0], [4.0], [5.0]], y_test=[2, 0, 1]
  )
  dataset = datasets.load(name)
  np.testing.assert_array_equal(dataset.x[:, 0], [1, 2, 3, 4, 5])
  np.testing.assert_array_equal(dataset.y, [0, 1, 2, 0, 1])
  assert (dataset.num_train, dataset.num_classes) == (2, 3)
  assert dataset.name == name


_X, _Y = np.eye(3, 2, dtype=np.float32), np.array([0, 1, 1])


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"y": _Y}, "x is missing .found: y"),
    ({"x": _X}, "y is missing"),
    ({"x": _X, "y": _Y, "x_test": _X}, "y_test is missing"),
    ({"x": _X, "y": _Y, "y_test": _Y}, "x_test is missing"),
    ({"x": _X[:, 0], "y": _Y}, r"x has shape \(3,\)"),
    ({"x": _X[:0], "y": _Y[:0]}, r"x has shape \(0, 2\)"),
    ({"x": _X[:2], "y": _Y}, "x has 2 rows and y has 3, expected as many"),
    (
      {"x": _X, "y": _Y[:2], "x_test": _X[:2], "y_test": _Y},
      "x has 3 rows and y has 2,",
    ),
    (
      {"x": _X, "y": _Y, "x_test": _X[:1], "y_test": _Y},
      "x_test has 1 rows and y_test has 3, expected as many",
    ),
    ({"x": _X, "y": _Y, "classes": np.array("ab")}, "classes is ab, expected the name"),
    ({"x": _X, "y": np.array([b"a", b"\xff", b"a"])}, r"y holds b'.xff', expected UTF"),
    ({"x": _X, "y": _Y * 0.5}, "y holds 0.5, expected classes"),
    ({"x": _X, "y": _Y * 0}, "y holds 0 alone, expected labels of at least 2"),
    ({"x": _X + np.nan, "y": _Y}, r"x holds 6 NaN .* first at \(0, 0\)"),
    ({"x": np.full((3, 2), 1e300), "y": _Y}, r"x holds a number of size 1e\+300"),
    ({"x": _X + 1j, "y": _Y}, "x has dtype complex64"),
    ({"x": np.array([["a"]] * 3), "y": _Y}, "x has dtype <U1"),
    ({"x": _X.astype(object), "y": _Y}, "plain arrays"),
    ({"x": _X, "y": _Y, "x_test": _X[:, :1], "y_test": _Y}, "rows of shape"),
    (
      {"x": _X / 2, "y": _Y, "x_test": _X * 255, "y_test": _Y},
      r"x reaches 0\.5 and x_test 255, expected one unit in both",
    ),
    (
      {"x": _X * 100, "y": _Y, "x_test": _X / 3, "y_test": _Y},
      r"x reaches 100 and x_test 0\.333333, expected one unit",
    ),
    (
      {"x": _X, "y": _Y, "x_test": _X > 0, "y_test": _Y},
      "x_test has dtype bool, expected float32",
    ),
  ],
)
def test_bad_arrays_are_named(tmp_path, arrays, message):
  with pytest.raises(ValueError, match=message) as caught:
    datasets.load(_save(tmp_path, **arrays))
  assert "own.npz" in str(caught.value)


def test_absent_file(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"absent\.npz: no such file"):
    datasets.load(f"npz:{tmp_path / 'absent.npz'}")


def test_truncated_and_foreign_files(tmp_path):
  path = tmp_path / "own.npz"
  _save(tmp_path, x=_X, y=_Y)
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r"own\.npz: not a whole \.npz"):
    datasets.load(f"npz:{path}")
  path.write_text("hello")
  with pytest.raises(ValueError, match=r"own\.npz: not a whole \.npz"):
    datasets.load(f"npz:{path}")
  np.save(tmp_path / "bare.npy", _X)
  with pytest.raises(ValueError, match="one bare array"):
    datasets.load(f"npz:{tmp_path / 'bare.npy'}")


def test_classes_of_an_npz(tmp_path):
  name = _save(tmp_path, x=_X, y=np.array(["b", "a", "b"]), classes=["a", "b", "c"])
  dataset = datasets.load(name)
  assert (dataset.num_classes, dataset.class_names) == (3, ("a", "b", "c"))
  np.testing.assert_array_equal(dataset.y, [1, 0, 1])


class _Tensor:
  """What of PyTorch's tensors is used, on a device that NumPy cannot read."""

  dtype = "torch.float32"

  def __init__(self, values, on_host=False):
    self._values, self._on_host = values, on_host

  def detach(self):
    return self

  def cpu(self):
    return _Tensor(self._values, on_host=True)

  def __array__(self, dtype=None, copy=None):
    assert self._on_host
    return np.asarray(self._values, dtype)


def _sparse(values):
  from scipy import sparse

  return sparse.csr_matrix(values)


@pytest.mark.parametrize(
  "given",
  [
    np.asarray,
    np.ndarray.tolist,
    _Tensor,
    _sparse,
    lambda x: np.ma.masked_array(x, False),
  ],
)
def test_arrays_of_other_packages(given):
  x = np.arange(12.0).reshape(4, 3) / 12
  y = np.array([1, 0, 1, 0])
  dataset = datasets.from_arrays(given(x), _Tensor(y), name="own")
  np.testing.assert_array_equal(dataset.x, x.astype(np.float32))
  np.testing.assert_array_equal(dataset.y, y)
  assert (dataset.name, dataset.feature_scale, dataset.notes) == ("own", 1.0, ())


@pytest.mark.parametrize(
  ("x", "message"),
  [
    (None, "x is one NoneType, expected an array of rows"),
    ((row for row in _X), "x is one generator"),
    ([[1], [1, 2], [3]], "x is no array, but <class 'list'>"),
    (np.ma.masked_array(_X, True), "x has masked values"),
    ({"a": [1, 2, 3], "b": [1, 2]}, "columns of .* rows, expected as many in all"),
    ({"a": [[1], [2], [3]]}, r"column a has shape \(3, 1\)"),
    ({}, "x has the columns .*, expected some"),
  ],
)
def test_what_is_no_array_is_named(x, message):
  with pytest.raises(ValueError, match=message) as caught:
    datasets.from_arrays(x, _Y)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames(package):
  frames = pytest.importorskip(package)
  table = {"age": [20.0, 40.0, 20.0, 40.0], "sex": ["f", "m", "m", "f"]}
  labels = frames.Series(["no", "yes", "no", "yes"])
  dataset = datasets.from_arrays(frames.DataFrame(table), labels)
  np.testing.assert_array_equal(
    dataset.x, [[-1, 1, 0], [1, 0, 1], [-1, 0, 1], [1, 1, 0]]
  )
  assert dataset.class_names == ("no", "yes")
  assert dataset.given.dtype.names == ("age", "sex")
  assert dataset.given.tolist() == list(zip(*table.values(), strict=True))


class _Column(collections.abc.Sequence):
  """As a column of Hugging Face's datasets: rows on demand, and no array."""

  def __init__(self, rows):
    self._rows = rows

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, row):
    return self._rows[row]


def test_columns_of_hugging_face():
  x = [[0.0, 1.0], [1.0, 0.5], [0.25, 0.0]]
  dataset = datasets.from_arrays(_Column(x), _Column(_Y.tolist()))
  np.testing.assert_array_equal(dataset.x, x)
  np.testing.assert_array_equal(dataset.y, _Y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_pytorch(dtype):
  torch = pytest.importorskip("torch")
  x = torch.tensor([[0.5, 1], [1, 0.25], [0, 0]], requires_grad=True)
  dataset = datasets.from_arrays(x.to(getattr(torch, dtype)), torch.tensor(_Y))
  np.testing.assert_array_equal(dataset.x, [[0.5, 1], [1, 0.25], [0, 0]])


def test_a_label_that_is_missing_from_a_list_is_no_class():
  y = ["a", float("nan"), *["b"] * 18]
  with pytest.raises(ValueError, match="y has no label at row 1, counted from 0"):
    datasets.from_arrays(np.eye(20), y)


def test_labels_in_another_order_than_their_frame_are_refused():
  pandas = pytest.importorskip("pandas")
  labels = np.arange(20) % 2
  x = pandas.DataFrame({"a": np.arange(20) / 7, "b": labels})
  y = pandas.Series(labels)
  message = (
    r"y has the index of x in another order: give y\.loc\[x\.index\], or reset_in"
  )
  with pytest.raises(ValueError, match=message):
    datasets.from_arrays(x, y.iloc[::-1])
  with pytest.raises(ValueError, match="y_test has the index of x_test in another ord"):
    datasets.from_arrays(x, y, x_test=x, y_test=y[::-1])
  expected = datasets.from_arrays(x, y)
  for of_x, of_y in (
    (x[::-1], y[::-1]),
    (x, y.set_axis(range(30, 50))),  # another index says nothing
    (x, y.to_numpy()),
    (x.to_numpy(), y[::-1]),
  ):
    np.testing.assert_array_equal(datasets.from_arrays(of_x, of_y).y, np.asarray(of_y))
  np.testing.assert_array_equal(
    datasets.from_arrays(x, y[::-1].loc[x.index]).y, expected.y
  )


def test_a_sparse_matrix_has_test_rows_too():
  dataset = datasets.from_arrays(_sparse(_X), _Y, x_test=_sparse(_X), y_test=_Y)
  expected = datasets.from_arrays(_X, _Y, x_test=_X, y_test=_Y)
  np.testing.assert_array_equal(dataset.x, expected.x)
  assert dataset.num_train == 3
