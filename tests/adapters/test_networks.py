import adapter_example
import numpy as np
import pytest

from jmia import adapters, datasets

_X, _Y = adapter_example.X, adapter_example.Y
_WEIGHTS = 9 * np.eye(3, dtype=np.float32)


def _softmax(z):
  p = np.exp(z - z.max(1, keepdims=True))
  return p / p.sum(1, keepdims=True)


def test_flax():
  from flax import linen as nn

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = nn.Dropout(0.5, deterministic=not train)(x)
      return nn.softmax(nn.Dense(3, use_bias=False)(x))

  variables = {"params": {"Dense_0": {"kernel": _WEIGHTS}}}
  predict = adapters.from_flax(Net(), variables, train=False)
  adapter_example.check_probabilities(predict(_X), _softmax(_X @ _WEIGHTS))


def test_a_function_of_variables_and_rows_prepared():
  def apply(weights, x):
    return x @ weights, "something else"

  prepare = lambda x: x["v"] * np.ones((1, 3), np.float32)  # noqa: E731
  predict = adapters.from_flax(apply, _WEIGHTS, prepare=prepare)
  table = np.zeros(4, [("v", "f4", (3,))])
  table["v"] = _X[:4]
  np.testing.assert_allclose(predict(table), _X[:4] @ _WEIGHTS, rtol=1e-5)
  with pytest.raises(ValueError, match="no network takes: give `prepare`"):
    adapters.from_flax(apply, _WEIGHTS)(table)


class _Answer:
  """As a model of Hugging Face's answers."""

  def __init__(self, logits):
    self.logits = logits


@pytest.mark.parametrize("form", ["tensor", "logits", "tuple", "mapping"])
def test_pytorch(form):
  torch = pytest.importorskip("torch")

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.dropout = torch.nn.Dropout(0.9)
      self.norm = torch.nn.BatchNorm1d(3)
      self.dense = torch.nn.Linear(3, 3, bias=False)
      self.dense.weight.data = torch.tensor(_WEIGHTS)

    def forward(self, x):
      logits = self.dense(self.norm(self.dropout(x)))
      return {
        "tensor": logits,
        "logits": _Answer(logits),
        "tuple": (logits, 1),
        "mapping": {"loss": None, "logits": logits},
      }[form]

  net = Net()
  net.norm.eval()  # frozen by its owner
  predict = adapters.from_torch(net, batch_size=40)
  found = predict(_X)
  np.testing.assert_allclose(found, _X @ _WEIGHTS, rtol=1e-3, atol=1e-4)
  assert found.dtype == np.float32
  assert (net.training, net.dropout.training, net.norm.training) == (True, True, False)
  assert all(parameter.grad is None for parameter in net.parameters())
  predict = adapters.from_torch(net.half())
  np.testing.assert_allclose(predict(_X), _X @ _WEIGHTS, rtol=1e-2, atol=1e-2)


def test_pytorch_in_double_precision():
  """Rounded to float32, a probability of 1 - 1e-9 would be 1: a loss of nothing."""
  torch = pytest.importorskip("torch")
  net = torch.nn.Sequential(torch.nn.Linear(3, 3).double(), torch.nn.Softmax(1))
  found = adapters.from_torch(net)(_X)
  assert found.dtype == np.float64
  expected = net(torch.tensor(_X).double()).detach().numpy()
  np.testing.assert_array_equal(found, expected)
  found = adapters.from_torch(torch.nn.Linear(3, 3).bfloat16())(_X)
  assert found.dtype == np.float32


def test_a_mapping_with_logits_or_without():
  found = adapters.from_flax(lambda w, x: {"logits": x @ w, "loss": 1.0}, _WEIGHTS)(_X)
  np.testing.assert_allclose(found, _X @ _WEIGHTS, rtol=1e-5)
  with pytest.raises(ValueError, match=r"a mapping of \['scores'\], expected `logits`"):
    adapters.from_flax(lambda w, x: {"scores": x @ w}, _WEIGHTS)(_X)


def test_pytorch_is_given_the_layout_that_the_user_gave():
  torch = pytest.importorskip("torch")
  images = np.random.default_rng(0).integers(256, size=(30, 3, 8, 8), dtype=np.uint8)
  dataset = datasets.from_arrays(images, np.arange(30) % 3)
  net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 8), torch.nn.Flatten())
  predict = adapters.from_torch(net, prepare=lambda x: torch.tensor(x) / 255)
  expected = net(torch.tensor(images) / 255).detach().numpy()
  np.testing.assert_allclose(predict(dataset.given), expected, rtol=1e-5)


def test_keras():
  # It wants to know its backend before it is imported.
  import os

  os.environ.setdefault("KERAS_BACKEND", "jax")
  keras = pytest.importorskip("keras")
  model = keras.Sequential(
    [
      keras.layers.Input((3,)),
      keras.layers.Dropout(0.9),
      keras.layers.Dense(3, use_bias=False, activation="softmax"),
    ]
  )
  model.set_weights([_WEIGHTS])
  found = adapters.from_keras(model)(_X)
  adapter_example.check_probabilities(found, _softmax(_X @ _WEIGHTS))
