import functools
import pathlib
import runpy

import jax
import numpy as np
import pytest
from scipy import special, stats

from jmia.stats import nulls

GOLDEN = runpy.run_path(
  str(pathlib.Path(__file__).with_name("privacy_meter_golden.py"))
)
SMOOTHED = ("empirical", "linear")


def _logit(loss):
  return -np.log(np.expm1(loss))


def _raw_p_value(null_losses, loss, method):
  """p_raw of one loss in float64, from its definition and SciPy."""
  ordered = np.sort(null_losses.astype(np.float64))
  loss, last = float(loss), len(ordered) - 1
  logits = _logit(ordered + 1e-6)
  if method == "empirical":
    return np.sum(ordered < loss) / last
  if method == "linear":
    return np.interp(loss, ordered, np.arange(last + 1)) / last
  if method == "gaussian":
    return stats.norm.cdf(loss, ordered.mean(), ordered.std())
  if method == "logit_gaussian":
    return stats.norm.sf(_logit(loss + 1e-6), logits.mean(), logits.std())
  both = [_raw_p_value(null_losses, loss, m) for m in ("linear", "logit_gaussian")]
  return max(both)


@pytest.mark.parametrize("method", nulls.METHODS)
def test_thresholds_equal_privacy_meters_golden_values(method):
  null = nulls.fit(GOLDEN["LOSSES"])
  actual = np.asarray(nulls.quantile(null, GOLDEN["ALPHA"], method))
  expected = np.array(GOLDEN["THRESHOLDS"][method])
  at_zero = 0.0 if "logit" in method else expected[0]  # privacy-meter's is NaN
  np.testing.assert_allclose(actual[0], at_zero, atol=1e-7)
  np.testing.assert_allclose(actual[1:], expected[1:], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("method", [m for m in nulls.METHODS if m != "empirical"])
def test_thresholds_equal_privacy_meter_live(method):
  pm = pytest.importorskip("privacy_meter.hypothesis_test")
  function = {
    "linear": pm.linear_itp_threshold_func,
    "gaussian": pm.gaussian_threshold_func,
    "logit_gaussian": pm.logit_rescale_threshold_func,
    "min_linear_logit": pm.min_linear_logit_threshold_func,
  }[method]
  losses = np.random.default_rng(0).gamma(0.5, 2.0, (101, 30)) + 1e-4
  alpha = np.linspace(0, 1, 33)
  actual = np.asarray(nulls.quantile(nulls.fit(losses), alpha, method))
  for n in range(30):
    with np.errstate(invalid="ignore"):  # its logit threshold at alpha = 0
      expected = function(losses[:, n].copy(), alpha)
    np.testing.assert_allclose(actual[1:, n], expected[1:], rtol=3e-5, atol=2e-6)
  # Its 2-D Gaussian has the tails swapped.
  levels = 1 - alpha if method == "gaussian" else alpha
  with np.errstate(invalid="ignore"):
    expected = function(losses.T.copy(), levels)
  # The ends of linear are the minimum and maximum over all samples there.
  np.testing.assert_allclose(actual[1:-1], expected[1:-1], rtol=3e-5, atol=2e-6)


def test_empirical_picks_numpys_order_statistic_at_every_level():
  # 100 levels of 101 losses: alpha * (n - 1) is an integer up to rounding, the worst
  # case for a rank computed in float32.
  losses = np.random.default_rng(1).random((101, 3)).astype(np.float32)
  alpha = np.arange(101) / 100
  actual = nulls.quantile(nulls.fit(losses), alpha, "empirical")
  np.testing.assert_array_equal(
    actual, np.quantile(losses, alpha, axis=0, method="lower")
  )


def test_p_values_by_hand():
  # Null losses 1, 2, 4, and a loss of 3: two are at most 3; the rank is 1 + 1/2.
  null = nulls.fit(np.array([[4.0], [1.0], [2.0]]))

  def p_value(loss, method):
    return float(
      np.exp(np.asarray(nulls.log_p_value(null, np.array([loss]), method)))[0]
    )

  assert p_value(3.0, "empirical") == pytest.approx(3 / 4)
  assert p_value(3.0, "linear") == pytest.approx((2 + 1.5) / 4)
  assert p_value(0.5, "empirical") == pytest.approx(1 / 4)
  assert p_value(0.5, "linear") == pytest.approx(1 / 4)
  assert p_value(2.0, "empirical") == pytest.approx(3 / 4)
  assert p_value(2.0, "linear") == pytest.approx(3 / 4)
  for method in SMOOTHED:
    assert p_value(4.0, method) == pytest.approx(1)
    assert p_value(9.0, method) == pytest.approx(1)
  # Mean 7/3, variance (16 + 1 + 25) / 27.
  z = (3 - 7 / 3) / np.sqrt(42 / 27)
  assert p_value(3.0, "gaussian") == pytest.approx(special.ndtr(z), rel=1e-6)


@pytest.mark.parametrize("method", nulls.METHODS)
def test_p_values_match_scipy_in_float64(method):
  rng = np.random.default_rng(2)
  null_losses = rng.gamma(1.0, 1.0, (40, 60)).astype(np.float32)
  loss = rng.gamma(0.7, 1.2, 60).astype(np.float32)
  actual = np.asarray(nulls.log_p_value(nulls.fit(null_losses), loss, method))
  raw = np.array([_raw_p_value(null_losses[:, n], loss[n], method) for n in range(60)])
  if method == "empirical":
    expected = (1 + raw * 39) / 41
  elif method == "linear":
    below_all = loss < null_losses.min(axis=0)
    assert 0 < below_all.sum() < 60
    expected = np.where(below_all, 1, 2 + raw * 39) / 41
  else:
    expected = raw
  np.testing.assert_allclose(actual, np.log(expected), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("method", nulls.METHODS)
def test_a_loss_is_under_the_threshold_exactly_if_p_raw_is_under_alpha(method):
  rng = np.random.default_rng(3)
  null_losses = rng.gamma(1.0, 1.0, (25, 200)).astype(np.float32)
  loss = rng.gamma(0.5, 1.0, 200).astype(np.float32)
  alpha = rng.uniform(0.001, 0.999, 50)
  thresholds = np.asarray(nulls.quantile(nulls.fit(null_losses), alpha, method))
  floor = 1e-6 if method == "logit_gaussian" else 0
  rejected = loss + floor <= thresholds
  raw = np.array([_raw_p_value(null_losses[:, n], loss[n], method) for n in range(200)])
  clear = np.abs(raw - alpha[:, None]) > 1e-5  # what float32 can tell apart
  assert clear.mean() > 0.99
  assert 0.05 < rejected.mean() < 0.95
  np.testing.assert_array_equal(rejected[clear], (raw <= alpha[:, None])[clear])


def test_p_values_of_min_linear_logit_are_the_larger_of_both():
  rng = np.random.default_rng(4)
  losses = rng.gamma(1.0, 1.0, (30, 500)).astype(np.float32)
  null = nulls.fit(losses)
  loss = rng.gamma(0.3, 1.0, 500).astype(np.float32)
  both = np.asarray(nulls.log_p_value(null, loss, "min_linear_logit"))
  logit = np.asarray(nulls.log_p_value(null, loss, "logit_gaussian"))
  below_all = loss < losses.min(axis=0)
  # Below all null losses the interpolation says 0, and the Gaussian tail ranks.
  assert below_all.sum() > 50
  np.testing.assert_array_equal(both[below_all], logit[below_all])
  assert (both >= logit).all()
  assert (both > logit).any()


@pytest.mark.parametrize("method", nulls.METHODS)
def test_masked_losses_are_as_absent(method):
  rng = np.random.default_rng(5)
  losses = rng.gamma(1.0, 1.0, (20, 15)).astype(np.float32)
  valid = rng.random((20, 15)) < 0.6
  loss = rng.gamma(1.0, 1.0, 15).astype(np.float32)
  alpha = np.array([0.0, 0.01, 0.3, 0.9, 1.0])
  masked = nulls.fit(np.where(valid, losses, 77.0), valid)
  dropped = nulls.fit_groups([losses[valid[:, n], n] for n in range(15)])
  np.testing.assert_array_equal(masked.num_losses, dropped.num_losses)
  for function, argument in ((nulls.quantile, alpha), (nulls.log_p_value, loss)):
    actual = function(masked, argument, method)
    expected = function(dropped, argument, method)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_groups_of_any_size_equal_columns():
  rng = np.random.default_rng(6)
  groups = [rng.gamma(1.0, 1.0, size).astype(np.float32) for size in (2, 9, 300)]
  null = nulls.select(nulls.fit_groups(groups), np.array([2, 0, 1, 2]))
  loss = np.array([0.4, 1.0, 2.0, 0.1], np.float32)
  actual = np.asarray(nulls.log_p_value(null, loss, "empirical"))
  for n, group in enumerate([2, 0, 1, 2]):
    expected = (1 + np.sum(groups[group] <= loss[n])) / (1 + len(groups[group]))
    np.testing.assert_allclose(actual[n], np.log(expected), rtol=1e-6)


@pytest.mark.parametrize("method", SMOOTHED)
@pytest.mark.parametrize("digits", [None, 1])
def test_smoothed_p_values_are_super_uniform_under_exchangeability(method, digits):
  rng = np.random.default_rng(7)
  num_trials, num_references = 40_000, 9
  draws = rng.gamma(1.0, 1.0, (num_references + 1, num_trials))
  draws = draws if digits is None else draws.round(digits)  # heavy ties
  null = nulls.fit(draws[1:].astype(np.float32))
  p = np.exp(np.asarray(nulls.log_p_value(null, draws[0], method)))
  levels = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 0.95])
  rates = np.array([(p <= level + 1e-6).mean() for level in levels])
  slack = 4 * np.sqrt(levels * (1 - levels) / num_trials)
  assert (rates <= levels + slack).all(), rates
  if method == "empirical" and digits is None:
    # Exact, not only valid: p takes the values 1/10, .., 10/10 equally often.
    exact = np.floor(levels * 10 + 1e-9) / 10
    assert (np.abs(rates - exact) <= slack).all(), rates


def test_gaussian_thresholds_keep_their_level_where_the_null_is_gaussian():
  rng = np.random.default_rng(8)
  num_references, num_trials = 200, 10_000
  draws = rng.normal(5.0, 1.0, (num_references + 1, num_trials)).astype(np.float32)
  alpha = np.array([0.01, 0.05, 0.3])
  for method in ("gaussian", "linear"):
    thresholds = np.asarray(nulls.quantile(nulls.fit(draws[1:]), alpha, method))
    rates = (draws[0] <= thresholds).mean(axis=1)
    # An estimated quantile overshoots by O(1/R): at most 1.5 / R here.
    slack = 4 * np.sqrt(alpha * (1 - alpha) / num_trials) + 1.5 / num_references
    assert (np.abs(rates - alpha) <= slack).all(), (method, rates)


def test_far_tails_keep_their_order_and_match_scipy():
  null = nulls.fit(np.random.default_rng(9).normal(10.0, 1.0, (50, 1)))
  loss = np.array([[8.0], [5.0], [0.0], [-30.0], [12.0]], np.float32)
  actual = np.asarray(nulls.log_p_value(null, loss, "gaussian"))[:, 0]
  z = (loss[:, 0].astype(float) - float(null.mean[0])) / float(null.std[0])
  np.testing.assert_allclose(actual, special.log_ndtr(z), rtol=1e-5)
  assert actual[3] < actual[2] < -40


@pytest.mark.parametrize("method", ["logit_gaussian", "min_linear_logit"])
@pytest.mark.parametrize("scale", [1e-4, 1e-9, 1e-12, 1e-18])
def test_losses_far_below_the_floor_keep_their_order(method, scale):
  """Of well-fitted samples: the p-values are those of float64, and none tie."""
  rng = np.random.default_rng(12)
  losses = (scale * rng.gamma(2.0, 1.0, (16, 500))).astype(np.float32)
  loss = (scale * 0.01 * rng.gamma(1.0, 1.0, 500)).astype(np.float32)
  below_all = loss < losses.min(axis=0)
  assert below_all.mean() > 0.9
  # As a float64 logit, relative to the floor's, which it hardly differs from.
  wide = np.log1p(np.expm1(losses.astype(float)) / -np.expm1(-1e-6))
  one = np.log1p(np.expm1(loss.astype(float)) / -np.expm1(-1e-6))
  expected = special.log_ndtr((one - wide.mean(axis=0)) / wide.std(axis=0))
  groups = nulls.fit_groups(list(losses.T), method=method)
  for null in (nulls.fit(losses, method=method), groups):
    actual = np.asarray(nulls.log_p_value(null, loss, method))
    np.testing.assert_allclose(actual[below_all], expected[below_all], rtol=1e-4)
    ascending = np.sort(loss)
    of_one = np.asarray(
      nulls.log_p_value(nulls.select(null, np.zeros(500, int)), ascending, method)
    )
    assert (np.diff(of_one) >= 0).all()
    assert len(np.unique(actual)) > 490


@pytest.mark.parametrize("method", nulls.METHODS)
@pytest.mark.parametrize("level", [0.0, 0.3, 1e4])
def test_equal_null_losses_give_finite_thresholds_and_ordered_p_values(method, level):
  null = nulls.fit(np.full((8, 1), level))
  alpha = np.array([0.01, 0.5, 0.99])
  assert np.isfinite(nulls.quantile(null, alpha, method)).all()
  loss = np.array([[level / 2], [level], [level * 2 + 1]], np.float32)
  log_p = np.asarray(nulls.log_p_value(null, loss, method))[:, 0]
  assert np.isfinite(log_p).all()
  assert (np.diff(log_p) >= 0).all()


def test_moments_of_many_nearly_equal_losses_lose_nothing():
  losses = 100 + np.random.default_rng(10).normal(0, 0.01, (100_000, 1))
  losses = losses.astype(np.float32)
  for null in (nulls.fit(losses), nulls.fit_groups([losses[:, 0]])):
    exact = losses.astype(np.float64)
    np.testing.assert_allclose(null.mean[0], exact.mean(), rtol=1e-7)
    np.testing.assert_allclose(null.std[0], exact.std(), rtol=1e-3)


@pytest.mark.parametrize("method", ["gaussian", "min_linear_logit"])
def test_jit_and_leading_axes_change_nothing(method):
  rng = np.random.default_rng(11)
  null = nulls.fit(rng.gamma(1.0, 1.0, (12, 5)).astype(np.float32))
  loss = rng.gamma(1.0, 1.0, (2, 3, 5)).astype(np.float32)
  batched = np.asarray(nulls.log_p_value(null, loss, method))
  assert batched.shape == (2, 3, 5)
  assert batched.dtype == np.float32
  for i in range(2):
    for j in range(3):
      one = nulls.log_p_value(null, loss[i, j], method)
      np.testing.assert_allclose(batched[i, j], one, rtol=1e-6, atol=1e-7)
  with jax.disable_jit():
    eager = nulls.log_p_value(null, loss, method)
    thresholds = nulls.quantile(null, np.array([0.1, 0.7]), method)
  np.testing.assert_allclose(batched, eager, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    nulls.quantile(null, np.array([0.1, 0.7]), method), thresholds, rtol=1e-5
  )


@pytest.mark.parametrize("method", nulls.METHODS)
def test_a_null_fitted_for_a_method_serves_it_and_refuses_what_it_lacks(method):
  losses = np.random.default_rng(13).gamma(1.0, 1.0, (12, 5)).astype(np.float32)
  loss, alpha = losses[3] / 2, np.array([0.1, 0.7])
  fitted = [nulls.fit(losses, method=method), nulls.fit_groups(losses.T, method=method)]
  whole = nulls.fit(losses)
  for null in fitted:
    np.testing.assert_allclose(
      nulls.quantile(null, alpha, method),
      nulls.quantile(whole, alpha, method),
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      nulls.log_p_value(null, loss, method),
      nulls.log_p_value(whole, loss, method),
      rtol=1e-5,
    )
    other = "linear" if "gaussian" in method else "gaussian"
    with pytest.raises(ValueError, match=f"fitted for another method than '{other}'"):
      nulls.quantile(null, alpha, other)
    with pytest.raises(ValueError, match=f"fitted for another method than '{other}'"):
      nulls.log_p_value(null, loss, other)


def test_device_sort_equals_host_sort(monkeypatch):
  rng = np.random.default_rng(12)
  losses = rng.gamma(1.0, 1.0, (9, 4)).astype(np.float32)
  valid = rng.random((9, 4)) < 0.8
  groups = [losses[:, 0], losses[:5, 1], losses[2:, 2]]
  on_host = nulls.fit(losses, valid), nulls.fit_groups(groups)
  monkeypatch.setattr(nulls, "_on_host", lambda: False)
  on_device = nulls.fit(losses, valid), nulls.fit_groups(groups)
  for host, device in zip(on_host, on_device, strict=True):
    for a, b in zip(host, device, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-6)


def test_errors():
  losses = np.ones((3, 2))
  valid = np.array([[True, True], [True, False], [True, False]])
  fit = functools.partial(nulls.fit, losses)
  with pytest.raises(ValueError, match=r"1 of 2 columns .* first column 1, .* has 1"):
    fit(valid)
  with pytest.raises(ValueError, match=r"valid has shape \(2, 2\)"):
    fit(valid[:2])
  with pytest.raises(ValueError, match="loss_floor=0 must be"):
    fit(loss_floor=0)
  with pytest.raises(ValueError, match="unknown method 'normal'"):
    fit(method="normal")
  with pytest.raises(ValueError, match="std_floor=-1 must be"):
    fit(std_floor=-1)
  with pytest.raises(ValueError, match=r"losses has shape \(3,\)"):
    nulls.fit(np.ones(3))
  with pytest.raises(ValueError, match=r"groups has shape \(3, 2\)"):
    nulls.fit_groups([losses])
  with pytest.raises(ValueError, match=r"1 of 2 columns .* first column 1, .* has 1"):
    nulls.fit_groups([np.ones(4), np.ones(1)])
  with pytest.raises(ValueError, match="loss_floor=0 must be"):
    nulls.fit_groups([np.ones(4)], loss_floor=0)
  with pytest.raises(ValueError, match="std_floor=0 must be"):
    nulls.fit_groups([np.ones(4)], std_floor=0)
  null = fit()
  with pytest.raises(ValueError, match="unknown method 'linaer'; did you mean 'linear"):
    nulls.quantile(null, np.array([0.1]), "linaer")
  with pytest.raises(ValueError, match="unknown method"):
    nulls.log_p_value(null, np.ones(2), "kernel")
  for alpha in (np.array([0.1, 1.5]), np.array([-0.1]), np.array([np.nan])):
    with pytest.raises(ValueError, match=r"alpha=.* must lie in \[0, 1\]"):
      nulls.quantile(null, alpha, "linear")
  with pytest.raises(ValueError, match=r"alpha has shape \(\)"):
    nulls.quantile(null, np.float64(0.1), "linear")


def test_losses_that_differ_by_less_than_the_least_float_have_a_rank():
  """As answers with noise give: probabilities of one but for 1e-38."""
  from jmia.attacks import population

  losses = np.array([2.2e-38, 3.0e-38, 3.8e-38, 0.1], np.float32)
  scores = population.score(losses, np.array([2.1e-38, 2.9e-38, 4.1e-38, 0.2, 0.3]))
  assert np.isfinite(scores).all()
  assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("loss", [1e-3, 0.1053605, 2.302585, 9.21034])
def test_a_loss_that_all_have_is_no_surprise(loss):
  groups = [np.full(size, loss, np.float32) for size in (3, 50, 1000)]
  of_group = nulls.fit_groups(groups, method="logit_gaussian")
  of_column = nulls.fit(groups[1][:, None], method="logit_gaussian")
  for null, number in ((of_group, 3), (of_column, 1)):
    target = np.full(number, loss, np.float32)
    p = np.exp(nulls.log_p_value(null, target, "logit_gaussian"))
    np.testing.assert_allclose(p, 0.5, atol=0.05)
