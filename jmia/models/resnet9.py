"""ResNet-9, the small residual network of the CIFAR-10 speed records."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from jmia.models import layers

_STEM = 64  # channels of the first convolution
_LOGIT_SCALE = 0.125


class ResNet9(nn.Module):
  """Three pooled stages, two of them with a residual block, and a global maximum.

  Page, *How to train your ResNet* (part 4 and later; DAWNBench's entry for CIFAR-10):
  a 3x3 convolution to 64 channels, then for each width a 3x3 convolution and 2x2
  max pooling, in the first and the last stage followed by a residual block of two more;
  every convolution has batch normalisation and ReLU. The largest value of each channel
  goes to a dense layer without bias, whose logits are multiplied by 1/8. 6,573,120
  parameters at 10 classes, scales of the normalisation included, which Page froze.

  Attributes:
    num_classes: number of classes `C`.
    widths: channels of the three stages.
    mean: subtracted from the image first, a value for each channel
      (`layers.per_channel`).
    std: what it is then divided by; `mean` and `std` in units of x.
    lowering: as in `resnet.ResNet`.
    dtype: compute dtype; parameters, statistics and logits are float32.
  """

  num_classes: int
  widths: tuple[int, ...] = (128, 256, 512)
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  lowering: str = "auto"
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool = False, mask=None):
    """Returns logits `[B, C]` float32 of images x `[B, H, W, channels]`.

    `train` and `mask` are as in `resnet.ResNet`. Raises ValueError if x is not images,
    or so small that pooling leaves nothing.
    """
    layers.check_images(x)
    if self.mean:
      x = x - layers.per_channel(self.mean, x.shape[3])
    if self.std:
      x = x / layers.per_channel(self.std, x.shape[3])

    def conv(x, width):
      x = layers.conv(
        width,
        (3, 3),
        lowering=self.lowering,
        on_accelerator="native",
        use_bias=False,
        dtype=self.dtype,
      )(x)
      return layers.batch_norm(x, train=train, mask=mask, dtype=self.dtype)

    x = nn.relu(conv(x, _STEM))
    for stage, width in enumerate(self.widths):
      x = nn.relu(layers.max_pool_2x2(conv(x, width)))
      if stage in (0, len(self.widths) - 1):
        x = x + nn.relu(conv(nn.relu(conv(x, width)), width))
    x = x.max(axis=(1, 2)).astype(jnp.float32)
    out = nn.Dense(self.num_classes, use_bias=False, name="logits")(x)
    return _LOGIT_SCALE * out
