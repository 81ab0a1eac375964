"""Keys: what one must know to read an encoding."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from flax import linen as nn
import numpy as np

from jmia import _validate
from jmia.encoding import activations, synthetic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
  """The key of one encoding. Whoever holds it can decode; without `secret`, nobody.

  Attributes:
    secret: integer from 0 to 2^64 - 1, the paper's s. Draw it at random (`secrets`)
      where it must stay secret.
    layer: a layer of `activations.layer_shapes` (white-box), or
      `activations.OUTPUT` for the log-probabilities (black-box).
    unit_share: share of the layer's units that carry the encoding, in (0, 1]; which
      ones is drawn from the secret. Black-box: 1.
    num_synthetic: rows of D_A-m, and as many of D_A-nm.
    low: lower bound of the means of the synthetic rows, the paper's alpha.
    high: their upper bound, beta.
  """

  secret: int
  layer: str
  unit_share: float = 0.5
  num_synthetic: int = 500
  low: float = -0.2
  high: float = 0.2

  def __post_init__(self) -> None:
    synthetic.check_secret(self.secret)
    _validate.positive("num_synthetic", self.num_synthetic)
    if not 0 < self.unit_share <= 1:
      raise ValueError(f"unit_share={self.unit_share} must lie in (0, 1]")
    if self.layer == activations.OUTPUT and self.unit_share != 1:
      raise ValueError(
        f"unit_share={self.unit_share} with layer={self.layer!r}: expected 1, since all"
        " log-probabilities are read"
      )
    if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
      raise ValueError(f"low={self.low} must be below high={self.high}, both finite")


class Material(NamedTuple):
  """What keys of one kind stand for, for one model and data of one shape.

  Attributes:
    synthetic: `[M, 2 * S, ...]` float32, D_A-m and then D_A-nm of each key.
    units: `[M, n]` int32, ascending: the units that carry the encoding.
    unit_mask: `[M, U]` bool: the same as a mask over all units of the layer.
    words: `[M, 2]` uint32: the secret, for what the decoder draws at random.
  """

  synthetic: np.ndarray
  units: np.ndarray
  unit_mask: np.ndarray
  words: np.ndarray


def default(model: nn.Module, secret: int, *, black_box: bool = False) -> Key:
  """Returns the paper's key for a model: where it reads, and how much of it.

  Raises:
    ValueError: if the model is of no family that the paper uses.
  """
  if black_box:
    return Key(secret=secret, layer=activations.OUTPUT, unit_share=1.0)
  layer, share = activations.default_layer(model)
  return Key(secret=secret, layer=layer, unit_share=share)


def expand(
  keys: Sequence[Key], model: nn.Module, example_shape: tuple[int, ...]
) -> Material:
  """Draws from each key what it stands for.

  Args:
    keys: `M` keys, alike in all but their secrets.
    model: the module that is encoded or read.
    example_shape: shape of one row of data.

  Raises:
    ValueError: if there are no keys, they differ in more than the secret, or the model
      has no such layer.
  """
  if not keys:
    raise ValueError("keys is empty, expected at least one")
  first = keys[0]
  for key in keys:
    if dataclasses.replace(key, secret=first.secret) != first:
      raise ValueError(f"{key} and {first} must differ in nothing but the secret")
  num_units = activations.num_units(model, first.layer, example_shape)
  rows = [
    synthetic.rows(
      key.secret, example_shape, key.num_synthetic, low=key.low, high=key.high
    )
    for key in keys
  ]
  units = np.stack(
    [synthetic.units(key.secret, num_units, key.unit_share) for key in keys]
  )
  mask = np.zeros((len(keys), num_units), bool)
  np.put_along_axis(mask, units, True, axis=1)
  words = np.array([divmod(key.secret, 2**32) for key in keys], np.uint32)
  return Material(np.stack(rows), units, mask, words)
