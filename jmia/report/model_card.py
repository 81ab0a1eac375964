"""`model_card.md`: the audit's figures with their conditions, for a model's card."""

from jmia.report import tables, wording

_BIAS_SECTION = "## Privacy: membership inference"


def content(report: wording.Report) -> str:
  """Returns a fragment in Markdown that says what was measured, how, and how far.

  It goes under "Bias, Risks, and Limitations" of a model card as Hugging Face has it.

  Args:
    report: as `report.json`.
  """
  verdict = wording.verdict(report)
  lines = [
    _BIAS_SECTION,
    "",
    verdict.headline,
    *verdict.details,
    "",
    f"Audited: {_plain(tables.subject(report))}; {wording.size(report, 'num_members')} "
    f"members and {wording.size(report, 'num_nonmembers')} non-members"
    + (
      ", on synthetic data" if (report.get("dataset") or {}).get("is_synthetic") else ""
    )
    + ".",
  ]
  rows = tables.results(report)
  if rows:
    header = tables.results_header(report)
    lines += ["", _row(header), _row(["---"] * len(header))]
    lines += [_row([row.title, *(_cell(cell) for cell in row.cells)]) for row in rows]
  lines += ["", "95 % intervals in brackets, each for its figure alone."]
  notes = tables.footnotes(report)
  if tables.epsilon_sentence(report):
    notes.append(tables.epsilon_sentence(report))
  if notes:
    lines += ["", *(f"- {_plain(note)}" for note in notes)]
  version = report.get("versions", {}).get("jmia", "")
  lines += [
    "",
    f"Measured by jmia{f' {version}' if version else ''}. An audit bounds leakage from "
    "below: a better attack may find more, and one that finds nothing proves nothing.",
    "",
  ]
  return "\n".join(lines)


def _cell(cell: tables.Cell) -> str:
  return f"{cell.value} ({cell.interval})" if cell.interval else cell.value


def _row(cells) -> str:
  return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
  """Text that cannot break out of its line or its cell."""
  return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
