"""Fully connected networks, for features that are not images."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers


class MLP(nn.Module):
  """Dense layers with ReLU between them.

  Attributes:
    num_classes: number of classes `C`.
    features: width of each hidden layer.
    dropout_rate: share of the last hidden layer dropped in training, before the output.
    dtype: compute dtype; parameters and logits are float32.
  """

  num_classes: int
  features: tuple[int, ...] = (256, 128)
  dropout_rate: float = 0.0
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of x `[B, ...]`, which is flattened.

    `train=True` needs the `dropout` key if `dropout_rate` is above zero. `mask` is
    there for a common signature: no row here depends on another.
    """
    del mask
    x = layers.flatten(x)
    for width in self.features:
      x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return layers.logits(x, self.num_classes)
