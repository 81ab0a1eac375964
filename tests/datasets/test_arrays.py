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
    (np.uint8, np.uint8, [0, 2], 1 / 255),
    (np.bool_, np.uint8, [0, 1], 1.0),
    (np.float64, np.float32, [0.5, -3.25], 1.0),
    (np.float16, np.float32, [0.5, -3.25], 1.0),
    (np.int64, np.float32, [-7, 300], 1.0),
  ],
)
def test_features_are_cast_and_scaled(tmp_path, dtype, kept, values, scale):
  x = np.array([values, values, values], dtype)
  dataset = datasets.load(_save(tmp_path, x=x, y=np.array([0, 1, 0], np.uint8)))
  assert dataset.x.dtype == kept
  np.testing.assert_array_equal(dataset.x, np.array([values] * 3))
  assert dataset.feature_scale == scale
  np.testing.assert_array_equal(dataset.y, [0, 1, 0])
  assert dataset.y.dtype == np.int32
  assert (dataset.num_classes, dataset.num_train) == (2, 3)


def test_test_rows_come_after_train_rows(tmp_path):
  name = _save(
    tmp_path, x=[[1.0], [2.0]], y=[0, 1], x_test=[[3.0], [4.0], [5.0]], y_test=[2, 0, 1]
  )
  dataset = datasets.load(name)
  np.testing.assert_array_equal(dataset.x[:, 0], [1, 2, 3, 4, 5])
  np.testing.assert_array_equal(dataset.y, [0, 1, 2, 0, 1])
  assert (dataset.num_train, dataset.num_classes) == (2, 3)
  assert dataset.name == name


_X, _Y = np.zeros((3, 2), np.float32), np.array([0, 1, 1])


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"y": _Y}, "x is missing .found: y"),
    ({"x": _X}, "y is missing"),
    ({"x": _X, "y": _Y, "x_test": _X}, "y_test is missing"),
    ({"x": _X, "y": _Y, "y_test": _Y}, "x_test is missing"),
    ({"x": _X[:, 0], "y": _Y}, r"x has shape \(3,\)"),
    ({"x": _X[:0], "y": _Y[:0]}, r"x has shape \(0, 2\)"),
    ({"x": _X[:2], "y": _Y}, r"y has shape \(3,\), expected \(2\)"),
    ({"x": _X, "y": _Y[:, None]}, r"y has shape \(3, 1\)"),
    ({"x": _X, "y": _Y * 1.0}, "y has dtype float64, expected integer labels"),
    ({"x": _X, "y": _Y - 1}, "labels from -1 to 0"),
    ({"x": _X, "y": _Y * 3}, "labels from 0 to 3 over 3 rows"),
    ({"x": _X, "y": _Y * 0}, "labels from 0 to 0"),
    ({"x": _X + np.nan, "y": _Y}, r"x holds 6 NaN .* first at \(0, 0\)"),
    ({"x": np.full((3, 2), 1e300), "y": _Y}, "x holds 6 NaN or infinite"),
    ({"x": _X + 1j, "y": _Y}, "x has dtype complex64"),
    ({"x": np.array([["a"]] * 3), "y": _Y}, "x has dtype <U1"),
    ({"x": _X.astype(object), "y": _Y}, "plain arrays"),
    ({"x": _X, "y": _Y, "x_test": _X[:, :1], "y_test": _Y}, "rows of shape"),
    ({"x": _X, "y": _Y, "x_test": _X > 0, "y_test": _Y}, "x_test has dtype uint8"),
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
