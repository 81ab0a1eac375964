"""Plots of the classic attacks and defences, in the house style of `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.report import forest, plots
from jmia.stats import roc

if TYPE_CHECKING:
  from matplotlib import figure

_MOST_CURVES = 5  # that the style tells apart


class Line(NamedTuple):
  """A least-squares line `intercept + slope x`."""

  slope: float
  intercept: float


class Variant(NamedTuple):
  """A defence at a strength, on one target.

  Attributes:
    label: beside its point.
    utility: test accuracy.
    utility_ci: its 95 % interval over rows.
    leakage: AUC of the strongest attack.
    leakage_ci: its 95 % interval.
    further: (utility, leakage) of each further target.
  """

  label: str
  utility: float
  utility_ci: tuple[float, float]
  leakage: float
  leakage_ci: tuple[float, float]
  further: Sequence[tuple[float, float]] = ()


def regression(x: np.ndarray, y: np.ndarray) -> Line | None:
  """Returns the least-squares line; None where x takes a single value."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if np.ptp(x) == 0:
    return None
  slope, intercept = np.polyfit(x, y, 1)
  return Line(float(slope), float(intercept))


@plots.styled
def roc_figure(
  curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> "figure.Figure":
  """ROC curves of at most five attacks, on linear and on logarithmic axes.

  Args:
    curves: label -> scores `[N]` and members `[N]` bool; further ones are left out.
  """
  drawing = plots.empty_figure(9.2, 4.2)
  shown = list(curves.items())[:_MOST_CURVES]
  # Below one of its non-members no attack can be tested.
  lowest = min(1 / (~members).sum() for _, (_, members) in shown)
  for panel, scale in zip(drawing.subplots(1, 2), ("linear", "log"), strict=True):
    plots.roc_axes(panel, scale, lowest)
    for number, (label, (scores, members)) in enumerate(shown):
      fpr, tpr = roc.roc(scores, members)[:2]
      seen = fpr >= 1 / (~members).sum() if scale == "log" else slice(None)
      panel.plot(
        fpr[seen],
        tpr[seen],
        **plots.line(number),
        linewidth=1.6,
        drawstyle="steps-post" if scale == "log" else "default",
        label=f"{label} ({roc.auc(scores, members):.3f})",
      )
  plots.legend_below(drawing, panel, "attack (AUC)", 3)
  return drawing


@plots.styled
def gap_figure(
  gaps: np.ndarray, accuracies: Mapping[str, np.ndarray]
) -> "figure.Figure":
  """Attack accuracy against the generalisation gap, each attack's line, and (1 + g)/2.

  Args:
    gaps: `[n]` accuracy on members less accuracy on others.
    accuracies: attack -> `[n]` of balanced members and others; at most five.
  """
  drawing = plots.empty_figure(5.2, 4.2)
  panel = drawing.subplots()
  room = 0.05 * max(float(np.ptp(gaps)), 0.02)
  ends = np.array([gaps.min() - room, gaps.max() + room])
  panel.plot(
    ends, (1 + ends) / 2, color=plots.LIGHT["muted"], linewidth=0.9, label="(1 + g)/2"
  )
  for number, (attack, accuracy) in enumerate(list(accuracies.items())[:_MOST_CURVES]):
    look = plots.line(number)
    fit = regression(gaps, accuracy)
    label = attack
    if fit is not None:
      label += f": {fit.intercept:.2f} + {fit.slope:.2f} g"
      panel.plot(
        ends,
        fit.intercept + fit.slope * ends,
        **look,
        linewidth=1.4,
      )
    panel.plot(
      gaps, accuracy, linestyle="none", marker="o", markersize=3.5, color=look["color"],
      alpha=0.7, label=label,
    )  # fmt: skip
  panel.set_xlabel("generalisation gap g: accuracy on members − on others")
  panel.set_ylabel("accuracy of the attack")
  panel.set_xlim(*ends)
  plots.legend_below(drawing, panel, "attack: its least-squares line", 2)
  return drawing


@plots.styled
def defenses_figure(
  variants: Sequence[Variant], num_nonmembers: int
) -> "figure.Figure":
  """What each defence leaks and what it costs, a row each, with intervals side by side.

  The least leaking is on top. A filled dot is of a defence that no other beats in both;
  small dots are of further targets.

  Args:
    variants: what was tried.
    num_nonmembers: of each target.
  """
  drawing = plots.empty_figure(8.4, 1.0 + 0.25 * len(variants))
  panels = drawing.subplots(1, 2, sharey=True)
  best = pareto([(variant.utility, variant.leakage) for variant in variants])
  order = np.argsort([variant.leakage for variant in variants], kind="stable")
  for height, i in enumerate(map(int, order)):
    one = variants[i]
    leaks = forest.Row(one.label, one.leakage, *one.leakage_ci, i in best)
    costs = forest.Row(one.label, one.utility, *one.utility_ci, i in best)
    for panel, row, further in (
      (panels[0], leaks, [leakage for _, leakage in one.further]),
      (panels[1], costs, [utility for utility, _ in one.further]),
    ):
      panel.plot(
        further, [height] * len(further), ".", color=plots.LIGHT["muted"], markersize=4
      )
      forest.draw(panel, [row], [height], 0.5 if row is leaks else None)
  panels[0].set_yticks(range(len(order)), [variants[i].label for i in order])
  panels[0].set_ylim(len(order) - 0.4, -0.6)
  panels[0].set_xlabel("AUC of the strongest attack")
  panels[1].set_xlabel("test accuracy")
  drawing.suptitle(
    f"{num_nonmembers:,} members and as many others; each attack's own 95% intervals."
    " Filled: no other defence is better in both.",
    fontsize=8.5, x=0.01, horizontalalignment="left",
  )  # fmt: skip
  return drawing


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
  """Returns which (utility, leakage) no other beats in both."""
  return {
    i
    for i, (utility, leakage) in enumerate(points)
    if not any(
      other[0] >= utility and other[1] <= leakage and other != (utility, leakage)
      for other in points
    )
  }
