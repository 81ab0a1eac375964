import mpmath
import numpy as np
import pytest
import reference_example
from scipy import special, stats

from jmia.attacks import _references, bavaria, lira
from jmia.stats import roc

mpmath.mp.dps = 50


def test_scores_match_the_posterior_predictive_by_loops():
  phi, references, held, _ = reference_example.draw(0, (9,), num_models=6)
  online = bavaria.score_online(phi, references, held, ~held)
  offline = bavaria.score_offline(phi, references, ~held)
  fitted = bavaria.fit_prior(_references.moments(references, ~held))
  posterior_mean = np.empty(9)
  predictive = {}
  for kind, mask in (("out", ~held), ("in", held)):
    if kind == "in":
      fitted = bavaria.fit_prior(_references.moments(references, held), posterior_mean)
    for n in range(9):
      values = references[mask[:, n], n]
      num, mean = len(values), sum(values) / len(values)
      squares = sum((value - mean) ** 2 for value in values)
      m = np.broadcast_to(fitted.mean, 9)[n]
      kappa = fitted.kappa + num
      alpha = fitted.alpha + num / 2
      beta = fitted.beta + squares / 2
      beta += fitted.kappa * num * (mean - m) ** 2 / (2 * kappa)
      centre = (fitted.kappa * m + num * mean) / kappa
      scale = np.sqrt(beta * (kappa + 1) / (alpha * kappa))
      predictive[kind, n] = stats.t(2 * alpha, centre, scale)
      if kind == "out":
        posterior_mean[n] = centre
  for n in range(9):
    log_in, log_out = (predictive[kind, n].logpdf(phi[n]) for kind in ("in", "out"))
    np.testing.assert_allclose(online[n], log_in - log_out, rtol=1e-9)
    np.testing.assert_allclose(
      offline[n], -np.log(predictive["out", n].sf(phi[n])), rtol=1e-9
    )


def test_the_predictive_is_the_integral_over_mean_and_variance():
  normal = bavaria.Normal(*map(np.array, (1.0, 2.0, 3.0, 4.0)))

  variance, mean = np.geomspace(1e-2, 1e3, 800)[:, None], np.linspace(-40, 42, 4001)
  prior = stats.invgamma(3.0, scale=4.0).pdf(variance)
  prior = prior * stats.norm(1.0, np.sqrt(variance / 2.0)).pdf(mean)
  for phi in (-0.5, 2.5):
    joint = prior * stats.norm(mean, np.sqrt(variance)).pdf(phi)
    expected = np.trapezoid(np.trapezoid(joint, mean), variance[:, 0])
    density = np.exp(bavaria.log_density(bavaria.predictive(normal), np.array(phi)))
    np.testing.assert_allclose(density, expected, rtol=1e-4)


def test_a_hand_worked_posterior():
  # Prior m 0, kappa 1, alpha 1, beta 1; references 1 and 3: n 2, mean 2, S 2.
  prior = bavaria.Normal(*(np.array([v]) for v in (0.0, 1.0, 1.0, 1.0)))
  moments = _references.moments(np.array([[1.0], [3.0]]), np.ones((2, 1), bool))
  found = bavaria.posterior(prior, moments)
  # beta = 1 + 2 / 2 + 1 * 2 * 4 / (2 * 3) = 10 / 3
  np.testing.assert_allclose(
    [v[0] for v in found], [4 / 3, 3.0, 2.0, 10 / 3], rtol=1e-12
  )
  # t of 4 degrees, scale^2 = 10 / 3 * 4 / (2 * 3)
  np.testing.assert_allclose(bavaria.predictive(found).scale ** 2, [20 / 9])


def test_the_prior_is_recovered_from_what_it_draws():
  rng = np.random.default_rng(1)
  num, alpha, beta, kappa = 20_000, 3.0, 6.0, 0.5
  variance = beta / rng.gamma(alpha, 1, num)
  mean = rng.normal(5, np.sqrt(variance / kappa))
  references = rng.normal(mean, np.sqrt(variance), (4, num))
  found = bavaria.fit_prior(
    _references.moments(references, np.ones_like(references, bool))
  )
  np.testing.assert_allclose(found.mean.mean(), 5, atol=0.1)
  np.testing.assert_allclose(found.alpha, alpha, rtol=0.15)
  np.testing.assert_allclose(found.beta / found.alpha, beta / alpha, rtol=0.05)
  np.testing.assert_allclose(found.kappa, kappa, rtol=0.1)


def test_equal_variances_are_found_equal():
  # As many degrees of freedom as the prior may have, or nearly so.
  references = np.random.default_rng(2).normal(0, 3, (8, 5000))
  found = bavaria.fit_prior(
    _references.moments(references, np.ones_like(references, bool))
  )
  assert 2 * found.alpha > 100
  np.testing.assert_allclose(found.beta / found.alpha, 9, rtol=0.03)
  assert found.kappa > 50  # the means are one mean, too


def test_what_a_difference_from_models_without_adds_to_the_prior():
  # Means that are like others' but for 2, and scatter about them by kappa = 4.
  rng = np.random.default_rng(3)
  like = rng.normal(0, 10, 5000)
  mean = like + 2 + rng.normal(0, 0.5, 5000)
  references = rng.normal(mean, 1, (5, 5000))
  moments = _references.moments(references, np.ones_like(references, bool))
  found = bavaria.fit_prior(moments, like)
  np.testing.assert_allclose(found.mean - like, 2, atol=0.05)
  np.testing.assert_allclose(found.kappa, 4, rtol=0.15)


@pytest.mark.parametrize("freedom", [1.0, 3.0, 12.5, 200.0, 1010.0])
@pytest.mark.parametrize("distance", [-30.0, -1e-3, 1e-3, 2.0, 40.0, 60.0, 1e4])
def test_tails_match_50_digits(freedom, distance):
  student = bavaria.Student(*map(np.array, (freedom, 1.0, 2.0)))
  found = bavaria.log_survival(student, np.array(1 + 2 * distance))
  df, t = mpmath.mpf(freedom), mpmath.mpf(distance)
  tail = mpmath.betainc(df / 2, 0.5, 0, df / (df + t**2), regularized=True) / 2
  expected = mpmath.log(tail) if distance > 0 else mpmath.log1p(-tail)
  np.testing.assert_allclose(found, float(expected), rtol=1e-6)
  np.testing.assert_allclose(
    bavaria.log_density(student, np.array(1 + 2 * distance)),
    stats.t(freedom, 1, 2).logpdf(1 + 2 * distance),
    rtol=1e-9,
  )


def test_the_trigamma_is_inverted():
  for x in (0.6, 3.0, 400.0):
    found = bavaria._inverse_trigamma(special.polygamma(1, x), 0.5, 500.0)
    np.testing.assert_allclose(found, x, rtol=1e-6)
  assert bavaria._inverse_trigamma(-0.1, 0.5, 500.0) == 500.0
  assert bavaria._inverse_trigamma(100.0, 0.5, 500.0) == 0.5


def test_offline_p_values_hold_of_gaussians_already_with_few_models():
  # The tail of the predictive, of means and variances drawn from such a prior; LiRA's
  # own tail does not hold. 50,000 non-members: a standard error of sqrt(a / 50,000).
  rng = np.random.default_rng(4)
  num = 50_000
  variance = 6.0 / rng.gamma(3.0, 1, num)
  mean = rng.normal(5, np.sqrt(variance / 0.5))
  drawn = rng.normal(mean, np.sqrt(variance), (4, num))
  out = np.ones((3, num), bool)
  p = np.exp(-bavaria.score_offline(drawn[0], drawn[1:], out))
  of_lira = np.exp(-lira.score_offline(drawn[0], drawn[1:], out))
  for level in (0.1, 0.01):
    error = np.sqrt(level / num)
    assert abs((p <= level).mean() - level) < 4 * error + 0.1 * level
  assert (of_lira <= 0.01).mean() > 0.02


def test_few_models_rank_better_than_liras():
  areas = []
  for seed in range(3):
    phi, references, held, members = reference_example.draw(
      seed, (4000,), num_models=4, effect=1.0
    )
    areas.append(
      [
        roc.auc(attack(phi, references, held, ~held), members)
        for attack in (bavaria.score_online, lira.score_online)
      ]
    )
  # Both see the same 4,000 samples; measured .01 apart.
  assert np.min(np.subtract(*np.transpose(areas))) > 0


def test_references_that_tie_are_no_error():
  references = np.where(
    np.arange(40) < 20, 2.0, np.random.default_rng(5).normal(size=40)
  )
  references = np.stack([references, references + (np.arange(40) >= 20)] * 2)
  held = np.arange(4)[:, None] % 2 == np.zeros(40)
  references[:2, :20] = 2.0
  phi = np.linspace(-5, 5, 40)
  assert np.isfinite(bavaria.score_online(phi, references, held, ~held)).all()
  all_alike = np.full((4, 40), 2.0)
  assert np.isfinite(bavaria.score_offline(phi, all_alike, ~held)).all()


def test_one_model_of_a_kind_tells_no_variance():
  with pytest.raises(ValueError, match="no sample has 2 reference models"):
    bavaria.score_offline(np.zeros(3), np.zeros((1, 3)), np.ones((1, 3), bool))
