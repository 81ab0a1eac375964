import numpy as np
import pytest
import report_example

from jmia import report as report_lib
from jmia.report import histograms

SAMPLES = report_example.samples()


def _small(loss, thresholds, members=None):
  num = len(loss)
  members = np.arange(num) % 2 == 0 if members is None else np.array(members)
  return report_lib.Samples(
    index=np.arange(num),
    members=members,
    labels=np.zeros(num, np.int32),
    loss=np.array(loss, np.float32),
    scores={"a": np.ones(num, np.float32)},
    thresholds={"a": np.array(thresholds, np.float32)},
  )


def _left(histogram):
  """Shares of members and of non-members left of the threshold."""
  left = histogram.edges[1:] <= histogram.threshold
  return histogram.members[left].sum(), histogram.nonmembers[left].sum()


@pytest.mark.parametrize("attack", ["population", "reference"])
def test_bars_left_of_the_threshold_are_those_called_members(attack):
  histogram = histograms.losses(SAMPLES, attack)
  called = SAMPLES.loss <= SAMPLES.thresholds[attack]
  expected = called[SAMPLES.members].mean(), called[~SAMPLES.members].mean()
  np.testing.assert_allclose(_left(histogram), expected, atol=1e-12)
  assert 0 < expected[1] < expected[0] < 1
  assert histogram.threshold in histogram.edges
  np.testing.assert_allclose(histogram.members.sum(), 1.0)
  np.testing.assert_allclose(histogram.nonmembers.sum(), 1.0)


def test_one_threshold_for_all_shows_the_loss_itself():
  histogram = histograms.losses(SAMPLES, "population")
  assert not histogram.relative
  expected = np.log10(SAMPLES.thresholds["population"][0])
  np.testing.assert_allclose(histogram.threshold, expected, rtol=1e-6)


def test_a_threshold_per_sample_shows_the_ratio_by_hand():
  # Ratios 0.1, 1 (called: loss <= c), 10 and 100; in decades -1, 0, 1 and 2.
  small = _small([0.1, 2.0, 5.0, 400.0], [1.0, 2.0, 0.5, 4.0])
  histogram = histograms.losses(small, "a")
  assert histogram.relative
  assert histogram.threshold == 0.0
  np.testing.assert_allclose(_left(histogram), [0.5, 0.5])
  place = np.searchsorted(histogram.edges, 1.0, side="right") - 1
  np.testing.assert_allclose(histogram.members[place], 0.5)
  assert histogram.nonmembers[-1] == 0.5  # the outermost bar holds what lies beyond


def test_ratios_next_to_infinity_do_not_stretch_the_axis():
  thresholds = np.where(np.arange(100) % 5 == 0, 1e-30, 1.0)
  histogram = histograms.losses(_small(np.linspace(0.1, 10, 100), thresholds), "a")
  assert histogram.edges[-1] <= 4.5
  np.testing.assert_allclose(histogram.members[-1], 0.2)


@pytest.mark.parametrize(
  ("loss", "thresholds", "members_left", "nonmembers_left"),
  [
    ([0.0, 0.0, 1.0, 2.0], [0.0] * 4, 0.5, 0.5),  # zero losses under a zero threshold
    ([0.0, 0.5, 1.0, 2.0], [0.0, -1.0, 2.0, 1.0], 1.0, 0.0),  # 0/0, never, yes, no
    ([0.1, 0.2, 0.3, 0.4], [-np.inf] * 4, 0.0, 0.0),
    ([0.1, 0.2, 0.3, 0.4], [np.inf] * 4, 1.0, 1.0),
    ([0.1, 0.2, 0.3, 0.4], [np.inf, -np.inf, 0.3, 0.39], 1.0, 0.0),
    ([0.0] * 4, [1.0] * 4, 1.0, 1.0),
    ([0.7] * 4, [0.7] * 4, 1.0, 1.0),
  ],
)
def test_degenerate_losses_and_thresholds(
  loss, thresholds, members_left, nonmembers_left
):
  histogram = histograms.losses(_small(loss, thresholds), "a")
  assert np.isfinite(histogram.edges).all()
  assert (np.diff(histogram.edges) > 0).all()
  np.testing.assert_allclose(_left(histogram), [members_left, nonmembers_left])


def test_the_score_from_which_p_is_a_tenth_is_marked():
  histogram = histograms.scores(SAMPLES, "reference")
  scores, p = SAMPLES.scores["reference"], SAMPLES.p_values["reference"]
  assert histogram.threshold == scores[p <= 0.1].min()
  assert (scores[p > 0.1] < histogram.threshold).all()
  without = histograms.scores(SAMPLES._replace(p_values={}), "reference")
  assert np.isnan(without.threshold)


def test_extreme_scores_land_in_the_last_bar():
  scores = SAMPLES.scores["reference"].copy()
  scores[0] = 500.0
  extreme = SAMPLES._replace(scores={"a": scores})
  histogram = histograms.scores(extreme, "a")
  assert histogram.edges[-1] < 10
  np.testing.assert_allclose(histogram.members.sum(), 1.0)


@pytest.mark.parametrize("histogram", [histograms.losses, histograms.scores])
def test_samples_that_were_not_attacked_are_left_out(histogram):
  _, some = report_example.with_leave_one_out()
  part = SAMPLES.only("reference")
  first = part._replace(
    **{
      name: getattr(part, name)[:20] for name in ("index", "members", "labels", "loss")
    },
    scores={"leave_one_out": part.scores["reference"][:20]},
    thresholds={"leave_one_out": part.thresholds["reference"][:20]},
    p_values={"leave_one_out": part.p_values["reference"][:20]},
  )
  for actual, expected in zip(
    histogram(some, "leave_one_out"), histogram(first, "leave_one_out"), strict=True
  ):
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("largest", [20, 40.0, 500.0, 1e6, 1e15, 3e38, np.inf])
def test_bars_are_few_however_large_the_scores(largest):
  spread = SAMPLES.scores["reference"].astype(np.float64)
  scores = (spread / spread.max() * min(largest, 3e38)).astype(np.float32)
  scores[0] = largest
  samples = SAMPLES._replace(scores={"a": scores})
  histogram = histograms.scores(samples, "a")
  assert len(histogram.members) == 36
  assert (np.diff(histogram.edges) > 0).all()
  np.testing.assert_allclose(histogram.members.sum(), 1.0)
  np.testing.assert_allclose(histogram.nonmembers.sum(), 1.0)
  beyond = [(scores < histogram.edges[0]).any(), (scores > histogram.edges[-1]).any()]
  assert list(histogram.clips) == beyond
  assert histogram.clips[1]


def test_scores_of_a_narrow_range_keep_their_bars():
  scores = np.linspace(1.0, 1.0 + 1e-5, len(SAMPLES.members))
  histogram = histograms.scores(SAMPLES._replace(scores={"a": scores}), "a")
  assert (histogram.members + histogram.nonmembers > 0).all()


def test_negative_scores_that_crowd_at_zero_are_shown_by_their_powers_of_ten():
  rng = np.random.default_rng(0)
  loss = 10 ** rng.uniform(-8, 1, 1000)
  loss[:5] = 0
  samples = _small(loss, np.zeros(1000))._replace(scores={"a": -loss})
  found = histograms.scores(samples, "a")
  assert found.decades
  assert -1 < found.edges[0] < -0.9  # 10 ** 0.95
  assert found.edges[-1] > 7.5
  assert max(found.members) < 0.1  # not all in one bar
  np.testing.assert_allclose([found.members.sum(), found.nonmembers.sum()], 1)
  # Shares right of a score are those of the samples above it.
  at = np.argmin(np.abs(found.edges - 4))
  above = -loss[samples.members] >= -(10.0 ** -found.edges[at])
  np.testing.assert_allclose(found.members[at:].sum(), above.mean())
  spread = samples._replace(scores={"a": -rng.uniform(0, 9, 1000)})
  assert not histograms.scores(spread, "a").decades


def test_a_few_far_scores_do_not_squeeze_the_others_into_one_bar():
  rng = np.random.default_rng(0)
  score = rng.uniform(0.5, 0.51, 1000)
  score[:20] = np.linspace(0, 0.4, 20)
  samples = _small(np.ones(1000), np.zeros(1000))._replace(scores={"a": score})
  found = histograms.scores(samples, "a")
  assert 0.49 < found.edges[0] < found.edges[-1] < 0.52
  assert found.clips == (True, True)
  assert max(found.members) < 0.1
  right = (np.arange(1000) < 980).astype(float)  # of two values both are shown
  found = histograms.scores(samples._replace(scores={"a": right}), "a")
  assert (found.edges[0], found.edges[-1]) == (0, 1)
