"""Plots of the encoding studies, in the house style of `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.report import forest, plots

if TYPE_CHECKING:
  from matplotlib import figure


class Curve(NamedTuple):
  """One line: `x [S]`, `y [S, T]` of T trials, NaN where there is none."""

  label: str
  x: np.ndarray
  y: np.ndarray


class Figure(NamedTuple):
  """A quantity in [0, 1]: its values of T trials, and the paper's if it has one."""

  label: str
  values: Sequence[float]
  paper: float | None = None


class Accepted(NamedTuple):
  """A kind of claim: the share accepted at each level, with its 95 % interval."""

  label: str
  at: Mapping[float, tuple[float, float, float]]


@plots.styled
def figures_figure(figures: Sequence[Figure]) -> "figure.Figure":
  """A dot for each trial of each quantity, and the paper's figure as a ring."""
  drawing = plots.empty_figure(max(4.8, 0.9 + 0.9 * len(figures)), 3.3)
  panel = drawing.subplots()
  for place, one in enumerate(figures):
    shift = np.linspace(-0.12, 0.12, len(one.values)) if len(one.values) > 1 else 0.0
    panel.plot(
      place + shift * np.ones(len(one.values)), one.values, "o", markersize=4,
      markeredgewidth=0, color=plots.LIGHT["member"], alpha=0.6,
      label=None if place else "one trial",
    )  # fmt: skip
  papers = [(at, one.paper) for at, one in enumerate(figures) if one.paper is not None]
  if papers:
    panel.plot(
      *zip(*papers, strict=True), "D", markersize=6, markerfacecolor="none",
      markeredgewidth=1.3, color=plots.LIGHT["nonmember"], label="the paper",
    )  # fmt: skip
  panel.set_xticks(
    range(len(figures)), [one.label.replace(" ", "\n") for one in figures]
  )
  panel.set_xlim(-0.6, len(figures) - 0.4)
  panel.set_ylim(-0.02, 1.02)
  panel.grid(visible=False, axis="x")
  panel.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
  return drawing


@plots.styled
def accepted_figure(claims: Sequence[Accepted]) -> "figure.Figure":
  """The share of claims accepted, a row for each kind, a panel for each level.

  Args:
    claims: of the same levels; a false claim should be accepted no more often than its
      level, where the dashed line is.
  """
  levels = sorted(claims[0].at)
  drawing = plots.empty_figure(3.9 * len(levels), 1.0 + 0.27 * len(claims))
  panels = drawing.subplots(1, len(levels), squeeze=False, sharey=True)[0]
  for panel, level in zip(panels, levels, strict=True):
    rows = [forest.Row(one.label, *one.at[level]) for one in claims]
    forest.draw(panel, rows, range(len(rows)), level)
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel(f"accepted at the {100 * level:g}% level")
  panels[0].set_yticks(range(len(claims)), [one.label for one in claims])
  panels[0].set_ylim(len(claims) - 0.4, -0.6)
  drawing.suptitle(
    "share of claims (their number), 95% intervals", fontsize=8.5, x=0.01,
    horizontalalignment="left",
  )  # fmt: skip
  return drawing


@plots.styled
def curves_figure(panels: Mapping[str, Sequence[Curve]], label: str) -> "figure.Figure":
  """Lines of means over trials, with a dot for each trial, one panel per quantity.

  Args:
    panels: name of the vertical axis -> its curves, at most five.
    label: of the horizontal axis.
  """
  drawing = plots.empty_figure(4.4 * len(panels), 3.3)
  all_axes = drawing.subplots(1, len(panels), squeeze=False)[0]
  for panel, (name, curves) in zip(all_axes, panels.items(), strict=True):
    for number, curve in enumerate(curves):
      look = plots.line(number)
      order = np.argsort(curve.x)
      x, y = curve.x[order], curve.y[order]
      panel.plot(x, y, color=look["color"], marker=".", alpha=0.35, linestyle="none")
      panel.plot(
        x,
        np.nanmean(y, axis=1),
        **look,
        linewidth=1.6,
        label=curve.label,
      )
    panel.set_xlabel(label)
    panel.set_ylabel(name)
    if len(curves) > 1:
      panel.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
  return drawing


@plots.styled
def projection_figure(
  panels: Mapping[str, tuple[np.ndarray, np.ndarray]], groups: Sequence[str]
) -> "figure.Figure":
  """Points of some groups in the plane, one panel for each projection.

  Args:
    panels: title -> points `[P, 2]` and group `[P]`, an index of `groups`.
    groups: names, at most five.
  """
  drawing = plots.empty_figure(3.6 * len(panels), 3.7)
  all_axes = drawing.subplots(1, len(panels), squeeze=False)[0]
  for panel, (title, (points, group)) in zip(all_axes, panels.items(), strict=True):
    for number, name in enumerate(groups):
      at = points[group == number]
      panel.plot(
        *at.T,
        linestyle="none",
        marker="ox^sd"[number],
        markersize=2.5,
        markeredgewidth=0.6,
        markerfacecolor="none",
        color=plots.LIGHT[f"attack-{number}"],
        label=name,
      )
    panel.set_title(title, fontsize=8.5, loc="left")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_box_aspect(1)
  handles, labels = all_axes[0].get_legend_handles_labels()
  drawing.legend(handles, labels, loc="outside upper left", ncols=len(groups))
  return drawing
