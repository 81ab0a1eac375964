import numpy as np
import pytest
import report_example

from jmia.report import samples as samples_lib

GOOD = report_example.samples(num=20)


def test_called_is_loss_at_or_under_the_threshold():
  small = GOOD._replace(
    loss=np.array([0.5, 1.0, 2.0], np.float32),
    thresholds={"a": np.array([1.0, 1.0, np.inf], np.float32)},
  )
  np.testing.assert_array_equal(small.called("a"), [True, True, True])
  shifted = small._replace(thresholds={"a": np.array([0.4, 0.9, -np.inf])})
  np.testing.assert_array_equal(shifted.called("a"), [False, False, False])


def test_good_samples_pass():
  samples_lib.check(GOOD, ["population", "reference"])


def _with_nan(name):
  array = GOOD.loss.copy()
  array[3] = np.nan
  return {"loss": array} if name == "loss" else {name: {"population": array}}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"labels": GOOD.labels[:-1]}, r"samples.labels has shape \(19,\)"),
    ({"index": GOOD.index[:, None]}, r"samples.index has shape \(20, 1\)"),
    ({"members": GOOD.members.astype(int)}, "samples.members has dtype int64"),
    ({"members": np.ones(20, bool)}, "samples.members marks 20 members among 20"),
    ({"members": np.zeros(20, bool)}, "samples.members marks 0 members among 20"),
    (_with_nan("loss"), "samples.loss holds 1 NaN"),
    (
      _with_nan("scores"),
      r"scores\['population'\] and .* different places, first at 3",
    ),
    (_with_nan("thresholds"), r"thresholds\['population'\] hold NaN in different"),
    (
      {"scores": {"population": np.full(20, np.inf, np.float32)}},
      r"samples.scores\['population'\] holds 20 NaN or infinite",
    ),
    ({"scores": {}}, "samples.scores lacks the attack 'population'"),
    ({"thresholds": {"x": GOOD.loss}}, r"samples.thresholds lacks .*has: x"),
    ({"scores": {"population": GOOD.loss[:2]}}, r"\['population'\] has shape \(2,\)"),
  ],
)
def test_what_does_not_fit_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    samples_lib.check(GOOD._replace(**changes), ["population"])


def _on(rows):
  """GOOD, with the attack "population" run on these rows alone."""
  left_out = ~np.isin(np.arange(20), rows)
  masked = {
    name: {"population": np.where(left_out, np.nan, arrays["population"])}
    for name, arrays in (("scores", GOOD.scores), ("thresholds", GOOD.thresholds))
  }
  return GOOD._replace(**masked)


def test_a_sample_without_score_and_threshold_was_not_attacked():
  some = _on([2, 3, 7])
  samples_lib.check(some, ["population"])
  assert np.flatnonzero(some.attacked("population")).tolist() == [2, 3, 7]
  part = some.only("population")
  np.testing.assert_array_equal(part.index, GOOD.index[[2, 3, 7]])
  np.testing.assert_array_equal(part.members, [True, False, False])
  np.testing.assert_array_equal(
    part.called("population"), GOOD.called("population")[[2, 3, 7]]
  )


def test_an_attack_on_one_kind_alone_is_refused():
  with pytest.raises(ValueError, match="'population' attacked 3 members among 3"):
    samples_lib.check(_on([0, 2, 4]), ["population"])
  with pytest.raises(ValueError, match="'population' attacked 0 members among 0"):
    samples_lib.check(_on([]), ["population"])
