"""The ledger as Markdown, and its summary in README."""

from collections import Counter
from collections.abc import Mapping, Sequence
import itertools
import pathlib
import re

from . import cells, power, run_files, studies
from .cells import Verdict

PAGE, RUNS_PAGE = cells.HERE / "LEDGER.md", cells.HERE / "RUNS.md"
BEGIN, END = "<!-- ledger: begin -->", "<!-- ledger: end -->"
_MARKS = {
  Verdict.INSIDE: "inside",
  Verdict.EXPLAINED: "outside, explained",
  Verdict.OPEN: "**outside, open**",
  Verdict.FEW: "too few seeds",
  Verdict.NOT_RUN: "not run",
}


def entries(runs: Mapping[str, run_files.Run]) -> list[cells.Entry]:
  """Returns every cell of the papers with what the runs say of it."""
  found: dict[cells.Key, list[cells.Figure]] = {}
  for run in runs.values():
    for key, figure in run_files.figures_of(run):
      found.setdefault(key, []).append(figure)
  explained = cells.explanations()
  return [cells.judge(c, found.get(c.key, ()), explained) for c in cells.papers()]


def summary(found: Sequence[cells.Entry]) -> str:
  """Returns how many cells of each paper there are of each verdict."""
  lines = [
    "| paper | cells | inside | outside, explained | outside, open | not run |",
    "|---|---|---|---|---|---|",
  ]
  for paper, title in cells.PAPERS.items():
    of_one = [entry for entry in found if entry.cell.paper == paper]
    count = Counter(entry.verdict for entry in of_one)
    numbers = [
      len(of_one),
      count[Verdict.INSIDE],
      count[Verdict.EXPLAINED],
      count[Verdict.OPEN],
      count[Verdict.NOT_RUN] + count[Verdict.FEW],
    ]
    lines.append(f"| {title} | {' | '.join(map(str, numbers))} |")
  return "\n".join(lines)


def page(found: Sequence[cells.Entry]) -> str:
  """Returns the papers' tables beside ours."""
  parts = [
    "# Ledger",
    "Made by `python -m experiments.ledger`; do not edit. Each figure of the papers"
    " beside ours; [RUNS.md](RUNS.md) has every run's command, and what else was"
    " measured. *Ours* is the mean over `n` seeds or targets and, in brackets, where"
    " one more of ours lies in 95 % of cases; *inside*: the paper's figure lies there."
    " A line without a verdict is of other data or settings, or of a run that"
    " explains the line above it.",
    summary(found),
  ]
  for paper, entries_of in itertools.groupby(found, lambda entry: entry.cell.paper):
    parts += [f"## {cells.PAPERS[paper]}", of_paper(list(entries_of))]
  parts += ["## Why some are outside", _explanations(found)]
  return _joined(parts)


def runs_page(runs: Mapping[str, run_files.Run]) -> str:
  """Returns the runs' commands, and tables of those that stand beside no paper's."""
  parts = [
    "# Runs",
    "Made by `python -m experiments.ledger`; do not edit. What stands beside a paper's"
    " figure is in [LEDGER.md](LEDGER.md). Of several values (of seeds or targets) the"
    " mean and, in brackets, the range is given.",
    _runs(runs),
  ]
  if chances := power.tables(runs):
    parts += ["## Sub-marks: chances of a claim", chances]
  for run in runs.values():
    # Beside no cell of a paper, and in no table of its own kind.
    if not power.is_one(run) and not any(run_files.figures_of(run)):
      where = f"On {run['device']}." if run["device"] != "cpu" else ""
      parts += [f"## {run['id']}", where, _figures(run)]
  return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
  return "\n\n".join(part for part in parts if part) + "\n"


def of_paper(found: Sequence[cells.Entry]) -> str:
  """Returns the tables of one paper's cells."""
  parts = []
  tables: dict[str, list[cells.Entry]] = {}
  for entry in found:
    tables.setdefault(entry.cell.table, []).append(entry)
  for table, of_table in tables.items():
    parts += [
      f"### Table {table}" if table.isdecimal() else f"### {table}",
      _table(of_table),
    ]
  return "\n\n".join(parts)


def with_summary(readme: str, found: Sequence[cells.Entry]) -> str:
  """Returns README's text with the summary between its marks.

  Raises:
    ValueError: the marks are not there.
  """
  before, begin, rest = readme.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise ValueError(f"README.md holds no {BEGIN} and {END}")
  return f"{before}{BEGIN}\n{summary(found)}\n{END}{after}"


def root() -> pathlib.Path | None:
  """Returns the checkout's folder; None where the package is installed without it."""
  folder = pathlib.Path(__file__).resolve().parents[2]  # jmia/_binaries is a link
  return folder if (folder / "pyproject.toml").exists() else None


def _table(of_table: Sequence[cells.Entry]) -> str:
  lines = [
    "| | | paper | ours | n | verdict | run, or what it needs |",
    "|---|---|---|---|---|---|---|",
  ]
  missing: list[cells.Entry] = []
  for entry in of_table:
    if not entry.figures:
      missing.append(entry)
      continue
    lines += [_first_line(entry), *_other_lines(entry)]
  if len(lines) == 2:
    lines = []
  return "\n".join(lines + ([""] if lines and missing else []) + _not_run(missing))


def _first_line(entry: cells.Entry) -> str:
  """The paper's figure, the run that is held against it, and what comes of that."""
  cell, figure = entry.cell, entry.figures[0]
  given = cell.value
  if cell.deviation:
    scale = 100 if cell.unit == "%" else 1
    given += f" ± {scale * float(cell.deviation):g}"
  verdict = _MARKS[entry.verdict]
  if entry.explanation is not None:
    verdict += f": {_link(entry.explanation.run)}"
  where = _where([figure.run], figure.condition)
  if entry.verdict is Verdict.NOT_RUN and cell.needs:
    where += f"; needs {cell.needs}"
  n = str(len(figure.values))
  parts = (cell.row, cell.column, given, _ours(cell, figure), n, verdict, where)
  return f"| {' | '.join(parts)} |"


def _other_lines(entry: cells.Entry) -> list[str]:
  """What other runs give; those that agree in all that is shown share a line."""
  runs: dict[tuple[str, ...], list[str]] = {}
  for figure in entry.figures[1:]:
    verdict = ""
    if figure.is_comparable:
      verdict = "(inside)" if figure.holds(entry.cell) else "(outside)"
    ours, n = _ours(entry.cell, figure), str(len(figure.values))
    runs.setdefault((ours, n, verdict, figure.condition), []).append(figure.run)
  return [
    f"| | | | {ours} | {n} | {verdict} | {_where(of_runs, condition)} |"
    for (ours, n, verdict, condition), of_runs in runs.items()
  ]


def _where(runs: Sequence[str], condition: str) -> str:
  found = ", ".join(map(_link, runs))
  return f"{found} ({condition})" if condition else found


def _link(run: str) -> str:
  return f"[{run}](runs/{run}.json)"


def _ours(cell: cells.Cell, figure: cells.Figure) -> str:
  scale = 100 if cell.unit == "%" else 1
  digits = max(len(cell.value.partition(".")[2]), 1 if scale == 100 else 3)
  text = f"{scale * figure.mean:.{digits}f}"
  interval = figure.interval()
  if interval is not None:
    low, high = (max(0.0, min(scale, scale * end)) for end in interval)
    text += f" ({low:.{digits}f}–{high:.{digits}f})"
  return text


def _not_run(missing: Sequence[cells.Entry]) -> list[str]:
  """Cells without a figure, a line for each need."""
  lines = []
  rows: dict[str, list[cells.Cell]] = {}
  for entry in missing:
    rows.setdefault(entry.cell.needs, []).append(entry.cell)
  for needs, of_need in rows.items():
    groups: dict[str, list[cells.Cell]] = {}
    for cell in of_need:
      groups.setdefault(cell.row, []).append(cell)
    shown = "; ".join(
      f"{row}: {', '.join(f'{cell.column} {cell.value}' for cell in of_row)}"
      for row, of_row in groups.items()
    )
    why = f"Not run, needs {needs}" if needs else "Not run yet"
    lines += [f"{why}: {shown}.", ""]
  return lines[:-1]


def _explanations(found: Sequence[cells.Entry]) -> str:
  count = Counter(e.explanation for e in found if e.explanation is not None)
  lines = [
    f"- {number} cell{'s' if number > 1 else ''}, {_link(reason.run)}: {reason.because}"
    for reason, number in count.items()
  ]
  return "\n".join(lines) or "Nothing is explained yet."


def _figures(run: run_files.Run) -> str:
  """The figures of a run: a line for each setting, a column for each field.

  Where settings differ along an axis of the study, a table for each field, with the
  axis in columns.
  """
  study = studies.STUDIES[run["study"]]
  found: dict[str, dict[str, Sequence[float]]] = {}  # field -> setting -> values
  for name, of_name in run["figures"].items():
    field = max((f for f in study.values if f"/{f}" in name), key=len)
    setting, _, part = name.rpartition(f"/{field}")
    found.setdefault(field + part, {})[setting] = of_name
  for axis in study.across:
    at = re.compile(rf"/{axis} ([^/]+)")
    tables = [_across(axis, at, field, of) for field, of in found.items()]
    if any(tables):
      return "\n\n".join(filter(None, tables))
  settings = dict.fromkeys(setting for of in found.values() for setting in of)
  return _grid(
    ["setting", *map(_plain, found)],
    [
      [_setting(setting), *(_spread(of.get(setting, ())) for of in found.values())]
      for setting in settings
    ],
  )


def _across(
  axis: str, at: re.Pattern[str], field: str, of: Mapping[str, Sequence[float]]
) -> str:
  """One field's table, an axis in columns; nothing where it has but one place."""
  lines: dict[str, dict[str, Sequence[float]]] = {}
  for setting, values in of.items():
    place = at.search(setting)
    lines.setdefault(at.sub("", setting), {})[place[1] if place else ""] = values
  places = list(dict.fromkeys(place for line in lines.values() for place in line))
  if len(places) < 2:
    return ""
  return _grid(
    [f"{_plain(field)}, {_plain(axis)}", *places],
    [
      [_setting(setting), *(_spread(line.get(place, ())) for place in places)]
      for setting, line in lines.items()
    ],
  )


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  rows = [header, ["---"] * len(header), *lines]
  return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(name: str) -> str:
  return name.replace("_", " ").replace("/", ", ")


def _setting(name: str) -> str:
  return name.replace("/", ", ")


def _spread(values: Sequence[float]) -> str:
  """One value, or the mean of several and their range."""
  if not values:
    return ""
  mean = f"{sum(values) / len(values):.4g}"
  if len(values) == 1 or min(values) == max(values):
    return mean
  return f"{mean} ({min(values):.3g}–{max(values):.3g})"


def _runs(runs: Mapping[str, run_files.Run]) -> str:
  lines = ["| run | command | seed | seconds |", "|---|---|---|---|"]
  for run in runs.values():
    total = run["seconds"]["total"]
    lines.append(
      f"| {_link(run['id'])} | `{run['command']}` | {run['seed']} | {total:,.0f} |"
    )
  return "\n".join(lines)
