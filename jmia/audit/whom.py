"""Whom an audit exposes: what single records and groups of them are told of.

The attack that speaks of records is the best one at few false positives
(`wording.sharpest`). It is chosen after all attacks were seen, so what is said by it is
paid for all of them: intervals by Bonferroni, discoveries by a share of the rate.
"""

from collections.abc import Mapping
import itertools
from typing import Any

import numpy as np

from jmia import _validate, types
from jmia.report import wording
from jmia.report.samples import Samples
from jmia.stats import intervals, roc

FDR = 0.1  # the expected share of wrong names among the records named
MOST_GROUPS = 60  # of one grouping; numbers of more values are cut at their quartiles
MIN_ROWS = 5  # members, and non-members, that a group must have to be told of
_FPRS = np.array([0.1, 0.01])


def told(
  report: dict[str, Any],
  samples: Samples,
  dataset: types.Dataset | None = None,
  groups: Mapping[str, np.ndarray] | None = None,
  columns: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, Any], Samples]:
  """Returns a report with `found` and `groups`, and samples that say what they are.

  Args:
    report: as `report.json`.
    samples: of its first target.
    dataset: that the samples' `index` speaks of, for pictures and names of classes.
    groups: name -> `[n]` values of all rows that `index` speaks of.
    columns: likewise, to be shown beside a record.

  Raises:
    ValueError: a group or a column has another number of rows.
  """
  groups, columns = dict(groups or {}), dict(columns or {})
  num = None if dataset is None else dataset.num_examples
  for kind, given in (("groups", groups), ("columns", columns)):
    for name, values in given.items():
      _validate.shape(f"{kind}[{name!r}]", values, (num,))
  samples = samples._replace(
    groups={name: np.asarray(v)[samples.index] for name, v in groups.items()},
    columns={name: np.asarray(v)[samples.index] for name, v in columns.items()},
  )
  if dataset is not None:
    samples = samples._replace(
      images=_images(dataset, samples.index),
      class_names=tuple(getattr(dataset, "class_names", ())),
    )
  found = discoveries(report, samples)
  report = {**report, "groups": exposures(report, samples)}
  return {**report, "found": found} if found else report, samples


def discoveries(report: wording.Report, samples: Samples) -> dict[str, Any] | None:
  """Returns how many records can be named at the false discovery rate `FDR`.

  Each of the K attacks with q-values is given a rate of `FDR / K`. The share of wrong
  names by whichever is chosen is at most the sum of all their shares, whose expectation
  is at most `FDR`: so the choice may look at anything.

  Returns:
    `{"rate", "attack", "at_q", "num_found", "num_members"}`; None without q-values.
  """
  attack = wording.sharpest(report)
  if attack is None or attack not in samples.q_values:
    return None
  at_q = FDR / len(samples.q_values)
  found = samples.q_values[attack] <= at_q
  return {
    "rate": FDR,
    "attack": attack,
    "at_q": at_q,
    "num_found": int(found.sum()),
    "num_members": int((found & samples.members).sum()),
  }


def exposures(report: wording.Report, samples: Samples) -> dict[str, Any]:
  """Returns the exposure of each group of records, most exposed first.

  Groups are classes, whether the target answered rightly, and those of the user's.
  All intervals of all of them hold at once at 95 %, whichever attack is looked at.

  Returns:
    `{"attack", "num_figures", "by"}`; `by` is grouping -> a list of `{"group",
    "num_members", "num_nonmembers", "auc", "auc_ci", "tpr_at_fpr", "tpr_at_fpr_ci"}`.
    Groups with fewer than `MIN_ROWS` members or non-members are not among them; a TPR
    is None where the group has fewer than 1 / FPR non-members. Empty if no attack ran.
  """
  attack = wording.sharpest(report)
  if attack is None:
    return {}
  scores = samples.scores[attack]
  masks = {
    name: {
      group: mask & ~np.isnan(scores) for group, mask in group_masks(values).items()
    }
    for name, values in _groupings(samples).items()
  }
  kept = {
    name: {group: at for group, at in of_name.items() if _is_told(samples.members[at])}
    for name, of_name in masks.items()
  }
  kept = {name: of_name for name, of_name in kept.items() if len(of_name) > 1}
  num = sum(map(len, kept.values())) * (1 + len(_FPRS)) * len(report["attacks"])
  confidence = intervals.each_of(max(num, 1))
  by = {
    name: _sorted(
      {"group": group, **_exposure(scores[at], samples.members[at], confidence)}
      for group, at in of_name.items()
    )
    for name, of_name in kept.items()
  }
  return {"attack": attack, "num_figures": num, "by": by}


def group_masks(values: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the groups of `[N]` values: what each is called -> `[N]` bool.

  Numbers of more than 20 values are cut at their quartiles; of other kinds the most
  frequent `MOST_GROUPS` are taken.
  """
  values = np.asarray(values)
  found, count = np.unique(values, return_counts=True)
  if len(found) > 20 and values.dtype.kind in "fiu":
    return _quartiles(values.astype(np.float64))
  most = found[np.argsort(-count, kind="stable")[:MOST_GROUPS]]
  return {str(value): values == value for value in np.sort(most)}


def _quartiles(values: np.ndarray) -> dict[str, np.ndarray]:
  ends = np.unique(np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1]))
  part = np.clip(np.searchsorted(ends, values, side="right") - 1, 0, len(ends) - 2)
  return {
    f"{low:.4g} to {high:.4g}": (part == i) & ~np.isnan(values)
    for i, (low, high) in enumerate(itertools.pairwise(ends))
  }


def _groupings(samples: Samples) -> dict[str, np.ndarray]:
  """Grouping -> `[N]` values."""
  names = samples.class_names
  classes = np.array(names)[samples.labels] if names else samples.labels
  # As text: classes are never cut at quartiles.
  found = {"class": classes.astype(str)}
  if samples.correct is not None:
    found["prediction"] = np.where(samples.correct, "right", "wrong")
  return found | dict(samples.groups)


def _is_told(members: np.ndarray) -> bool:
  return min(members.sum(), (~members).sum()) >= MIN_ROWS


def _exposure(
  scores: np.ndarray, members: np.ndarray, confidence: float
) -> dict[str, Any]:
  """One group's figures, as JSON values."""
  auc = intervals.auc(scores, members, confidence=confidence)
  tpr = roc.tpr_at_fpr(scores, members, _FPRS)
  bounds = intervals.tpr_at_fpr(scores, members, _FPRS, confidence=confidence)
  enough = _FPRS * (~members).sum() >= 1 - 1e-9

  def by_level(values: np.ndarray) -> dict[str, Any]:
    return {
      str(fpr): value if is_enough else None
      for fpr, value, is_enough in zip(_FPRS, values.tolist(), enough, strict=True)
    }

  return {
    "num_members": int(members.sum()),
    "num_nonmembers": int((~members).sum()),
    "auc": float(auc.auc),
    "auc_ci": [float(auc.low), float(auc.high)],
    "tpr_at_fpr": by_level(tpr),
    "tpr_at_fpr_ci": by_level(np.stack(bounds, axis=-1)),
  }


def _sorted(rows: Any) -> list[dict[str, Any]]:
  return sorted(rows, key=lambda row: -row["auc"])


def _images(dataset: types.Dataset, index: np.ndarray) -> np.ndarray | None:
  """The samples' pictures as uint8, if they are pictures."""
  if dataset.x.ndim != 4 or dataset.x.shape[-1] not in (1, 3):
    return None
  x = np.asarray(dataset.x[index], np.float32) * dataset.feature_scale
  low, high = min(float(x.min()), 0.0), max(float(x.max()), 1.0)
  return np.round(255 * (x - low) / (high - low)).astype(np.uint8)
