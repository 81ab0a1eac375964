"""Audits beside one another as one HTML page."""

from collections.abc import Mapping, Sequence
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jmia import atomic
from jmia.report import classic_plots, forest, page, plots, tables, wording
from jmia.stats import levels, roc

if TYPE_CHECKING:
  from matplotlib import figure

_TITLES = {"auc": "AUC"} | {f: levels.tpr_title(f) for f in levels.COARSE_FPRS}
_MOST_DRAWN = 5000  # samples that are drawn one by one, some 60 bytes each
_MOST_MOVED = 15


class Curve(NamedTuple):
  """An audit's scores by the attack whose curve is drawn: `[N]` each."""

  name: str
  attack: str
  scores: np.ndarray
  members: np.ndarray


def write(
  path: str | os.PathLike[str],
  comparison: Mapping[str, Any],
  reports: Sequence[Mapping[str, Any]],
  curves: Sequence[Curve],
  changes: Mapping[str, np.ndarray],
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: the file to write; its folder exists.
    comparison: of `audit.compare.compare`.
    reports: the audits' own, in its order.
    curves: of each audit.
    changes: of `audit.compare.changes`.

  Raises:
    OSError: if the file cannot be written; nothing is left behind then.
  """
  names = [about["name"] for about in comparison["audits"]]
  content = {
    "names": names,
    "data": tables.data_name((reports[0].get("dataset") or {}).get("name")),
    "comparisons": comparison["comparisons"],
    "header": ("Audit", "Members", "Test data", "Strongest attack", "Its AUC"),
    "audits": [_audit_row(about) for about in comparison["audits"]],
    "differing": _differing(names, reports),
    "differences": [
      (of["name"], *_differences(number, names[0], of))
      for number, of in enumerate(comparison["comparisons"])
    ],
    "rocs": _rocs(curves),
    "legend": [
      (*plots.legend_line(n), f"{c.name}: {wording.attack(c.attack).title}")
      for n, c in enumerate(curves)
    ],
    "has_front": len(_front(comparison["audits"])) > 1,
    "pareto": plots.svg(
      pareto_figure(comparison["audits"]),
      "pareto",
      "AUC of each audit's strongest attack against its test accuracy.",
    ),
    "moved": [moved(names[0], name, changes) for name in names[1:]],
    "ranks": [
      plots.svg(
        ranks_figure(names[0], name, changes),
        f"ranks-{number}",
        f"Each sample's rank in {names[0]} and in {name}.",
      )
      for number, name in enumerate(names[1:])
    ],
    "notes": _notes(comparison, reports),
  }
  text = page.template("compare.html.jinja2").render(content)
  atomic.write(path, text.encode())


def moved(
  first: str, other: str, changes: Mapping[str, np.ndarray]
) -> list[tuple[Any, ...]]:
  """The members of both whose rank changed most: sample, class, both ranks."""
  before, after = (changes[f"rank_{name}"] for name in (first, other))
  is_member = changes[f"member_{first}"] & changes[f"member_{other}"]
  at = np.flatnonzero(is_member & ~np.isnan(before) & ~np.isnan(after))
  at = at[np.argsort(-np.abs(after[at] - before[at]), kind="stable")][:_MOST_MOVED]
  return [
    (
      int(changes["index"][n]),
      int(changes["label"][n]),
      f"{int(before[n]):,}",
      f"{int(after[n]):,}",
      f"{int(after[n] - before[n]):+,}",
    )
    for n in at
  ]


@plots.styled
def pareto_figure(audits: Sequence[Mapping[str, Any]]) -> "figure.Figure":
  """Leakage against utility: each audit's AUC with its interval, by test accuracy."""
  drawing = plots.empty_figure(4.6, 3.4)
  panel = drawing.subplots()
  shown = _placed(audits)
  for number, audit in enumerate(shown):
    colour = plots.line(number)["color"]
    x = audit["test_accuracy"]
    panel.plot([x, x], audit["auc_ci"], color=colour, linewidth=1.2)
    panel.plot(x, audit["auc"], "o", color=colour, markersize=5, label=audit["name"])
  front = _front(audits)
  if len(front) > 1:
    panel.step(
      *zip(*front, strict=True), where="pre",
      color=plots.LIGHT["muted"], linewidth=0.9, zorder=0,
    )  # fmt: skip
  panel.axhline(0.5, color=plots.LIGHT["muted"], linewidth=0.9, linestyle=(0, (4, 2)))
  panel.margins(x=0.2)
  panel.set_xlabel("test accuracy: better to the right")
  panel.set_ylabel("AUC of the strongest attack")
  panel.legend(
    loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1.2
  )
  return drawing


def _placed(audits: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """The audits that have both a utility and a leakage."""
  return [a for a in audits if a["test_accuracy"] is not None and a["auc"] is not None]


def _front(audits: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
  """Utility and leakage of the audits that no other beats in both."""
  points = [(a["test_accuracy"], a["auc"]) for a in _placed(audits)]
  return sorted(points[i] for i in classic_plots.pareto(points))


@plots.styled
def ranks_figure(
  first: str, other: str, changes: Mapping[str, np.ndarray]
) -> "figure.Figure":
  """Each sample's rank in one audit against that in another."""
  drawing = plots.empty_figure(4.6, 4.2)
  panel = drawing.subplots()
  is_member = changes[f"member_{first}"]
  # A raster is smaller, but keeps the light page's colours on the dark one.
  is_raster = len(is_member) > _MOST_DRAWN
  for kind, mask, marker in (
    ("nonmember", ~is_member, "x"),
    ("member", is_member, "."),
  ):
    panel.plot(
      changes[f"rank_{first}"][mask], changes[f"rank_{other}"][mask], marker,
      color=plots.LIGHT[kind], markersize=3.5, alpha=0.9 if is_raster else 0.6,
      linestyle="none", rasterized=is_raster,
      label="members" if kind == "member" else "non-members",
    )  # fmt: skip
  panel.set_xlabel(f"rank in {first}: 1 is the most exposed")
  panel.set_ylabel(f"rank in {other}")
  panel.invert_xaxis()
  panel.invert_yaxis()
  panel.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
  return drawing


@plots.styled
def roc_figure(curves: Sequence[Curve], scale: str) -> "figure.Figure":
  """One curve of each audit."""
  drawing = plots.empty_figure(4.6, 4.2)
  panel = drawing.subplots()
  lowest = 1 / max((~curve.members).sum() for curve in curves)
  plots.roc_axes(panel, scale, lowest)
  for number, curve in enumerate(curves):
    fpr, tpr = roc.roc(curve.scores, curve.members)[:2]
    if scale == "log":
      own = 1 / (~curve.members).sum()
      start = np.searchsorted(fpr, own, side="right") - 1
      fpr, tpr = np.maximum(fpr[start:], own), tpr[start:]
    panel.plot(
      fpr, tpr, **plots.line(number), linewidth=1.6,
      drawstyle="steps-post" if scale == "log" else "default",
    )  # fmt: skip
  return drawing


@plots.styled
def differences_figure(of: Mapping[str, Any]) -> "figure.Figure":
  """The difference of AUC by every attack and by the strongest, with intervals."""
  rows = [
    forest.Row(wording.attack(name).title, v["auc"]["difference"], *v["auc"]["ci"])
    for name, v in of["by_attack"].items()
  ]
  strongest = of["strongest"]["auc"]
  rows.append(
    forest.Row(
      "the strongest", strongest["difference"], *forest.ends(strongest["ci"]), True
    )
  )
  drawing = plots.empty_figure(4.8, 0.75 + 0.26 * len(rows))
  panel = drawing.subplots()
  forest.draw(panel, rows, range(len(rows)), 0.0)
  panel.set_ylim(len(rows) - 0.4, -0.6)
  panel.set_yticks(range(len(rows)), [row.label for row in rows])
  panel.set_xlabel("difference of AUC: leaks less to the left")
  return drawing


def _audit_row(about: Mapping[str, Any]) -> tuple[str, ...]:
  rates = [
    "–" if rate is None else wording.percent(rate)
    for rate in (about["train_accuracy"], about["test_accuracy"])
  ]
  title = wording.attack(about["strongest"]).title
  return (
    about["name"],
    *rates,
    title,
    f"{about['auc']:.3f} ({wording.auc_interval(about['auc_ci'])})",
  )


def _differing(
  names: Sequence[str], reports: Sequence[Mapping[str, Any]]
) -> list[tuple[str, ...]]:
  """The settings in which the audits differ, and each one's; a header first."""
  configs = [page.strings(report.get("config", {})) for report in reports]
  keys = list(dict.fromkeys(key for config in configs for key in config))
  rows = [
    (key, *(config.get(key, "–") for config in configs))
    for key in keys
    if key != "title" and len({config.get(key) for config in configs}) > 1
  ]
  return [("Setting", *names), *rows] if rows else []


def _differences(
  number: int, first: str, of: Mapping[str, Any]
) -> tuple[str, list[tuple[str, ...]]]:
  """The forest of one pair, and the table below it."""
  svg = plots.svg(
    differences_figure(of),
    f"differences-{number}",
    f"Difference of AUC between {of['name']} and {first} by attack.",
  )
  rows: list[tuple[str, ...]] = []
  for name, figures in (*of["by_attack"].items(), ("the strongest", of["strongest"])):
    title = name if name == "the strongest" else wording.attack(name).title
    for key, figure in figures.items():
      rows.append(
        (
          title,
          _TITLES[key],
          f"{figure['a']:.3f}",
          f"{figure['b']:.3f}",
          f"{figure['difference']:+.3f}",
          wording.difference_interval(figure["ci"]),
        )
      )
  return svg, rows


def _rocs(curves: Sequence[Curve]) -> list[str]:
  return [
    plots.svg(
      roc_figure(curves, scale), f"roc-{scale}", f"ROC curves of the audits, {scale}."
    )
    for scale in ("linear", "log")
  ]


def _notes(
  comparison: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]
) -> list[str]:
  """What a reader must know of the intervals."""
  names = [about["name"] for about in comparison["audits"]]
  left_out = [
    f"{wording.attack(of['attack']).title} in {of['audit']}"
    for pair in comparison["comparisons"]
    for of in pair.get("left_out", ())
  ]
  notes = [
    f"The {comparison['num_figures']} intervals that the differences rest on hold "
    "together at 95%, so what is picked from among them is covered."
  ]
  if left_out:
    notes.append(
      "Differences are of the attacks that all audits ran. Left out are "
      f"{', '.join(dict.fromkeys(left_out))}; the audits' strongest attacks above may"
      " be among them."
    )
  apart = [
    name
    for name, same in zip(names[1:], comparison["same_samples"], strict=True)
    if not same
  ]
  if reports[0].get("targets"):
    notes.append(
      "The figures are means over targets, and intervals are over targets: they say "
      "what training again would give."
    )
  else:
    if len(apart) < len(names) - 1:
      notes.append("Audits of the same samples: differences of AUC are paired.")
    if apart:
      notes.append(
        f"Of other samples than {names[0]}: {', '.join(apart)}. There each one's own "
        "interval is taken, which is wider."
      )
    notes.append(
      "Each audit is of one model: training again would move its figures too. "
      "--num_targets audits several, and then this compares their means."
    )
  return notes
