import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import models
from jmia.encoding import activations

X = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
MODELS = {
  "mlp": (models.make("mlp", 4, features=(6, 5)), "Dense_1", 5, 0.5),
  "cnn": (models.make("cnn", 4, features=(2, 3), hidden=(7,)), "Dense_0", 7, 0.5),
  "vgg": (
    models.make("vgg", 4, blocks=((2, 3), (4, 5)), hidden=(6,), batch_norm=True),
    "Conv_2",
    4 * 4 * 4,
    0.2,
  ),
  "resnet": (
    models.make("resnet32", 4, stage_sizes=(1, 2), widths=(2, 4)),
    "ResidualBlock_1",
    4 * 4 * 4,
    0.2,
  ),
}


@functools.partial(jax.jit, static_argnums=0)
def _variables(model, seed=0):
  return model.init(jax.random.key(seed), X)


_read = jax.jit(activations.read, static_argnums=(0, 3))


@pytest.mark.parametrize("name", MODELS)
def test_default_layer(name):
  model, layer, num_units, share = MODELS[name]
  assert activations.default_layer(model) == (layer, share)
  assert activations.num_units(model, layer, X.shape[1:]) == num_units
  assert activations.num_units(model, activations.OUTPUT, X.shape[1:]) == 4
  variables = jax.eval_shape(lambda: _variables(model))
  h = jax.eval_shape(lambda v: activations.read(model, v, X, layer), variables)
  assert h.shape == (3, num_units)
  assert h.dtype == jnp.float32


def test_the_papers_networks():
  cifar = (32, 32, 3)
  found = {
    name: (layer, activations.num_units(model, layer, cifar))
    for name in ("vgg_9", "resnet32")
    if (model := models.make(name, 10))
    and (layer := activations.default_layer(model)[0])
  }
  assert found == {
    "vgg_9": ("Conv_4", 8 * 8 * 256),
    "resnet32": ("ResidualBlock_13", 8 * 8 * 64),
  }


def test_dense_activations_by_hand():
  model = MODELS["mlp"][0]
  variables = _variables(model)
  p = jax.tree.map(np.float64, variables["params"])
  flat = X.reshape(3, -1).astype(np.float64)
  first = np.maximum(flat @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 0)
  second = first @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
  np.testing.assert_allclose(
    _read(model, variables, X, "Dense_1"), np.tanh(second), atol=1e-5
  )
  logits = np.maximum(second, 0) @ p["logits"]["kernel"] + p["logits"]["bias"]
  expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  h = _read(model, variables, X, activations.OUTPUT)
  np.testing.assert_allclose(h, expected, atol=1e-5)


def test_convolution_by_hand():
  model = models.make("cnn", 4, features=(2,))
  variables = _variables(model)
  p = jax.tree.map(np.float64, variables["params"]["Conv_0"])
  padded = np.pad(X.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros((3, 8, 8, 2)) + p["bias"]
  for i in range(3):
    for j in range(3):
      out += padded[:, i : i + 8, j : j + 8] @ p["kernel"][i, j]
  h = _read(model, variables, X, "Conv_0")
  np.testing.assert_allclose(h, np.tanh(out).reshape(3, -1), atol=1e-5)


def test_a_layer_within_a_block_of_many_models():
  model = MODELS["resnet"][0]
  shapes = activations.layer_shapes(model, X.shape[1:])
  assert shapes["ResidualBlock_1/Conv_0"] == (4, 4, 4)
  each = [_variables(model, seed) for seed in range(2)]
  stacked = jax.tree.map(lambda *a: jnp.stack(a), *each)

  def read(v):
    return activations.read(model, v, X, "ResidualBlock_1/Conv_0")

  together = jax.jit(jax.vmap(read))(stacked)
  assert together.shape == (2, 3, 64)
  np.testing.assert_allclose(
    together, np.stack([jax.jit(read)(v) for v in each]), atol=1e-5
  )


def test_batch_statistics_move_in_training_alone():
  model, layer = MODELS["vgg"][:2]
  variables = _variables(model)
  _, same = activations.apply(model, variables, X, layer)
  _, moved = activations.apply(model, variables, X, layer, train=True)
  assert same.keys() == moved.keys() == {"batch_stats"}
  jax.tree.map(
    np.testing.assert_array_equal, same, {"batch_stats": variables["batch_stats"]}
  )
  for before, after in zip(*map(jax.tree.leaves, (same, moved)), strict=True):
    assert not np.allclose(before, after)


def test_unknown_layers_are_named_with_those_there_are():
  model = MODELS["mlp"][0]
  with pytest.raises(ValueError, match=r"'Dense_3'.*Dense_0, Dense_1.*logits, output"):
    activations.num_units(model, "Dense_3", X.shape[1:])


@pytest.mark.parametrize(
  "model",
  [
    models.make("mlp", 4, features=(6,)),
    models.make("cnn", 4),
    models.make("alexnet", 4),
    nn.Dense(3),
  ],
)
def test_models_without_a_default_say_so(model):
  with pytest.raises(ValueError, match="no layer to encode in by default"):
    activations.default_layer(model)
