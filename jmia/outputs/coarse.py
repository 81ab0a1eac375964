"""How coarsely answers are given, and other models' answers given as coarsely.

If one model's probabilities are rounded to 2 decimals, a 0 of it is anything below
.005, and its loss cannot be set against one of exact answers. So every model's answers
are made as coarse as the coarsest. Probabilities of 0 share what the others leave of
one: what the k largest leave, or what rounding may have hidden, half of the last
decimal or of a vote, and at most as much each. Half of a decimal each would be more
than the rest, where classes are many: of 1,000 with 3 decimals, half of one.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

TINY = float(np.finfo(np.float32).tiny)  # a loss of 87.3
NARROW: Mapping[str, np.dtype] = {
  "bfloat16": np.dtype(ml_dtypes.bfloat16),
  "float16": np.dtype(np.float16),
}
# What a 0 may have been: below half of the least float16, 2^-24. The exponents of
# bfloat16 are those of float32.
_LEAST: Mapping[str, float] = {"bfloat16": TINY, "float16": 2.0**-25}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coarse:
  """How coarsely probabilities are given.

  Attributes:
    decimals: that they are rounded to; None if they are not.
    votes: n, if they are multiples of 1 / n, such as a forest's of n trees; else None.
    dtype: `bfloat16` or `float16`; None for 32 bits.
    top_k: how many of a row are given; None for all.
    sums_to_one: whether those given are scaled to a sum of one.
    least: what a 0 stands for, where one column is `1 - p` of the other in floating
      point, half of the last step below 1; None for the least float32.
  """

  decimals: int | None = None
  votes: int | None = None
  dtype: str | None = None
  top_k: int | None = None
  sums_to_one: bool = False
  least: float | None = None

  @property
  def is_exact(self) -> bool:
    """Whether nothing is lost."""
    return self == EXACT

  def logits(self, probabilities: jax.Array) -> jax.Array:
    """Returns logarithms of probabilities that are given so coarsely; traceable.

    Args:
      probabilities: `[..., C]`, exact or as coarse already.
    """
    p, hidden = jnp.asarray(probabilities, jnp.float32), 0.0
    least = TINY if self.least is None else self.least
    if self.decimals is not None:
      p, hidden = jnp.round(p, self.decimals), 0.5 * 10.0**-self.decimals
    if self.votes is not None:
      p, hidden = jnp.round(p * self.votes) / self.votes, max(hidden, 0.5 / self.votes)
    if self.dtype is not None:
      p = p.astype(NARROW[self.dtype]).astype(jnp.float32)
      least = max(least, _LEAST[self.dtype])
    if self.top_k is not None and self.top_k < p.shape[-1]:
      p = _cut(p, self.top_k, self.sums_to_one)
    if hidden:
      p = _filled(p, hidden)
    return jnp.log(jnp.maximum(p, least))

  def of_one_class(self, probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities of one class of each row, as coarse; float64.

    Where 0 or 1 may hide something it is half of it: nothing is known of the others.

    Args:
      probabilities: `[...]` in [0, 1].
    """
    p, low, high = np.asarray(probabilities, np.float64), 0.0, 1.0
    hidden = [0.5 * 10.0**-self.decimals] if self.decimals is not None else []
    if self.decimals is not None:
      p = p.round(self.decimals)
    if self.votes is not None:
      p, hidden = np.rint(p * self.votes) / self.votes, [*hidden, 0.5 / self.votes]
    if hidden:
      low, high = max(hidden), 1 - max(hidden)
    if self.dtype is not None:
      p = p.astype(NARROW[self.dtype]).astype(np.float64)
      low = max(low, _LEAST[self.dtype])
      high = min(high, 1 - float(ml_dtypes.finfo(NARROW[self.dtype]).epsneg) / 2)
    return np.clip(p, low, high)


EXACT = Coarse()


def is_real(dtype: np.dtype) -> bool:
  """Returns whether values are real numbers, bfloat16 among them."""
  return dtype.kind in "fiu" or dtype in NARROW.values()


def coarsest(each: Sequence[Coarse]) -> Coarse:
  """Returns what all can be made as coarse as: the coarsest of each."""
  decimals = [c.decimals for c in each if c.decimals is not None]
  votes = [c.votes for c in each if c.votes is not None]
  dtypes = [c.dtype for c in each if c.dtype is not None]
  least = [c.least for c in each if c.least is not None]
  cut = [c for c in each if c.top_k is not None]
  top = min(cut, key=lambda c: c.top_k or 0) if cut else Coarse()
  return Coarse(
    decimals=min(decimals, default=None),
    votes=min(votes, default=None),
    dtype=min(dtypes, default=None),  # bfloat16 before float16
    top_k=top.top_k,
    sums_to_one=top.sums_to_one,
    least=max(least, default=None),
  )


def _cut(p: jax.Array, k: int, sums_to_one: bool) -> jax.Array:
  """The k largest probabilities; the others share what is left of one."""
  values, index = jax.lax.top_k(p, k)
  is_given = (index[..., None] == jnp.arange(p.shape[-1])).any(axis=-2)
  total = values.sum(axis=-1, keepdims=True)
  if sums_to_one:
    return jnp.where(is_given, p / total, 0.0)
  share = (1 - total) / (p.shape[-1] - k)
  return jnp.where(is_given, p, jnp.clip(share, 0, values[..., -1:]))


def _filled(p: jax.Array, hidden: float) -> jax.Array:
  """Probabilities whose 0s share what rounding may have hidden, evenly."""
  is_zero = p <= 0
  lost = jnp.maximum(1 - p.sum(axis=-1, keepdims=True), hidden)
  share = lost / jnp.maximum(is_zero.sum(axis=-1, keepdims=True), 1)
  return jnp.where(is_zero, jnp.minimum(share, hidden), p)
