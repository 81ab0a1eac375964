"""Conformal p-values of membership scores: how many calibration rows score as high.

`p(x) = (1 + #{z: score(z) >= score(x)}) / (1 + P)` over P rows that no model under
comparison was trained on, scored as the samples are. If x is not a member and
exchangeable with those rows, `P(p(x) <= a) <= a` for every a, whatever the score, its
estimates and its ties: x is equally likely to hold each rank among the P + 1. What the
attack learnt from, tuned or chose must not depend on the rows or on x (nor on which of
them is x); two attacks, the better one by p, are two tests.

Source: Vovk et al., "Algorithmic Learning in a Random World" (2005); as tests for
outliers, Bates et al., "Testing for Outliers with Conformal p-values" (2023).
"""

import numpy as np

from jmia import _validate
from jmia.stats import multiple

MIN_ROWS = 100  # of a class; then its p-values go down to 1 in 101


_TOP = 0.05  # share of all scores that are its highest ones


def excess(of_nonmembers: np.ndarray, calibration: np.ndarray) -> float:
  """Returns the p-value of whether non-members score higher than calibration rows do.

  By their ranks, and by how many of the highest twentieth of both are non-members
  (hypergeometric): twice the smaller of the two. By ranks it is Mann and Whitney's test
  with its normal law. Where one score is held by more than half, that law is far off in
  the tail of what the few others decide: then it is twice the smaller of two
  hypergeometric ones, of those above that score and of those not below it.

  Args:
    of_nonmembers: `[n]` float; NaN is left out.
    calibration: `[P]` float, likewise.

  Returns:
    In (0, 1]; 1 where either is empty.
  """
  from scipy import stats

  kinds = [np.asarray(x, np.float64) for x in (of_nonmembers, calibration)]
  ours, rows = (x[~np.isnan(x)] for x in kinds)
  if not len(ours) or not len(rows):
    return 1.0
  both = np.concatenate([ours, rows])

  def among(high: np.ndarray) -> float:
    num_ours = int(high[: len(ours)].sum())
    return float(
      stats.hypergeom.sf(num_ours - 1, len(both), len(ours), int(high.sum()))
    )

  values, counts = np.unique(both, return_counts=True)
  common = values[counts.argmax()]
  if 2 * counts.max() > len(both):
    by_rank = 2 * min(among(both > common), among(both >= common))
  else:
    test = stats.mannwhitneyu(ours, rows, alternative="greater", method="asymptotic")
    by_rank = float(test.pvalue)
  of_top = among(both >= np.sort(both)[-max(1, int(_TOP * len(both)))])
  return min(1.0, 2 * min(by_rank, of_top))


def p_values(
  scores: np.ndarray,
  calibration: np.ndarray,
  *,
  labels: np.ndarray | None = None,
  calibration_labels: np.ndarray | None = None,
  min_rows: int = MIN_ROWS,
) -> np.ndarray:
  """Returns the conformal p-value of every sample, for "is not a member".

  With labels a sample is compared with the rows of its own group of classes. A class is
  a group of its own if, of samples and rows together, enough have it for `min_rows` of
  them to be expected among the rows; the others form one group, which the rarest
  classes join until it is large enough too. Then `p <= a` has a chance of at most a in
  each group, given the group. Two conditions come with it:

  - within a group, samples that are not members are exchangeable with the rows. For a
    group of several classes, or without labels, that includes the mix of classes: rows
    must hold the classes in the shares in which the audited non-members do. A class by
    itself asks for nothing of the kind;
  - groups depend on labels alone, by counts of both sides, in which a sample and a row
    count alike; never on scores or on who is a member.

  A rare class is not compared with all rows: where the classes' scores differ, those
  p-values would be too small, in that class and over all samples.

  Args:
    scores: `[..., N]` float, higher = member; NaN where a sample is not attacked.
    calibration: `[..., P]` float, with leading axes that broadcast; a row with NaN is
      left out.
    labels: `[N]` integer classes of the samples, at least 0, or None.
    calibration_labels: `[P]`, those of the rows; given with `labels`, or not at all.
    min_rows: see above; the smallest p-value of n rows is `1 / (1 + n)`.

  Returns:
    `[..., N]` float64 in (0, 1], NaN where the score is. 1 where there is no row to
    compare with.

  Raises:
    ValueError: there are no rows, only one side has labels, labels have another shape
      or are no classes, or `min_rows` is not positive.
  """
  scores = np.asarray(scores, np.float64)
  calibration = np.asarray(calibration, np.float64)
  if calibration.ndim == 0 or calibration.shape[-1] == 0:
    raise ValueError(f"calibration has shape {calibration.shape}: it holds no rows")
  if (labels is None) != (calibration_labels is None):
    raise ValueError("labels and calibration_labels must be given together")
  if labels is None or calibration_labels is None:
    return _pooled(scores, calibration)
  _validate.positive("min_rows", min_rows)
  labels, calibration_labels = np.asarray(labels), np.asarray(calibration_labels)
  _check_labels("labels", labels, scores)
  _check_labels("calibration_labels", calibration_labels, calibration)
  group = _groups(labels, calibration_labels, min_rows)
  lead = np.broadcast_shapes(scores.shape[:-1], calibration.shape[:-1])
  found = np.empty((*lead, scores.shape[-1]))
  for g in np.unique(group[labels]):
    own, rows = group[labels] == g, group[calibration_labels] == g
    found[..., own] = _pooled(scores[..., own], calibration[..., rows])
  return found


def q_values(p_values: np.ndarray, *, axis: int = -1) -> np.ndarray:
  """Returns Benjamini & Hochberg's adjusted p-values of samples, NaN where p is.

  Calling members those with `q <= level` keeps the false discovery rate at `level`: the
  expected share of non-members among those called. It holds for conformal p-values,
  though all come from the same rows and so depend on one another: they are positively
  dependent on the non-members (Bates et al. 2023, theorem 2), for which the procedure
  is valid (Benjamini & Yekutieli 2001). That asks for non-members that are drawn
  independently of one another, of the members and of the rows.

  The nulls are the non-members: where half of the samples are members, the rate is at
  most half of `level`. It is an expectation over audits; with few calls, the realised
  share of one audit may be 1. A family is what is adjusted together: calls of several
  attacks joined have no such rate. Of N samples at least `N / (level (1 + P))` must
  reach the smallest p-value of P rows, or nobody is called.

  Args:
    p_values: `[...]` in [0, 1], NaN for samples that are not tested.
    axis: the axis of the samples.

  Returns:
    float64 of the same shape; the NaN ones do not count.

  Raises:
    ValueError: as `multiple.benjamini_hochberg`, NaN apart.
  """
  p_values = np.asarray(p_values, np.float64)
  tested = ~np.isnan(p_values)
  if tested.all():
    return multiple.benjamini_hochberg(p_values, axis=axis)

  def of_row(row: np.ndarray) -> np.ndarray:
    adjusted = row.copy()
    at = ~np.isnan(row)
    adjusted[at] = multiple.benjamini_hochberg(row[at])
    return adjusted

  return np.apply_along_axis(of_row, axis, p_values)


def _pooled(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
  """`p_values` without labels, by sorting the rows and searching: never N x P."""
  lead = np.broadcast_shapes(scores.shape[:-1], calibration.shape[:-1])
  # Sorted by -score, so that NaN comes last and the search counts from the highest.
  ordered = np.sort(-calibration, axis=-1)
  num_rows = (~np.isnan(ordered)).sum(axis=-1)
  at_least = np.empty((*lead, scores.shape[-1]))
  scores = np.broadcast_to(scores, at_least.shape)
  ordered = np.broadcast_to(ordered, (*lead, ordered.shape[-1]))
  num_rows = np.broadcast_to(num_rows, lead)
  for i in np.ndindex(*lead):
    rows = ordered[i][: num_rows[i]]
    at_least[i] = np.searchsorted(rows, -scores[i], side="right")
  found = (1 + at_least) / (1 + num_rows[..., None])
  return np.where(np.isnan(scores), np.nan, found)


def _groups(
  labels: np.ndarray, calibration_labels: np.ndarray, min_rows: float
) -> np.ndarray:
  """Class -> the group it is compared in; 0 is the group of the rare ones."""
  both = np.concatenate([labels, calibration_labels])
  count = np.bincount(both)
  # As counts of both sides, so that a sample and a row are exchangeable in it.
  needed = min_rows * len(both) / len(calibration_labels)
  by_count = np.argsort(count, kind="stable")
  ordered = count[by_count]
  rest = ordered < needed
  if ordered[rest].any():
    rest |= np.cumsum(ordered) - ordered < needed
  group = np.empty(len(count), int)
  group[by_count] = np.where(rest, 0, np.arange(1, len(count) + 1))
  return group


def _check_labels(name: str, labels: np.ndarray, scored: np.ndarray) -> None:
  _validate.shape(name, labels, (scored.shape[-1],))
  if not np.issubdtype(labels.dtype, np.integer) or (labels < 0).any():
    raise ValueError(f"{name} must be integer classes, at least 0")
