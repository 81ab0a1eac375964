"""Histograms of losses and scores whose bars end exactly at the threshold."""

import math
from typing import NamedTuple

import numpy as np

from jmia.report.samples import Samples
from jmia.stats import levels

_NUM_BINS = 36
# The axis covers all but this share of the samples at each end; the outermost bars
# hold the rest, or a few outliers would squeeze everybody else into one bar.
_TAIL = 0.005
_WIDE_TAIL = 0.05  # where one bar would hold most all the same
# Nor need a ratio's axis go further than this from the threshold: one that lies next to
# zero, as the lowest of a few references' losses may, sends ratios to infinity.
_MAX_DECADES = 4.0
_CROWD = 0.5  # share of all samples in one bar, above which a linear axis shows nothing


class Histogram(NamedTuple):
  """Shares of members and of non-members per bar.

  Attributes:
    edges: `[B + 1]` float64, bar edges; in decades of `losses`. The outermost bars
      also hold what lies beyond them.
    members: `[B]` float64, the share of all members in each bar; sums to 1.
    nonmembers: `[B]` float64, likewise of the non-members.
    threshold: where the attack decides, one of `edges`; NaN if it only ranks.
    relative: whether the axis is loss / threshold (a threshold per class or per sample)
      and not the loss itself (one threshold for everyone).
    clips: whether the first and the last bar hold samples from beyond them.
    decades: of `scores`, whether the axis is `-log10(-score)`, for scores that are
      negative and crowd near 0, as losses with their sign turned do.
  """

  edges: np.ndarray
  members: np.ndarray
  nonmembers: np.ndarray
  threshold: float
  relative: bool = False
  clips: tuple[bool, bool] = (False, False)
  decades: bool = False


def losses(samples: Samples, attack: str) -> Histogram:
  """Bins the target's losses around the attack's threshold at α = 0.1.

  Where everyone has the same threshold `c`, the axis is `log10(loss)`; else it is
  `log10(loss / c_α(sample))`, whose zero is the threshold. The bars left of the
  threshold hold exactly the samples with `loss <= c_α`, those called members. (The
  difference `loss - c_α` would need no logarithm, but losses span many decades and all
  that matters would sit in one bar at zero.)

  Args:
    samples: the evaluated samples; those that were not attacked are left out.
    attack: whose thresholds to use.

  Returns:
    The histogram; `relative` says which axis was chosen.
  """
  samples = samples.only(attack)
  # Thresholds at or below zero call nobody with a positive loss: log10 -> -inf.
  thresholds = np.maximum(samples.thresholds[attack].astype(np.float64), 0.0)
  relative = bool((thresholds != thresholds[0]).any())
  with np.errstate(divide="ignore", invalid="ignore"):
    values = np.log10(np.maximum(samples.loss.astype(np.float64), 0.0))
    position = float(np.log10(thresholds[0]))
    if relative:
      values = np.clip(values - np.log10(thresholds), -_MAX_DECADES, _MAX_DECADES)
      position = 0.0
  position, edges = _edges(values, position)
  # The decision, not the rounding of a logarithm, puts a sample left or right. fmin and
  # fmax also settle 0 / 0 and inf / inf, which are NaN here.
  values = np.where(
    samples.called(attack),
    np.fmin(values, np.nextafter(position, -np.inf)),
    np.fmax(values, position),
  )
  return _count(values, samples.members, edges, position, relative)


def scores(samples: Samples, attack: str) -> Histogram:
  """Bins an attack's scores, on a linear axis where that shows more than one bar.

  Args:
    samples: the evaluated samples; those that were not attacked are left out.
    attack: whose scores to use.

  Returns:
    The histogram; its `threshold` is the least score whose p-value is at most 0.1, NaN
    where there is none.
  """
  at = samples.attacked(attack)
  values = samples.scores[attack][at].astype(np.float64)
  decades = _crowd_at_zero(values)
  if decades:
    values = _minus_log10(values)
  low, high = _bulk(values)
  if _is_crowded(values, low, high):
    narrow = _bulk(values, _WIDE_TAIL)
    low, high = narrow if narrow[0] < narrow[1] else (low, high)
  largest = max(abs(low), abs(high))
  if high - low <= 1e-12 * largest:  # too close for float64 to tell their bars apart
    room = max(0.5, 1e-6 * largest)
    low, high = low - room, high + room
  edges = np.linspace(low, high, _NUM_BINS + 1)
  threshold = math.nan
  if attack in samples.p_values:
    called = values[samples.p_values[attack][at] <= levels.ALPHA]
    threshold = float(called.min()) if called.size else math.nan
  if not low <= threshold <= high:
    threshold = math.nan
  found = _count(values, samples.members[at], edges, threshold)
  return found._replace(decades=decades)


def _crowd_at_zero(values: np.ndarray) -> bool:
  """Whether none is above 0 and most would share the last bar of a linear axis."""
  low, high = _bulk(values)
  if not low < high <= 0 or (values > 0).any() or not np.isfinite(values).all():
    return False
  return bool(np.mean(values >= high - (high - low) / _NUM_BINS) > _CROWD)


def _is_crowded(values: np.ndarray, low: float, high: float) -> bool:
  """Whether one bar would hold most."""
  if not low < high:
    return False
  counts, _ = np.histogram(values, np.linspace(low, high, _NUM_BINS + 1))
  return bool(counts.max() > _CROWD * len(values))


def _minus_log10(values: np.ndarray) -> np.ndarray:
  """`-log10(-score)`, of 0 what is above all others."""
  least = np.abs(values[values != 0]).min()
  return -np.log10(np.maximum(-values, least / 10))


def _bulk(values: np.ndarray, tail: float = _TAIL) -> tuple[float, float]:
  """Where finite values lie, but for a tail at each end; zeros if there are none."""
  finite = values[np.isfinite(values)]
  if not finite.size:
    return 0.0, 0.0
  low, high = np.quantile(finite, [tail, 1 - tail])
  return float(low), float(high)


def _edges(values: np.ndarray, position: float) -> tuple[float, np.ndarray]:
  """The threshold, moved onto the axis if it is infinite, and the edges around it."""
  low, high = _bulk(values)
  if not math.isfinite(position):
    position = float(low if position < 0 else high)
  low, high = min(low, position), max(high, position)
  width = max(high - low, 1.0) / _NUM_BINS
  left = max(1, math.ceil((position - low) / width))
  right = max(1, math.ceil((high - position) / width))
  return position, position + width * np.arange(-left, right + 1)


def _count(
  values: np.ndarray,
  members: np.ndarray,
  edges: np.ndarray,
  threshold: float,
  relative: bool = False,
) -> Histogram:
  """The share of either group in each bar."""
  clips = (bool((values < edges[0]).any()), bool((values > edges[-1]).any()))
  values = np.clip(values, edges[0], edges[-1])
  inside = np.histogram(values[members], edges)[0] / members.sum()
  outside = np.histogram(values[~members], edges)[0] / (~members).sum()
  return Histogram(edges, inside, outside, threshold, relative, clips)
