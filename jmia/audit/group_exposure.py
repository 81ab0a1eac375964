"""Whom an audit exposes: what single records and groups of them are told of.

The attack that speaks of records is the best one at few false positives
(`wording.sharpest`). It is chosen after all attacks were seen, so what is said by it is
paid for all of them: intervals by Bonferroni, discoveries by a share of the rate.
"""

from collections.abc import Mapping, Sequence
import decimal
import itertools
from typing import Any

import numpy as np

from jmia import _validate, types
from jmia.report import wording
from jmia.report.samples import Samples
from jmia.stats import intervals, levels, roc

MOST_GROUPS = 60  # of one grouping; numbers of more values are cut at their quartiles
MIN_ROWS = 5  # members, and non-members, that a group must have to be told of


def check_rows(
  kind: str,
  columns: Mapping[str, np.ndarray] | None,
  index: np.ndarray | None = None,
  num_rows: int | None = None,
) -> None:
  """Checks that columns are of the rows that an index counts.

  Where the number of rows is not known, they must reach the index's last row and be of
  one length: more is not known of them.

  Args:
    kind: of the columns, for messages.
    columns: name -> `[n]` values.
    index: rows of them.
    num_rows: `n`, if it is known.

  Raises:
    ValueError: one has another number of rows.
  """
  given = {f"{kind}[{name!r}]": np.shape(of) for name, of in (columns or {}).items()}
  for name, values in (columns or {}).items():
    _validate.shape(f"{kind}[{name!r}]", values, (num_rows,))
  least = 0 if index is None or not len(index) else int(np.max(index)) + 1
  for name, (num,) in given.items():
    if num < least:
      raise ValueError(
        f"{name} has {num} rows, but the audited rows go up to {least - 1}, counted "
        "from 0"
      )
  if len({*given.values()}) > 1:
    shown = ", ".join(f"{num} of {name}" for name, (num,) in given.items())
    raise ValueError(f"{kind} have different numbers of rows: {shown}")


def with_exposure(
  report: dict[str, Any],
  samples: Samples,
  dataset: types.Dataset | None = None,
  groups: Mapping[str, np.ndarray] | None = None,
  columns: Mapping[str, np.ndarray] | None = None,
  num_rows: int | None = None,
) -> tuple[dict[str, Any], Samples]:
  """Returns a report with `found` and `groups`, and samples that say what they are.

  Args:
    report: as `report.json`.
    samples: of its first target.
    dataset: that the samples' `index` speaks of, for pictures and names of classes.
    groups: name -> `[n]` values of all rows that `index` speaks of. A grouping that
      cannot be told of, or in part, is named in the report's `notes`.
    columns: likewise, to be shown beside a record.
    num_rows: `n`, where it is known without a dataset.

  Raises:
    ValueError: a group or a column has another number of rows: than the dataset or
      `num_rows`, where one is given; than the others, or too few for `index`, else.
  """
  groups, columns = dict(groups or {}), dict(columns or {})
  num = num_rows if dataset is None else dataset.num_examples
  for kind, given in (("groups", groups), ("columns", columns)):
    check_rows(kind, given, samples.index, num)
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
  notes = _notes(report, samples, ("class", *groups))
  if notes:
    report["notes"] = [*report.get("notes", ()), *notes]
  return {**report, "found": found} if found else report, samples


def discoveries(report: wording.Report, samples: Samples) -> dict[str, Any] | None:
  """Returns how many records can be named at the false discovery rate `levels.FDR`.

  Each of the K attacks with q-values is given a K-th of that rate. The share of wrong
  names by whichever is chosen is at most the sum of all their shares, whose expectation
  is at most the rate: so the choice may look at anything.

  Returns:
    `{"rate", "attack", "at_q", "num_found", "num_members"}`; None without q-values.
  """
  attack = wording.sharpest(report)
  if attack is None or attack not in samples.q_values:
    return None
  at_q = levels.FDR / len(samples.q_values)
  found = samples.q_values[attack] <= at_q
  return {
    "rate": levels.FDR,
    "attack": attack,
    "at_q": at_q,
    "num_found": int(found.sum()),
    "num_members": int((found & samples.members).sum()),
  }


def exposures(report: wording.Report, samples: Samples) -> dict[str, Any]:
  """Returns the exposure of each group, the surely most exposed first.

  Groups are classes, whether the target answered rightly, and those of the user's.
  All intervals of all of them hold at once at 95 %, whichever attack is looked at.

  Returns:
    `{"attack", "num_figures", "by", "left_out"}`; `by` is grouping -> a list of
    `{"group", "num_members", "num_nonmembers", "auc", "auc_ci", "tpr_at_fpr",
    "tpr_at_fpr_ci"}`. Groups with fewer than `MIN_ROWS` members or non-members are not
    among them; a TPR is None where the group has too few non-members
    (`levels.can_measure`). `left_out` says of classes `{"min_rows", "most_groups",
    "num_small", "num_rare", "alone"}`: how many have too few rows; how many have rows
    enough, but are not of the most frequent; and the one that has nothing to be
    compared with, if only one is left. Empty if no attack ran.
  """
  attack = wording.sharpest(report)
  if attack is None:
    return {}
  scores = samples.scores[attack]
  kept = {
    name: {group: at for group, at in of_name.items() if _has_rows(samples.members[at])}
    for name, of_name in _masks(samples, attack).items()
  }
  kept = {name: of_name for name, of_name in kept.items() if len(of_name) > 1}
  num = (
    sum(map(len, kept.values()))
    * (1 + len(levels.COARSE_FPRS))
    * len(report["attacks"])
  )
  confidence = intervals.each_of(max(num, 1))
  by = {
    name: _sorted(
      {"group": group, **_exposure(scores[at], samples.members[at], confidence)}
      for group, at in of_name.items()
    )
    for name, of_name in kept.items()
  }
  left_out = {"class": _left_out(samples, attack)}
  return {"attack": attack, "num_figures": num, "by": by, "left_out": left_out}


def _left_out(samples: Samples, attack: str) -> dict[str, Any]:
  """Which classes `exposures` does not tell of, counted by the reason."""
  attacked = samples.attacked(attack)
  classes, class_of = np.unique(_groupings(samples)["class"], return_inverse=True)
  rows = [
    np.bincount(class_of[attacked & kind], minlength=len(classes))
    for kind in (samples.members, ~samples.members)
  ]
  is_small = np.min(rows, axis=0) < MIN_ROWS
  told = [
    name
    for name, at in _masks(samples, attack)["class"].items()
    if _has_rows(samples.members[at])
  ]
  return {
    "min_rows": MIN_ROWS,
    "most_groups": MOST_GROUPS,
    "num_small": int(is_small.sum()),
    "num_rare": int((~is_small).sum()) - len(told),
    "alone": told[0] if len(told) == 1 else None,
  }


def group_masks(values: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the groups of `[N]` values: what each is called -> `[N]` bool.

  Numbers of more than 20 values are cut at their quartiles, and called by the lowest
  and the highest of a group, with as many digits as tell groups apart; of other kinds
  the most frequent `MOST_GROUPS` are taken. NaN, and text of nothing but spaces, is a
  group of its own, "no value".
  """
  values = np.asarray(values)
  is_gap = np.zeros(len(values), bool)
  if values.dtype.kind in "fmM":
    is_gap = np.isnan(values)
  elif values.dtype.kind == "U":
    is_gap = np.strings.strip(values) == ""
  found, count = np.unique(values[~is_gap], return_counts=True)
  if len(found) > 20 and values.dtype.kind in "fiu":
    part = np.full(len(values), -1)
    part[~is_gap] = _quarters(values[~is_gap])
    masks = _ranges(values, [part == p for p in range(part.max() + 1)])
  else:
    most = found[np.argsort(-count, kind="stable")[:MOST_GROUPS]]
    masks = {str(value): values == value for value in np.sort(most)}
  return masks | ({"no value": is_gap} if is_gap.any() else {})


def _quarters(values: np.ndarray) -> np.ndarray:
  """Which of at most four parts, cut at the quartiles, each number is in."""
  # By rank, which is exact for times in nanoseconds too.
  rank = np.unique(values, return_inverse=True)[1].reshape(-1)
  ends = np.unique(np.quantile(rank, [0, 0.25, 0.5, 0.75, 1]))
  part = np.clip(np.searchsorted(ends, rank, side="right") - 1, 0, len(ends) - 2)
  if len(ends) == 2:
    # Over three quarters are the lowest or the highest: it, and others.
    part = np.sign(rank - np.bincount(rank).argmax())
  return np.unique(part, return_inverse=True)[1].reshape(-1)


def _ranges(values: np.ndarray, masks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  """Parts of numbers, in ascending order, by what they range from and to."""
  ends = [(values[at].min(), values[at].max()) for at in masks]
  known = values[np.logical_or.reduce(masks)]
  if values.dtype.kind == "f" and not (
    (known == np.rint(known)).all() and np.abs(known).max() < 2**53
  ):
    names = _names([(float(str(low)), float(str(high))) for low, high in ends])
  else:
    names = [(str(int(low)), str(int(high))) for low, high in ends]
  return {
    low if low == high else f"{low} to {high}": at
    for (low, high), at in zip(names, masks, strict=True)
  }


def _names(ends: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
  """Ranges of few digits, at least 4, that hold the given ones and do not meet."""
  for digits in range(4, 16):
    rounded = [_outward(low, high, digits) for low, high in ends]
    if all(high < low for (_, high), (low, _) in itertools.pairwise(rounded)):
      return [
        (repr(low), repr(high))
        if low == high
        else (f"{a:.{digits}g}", f"{b:.{digits}g}")
        for (low, high), (a, b) in zip(ends, rounded, strict=True)
      ]
  return [(repr(low), repr(high)) for low, high in ends]


def _outward(low: float, high: float, digits: int) -> tuple[float, float]:
  """The range of so many digits around another; one number stays itself."""
  if low == high:
    return low, high
  down = decimal.Context(prec=digits, rounding=decimal.ROUND_FLOOR)
  up = decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING)
  return float(down.create_decimal(repr(low))), float(up.create_decimal(repr(high)))


def _masks(samples: Samples, attack: str) -> dict[str, dict[str, np.ndarray]]:
  """Grouping -> group -> `[N]` bool, of the samples that an attack was run on."""
  attacked = samples.attacked(attack)
  return {
    name: {group: mask & attacked for group, mask in group_masks(values).items()}
    for name, values in _groupings(samples).items()
  }


def _notes(report: wording.Report, samples: Samples, names: Sequence[str]) -> list[str]:
  """What of the groupings is not told of, and why; small classes the page counts."""
  if not report["groups"]:
    return [
      f"Groups by {name} are not told of: no attack ran."
      for name in names
      if name in samples.groups
    ]
  attack, by = report["groups"]["attack"], report["groups"]["by"]
  masks, notes = _masks(samples, attack), []
  for name in dict.fromkeys(names):
    found = {group: at for group, at in masks[name].items() if at.any()}
    others = samples.attacked(attack) & ~np.any([*found.values()], axis=0)
    if others.any():
      notes.append(
        f"Of the values of {name} the {MOST_GROUPS} most frequent are told of; "
        f"{others.sum():,} of {len(others):,} samples have another."
      )
    if name not in samples.groups:
      continue
    if len(found) < 2:
      notes.append(
        f"Groups by {name} are not told of: all samples have one value, "
        f"{', '.join(found) or 'none'}."
      )
    elif name not in by:
      notes.append(
        f"Groups by {name} are not told of: fewer than 2 of {len(found)} have "
        f"{MIN_ROWS} members and {MIN_ROWS} non-members."
      )
    elif len(by[name]) < len(found):
      notes.append(
        f"{len(found) - len(by[name])} of {len(found)} groups by {name} are left out: "
        f"they have fewer than {MIN_ROWS} members or non-members."
      )
  return notes


def _groupings(samples: Samples) -> dict[str, np.ndarray]:
  """Grouping -> `[N]` values."""
  names = samples.class_names
  classes = np.array(names)[samples.labels] if names else samples.labels
  # As text: classes are never cut at quartiles.
  found = {"class": classes.astype(str)}
  if samples.correct is not None:
    found["prediction"] = np.where(samples.correct, "right", "wrong")
  return found | dict(samples.groups)


def _has_rows(members: np.ndarray) -> bool:
  """Whether a group is large enough to be told of."""
  return min(members.sum(), (~members).sum()) >= MIN_ROWS


def _exposure(
  scores: np.ndarray, members: np.ndarray, confidence: float
) -> dict[str, Any]:
  """One group's figures, as JSON values."""
  auc = intervals.auc(scores, members, confidence=confidence)
  fprs, num_others = levels.numbers(levels.COARSE_FPRS), int((~members).sum())
  tpr = roc.tpr_at_fpr(scores, members, fprs)
  bounds = intervals.tpr_at_fpr(scores, members, fprs, confidence=confidence)

  def by_level(values: np.ndarray) -> dict[str, Any]:
    return {
      fpr: value if levels.can_measure(fpr, num_others) else None
      for fpr, value in zip(levels.COARSE_FPRS, values.tolist(), strict=True)
    }

  return {
    "num_members": int(members.sum()),
    "num_nonmembers": num_others,
    "auc": float(auc.auc),
    "auc_ci": [float(auc.low), float(auc.high)],
    "tpr_at_fpr": by_level(tpr),
    "tpr_at_fpr_ci": by_level(np.stack(bounds, axis=-1)),
  }


def _sorted(rows: Any) -> list[dict[str, Any]]:
  # By the AUC itself, a group of ten would be first by luck.
  return sorted(rows, key=lambda row: (-row["auc_ci"][0], -row["auc"]))


def _images(dataset: types.Dataset, index: np.ndarray) -> np.ndarray | None:
  """The samples' pictures as uint8, if they are pictures."""
  if dataset.x.ndim != 4 or dataset.x.shape[-1] not in (1, 3):
    return None
  x = np.asarray(dataset.x[index], np.float32) * dataset.feature_scale
  low, high = min(float(x.min()), 0.0), max(float(x.max()), 1.0)
  return np.round(255 * (x - low) / (high - low)).astype(np.uint8)
