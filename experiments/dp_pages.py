"""The page of what canaries prove of a training: its words."""

from collections.abc import Sequence

from jmia.dp import proofs
from jmia.report import claim_page

from . import claim_pages

_WORDS = claim_page.Words(
  page="An audit of differential privacy",
  stands="Contradicted",
  stand="contradicted",
  not_so="Not contradicted",
  together="{number} guarantees were tried, and contradicted are: {names}.",
  footer="",
)
_METHOD = {
  "one_run": (
    "Each of many canaries, rows that stand out, was put into the training data or left"
    " out by a fair coin of its own. An attacker who sees what came of the training"
    " guesses the coins. Under a guarantee of epsilon no attacker is right much more"
    " often than e^epsilon to 1, so right guesses prove a least epsilon. (Steinke, Nasr"
    " and Jagielski, Privacy Auditing with One (1) Training Run, 2023.)"
  ),
  "many_runs": (
    "Many models were trained, some with one canary, a row that stands out, and some"
    " without. An attacker who sees a model guesses which it is. Under a guarantee of"
    " epsilon his rates of error cannot both be small, so right guesses prove a least"
    " epsilon. (Jagielski, Ullman and Oprea, Auditing Differentially Private Machine"
    " Learning, 2020.)"
  ),
}
_LIMITS = (
  "A claim that is not contradicted is not confirmed: a better attacker, other canaries"
  " or more of them may prove more.",
  "What is proved is of the training as it was run, code and all. Settings that were"
  " chosen by looking at the same data cost privacy too, which it does not count.",
  "A guarantee that holds is contradicted by chance in one case of twenty at most.",
)
_ASSUMED = {
  "one_run": (
    "Each canary was in by a fair coin of its own, and neither training nor scores saw"
    " the coins. Nothing else is assumed: what is proved is proved of any training,"
    " model and attacker."
  ),
  "many_runs": (
    "The models with the canary and those without are independent runs, alike but for"
    " it, and none was left out for its score. Nothing else is assumed of training,"
    " model or attacker."
  ),
}
_GAUSSIAN = (
  "The column if Gaussian is of a training whose errors trade off as a Gaussian"
  " mechanism's, which DP-SGD's do nearly. No verdict rests on it."
)
_ALONE = "The least epsilon that the guesses prove."
_BESIDE = (
  "The least epsilon that each line proves by itself. The sentence is of all lines."
)
_NO_CLAIM = "Nothing is claimed, so nothing can be contradicted."
_ATTACKER = {"final": "the final model", "steps": "every step"}


def of_rows(
  rows: Sequence[proofs.Row],
  facts: Sequence[tuple[str, str]],
  hashes: Sequence[tuple[str, str, str]],
  notes: Sequence[str],
) -> claim_page.Claim:
  """Returns the page of the rows of one mechanism or several.

  Args:
    rows: of `audit.rows` or `given.prove`.
    facts: terms and values, what was trained and on what.
    hashes: of the files of scores, see `claim_page.Claim`.
    notes: further limits, a sentence each.
  """
  mode = rows[0]["mode"]
  groups = proofs.by_mechanism(rows)
  is_claimed = any(row["claimed_epsilon"] is not None for row in rows)
  return claim_page.Claim(
    title=(
      "Does this training keep the epsilon that is claimed?"
      if is_claimed
      else "What epsilon does this training have at least?"
    ),
    method=_METHOD[mode],
    facts=[
      ("Confidence", f"{100 * proofs.CONFIDENCE:g} %"),
      ("Delta", f"{rows[0]['delta']:g}"),
      ("Canaries of a model", f"{rows[0]['num_canaries']:,}"),
      *facts,
    ],
    findings=[
      claim_page.Finding(
        _name(of_group[0]),
        proofs.are_contradicted(of_group),
        sentence,
        (),
        [(_ALONE if len(of_group) == 1 else _BESIDE, table)],
      )
      for of_group, sentence, table in zip(
        groups, proofs.sentences(rows), map(_table, groups), strict=True
      )
    ],
    together="",
    assumptions=[_ASSUMED[mode], _GAUSSIAN],
    limits=[*notes, *_LIMITS, *(() if is_claimed else (_NO_CLAIM,))],
    hashes=hashes,
    repeat=claim_pages.command("dp-audit"),
    words=_WORDS if is_claimed else _WORDS._replace(not_so="Proved"),
  )


def _name(row: proofs.Row) -> str:
  """What a mechanism is called."""
  claimed = row["claimed_epsilon"]
  name = "no claim" if claimed is None else f"epsilon {claimed:.2f}"
  return f"{name}, {row['control']}" if row["control"] else name


def _table(rows: Sequence[proofs.Row]) -> list[tuple[str, ...]]:
  """A line for each attacker and run."""
  header = ("who guesses", "proved", "if Gaussian", "p-value")
  return [
    header,
    *(
      (
        _who(row),
        f"{row['epsilon_lower']:.2f}",
        or_dash(row["epsilon_lower_gaussian"], ".2f"),
        or_dash(row["p_value"], ".2g"),
      )
      for row in rows
    ),
  ]


def _who(row: proofs.Row) -> str:
  """Whose guesses a row is of."""
  threat = row.get("threat")
  run = f"run {row['run'] + 1}" if "run" in row and row["num_runs"] > 1 else ""
  who = f"who sees {_ATTACKER[threat]}" if threat else "by the scores"
  return f"{who}, {run}" if run and row["mode"] == "one_run" else who


def or_dash(value: float | None, form: str) -> str:
  """Returns a number in a form, or a dash where there is none."""
  return "–" if value is None else format(value, form)
