"""Lower bounds on epsilon: known numbers, oracles, and their level by simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from jmia.stats import epsilon, one_run


def test_exchanging_a_row_by_hand():
  found = epsilon.exchanged(1.0, 1e-5)
  np.testing.assert_allclose(found, (2.0, (1 + math.e) * 1e-5))
  # exp(2 eps) = 4 at delta 0: of 10 % false positives at most 40 % true ones.
  curve = epsilon.exchange_curve(0.0)
  np.testing.assert_allclose(curve(math.log(2), np.array([0.1])), [0.4])


def test_the_curve_bounds_both_kinds_of_error():
  curve = epsilon.epsilon_curve(0.01)
  u = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
  found = curve(math.log(3), u)
  expected = [min(1, 3 * v + 0.01, 1 - (0.99 - v) / 3) for v in u]
  np.testing.assert_allclose(found, np.minimum(expected, 1))
  assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_the_epsilon_of_a_gaussian_inverts_its_delta(mu):
  delta = 1e-5

  def excess(eps):
    below = stats.norm.cdf(-eps / mu + mu / 2)
    return below - math.exp(eps) * stats.norm.cdf(-eps / mu - mu / 2) - delta

  expected = optimize.brentq(excess, 0, 100)
  found = epsilon.gaussian_epsilon(mu, delta)
  np.testing.assert_allclose(found, expected, rtol=1e-3)
  assert epsilon.gaussian_epsilon(0.0, delta) == 0
  assert epsilon.gaussian_epsilon(mu, 0.0) == math.inf


def test_a_tests_p_value_is_the_integral_over_the_thresholds_rate():
  test = epsilon._Test(hits=30, num=60, rank=5, num_null=100)
  curve = lambda u: np.minimum(1, 2.0 * u)  # noqa: E731

  def integrand(u):
    return stats.beta(5, 96).pdf(u) * stats.binom(60, curve(u)).sf(29)

  expected, _ = integrate.quad(integrand, 0, 0.5, points=[0.1, 0.2, 0.3])
  found = epsilon._p_value(test, curve)
  assert expected <= found <= 1.05 * expected


def test_hits_are_counted_above_the_thresholds_ties_to_the_safe_side():
  member, other = np.array([3.0, 2.0, 2.0, 1.0]), np.array([2.0, 1.0, 0.0, 0.0])
  tests = epsilon._tests(member, other)
  # Ranks 1 and 2 of four, in both directions.
  assert tests == [
    epsilon._Test(1, 4, 1, 4),  # above 2: one
    epsilon._Test(3, 4, 2, 4),  # above 1: three
    epsilon._Test(2, 4, 1, 4),  # others below the lowest member, 1: two
    epsilon._Test(3, 4, 2, 4),  # below the second lowest, 2: three
  ]


@pytest.mark.parametrize("num_attacks", [1, 6])
def test_at_a_true_epsilon_of_zero_little_is_claimed(num_attacks):
  """Selection of the attack included; scores with ties half of the time."""
  trials, above = 300, 0
  for seed in range(trials):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_attacks, 160))
    scores = np.round(scores) if seed % 2 else scores
    members = rng.permutation(160) < 80
    above += epsilon.epsilon_lower(scores, members).exchange > 0
  assert above / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_the_bound_of_a_gaussian_lies_below_its_truth_and_comes_near():
  mu, trials, bounds = 1.5, 60, []
  for seed in range(trials):
    rng = np.random.default_rng(seed)
    member, other = rng.normal(mu, 1, 1000), rng.normal(0, 1, 1000)
    bounds.append(epsilon.lower_bound(member, other, epsilon.gaussian_curve()))
  bounds = np.array(bounds)
  assert (bounds > mu).mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)
  assert bounds.mean() > 0.8 * mu


def test_a_strong_attack_proves_more_of_an_exchange_than_of_one_row():
  rng = np.random.default_rng(0)
  members = np.arange(400) < 200
  scores = rng.normal(3.0 * members, 1)
  found = epsilon.epsilon_lower(scores, members)
  assert found.exchange > 2
  np.testing.assert_allclose(found.add_remove, found.exchange / 2, atol=2e-3)
  # Turned round it proves as much: who is surely no member tells as well.
  again = epsilon.epsilon_lower(-scores, ~members)
  np.testing.assert_allclose(again.exchange, found.exchange, atol=0.5)
  paid = epsilon.epsilon_lower(np.stack([scores, rng.normal(size=400)]), members)
  assert 0 < paid.exchange <= found.exchange
  assert epsilon.epsilon_lower(scores, members, delta=0.1).exchange < found.exchange


def test_a_claimed_curve_is_tested():
  rng = np.random.default_rng(0)
  member, other = rng.normal(2, 1, 500), rng.normal(0, 1, 500)
  weak, strong = (
    epsilon.profile_curve(np.array([e, 2 * e]), np.array([0.05, 0.0])) for e in (0.5, 9)
  )
  assert epsilon.p_value(member, other, weak) < 1e-6
  assert epsilon.p_value(member, other, strong) == 1


def test_the_verdict_is_a_sentence():
  assert epsilon.verdict(1.0, 2.0).startswith("Contradicted at 95 %: epsilon is claim")
  assert epsilon.verdict(8.0, 1.5).startswith("Consistent: epsilon is claimed to be at")


@pytest.mark.parametrize(
  ("num", "right", "expected"),
  [(100, 100, 3.49), (100, 95, 2.17), (100, 90, 1.63), (20, 20, 1.82)],
)
def test_one_run_gives_the_known_bounds(num, right, expected):
  guesses = one_run.Guesses(num, right)
  found = epsilon.largest(
    lambda eps: one_run.p_value(guesses, 1000, epsilon=eps) <= 0.05
  )
  np.testing.assert_allclose(found, expected, atol=0.01)


def test_one_runs_p_value_against_its_formula():
  num, right, m, delta, eps = 40, 35, 60, 1e-3, 0.7
  q = math.exp(eps) / (1 + math.exp(eps))
  b = [stats.binom(num, q).sf(v - 1) for v in range(right + 1)]
  steepest = max((b[right - i] - b[right]) / i for i in range(1, right + 1))
  expected = b[right] + 2 * m * delta * steepest
  found = one_run.p_value(one_run.Guesses(num, right), m, epsilon=eps, delta=delta)
  np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_guesses_are_counted_from_both_ends():
  scores = np.arange(32.0)
  is_in = np.arange(32) >= 16
  is_in[[31, 0]] = [False, True]
  assert one_run.guess(scores, is_in) == [
    (16, 15), (32, 30), (8, 7), (16, 14),
  ]  # fmt: skip


@pytest.mark.parametrize("true_epsilon", [0.0, 1.0])
def test_one_run_keeps_its_level(true_epsilon):
  """Canaries that randomised response with that epsilon gives away."""
  trials, above, q = 200, 0, 1 / (1 + math.exp(-true_epsilon))
  for seed in range(trials):
    rng = np.random.default_rng(seed)
    is_in = rng.random(200) < 0.5
    told = np.where(rng.random(200) < q, is_in, ~is_in)
    above += one_run.lower_bound(told.astype(float), is_in) > true_epsilon
  assert above / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_one_runs_gaussian_bound_is_below_the_truth_of_a_gaussian():
  delta, mu = 1e-5, 1.0
  truth = epsilon.gaussian_epsilon(mu, delta)
  found = []
  for seed in range(3):
    rng = np.random.default_rng(seed)
    is_in = rng.random(400) < 0.5
    scores = rng.normal(mu * is_in, 1)
    found.append(one_run.lower_bound_gaussian(scores, is_in, delta=delta))
  assert (np.array(found) <= truth).all()
  assert np.mean(found) > 0.1


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: epsilon.epsilon_lower(np.zeros(3), np.ones(2, bool)), "members has shape"),
    (lambda: epsilon.epsilon_lower(np.zeros(2), np.zeros(2)), "members has dtype"),
    (
      lambda: epsilon.epsilon_lower(np.array([0, np.nan]), np.array([True, False])),
      "holds 1 NaN",
    ),
    (
      lambda: epsilon.epsilon_lower(np.zeros(2), np.array([True, False]), delta=1.0),
      "delta=1.0 must be in",
    ),
    (lambda: epsilon.gaussian_epsilon(-1.0, 0.1), "mu=-1.0 must be at least 0"),
    (
      lambda: one_run.p_value(one_run.Guesses(3, 4), 10, epsilon=1.0),
      "guesses=3 with 4 right",
    ),
    (lambda: one_run.lower_bound(np.zeros(2), np.zeros(2)), "is_in has dtype"),
    (
      lambda: one_run.p_value(one_run.Guesses(10, 8), 10, epsilon=-3.0),
      "epsilon=-3.0 must be at least 0",
    ),
    (
      lambda: one_run.lower_bound_gaussian(
        np.zeros(2), np.ones(2, bool), delta=1e-5, confidence=0.3
      ),
      "confidence=0.3 must lie in",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
