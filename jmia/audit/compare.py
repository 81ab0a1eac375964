"""Compares audits of one dataset: defences, seeds, models or dates beside one another.

What is said of "the strongest attack" is about a largest value over attacks, on either
side chosen after seeing it. With intervals of every attack on both audits, and of every
difference, that hold at once:

  max_k b_k - max_k a_k <= b_j - a_j <= high_j for j = argmax b, and so from below,

j being one of the attacks whose interval reaches the largest lower end.

That is of the attacks that all audits ran. One that only some ran may be stronger, and
nothing is known of it on the others: "less" and "more" are said only where the AUC of
every such attack, on whichever side it was run, surely lies below the larger of the two
largest.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import types
from typing import Any, NamedTuple

import numpy as np

from jmia.audit import files
from jmia.audit.auditing import Result
from jmia.report import wording
from jmia.stats import intervals, levels, over_targets, paired, roc

_FIGURES = ("auc", *levels.COARSE_FPRS)


class Audit(NamedTuple):
  """An audit: what `files.write` leaves of it.

  Attributes:
    name: what the comparison calls it.
    report: of `report.json`.
    index: `[N]` rows.
    members: `[N]` bool.
    labels: `[N]`.
    scores: attack -> `[N]`.
    p_values: attack -> `[N]`, of attacks that have them.
    target_members: `[T, N]` bool of each target, where there are several.
    target_scores: attack -> `[T, N]`, likewise.
  """

  name: str
  report: Mapping[str, Any]
  index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, on purpose
  members: np.ndarray
  labels: np.ndarray
  scores: Mapping[str, np.ndarray]
  p_values: Mapping[str, np.ndarray]
  target_members: np.ndarray | None = None
  target_scores: Mapping[str, np.ndarray] = types.MappingProxyType({})


class _Figure(NamedTuple):
  """One figure of one attack on both audits, with bounds that hold at once."""

  a: paired.Difference  # a value and its interval
  b: paired.Difference
  difference: paired.Difference


def load(folder: str | os.PathLike[str], name: str | None = None) -> Audit:
  """Reads an audit's folder.

  Args:
    folder: that holds `report.json` and `scores.npz`.
    name: what to call it. Default: the folder's name.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not an audit's.
  """
  folder = pathlib.Path(folder).expanduser()
  for file in ("report.json", "scores.npz"):
    if not (folder / file).is_file():
      raise FileNotFoundError(f"{folder} holds no {file}: is it an audit's folder?")
  try:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    with np.load(folder / "scores.npz") as file:
      arrays = dict(file)
    if not {"attacks", "target"} <= report.keys():
      raise ValueError("report.json lacks attacks or target")
    return _of_arrays(name or folder.resolve().name, report, arrays)
  except (KeyError, ValueError, EOFError, OSError) as error:
    raise ValueError(f"{folder} holds no whole audit: {error}") from error


def of(name: str, result: Result) -> Audit:
  """Returns an audit of this process, as `load` would read it from its folder.

  Args:
    name: what to call it.
    result: of `audit.run`, for instance.
  """
  return _of_arrays(name, result.report, files.arrays(result))


def _of_arrays(
  name: str, report: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Audit:
  """An audit of the values of `report.json` and the arrays of `scores.npz`."""
  order = np.argsort(arrays["index"], kind="stable")
  attacks, has_targets = report["attacks"], bool(report.get("targets"))
  return Audit(
    name=name,
    report=report,
    index=arrays["index"][order],
    members=arrays["members"][order],
    labels=arrays["labels"][order],
    scores={a: arrays[f"score_{a}"][order] for a in attacks},
    p_values={a: arrays[f"p_{a}"][order] for a in attacks if f"p_{a}" in arrays},
    target_members=arrays["target_members"] if has_targets else None,
    target_scores={a: arrays[f"target_score_{a}"] for a in attacks if has_targets},
  )


def compare(audits: Sequence[Audit]) -> dict[str, Any]:
  """Compares each audit with the first.

  All intervals of all pairs, attacks and figures hold at once at 95 %.

  Args:
    audits: at least two, of one dataset and with an attack in common.

  Returns:
    JSON values: `{"schema": 1, "audits", "attacks", "same_samples", "num_figures",
    "comparisons"}`, with a comparison for each audit but the first: `{"name",
    "verdict", "kind", "strongest": {figure: {"a", "b", "difference", "ci"}},
    "by_attack": {attack: {figure: ...}}, "left_out", "accuracy"}`. Figures are
    "auc" and a TPR at each of `levels.COARSE_FPRS`; `kind` is "less", "more" or
    "none". `left_out` has the attacks that not all audits ran, of either side that did:
    `[{"attack", "audit", "auc", "ci", "may_reach"}]`, the last whether its AUC may be
    as large as the larger of the two largest.

  Raises:
    ValueError: if there are fewer than two, names or datasets differ, audits of a
      dataset of one name have other labels for the same rows, one has several targets
      and another has one, or they have no attack in common.
  """
  attacks = _check(audits)
  first, *others = audits
  num = len(others) * len(attacks) * len(_FIGURES) * 3 + sum(
    len(audit.report["attacks"]) - len(attacks)
    for other in others
    for audit in (first, other)
  )
  confidence = intervals.each_of(num)
  comparisons = [_compare(first, other, attacks, confidence) for other in others]
  return {
    "schema": 1,
    "audits": [_about(audit) for audit in audits],
    "attacks": attacks,
    "same_samples": [_same_samples(first, other) for other in others],
    "num_figures": num,
    "comparisons": comparisons,
  }


def changes(audits: Sequence[Audit], attack: str) -> dict[str, np.ndarray]:
  """Returns each sample's rank in each audit, of samples that all of them have.

  None where rows of the same number have other labels: then they are other rows.

  Args:
    audits: that have the attack.
    attack: whose scores rank; 1 is the most exposed.

  Returns:
    `index`, `label`, and for each audit its `member_NAME` and `rank_NAME`; NaN where
    it was not attacked.
  """
  common = audits[0].index
  for audit in audits[1:]:
    common = np.intersect1d(common, audit.index)
    if _num_relabelled(audits[0], audit):
      common = common[:0]
  found: dict[str, np.ndarray] = {"index": common}
  for audit in audits:
    at = np.searchsorted(audit.index, common)
    if "label" not in found:
      found["label"] = audit.labels[at]
    found[f"member_{audit.name}"] = audit.members[at]
    found[f"rank_{audit.name}"] = roc.places(audit.scores[attack])[at]
  return found


def _check(audits: Sequence[Audit]) -> list[str]:
  """The attacks in common; refuses audits that cannot be compared."""
  if len(audits) < 2:
    raise ValueError(f"{len(audits)} audits were given, expected two at least")
  names = [audit.name for audit in audits]
  if len({*names}) < len(names):
    raise ValueError(f"names={','.join(names)} are not all different: give --names")
  datasets = {str((a.report.get("dataset") or {}).get("name", "")) for a in audits}
  datasets -= {""}
  if len(datasets) > 1:
    raise ValueError(f"the audits are of different datasets: {', '.join(datasets)}")
  if datasets:
    _check_labels(audits)
  several = {bool(audit.report.get("targets")) for audit in audits}
  if len(several) > 1:
    raise ValueError("some audits are of one target and some of several")
  attacks = [
    name
    for name in audits[0].report["attacks"]
    if all(name in audit.report["attacks"] for audit in audits)
  ]
  if not attacks:
    raise ValueError("the audits have no attack in common")
  return attacks


def _check_labels(audits: Sequence[Audit]) -> None:
  """Raises ValueError where datasets of one name are not the same data."""
  first, *others = audits
  for other in others:
    num = _num_relabelled(first, other)
    if num:
      raise ValueError(
        f"the audits are of different data under one name: {num:,} rows that"
        f" {first.name} and {other.name} both have are of other classes in either"
      )


def _num_relabelled(a: Audit, b: Audit) -> int:
  """How many rows of the same number have other labels."""
  _, at_a, at_b = np.intersect1d(a.index, b.index, return_indices=True)
  return int((a.labels[at_a] != b.labels[at_b]).sum())


def _about(audit: Audit) -> dict[str, Any]:
  """What the page's first table says of an audit."""
  target, config = audit.report["target"], audit.report.get("config", {})
  strongest = wording.strongest(audit.report)
  return {
    "name": audit.name,
    "defenses": config.get("defenses") or [],
    "train_accuracy": target.get("train_accuracy"),
    "test_accuracy": target.get("test_accuracy"),
    "num_members": target["num_members"],
    "num_nonmembers": target["num_nonmembers"],
    "strongest": strongest,
    "auc": audit.report["attacks"][strongest]["auc"] if strongest else None,
    "auc_ci": audit.report["attacks"][strongest]["auc_ci"] if strongest else None,
  }


def _same_samples(a: Audit, b: Audit) -> bool:
  return all(
    np.array_equal(getattr(a, name), getattr(b, name))
    for name in ("index", "members", "labels")
  )


def _compare(
  a: Audit, b: Audit, attacks: Sequence[str], confidence: float
) -> dict[str, Any]:
  found = {name: _figures(a, b, name, confidence) for name in attacks}
  strongest = {
    figure: _strongest([of[figure] for of in found.values() if figure in of])
    for figure in _FIGURES
    if any(figure in of for of in found.values())
  }
  auc = strongest["auc"]
  kind = "less" if auc.difference.high < 0 else "more" if auc.difference.low > 0 else ""
  left_out = _left_out((a, b), attacks, float(max(auc.a.low, auc.b.low)), confidence)
  if any(of["may_reach"] for of in left_out):
    kind = ""
  accuracy = _accuracy(a, b)
  return {
    "name": b.name,
    "kind": kind or "none",
    "verdict": _verdict(
      a.name, b.name, kind, strongest, accuracy, _apart_by(found), left_out
    ),
    "strongest": {figure: _json(of) for figure, of in strongest.items()},
    "by_attack": {
      name: {figure: _json(value) for figure, value in of.items()}
      for name, of in found.items()
    },
    "left_out": left_out,
    "accuracy": accuracy,
  }


def _left_out(
  audits: Sequence[Audit], common: Sequence[str], largest: float, confidence: float
) -> list[dict[str, Any]]:
  """Attacks that not all audits ran, and whether they may reach the largest AUC."""
  found = []
  for audit in audits:
    for name in audit.report["attacks"]:
      if name in common:
        continue
      auc = _own_auc(audit, name, confidence)
      found.append({
        "attack": name,
        "audit": audit.name,
        "auc": float(auc.value),
        "ci": [float(auc.low), float(auc.high)],
        "may_reach": bool(auc.high >= largest),
      })  # fmt: skip
  return found


def _own_auc(audit: Audit, name: str, confidence: float) -> paired.Difference:
  """One audit's AUC and its interval."""
  if audit.report.get("targets"):
    assert audit.target_members is not None  # of an audit of several targets
    auc, _ = over_targets.of_scores(
      list(audit.target_scores[name].astype(np.float64)),
      list(audit.target_members),
      levels.numbers(levels.COARSE_FPRS),
      confidence=confidence,
    )
    return paired.Difference(np.asarray(audit.report["attacks"][name]["auc"]), *auc)
  at = ~np.isnan(audit.scores[name])
  scores, members = audit.scores[name][at].astype(np.float64), audit.members[at]
  own = intervals.auc(scores, members, confidence=confidence)
  return paired.Difference(own.auc, own.low, own.high)


def _figures(a: Audit, b: Audit, name: str, confidence: float) -> dict[str, _Figure]:
  """Figure -> of both and of their difference; a TPR only where it can be measured."""
  if a.report.get("targets"):
    return _over_targets(a, b, name, confidence)
  at = [~np.isnan(audit.scores[name]) for audit in (a, b)]
  is_paired = _same_samples(a, b) and np.array_equal(*at)
  sides = [
    (audit.scores[name][kept].astype(np.float64), audit.members[kept])
    for audit, kept in zip((a, b), at, strict=True)
  ]
  own = [intervals.auc(*side, confidence=confidence) for side in sides]
  ends = [paired.Difference(one.auc, one.low, one.high) for one in own]
  if is_paired:
    (scores, members), (others, _) = sides
    difference = paired.auc(scores, others, members, confidence=confidence)
  else:
    difference = _apart(ends)
  found = {"auc": _Figure(ends[0], ends[1], difference)}
  num_others = min(int((~members).sum()) for _, members in sides)
  for fpr in levels.COARSE_FPRS:
    if not levels.can_measure(fpr, num_others):
      continue
    level = np.array([float(fpr)])
    rates = [roc.tpr_at_fpr(*side, level)[0] for side in sides]
    bounds = [
      intervals.tpr_at_fpr(*side, level, confidence=confidence) for side in sides
    ]
    ends = [
      paired.Difference(rate, of.low[0], of.high[0])
      for rate, of in zip(rates, bounds, strict=True)
    ]
    # Both intervals hold at once already, and so does what they leave.
    found[fpr] = _Figure(ends[0], ends[1], _apart(ends))
  return found


def _over_targets(
  a: Audit, b: Audit, name: str, confidence: float
) -> dict[str, _Figure]:
  """Of means over targets, by the interval of each."""
  ends: dict[str, list[paired.Difference]] = {figure: [] for figure in _FIGURES}
  for audit in (a, b):
    members = audit.target_members
    assert members is not None  # of an audit of several targets
    auc, tpr = over_targets.of_scores(
      list(audit.target_scores[name].astype(np.float64)),
      list(members),
      levels.numbers(levels.COARSE_FPRS),
      confidence=confidence,
    )
    entry = audit.report["attacks"][name]
    ends["auc"].append(paired.Difference(np.asarray(entry["auc"]), *auc))
    for number, fpr in enumerate(levels.COARSE_FPRS):
      value = np.asarray(entry["tpr_at_fpr"][fpr])
      ends[fpr].append(paired.Difference(value, tpr.low[number], tpr.high[number]))
  return {
    figure: _Figure(of_figure[0], of_figure[1], _apart(of_figure))
    for figure, of_figure in ends.items()
  }


def _apart(ends: Sequence[paired.Difference]) -> paired.Difference:
  a, b = ends
  return paired.apart(
    b.value - a.value,
    intervals.Interval(a.low, a.high),
    intervals.Interval(b.low, b.high),
  )


def _strongest(figures: Sequence[_Figure]) -> _Figure:
  """The largest over attacks on either side, and bounds of their difference."""

  def largest(ends: Sequence[paired.Difference]) -> paired.Difference:
    return paired.Difference(*(np.max(bound) for bound in zip(*ends, strict=True)))

  a, b = largest([f.a for f in figures]), largest([f.b for f in figures])
  low = min(f.difference.low for f in figures if f.a.high >= a.low)
  high = max(f.difference.high for f in figures if f.b.high >= b.low)
  apart = _apart([a, b])
  difference = paired.Difference(
    apart.value, np.maximum(low, apart.low), np.minimum(high, apart.high)
  )
  return _Figure(a, b, difference)


def _apart_by(figures: Mapping[str, Mapping[str, _Figure]]) -> list[str]:
  """Attacks whose AUC differs by an interval that holds for all at once."""
  return [
    wording.attack(name).title
    for name, of in figures.items()
    if of["auc"].difference.low > 0 or of["auc"].difference.high < 0
  ]


def _accuracy(a: Audit, b: Audit) -> dict[str, Any] | None:
  """Test accuracies and the 95 % interval of their difference, of one target each."""
  rates = [audit.report["target"].get("test_accuracy") for audit in (a, b)]
  if None in rates:
    return None
  found: dict[str, Any] = {
    "a": rates[0],
    "b": rates[1],
    "difference": rates[1] - rates[0],
  }
  if a.report.get("targets"):
    return found | {"ci": None}
  ends = []
  for audit, rate in zip((a, b), rates, strict=True):
    num = audit.report["target"]["num_nonmembers"]
    bounds = intervals.clopper_pearson(
      np.asarray(round(rate * num)), np.asarray(num), confidence=intervals.each_of(2)
    )
    ends.append(paired.Difference(np.asarray(rate), bounds.low, bounds.high))
  difference = _apart(ends)
  return found | {"ci": [float(difference.low), float(difference.high)]}


def _json(figure: _Figure) -> dict[str, Any]:
  return {
    "a": float(figure.a.value),
    "a_ci": [float(figure.a.low), float(figure.a.high)],
    "b": float(figure.b.value),
    "b_ci": [float(figure.b.low), float(figure.b.high)],
    "difference": float(figure.difference.value),
    "ci": [float(figure.difference.low), float(figure.difference.high)],
  }


def _verdict(
  first: str,
  other: str,
  kind: str,
  strongest: Mapping[str, _Figure],
  accuracy: Mapping[str, Any] | None,
  apart_by: Sequence[str],
  left_out: Sequence[Mapping[str, Any]],
) -> str:
  """The comparison in sentences, no stronger than its intervals."""
  auc = strongest["auc"]
  d = auc.difference
  figures = (
    f"the largest AUC of {'the attacks in common' if left_out else 'any attack'} is "
    f"{float(auc.b.value):.3f} instead of "
    f"{float(auc.a.value):.3f} (difference {float(d.value):+.3f}, 95% interval "
    f"{wording.difference_interval((float(d.low), float(d.high)))}, for all figures at"
    " once)"
  )
  if kind:
    said = f"{other} leaks {kind} than {first}: {figures}."
  else:
    is_apart = d.low > 0 or d.high < 0
    why = "while attacks are left out" if is_apart else "at this sample size"
    said = f"Whether {other} or {first} leaks more cannot be told {why}: {figures}."
    if apart_by:
      said += (
        f" Single attacks do differ ({', '.join(apart_by)}), but by the best of all an"
        " attacker may lose nothing."
      )
    said += _may_reach([of for of in left_out if of["may_reach"]])
  if accuracy is not None:
    said += (
      f" Test accuracy is {wording.percent(accuracy['b'])} instead of "
      f"{wording.percent(accuracy['a'])}"
    )
    if accuracy.get("ci"):
      low, high = (100 * bound for bound in accuracy["ci"])
      said += f" (difference {low:+.1f} to {high:+.1f} points, 95% interval)"
    said += "."
  return said


def _may_reach(left_out: Sequence[Mapping[str, Any]]) -> str:
  """Names the attacks that keep a verdict back, and the audit that ran each."""
  if not left_out:
    return ""
  named = [
    f"{wording.attack(of['attack']).title} (AUC {of['auc']:.3f}, only in {of['audit']})"
    for of in left_out
  ]
  return (
    f" Not all audits ran {', '.join(named)}, which may find as much or more: run the"
    " same attacks in all."
  )
