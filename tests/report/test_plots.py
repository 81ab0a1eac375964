import re
import sys
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib import figure
import numpy as np
from PIL import Image
import pytest
import report_example

from jmia.report import histograms, plots

REPORT, SAMPLES = report_example.report(), report_example.samples()


def test_colours_are_distinct_and_named_alike():
  assert len(set(plots.LIGHT.values())) == len(plots.LIGHT)
  assert plots.LIGHT.keys() == plots.DARK.keys()


def test_roc_png_opens_and_holds_two_panels(tmp_path):
  plots.write_roc(tmp_path / "roc.png", REPORT, SAMPLES)
  with Image.open(tmp_path / "roc.png") as image:
    assert image.format == "PNG"
    assert image.width > 1.8 * image.height
  assert [p.name for p in tmp_path.iterdir()] == ["roc.png"]


def test_roc_figure_draws_the_curves():
  linear, log = plots.roc_figure(REPORT, SAMPLES).axes
  _, _, reference = linear.get_lines()  # guessing comes first
  fpr, tpr = reference.get_data()
  score = SAMPLES.scores["reference"]
  wins = score[SAMPLES.members][:, None] > score[~SAMPLES.members]
  np.testing.assert_allclose(np.trapezoid(tpr, fpr), wins.mean(), rtol=1e-6)
  assert reference.get_label() == log.get_lines()[2].get_label()
  assert reference.get_label() == "R · reference (0.842)"
  # The same curve but for rates below one non-member.
  x, y = log.get_lines()[2].get_data()
  start = np.flatnonzero(fpr <= 1 / 400)[-1]
  np.testing.assert_array_equal(x, np.maximum(fpr[start:], 1 / 400))
  np.testing.assert_array_equal(y, tpr[start:])
  assert log.get_xlim() == log.get_ylim() == (1 / 400, 1.0)
  assert log.get_xscale() == log.get_yscale() == "log"
  assert log.get_lines()[2].get_drawstyle() == "steps-post"


def test_an_attack_on_few_samples_starts_where_it_can_be_tested():
  report, samples = report_example.with_leave_one_out()
  linear, log = plots.roc_figure(report, samples).axes
  at = samples.attacked("leave_one_out")
  score, members = samples.scores["leave_one_out"][at], samples.members[at]
  fpr, tpr = linear.get_lines()[3].get_data()
  wins = (score[members][:, None] > score[~members]).mean()
  np.testing.assert_allclose(np.trapezoid(tpr, fpr), wins, rtol=1e-6)
  assert log.get_lines()[3].get_xdata().min() == 0.1  # 1 in 10 non-members
  assert log.get_lines()[1].get_xdata().min() == 1 / 400


@pytest.mark.parametrize(
  ("num", "first", "names"),
  [
    (800, 1 / 400, ["0.25%", "1%", "10%", "100%"]),
    (200, 1 / 100, ["1%", "10%", "100%"]),
    (120, 1 / 60, ["1.7%", "10%", "100%"]),
    (3000, 1 / 1500, ["0.1%", "1%", "10%", "100%"]),
  ],
)
def test_the_logarithmic_axes_start_at_one_nonmember(num, first, names):
  samples = report_example.samples(num=num)
  (panel,) = plots.roc_figure(REPORT, samples, ("log",)).axes
  assert panel.get_xlim()[0] == panel.get_ylim()[0] == first
  assert [text.get_text() for text in panel.get_xticklabels()] == names


def test_unknown_scale_is_refused():
  with pytest.raises(ValueError, match="holds 'cubic'"):
    plots.roc_figure(REPORT, SAMPLES, ("linear", "cubic"))


def test_loss_figure_marks_the_threshold():
  histogram = histograms.losses(SAMPLES, "population")
  (panel,) = plots.loss_figure(histogram).axes
  (line,) = panel.get_lines()
  np.testing.assert_allclose(line.get_xdata(), histogram.threshold)
  members, nonmembers = panel.patches
  np.testing.assert_array_equal(members.get_data().values, histogram.members)
  np.testing.assert_array_equal(nonmembers.get_data().values, histogram.nonmembers)
  assert panel.get_xlabel() == "loss"


@pytest.mark.parametrize(
  ("low", "high", "expected"),
  [
    (-0.5, 0.5, [0.5, 1, 2]),
    (-1.2, 1.2, [0.1, 0.3, 1, 3, 10]),
    (-3.0, 2.0, [1e-3, 1e-2, 0.1, 1, 10, 100]),
    (-8.0, 1.0, [1e-8, 1e-6, 1e-4, 1e-2, 1]),
  ],
)
def test_ticks_are_round_and_include_one(low, high, expected):
  np.testing.assert_allclose(10 ** np.array(plots._decades(low, high)), expected)


@pytest.mark.parametrize(
  ("low", "high"),
  [
    (0.31, 0.31 + 1 / 18),  # between 2 and 5
    (0.362, 0.3624),
    (-2.71, -2.55),
    (0.3, 0.3),
    (-400.0, -400.0),
    (299.98, 300.02),
    (4000.1, 4000.15),
    (-320.0, 310.0),
    (-1e-12, 1e-12),
  ],
)
def test_every_axis_has_ticks(low, high):
  ticks = plots._decades(low, high)
  assert 1 <= len(ticks) <= 8
  assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
  assert ticks == sorted(ticks)
  names = [plots._power_of_ten(tick) for tick in ticks]
  assert len({*names}) == len(names) or high - low < 1e-5


def test_narrow_axes_have_round_ticks():
  ticks = 10 ** np.array(plots._decades(np.log10(2.28), np.log10(2.52)))
  np.testing.assert_allclose(ticks, [2.3, 2.35, 2.4, 2.45, 2.5], rtol=1e-9)


def _alike(loss, threshold, score):
  num = 20
  return SAMPLES._replace(
    index=np.arange(num),
    members=np.arange(num) < 10,
    labels=np.zeros(num, int),
    loss=np.full(num, loss, np.float32),
    scores={"a": np.full(num, score, np.float32)},
    thresholds={"a": np.full(num, threshold, np.float32)},
  )


@pytest.mark.parametrize("loss", [2.3025851, 0.0, 1e-45, 3e38, np.inf])
@pytest.mark.parametrize("score", [0.0, 0.7, 1e15, -3e38, 3e38, np.inf, -np.inf])
def test_a_model_that_answers_all_alike_can_be_drawn(loss, score):
  samples = _alike(loss, loss, score)
  for draw, histogram in (
    (plots.loss_figure, histograms.losses(samples, "a")),
    (plots.score_figure, histograms.scores(samples, "a")),
  ):
    assert len(histogram.members) <= 40
    drawing = draw(histogram)
    drawing.draw_without_rendering()
    (panel,) = drawing.axes
    assert len(panel.get_xticks()) >= 1


def test_svg_follows_the_theme_and_refers_to_nothing_outside():
  drawing = plots.loss_figure(histograms.losses(SAMPLES, "reference"))
  text = plots.svg(drawing, "one", 'a "plot" <of> losses')
  root = ElementTree.fromstring(text)
  assert root.get("aria-label") == 'a "plot" <of> losses'
  assert root.get("role") == "img"
  assert "http" not in text
  assert "<style" not in text
  for name in ("member", "nonmember", "ink"):
    assert f"var(--{name})" in text
  assert not re.search("|".join(plots.LIGHT.values()), text)
  ids = re.findall(r'\bid="([^"]+)"', text)
  used = re.findall(r'(?:url\(|href=")#([^")]+)', text)
  assert ids
  assert all(name.startswith("one-") for name in ids)
  assert set(used) <= set(ids)


def test_names_are_text_not_markup_or_mathematics():
  report = report_example.report()
  name = "<script>$x_1$"
  report["attacks"] = {name: report["attacks"]["reference"]}
  samples = SAMPLES._replace(scores={name: SAMPLES.scores["reference"]})
  text = plots.svg(plots.roc_figure(report, samples, ("log",)), "r", "")
  assert "<script" not in text
  assert "&lt;script&gt;$x 1$" in text


def test_the_users_matplotlib_settings_are_neither_used_nor_changed():
  expected = plots.svg(plots.roc_figure(REPORT, SAMPLES, ("log",)), "r", "")
  with mpl.rc_context({"axes.grid": False, "font.size": 31, "text.usetex": True}):
    before = dict(mpl.rcParams)
    text = plots.svg(plots.roc_figure(REPORT, SAMPLES, ("log",)), "r", "")
    assert dict(mpl.rcParams) == before
  assert text == expected


def test_no_pyplot(tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
  drawing = plots.roc_figure(REPORT, SAMPLES, ("log",))
  plots.svg(drawing, "r", "")
  plots.write_roc(tmp_path / "roc.png", REPORT, SAMPLES)
  assert isinstance(drawing, figure.Figure)
  assert "matplotlib.pyplot" not in sys.modules


def test_25_curves_look_different():
  looks = [plots.line(number) for number in range(25)]
  assert len({(look["color"], look["linestyle"]) for look in looks}) == 25


def test_the_one_legend_is_below_the_panels():
  names = ("population", "shadow", "reference", "metric_loss", "correctness")
  report = {**REPORT, "attacks": dict.fromkeys(names, REPORT["attacks"]["reference"])}
  scores = dict.fromkeys(names, SAMPLES.scores["reference"])
  samples = SAMPLES._replace(scores=scores)
  drawing = plots.roc_figure(report, samples)
  assert not any(panel.get_legend() for panel in drawing.axes)
  (legend,) = drawing.legends
  entries = [text.get_text() for text in legend.get_texts()]
  assert entries[1] == "P · population (0.842)"
  assert len(entries) == 6  # guessing, and the five
  assert not plots.roc_figure(report, samples, has_legend=False).legends
  said = plots.roc_legend(report)
  assert [label for *_, label in said] == entries[1:]
  assert len({look for *look, _ in map(tuple, said) for look in [tuple(look)]}) == 5


def test_an_axis_says_where_it_ends():
  scores = np.concatenate([np.linspace(0, 20, 798), [-5000.0, 5000.0]])
  samples = SAMPLES._replace(scores={"a": scores}, thresholds={}, p_values={})
  (panel,) = plots.score_figure(histograms.scores(samples, "a")).axes
  names = [text.get_text() for text in panel.get_xticklabels()]
  assert names[0].startswith("≤ ")
  assert names[-1].startswith("≥ ")
  ticks = panel.get_xticks()
  assert (np.diff(ticks) >= 0.13 * (ticks[-1] - ticks[0])).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_others", [1, 2, 5])
def test_a_log_roc_of_a_handful_of_non_members(num_others):
  samples = report_example.samples()
  rows = np.concatenate([
    np.flatnonzero(samples.members), np.flatnonzero(~samples.members)[:num_others],
  ])  # fmt: skip
  few = samples._replace(
    members=samples.members[rows],
    scores={name: score[rows] for name, score in samples.scores.items()},
  )
  (panel,) = plots.roc_figure(REPORT, few, ("log",)).axes
  assert panel.get_xlim() == panel.get_ylim() == (0.1, 1.0)
