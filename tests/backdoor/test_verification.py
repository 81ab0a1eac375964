import itertools

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from jmia.backdoor import verification

CLASSES = (2, 10, 30, 100)
QUERIES = (5, 10, 20, 30, 50, 100, 200)


def _criterion(asr, num_queries, baseline, confidence):
  """Theorem 1: the claim is made where this is positive."""
  t = stats.t.ppf(confidence, num_queries - 1)
  return np.sqrt(num_queries - 1) * (asr - baseline) - np.sqrt(asr - asr**2) * t


@pytest.mark.parametrize(
  ("num_classes", "printed"), [(10, 23.35), (30, 14.42), (100, 10.79)]
)
def test_asr_thresholds_of_the_paper(num_classes, printed):
  baseline = 1 / num_classes
  root = optimize.brentq(_criterion, baseline, 0.9, args=(30, baseline, 0.95))
  threshold = verification.asr_threshold(30, baseline, 0.95)
  assert threshold == pytest.approx(root, rel=1e-9)
  assert round(100 * threshold, 2) == printed


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_threshold_is_where_the_criterion_changes_sign(confidence):
  for m, k in itertools.product(QUERIES, CLASSES):
    threshold = verification.asr_threshold(m, 1 / k, confidence)
    assert _criterion(threshold + 1e-9, m, 1 / k, confidence) > 0
    assert _criterion(threshold - 1e-9, m, 1 / k, confidence) < 0


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_t_test_is_the_theorems_criterion_at_every_count(confidence):
  for m, k in itertools.product((2, *QUERIES), CLASSES):
    counts = np.arange(m + 1)
    result = verification.verify(counts, m, 1 / k, confidence)
    asr = counts / m
    expected = _criterion(asr, m, 1 / k, confidence) > 0
    np.testing.assert_array_equal(result.rejected_t, expected)
    threshold = verification.asr_threshold(m, 1 / k, confidence)
    np.testing.assert_array_equal(result.rejected_t, asr > threshold)
    # The limits: no success is never a claim, and all successes always are.
    assert not expected[0]
    assert expected[-1]


def test_verdict_by_hand():
  result = verification.verify(np.array([0, 6, 7, 30]), 30, 0.1)
  np.testing.assert_allclose(result.asr, [0, 0.2, 7 / 30, 1])
  # s^2 = 0.2 0.8 30 / 29.
  assert result.t_statistic[1] == pytest.approx(0.1 * np.sqrt(29 / 0.16))
  assert result.t_statistic[[0, 3]].tolist() == [-np.inf, np.inf]
  assert result.p_value[[0, 3]].tolist() == [1, 0]
  assert result.p_value_exact[[0, 3]] == pytest.approx([1, 1e-30])
  # 7 of 30 are 23.33 %, below the paper's 23.35 %, but enough for the exact test.
  assert result.rejected_t.tolist() == [False, False, False, True]
  assert result.rejected.tolist() == [False, False, True, True]


def test_a_measured_baseline_for_each_owner():
  successes, baseline = np.array([[3, 9], [12, 12]]), np.array([0.1, 0.3])
  result = verification.verify(successes, 30, baseline)
  for model, owner in np.ndindex(2, 2):
    expected = stats.binomtest(
      int(successes[model, owner]), 30, baseline[owner], "greater"
    )
    assert result.p_value_exact[model, owner] == pytest.approx(expected.pvalue)
  assert all(field.shape == (2, 2) for field in result)
  assert all(field.shape == (2,) for field in verification.verify(3, 30, baseline))
  assert all(np.shape(field) == () for field in verification.verify(3, 30, 0.1))


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_level_by_enumeration_and_by_simulation(level):
  """The exact test keeps its level everywhere; the t-test does not."""
  rng = np.random.default_rng(0)
  num_trials = 100_000
  sizes = {}
  for k, m in itertools.product(CLASSES, QUERIES):
    pmf = stats.binom.pmf(np.arange(m + 1), m, 1 / k)
    every = verification.verify(np.arange(m + 1), m, 1 / k, 1 - level)
    drawn = verification.verify(rng.binomial(m, 1 / k, num_trials), m, 1 / k, 1 - level)
    assert pmf[every.rejected].sum() <= level
    for test in ("rejected", "rejected_t"):
      sizes[test, k, m] = size = pmf[getattr(every, test)].sum()
      simulated = getattr(drawn, test).mean()
      # Five standard deviations, and two claims where hardly any are expected.
      slack = 5 * np.sqrt(size / num_trials) + 2 / num_trials
      assert abs(simulated - size) <= slack, (test, k, m)
  # What the module's description says of the t-test.
  liberal = {(k, m) for test, k, m in sizes if sizes["rejected_t", k, m] > level}
  assert (
    liberal
    == {
      0.05: {(2, 10), (2, 20), (2, 50), (2, 200)},
      0.01: {(2, 5), (2, 10), (2, 100)},
    }[level]
  )
  if level == 0.05:
    assert sizes["rejected_t", 10, 30] == pytest.approx(0.0078, abs=5e-5)
    assert sizes["rejected", 10, 30] == pytest.approx(0.0258, abs=5e-5)


def test_t_test_accuses_most_clean_models_at_a_high_baseline():
  pmf = stats.binom.pmf(np.arange(6), 5, 0.9)
  assert pmf[verification.verify(np.arange(6), 5, 0.9).rejected_t].sum() > 0.5


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_level_holds_for_queries_drawn_from_a_finite_set(level):
  """Given a model and the held-out rows, the count is hypergeometric."""
  for k, m, size in itertools.product(CLASSES, (5, 30, 50), (60, 200, 1000)):
    of_target = size // k
    needed = verification.critical_successes(m, 1 / k, 1 - level)
    assert stats.hypergeom.sf(needed - 1, size, of_target, m) <= level


def test_critical_count_is_the_least_that_the_exact_test_accepts():
  for k, confidence in itertools.product(CLASSES, (0.9, 0.95, 0.999)):
    m = np.arange(2, 80)
    critical = verification.critical_successes(m, 1 / k, confidence)
    for queries, count in zip(m, critical, strict=True):
      result = verification.verify(np.arange(queries + 1), queries, 1 / k, confidence)
      claims = np.flatnonzero(result.rejected)
      assert count == (claims[0] if claims.size else queries + 1)
  assert verification.critical_successes(4, 0.5) == 5
  assert verification.critical_successes(1, 0.01) == 1


def test_queries_are_uniform_subsets_of_the_eligible():
  eligible = np.array([0, 1, 1, 0, 1, 1, 1], bool)
  num_draws = 20_000
  queries = verification.draw_queries(jax.random.key(0), eligible, 3, num_draws)
  assert queries.shape == (num_draws, 3)
  subsets, count = np.unique(np.sort(queries), axis=0, return_counts=True)
  expected = list(itertools.combinations(np.flatnonzero(eligible), 3))
  assert subsets.tolist() == [list(subset) for subset in expected]
  assert stats.chisquare(count).pvalue > 0.001


def test_owners_draw_from_their_own_rows_and_on_their_own():
  eligible = np.random.default_rng(0).random((2, 3, 50)) < 0.7
  eligible[1, 2] = np.arange(50) < 8
  key = jax.random.key(1)
  queries = np.asarray(verification.draw_queries(key, eligible, 8, 5))
  assert queries.shape == (2, 3, 5, 8)
  assert queries.dtype == np.int32
  for owner in np.ndindex(2, 3):
    assert eligible[owner][queries[owner]].all()
    assert all(len(set(draw)) == 8 for draw in queries[owner].tolist())
  assert (np.sort(queries[1, 2]) == np.arange(8)).all()
  other = eligible.copy()
  other[0, 1] = ~other[0, 1]
  moved = np.asarray(verification.draw_queries(key, other, 8, 7))
  changed = (moved[:, :, :5] != queries).any(axis=(2, 3))
  assert changed.tolist() == [[False, True, False], [False, False, False]]


def test_successes_equal_a_naive_count():
  rng = np.random.default_rng(2)
  predicted = rng.integers(0, 4, (6, 3, 40))  # models x owners
  eligible = rng.random((3, 40)) < 0.8
  target_label = np.array([1, 3, 0])
  queries = verification.draw_queries(jax.random.key(0), eligible, 10, 5)
  count = verification.count_successes(predicted, queries, target_label)
  assert count.shape == (6, 3, 5)
  for model, owner, draw in np.ndindex(6, 3, 5):
    answers = predicted[model, owner][np.asarray(queries)[owner, draw]]
    assert count[model, owner, draw] == (answers == target_label[owner]).sum()
  one = verification.count_successes(predicted[0, 0], queries[0], target_label[0])
  np.testing.assert_array_equal(one, count[0, 0])


def test_claims_from_drawn_queries_of_clean_models_keep_the_level():
  """From predictions to claims: 400 models that answer at the baseline exactly."""
  rng = np.random.default_rng(3)
  predicted = rng.integers(0, 10, (400, 2000)).astype(np.int32)
  eligible = np.ones(2000, bool)
  queries = verification.draw_queries(jax.random.key(4), eligible, 30, 50)
  count = verification.count_successes(predicted, queries, np.int32(1))
  claims = verification.verify(count, 30, 0.1).rejected
  # 7 or more of 30 have a chance of 2.58 %. Draws of one model overlap, models do not.
  of_model = claims.mean(axis=1)
  error = of_model.std(ddof=1) / np.sqrt(len(of_model))
  assert abs(of_model.mean() - 0.0258) < 4 * error
  assert of_model.mean() < 0.05


def test_nothing_is_compiled_twice():
  eligible, labels = np.ones((2, 31), bool), np.array([0, 1])
  predicted = np.zeros((3, 2, 31), np.int32)
  keys = [jax.random.key(i) for i in range(3)]
  compiled = []

  def listen(name, *unused, **also_unused):
    if "backend_compile" in name:
      compiled.append(name)

  def once(key):
    queries = verification.draw_queries(key, eligible, 5, 4)
    verification.count_successes(predicted, queries, labels)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    once(keys[0])
    assert compiled
    compiled.clear()
    for key in keys:
      once(key)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert not compiled


def test_errors_of_the_tests():
  for confidence in (0, 1):
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      verification.verify(1, 30, 0.1, confidence)
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      verification.critical_successes(30, 0.1, confidence)
  with pytest.raises(ValueError, match="trials=1 must be at least 2"):
    verification.verify(1, 1, 0.1)
  with pytest.raises(ValueError, match="successes holds counts from 31"):
    verification.verify(31, 30, 0.1)
  with pytest.raises(ValueError, match=r"rate=1.0 must lie in \(0, 1\)"):
    verification.verify(1, 30, 1.0)
  with pytest.raises(ValueError, match="num_queries=1 must be at least 2"):
    verification.asr_threshold(1, 0.1)
  for confidence in (0.4, 1):
    with pytest.raises(ValueError, match=rf"confidence={confidence} must .* \[0.5, 1"):
      verification.asr_threshold(30, 0.1, confidence)
  for call in (verification.asr_threshold, verification.critical_successes):
    with pytest.raises(ValueError, match="baseline=0 must lie in"):
      call(30, 0)
  with pytest.raises(ValueError, match="num_queries=0 must be at least 1"):
    verification.critical_successes(0, 0.1)


def test_errors_of_the_draws():
  key, eligible = jax.random.key(0), np.array([[1, 1, 1], [1, 0, 1]], bool)
  with pytest.raises(ValueError, match="num_queries=3 is above the 2 samples"):
    verification.draw_queries(key, eligible, 3, 1)
  with pytest.raises(ValueError, match="num_queries=0 must be"):
    verification.draw_queries(key, eligible, 0, 1)
  with pytest.raises(ValueError, match="num_draws=0 must be"):
    verification.draw_queries(key, eligible, 1, 0)
  for bad in (eligible.astype(int), np.True_):
    with pytest.raises(ValueError, match=r"eligible has dtype .* expected bool"):
      verification.draw_queries(key, bad, 1, 1)
