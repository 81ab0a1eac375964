"""AlexNet cut down to 32x32 images."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers


class AlexNet(nn.Module):
  """The five convolutions of AlexNet and one dense layer, for 32x32 images.

  The CIFAR form that membership inference has been studied on since Nasr et al. (2019,
  *Comprehensive Privacy Analysis of Deep Learning*): an 11x11 stem of stride 4, 2x2
  pooling, and no hidden dense layers. 2,472,266 parameters for 10 classes. After
  Krizhevsky et al. (2012), *ImageNet Classification with Deep CNNs*.

  Attributes:
    num_classes: number of classes `C`.
    dropout_rate: share of the last layer's input dropped in training.
    lowering: how convolutions are computed, see `layers.conv`.
    dtype: compute dtype; parameters and logits are float32.
  """

  num_classes: int
  dropout_rate: float = 0.0
  lowering: str = "auto"
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of images x `[B, H, W, channels]`.

    `train=True` needs the `dropout` key if `dropout_rate` is above zero. `mask` is
    there for a common signature: no row here depends on another. Raises ValueError if
    x is not images, or so small that pooling leaves nothing (below 29x29).
    """
    del mask
    layers.check_images(x)

    def conv(features, side, **options):
      window = (side, side)
      return layers.conv(
        features, window, lowering=self.lowering, dtype=self.dtype, **options
      )

    x = conv(64, 11, strides=4, padding=5)(x)
    x = nn.relu(layers.max_pool_2x2(x))
    x = nn.relu(layers.max_pool_2x2(conv(192, 5)(x)))
    x = nn.relu(conv(384, 3)(x))
    x = nn.relu(conv(256, 3)(x))
    x = nn.relu(layers.max_pool_2x2(conv(256, 3)(x)))
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(layers.flatten(x))
    return layers.logits(x, self.num_classes)
