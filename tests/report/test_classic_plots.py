import numpy as np
import pytest

from jmia.report import classic_plots, histograms, plots
from jmia.report.samples import Samples


def test_the_regression_line_is_the_least_squares_one():
  line = classic_plots.regression([0, 1, 2], [1.0, 3.0, 5.0])
  np.testing.assert_allclose([line.slope, line.intercept], [2, 1])
  assert classic_plots.regression([1, 1], [0.0, 3.0]) is None


def _variant(label, utility, leakage, further=()):
  around = [(value - 0.1, value + 0.1) for value in (utility, leakage)]
  return classic_plots.Variant(label, utility, around[0], leakage, around[1], further)


def test_only_what_nothing_beats_is_on_the_front():
  points = [(0.9, 0.8), (0.8, 0.8), (0.5, 0.5), (0.7, 0.6), (0.7, 0.6)]
  assert classic_plots.pareto(points) == {0, 2, 3, 4}


def test_figures_show_what_they_are_given(tmp_path):
  rng = np.random.default_rng(0)
  members = np.arange(200) < 100
  curves = {f"attack {i}": (rng.normal(size=200) + members, members) for i in range(6)}
  roc = classic_plots.roc_figure(curves)
  assert len(roc.axes) == 2
  assert len(roc.axes[0].get_lines()) == 1 + 5  # guessing, and no more than five
  gaps = np.array([0.1, 0.3, 0.6])
  gap = classic_plots.gap_figure(gaps, {"correctness": (1 + gaps) / 2})
  labels = [text.get_text() for text in gap.legends[0].get_texts()]
  assert labels == ["(1 + g)/2", "correctness: 0.50 + 0.50 g"]
  low, high = gap.axes[0].get_xlim()
  assert 0 < low < 0.1 < 0.6 < high < 0.7  # the data and a little room


def test_defences_are_rows_and_the_least_leaking_is_on_top(tmp_path):
  drawing = classic_plots.defenses_figure(
    [
      _variant("none", 0.9, 0.8),
      _variant("useless", 0.8, 0.8),
      _variant("dp", 0.5, 0.5, further=[(0.4, 0.6)]),
    ],
    100,
  )
  leakage, utility = drawing.axes
  assert leakage.get_yticklabels()[0].get_text() == "dp"
  of_dp = [line.get_xdata().tolist() for line in leakage.get_lines()[:3]]
  np.testing.assert_allclose(np.concatenate(of_dp), [0.6, 0.4, 0.6, 0.5])
  of_dp = [line.get_xdata().tolist() for line in utility.get_lines()[:3]]
  np.testing.assert_allclose(np.concatenate(of_dp), [0.4, 0.4, 0.6, 0.5])
  filled = [
    line.get_markerfacecolor() != "none"
    for line in utility.get_lines()
    if line.get_marker() == "o"
  ]
  assert filled == [True, True, False]  # dp, none, and what costs for nothing
  plots.write_png(tmp_path / "defenses.png", drawing)
  assert (tmp_path / "defenses.png").stat().st_size > 1000


@pytest.mark.parametrize("is_constant", [False, True])
def test_scores_that_only_rank_have_a_linear_histogram(is_constant):
  rng = np.random.default_rng(0)
  scores = np.zeros(50, np.float32) if is_constant else rng.normal(size=50)
  nothing = np.full(50, np.nan, np.float32)
  samples = Samples(
    np.arange(50), np.arange(50) < 20, np.zeros(50, int), np.ones(50),
    {"correctness": scores}, {"correctness": nothing},
  )  # fmt: skip
  assert samples.only_ranks("correctness")
  found = histograms.scores(samples, "correctness")
  np.testing.assert_allclose([found.members.sum(), found.nonmembers.sum()], 1)
  assert np.isnan(found.threshold)
  np.testing.assert_allclose(np.diff(found.edges), np.diff(found.edges)[0])
  figure = plots.score_figure(found)
  labels = figure.axes[0].get_legend_handles_labels()[1]
  assert labels == ["members", "non-members"]
