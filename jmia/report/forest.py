"""Figures with their intervals, one row each: attacks, groups of records, targets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jmia.report import plots, wording
from jmia.stats import levels

if TYPE_CHECKING:
  from matplotlib import axes, figure

# Groups that one chart shows: of more, so many of the most and of the least exposed.
NUM_MOST, NUM_LEAST = 16, 8
MOST_ROWS = NUM_MOST + NUM_LEAST
_MOST_LETTERS = 22


class Row(NamedTuple):
  """One figure: its name, value and interval; `is_best` draws it filled."""

  label: str
  value: float
  low: float
  high: float
  is_best: bool = False


@plots.styled
def attacks_figure(report: wording.Report) -> "figure.Figure":
  """Every attack's AUC, and its TPR at the lowest rate measured; the best is filled."""
  panels = [("AUC", _aucs(report), 0.5)]
  for fpr in levels.SHARPEST_FPRS:
    rows = _tprs(report, fpr)
    if rows:
      panels.append((levels.tpr_title(fpr), rows, float(fpr)))
      break
  names = [wording.attack(name).title for name in report["attacks"]]
  height = 0.75 + 0.27 * len(names)
  drawing = plots.empty_figure(4.6 * len(panels), height)
  drawn = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  for panel, (title, rows, chance) in zip(drawn, panels, strict=True):
    draw(panel, rows, [names.index(row.label) for row in rows], chance)
    panel.set_xlabel(title)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_yticks(range(len(names)), names)
    if title != "AUC":
      panel.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
  return drawing


@plots.styled
def groups_figure(rows: Sequence[Mapping[str, Any]]) -> "figure.Figure":
  """The AUC of each group, surely most exposed on top: a bar from 0.5, its interval.

  Args:
    rows: of one grouping of the report's `groups`. Of more than `MOST_ROWS` the
      `NUM_MOST` most and the `NUM_LEAST` least exposed are drawn.
  """
  shown = list(rows)
  if len(shown) > MOST_ROWS:
    shown = shown[:NUM_MOST] + shown[-NUM_LEAST:]
  drawing = plots.empty_figure(4.8, 0.75 + 0.22 * len(shown))
  panel = drawing.subplots()
  values = [row["auc"] for row in shown]
  panel.barh(
    range(len(shown)),
    [value - 0.5 for value in values],
    left=0.5,
    height=0.62,
    color=plots.LIGHT["member"],
    alpha=0.55,
  )
  drawn = [Row(row["group"], row["auc"], *row["auc_ci"]) for row in shown]
  draw(panel, drawn, range(len(shown)), 0.5, marks=False)
  panel.set_ylim(len(shown) - 0.4, -0.6)
  panel.set_yticks(range(len(shown)), [_short(row["group"]) for row in shown])
  panel.set_xlabel("AUC, with intervals that hold for all groups at once")
  if len(shown) < len(rows):
    panel.axhline(  # between those of the two ends
      NUM_MOST - 0.5, color=plots.LIGHT["muted"], linewidth=0.8, linestyle=(0, (1, 2))
    )
  return drawing


@plots.styled
def targets_figure(report: wording.Report, name: str) -> "figure.Figure":
  """An attack's AUC on each target over its samples, and the mean over targets."""
  entry = report["attacks"][name]
  rows = [
    Row(f"target {number + 1}, over its samples", own["auc"], *own["auc_ci"])
    for number, own in enumerate(entry["by_target"])
  ]
  mean = Row("the mean, over targets", entry["auc"], *ends(entry["auc_ci"]), True)
  drawing = plots.empty_figure(4.8, 0.75 + 0.24 * (len(rows) + 1))
  panel = drawing.subplots()
  draw(panel, [*rows, mean], range(len(rows) + 1), 0.5)
  panel.set_ylim(len(rows) + 0.6, -0.6)
  panel.set_yticks(range(len(rows) + 1), [row.label for row in [*rows, mean]])
  panel.set_xlabel(f"AUC of {wording.attack(name).title}, 95% intervals")
  return drawing


def _aucs(report: wording.Report) -> list[Row]:
  best = wording.strongest(report)
  return [
    Row(wording.attack(name).title, of["auc"], *ends(of["auc_ci"]), name == best)
    for name, of in report["attacks"].items()
  ]


def _tprs(report: wording.Report, fpr: str) -> list[Row]:
  """The attacks whose TPR was measured at that rate."""
  best, rows = wording.best_at(report, fpr), []
  for name in report["attacks"]:
    found = wording.tpr(report, name, fpr)
    if found is not None:
      title = wording.attack(name).title
      rows.append(Row(title, found.rate, *found.interval, name == best))
  return rows


def draw(
  panel: "axes.Axes",
  rows: Sequence[Row],
  heights: Sequence[int],
  chance: float | None,
  marks: bool = True,
) -> None:
  """Intervals as lines with their values as dots; a line at chance, if any."""
  for height, row in zip(heights, rows, strict=True):
    colour = plots.LIGHT["member" if row.is_best else "ink"]
    panel.plot([row.low, row.high], [height] * 2, color=colour, linewidth=1.3)
    if marks:
      fill = colour if row.is_best else "none"
      panel.plot(
        row.value, height, "o", markersize=5.5, markeredgecolor=colour,
        markerfacecolor=fill, markeredgewidth=1.3,
      )  # fmt: skip
  if chance is not None:
    panel.axvline(
      chance, color=plots.LIGHT["muted"], linewidth=0.9, linestyle=(0, (4, 2)), zorder=0
    )
  panel.grid(visible=False, axis="y")


def ends(interval: Sequence[float]) -> tuple[float, float]:
  """An interval of JSON as a pair."""
  low, high = interval
  return low, high


def _short(text: str) -> str:
  text = str(text)
  return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
