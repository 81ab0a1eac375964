"""Intervals where the truth is known, to see whether they hold and how wide they are.

Scores are drawn from pairs of distributions whose AUC and ROC curve are known in closed
form, so how often an interval misses is counted against the truth and not an estimate.
"""

from collections.abc import Callable, Mapping
import types
from typing import Any, NamedTuple
import zlib

import numpy as np

from jmia import _validate
from jmia.stats import intervals, levels, monte_carlo, paired

_AT_ONCE = 250  # simulations ranked together
_FIGURES = 24  # whose intervals are to hold at once, as in a report of six attacks


class Pair(NamedTuple):
  """Members' and others' scores, apart so far that the AUC is a given one.

  Attributes:
    draw: (rng, `[S, m]` or `[S, n]` shape, AUC, whether of members) -> scores.
    tpr: (AUC, `[K]` FPRs) -> `[K]` true TPRs.
  """

  draw: Callable[[np.random.Generator, tuple[int, int], float, bool], np.ndarray]
  tpr: Callable[[float, np.ndarray], np.ndarray]


def _gaussian(spread: float) -> Pair:
  """Members of mean `sqrt(1 + spread^2) z(AUC)` and standard deviation `spread`."""
  from scipy import special

  def mean(auc: float) -> float:
    return float(np.hypot(1, spread) * special.ndtri(auc))

  def draw(rng, shape, auc, is_member):
    scores = rng.normal(size=shape)
    return mean(auc) + spread * scores if is_member else scores

  def tpr(auc, fpr):
    return special.ndtr((mean(auc) + special.ndtri(fpr)) / spread)

  return Pair(draw, tpr)


def _exponential() -> Pair:
  """Members' scale is `AUC / (1 - AUC)` times the others'."""

  def draw(rng, shape, auc, is_member):
    return rng.exponential(auc / (1 - auc) if is_member else 1, size=shape)

  return Pair(draw, lambda auc, fpr: fpr ** ((1 - auc) / auc))


def _mixture() -> Pair:
  """A share `2 AUC - 1` of the members stands above everybody, the rest is alike."""

  def draw(rng, shape, auc, is_member):
    scores = rng.random(shape)
    return scores + (is_member & (rng.random(shape) < 2 * auc - 1))

  def tpr(auc, fpr):
    share = 2 * auc - 1
    return share + (1 - share) * fpr

  return Pair(draw, tpr)


def _two_values() -> Pair:
  """Scores are 0 or 1: 1 of `AUC` of the members and of `1 - AUC` of the others."""

  def draw(rng, shape, auc, is_member):
    return (rng.random(shape) < (auc if is_member else 1 - auc)).astype(float)

  def tpr(auc, fpr):
    # The ROC curve's two straight parts, as a coin in the tie reads them.
    return np.interp(fpr, [0, 1 - auc, 1], [0, auc, 1])

  return Pair(draw, tpr)


def _rare_value() -> Pair:
  """Scores are 0, or 1 of 1 % of the others and of `2 AUC - .99` of the members."""

  def draw(rng, shape, auc, is_member):
    share = 0.01 + (2 * auc - 1 if is_member else 0)
    return (rng.random(shape) < share).astype(float)

  def tpr(auc, fpr):
    return np.interp(fpr, [0, 0.01, 1], [0, 0.01 + 2 * auc - 1, 1])

  return Pair(draw, tpr)


def pairs() -> Mapping[str, Pair]:
  """Returns the pairs of distributions, by name."""
  return types.MappingProxyType(
    {
      "Gaussians": _gaussian(1),
      "Gaussians, members' sd 3": _gaussian(3),
      "exponentials": _exponential(),
      "some stand out": _mixture(),
      "two values": _two_values(),
      "a rare value": _rare_value(),
    }
  )


def coverage_rows(
  name: str,
  auc: float,
  num_members: int,
  num_others: int,
  *,
  confidence: float = 0.95,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns how often the intervals of AUC and TPR miss, as one row.

  Args:
    name: of `pairs`.
    auc: the true one, at least .5 and below 1.
    num_members: `m` samples.
    num_others: `n` samples.
    confidence: of each interval.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    A row whose `auc_missed` and `tpr_missed` (by FPR) are shares of the simulations,
    and whose widths are means; `auc_missed_at_once` is of intervals of which 24 are to
    hold at once.

  Raises:
    ValueError: the pair is unknown, or a number is out of range.
  """
  _validate.known("name", name, tuple(pairs()))
  _validate.positive("num_simulations", num_simulations)
  if not 0.5 <= auc < 1:
    raise ValueError(f"auc={auc}, expected at least 0.5 and below 1")
  pair, fprs = pairs()[name], levels.numbers()
  members = np.arange(num_members + num_others) < num_members
  found: dict[str, list[np.ndarray]] = {}
  entropy = _of_cell(name, auc, num_members, num_others)
  for start, rng in monte_carlo.draws(
    num_simulations, seed, progress, entropy=entropy, at_once=_AT_ONCE
  ):
    size = min(_AT_ONCE, num_simulations - start)
    scores = np.concatenate(
      [
        pair.draw(rng, (size, num_members), auc, True),
        pair.draw(rng, (size, num_others), auc, False),
      ],
      axis=1,
    )
    area = intervals.auc(scores, members, confidence=confidence)
    each = intervals.each_of(_FIGURES, confidence=confidence)
    wide = intervals.auc(scores, members, confidence=each)
    rate = intervals.tpr_at_fpr(scores, members, fprs, confidence=confidence)
    true = pair.tpr(auc, fprs)
    for key, values in (
      ("auc_missed", _missed(area, auc)),
      ("auc_missed_at_once", _missed(wide, auc)),
      ("auc_width", area.high - area.low),
      ("tpr_missed", _missed(rate, true)),
      ("tpr_width", rate.high - rate.low),
    ):
      found.setdefault(key, []).append(values)
  means = {key: np.concatenate(values).mean(axis=0) for key, values in found.items()}
  return [
    {
      "distributions": name,
      "num_members": num_members,
      "num_others": num_others,
      "true_auc": auc,
      "confidence": confidence,
      "num_simulations": num_simulations,
      **{key: levels.by_fpr(of) if of.ndim else float(of) for key, of in means.items()},
    }
  ]


def difference_rows(
  aucs: tuple[float, float],
  correlation: float,
  num_members: int,
  num_others: int,
  *,
  confidence: float = 0.95,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns how often a difference of two AUCs on the same samples is missed.

  Args:
    aucs: of two attacks whose scores are normal, at least .5 and below 1.
    correlation: of a sample's two scores, in [0, 1].
    num_members: `m` samples.
    num_others: `n` samples.
    confidence: of the interval.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    One row; `difference_missed` is a share of the simulations, the width a mean.

  Raises:
    ValueError: a number is out of range.
  """
  from scipy import special

  _validate.positive("num_simulations", num_simulations)
  _validate.probability("correlation", correlation)
  members = np.arange(num_members + num_others) < num_members
  shifts = np.sqrt(2) * special.ndtri(np.array(aucs))[:, None]
  missed, widths = [], []
  entropy = _of_cell(aucs, correlation, num_members, num_others)
  for _, rng in monte_carlo.draws(num_simulations, seed, progress, entropy=entropy):
    shared, own = rng.normal(size=members.shape), rng.normal(size=(2, len(members)))
    scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    first, second = scores + shifts * members
    found = paired.auc(first, second, members, confidence=confidence)
    missed.append(_missed(found, aucs[1] - aucs[0]))
    widths.append(found.high - found.low)
  return [
    {
      "distributions": f"two attacks, AUC {aucs[0]:g} and {aucs[1]:g}",
      "correlation": correlation,
      "num_members": num_members,
      "num_others": num_others,
      "confidence": confidence,
      "num_simulations": num_simulations,
      "difference_missed": float(np.mean(missed)),
      "difference_width": float(np.mean(widths)),
    }
  ]


def _of_cell(*cell: Any) -> list[int]:
  """Entropy of a cell's own: those that share draws would be off in the same way."""
  return [zlib.crc32(repr(cell).encode())]


def _missed(found, truth) -> np.ndarray:
  return np.asarray((found.low > truth) | (found.high < truth))
