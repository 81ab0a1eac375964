import adapter_example
import numpy as np
import pytest

from jmia import adapters

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
