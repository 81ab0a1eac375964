"""What a number of marked rows is good for, before anything is marked: in words."""

from typing import NamedTuple

from jmia.backdoor import measured, power
from jmia.report import results
from jmia.stats import levels

_HEADER = ("randomization", "binomial", "t-test")


class Plan(NamedTuple):
  """What an owner means to do.

  Attributes:
    num_marked: rows in all.
    num_classes: K.
    num_submarks: T.
    num_queries: in all.
    confidence: of the claim.
  """

  num_marked: int
  num_classes: int
  num_submarks: int
  num_queries: int
  confidence: float


def text(plan: Plan, asr: float | None = None) -> str:
  """Returns a table of the chances of a claim, and what it rests on.

  Args:
    plan: what is meant to be done.
    asr: success rate to expect; None for those that were measured, by kind of data.

  Raises:
    ValueError: there are fewer rows than sub-marks, or a number is out of range.
  """
  if plan.num_marked < plan.num_submarks:
    raise ValueError(
      f"num_marked={plan.num_marked} must be at least {plan.num_submarks}, one row for"
      " each sub-mark"
    )
  each = plan.num_marked / plan.num_submarks
  cases: list[tuple[str, measured.Rate | None, float]]
  if asr is None:
    cases = [
      (of.title, measured.rate(of, each), of.accuracy)
      for of in measured.MEASURED.values()
    ]
  else:
    cases = [("as given", measured.Rate(asr, 0), 0.8)]
  rows: list[tuple[str, ...]] = [("data and model", "success rate", *_HEADER)]
  for title, success, accuracy in cases:
    if success is None:
      rows.append((title, "not measured", *("–",) * len(_HEADER)))
      continue
    chances = power.of_submarks(
      success.mean,
      plan.num_submarks,
      plan.num_classes,
      plan.num_queries,
      confidence=plan.confidence,
      accuracy=accuracy,
      spread=success.spread,
    )
    shares = (success.mean, *chances)
    rows.append((title, *(f"{100 * share:.0f} %" for share in shares)))
  level = f"{100 * plan.confidence:.4g} %"
  return "\n\n".join(
    [
      f"{plan.num_marked} rows in {counted(plan.num_submarks)}, {each:.3g} rows each;"
      f" {plan.num_queries} queries in all. "
      + floor_in_words(plan.num_submarks, plan.num_classes, plan.confidence),
      f"Chance of a claim at {level} confidence:",
      results.table(rows),
      "The success rate is the share of a sub-mark's queries that a model trained on"
      " the data answers with its label; it was measured with other numbers of classes"
      " than yours, and yours will differ. --asr sets it. The last two tests assume"
      " that a clean model answers with a label at 1 / classes at most.",
    ]
  )


def floor_in_words(num_submarks: int, num_classes: int, confidence: float) -> str:
  """Returns the least p-value in a sentence, and whether it allows a claim."""
  floor = float(num_classes) ** -num_submarks
  said = (
    f"With {counted(num_submarks)} and {num_classes} classes the least p-value is"
    f" {floor:.2g}"
  )
  if not levels.reaches(floor, levels.of_confidence(confidence)):
    return (
      f"{said}: too high for any claim at {100 * confidence:.4g} % confidence, make"
      " more sub-marks."
    )
  return f"{said}."


def counted(num_submarks: int) -> str:
  """Returns `1 sub-mark` or `2 sub-marks`."""
  return "1 sub-mark" if num_submarks == 1 else f"{num_submarks} sub-marks"
