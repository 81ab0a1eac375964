"""Which units answers are in: a kind that all rows are of, or nearly all.

A rule that most rows follow and some do not is said, and what follows none is refused.
"""

import numpy as np

from jmia.outputs import coarseness
from jmia.outputs.coarse import TINY, Coarse, is_real
from jmia.outputs.coarseness import FEWEST_ROWS, NEAR

OUTPUTS = ("auto", "logits", "probabilities", "log_probabilities")
PERCENTAGES = "percentages"  # recognised, and divided by 100
COUNTS = "counts"  # integers, such as votes; recognised, and divided by a row's sum

_REMEDY = (
  "say what they are with outputs=logits or outputs=probabilities; models of several"
  " labels a row (sigmoids) are not audited"
)


def of(
  name: str, rows: np.ndarray, near: float = NEAR, remedy: str = _REMEDY
) -> tuple[str, list[str]]:
  """Returns what one model's answers are, and what is to be said of it.

  Args:
    name: of the answers, for errors.
    rows: `[n, C]` float32, `n > 0`, of which `check` has nothing to say.
    near: by how much a row of exact probabilities may miss a sum of one.
    remedy: what whoever gave them can do where they are neither, for errors.

  Returns:
    One of `OUTPUTS` but `auto`, or `PERCENTAGES`; and sentences.

  Raises:
    ValueError: rows are neither all of one kind nor nearly.
  """
  sums = rows.sum(axis=-1, dtype=np.float64)
  fit = _fit_to_one(rows, sums, near)
  if fit is not None:
    return _mostly(name, "probabilities", fit, sums, remedy)
  fit = _fit_to_hundred(rows, sums, near)
  if fit is not None and fit.mean() >= 0.5:
    kind, said = _mostly(name, PERCENTAGES, fit, sums, remedy)
    return kind, [*said, f"{name} are percentages: divided by 100"]
  unit = (rows >= -1e-6).all(axis=-1) & (np.abs(sums - 1) <= NEAR)
  if len(rows) >= FEWEST_ROWS and unit.mean() >= 0.5:
    row = int(np.flatnonzero(~unit)[0])
    raise ValueError(
      f"{name}: {unit.sum():,} of {len(rows):,} rows are probabilities, and row {row}"
      f" is not: it holds {rows[row].min():g} to {rows[row].max():g}"
    )
  if rows.max() <= 0:
    log_sums = np.logaddexp.reduce(rows.astype(np.float64), axis=-1)
    if (np.abs(log_sums) <= 0.02).all():
      return "log_probabilities", []
  return "logits", []


def of_integers(name: str, rows: np.ndarray) -> tuple[str, list[str]]:
  """Returns `COUNTS` where all rows of integers have one sum, else logits.

  Args:
    name: of the answers, for errors.
    rows: `[n, C]` float32, `n > 0`, which came as integers and are, by `of`, logits.

  Returns:
    The kind, and sentences.

  Raises:
    ValueError: rows have nearly one sum, as probabilities of 8 bits have.
  """
  low, high, sums = rows.min(), rows.max(), rows.sum(axis=-1, dtype=np.float64)
  if low < 0 or high <= 1 or len(rows) < FEWEST_ROWS:
    return "logits", []
  if np.ptp(sums) == 0:
    return COUNTS, [f"{name} are counts that sum to {sums[0]:.0f}: divided by it"]
  if np.ptp(sums) <= rows.shape[-1]:  # half of one, up or down, in each class
    raise ValueError(
      f"{name} holds integers from {low:.0f} to {high:.0f} whose rows sum to"
      f" {sums.min():.0f} to {sums.max():.0f}: divide them by their scale if they are"
      " probabilities of 8 bits or the like, or say outputs=logits"
    )
  return "logits", []


def shares(kind: str, values: np.ndarray) -> np.ndarray:
  """Returns probabilities, percentages or counts `[..., C]` as probabilities."""
  if kind == PERCENTAGES:
    return values / np.float32(100)
  return values / values.sum(axis=-1, keepdims=True) if kind == COUNTS else values


def are_probabilities(rows: np.ndarray, near: float = NEAR) -> bool:
  """Returns whether all rows are probabilities or percentages, as `of` takes them.

  Args:
    rows: `[n, C]` numbers, `n > 0`.
    near: as of `of`.
  """
  rows = np.asarray(rows, np.float32)
  sums = rows.sum(axis=-1, dtype=np.float64)
  fits = (_fit_to_one(rows, sums, near), _fit_to_hundred(rows, sums, near))
  return any(fit is not None and bool(fit.all()) for fit in fits)


def total(kind: str) -> int:
  """Returns what the probabilities of a row sum to: 1, or 100 of percentages."""
  return 100 if kind == PERCENTAGES else 1


def check_are(name: str, rows: np.ndarray, kind: str) -> None:
  """Raises ValueError where values cannot be what somebody says they are.

  Args:
    name: of the answers, for errors.
    rows: `[n, C]` float32, `n > 0`.
    kind: one of `OUTPUTS` but `auto`.
  """
  low, high = rows.min(), rows.max()
  if kind == "probabilities" and (low < -1e-6 or high > 1 + NEAR):
    raise ValueError(
      f"{name} holds {low:g} to {high:g}, expected probabilities in [0, 1]"
    )
  if kind == "log_probabilities" and high > 1e-3:
    raise ValueError(f"{name} holds {high:g}, expected log-probabilities, at most 0")


def check(name: str, array: np.ndarray) -> None:
  """Raises ValueError for what is no number `[..., C]`; a class ruled out is -inf."""
  if not is_real(array.dtype):
    raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
  with np.errstate(over="ignore"):  # what float64 holds may overflow float32
    values = np.asarray(array, np.float32)
  bad = np.isnan(values) | np.isposinf(values)
  if bad.any():
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
      f"{name} holds {bad.sum()} NaN or infinite values, first at {first}"
    )
  out = np.isneginf(values).all(axis=-1)
  if out.any():
    first = tuple(int(i) for i in np.argwhere(out)[0])
    raise ValueError(f"{name} is -inf for every class, first at {first}")


def said_of_masked(name: str, rows: np.ndarray) -> list[str]:
  """Returns what is said where answers `[..., C]` rule classes out by -inf."""
  number = int(np.isneginf(rows).sum())
  if not number:
    return []
  return [f"{name}: {number:,} values of -inf count as a probability of {TINY:.0e}"]


def _fit_to_one(rows: np.ndarray, sums: np.ndarray, near: float) -> np.ndarray | None:
  """`[n]` bool, which rows sum to one; None where values are no probabilities."""
  if not (rows.min() >= -1e-6 and 0 < rows.max() <= 1 + NEAR):
    return None
  coarse = coarseness.of(rows)
  fit = np.abs(sums - 1) <= max(near, _rounding(coarse, rows.shape[-1]))
  return fit if coarse.top_k is None else fit | (sums <= 1 + NEAR)


def _fit_to_hundred(
  rows: np.ndarray, sums: np.ndarray, near: float
) -> np.ndarray | None:
  """`[n]` bool, which rows sum to 100; None where values are no percentages."""
  if not (rows.min() >= -1e-4 and 1 + NEAR < rows.max() <= 101):
    return None
  off = max(0.5, 100 * near, 0.5 * rows.shape[-1] * _step(rows))
  return np.abs(sums - 100) <= off


def _mostly(
  name: str, kind: str, fit: np.ndarray, sums: np.ndarray, remedy: str
) -> tuple[str, list[str]]:
  """A kind that at least half of the rows are of, or a refusal."""
  if fit.all():
    return kind, []
  odd, whole = sums[~fit], total(kind)
  if fit.mean() < 0.5 or odd.min() < 0.5 * whole or odd.max() > 1.5 * whole:
    worst = int(np.where(fit, 0, np.abs(sums - whole)).argmax())
    raise ValueError(
      f"{name} holds values between 0 and {whole}, but only {fit.sum():,} of"
      f" {len(fit):,} rows sum to {whole} ({sums.min():.3g} to {sums.max():.3g}, row"
      f" {worst} to {sums[worst]:.3g}): {remedy}"
    )
  return kind, [
    f"{name}: {len(odd):,} of {len(fit):,} rows sum to {odd.min():.3g} to"
    f" {odd.max():.3g}, the others to {whole}: all are taken for {kind}, scaled to one"
  ]


def _rounding(coarse: Coarse, num_classes: int) -> float:
  """By how much a row of probabilities may miss a sum of one for being coarse."""
  if coarse.decimals is not None:
    return float(0.5 * num_classes * 10.0**-coarse.decimals)
  if coarse.votes is not None and coarse.votes >= 100:  # fewer are counted, not rounded
    return 0.5 * num_classes / coarse.votes
  return 0.01 if coarse.dtype is not None else 0.0


def _step(rows: np.ndarray) -> float:
  """The last decimal of percentages; 0 if they are not rounded."""
  decimals = coarseness.decimals_of(rows / np.float32(100))
  return 0.0 if decimals is None else 100 * 10.0**-decimals
