"""Small convolutional networks: one convolution, one pooling, and again."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers


class CNN(nn.Module):
  """Blocks of one convolution, 2x2 max pooling and ReLU, then dense layers.

  Attributes:
    num_classes: number of classes `C`.
    features: channels of each convolution.
    kernel_size: side of every convolution's window; padding is SAME.
    hidden: width of each dense layer before the output; of the papers' networks Song
      and Shokri's alone has one.
    dropout_rate: share of the last layer's input dropped in training.
    lowering: how convolutions are computed, see `layers.conv`.
    dtype: compute dtype; parameters and logits are float32.
  """

  num_classes: int
  features: tuple[int, ...] = (32, 64)
  kernel_size: int = 3
  hidden: tuple[int, ...] = ()
  dropout_rate: float = 0.0
  lowering: str = "auto"
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of images x `[B, H, W, channels]`.

    `train=True` needs the `dropout` key if `dropout_rate` is above zero. `mask` is
    there for a common signature: no row here depends on another. Raises ValueError if
    x is not images, or so small that pooling leaves nothing.
    """
    del mask
    layers.check_images(x)
    window = (self.kernel_size, self.kernel_size)
    for width in self.features:
      x = layers.conv(width, window, lowering=self.lowering, dtype=self.dtype)(x)
      # Pooled first, ReLU has a quarter of the work; the two commute.
      x = nn.relu(layers.max_pool_2x2(x))
    x = layers.flatten(x)
    for width in self.hidden:
      x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return layers.logits(x, self.num_classes)
