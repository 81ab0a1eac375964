"""ROC curves and what is read off them, in float64 on the host.

A sample is called a member where its score is at least a threshold. Scores are
`[..., N]` and members `[..., N]` or anything that broadcasts against them: rows are
attacks, models or samples, and each row may have its own members. `axis` says which
axis is ranked: the samples (default), or the models for an AUC per sample.

A row without members or without non-members has no ROC curve: its result is NaN.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from jmia import _validate

Ties = Literal["randomized", "conservative"]


class Curve(NamedTuple):
  """One ROC curve, from (0, 0) to (1, 1).

  Attributes:
    fpr: `[T]` float64 false positive rate, ascending.
    tpr: `[T]` float64 true positive rate, ascending.
    thresholds: `[T]` float64, descending from infinity: who scores at least this is
      called a member.
  """

  fpr: np.ndarray
  tpr: np.ndarray
  thresholds: np.ndarray


class Ranked(NamedTuple):
  """Rows by descending score, with counts before and through each score's ties.

  Attributes:
    scores: `[..., N]` float64, descending.
    is_member: `[..., N]` bool.
    tp_before, fp_before: `[..., N]` int, members and others with a higher score.
    tp, fp: `[..., N]` int, members and others with at least this score.
    num_members, num_nonmembers: `[...]` int.
  """

  scores: np.ndarray
  is_member: np.ndarray
  tp_before: np.ndarray
  fp_before: np.ndarray
  tp: np.ndarray
  fp: np.ndarray
  num_members: np.ndarray
  num_nonmembers: np.ndarray


def rank(scores: np.ndarray, members: np.ndarray, *, axis: int = -1) -> Ranked:
  """Sorts every row once; all of this module and the intervals read from it.

  Args:
    scores: `[..., N]`, higher = member; infinities are allowed.
    members: bool, broadcastable against `scores`.
    axis: the axis along which samples are compared; it becomes the last.

  Returns:
    A `Ranked` of the broadcast shape.

  Raises:
    ValueError: shapes do not broadcast, members are not bool, a score is NaN, or there
      is nothing to rank.
  """
  scores, members = np.asarray(scores, np.float64), np.asarray(members)
  if members.dtype != np.bool_:
    raise ValueError(f"members has dtype {members.dtype}, expected bool")
  try:
    scores, members = np.broadcast_arrays(scores, members)
  except ValueError:
    raise ValueError(
      f"members has shape {members.shape}, which does not broadcast against scores "
      f"of shape {scores.shape}"
    ) from None
  if scores.size == 0:
    raise ValueError(f"scores has shape {scores.shape}: there is nothing to rank")
  if np.isnan(scores).any():
    raise ValueError(f"scores holds {np.isnan(scores).sum()} NaN values")
  scores, members = np.moveaxis(scores, axis, -1), np.moveaxis(members, axis, -1)
  order = np.argsort(-scores, axis=-1)
  scores = np.take_along_axis(scores, order, axis=-1)
  is_member = np.take_along_axis(members, order, axis=-1)
  before, last = _tie_bounds(scores)
  tp = np.cumsum(is_member, axis=-1)
  fp = np.arange(1, scores.shape[-1] + 1) - tp
  return Ranked(
    scores=scores,
    is_member=is_member,
    tp_before=_count_through(tp, before),
    fp_before=_count_through(fp, before),
    tp=_count_through(tp, last),
    fp=_count_through(fp, last),
    num_members=tp[..., -1],
    num_nonmembers=fp[..., -1],
  )


def roc(scores: np.ndarray, members: np.ndarray) -> Curve:
  """Returns the ROC curve of one row, with one point for each distinct score.

  As scikit-learn's `roc_curve(..., drop_intermediate=False)`.

  Args:
    scores: `[N]`, higher = member.
    members: `[N]` bool.

  Returns:
    A `Curve`.

  Raises:
    ValueError: as `rank`; more than one row; or all are members, or none is.
  """
  ranked = rank(scores, members)
  if ranked.scores.ndim != 1:
    raise ValueError(f"scores has shape {ranked.scores.shape}, expected [N]")
  if ranked.num_members == 0 or ranked.num_nonmembers == 0:
    raise ValueError(
      f"members holds {ranked.num_members} members and {ranked.num_nonmembers} "
      "non-members; a ROC curve needs both"
    )
  is_last = np.append(ranked.scores[1:] != ranked.scores[:-1], True)
  return Curve(
    fpr=np.append(0, ranked.fp[is_last]) / ranked.num_nonmembers,
    tpr=np.append(0, ranked.tp[is_last]) / ranked.num_members,
    thresholds=np.append(np.inf, ranked.scores[is_last]),
  )


def auc(scores: np.ndarray, members: np.ndarray, *, axis: int = -1) -> np.ndarray:
  """Returns `P(member's score > other's) + P(equal) / 2`, the area under the ROC curve.

  Args:
    scores: `[..., N]`, higher = member.
    members: bool, broadcastable against `scores`.
    axis: the axis of samples.

  Returns:
    `[...]` float64; NaN in a row without members or without non-members.

  Raises:
    ValueError: as `rank`.
  """
  return auc_of_ranked(rank(scores, members, axis=axis))


def auc_of_ranked(ranked: Ranked) -> np.ndarray:
  """As `auc`, of rows that are ranked already."""
  # Twice the number of lost pairs is an integer: exact, whatever the order of summing.
  lost = np.sum((ranked.fp_before + ranked.fp) * ranked.is_member, axis=-1)
  return 1 - _ratio(lost, 2 * ranked.num_members * ranked.num_nonmembers)


def tpr_at_fpr(
  scores: np.ndarray,
  members: np.ndarray,
  fpr: np.ndarray,
  *,
  axis: int = -1,
  ties: Ties = "randomized",
) -> np.ndarray:
  """Returns the TPR of the attacker whose FPR is each level.

  Without ties that is the share of members with a higher score than all but a share
  `fpr` of the non-members: a level below one false positive in all non-members allows
  none at all. Where the level falls within a group of equal scores there are two
  readings:

  - `"randomized"`: the attacker calls samples of that group members by a coin that
    makes the FPR the level. It is the linear interpolation of the ROC curve between its
    vertices: what anyone can reach, and in expectation no favour, as the coin knows
    nothing of membership. Two distinct scores already have a TPR at every FPR, never
    below that of guessing for want of a threshold.
  - `"conservative"`: the group is called members by no one, since no threshold does so
    within the level: the TPR of a threshold that exists. An attack with few values
    reads 0 here, however much it leaks.

  Args:
    scores: `[..., N]`, higher = member.
    members: bool, broadcastable against `scores`.
    fpr: `[K]` levels in [0, 1].
    axis: the axis of samples.
    ties: the reading, see above.

  Returns:
    `[..., K]` float64; NaN in a row without members or without non-members.

  Raises:
    ValueError: as `rank`, `fpr` is not `[K]` levels in [0, 1], or `ties` is unknown.
  """
  return tpr_of_ranked(rank(scores, members, axis=axis), fpr, ties=ties)


def tpr_of_ranked(
  ranked: Ranked, fpr: np.ndarray, *, ties: Ties = "randomized"
) -> np.ndarray:
  """Returns TPR at levels of FPR, of rows that are ranked already; see `tpr_at_fpr`.

  Args:
    ranked: of `rank`.
    fpr: `[K]` levels in [0, 1].
    ties: as of `tpr_at_fpr`.

  Returns:
    `[..., K]` float64.

  Raises:
    ValueError: fpr is no such levels, or ties are of another kind.
  """
  fpr = np.asarray(fpr, np.float64)
  if fpr.ndim != 1 or not ((fpr >= 0) & (fpr <= 1)).all():
    raise ValueError(f"fpr={fpr} must be levels in [0, 1], of shape [K]")
  _validate.known("ties", ties, get_args(Ties))
  num_others = ranked.num_nonmembers[..., None]
  allowed = fpr * num_others
  # Not by the product, which is rounded: a count is allowed if its rate is.
  nearest = np.rint(allowed)
  whole = nearest - (nearest / np.maximum(num_others, 1) > fpr)
  counted = staircase(ranked).tp(
    whole.astype(np.int64), np.maximum(allowed, whole), ties
  )
  num_members = ranked.num_members[..., None]
  counted = np.where(whole >= num_others, num_members, counted)
  return _ratio(counted, np.where(num_others > 0, num_members, 0))


class Stairs(NamedTuple):
  """Where each non-member stands on its row's ROC curve.

  Attributes:
    ranked: the rows.
    place: `[..., N]` int, indices of the non-members by descending score, then of the
      members.
  """

  ranked: Ranked
  place: np.ndarray

  def tp(self, other: np.ndarray, count: np.ndarray, ties: Ties) -> np.ndarray:
    """Returns the members counted where the curve passes a non-member, `[..., K]`.

    Args:
      other: `[..., K]` int, which non-member, from 0; its group of ties is looked at.
      count: `[..., K]` false positives, within that group; fractions are allowed.
      ties: "conservative" counts the members before the group; "randomized" adds those
        within it in proportion.
    """
    at = np.clip(other, 0, self.place.shape[-1] - 1)
    at = np.broadcast_to(at, (*self.place.shape[:-1], at.shape[-1]))
    at = np.take_along_axis(self.place, at, axis=-1)
    ranked = self.ranked
    before, through, fp_before, fp = (
      np.take_along_axis(part, at, axis=-1)
      for part in (ranked.tp_before, ranked.tp, ranked.fp_before, ranked.fp)
    )
    if ties == "conservative":
      return before.astype(np.float64)
    share = (count - fp_before) / np.maximum(fp - fp_before, 1)
    return before + (through - before) * share


def staircase(ranked: Ranked) -> Stairs:
  """Finds the non-members of ranked rows."""
  return Stairs(ranked, np.argsort(ranked.is_member, axis=-1, kind="stable"))


def best_accuracy(
  scores: np.ndarray, members: np.ndarray, *, axis: int = -1
) -> np.ndarray:
  """Returns the accuracy at the best threshold: what a lucky attacker would reach.

  The threshold is chosen on the same samples, so it is an optimistic figure, and never
  less than the larger of the shares of members and non-members.

  Args:
    scores: `[..., N]`, higher = member.
    members: bool, broadcastable against `scores`.
    axis: the axis of samples.

  Returns:
    `[...]` float64 share of samples called rightly; NaN in a row without members or
    without non-members.

  Raises:
    ValueError: as `rank`.
  """
  ranked = rank(scores, members, axis=axis)
  gain = np.maximum(np.max(ranked.tp - ranked.fp, axis=-1), 0)
  has_both = (ranked.num_members > 0) & (ranked.num_nonmembers > 0)
  right = ranked.num_nonmembers + gain
  return np.where(has_both, right / ranked.scores.shape[-1], np.nan)


def places(scores: np.ndarray) -> np.ndarray:
  """Returns 1 for the highest of `[N]` scores; equal ones share the best, NaN stays."""
  ordered = np.sort(-scores[~np.isnan(scores)])
  place = 1.0 + np.searchsorted(ordered, -scores, side="left")
  return np.where(np.isnan(scores), np.nan, place)


def _tie_bounds(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Index of the entry before each entry's ties (-1 if none), and of their last."""
  num_samples = scores.shape[-1]
  idx = np.broadcast_to(np.arange(num_samples), scores.shape)
  differs = scores[..., 1:] != scores[..., :-1]
  edge = np.ones((*scores.shape[:-1], 1), bool)
  is_first = np.concatenate([edge, differs], axis=-1)
  is_last = np.concatenate([differs, edge], axis=-1)
  first = np.maximum.accumulate(np.where(is_first, idx, 0), axis=-1)
  last = np.where(is_last, idx, num_samples - 1)[..., ::-1]
  return first - 1, np.minimum.accumulate(last, axis=-1)[..., ::-1]


def _count_through(count: np.ndarray, idx: np.ndarray) -> np.ndarray:
  """`count` at `idx`, and 0 at -1."""
  taken = np.take_along_axis(count, np.maximum(idx, 0), axis=-1)
  return np.where(idx < 0, 0, taken)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """Quotient, NaN where the denominator is 0."""
  safe = np.where(denominator == 0, 1, denominator)
  return np.where(denominator == 0, np.nan, numerator / safe)
