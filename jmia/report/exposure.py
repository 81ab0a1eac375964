"""The page's part on whom a model exposes: groups, records, their pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jmia.report import forest, pictures, plots, wording
from jmia.report.samples import Samples
from jmia.stats import levels, roc

LIMIT = 50  # records of the page's table; the file has all
_MOST_COLUMNS = 4  # of the user's own that the table shows
_NUM_PICTURES = 10
_ABSENT = "–"
# Records at the top where a crowd of one class is looked for, and the least of one:
# so many, and so many times its share of the members.
_NUM_TOP, _LEAST_CROWD, _TIMES_ITS_SHARE = 20, 5, 2


class Record(NamedTuple):
  """One exposed member, as the table shows it.

  Attributes:
    rank: of its score among all samples; 1 is the highest.
    sample: its row in the dataset or file.
    label: what its class is called.
    predicted: the class that the target answered, or whether it was right; "" if
      neither was kept.
    loss: the target's.
    columns: the user's own.
    p_value, q_value: of the attack followed; a dash where nothing calibrates.
    is_named: whether it is among the records found; None if none can be.
    num_agree: attacks whose p-value is at most 0.1, and those that have one.
    num_as_high: non-members whom the attack scores at least as high.
    picture: a `data:` address; "" without one.
  """

  rank: int
  sample: int
  label: str
  predicted: str
  loss: str
  columns: tuple[str, ...]
  p_value: str
  q_value: str
  is_named: bool | None
  num_agree: tuple[int, int]
  num_as_high: int
  picture: str


def records(
  report: wording.Report, samples: Samples, *, limit: int = LIMIT
) -> list[Record]:
  """The members that the attack best at few false positives scores highest.

  Args:
    report: as `report.json`.
    samples: the evaluated samples.
    limit: the most records to give.

  Returns:
    At most `limit`, highest first; of equal scores the earlier sample. Members that
    the attack was not run on are not among them. Empty if no attack was run.
  """
  attack = wording.sharpest(report)
  if attack is None:
    return []
  scores = samples.scores[attack]
  rank = roc.places(scores)
  at = np.flatnonzero(samples.members & ~np.isnan(scores))
  at = at[np.argsort(-scores[at], kind="stable")][:limit]
  others = np.sort(scores[~samples.members & ~np.isnan(scores)])
  as_high = len(others) - np.searchsorted(others, scores[at], side="left")
  return [
    _record(report, samples, attack, n, int(rank[n]), int(num))
    for n, num in zip(at.tolist(), as_high, strict=True)
  ]


def content(report: wording.Report, samples: Samples) -> Mapping[str, Any]:
  """What the template shows of whom the model exposes."""
  attack = wording.sharpest(report)
  if attack is None:
    return {"records": []}
  found = records(report, samples)
  return {
    "attack": wording.attack(attack).title,
    "records": found,
    "classes": list(dict.fromkeys(record.label for record in found)),
    "columns": list(samples.columns)[:_MOST_COLUMNS],
    "has_predictions": any(record.predicted for record in found),
    "has_p_values": attack in samples.p_values,
    "has_pictures": samples.images is not None,
    "typical": _typical(samples, attack),
    "num_pictures": _NUM_PICTURES,
    "num_most": forest.NUM_MOST,
    "num_least": forest.NUM_LEAST,
    "num_nonmembers": int((~samples.members & ~np.isnan(samples.scores[attack])).sum()),
    "named": _named(report),
    "crowd": crowd(found, samples),
    "groups": [
      _grouping(number, name, rows, samples)
      for number, (name, rows) in enumerate(
        (report.get("groups") or {}).get("by", {}).items()
      )
    ],
    "left_out": _left_out(report),
  }


def comparison(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
  """Says whether groups surely differ in exposure; intervals hold for all at once."""
  top = max(rows, key=lambda row: row["auc_ci"][0])
  bottom = min(rows, key=lambda row: row["auc_ci"][1])
  if top["auc_ci"][0] > bottom["auc_ci"][1]:
    return (
      f"Exposure differs by {name}: {top['group']} is more exposed (AUC "
      f"{_auc(top)}) than {bottom['group']} ({_auc(bottom)}), by intervals that hold "
      "for all groups and attacks at once."
    )
  return (
    f"No difference by {name} is larger than chance may make it: the intervals, which "
    "hold for all groups and attacks at once, overlap."
  )


def crowd(found: Sequence[Record], samples: Samples) -> str:
  """Says so where one class has far more of the top records than of the members."""
  top = [record.label for record in found[:_NUM_TOP]]
  if not top:
    return ""
  label = max(dict.fromkeys(top), key=top.count)
  names = [samples.class_name(c) for c in samples.labels[samples.members]]
  share = names.count(label) / len(names)
  num = top.count(label)
  if num < _LEAST_CROWD or num / len(top) < _TIMES_ITS_SHARE * share:
    return ""
  return (
    f"{num} of the {len(top)} most exposed members are of class {label}, "
    f"which {names.count(label):,} of the {len(names):,} members are of."
  )


def _auc(row: Mapping[str, Any]) -> str:
  return f"{row['auc']:.3f}, {wording.auc_interval(row['auc_ci'])}"


def _named(report: wording.Report) -> str:
  """How many records are named, and what being named means."""
  found = report.get("found")
  if not found:
    return ""
  title, rate = wording.attack(found["attack"]).title, levels.percent(found["rate"])
  if not found["num_found"]:
    return (
      f"No single record can be named as a member at a false discovery rate of {rate}: "
      "the rows below are those that stand out most, not proven ones."
    )
  num = found["num_found"]
  wrong = num - found["num_members"]
  return (
    f"{title} names {wording.counted(num, 'record')} as"
    f" {'a member' if num == 1 else 'members'} at a false discovery rate of {rate}, the"
    f" choice among attacks paid ({wording.wrong_among(wrong, num)}). Where the table"
    " below has one of them, it is marked ●."
  )


def _left_out(report: wording.Report) -> str:
  """How many classes are left out of the chart, and why; "" where it was not kept."""
  groups = report.get("groups") or {}
  counts = groups.get("left_out", {}).get("class")
  if not counts:
    return ""
  said = []
  if num := counts["num_small"]:
    with_few = f"with fewer than {counts['min_rows']} members or non-members"
    said.append(
      f"{num:,} classes {with_few} are left out."
      if num > 1
      else f"One class {with_few} is left out."
    )
  if num := counts["num_rare"]:
    said.append(
      f"{num:,} {'classes have' if num > 1 else 'class has'} rows enough and"
      f" {'are' if num > 1 else 'is'} left out too: only the {counts['most_groups']}"
      " classes with the most samples are looked at."
    )
  if counts["alone"] is not None:
    said.append(
      f"{counts['alone']} alone has rows enough, and there is no class to compare it"
      " with."
    )
  return " ".join(said)


def _grouping(
  number: int, name: str, rows: Sequence[Mapping[str, Any]], samples: Samples
) -> Mapping[str, Any]:
  """One grouping's sentence, chart and table."""
  low, high = levels.SHARPEST_FPRS
  has_low = any(row["tpr_at_fpr"][low] is not None for row in rows)
  fpr = low if has_low else high
  sentence = comparison(name, rows)
  return {
    "name": name,
    "sentence": sentence,
    "svg": plots.svg(
      forest.groups_figure(rows),
      f"groups-{number}",
      f"AUC by {name}, the interval that begins highest first. {sentence}",
    ),
    "is_cut": len(rows) > forest.MOST_ROWS,
    "header": (
      name.capitalize(),
      "Members",
      "Non-members",
      "AUC",
      levels.tpr_title(fpr),
    ),
    "rows": [_group_cells(row, fpr) for row in rows],
  }


def _group_cells(row: Mapping[str, Any], fpr: str) -> tuple[Any, ...]:
  tpr, interval = row["tpr_at_fpr"][fpr], row["tpr_at_fpr_ci"][fpr]
  rate = (_ABSENT, "")
  if tpr is not None:
    rate = (wording.percent(tpr), wording.percent_interval(interval, float(fpr)))
  return (
    row["group"],
    (f"{row['num_members']:,}", ""),
    (f"{row['num_nonmembers']:,}", ""),
    (f"{row['auc']:.3f}", wording.auc_interval(row["auc_ci"])),
    rate,
  )


def _typical(samples: Samples, attack: str) -> list[tuple[str, str]]:
  """Pictures of the members in the middle of the scores: address, name."""
  if samples.images is None:
    return []
  scores = samples.scores[attack]
  at = np.flatnonzero(samples.members & ~np.isnan(scores))
  at = at[np.argsort(-scores[at], kind="stable")]
  start = max(0, (len(at) - _NUM_PICTURES) // 2)
  return [
    (pictures.address(samples.images[n]), _name(samples, n))
    for n in at[start : start + _NUM_PICTURES]
  ]


def _name(samples: Samples, n: int) -> str:
  return f"sample {samples.index[n]}, class {samples.class_name(samples.labels[n])}"


def _record(
  report: wording.Report, samples: Samples, attack: str, n: int, rank: int, as_high: int
) -> Record:
  """What the attacks say of sample n."""
  p = [float(of[n]) for of in samples.p_values.values() if not np.isnan(of[n])]
  named = None
  if "found" in report and attack in samples.q_values:
    named = bool(samples.q_values[attack][n] <= report["found"]["at_q"])
  predicted = ""
  if samples.predicted is not None:
    predicted = samples.class_name(samples.predicted[n])
  elif samples.correct is not None:
    predicted = "right" if samples.correct[n] else "wrong"
  return Record(
    rank=rank,
    sample=int(samples.index[n]),
    label=samples.class_name(samples.labels[n]),
    predicted=predicted,
    loss=wording.loss(float(samples.loss[n])),
    columns=tuple(str(v[n]) for v in list(samples.columns.values())[:_MOST_COLUMNS]),
    p_value=_probability(samples.p_values, attack, n),
    q_value=_probability(samples.q_values, attack, n),
    is_named=named,
    num_agree=(sum(one <= levels.ALPHA for one in p), len(p)),
    num_as_high=as_high,
    picture="" if samples.images is None else pictures.address(samples.images[n]),
  )


def _probability(of: Mapping[str, np.ndarray], attack: str, n: int) -> str:
  return wording.p_value(float(of[attack][n])) if attack in of else _ABSENT
