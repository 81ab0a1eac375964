"""Plots of attack success rates: what is drawn where."""

import numpy as np
import pytest

from jmia.report import asr_plots, plots

VARIANTS = [
  asr_plots.Variant("random pattern 1", [0.2, 0.4], [0.1, 0.5], 0.3),
  asr_plots.Variant("end", [0.7]),
]


def _lines(panel, label):
  return [line for line in panel.get_lines() if line.get_label() == label]


def test_every_trial_is_a_dot_and_the_paper_a_ring():
  (panel,) = asr_plots.variants_figure(VARIANTS, 0.14, "patterns").axes
  first, second = _lines(panel, "one trial")
  np.testing.assert_array_equal(first.get_ydata(), [0.2, 0.4])
  np.testing.assert_allclose(np.mean(first.get_xdata()), 0)
  assert (second.get_xdata().tolist(), second.get_ydata().tolist()) == ([1], [0.7])
  (paper,) = _lines(panel, "the paper's one trial")
  assert paper.get_ydata() == 0.3
  (threshold,) = _lines(panel, "threshold of the claim")
  assert threshold.get_ydata()[0] == 0.14
  names = [label.get_text() for label in panel.get_xticklabels()]
  assert names == ["random\npattern\n1", "end"]
  legend = [text.get_text() for text in panel.get_legend().get_texts()]
  assert sorted(legend) == sorted(set(legend))
  assert len(legend) == 3  # no mean, nor its interval, of two trials
  (panel,) = asr_plots.variants_figure(
    [VARIANTS[0]._replace(rates=[0.2, 0.25, 0.3, 0.35, 0.4])], 0.14, "patterns"
  ).axes
  legend = [text.get_text() for text in panel.get_legend().get_texts()]
  assert "mean, 95% interval" in legend


def test_the_ratio_is_on_a_log_axis_with_the_means_joined():
  drawing = asr_plots.ratio_figure(VARIANTS, [0.001, 0.01], 0.14)
  (panel,) = drawing.axes
  assert panel.get_xscale() == "log"
  joined = [
    line.get_ydata()
    for line in panel.get_lines()
    if len(line.get_ydata()) == 2 and line.get_linestyle() == "-"
  ]
  assert any(np.allclose(y, [0.3, 0.7]) for y in joined)
  texts = [label.get_text() for label in panel.get_xticklabels()]
  assert texts == ["0.1%", "1%"]
  with pytest.raises(ValueError, match="longer"):
    asr_plots.ratio_figure(VARIANTS, [0.001], 0.14)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_images_are_shown_unscaled(shape, tmp_path):
  image = np.linspace(0, 0.5, np.prod(shape)).reshape(shape)
  drawing = asr_plots.images_figure({"a": [image, image], "b": [image, image]}, [0, 1])
  assert len(drawing.axes) == 4
  assert [panel.get_title() for panel in drawing.axes] == ["v = 0", "v = 1", "", ""]
  (shown,) = drawing.axes[0].get_images()
  assert shown.get_clim() == (0, 1)
  np.testing.assert_array_equal(np.ravel(shown.get_array()), image.ravel())
  plots.write_png(tmp_path / "images.png", drawing)
  assert (tmp_path / "images.png").read_bytes()[:4] == b"\x89PNG"
