import adapter_example
import numpy as np
import pytest

from jmia import adapters, datasets
from jmia.adapters import onnx_file

_X, _Y = adapter_example.X, adapter_example.Y


def _save(path, batch="N", outputs=("logits",), kind="FLOAT"):
  """A matrix product, written as an ONNX file."""
  onnx = pytest.importorskip("onnx")
  helper, of = onnx.helper, getattr(onnx.TensorProto, kind)
  weights = helper.make_tensor("w", of, [3, 3], (9 * np.eye(3)).ravel())
  graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], [name]) for name in outputs],
    "graph",
    [helper.make_tensor_value_info("x", of, [batch, 3])],
    [helper.make_tensor_value_info(name, of, [batch, 3]) for name in outputs],
    [weights],
  )
  model = helper.make_model(
    graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
  )
  onnx.save(model, path)
  return path


@pytest.mark.parametrize("batch", ["N", 1, 40])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_an_onnx_file(tmp_path, batch, kind):
  pytest.importorskip("onnxruntime")
  path = _save(tmp_path / "own.onnx", batch, kind=kind)
  predict = adapters.from_onnx(path, adapter_example.dataset())
  np.testing.assert_allclose(predict(_X), 9 * _X, rtol=1e-5)
  np.testing.assert_allclose(predict(_X.reshape(90, 3, 1)), 9 * _X, rtol=1e-5)


def test_which_output_is_asked_for(tmp_path):
  pytest.importorskip("onnxruntime")
  path = _save(tmp_path / "own.onnx", outputs=("a", "b"))
  dataset = adapter_example.dataset()
  with pytest.raises(ValueError, match="expected one output of floats; say which"):
    adapters.from_onnx(path, dataset)
  with pytest.raises(ValueError, match="not output='c'"):
    adapters.from_onnx(path, dataset, output="c")
  assert adapters.from_onnx(path, dataset, output="b")(_X).shape == (90, 3)


def test_what_is_no_onnx_model(tmp_path):
  dataset = adapter_example.dataset()
  with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such file"):
    adapters.from_onnx(tmp_path / "none.onnx", dataset)
  pytest.importorskip("onnxruntime")
  (tmp_path / "bad.onnx").write_bytes(b"no model")
  with pytest.raises(ValueError, match=r"bad\.onnx: no ONNX model") as caught:
    adapters.from_onnx(tmp_path / "bad.onnx", dataset)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("names", [None, ["b", "c", "a"]])
def test_an_estimator_as_exporters_write_it(tmp_path, zipmap, names):
  pytest.importorskip("onnxruntime")
  skl2onnx = pytest.importorskip("skl2onnx")
  from sklearn import linear_model

  dataset = adapter_example.dataset(names)
  labels = _Y if names is None else np.array(names)[_Y]
  model = linear_model.LogisticRegression().fit(_X, labels)
  content = skl2onnx.to_onnx(model, _X[:1], options={"zipmap": zipmap})
  path = tmp_path / "own.onnx"
  path.write_bytes(content.SerializeToString())
  found = adapters.from_onnx(path, dataset)(_X)
  expected = adapters.from_sklearn(model, dataset)(_X)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


_NAMES = ["c", "a", "b"]  # as the dataset has them; an estimator sorts them


def _named(names=_NAMES):
  return datasets.from_arrays(_X, np.array(_NAMES)[_Y], classes=names)


@pytest.mark.parametrize("zipmap", [True, False])
def test_an_estimators_columns_are_in_its_own_order(tmp_path, zipmap):
  """Without its names for them the accuracy was that of chance, and nothing said so."""
  pytest.importorskip("onnxruntime")
  skl2onnx = pytest.importorskip("skl2onnx")
  from sklearn import linear_model

  dataset = _named()
  model = linear_model.LogisticRegression().fit(_X, np.array(_NAMES)[_Y])
  content = skl2onnx.to_onnx(model, _X[:1], options={"zipmap": zipmap})
  path = tmp_path / "own.onnx"
  path.write_bytes(content.SerializeToString())
  predict = adapters.from_onnx(path, dataset)
  adapter_example.check_probabilities(predict(_X))
  # One row decides nothing: the order is the dataset's rows'.
  np.testing.assert_allclose(predict(_X[:1]), predict(_X)[:1], rtol=1e-5)
  given = adapters.from_onnx(path, dataset, classes=["a", "b", "c"])
  np.testing.assert_array_equal(given(_X), predict(_X))
  two = dataset._replace(x=_X[_Y < 2], y=dataset.y[_Y < 2])
  if zipmap:
    adapters.from_onnx(path, two)
    return
  with pytest.raises(ValueError, match=r"contradict .* no more than 2 of 3 columns"):
    adapters.from_onnx(path, two)
  given = adapters.from_onnx(path, two, classes=["a", "b", "c"])
  np.testing.assert_array_equal(given(_X), predict(_X))


def _matched(largest, labels, num_columns=3):
  return onnx_file._matched(
    "own.onnx", np.array(largest), np.array(labels), num_columns, _named()
  )


def test_which_column_is_which_class():
  # Columns are a, b, c; of ten rows of each one has a label decided otherwise.
  largest = np.repeat([0, 1, 2], 10)
  labels = np.array(["a", "b", "c"])[largest]
  labels[[0, 10, 20]] = ["b", "c", "a"]
  np.testing.assert_array_equal(_matched(largest, labels), [1, 2, 0])
  np.testing.assert_array_equal(_matched([0, 1], ["b", "c"], 2), [2, 0])
  np.testing.assert_array_equal(_matched([0, 1, 2], [2, 0, 1]), [2, 0, 1])
  # A class that no row has: nothing contradicts the dataset's order.
  assert _matched([0, 1, 1], ["c", "a", "a"]) is None


@pytest.mark.parametrize(
  ("largest", "labels", "num_columns", "message"),
  [
    ([0, 1], ["a", "b"], 3, r"own\.onnx: its labels contradict .* than 2 of 3 columns"),
    ([0], ["c"], 2, "contradict"),
    ([0, 1, 2], ["a", "a", "b"], 3, "classes are a, a, b, .*; or give `classes`"),
    ([0, 1, 2], ["x", "a", "b"], 3, "classes are x, a, b, expected some of the data"),
  ],
)
def test_labels_that_do_not_say_which_column_is_which(
  largest, labels, num_columns, message
):
  with pytest.raises(ValueError, match=message):
    _matched(largest, labels, num_columns)
