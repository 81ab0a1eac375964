"""Plots of the encoding studies, in the house style of `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.report import plots

if TYPE_CHECKING:
  from matplotlib import figure


class Curve(NamedTuple):
  """One line: `x [S]`, `y [S, T]` of T trials, NaN where there is none."""

  label: str
  x: np.ndarray
  y: np.ndarray


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
