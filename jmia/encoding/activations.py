"""Activations of any named layer of any Flax module, and of its output.

One mechanism serves all models: Flax's `capture_intermediates`, filtered to the one
layer. A layer is named by its path in the module, such as `Dense_1`, `Conv_4` or
`ResidualBlock_13/Conv_0`; what is read is what its `__call__` returns, so a dense layer
or a convolution is read before the ReLU that the models apply outside of it. (Song and
Shokri speak of a layer's activations, by their section 2.1 those after it.)
"""

import functools
import math
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp

from jmia import _validate
from jmia.models import cnn, mlp, resnet, vgg

OUTPUT = "output"  # in a layer's place: the model's log-probabilities
PyTree = Any


def layer_shapes(
  model: nn.Module, example_shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
  """Returns each layer's name and the shape of one example's activations in it.

  Layers that return anything but one array with the batch first are left out.

  Args:
    model: a module called as `model(x, train=bool, mask=...)`.
    example_shape: shape of one example.
  """
  x = jax.ShapeDtypeStruct((1, *example_shape), jnp.float32)

  def captured(x):
    variables = model.init(jax.random.key(0, impl="threefry2x32"), x)
    return model.apply(
      variables, x, capture_intermediates=True, mutable=["intermediates"]
    )[1]["intermediates"]

  found = traverse_util.flatten_dict(jax.eval_shape(captured, x))
  return {
    "/".join(path[:-1]): value[0].shape[1:]
    for path, value in found.items()
    if len(path) > 1 and path[-1] == "__call__" and hasattr(value[0], "shape")
  }


@functools.lru_cache(maxsize=64)  # asked for every few keys, and slow to trace
def num_units(model: nn.Module, layer: str, example_shape: tuple[int, ...]) -> int:
  """Returns how many units `read` finds for one example.

  Raises:
    ValueError: if the model has no such layer; lists those it has.
  """
  shapes = layer_shapes(model, example_shape)
  _validate.known("layer", layer, (OUTPUT, *shapes))
  if layer == OUTPUT:
    return int(model.num_classes)
  return math.prod(shapes[layer])


def default_layer(model: nn.Module) -> tuple[str, float]:
  """Returns the layer that the paper encodes in, and the share of its units.

  The second dense layer's of an MLP and the last dense layer's before the output of a
  small CNN (50 %); the second-to-last convolution's of a VGG and the second-to-last
  block's of a ResNet (20 %).

  Raises:
    ValueError: if the model is of another family, or has no such layer.
  """
  if isinstance(model, mlp.MLP) and len(model.features) > 1:
    return "Dense_1", 0.5
  if isinstance(model, cnn.CNN) and model.hidden:
    return f"Dense_{len(model.hidden) - 1}", 0.5
  if isinstance(model, vgg.VGG) and sum(map(len, model.blocks)) > 1:
    return f"Conv_{sum(map(len, model.blocks)) - 2}", 0.2
  if isinstance(model, resnet.ResNet) and sum(model.stage_sizes) > 1:
    return f"ResidualBlock_{sum(model.stage_sizes) - 2}", 0.2
  raise ValueError(
    f"model={model!r} has no layer to encode in by default: expected an MLP with two"
    " hidden layers, a CNN with a hidden dense layer, a VGG or a ResNet; name a layer"
  )


def apply(
  model: nn.Module,
  variables: PyTree,
  x: jax.Array,
  layer: str,
  *,
  train: bool = False,
  mask: jax.Array | None = None,
  rngs: dict[str, jax.Array] | None = None,
) -> tuple[jax.Array, PyTree]:
  """Returns what is read of a batch, and the module's other variables after it.

  `h = tanh(activations)` of the layer, flattened (white-box), or the log-probabilities
  (black-box). Traceable; batch over models by `vmap`.

  Args:
    model: a module.
    variables: its parameters and other collections.
    x: `[B, ...]` float32, as the model sees it.
    layer: a name of `layer_shapes`, or `OUTPUT`; not checked here.
    train: whether batch statistics move and dropout acts.
    mask: `[B]` bool, false on padding.
    rngs: keys, such as `dropout`.

  Returns:
    h `[B, U]` float32, and the collections beside `params` (batch statistics).
  """
  others = [name for name in variables if name != "params"]
  logits, new = model.apply(
    variables,
    x,
    train=train,
    mask=mask,
    rngs=rngs,
    capture_intermediates=lambda module, _: "/".join(module.path) == layer,
    mutable=[*others, "intermediates"],
  )
  new = dict(new)
  captured = traverse_util.flatten_dict(new.pop("intermediates", {}))
  kept = {name: new.get(name, variables[name]) for name in others}
  if layer == OUTPUT:
    return jax.nn.log_softmax(logits.astype(jnp.float32)), kept
  activations = captured[(*layer.split("/"), "__call__")][0]
  return jnp.tanh(activations.astype(jnp.float32)).reshape(len(x), -1), kept


def read(model: nn.Module, variables: PyTree, x: jax.Array, layer: str) -> jax.Array:
  """Returns h `[B, U]` of a trained model, not in training; see `apply`."""
  return apply(model, variables, x, layer)[0]
