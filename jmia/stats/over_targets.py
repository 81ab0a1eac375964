"""Intervals of an attack's mean figures over several targets.

Student's interval of the targets' figures allows for what training anew changes. It is
too narrow where they happen to agree: rates of few samples are coarse, and of two
targets' equal ones it would be a point. What the samples leave open of each target
bounds the mean too, and the interval is wide enough for both:

    AUC   nearly unbiased and normal: errors of the targets add up as squares,
          mean -+ sqrt(sum_t (auc_t - bound_t)^2) / T
    TPR   neither, at a low false positive rate: the mean of the targets' own bounds,
          each at the confidence at which all T hold together, however they depend
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmia.stats import intervals, roc

_ENDS = ("low", "high")


class Intervals(NamedTuple):
  """Of the mean AUC, `[]`, and of the mean TPR at each level, `[L]`."""

  auc: intervals.Interval
  tpr: intervals.Interval


def of_scores(
  scores: Sequence[np.ndarray],
  members: Sequence[np.ndarray],
  fprs: np.ndarray,
  *,
  confidence: float = 0.95,
) -> Intervals:
  """Returns the intervals of the means over targets.

  Args:
    scores: `[N]` of each of `T` targets, higher = member; NaN where a sample was not
      attacked.
    members: `[N]` bool, likewise.
    fprs: `[L]` levels, in [0, 1].
    confidence: of each interval, both sides together, in (0, 1).

  Returns:
    Intervals within [0, 1]; of one target those of its samples.

  Raises:
    ValueError: as `intervals.auc` and `intervals.tpr_at_fpr`.
  """
  num = len(scores)
  attacked = [~np.isnan(of) for of in scores]
  sides = [
    (of[at], who[at]) for of, who, at in zip(scores, members, attacked, strict=True)
  ]
  auc = [intervals.auc(*side, confidence=confidence) for side in sides]
  each = intervals.each_of(num, confidence=confidence)
  tpr = [intervals.tpr_at_fpr(*side, fprs, confidence=each) for side in sides]
  bounds = intervals.Interval(*np.mean(tpr, axis=0))
  if num == 1:
    return Intervals(intervals.Interval(auc[0].low, auc[0].high), bounds)
  values, low, high = (np.array([getattr(a, n) for a in auc]) for n in ("auc", *_ENDS))
  below, above = (
    np.sqrt(((values - end) ** 2).sum()) / num * side
    for end, side in ((low, -1), (high, 1))
  )
  centre = values.mean()
  of_samples = intervals.Interval(centre + below, centre + above)
  rates = np.array([roc.tpr_at_fpr(*side, fprs) for side in sides])
  return Intervals(
    _widest(intervals.mean(values, confidence=confidence), of_samples),
    _widest(intervals.mean(rates, confidence=confidence, axis=0), bounds),
  )


def _widest(a: intervals.Interval, b: intervals.Interval) -> intervals.Interval:
  """What holds both, within [0, 1]."""
  return intervals.Interval(
    np.clip(np.minimum(a.low, b.low), 0, 1), np.clip(np.maximum(a.high, b.high), 0, 1)
  )
