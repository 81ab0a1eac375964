"""A black-box model's answers, as log-probabilities whatever they come as.

The rules are those of an audit (`outputs.units`), as far as they matter here: what one
takes for probabilities the other does not take for logits. How coarsely they are given
is left as it is, since all keys read the same answers. For that reason no reading can
make a false claim stand; but one in wrong units hides an encoding that is there.
"""

import numpy as np

from jmia import _validate

_NEAR = 1e-3  # of one, where nothing is rounded
_ROUNDED = 0.05  # of one, what probabilities of 16 bits or few votes sum to
_FEWEST_ROWS = 8  # that are to show a pattern before it is believed
_BELOW = -1e-6  # what is left of a 0 that was computed as one less another
_MOST_DECIMALS = 4  # more tell as much as float32
_OFF_DECIMAL = 1.2e-7  # by how much float32 may miss one


def log_probabilities(name: str, answers: np.ndarray) -> np.ndarray:
  """Returns a model's answers as log-probabilities.

  Args:
    name: of the answers, in errors.
    answers: `[Q, C]` logits, log-probabilities, probabilities or percentages. Values
      from 0 to 1, of which at least half of the rows sum to one to within rounding and
      the others to .5 to 1.5, are probabilities; so are those of which each row gives
      the k largest alone, of which the others share what is left. Of probabilities a 0
      counts as half of the least that is above 0.

  Returns:
    `[Q, C]` float32.

  Raises:
    ValueError: there are none, they are no finite numbers of two axes, lie between 0
      and 1 and are no probabilities, or are so in some rows alone.
  """
  answers = np.asarray(answers)
  _validate.shape(name, answers, (None, None))
  if not answers.size or answers.dtype.kind not in "fiu":
    raise ValueError(
      f"{name} has shape {answers.shape} and dtype {answers.dtype}, expected numbers"
    )
  answers = answers.astype(np.float64)
  _validate.finite(name, answers)
  probabilities = _probabilities(name, answers)
  if probabilities is not None:
    least = probabilities[probabilities > 0].min()
    answers = np.log(np.where(probabilities > 0, probabilities, least / 2))
  top = answers.max(-1, keepdims=True)
  total = top + np.log(np.exp(answers - top).sum(-1, keepdims=True))
  return (answers - total).astype(np.float32)


def _probabilities(name: str, answers: np.ndarray) -> np.ndarray | None:
  """Answers as numbers from 0 to 1; None if they are logits."""
  low, high, sums = answers.min(), answers.max(), answers.sum(-1)
  if low >= _BELOW and 0 < high <= 1 + _NEAR:
    if _are_cut(answers, sums):
      return _filled(np.clip(answers, 0, 1))
    if _sum_to_one(name, sums, answers):
      return np.clip(answers, 0, 1)
    raise ValueError(
      f"{name} holds values between 0 and 1, but rows sum to {sums.min():.3g} to"
      f" {sums.max():.3g}, not 1: expected logits, log-probabilities or probabilities"
    )
  are_in_percent = low >= 100 * _BELOW and 1 + _NEAR < high <= 101
  if are_in_percent and _sum_to_one(name, sums / 100, answers / 100):
    return np.clip(answers / 100, 0, 1)
  unit = (answers >= _BELOW).all(-1) & (np.abs(sums - 1) <= _NEAR)
  if len(unit) >= _FEWEST_ROWS and unit.mean() >= 0.5:
    raise ValueError(
      f"{name}: {unit.sum():,} of {len(unit):,} rows are probabilities, and row"
      f" {unit.argmin()} is not"
    )
  return None


def _sum_to_one(name: str, sums: np.ndarray, shares: np.ndarray) -> bool:
  """Whether at least half of the rows do; refused if others are of another kind."""
  fits = np.abs(sums - 1) <= max(_ROUNDED, _rounding(shares))
  odd = sums[~fits]
  if fits.mean() < 0.5:
    return False
  if len(odd) and (odd.min() < 0.5 or odd.max() > 1.5):
    raise ValueError(
      f"{name}: {fits.sum():,} of {len(fits):,} rows are probabilities, and row"
      f" {fits.argmin()} is not: it sums to {sums[fits.argmin()]:.3g} of one"
    )
  return True


def _are_cut(answers: np.ndarray, sums: np.ndarray) -> bool:
  """Whether each row gives the same number of probabilities, and not all."""
  given = (answers > 0).sum(-1)
  is_cut = 0 < given[0] < answers.shape[-1] and (given == given[0]).all()
  return bool(is_cut and (sums <= 1 + _NEAR).all())


def _filled(answers: np.ndarray) -> np.ndarray:
  """The k largest probabilities, and the others an even share of what they leave."""
  is_given = answers > 0
  least = np.where(is_given, answers, 1).min(-1, keepdims=True)
  rest = 1 - answers.sum(-1, keepdims=True)
  share = rest / (~is_given).sum(-1, keepdims=True)
  return np.where(is_given, answers, np.clip(share, 0, least))


def _rounding(shares: np.ndarray) -> float:
  """By how much rounding may move the sum of a row; 0 if nothing is rounded."""
  for decimals in range(1, _MOST_DECIMALS + 1):
    scaled = shares * 10**decimals
    if (np.abs(scaled - np.rint(scaled)) <= _OFF_DECIMAL * 10**decimals).all():
      return 0.5 * shares.shape[-1] * 10.0**-decimals
  return 0.0
