"""Plots of attack success rates, and pictures of marked images (Hu et al.)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jmia.report import plots

if TYPE_CHECKING:
  from matplotlib import axes, figure

# Dots of one variant lie side by side over this share of its room.
_SPREAD = 0.36


class Variant(NamedTuple):
  """What one place on the x axis shows.

  Attributes:
    name: below the axis.
    rates: `[T]` the attack success rate of each trial.
    interval: of their mean; None where there is none.
    paper: the paper's figure; None where it has none.
  """

  name: str
  rates: Sequence[float]
  interval: Sequence[float] | None = None
  paper: float | None = None


@plots.styled
def variants_figure(
  variants: Sequence[Variant], threshold: float, xlabel: str
) -> "figure.Figure":
  """Every trial as a dot, the mean with its interval, the paper's figure as a ring.

  Of fewer than `plots.FEWEST_TRIALS` the dots alone are drawn.

  Args:
    variants: from left to right.
    threshold: rate above which a claim is made.
    xlabel: what tells the variants apart.
  """
  drawing = plots.empty_figure(max(4.8, 0.9 + 0.72 * len(variants)), 3.3)
  panel = drawing.subplots()
  for place, variant in enumerate(variants):
    _trials(panel, place, variant, _SPREAD)
  panel.set_xticks(range(len(variants)), [v.name.replace(" ", "\n") for v in variants])
  panel.set_xlim(-0.6, len(variants) - 0.4)
  panel.grid(visible=False, axis="x")
  _finish(panel, threshold, xlabel)
  return drawing


@plots.styled
def ratio_figure(
  variants: Sequence[Variant], ratios: Sequence[float], threshold: float
) -> "figure.Figure":
  """The rate against the share of marked rows, as figure 2a of the paper.

  Args:
    variants: as many as ratios.
    ratios: share of marked rows, in (0, 1].
    threshold: rate above which a claim is made.
  """
  drawing = plots.empty_figure(5.8, 3.3)
  panel = drawing.subplots()
  for ratio, variant in zip(ratios, variants, strict=True):
    _trials(panel, 100 * ratio, variant, 0)
  means = [np.mean(variant.rates) for variant in variants]
  panel.plot(
    [100 * ratio for ratio in ratios], means, color=plots.LIGHT["member"], linewidth=1.4
  )
  panel.set_xscale("log")
  panel.minorticks_off()
  panel.set_xticks(
    [100 * ratio for ratio in ratios], [f"{100 * ratio:.2g}%" for ratio in ratios]
  )
  _finish(panel, threshold, "marked share of the training rows")
  return drawing


@plots.styled
def images_figure(
  images: Mapping[str, Sequence[np.ndarray]], opacities: Sequence[float]
) -> "figure.Figure":
  """Marked images, as figures 3 to 5 of the paper.

  Args:
    images: name of a row -> one image `[H, W]`, `[H, W, 1]` or `[H, W, 3]` for each
      opacity, with values in [0, 1].
    opacities: the mask v of each column.
  """
  drawing = plots.empty_figure(0.9 + 0.85 * len(opacities), 0.35 + 0.85 * len(images))
  panels = drawing.subplots(len(images), len(opacities), squeeze=False)
  for row, (name, of_row) in zip(panels, images.items(), strict=True):
    row[0].set_ylabel(
      name, rotation=0, horizontalalignment="right", verticalalignment="center"
    )
    for panel, image in zip(row, of_row, strict=True):
      grey = image.ndim == 2 or image.shape[-1] == 1
      pixels = image.reshape(image.shape[:2]) if grey else image
      panel.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
      panel.set(xticks=[], yticks=[])
      panel.grid(visible=False)
      panel.spines[:].set(visible=True, color=plots.LIGHT["grid"])
  for panel, opacity in zip(panels[0], opacities, strict=True):
    panel.set_title(f"v = {opacity:g}", fontsize=8.5)
  return drawing


def _trials(panel: "axes.Axes", place: float, variant: Variant, spread: float) -> None:
  """One variant's dots, mean and interval, and the paper's figure."""
  rates = np.asarray(variant.rates)
  offsets = np.linspace(-spread / 2, spread / 2, len(rates)) if len(rates) > 1 else 0.0
  panel.plot(
    place + offsets + np.zeros(len(rates)),
    rates,
    linestyle="none",
    marker="o",
    markersize=3.2,
    markeredgewidth=0,
    color=plots.LIGHT["member"],
    alpha=0.5,
    label="one trial",
  )
  if len(rates) >= plots.FEWEST_TRIALS:
    low, high = variant.interval or (rates.mean(), rates.mean())
    panel.errorbar(
      place,
      rates.mean(),
      [[rates.mean() - low], [high - rates.mean()]],
      color=plots.LIGHT["ink"],
      marker="_",
      markersize=11,
      elinewidth=1.4,
      label="mean, 95% interval",
    )
  if variant.paper is not None:
    panel.plot(
      place,
      variant.paper,
      linestyle="none",
      marker="D",
      markersize=6,
      markerfacecolor="none",
      markeredgewidth=1.3,
      color=plots.LIGHT["nonmember"],
      label="the paper's one trial",
    )


def _finish(panel: "axes.Axes", threshold: float, xlabel: str) -> None:
  """Threshold, percent axis, and a legend that names each thing once."""
  panel.axhline(
    threshold,
    color=plots.LIGHT["ink"],
    linewidth=1.1,
    linestyle=(0, (4, 2)),
    label="threshold of the claim",
  )
  panel.set_ylim(-0.02, 1.02)
  ticks = [0, 0.25, 0.5, 0.75, 1]
  panel.set_yticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
  panel.set_ylabel("attack success rate")
  panel.set_xlabel(xlabel)
  handles, labels = panel.get_legend_handles_labels()
  once = dict(zip(labels, handles, strict=True))
  panel.legend(
    once.values(),
    once.keys(),
    loc="lower left",
    bbox_to_anchor=(-0.02, 1.0),
    ncols=2,
    columnspacing=1.2,
  )
