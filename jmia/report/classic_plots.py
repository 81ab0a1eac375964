"""Plots of the classic attacks and defences, in the house style of `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.report import plots
from jmia.stats import roc

if TYPE_CHECKING:
  from matplotlib import figure

_MOST_CURVES = 5  # that the style tells apart


class Line(NamedTuple):
  """A least-squares line `intercept + slope x`."""

  slope: float
  intercept: float


class Variant(NamedTuple):
  """A defence at a strength.

  Attributes:
    label: beside its point.
    utility: test accuracy.
    leakage: AUC of the strongest attack.
    leakage_ci: its 95 % interval.
  """

  label: str
  utility: float
  leakage: float
  leakage_ci: tuple[float, float]


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
  for panel, scale in zip(drawing.subplots(1, 2), ("linear", "log"), strict=True):
    plots.roc_axes(panel, scale)
    for number, (label, (scores, members)) in enumerate(shown):
      fpr, tpr = roc.roc(scores, members)[:2]
      seen = fpr >= 1 / (~members).sum() if scale == "log" else slice(None)
      panel.plot(
        fpr[seen],
        tpr[seen],
        **plots.line(number),
        linewidth=1.6,
        label=f"{label} ({roc.auc(scores, members):.3f})",
      )
    panel.legend(loc="lower right", title="attack (AUC)", alignment="left")
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
  ends = np.array([min(0.0, gaps.min()), max(gaps.max(), 0.1)])
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
  panel.set_ylim(top=1.02)
  panel.legend(loc="upper left")
  return drawing


@plots.styled
def pareto_figure(variants: Sequence[Variant], num_nonmembers: int) -> "figure.Figure":
  """Leakage against utility of each defence, and those that none beats in both.

  Args:
    variants: what was tried.
    num_nonmembers: of each target, for the axis' label.
  """
  drawing = plots.empty_figure(7.0, 4.6)
  panel = drawing.subplots()
  best = pareto(variants)
  front = sorted((variants[i] for i in best), key=lambda v: v.utility)
  panel.step(
    [v.utility for v in front], [v.leakage for v in front], where="pre",
    color=plots.LIGHT["muted"], linewidth=0.9, label="no defence is better in both",
  )  # fmt: skip
  # Defences often score alike: their names stand in a column of their own.
  order = np.argsort([variant.leakage for variant in variants], kind="stable")
  for i, height in zip(order, np.linspace(0.02, 0.98, len(order)), strict=True):
    variant = variants[i]
    colour = plots.LIGHT["member" if i in best else "nonmember"]
    panel.plot([variant.utility] * 2, variant.leakage_ci, color=colour, linewidth=0.8)
    panel.plot(variant.utility, variant.leakage, "o", markersize=3.5, color=colour)
    panel.annotate(
      variant.label,
      (variant.utility, variant.leakage),
      xytext=(1.04, height),
      textcoords="axes fraction",
      verticalalignment="center",
      fontsize=6.5,
      color=colour,
      arrowprops={
        "arrowstyle": "-", "color": plots.LIGHT["muted"], "linewidth": 0.4,
        "relpos": (0, 0.5), "zorder": 0.5,
      },
    )  # fmt: skip
  panel.axhline(0.5, color=plots.LIGHT["muted"], linewidth=0.8)
  panel.set_xlabel("test accuracy")
  panel.set_ylabel("AUC of the strongest attack")
  panel.legend(loc="upper left", title=f"{num_nonmembers:,} members and as many others")
  return drawing


def pareto(variants: Sequence[Variant]) -> set[int]:
  """Returns which variants no other beats in both utility and leakage."""
  return {
    i
    for i, one in enumerate(variants)
    if not any(
      other.utility >= one.utility
      and other.leakage <= one.leakage
      and (other.utility, other.leakage) != (one.utility, one.leakage)
      for other in variants
    )
  }
