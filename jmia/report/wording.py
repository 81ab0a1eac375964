"""What the report says in words: the attacks, the metrics and the verdict."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jmia.attacks import registry as attacks
from jmia.stats import levels

Report = Mapping[str, Any]

_MARKS = (0.0, 0.5, 1.0)  # what a bound of a share or an AUC decides at
_MORE_DECIMALS = 4  # that are shown of a bound at a mark


class Attack(NamedTuple):
  """How an attack is named and explained; `source` is "" where it is not known."""

  title: str  # in tables and legends
  attacker: str  # completes "An attacker ..."
  explanation: str  # a sentence or two: what it asks and what it takes
  source: str = ""  # the paper, with section and equation


METRICS: Mapping[str, str] = {
  "AUC": (
    "The chance that the attack scores a random member above a random non-member; 0.5 "
    "is guessing and 1 tells them apart without fail."
  ),
  "Accuracy": (
    "The share of right guesses at the one score threshold that suits these samples "
    "best, in hindsight and therefore flattering; calling everyone the same gives the "
    "larger group's share."
  ),
  levels.tpr_title("0.1"): (
    "Of 100 members, how many the attacker identifies while wrongly accusing 10 in 100 "
    "non-members; guessing gives 10."
  ),
  levels.tpr_title("0.01"): (
    "Of 100 members, how many the attacker identifies while wrongly accusing 1 in 100 "
    "non-members; guessing gives 1."
  ),
  levels.tpr_title("0.001"): (
    "Of 100 members, how many the attacker identifies while wrongly accusing only 1 in "
    "1,000 non-members; guessing gives 0.1, and clearly more means that some records "
    "stand out."
  ),
  "95% interval": (
    "The range of values that the audited samples are compatible with; it holds for "
    "each number by itself, and covers neither retraining the model nor better attacks."
  ),
}


_OVER_TARGETS = (
  "The range that the mean over models trained alike on other rows is likely to lie "
  "in, by how much these models differ; it holds for each number by itself, and covers "
  "retraining the model, but not better attacks."
)


class Tpr(NamedTuple):
  """A true positive rate and its 95% interval."""

  rate: float
  interval: tuple[float, float]


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


def num_targets(report: Report) -> int:
  """How many models were attacked; the figures are means over them."""
  return len(report.get("targets", ())) or 1


def metrics(report: Report) -> dict[str, str]:
  """What each column means, for one target or for several."""
  if num_targets(report) == 1:
    return dict(METRICS)
  return {**METRICS, "95% interval": _OVER_TARGETS}


def attack(name: str) -> Attack:
  """The wording for an attack; a name that is not registered stands for itself.

  Args:
    name: as `attacks.get` takes it; options that are not the default go into the title.
  """
  try:
    known = attacks.get(name)
  except ValueError:
    plain = name.replace("_", " ")
    return Attack(plain, f"using {plain}", "")
  usual = attacks.get(known.name).options
  changed = [
    option.replace("_", " ") if value is True else f"{option.replace('_', ' ')} {value}"
    for option, value in known.options.items()
    if value != usual[option]
  ]
  title = f"{known.title}, {', '.join(changed)}" if changed else known.title
  return Attack(title, known.attacker, known.explanation, known.source)


def counted(num: int, what: str) -> str:
  """A number of things, such as 1 record or 1,234 records."""
  return f"{num:,} {what}{'s' * (num != 1)}"


def wrong_among(num_wrong: int, num: int) -> str:
  """How many of what was named is not so, in a reader's words."""
  if num == 1:
    return "it is not one" if num_wrong else "it is one"
  are = "is" if num_wrong == 1 else "are"
  return f"{num_wrong:,} of these {num:,} {are} not"


def percent(value: float) -> str:
  """A share as a percentage with one decimal; only an exact 0 or 1 reads 0 or 100%."""
  if 0 < value < 0.0005:
    return "<0.1%"
  if 0.9995 <= value < 1:
    return ">99.9%"
  return f"{100 * value:.1f}%"


def percent_interval(bounds: Sequence[float], *marks: float) -> str:
  """An interval of shares in percent, such as 82.1–86.3%.

  Args:
    bounds: its ends; as many digits are shown as keep each on its side of 0, 50 and
      100 %: only an exact 0 reads 0.0.
    *marks: further shares whose side counts, such as the rate of guessing.
  """
  return "–".join(_beside(end, (*_MARKS, *marks), 100, "", 1) for end in bounds) + "%"


def auc_interval(bounds: Sequence[float], between: str = "–") -> str:
  """An interval of an AUC, such as 0.512–0.630, as `percent_interval`."""
  return between.join(_beside(end, _MARKS, 1, "", 3) for end in bounds)


def difference_interval(bounds: Sequence[float]) -> str:
  """An interval of a difference, such as +0.012 to +0.130; only 0 reads +0.000."""
  return " to ".join(_beside(end, (0.0,), 1, "+", 3) for end in bounds)


def _beside(
  value: float, marks: Sequence[float], scale: int, sign: str, decimals: int
) -> str:
  """A number with as many decimals as keep it on its side of every mark."""
  crossed = 0.0
  for more in range(_MORE_DECIMALS + 1):
    text = f"{scale * value:{sign}.{decimals + more}f}"
    wrong = [
      mark
      for mark in marks
      if np.sign(float(text) - round(scale * mark, 9)) != np.sign(value - mark)
    ]
    if not wrong or not np.isfinite(value):
      return text
    crossed = wrong[0]
  side = ">" if value > crossed else "<"
  return f"{side}{scale * crossed:{sign}.{decimals}f}"


def duration(seconds: float) -> str:
  """A time to read, such as 3 min 20 s."""
  minutes, rest = divmod(max(1, round(seconds)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours} h {minutes} min"
  return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def p_value(p: float) -> str:
  """A p-value to three decimals, or four where it is small."""
  return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}" if p >= 1e-4 else "<0.0001"


def loss(value: float) -> str:
  """A loss to four decimals at most."""
  return (
    f"{value:.3f}" if value >= 0.01 else f"{value:.4f}" if value >= 1e-4 else "<0.0001"
  )


def discoveries(report: Report, name: str) -> str:
  """How many records an attack finds at a false discovery rate; "" without p-values."""
  entry = report["attacks"][name]
  if "found_at_fdr" not in entry:
    return ""
  (rate, counts), *_ = entry["found_at_fdr"].items()
  num = counts["num_found"]
  wrong = num - counts["num_members"]
  if num == 0:
    return (
      f"{attack(name).title} finds no single record to be a member at a false "
      f"discovery rate of {levels.percent(rate)}."
    )
  return (
    f"{attack(name).title} finds {counted(num, 'record')} to be"
    f" {'a member' if num == 1 else 'members'} at a false discovery rate of"
    f" {levels.percent(rate)}: of records found so, at most one in"
    f" {round(1 / float(rate))} is expected not to be one ({wrong_among(wrong, num)})."
  )


def strongest(report: Report) -> str | None:
  """The attack whose AUC is surely the largest; None if none was run.

  That is the largest lower end of an interval, and of equals the larger AUC, or the
  first. By the AUC itself, an attack on few samples would win by luck: 0.75 from 20
  samples may well be 0.5, and says less than 0.70 from 2,000.
  """
  attacks = report["attacks"]
  if not attacks:
    return None
  return max(
    attacks, key=lambda name: (attacks[name]["auc_ci"][0], attacks[name]["auc"])
  )


def best_at(report: Report, fpr: str) -> str | None:
  """The attack whose TPR at a false positive rate is surely the largest.

  That is the largest lower end of an interval, and of equals the larger TPR, or the
  first; None if no attack's was measured.
  """
  measured = {name: tpr(report, name, fpr) for name in report["attacks"]}
  found = {name: (m.interval[0], m.rate) for name, m in measured.items() if m}
  return max(found, key=lambda name: found[name]) if found else None


def sharpest(report: Report) -> str | None:
  """The attack to name single records by: the best where accusations are rarely wrong.

  The best at 1 % false positives, at 10 % where that was not measured, and else the
  strongest by AUC; None if none was run.
  """
  for fpr in levels.SHARPEST_FPRS:
    best = best_at(report, fpr)
    if best is not None:
      return best
  return strongest(report)


def num_nonmembers(report: Report, name: str) -> int:
  """The non-members that an attack was run on."""
  target = report["target"]["num_nonmembers"]
  return report["attacks"][name].get("num_nonmembers", target)


def coverage(report: Report, name: str) -> str:
  """What an attack was run on, such as "20 of the 800 samples"; "" if that is all."""
  entry = report["attacks"][name]
  targets = report.get("targets") or [report["target"]]
  totals = [target["num_members"] + target["num_nonmembers"] for target in targets]
  each = entry.get("by_target", [entry] * len(targets))
  nums = [of.get("num_samples", total) for of, total in zip(each, totals, strict=True)]
  if nums == totals:
    return ""
  return f"{_span(nums)} of the {_span(totals)} samples"


def size(report: Report, key: str) -> str:
  """How many samples a target has, such as 300, or 300 to 450 where targets differ.

  Args:
    report: as `report.json`.
    key: `num_members` or `num_nonmembers`.
  """
  targets = report.get("targets") or [report["target"]]
  return _span([target[key] for target in targets])


def _span(nums: Sequence[int]) -> str:
  low, high = min(nums), max(nums)
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def tpr(report: Report, name: str, fpr: str) -> Tpr | None:
  """An attack's TPR at a false positive rate; None where it says nothing.

  That is where it was not measured, or the attack was run on too few non-members
  (`levels.can_measure`).
  """
  result = report["attacks"][name]
  rate, interval = (result[key].get(fpr) for key in ("tpr_at_fpr", "tpr_at_fpr_ci"))
  is_enough = levels.can_measure(fpr, num_nonmembers(report, name))
  if rate is None or interval is None or not is_enough:
    return None
  return Tpr(rate, (interval[0], interval[1]))


def at_once(report: Report, name: str) -> Mapping[str, Any]:
  """An attack's intervals that hold for all figures of all attacks of the report."""
  result = report["attacks"][name]
  return result.get("at_once", result)


def calibration(num_called: int, num_nonmembers: int) -> str:
  """Whether the threshold at `levels.ALPHA` accuses as many non-members as it says."""
  low, high = _exact_interval(num_called, num_nonmembers)
  aim = (
    f"The paper's threshold aims at {levels.percent(levels.ALPHA)} of the non-members"
    f" (α = {levels.ALPHA})"
  )
  if low <= levels.ALPHA <= high:
    return f"{aim}, which is what was measured up to chance."
  word = "more" if low > levels.ALPHA else "fewer"
  return f"{aim} but accuses {word}."


def verdict(report: Report) -> Verdict:
  """The headline, no stronger than its interval.

  What it says was picked after seeing all figures, so it rests on intervals that hold
  for all of them at once: it speaks of leakage in at most 5 % of audits of models that
  leak nothing.

  Args:
    report: as `report.json`.

  Returns:
    "leak" if such an interval of the strongest attack's AUC lies above 0.5; "hint" if
    one of some TPR lies above its FPR; otherwise "none".
  """
  name = strongest(report)
  if name is None:
    return Verdict("none", "No attack could be run, so nothing was measured.", ())
  result, num = report["attacks"][name], len(report["attacks"])
  targets = num_targets(report)
  wide = at_once(report, name)["auc_ci"]
  of_what = f"in the mean over {targets} models trained alike, " if targets > 1 else ""
  standing = (
    f"An attacker {attack(name).attacker} picks the member out of a member/non-member "
    f"pair {percent(result['auc'])} of the time ({of_what}95% interval "
    f"{percent_interval(result['auc_ci'])}; 50% is guessing)."
  )
  choice = []
  if num > 1:
    choice.append(
      f"This is the strongest of {num} attacks; widened to hold for all figures of all "
      f"of them at once, its interval is {percent_interval(wide)}."
    )
  if coverage(report, name):
    choice.append(f"It was run on {coverage(report, name)}.")
  choice += _less_sure(report, name)
  choice += _explained_by_split(report)
  if wide[0] > 0.5:
    return Verdict("leak", standing, (*choice, *_at_low_fpr(report), *_found(report)))
  few = _stands_out(report)
  if few:
    headline = "There is a hint of leakage, which this sample size does not settle."
    return Verdict("hint", headline, (standing, *choice, *few))
  if result["auc_ci"][0] > 0.5:
    choice.append("It reaches 50% once it is widened for the choice among all figures.")
  headline = (
    "No leakage was detected at this sample size; this is not proof that there is none."
  )
  if result["auc_ci"][1] < 0.5:
    choice.append(
      "Even the interval's upper end is worse than guessing, which points to a mistake "
      "in the input, such as members and non-members exchanged."
    )
  return Verdict("none", headline, (standing, *choice))


def _explained_by_split(report: Report) -> list[str]:
  """Says that members are told from non-members without the model, where they are."""
  blind = report.get("blind")
  if not blind or blind["auc_ci"][0] <= 0.5:
    return []
  return [
    f"Without the model, by the data alone, they are told apart "
    f"{percent(blind['auc'])} of the time (95% interval "
    f"{percent_interval(blind['auc_ci'])}): the split, not "
    "the model, may explain the figure."
  ]


def _less_sure(report: Report, name: str) -> list[str]:
  """Names the attacks that have a larger AUC than the strongest, but less surely."""
  attacks = report["attacks"]
  return [
    f"{attack(other).title} is right {percent(result['auc'])} of the time, but its "
    f"interval, {percent_interval(result['auc_ci'])}, reaches lower."
    for other, result in attacks.items()
    if result["auc"] > attacks[name]["auc"]
  ]


def _at_low_fpr(report: Report) -> list[str]:
  """What the best attack achieves at 1% FPR, or at 10% if that was not measured."""
  for fpr in levels.SHARPEST_FPRS:
    name = best_at(report, fpr)
    measured = tpr(report, name, fpr) if name else None
    wide = at_once(report, name)["tpr_at_fpr_ci"].get(fpr) if name else None
    if name and measured and wide:
      best = f"the best attack there ({attack(name).title})"
      return [
        f"If it may wrongly accuse 1 in {round(1 / float(fpr))} non-members, "
        f"{best if len(report['attacks']) > 1 else 'it'} identifies "
        f"{percent(measured.rate)} of the members ({percent_interval(wide)} by an "
        "interval widened for the choice).",
        *_less_sure_at(report, measured, fpr),
      ]
  return []


def _less_sure_at(report: Report, best: Tpr, fpr: str) -> list[str]:
  """Names the attacks that have a larger TPR than the best, but less surely."""
  rates = {attack(name).title: tpr(report, name, fpr) for name in report["attacks"]}
  # Beside the widened interval above, which may reach lower still.
  at = float(fpr)
  own = percent_interval(best.interval, at)
  return [
    f"{title} identifies {percent(other.rate)}, but less surely: by itself its "
    f"interval is {percent_interval(other.interval, at)}, that of the best {own}."
    for title, other in rates.items()
    if other and other.rate > best.rate
  ]


def _found(report: Report) -> list[str]:
  """How many records are found at the false discovery rate, the choice paid."""
  found = report.get("found")
  if not found or not found["num_found"]:
    return []
  share, num = round(1 / found["rate"]), found["num_found"]
  return [
    f"{counted(num, 'record')} can be named as {'a member' if num == 1 else 'members'}"
    f" ({attack(found['attack']).title}): of records named so, at most one in {share}"
    " is expected not to be one, the choice of the attack included."
  ]


def _stands_out(report: Report) -> list[str]:
  """The first TPR whose interval, as wide as for all at once, lies above its FPR."""
  for name in report["attacks"]:
    for fpr in levels.FPRS:
      measured = tpr(report, name, fpr)
      wide = at_once(report, name)["tpr_at_fpr_ci"].get(fpr)
      if measured is not None and wide is not None and wide[0] > float(fpr):
        return [
          f"At {levels.percent(fpr)} false positives, {attack(name).title} identifies "
          f"{percent(measured.rate)} of the members "
          f"({percent_interval(wide, float(fpr))} by an interval that holds for all "
          "figures at once), more than guessing would: some records may be exposed "
          "even though most are not."
        ]
  return []


def _exact_interval(hits: int, num: int) -> tuple[float, float]:
  """The 95% interval of a share from `hits` among `num`."""
  from jmia.stats import intervals

  bounds = intervals.clopper_pearson(np.asarray(hits), np.asarray(num))
  return float(bounds.low), float(bounds.high)
