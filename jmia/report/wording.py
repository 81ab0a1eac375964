"""What the report says in words: the attacks, the metrics and the verdict."""

from collections.abc import Mapping
import math
import statistics
from typing import Any, NamedTuple

Report = Mapping[str, Any]

LEVELS = ("0.1", "0.01", "0.001")
_CONFIDENCE = 0.95


class Attack(NamedTuple):
  """How an attack is named and explained."""

  title: str  # in tables and legends
  attacker: str  # completes "An attacker ..."
  explanation: str  # one sentence: what it asks and what it takes


ATTACKS: Mapping[str, Attack] = {
  "population": Attack(
    "P · population",
    "with samples of the population",
    "Asks whether the model's loss on a record is lower than on most records of the "
    "population it never saw; needs only such records and sets one threshold for all.",
  ),
  "shadow": Attack(
    "S · shadow",
    "with shadow models",
    "Trains shadow models on similar data, sees how low their losses fall on records "
    "they did not train on, and sets one threshold for each class.",
  ),
  "reference": Attack(
    "R · reference",
    "with reference models",
    "Trains reference models without the record and asks whether the audited model's "
    "loss is lower than theirs, which accounts for how hard this very record is.",
  ),
  "distillation": Attack(
    "D · distillation",
    "with distilled copies of the model",
    "Distils the audited model into copies that never saw the record itself and asks "
    "whether its loss is lower than theirs, on this very record.",
  ),
  "leave_one_out": Attack(
    "L · leave-one-out",
    "who knows every training record but one",
    "Compares with models trained on all of the training data but this one record; an "
    "idealised attacker, who shows what a single record can give away.",
  ),
}

METRICS: Mapping[str, str] = {
  "AUC": (
    "The chance that the attack scores a random member above a random non-member; 0.5 "
    "is guessing and 1 tells them apart without fail."
  ),
  "Accuracy": (
    "The share of right guesses at the one score threshold that suits these samples "
    "best, found in hindsight and therefore a little flattering."
  ),
  "TPR at 10% FPR": (
    "Of 100 members, how many the attacker identifies while wrongly accusing 10 in 100 "
    "non-members; guessing gives 10."
  ),
  "TPR at 1% FPR": (
    "Of 100 members, how many the attacker identifies while wrongly accusing 1 in 100 "
    "non-members; guessing gives 1."
  ),
  "TPR at 0.1% FPR": (
    "Of 100 members, how many the attacker identifies while wrongly accusing only 1 in "
    "1,000 non-members; guessing gives 0.1, and more means that some records stand out."
  ),
  "95% interval": (
    "The range of values that the audited samples are compatible with; it holds for "
    "each number by itself, and covers neither retraining the model nor better attacks."
  ),
}


class Verdict(NamedTuple):
  """The headline.

  Attributes:
    kind: "leak", "hint" or "none".
    headline: one sentence.
    details: sentences that qualify it.
  """

  kind: str
  headline: str
  details: tuple[str, ...]


def attack(name: str) -> Attack:
  """The wording for an attack; an unknown name stands for itself."""
  plain = name.replace("_", " ")
  return ATTACKS.get(name, Attack(plain, f"using {plain}", ""))


def percent(value: float) -> str:
  """A share as a percentage with one decimal; only an exact 0 or 1 reads 0 or 100%."""
  if 0 < value < 0.0005:
    return "<0.1%"
  if 0.9995 <= value < 1:
    return ">99.9%"
  return f"{100 * value:.1f}%"


def percent_interval(bounds: tuple[float, float] | list[float]) -> str:
  """An interval of shares in percent, such as 82.1–86.3%."""
  return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}%"


def level(value: str) -> str:
  """A false positive rate in percent, such as 0.1% for "0.001"."""
  return f"{100 * float(value):g}%"


def p_value(score: float) -> str:
  """The p-value of a score `-log(p)`, to two digits."""
  decades = -score / math.log(10)
  if decades < -9:
    return "< 1e-9"
  return f"{10**decades:.3f}" if decades >= -3 else f"{10**decades:.1e}"


def strongest(report: Report) -> str | None:
  """The attack with the largest AUC, the first of equals; None if none was run."""
  attacks = report["attacks"]
  return max(attacks, key=lambda name: attacks[name]["auc"]) if attacks else None


def widened(auc: float, interval: list[float], num: int) -> tuple[float, float]:
  """A 95% interval widened to hold for `num` attacks at once (Bonferroni).

  Each half is stretched by the ratio of the normal quantiles, as the interval of an AUC
  is near normal; clipped to [0, 1].
  """
  normal = statistics.NormalDist()
  tail = (1 - _CONFIDENCE) / 2
  ratio = normal.inv_cdf(1 - tail / num) / normal.inv_cdf(1 - tail)
  low, high = auc + ratio * (interval[0] - auc), auc + ratio * (interval[1] - auc)
  return max(low, 0.0), min(high, 1.0)


def calibration(num_called: int, num_nonmembers: int) -> str:
  """Whether the threshold at α = 0.1 accuses as many non-members as it says."""
  low, high = _clopper_pearson(num_called, num_nonmembers)
  aim = "The threshold aims at 10% of the non-members (α = 0.1)"
  if low <= 0.1 <= high:
    return f"{aim}, which is what was measured up to chance."
  word = "more" if low > 0.1 else "fewer"
  return f"{aim} but accuses {word}, so its p-values are not to be taken literally."


def verdict(report: Report) -> Verdict:
  """The headline, no stronger than its interval.

  The strongest of several attacks was picked after seeing the results, so leakage is
  called detected only if its AUC exceeds 0.5 with an interval that is widened to hold
  for all attacks at once.

  Args:
    report: as `report.json`.

  Returns:
    "leak" as above; "hint" if only the unwidened interval lies above 0.5, or if some
    TPR is clearly above its FPR; otherwise "none".
  """
  name = strongest(report)
  if name is None:
    return Verdict("none", "No attack could be run, so nothing was measured.", ())
  result, num = report["attacks"][name], len(report["attacks"])
  wide = widened(result["auc"], result["auc_ci"], num)
  standing = (
    f"An attacker {attack(name).attacker} picks the member out of a member/non-member "
    f"pair {percent(result['auc'])} of the time (95% interval "
    f"{percent_interval(result['auc_ci'])}; 50% is guessing)."
  )
  choice = []
  if num > 1:
    choice.append(
      f"This is the strongest of {num} attacks; widened to hold for all of them at "
      f"once, its interval is {percent_interval(wide)}."
    )
  if wide[0] > 0.5:
    return Verdict("leak", standing, (*choice, *_at_low_fpr(report, name)))
  few = _stands_out(report)
  if result["auc_ci"][0] > 0.5 or few:
    if not few:
      few = ["Its interval reaches 50% once it is widened for the choice of attack."]
    headline = "There is a hint of leakage, which this sample size does not settle."
    return Verdict("hint", headline, (standing, *choice, *few))
  headline = (
    "No leakage was detected at this sample size; this is not proof that there is none."
  )
  if result["auc_ci"][1] < 0.5:
    choice.append(
      "Even the interval's upper end is worse than guessing, which points to a mistake "
      "in the input, such as members and non-members exchanged."
    )
  return Verdict("none", headline, (standing, *choice))


def _at_low_fpr(report: Report, name: str) -> list[str]:
  """What the attack achieves at the lowest false positive rate that was measured."""
  result = report["attacks"][name]
  rates, intervals = result["tpr_at_fpr"], result["tpr_at_fpr_ci"]
  known = [fpr for fpr in LEVELS if rates.get(fpr) is not None]
  if not known:
    return []
  fpr = "0.01" if "0.01" in known else known[-1]
  return [
    f"If it may wrongly accuse {_one_in(fpr)} non-members, it identifies "
    f"{percent(rates[fpr])} of the members (95% interval "
    f"{percent_interval(intervals[fpr])})."
  ]


def _one_in(fpr: str) -> str:
  """A false positive rate as 1 in so many."""
  return f"1 in {round(1 / float(fpr)):,}"


def _stands_out(report: Report) -> list[str]:
  """The first TPR whose interval lies clear of that of its FPR, in words."""
  num = report["target"]["num_nonmembers"]
  noise = {f: _clopper_pearson(math.floor(float(f) * num + 1e-9), num) for f in LEVELS}
  for name, result in report["attacks"].items():
    for fpr in LEVELS:
      rate, bounds = (result[k].get(fpr) for k in ("tpr_at_fpr", "tpr_at_fpr_ci"))
      if rate is None or not bounds or bounds[0] <= noise[fpr][1]:
        continue
      return [
        f"At {level(fpr)} false positives, {attack(name).title} identifies "
        f"{percent(rate)} of the members (95% interval {percent_interval(bounds)}), "
        "clearly more than guessing would: some records may be exposed even though "
        "most are not."
      ]
  return []


def _clopper_pearson(hits: int, num: int) -> tuple[float, float]:
  """The exact 95% interval of a share from `hits` among `num`."""
  from scipy import special

  tail = (1 - _CONFIDENCE) / 2
  low = float(special.betaincinv(hits, num - hits + 1, tail)) if hits else 0.0
  high = (
    1.0 if hits == num else float(special.betaincinv(hits + 1, num - hits, 1 - tail))
  )
  return low, high
