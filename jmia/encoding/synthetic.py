"""The synthetic rows D_A, and the units that carry an encoding, drawn from a secret.

Decoding needs the very rows that were encoded, perhaps years later on another machine.
So all is drawn from raw Philox words, whose stream NumPy guarantees, by operations that
IEEE 754 rounds correctly (+, -, *, /, sqrt): no libm, no BLAS, no XLA. A test pins a
hash.

Rows are in the units of a model's float32 input, that is after `feature_scale`. They
are noise of the data's shape: nothing is clipped to the range of real data.
"""

import math

import numpy as np

from jmia import _validate

# The streams of a secret. Numbers are part of every key: add, never change.
_MEANS, _NOISE, _UNITS = range(3)
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_MAX_SECRET = 2**64 - 1


def check_secret(secret: int) -> None:
  """Raises ValueError unless `secret` is an integer from 0 to 2^64 - 1."""
  is_integer = isinstance(secret, int | np.integer) and not isinstance(secret, bool)
  if not is_integer or not 0 <= secret <= _MAX_SECRET:
    raise ValueError(f"secret={secret!r} must be an integer from 0 to 2^64 - 1")


def rows(
  secret: int,
  shape: tuple[int, ...],
  num_rows: int,
  *,
  low: float = -0.2,
  high: float = 0.2,
) -> np.ndarray:
  """Returns the synthetic rows D_A-m and D_A-nm of a secret.

  `mu_m, mu_nm ~ U(low, high)^q` and rows `~ N(mu, I_q)`, q the product of `shape`.

  Args:
    secret: the paper's s.
    shape: of one row.
    num_rows: rows `S` of each kind.
    low: lower bound of the means.
    high: upper bound.

  Returns:
    `[2 * S, *shape]` float32: the members' first. The same bits on every machine.

  Raises:
    ValueError: if `secret` is no integer from 0 to 2^64 - 1 or `num_rows` is below 1.

  Source: Song and Shokri, Algorithm 1 (GenSyntheticData); alpha and beta are not given.
  """
  check_secret(secret)
  _validate.positive("num_rows", num_rows)
  size = math.prod(shape)
  uniform = _uniform(_philox(secret, _MEANS).random_raw(2 * size))
  means = (low + (high - low) * uniform).reshape(2, 1, size)
  noise = _normal(_philox(secret, _NOISE), 2 * num_rows * size)
  drawn = means + noise.reshape(2, num_rows, size)
  return drawn.astype(np.float32).reshape(2 * num_rows, *shape)


def units(secret: int, num_units: int, share: float) -> np.ndarray:
  """Returns which units of a layer carry the encoding.

  Args:
    secret: the paper's s.
    num_units: `U`, units of the layer.
    share: of them that are drawn, at least one.

  Returns:
    `[max(1, round(share * U))]` int32, ascending.

  Raises:
    ValueError: if `secret` is out of range, `num_units` is below 1, or `share` is not
      in (0, 1].
  """
  check_secret(secret)
  _validate.positive("num_units", num_units)
  if not 0 < share <= 1:
    raise ValueError(f"share={share} must lie in (0, 1]")
  order = np.argsort(_philox(secret, _UNITS).random_raw(num_units), kind="stable")
  return np.sort(order[: max(1, round(share * num_units))]).astype(np.int32)


def _philox(secret: int, stream: int) -> np.random.Philox:
  return np.random.Philox(key=np.array([secret, stream], np.uint64))


def _uniform(words: np.ndarray) -> np.ndarray:
  """The upper 53 bits of each word as a float64 in [0, 1), exactly."""
  return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normal(source: np.random.Philox, size: int) -> np.ndarray:
  """`[size]` float64 standard normal, by Marsaglia's polar method.

  Each pair of words is a point of the square (-1, 1)^2; those within the unit disc, in
  their order, give two normals each.
  """
  blocks: list[np.ndarray] = []
  found = 0
  while found < size:
    # As many pairs whatever is still missing: the stream does not depend on `size`.
    words = source.random_raw(2 * 4096).reshape(2, 4096)
    points = 2 * _uniform(words) - 1
    square = points[0] * points[0] + points[1] * points[1]
    points = points[:, (square > 0) & (square < 1)]
    square = square[(square > 0) & (square < 1)]
    block = points * np.sqrt(-2 * _log(square) / square)
    blocks.append(block.T.ravel())
    found += block.size
  return np.concatenate(blocks)[:size]


def _log(x: np.ndarray) -> np.ndarray:
  """Natural logarithm to about 1e-16, from correctly rounded operations alone.

  With `x = 2^e m` and m in [3/4, 3/2): `log x = e log 2 + 2 artanh((m - 1) / (m + 1))`.
  """
  mantissa, exponent = np.frexp(x)
  is_low = mantissa < 0.75  # doubled, it is nearer to 1
  mantissa, exponent = np.where(is_low, 2 * mantissa, mantissa), exponent - is_low
  t = (mantissa - 1) / (mantissa + 1)  # |t| <= 1 / 5
  series = np.zeros_like(t)
  for odd in range(25, 0, -2):
    series = series * (t * t) + 1 / odd
  return exponent * _LN2 + 2 * t * series
