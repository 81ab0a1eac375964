"""An audit as a notebook shows it: verdict, table and ROC."""

import html

from jmia.report import plots, tables, wording
from jmia.report.samples import Samples


def fragment(report: wording.Report, samples: Samples) -> str:
  """Returns an HTML fragment that brings its own colours.

  Args:
    report: as `report.json`.
    samples: the evaluated samples.
  """
  verdict = wording.verdict(report)
  sentences = "".join(f"<p>{html.escape(text)}</p>" for text in verdict.details)
  parts = [
    f"<p>Audit of {html.escape(tables.subject(report))}</p>",
    f"<p><strong>{html.escape(verdict.headline)}</strong></p>{sentences}",
  ]
  rows = tables.results(report)
  if rows:
    header = "".join(
      f"<th>{html.escape(n)}</th>" for n in tables.results_header(report)
    )
    body = "".join(
      f"<tr><th>{html.escape(row.title)}</th>"
      + "".join(f"<td>{_cell(cell)}</td>" for cell in row.cells)
      + "</tr>"
      for row in rows
    )
    parts.append(f"<table><tr>{header}</tr>{body}</table>")
    figure = plots.roc_figure(report, samples)
    parts.append(plots.svg(figure, f"jmia-{id(report)}", "ROC curves"))
  colours = ";".join(f"--{name}:{value}" for name, value in plots.LIGHT.items())
  style = f"{colours};background:#fdfdfb;color:#1d2126;padding:1em;max-width:60em"
  return f'<div style="{style}">{"".join(parts)}</div>'


def _cell(cell: tables.Cell) -> str:
  interval = f"<br><small>{html.escape(cell.interval)}</small>" if cell.interval else ""
  return f"{html.escape(cell.value)}{interval}"
