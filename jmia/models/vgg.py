"""VGG networks: blocks of 3x3 convolutions, each block ended by pooling."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers


class VGG(nn.Module):
  """3x3 convolutions with ReLU, 2x2 max pooling after each block, dense layers.

  Simonyan and Zisserman (2015), *Very Deep Convolutional Networks for Large-Scale Image
  Recognition*, at the depths used on CIFAR.

  Attributes:
    num_classes: number of classes `C`.
    blocks: for each block, the channels of its convolutions.
    hidden: width of each dense layer before the output.
    dropout_rate: share of each hidden layer dropped in training.
    batch_norm: normalise after each convolution.
    lowering: how convolutions are computed, see `layers.conv`.
    dtype: compute dtype; parameters and logits are float32.
  """

  num_classes: int
  blocks: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256))
  hidden: tuple[int, ...] = (128,)
  dropout_rate: float = 0.0
  batch_norm: bool = False
  lowering: str = "auto"
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of images x `[B, H, W, channels]`.

    `train=True` needs the `dropout` key if `dropout_rate` is above zero, and mutable
    `batch_stats` if `batch_norm`. `mask` `[B]` bool says which rows are not padding
    (None: all). Raises ValueError if x is not images, or so small that pooling leaves
    nothing.
    """
    layers.check_images(x)
    for block in self.blocks:
      for width in block:
        x = layers.conv(width, (3, 3), lowering=self.lowering, dtype=self.dtype)(x)
        if self.batch_norm:
          x = layers.batch_norm(x, train=train, mask=mask, dtype=self.dtype)
        x = nn.relu(x)
      x = layers.max_pool_2x2(x)
    x = layers.flatten(x)
    for width in self.hidden:
      x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
      x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    return layers.logits(x, self.num_classes)
