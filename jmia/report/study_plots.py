"""Plots of a study of many targets, in the house style of `plots`."""

from collections.abc import Mapping, Sequence
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jmia.attacks import registry as attacks
from jmia.report import plots, wording
from jmia.stats import levels

if TYPE_CHECKING:
  from matplotlib import axes, figure

_MOST_POINTS = 1000
_FPR = "0.01"  # of the chart beside the AUC's
_LOWEST_LOSS = 1e-6  # losses below are drawn there, on a logarithmic axis


class NullPanel(NamedTuple):
  """One sample's null losses in one attack on one target.

  Attributes:
    title: of the panel.
    losses: `[R]` null losses.
    threshold: `c_alpha`.
    observed: the target's loss.
  """

  title: str
  losses: np.ndarray
  threshold: float
  observed: float


@plots.styled
def mean_roc_figure(
  fpr: np.ndarray,
  tpr: Mapping[str, np.ndarray],
  auc: Mapping[str, float],
  num_nonmembers: int,
) -> "figure.Figure":
  """ROC curves averaged over targets, on linear and on logarithmic axes.

  Args:
    fpr: `[K]` false positive rates, ascending.
    tpr: attack -> `[K]` mean true positive rate of the targets.
    auc: attack -> mean AUC, for the legend.
    num_nonmembers: of each target; rates below one of them are not drawn on the
      logarithmic axis.
  """
  drawing = plots.empty_figure(9.2, 4.2)
  for panel, scale in zip(drawing.subplots(1, 2), ("linear", "log"), strict=True):
    plots.roc_axes(panel, scale, 1 / num_nonmembers)
    for attack, rate in tpr.items():
      seen = (fpr * num_nonmembers >= 1) & (rate > 0) if scale == "log" else slice(None)
      panel.plot(
        fpr[seen],
        rate[seen],
        label=f"{wording.attack(attack).title} ({auc[attack]:.3f})",
        linewidth=1.6,
        **_look(attack),
      )
  plots.legend_below(drawing, panel, "attack (mean AUC)", 4)
  return drawing


@plots.styled
def null_figure(rows: Sequence[Sequence[NullPanel]], alpha: float) -> "figure.Figure":
  """Null losses with their threshold and the observed loss, in a grid of panels.

  Args:
    rows: of panels, as many in each; those of a row share their axis of losses.
    alpha: the level of the thresholds.
  """
  drawing = plots.empty_figure(2.6 * len(rows[0]), 1.75 * len(rows) + 0.5)
  grid = drawing.subplots(len(rows), len(rows[0]), squeeze=False)
  for axes_row, row in zip(grid, rows, strict=True):
    values = [np.append(p.losses, (p.threshold, p.observed)) for p in row]
    logs = [np.log10(np.maximum(v, _LOWEST_LOSS)) for v in values]
    low, high = min(map(np.min, logs)), max(map(np.max, logs))
    margin = 0.04 * (high - low) + 0.02
    edges = np.linspace(low - margin, high + margin, 31)
    for panel, of_panel, values_of in zip(axes_row, row, logs, strict=True):
      _null_panel(panel, of_panel.title, values_of, edges)
  for panel in grid[-1]:
    panel.set_xlabel("loss")
  for panel in grid[:, 0]:
    panel.set_ylabel("share of null losses")
  handles, labels = grid[0, 0].get_legend_handles_labels()
  labels = [f"{label}, α = {alpha:g}" if "thr" in label else label for label in labels]
  drawing.legend(handles, labels, loc="outside upper left", ncols=3)
  return drawing


@plots.styled
def auc_by_size_figure(
  panels: Mapping[str, tuple[Sequence[int], Mapping[str, np.ndarray]]],
) -> "figure.Figure":
  """AUC against what an attacker has: the mean of the targets, and each of them.

  Args:
    panels: label of the horizontal axis -> its `S` values, and attack -> AUC `[T, S]`,
      NaN where there is none.
  """
  drawing = plots.empty_figure(4.6 * len(panels), 3.6)
  all_axes = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  for panel, (label, (sizes, series)) in zip(all_axes, panels.items(), strict=True):
    for attack, auc in series.items():
      known = np.isfinite(auc).any(axis=0)
      if not known.any():
        continue
      at = np.asarray(sizes)[known]
      for of_target in auc[:, known]:
        panel.plot(at, of_target, color=_look(attack)["color"], marker=".", alpha=0.4,
                   linestyle="none")  # fmt: skip
      panel.plot(
        at,
        np.nanmean(auc[:, known], axis=0),
        label=wording.attack(attack).title,
        linewidth=1.6,
        marker="o",
        markersize=3.5,
        **_look(attack),
      )
    panel.set_xscale("log")
    panel.minorticks_off()
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.set_xlabel(label)
    _legend_above(panel, "lines: mean; dots: each target", len(series))
  all_axes[0].set_ylabel("AUC")
  return drawing


@plots.styled
def power_figure(rows: Sequence[Mapping[str, Any]]) -> "figure.Figure":
  """AUC, and TPR at 1 % FPR, of attacks against the number of reference models.

  Args:
    rows: of `audit.power.rows`; one with 0 models is a level line. Whiskers are
      intervals over targets, of at least `plots.FEWEST_TRIALS`.
  """
  drawing = plots.empty_figure(10.4, 4.6)
  curves = list(dict.fromkeys((row["attack"], row["num_queries"]) for row in rows))
  sizes = sorted({row["num_references"] for row in rows} - {0})
  # Side by side around each number, so that whiskers do not hide each other.
  shift = np.geomspace(0.9, 1 / 0.9, max(len(curves), 2))
  figures = {
    "AUC": (lambda row: row["auc"], lambda row: row["auc_ci"]),
    levels.tpr_title(_FPR): (
      lambda row: row["tpr_at_fpr"][_FPR],
      lambda row: row["tpr_at_fpr_ci"][_FPR],
    ),
  }
  panels = drawing.subplots(1, len(figures))
  num_targets = min(row["num_targets"] for row in rows)
  has_whiskers = num_targets >= plots.FEWEST_TRIALS
  for panel, (label, (value, bounds)) in zip(panels, figures.items(), strict=True):
    for (attack, queries), moved in zip(curves, shift, strict=False):
      of_attack = [
        row for row in rows if (row["attack"], row["num_queries"]) == (attack, queries)
      ]
      at = np.array([row["num_references"] for row in of_attack]) * moved
      values = np.array([value(row) for row in of_attack])
      title = wording.attack(attack).title
      title = title if queries == 1 else f"{title}, {queries} queries"
      if not at[0]:
        panel.axhline(values[0], label=title, linewidth=1.4, **_look(attack))
        continue
      around = None
      if has_whiskers:
        around = np.abs(np.array([bounds(row) for row in of_attack]).T - values)
      look = {**_look(attack), **({} if queries == 1 else {"linestyle": ":"})}
      panel.errorbar(
        at, values, around, label=title, linewidth=1.4, elinewidth=0.7, marker="o",
        markersize=3, **look,
      )  # fmt: skip
    panel.set_xscale("log")
    panel.minorticks_off()
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.set_xlabel("reference models")
    panel.set_ylabel(label)
  handles, labels = panels[0].get_legend_handles_labels()
  drawing.legend(
    handles, labels, loc="outside upper left", ncols=4,
    title=f"mean of {num_targets} target{'s' if num_targets > 1 else ''}"
    + (", with its 95% interval over targets" if has_whiskers else ""),
    alignment="left",
  )  # fmt: skip
  return drawing


@plots.styled
def difference_figure(
  pairs: Sequence[tuple[str, str]],
  differences: Mapping[str, np.ndarray],
  members: np.ndarray,
  alpha: float,
) -> "figure.Figure":
  """Loss minus threshold by one attack against another's, for each sample of a target.

  A sample left of, or below, a line at 0 is called a member by that attack. At most
  1,000 samples of each kind are drawn, the first ones.

  Args:
    pairs: of attacks, one panel for each: horizontal, vertical.
    differences: attack -> `[N]` loss minus threshold.
    members: `[N]` bool.
    alpha: the level of the thresholds.
  """
  drawing = plots.empty_figure(4.4 * len(pairs), 4.3)
  all_axes = drawing.subplots(1, len(pairs), squeeze=False)[0]
  for panel, pair in zip(all_axes, pairs, strict=True):
    x, y = (differences[attack] for attack in pair)
    for kind, is_kind, marker in (
      ("nonmember", ~members, "o"),
      ("member", members, "x"),
    ):
      panel.plot(
        x[is_kind][:_MOST_POINTS],
        y[is_kind][:_MOST_POINTS],
        linestyle="none",
        marker=marker,
        markersize=2.5,
        markeredgewidth=0.6,
        markerfacecolor="none",
        alpha=0.5,
        color=plots.LIGHT[kind],
        label={"member": "members", "nonmember": "non-members"}[kind],
        zorder=3 if kind == "member" else 2,
      )
    for line in (panel.axvline, panel.axhline):
      line(0, color=plots.LIGHT["ink"], linewidth=1.0)
    _symlog_axes(panel, x, y)
    names = [wording.attack(attack).title for attack in pair]
    panel.set_xlabel(f"loss − threshold of {names[0]}")
    panel.set_ylabel(f"loss − threshold of {names[1]}")
    panel.set_box_aspect(1)
    _legend_above(panel, f"α = {alpha:g}; called a member: at most 0", 2)
  return drawing


@plots.styled
def sample_auc_figure(auc: Mapping[str, np.ndarray], *, least: int) -> "figure.Figure":
  """How the AUC of each sample over models is distributed.

  Args:
    auc: attack -> `[N]` AUC of each sample.
    least: models that held each of these samples, at least.
  """
  drawing = plots.empty_figure(4.8, 3.1)
  panel = drawing.subplots()
  edges = np.linspace(0, 1, 41)
  for attack, values in auc.items():
    counts, _ = np.histogram(values, edges)
    panel.stairs(
      counts / max(1, counts.sum()),
      edges,
      label=f"{wording.attack(attack).title} (mean {values.mean():.3f})",
      linewidth=1.6,
      **_look(attack),
    )
  panel.axvline(0.5, color=plots.LIGHT["muted"], linewidth=0.8)
  panel.set_xlim(0, 1)
  panel.grid(visible=False, axis="x")
  panel.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
  panel.set_xlabel("AUC of a sample over models")
  panel.set_ylabel("share of samples")
  _legend_above(panel, f"samples that at least {least} models were trained on", 2)
  return drawing


def _look(attack: str) -> dict[str, Any]:
  """An attack's colour and dashes, the same in every plot."""
  return plots.line(attacks.names().index(attacks.get(attack).name))


def _null_panel(
  panel: "axes.Axes", title: str, logs: np.ndarray, edges: np.ndarray
) -> None:
  """One histogram; the last two of `logs` are the threshold and the observed loss."""
  *_, threshold, observed = logs
  counts, _ = np.histogram(logs[:-2], edges)
  panel.stairs(
    counts / counts.sum(),
    edges,
    fill=True,
    color=plots.LIGHT["nonmember"],
    alpha=0.55,
    label="null losses",
  )
  panel.axvline(
    threshold,
    color=plots.LIGHT["ink"],
    linestyle=(0, (4, 2)),
    linewidth=1.2,
    label="threshold",
  )
  panel.axvline(
    observed, color=plots.LIGHT["member"], linewidth=1.6, label="the target's loss"
  )
  panel.set_title(title, fontsize=8, loc="left")
  panel.set_xlim(edges[0], edges[-1])
  stride = max(1, math.ceil((edges[-1] - edges[0]) / 4))
  ticks = np.arange(math.ceil(edges[0]), edges[-1] + 1e-9, stride)
  names = [f"{10.0**tick:g}" for tick in ticks]
  if logs.min() <= math.log10(_LOWEST_LOSS):
    names[0] = f"≤{names[0]}"
  panel.set_xticks(ticks, names)
  panel.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
  panel.locator_params(axis="y", nbins=4)
  panel.grid(visible=False, axis="x")


def _legend_above(panel: "axes.Axes", title: str, num_columns: int) -> None:
  panel.legend(
    loc="lower left",
    bbox_to_anchor=(-0.02, 1.0),
    ncols=num_columns,
    title=title,
    alignment="left",
    columnspacing=1.2,
    markerscale=1.5,
  )


def _symlog_axes(panel: "axes.Axes", x: np.ndarray, y: np.ndarray) -> None:
  """Axes that are linear up to a typical size of what they show, and then decades."""
  for values, set_scale, set_ticks, set_limits in (
    (x, panel.set_xscale, panel.set_xticks, panel.set_xlim),
    (y, panel.set_yscale, panel.set_yticks, panel.set_ylim),
  ):
    size = np.abs(values[values != 0])
    if not size.size:
      continue
    first = math.floor(math.log10(np.median(size)))
    last = math.ceil(math.log10(size.max()))
    set_scale("symlog", linthresh=10.0**first, linscale=1)
    stride = max(1, math.ceil((last - first + 1) / 3))
    powers = [10.0**power for power in range(first, last + 1, stride)]
    low = min(1.5 * values.min(), -(10.0**first))
    high = max(1.5 * values.max(), 10.0**first)
    set_limits(low, high)
    ticks = [-p for p in powers[::-1] if -p >= low] + [0.0]
    ticks += [p for p in powers if p <= high]
    set_ticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    panel.minorticks_off()
