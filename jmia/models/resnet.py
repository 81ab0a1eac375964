"""Residual networks for CIFAR: a 3x3 stem, no pooling before the first stage."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers


class ResNet(nn.Module):
  """Stages of basic residual blocks, a global mean, and one dense layer.

  He et al. (2016), *Deep Residual Learning for Image Recognition*. Stages after the
  first halve the image. ResNet-18 in its CIFAR form has stages (2, 2, 2, 2) of widths
  (64, 128, 256, 512) and projection shortcuts, 11,173,962 parameters for 10 classes;
  ResNet-32 (section 4.2, n = 5) has (5, 5, 5) of (16, 32, 64) and shortcuts without
  parameters (option A), 464,154.

  Attributes:
    num_classes: number of classes `C`.
    stage_sizes: number of blocks of each stage.
    widths: channels of each stage.
    projection: whether a shortcut that changes shape is a 1x1 convolution with batch
      normalisation (option B), or strided slicing and channels of zeros (option A).
    lowering: how convolutions are computed, see `layers.conv`. `"auto"` is native on an
      accelerator, which a ResNet fills alone: there the patches only cost memory.
    dtype: compute dtype; parameters, statistics and logits are float32.
  """

  num_classes: int
  stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
  widths: tuple[int, ...] = (64, 128, 256, 512)
  projection: bool = True
  lowering: str = "auto"
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of images x `[B, H, W, channels]`.

    `train=True` needs mutable `batch_stats`. `mask` `[B]` bool says which rows are not
    padding (None: all): the others do not touch the statistics. Raises ValueError if x
    is not images or mask is not `[B]`.
    """
    layers.check_images(x)
    x = _conv(self.widths[0], 3, 1, self.lowering, self.dtype)(x)
    x = nn.relu(layers.batch_norm(x, train=train, mask=mask, dtype=self.dtype))
    stages = zip(self.stage_sizes, self.widths, strict=True)
    for stage, (num_blocks, width) in enumerate(stages):
      for block in range(num_blocks):
        x = ResidualBlock(
          width,
          strides=2 if stage > 0 and block == 0 else 1,
          projection=self.projection,
          lowering=self.lowering,
          dtype=self.dtype,
        )(x, train=train, mask=mask)
    return layers.logits(layers.global_avg_pool(x), self.num_classes)


class ResidualBlock(nn.Module):
  """Two 3x3 convolutions with batch normalisation, added to the input.

  Attributes:
    features: number of output channels.
    strides: of the first convolution and the shortcut.
    projection: see `ResNet`.
    lowering: see `ResNet`.
    dtype: compute dtype.
  """

  features: int
  strides: int
  projection: bool
  lowering: str
  dtype: jax.typing.DTypeLike

  @nn.compact
  def __call__(self, x, *, train: bool, mask=None):
    """Returns `[B, H / strides, W / strides, features]` of x `[B, H, W, channels]`."""

    def conv_norm(x, side, strides):
      x = _conv(self.features, side, strides, self.lowering, self.dtype)(x)
      return layers.batch_norm(x, train=train, mask=mask, dtype=self.dtype)

    y = nn.relu(conv_norm(x, 3, self.strides))
    y = conv_norm(y, 3, 1)
    if x.shape != y.shape:
      if self.projection:
        x = conv_norm(x, 1, self.strides)
      else:
        x = x[:, :: self.strides, :: self.strides]
        new = self.features - x.shape[-1]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
    return nn.relu(x + y)


def _conv(features, side, strides, lowering, dtype) -> nn.Conv:
  """A convolution without bias, which the normalisation after it would cancel."""
  return layers.conv(
    features,
    (side, side),
    lowering=lowering,
    on_accelerator="native",
    strides=strides,
    padding=side // 2,
    use_bias=False,
    dtype=dtype,
  )
