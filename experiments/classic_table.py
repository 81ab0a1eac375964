"""What a person reads of the classic attacks' rows: one line a row, or a defence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jmia.report import results
from jmia.stats import levels

Row = Mapping[str, Any]

_FPR = "0.01"  # of the table's TPR

# What tells rows apart; each is a column where it does, or else in the heading.
_LABELS = {
  "model": "target",
  "shadow_model": "shadow",
  "shadow_dataset": "shadow's data",
  "defense": "defence",
  "num_members": "members",
  "num_epochs": "epochs",
  "trial": "trial",
}
# Left out where no row differs from the entry that they usually repeat.
_REPEATED = {"shadow_model": "model", "shadow_dataset": "dataset"}


def text(study: str, rows: Sequence[Row]) -> str:
  """Returns the table: a line for each row, but in study defenses for each defence.

  Args:
    study: its name.
    rows: of `results.json`.
  """
  shown = strongest(rows) if study == "defenses" else [dict(row) for row in rows]
  labels = [
    name
    for name in _LABELS
    if not all(row.get(name) == row.get(_REPEATED.get(name, "")) for row in shown)
  ]
  varied = [name for name in labels if len({row.get(name) for row in shown}) > 1]
  fixed = {
    _LABELS[name]: shown[0][name]
    for name in labels
    if name not in varied and name != "trial" and name in shown[0]
  }
  heading = ", ".join(f"{name} {value}" for name, value in fixed.items())
  columns = [(_LABELS[name], [str(row[name]) for row in shown]) for name in varied]
  attack = "strongest attack" if study == "defenses" else "attack"
  columns.append((attack, [row["attack"] for row in shown]))
  columns += _figures(shown)
  table = zip(*([title, *cells] for title, cells in columns), strict=True)
  lines = [f"{shown[0]['dataset']}: {heading}", results.table(list(table))]
  if study == "defenses":
    lines.append(_about_strongest(len(shown[0]["trials"])))
  return "\n\n".join(lines)


def strongest(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Returns each defence's strongest attack: of several targets, the mean.

  A random guess is no attack. `trials` has the rows that a mean is of.
  """
  found = []
  for key in dict.fromkeys((row["model"], row["defense"]) for row in rows):
    of_defense = [row for row in rows if (row["model"], row["defense"]) == key]
    of_defense = [r for r in of_defense if r["attack"] != "random"] or of_defense
    by_trial = [
      max((r for r in of_defense if r["trial"] == trial), key=lambda row: row["auc"])
      for trial in dict.fromkeys(row["trial"] for row in of_defense)
    ]
    found.append(_mean(by_trial))
  return found


def _about_strongest(num_targets: int) -> str:
  if num_targets > 1:
    return f"Figures are means of {num_targets} targets, and the range is of their AUC."
  return "An interval is the attack's own: it is not widened for being the strongest."


def _mean(rows: Sequence[Row]) -> dict[str, Any]:
  """One row of several targets'; whose attacks may be different ones."""
  attacks = dict.fromkeys(row["attack"] for row in rows)
  mean: dict[str, Any] = {
    name: float(np.mean([row[name] for row in rows]))
    for name in ("auc", "train_accuracy", "test_accuracy", "gap")
  }
  rates = [row["tpr_at_fpr"][_FPR] for row in rows]
  same = rows[0] if len(rows) == 1 else {**rows[0], "accuracy": None, "trial": None}
  return {
    **same,
    **mean,
    "attack": ", ".join(attacks),
    "tpr_at_fpr": {_FPR: float(np.mean(rates))},
    "trials": rows,
  }


def _figures(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
  """The columns of numbers that some row has."""
  several = max(len(row.get("trials", (row,))) for row in rows) > 1
  columns = [
    ("AUC", [f"{row['auc']:.4f}" for row in rows]),
    ("its range" if several else "95% interval", [_interval(row) for row in rows]),
    ("report", [_or_dash(row.get("paper_auc"), ".4f") for row in rows]),
    ("accuracy", [_or_dash(row["accuracy"], ".3f") for row in rows]),
    (levels.tpr_title(_FPR), [f"{row['tpr_at_fpr'][_FPR]:.3f}" for row in rows]),
    *(
      (title, [f"{row[name]:.3f}" for row in rows])
      for title, name in (
        ("train", "train_accuracy"), ("test", "test_accuracy"), ("gap", "gap"),
      )
    ),
    ("epsilon", [_or_dash(row.get("epsilon"), ".2f") for row in rows]),
  ]  # fmt: skip
  return [column for column in columns if {*column[1]} != {"–"}]


def _interval(row: Row) -> str:
  """The interval over samples, or from the least to the largest of several targets."""
  trials = row.get("trials", (row,))
  ends = row["auc_ci"]
  if len(trials) > 1:
    values = [trial["auc"] for trial in trials]
    ends = min(values), max(values)
  return f"{ends[0]:.3f}–{ends[1]:.3f}"


def _or_dash(value: float | None, form: str) -> str:
  return "–" if value is None else format(value, form)
