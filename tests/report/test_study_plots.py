import numpy as np
from PIL import Image
import pytest

from jmia.report import plots, study_plots

RNG = np.random.default_rng(0)


def _labels(panel):
  return [text.get_text() for text in panel.get_legend().get_texts()]


def test_mean_roc_draws_each_attack_on_both_scales():
  fpr = np.linspace(0, 1, 101)
  tpr = {"population": np.sqrt(fpr), "reference": fpr**0.25}
  drawing = study_plots.mean_roc_figure(
    fpr, tpr, {"population": 0.667, "reference": 0.8}, num_nonmembers=20
  )
  linear, log = drawing.axes
  labels = [text.get_text() for text in drawing.legends[0].get_texts()]
  assert labels[1:] == ["P · population (0.667)", "R · reference (0.800)"]
  np.testing.assert_array_equal(linear.get_lines()[1].get_xdata(), fpr)
  # Rates below one of 20 non-members cannot be told apart.
  assert log.get_lines()[1].get_xdata().min() == pytest.approx(0.05)


def test_null_panels_show_threshold_and_observed_loss():
  losses = RNG.exponential(size=100)
  rows = [
    [study_plots.NullPanel(f"{r}{c}", losses, 0.1, 0.01) for c in range(4)]
    for r in range(2)
  ]
  drawing = study_plots.null_figure(rows, 0.1)
  assert [panel.get_title(loc="left") for panel in drawing.axes] == [
    *("00", "01", "02", "03", "10", "11", "12", "13")
  ]
  threshold, observed = drawing.axes[0].get_lines()
  assert threshold.get_xdata()[0] == pytest.approx(-1)
  assert observed.get_xdata()[0] == pytest.approx(-2)
  (bars,) = drawing.axes[0].patches
  assert bars.get_data().values.sum() == pytest.approx(1)
  (legend,) = drawing.legends
  assert [text.get_text() for text in legend.get_texts()] == [
    *("null losses", "threshold, α = 0.1", "the target's loss")
  ]


def test_auc_by_size_leaves_out_what_is_unknown():
  auc = np.array([[0.6, 0.7, np.nan], [0.8, np.nan, np.nan]])
  drawing = study_plots.auc_by_size_figure(
    {
      "models": ((10, 20, 50), {"reference": auc, "shadow": np.full((2, 3), np.nan)}),
      "rows": ((100,), {"population": auc[:, :1]}),
    }
  )
  models, rows = drawing.axes
  *dots, mean = models.get_lines()
  assert len(dots) == 2
  np.testing.assert_array_equal(mean.get_xdata(), [10, 20])
  np.testing.assert_allclose(mean.get_ydata(), [0.7, 0.7])
  assert _labels(models) == ["R · reference"]
  assert rows.get_xlabel() == "rows"


def test_differences_mark_who_is_called_a_member():
  members = np.arange(40) % 2 == 0
  differences = {a: RNG.normal(size=40) for a in ("shadow", "population")}
  drawing = study_plots.difference_figure(
    [("shadow", "population")], differences, members, 0.1
  )
  (panel,) = drawing.axes
  others, inside, *zeros = panel.get_lines()
  np.testing.assert_array_equal(others.get_xdata(), differences["shadow"][~members])
  np.testing.assert_array_equal(inside.get_ydata(), differences["population"][members])
  assert len(zeros) == 2
  assert panel.get_xlabel() == "loss − threshold of S · shadow"
  ticks = [text.get_text() for text in panel.get_xticklabels()]
  assert "0" in ticks
  assert not any("$" in tick for tick in ticks)


def test_sample_auc_is_a_share_of_samples():
  drawing = study_plots.sample_auc_figure(
    {"reference": RNG.random(50), "population": np.full(5, 0.5)}, least=3
  )
  (panel,) = drawing.axes
  for bars in panel.patches:
    assert bars.get_data().values.sum() == pytest.approx(1)
  assert _labels(panel)[1] == "P · population (mean 0.500)"


def test_figures_are_written_in_the_house_style(tmp_path):
  drawing = study_plots.sample_auc_figure({"reference": RNG.random(50)}, least=3)
  plots.write_png(tmp_path / "a.png", drawing)
  with Image.open(tmp_path / "a.png") as image:
    assert image.format == "PNG"
  assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
