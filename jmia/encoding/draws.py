"""Which rows of a dataset are encoded, and which of them are claimed: drawn by lot.

By a nonce (`nonces`) where rows were committed to before it was known; else by the
secret alone (`watermark.assign`). Of a claim's rows none is a copy of another.
"""

import numpy as np

from jmia import types
from jmia.encoding import claims, nonces, watermark


def distinct_rows(dataset: types.Dataset) -> np.ndarray:
  """Returns where each content of the training rows occurs first: `[D]`, ascending."""
  return watermark.distinct(dataset.x[: dataset.num_train])


def num_encoded(num_distinct: int, encoded_fraction: float) -> int:
  """Returns how many of the distinct rows are encoded.

  Raises:
    ValueError: if that is none of them, or all.
  """
  number = round(encoded_fraction * num_distinct)
  if not 1 <= number < num_distinct:
    raise ValueError(
      f"encoded_fraction={encoded_fraction} of {num_distinct} distinct rows is"
      f" {number}: expected from 1 to {num_distinct - 1}"
    )
  return number


def by_secret(
  dataset: types.Dataset, secret: int, encoded_fraction: float, num_claimed: int
) -> tuple[np.ndarray, claims.Claim]:
  """Draws by the secret, so that whoever holds the key can show that it drew the sides.

  Args:
    dataset: whose training rows are drawn from.
    secret: of the key.
    encoded_fraction: of the distinct rows.
    num_claimed: encoded rows to claim, and controls; fewer where there are not as many.

  Returns:
    `[n]` the distinct rows to encode, and the claim.

  Raises:
    ValueError: as `num_encoded`.
  """
  firsts = distinct_rows(dataset)
  number = num_encoded(len(firsts), encoded_fraction)
  is_encoded = watermark.assign(dataset.x[firsts], number, secret)
  encoded, others = firsts[is_encoded], firsts[~is_encoded]
  size = min(num_claimed, len(encoded), len(others))
  return encoded, _claim(dataset, encoded, others, size, secret)


def by_nonce(
  dataset: types.Dataset,
  prepared: nonces.Prepared,
  nonce: str,
  encoded_fraction: float,
) -> tuple[np.ndarray, claims.Claim]:
  """Draws by a nonce: THE lowest rows are encoded and claimed, THE highest controls.

  Args:
    dataset: whose training rows are drawn from.
    prepared: what was committed to.
    nonce: that became known later.
    encoded_fraction: of the distinct rows.

  Returns:
    As `by_secret`.

  Raises:
    ValueError: as `num_encoded` and `nonces.order`; other rows than the dataset's were
      committed to; or fewer are encoded, or left, than are claimed.
  """
  firsts, secret = distinct_rows(dataset), prepared.key.secret
  number = num_encoded(len(firsts), encoded_fraction)
  hashes = nonces.row_hashes(dataset.x[firsts], secret)
  mine = prepared._replace(
    feature_scale=dataset.feature_scale, rows=nonces.digest(hashes)
  )
  if mine != prepared:
    raise ValueError(
      "the dataset does not hold the rows that prepared was committed to with"
    )
  size = prepared.num_claimed
  if not size <= number <= len(firsts) - size:
    raise ValueError(
      f"encoded_fraction={encoded_fraction} is {number} rows: expected from {size} to"
      f" {len(firsts) - size}, as {size} are claimed and {size} controls"
    )
  order = firsts[nonces.order(hashes, nonce)]
  claim = _claim(dataset, order[:size], order[-size:], size, secret)
  return order[:number], claim._replace(row_hashes=hashes)


def _claim(
  dataset: types.Dataset,
  encoded: np.ndarray,
  others: np.ndarray,
  size: int,
  secret: int,
) -> claims.Claim:
  """Encoded rows and controls, as many of each, in no order."""
  rng = np.random.default_rng([secret, 1])
  rows = np.concatenate([rng.permutation(part)[:size] for part in (encoded, others)])
  is_claimed = np.arange(2 * size) < size
  order = rng.permutation(2 * size)
  return claims.Claim(dataset.x[rows[order]], is_claimed[order], dataset.feature_scale)
