"""The tables of a report: as plain text for a terminal, and as rows for the page."""

import pathlib
from typing import NamedTuple

from jmia.report import results as results_lib
from jmia.report import wording
from jmia.stats import levels as levels_lib

_ABSENT = "–"


class Cell(NamedTuple):
  """A number as it is shown, with its interval if it has one."""

  value: str
  interval: str = ""


class ResultRow(NamedTuple):
  """One attack's row: AUC, accuracy, then TPR at each of `levels`."""

  name: str
  title: str
  cells: tuple[Cell, ...]


def levels(report: wording.Report) -> tuple[str, ...]:
  """The false positive rates at which some attack's TPR was measured."""
  return tuple(
    fpr
    for fpr in levels_lib.FPRS
    if any(wording.tpr(report, name, fpr) is not None for name in report["attacks"])
  )


def results_header(report: wording.Report) -> tuple[str, ...]:
  """Column names of the table of results."""
  rates = (levels_lib.tpr_title(fpr) for fpr in levels(report))
  return ("Attack", "AUC", "Accuracy", *rates)


def results(report: wording.Report) -> list[ResultRow]:
  """The attacks in the report's order; what was not measured shows as a dash."""
  return [
    ResultRow(name, wording.attack(name).title, _cells(report, name))
    for name in report["attacks"]
  ]


def epsilon_sentence(report: wording.Report) -> str:
  """What the attacks together show of a privacy guarantee; "" if it was not tried."""
  shown = report.get("epsilon_lower")
  if not shown:
    return ""
  at = f"at delta {shown['delta']:g} and {100 * shown['confidence']:g}% confidence"
  is_one = len(report["attacks"]) == 1
  if shown["exchange"] <= 0:
    subject = "attack refutes" if is_one else "attacks refute"
    return (
      f"The {subject} no differential privacy guarantee: what was found is compatible"
      f" with an epsilon of 0 {at}. {shown['assumption']}"
    )
  subject = "Taken together, and paid for their number, the attacks show"
  return (
    f"{'The attack shows' if is_one else subject} an epsilon of at"
    f" least {shown['exchange']:.2f} for one record exchanged for another, that is"
    f" {shown['add_remove']:.2f} for one added or removed, {at}. {shown['assumption']}"
  )


def by_target(report: wording.Report) -> list[tuple[str, ...]]:
  """Each target's accuracies, and its AUC by each attack with its own interval.

  Returns:
    A header and a row for each target; nothing for a single one.
  """
  targets = report.get("targets", ())
  if not targets:
    return []
  rows = [("Target", "Members", "Test data", *map(_title, report["attacks"]))]
  for number, target in enumerate(targets):
    cells = []
    for name in report["attacks"]:
      own = report["attacks"][name]["by_target"][number]
      cells.append(f"{own['auc']:.3f} ({wording.auc_interval(own['auc_ci'])})")
    accuracies = [
      wording.percent(target[key]) if (key := f"{s}_accuracy") in target else "–"
      for s in ("train", "test")
    ]
    rows.append((str(number + 1), *accuracies, *cells))
  return rows


def _title(name: str) -> str:
  return wording.attack(name).title


def footnotes(report: wording.Report) -> list[str]:
  """Why a table has dashes, what was not attacked, and the audit's own notes."""
  notes = [note for fpr in levels_lib.FPRS for note in _dashes(report, fpr)]
  targets = wording.num_targets(report)
  if targets > 1:
    notes.insert(
      0,
      f"The figures are the mean over {targets} targets, models trained alike on draws "
      "of the same rows, and the intervals are over targets: they say what training "
      "again would give. Plots and samples are of the first target.",
    )
  for name in report["attacks"]:
    coverage = wording.coverage(report, name)
    if coverage:
      notes.append(f"{wording.attack(name).title} attacked {coverage}.")
  entries = report["attacks"].values()
  is_said = any(note.startswith("no p-values") for note in report.get("notes", ()))
  has_any = any("found_at_fdr" in entry for entry in entries)
  if entries and not has_any and not is_said:
    notes.append(
      "There are no p-values: no rows were set apart to calibrate them, so scores rank "
      "samples and no more."
    )
  for name, reason in report.get("missing", {}).items():
    notes.append(f"Not run: {wording.attack(name).title}. {_sentence(reason)}")
  return [*notes, *(_sentence(note) for note in report.get("notes", ()))]


def _dashes(report: wording.Report, fpr: str) -> list[str]:
  """Why attacks have no TPR at a false positive rate: one sentence for each reason."""
  need, who = round(1 / float(fpr)), dict[str, list[str]]()
  for name in report["attacks"]:
    if wording.tpr(report, name, fpr) is None:
      num = wording.num_nonmembers(report, name)
      reason = (
        f"takes at least {need:,} non-members to measure; {_fewest(report, num)}"
        if num < need
        else "was not measured"
      )
      who.setdefault(reason, []).append(wording.attack(name).title)
  rate, everyone = levels_lib.percent(fpr), len(report["attacks"])
  return [
    f"A false positive rate of {rate} {reason}"
    + ("." if len(titles) == everyone else f" ({', '.join(titles)}).")
    for reason, titles in who.items()
  ]


def _fewest(report: wording.Report, num: int) -> str:
  sizes = {target["num_nonmembers"] for target in report.get("targets", ())}
  if len(sizes) > 1:
    return f"one target has {num:,}"
  return f"there {'is' if num == 1 else 'are'} {num:,}"


def text(report: wording.Report) -> str:
  """The audit's outcome for a terminal: target, table, footnotes and verdict.

  Args:
    report: as `report.json`; "dataset", "missing" and "notes" may be absent.

  Returns:
    Lines without a trailing newline. Intervals stand in brackets below their numbers.
  """
  lines = [summary(report)]
  dataset = report.get("dataset") or {}
  if dataset.get("is_synthetic"):
    lines.append("The data is synthetic: generated, not collected.")
  rows = results(report)
  if rows:
    lines += ["", *_grid(report, rows)]
  notes = footnotes(report)
  if epsilon_sentence(report):
    notes.append(epsilon_sentence(report))
  targets = by_target(report)
  if targets:
    lines += ["", "Target by target, AUC with its interval over samples:"]
    lines += results_lib.table(targets).splitlines()
  if notes:
    lines += ["", *notes]
  verdict = wording.verdict(report)
  return "\n".join([*lines, "", verdict.headline, *verdict.details])


def subject(report: wording.Report) -> str:
  """What was audited, in a few words: the model, its data and its defences."""
  config = report.get("config", {})
  if config.get("title"):
    return config["title"]
  name = data_name((report.get("dataset") or {}).get("name"))
  model = config.get("model")
  if not name:
    return "a model known by its outputs alone"
  trained = f"{model} trained on {name}" if model else f"a model trained on {name}"
  defenses = ", ".join(config.get("defenses") or ())
  return f"{trained}, defended by {defenses}" if defenses else trained


def data_name(name: str | None) -> str:
  """A dataset's name without the folders of its path; "" of none."""
  kind, colon, path = (name or "").partition(":")
  if not colon:
    return kind
  return pathlib.PurePath(path.partition("?")[0]).stem or name or ""


def summary(report: wording.Report) -> str:
  """One line on what was audited: model, data, sizes and accuracies."""
  target = report["target"]
  members, others = (wording.size(report, f"num_{k}members") for k in ("", "non"))
  parts = [
    f"Audit of {subject(report)}",
    f"{members} member{'s' * (members != '1')}, "
    f"{others} non-member{'s' * (others != '1')}",
  ]
  for split in ("train", "test"):
    accuracy = target.get(f"{split}_accuracy")
    if accuracy is not None:
      parts.append(f"{split} accuracy {wording.percent(accuracy)}")
  return "; ".join(parts)


def _cells(report: wording.Report, name: str) -> tuple[Cell, ...]:
  """One attack's numbers as shown."""
  result = report["attacks"][name]
  cells = [
    Cell(f"{result['auc']:.3f}", wording.auc_interval(result["auc_ci"])),
    Cell(wording.percent(result["accuracy"])),
  ]
  for fpr in levels(report):
    measured = wording.tpr(report, name, fpr)
    if measured is None:
      cells.append(Cell(_ABSENT))
    else:
      interval = wording.percent_interval(measured.interval, float(fpr))
      cells.append(Cell(wording.percent(measured.rate), interval))
  return tuple(cells)


def _grid(report: wording.Report, rows: list[ResultRow]) -> list[str]:
  """The results in aligned columns, each attack on two lines."""
  table = [results_header(report)]
  for row in rows:
    table.append((row.title, *(cell.value for cell in row.cells)))
    intervals = (f"[{cell.interval}]" if cell.interval else "" for cell in row.cells)
    table.append(("  95% interval", *intervals))
  return results_lib.table(table).splitlines()


def _sentence(reason: str) -> str:
  """Capitalised, with a full stop."""
  reason = str(reason).strip()
  return reason[:1].upper() + reason[1:] + ("" if reason.endswith(".") else ".")
