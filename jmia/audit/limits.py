"""Limits for pipelines: whether an audit shows more leakage than is allowed."""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import numpy as np

from jmia.audit import design as design_lib
from jmia.audit import outcome
from jmia.report import wording
from jmia.stats import levels, over_targets

_MOST = 2**17  # non-members; what they do not show, more would not either


class Limit(NamedTuple):
  """A figure, "auc" or the FPR of a TPR, and the value it must not surely exceed."""

  figure: str
  value: float


def parse(text: str) -> Limit:
  """Reads `auc:0.6` or `tpr@0.01:0.05`.

  Raises:
    ValueError: it is neither, or a number is not in [0, 1].
  """
  name, colon, value = text.partition(":")
  kind, at, fpr = name.partition("@")
  try:
    limit = Limit(fpr if at else name, float(value))
    if not colon or kind not in ("auc", "tpr") or bool(at) != (kind == "tpr"):
      raise ValueError
    if at:
      limit = Limit(
        {float(known): known for known in levels.FPRS}[float(fpr)], limit[1]
      )
  except (ValueError, KeyError):
    raise ValueError(
      f"fail_above={text!r}, expected auc:VALUE or tpr@FPR:VALUE with an FPR of "
      f"{', '.join(levels.FPRS)}"
    ) from None
  if not 0 <= limit.value <= 1:
    raise ValueError(f"fail_above={text!r}: {limit.value} is not in [0, 1]")
  return limit


def exceeded(report: wording.Report, limits: Sequence[Limit]) -> list[str]:
  """Returns a sentence for each limit that some attack surely exceeds.

  That is where the lower end of its interval lies above, which holds for all figures of
  all attacks of the report at once at 95 %: so a model within the limits fails in at
  most 2.5 % of audits, however many attacks and limits there are.

  Args:
    report: as `report.json`.
    limits: of `parse`.
  """
  found = []
  for figure, value in limits:
    lows = {name: _low(report, name, figure) for name in report["attacks"]}
    name = max(lows, key=lambda one: lows[one], default=None)
    if name is not None and lows[name] > value:
      found.append(
        f"{wording.attack(name).title}: {_title(figure)} is above {value:g} "
        f"(at least {lows[name]:.3f} at 95% confidence, all attacks paid)"
      )
  return found


def untested(report: wording.Report, limits: Sequence[Limit]) -> list[str]:
  """Returns a sentence for each limit that no attack of the report could exceed.

  Such a limit cannot fail, whatever the model gives away: with so few samples, even of
  scores that tell all members from all others the lower end that `exceeded` looks at
  lies below. A TPR at 1 % FPR, for instance, is surely above 0 with 421 non-members or
  more at 95 %, and with 750 where six attacks share that level.

  Args:
    report: as `report.json`.
    limits: of `parse`.
  """
  return [
    _untested(report, limit)
    for limit in limits
    if not exceeded(report, [limit]) and not _most(report, limit.figure) > limit.value
  ]


def check(
  design: design_lib.Design, names: Sequence[str], limits: Sequence[Limit]
) -> None:
  """Refuses limits that no attack of a design could exceed: `untested`, beforehand.

  Attacks that will be run on fewer samples than the targets have may leave a limit
  untested that this lets pass.

  Args:
    design: who trains on what.
    names: of the attacks.
    limits: of `parse`.

  Raises:
    ValueError: there is such a limit.
  """
  attacked: dict[str, Any] = {name: {"at_once": {}} for name in names}
  report = {"attacks": attacked, "targets": _targets(design)}
  for limit in limits:
    if not _most(report, limit.figure) > limit.value:
      raise ValueError(f"fail_above: {_untested(report, limit)}")


def _targets(design: design_lib.Design) -> list[dict[str, int]]:
  """The sizes of each target's samples."""
  idx, sizes = design.members
  everyone = np.arange(design.num_evaluated)
  found = []
  for number, model in enumerate(design.models("target")):
    samples = everyone if design.samples is None else design.samples[number]
    num = int(np.isin(samples, idx[model, : sizes[model]]).sum())
    found.append({"num_members": num, "num_nonmembers": len(samples) - num})
  return found


class _Sizes(NamedTuple):
  """How many members and others an attack was run on, of each target."""

  members: tuple[int, ...]
  others: tuple[int, ...]


def _untested(report: wording.Report, limit: Limit) -> str:
  """Says that a limit is not tested, and what would test it."""
  said = (
    f"{_title(limit.figure)}: the limit of {limit.value:g} is not tested: even attacks"
    " that tell all members from all others could not show more"
  )
  confidence = _confidence(report)
  needed = [
    _needed(_sizes(report, name).members, limit, confidence)
    for name in report["attacks"]
  ]
  found = min((num for num in needed if num is not None), default=None)
  if found is None:
    return (
      f"{said}, with however many non-members; it takes more members, or a lower limit"
    )
  shared = len(report["attacks"])
  return (
    f"{said} with so few non-members; with {shared} attack{'s' * (shared > 1)} it takes"
    f" {found:,}"
  )


def _needed(members: tuple[int, ...], limit: Limit, confidence: float) -> int | None:
  """The non-members with which perfect scores exceed a limit; None if no number."""

  def exceeds(num: int) -> bool:
    sizes = _Sizes(members, (num,) * len(members))
    return _perfect(sizes, limit.figure, confidence) > limit.value

  low, high = 0, 1
  while not exceeds(high):
    low, high = high, 2 * high
    if high > _MOST:
      return None
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if exceeds(middle) else (middle, high)
  return high


def _most(report: wording.Report, figure: str) -> float:
  """The highest lower end that an attack of the report could have had."""
  confidence = _confidence(report)
  return max(
    (_perfect(_sizes(report, name), figure, confidence) for name in report["attacks"]),
    default=0.0,
  )


@functools.lru_cache(maxsize=1024)  # attacks are mostly of the same samples
def _perfect(sizes: _Sizes, figure: str, confidence: float) -> float:
  """The lower end of scores that tell all members from all others."""
  members = [np.arange(num + others) < num for num, others in zip(*sizes, strict=True)]
  fprs = np.array([0.0 if figure == "auc" else float(figure)])
  scores = [of.astype(np.float64) for of in members]
  found = over_targets.of_scores(scores, members, fprs, confidence=confidence)
  return float(found.auc.low if figure == "auc" else found.tpr.low[0])


def _sizes(report: wording.Report, name: str) -> _Sizes:
  entry = report["attacks"][name]
  targets = report.get("targets") or [report["target"]]
  each = entry.get("by_target", [entry] * len(targets))
  others = [
    of.get("num_nonmembers", target["num_nonmembers"])
    for of, target in zip(each, targets, strict=True)
  ]
  totals = [
    of.get("num_samples", target["num_members"] + target["num_nonmembers"])
    for of, target in zip(each, targets, strict=True)
  ]
  return _Sizes(tuple(np.subtract(totals, others).tolist()), tuple(others))


def _confidence(report: wording.Report) -> float:
  """Of each of the intervals that `_low` looks at."""
  attacks = report["attacks"].values()
  if not all("at_once" in entry for entry in attacks):
    return 0.95
  return outcome.confidence_at_once(max(1, len(attacks)))


def _title(figure: str) -> str:
  return "AUC" if figure == "auc" else levels.tpr_title(figure)


def _low(report: wording.Report, name: str, figure: str) -> float:
  """The lower end of an interval that holds for all figures at once."""
  wide = wording.at_once(report, name)
  if figure == "auc":
    return wide["auc_ci"][0]
  interval = wide["tpr_at_fpr_ci"].get(figure)
  return interval[0] if interval and interval[0] is not None else 0.0
