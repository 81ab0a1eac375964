"""Limits for pipelines: whether an audit shows more leakage than is allowed."""

from collections.abc import Sequence
from typing import NamedTuple

from jmia.report import wording
from jmia.stats import levels


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
  """Returns a sentence for each limit that the report has no figure for.

  Such a limit cannot fail, whatever the model gives away: too few non-members measure
  no TPR at its false positive rate.

  Args:
    report: as `report.json`.
    limits: of `parse`.
  """
  return [
    f"{_title(figure)}: no attack measured it, which takes {round(1 / float(figure)):,}"
    f" non-members, so the limit of {value:g} is not tested"
    for figure, value in limits
    if figure != "auc"
    and all(wording.tpr(report, name, figure) is None for name in report["attacks"])
  ]


def _title(figure: str) -> str:
  return "AUC" if figure == "auc" else levels.tpr_title(figure)


def _low(report: wording.Report, name: str, figure: str) -> float:
  """The lower end of an interval that holds for all figures at once."""
  wide = wording.at_once(report, name)
  if figure == "auc":
    return wide["auc_ci"][0]
  interval = wide["tpr_at_fpr_ci"].get(figure)
  return interval[0] if interval and interval[0] is not None else 0.0
