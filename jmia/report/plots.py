"""Plots: ROC curves and histograms, as a PNG or as SVG in the page's colours."""

from collections.abc import Callable, Mapping, Sequence
import functools
import html
import io
import math
import os
import re
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from jmia import atomic
from jmia.report import histograms, wording
from jmia.report.samples import Samples
from jmia.stats import roc

if TYPE_CHECKING:
  from matplotlib import axes, figure

# Colour names and their values on a light page, with hues near Okabe and Ito's, which
# people of any colour vision tell apart. A figure is drawn in the light colours and its
# SVG then names them, so no two may be equal.
LIGHT: Mapping[str, str] = {
  "ink": "#1d2126",
  "muted": "#5b636d",
  "grid": "#dfe2e6",
  "member": "#0072b2",
  "nonmember": "#c4500a",
  "attack-0": "#0b5fa5",
  "attack-1": "#b8480c",
  "attack-2": "#00795a",
  "attack-3": "#a3457f",
  "attack-4": "#7a6200",
}
DARK: Mapping[str, str] = {
  "ink": "#e8e6e1",
  "muted": "#a3a9b1",
  "grid": "#363b42",
  "member": "#56b4e9",
  "nonmember": "#f0a04b",
  "attack-0": "#62b6f0",
  "attack-1": "#f2924f",
  "attack-2": "#3cc79d",
  "attack-3": "#e39ac4",
  "attack-4": "#e6cf4a",
}

FEWEST_TRIALS = 5  # below which a mean's interval says little: dots alone are drawn
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)))
_LOWEST = 1e-3  # where a log-log ROC starts whose number of non-members is not told
_STYLE: Mapping[Any, Any] = {
  "font.family": "sans-serif",
  "font.size": 8.5,
  "text.parse_math": False,  # attack names are text, whatever characters they hold
  "svg.fonttype": "none",
  "svg.hashsalt": "jmia",
  "text.color": LIGHT["ink"],
  "axes.labelcolor": LIGHT["muted"],
  "axes.edgecolor": LIGHT["muted"],
  "axes.grid": True,
  "axes.axisbelow": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "grid.color": LIGHT["grid"],
  "grid.linewidth": 0.7,
  "xtick.color": LIGHT["muted"],
  "ytick.color": LIGHT["muted"],
  "xtick.major.size": 0,
  "ytick.major.size": 0,
  "xtick.minor.size": 0,
  "ytick.minor.size": 0,
  "legend.frameon": False,
  "legend.title_fontsize": 8.5,
  "hatch.color": LIGHT["grid"],
  "hatch.linewidth": 1.0,
}

_P = ParamSpec("_P")
_T = TypeVar("_T")


def styled(function: Callable[_P, _T]) -> Callable[_P, _T]:
  """Runs `function`, which draws, with the house style in place of the user's."""

  @functools.wraps(function)
  def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
    import matplotlib as mpl

    with mpl.rc_context():
      mpl.rcdefaults()
      mpl.rcParams.update(_STYLE)
      return function(*args, **kwargs)

  return run


@styled
def roc_figure(
  report: wording.Report,
  samples: Samples,
  scales: Sequence[str] = ("linear", "log"),
  *,
  has_legend: bool = True,
) -> "figure.Figure":
  """The attacks' ROC curves, one panel per scale.

  On the log scale the curves are the steps an attacker can truly reach. Each starts at
  1 / num_nonmembers, of those that its attack was run on: below it cannot be tested.
  Both axes start at that of all non-members, or at 10 % at most.

  Args:
    report: as `report.json`; gives the attacks and their AUC for the legend.
    samples: the evaluated samples.
    scales: "linear", "log" or both.
    has_legend: whether to draw one, below; else `roc_legend` says what is what.

  Returns:
    A figure that belongs to no pyplot state.

  Raises:
    ValueError: if a scale is neither "linear" nor "log".
  """
  for scale in scales:
    if scale not in ("linear", "log"):
      raise ValueError(f"scales={scales} holds {scale!r}, expected 'linear' or 'log'")
  drawing = empty_figure(4.6 * len(scales), 4.2)
  panels = drawing.subplots(1, len(scales), squeeze=False)[0]
  for panel, scale in zip(panels, scales, strict=True):
    roc_axes(panel, scale, 1 / (~samples.members).sum())
    for number, name in enumerate(report["attacks"]):
      at = samples.attacked(name)
      members = samples.members[at]
      fpr, tpr = roc.roc(samples.scores[name][at], members)[:2]
      if scale == "log":
        lowest = 1 / (~members).sum()
        start = np.searchsorted(fpr, lowest, side="right") - 1
        fpr, tpr = np.maximum(fpr[start:], lowest), tpr[start:]
      panel.plot(
        fpr,
        tpr,
        **line(number),
        linewidth=1.6,
        drawstyle="steps-post" if scale == "log" else "default",
        label=f"{wording.attack(name).title} ({_auc(report, name):.3f})",
      )
  if has_legend:
    legend_below(drawing, panels[-1], "attack (AUC)", 2 * len(scales))
  return drawing


def roc_legend(report: wording.Report) -> list[tuple[str, str, str]]:
  """What the curves of `roc_figure` are: name of the colour, SVG dashes, label."""
  found = []
  for number, name in enumerate(report["attacks"]):
    title = f"{wording.attack(name).title} ({_auc(report, name):.3f})"
    found.append((*legend_line(number), title))
  return found


def _auc(report: wording.Report, name: str) -> float:
  """The AUC of the curve that is drawn: the first target's, of several."""
  result = report["attacks"][name]
  return result.get("by_target", [result])[0]["auc"]


@styled
def loss_figure(histogram: histograms.Histogram) -> "figure.Figure":
  """A loss histogram with its threshold, from `histograms.losses`."""
  drawing = empty_figure(4.6, 2.9)
  panel = drawing.subplots()
  _bars(panel, histogram, "threshold, α = 0.1")
  _point_left(panel, histogram, "← called member")
  low, high = histogram.edges[[0, -1]]
  ticks = _decades(low, high)
  unit = "×" if histogram.relative else ""
  names = [_power_of_ten(tick) + unit for tick in ticks]
  ends = (f"{_about_ten_to(low)}{unit}", f"{_about_ten_to(high)}{unit}")
  _ticks(panel, histogram, dict(zip(ticks, names, strict=True)), ends)
  panel.set_xlabel(
    "loss as a multiple of the sample's threshold" if histogram.relative else "loss"
  )
  return drawing


def write_roc(
  path: str | os.PathLike[str], report: wording.Report, samples: Samples
) -> None:
  """Writes the linear and the log-log ROC as a PNG, whole or not at all.

  Args:
    path: the file to write; its folder exists.
    report: as `report.json`.
    samples: the evaluated samples.

  Raises:
    OSError: if the file cannot be written; nothing is left behind then.
  """
  write_png(path, roc_figure(report, samples))


@styled
def write_png(path: str | os.PathLike[str], drawing: "figure.Figure") -> None:
  """Writes a figure as a PNG, whole or not at all.

  Args:
    path: the file to write; its folder exists.
    drawing: a figure drawn in this module's style.

  Raises:
    OSError: if the file cannot be written; nothing is left behind then.
  """
  content = io.BytesIO()
  drawing.savefig(content, format="png", dpi=160)
  atomic.write(path, content.getvalue())


@styled
def svg(drawing: "figure.Figure", name: str, description: str) -> str:
  """The figure as an `<svg>` element for an HTML page.

  Its colours become the CSS variables named in `LIGHT`, its fonts the page's, and its
  ids start with `name`, for they share one page.

  Args:
    drawing: a figure in the colours of `LIGHT`.
    name: unique on the page, letters, digits, dashes and underscores.
    description: what the plot shows, for those who do not see it.

  Returns:
    The element as text; refers to nothing outside itself.
  """
  content = io.StringIO()
  drawing.savefig(content, format="svg", transparent=True)
  text = content.getvalue()
  text = text[text.index("<svg") :]
  # Its style sheet and its links to vocabularies would act on the whole page.
  text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
  text = re.sub(r"\s*font-family: [^;\"]*;?", "", text)
  text = re.sub(r"<g id=\"[^\"]+\"", "<g", text)  # nothing refers to groups
  text = re.sub(r"\bid=\"([^\"]+)\"", rf'id="{name}-\1"', text)
  text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
  text = re.sub(r"xlink:href=\"#([^\"]+)\"", rf'href="#{name}-\1"', text)
  for colour, value in LIGHT.items():
    text = text.replace(value, f"var(--{colour})")
  text = re.sub(r"\bd=\"[^\"]+\"", _shorten, text)
  text = re.sub(r"\s+", " ", text)
  opening, body = text.split(">", 1)
  box = re.search(r"viewBox=\"[^\"]+\"", opening)
  assert box is not None, "matplotlib always writes a viewBox"
  label = html.escape(description, quote=True)
  return f'<svg role="img" aria-label="{label}" {box.group()}>{body}'.strip()


def line(number: int) -> dict[str, Any]:
  """Returns colour and dashes of the curve of that number; 25 look different."""
  num_colours = len(_DASHES)
  return {
    "color": LIGHT[f"attack-{number % num_colours}"],
    "linestyle": _DASHES[(number + number // num_colours) % num_colours],
  }


def legend_line(number: int) -> tuple[str, str]:
  """Returns the colour's name and the SVG dashes of the curve of that number."""
  dashes = line(number)["linestyle"]
  pattern = "" if dashes == "-" else " ".join(f"{3 * d:g}" for d in dashes[1])
  return f"attack-{number % len(_DASHES)}", pattern


def legend_below(
  drawing: "figure.Figure", panel: "axes.Axes", title: str, num_columns: int
) -> None:
  """Writes a panel's legend under all panels, where no curve runs through it."""
  drawing.legend(
    *panel.get_legend_handles_labels(),
    loc="outside lower left",
    ncols=num_columns,
    title=title,
    alignment="left",
  )


def _shorten(path: re.Match[str]) -> str:
  """A path's coordinates to a hundredth of a point, which no eye can tell."""
  return re.sub(r"(\.\d\d)\d+", r"\1", path.group())


def empty_figure(width: float, height: float) -> "figure.Figure":
  """Returns an empty figure outside of pyplot; sizes are in inches."""
  from matplotlib import figure

  return figure.Figure(figsize=(width, height), layout="constrained")


def roc_axes(panel: "axes.Axes", scale: str, lowest: float = _LOWEST) -> None:
  """Makes a panel's axes those of a ROC: square, in percent, with guessing's diagonal.

  Args:
    panel: to draw on.
    scale: "linear" or "log".
    lowest: where the axes of the log scale start; at 10 % at most.
  """
  if scale == "log":
    lowest = min(lowest, 0.1)
    panel.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1))
    panel.minorticks_off()
    decades = 10.0 ** np.arange(math.ceil(math.log10(lowest) - 1e-9), 1)
    ticks = [lowest] if decades[0] > 2.5 * lowest else []
    ticks += decades.tolist()
  else:
    panel.set(xlim=(0, 1), ylim=(0, 1.005))
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
  names = [f"{100 * tick:.2g}%" if tick < 0.1 else f"{100 * tick:g}%" for tick in ticks]
  panel.set_xticks(ticks, names)
  panel.set_yticks(ticks, names)
  panel.set_xlabel("false positive rate: non-members wrongly accused")
  panel.set_ylabel("true positive rate: members identified")
  panel.set_box_aspect(1)
  panel.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, label="guessing")


@styled
def score_figure(histogram: histograms.Histogram) -> "figure.Figure":
  """A histogram of scores, from `histograms.scores`."""
  drawing = empty_figure(4.6, 2.9)
  panel = drawing.subplots()
  _bars(panel, histogram, "p = 0.1" if np.isfinite(histogram.threshold) else None)
  low, high = histogram.edges[[0, -1]]
  if histogram.decades:
    names = {tick: f"−{_power_of_ten(-tick)}" for tick in _decades(low, high)}
    ends = f"−{_about_ten_to(-low)}", f"−{_about_ten_to(-high)}"
  else:
    names = {tick: _signed(f"{tick:.4g}") for tick in _round_ticks(low, high)}
    ends = _signed(f"{low:.2g}"), _signed(f"{high:.2g}")
  _ticks(panel, histogram, names, ends)
  panel.set_xlabel(
    "score, a power of ten a step: more like a member to the right"
    if histogram.decades
    else "score: more like a member to the right"
  )
  return drawing


def _signed(number: str) -> str:
  return number.replace("-", "−")


def _round_ticks(low: float, high: float) -> list[float]:
  from matplotlib import ticker

  return [float(tick) for tick in ticker.MaxNLocator(5).tick_values(low, high)]


def _ticks(
  panel: "axes.Axes",
  histogram: histograms.Histogram,
  ticks: Mapping[float, str],
  ends: tuple[str, str],
) -> None:
  """Puts ticks where there is room beside those at the ends, which say what they hold.

  An outermost bar that holds what lies beyond it is labelled with "≤" or "≥".
  """
  low, high = histogram.edges[[0, -1]]
  room = 0.14 * (high - low)
  named = {
    tick: name for tick, name in ticks.items() if low + room < tick < high - room
  }
  first, last = (
    f"{sign} {end}" if is_clipped else end
    for sign, end, is_clipped in zip("≤≥", ends, histogram.clips, strict=True)
  )
  panel.set_xticks([low, *named, high], [first, *named.values(), last])


def _bars(
  panel: "axes.Axes", histogram: histograms.Histogram, threshold: str | None
) -> None:
  """Members filled, non-members as an outline: told apart without colour too."""
  edges = histogram.edges
  panel.stairs(
    histogram.members,
    edges,
    fill=True,
    facecolor=LIGHT["member"],
    edgecolor=LIGHT["member"],
    alpha=0.55,
    label="members",
  )
  panel.stairs(
    histogram.nonmembers,
    edges,
    color=LIGHT["nonmember"],
    linewidth=1.6,
    label="non-members",
  )
  if threshold is not None:
    panel.axvline(
      histogram.threshold,
      color=LIGHT["ink"],
      linewidth=1.2,
      linestyle=(0, (4, 2)),
      label=threshold,
    )
  panel.grid(visible=False, axis="x")
  panel.set_xlim(edges[0], edges[-1])
  panel.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
  panel.set_ylabel("share of each group")
  panel.legend(
    loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1.2
  )


def _point_left(panel: "axes.Axes", histogram: histograms.Histogram, text: str) -> None:
  """Writes `text` at the top of the threshold, on the side with more room."""
  middle = (histogram.edges[0] + histogram.edges[-1]) / 2
  panel.set_ylim(top=1.12 * panel.get_ylim()[1])
  panel.annotate(
    text,
    (histogram.threshold, 1.0),
    xycoords=("data", "axes fraction"),
    xytext=(3 if histogram.threshold < middle else -3, -1),
    textcoords="offset points",
    horizontalalignment="left" if histogram.threshold < middle else "right",
    verticalalignment="top",
    fontsize=7.5,
  )


def _decades(low: float, high: float) -> list[float]:
  """At most seven round ticks on a log10 axis, where 0 (that is, 1) is one of them."""
  powers = range(math.floor(low), math.ceil(high) + 1)
  digits = (1, 2, 5) if high - low < 1.5 else (1, 3) if high - low < 3 else (1,)
  ticks = [n + math.log10(d) for n in powers for d in digits]
  ticks = [tick for tick in ticks if low <= tick <= high]
  if len(ticks) < 2:
    return _between_decades(low, high)
  stride = math.ceil(len(ticks) / 7)
  zero = ticks.index(0.0) if 0.0 in ticks else 0
  return ticks[zero % stride :: stride]


def _between_decades(low: float, high: float) -> list[float]:
  """Ticks on a log10 axis too short for 1, 2 and 5; its middle if too short for any."""
  from matplotlib import ticker

  middle = (low + high) / 2
  # In units of the axis' own middle, which has no exponent that could overflow.
  exponent = math.floor(middle)
  ends = 10 ** (low - exponent), 10 ** (high - exponent)
  found = ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*ends)
  ticks = [math.log10(tick) + exponent for tick in found if ends[0] <= tick <= ends[1]]
  return ticks or [middle]


def _power_of_ten(exponent: float) -> str:
  """`10 ** exponent` as text, whether a float holds it or not."""
  if abs(exponent) < 300:
    return f"{10.0**exponent:.6g}"
  return f"1e{exponent:.6g}"


def _about_ten_to(exponent: float) -> str:
  """`10 ** exponent` to two digits, of an axis' end that need not be round."""
  if abs(exponent) < 300:
    return f"{10.0**exponent:.2g}"
  return f"1e{exponent:.0f}"
