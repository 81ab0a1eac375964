import jax
import numpy as np
import pytest
from scipy import special

from jmia import signals
from jmia.attacks import similarity


@pytest.mark.parametrize("scale", [0.5, 20.0, 1e4])
def test_divergences_match_float64(scale):
  rng = np.random.default_rng(0)
  target = np.clip(rng.normal(0, scale, (9, 5)), -1e4, 1e4).astype(np.float32)
  model = np.clip(rng.normal(0, scale, (4, 9, 5)), -1e4, 1e4).astype(np.float32)
  log_p, log_q = (
    special.log_softmax(z.astype(np.float64), axis=-1) for z in (target, model)
  )
  expected = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
  actual = jax.jit(signals.divergence)(target, model)
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_hand_worked_divergence():
  # KL((1/2, 1/2) || (1/4, 3/4)) = log(2 / sqrt(3))
  actual = signals.divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75]))
  np.testing.assert_allclose(actual, np.log(2 / np.sqrt(3)), rtol=1e-6)


def test_scores_are_the_difference_of_the_groups_means():
  rng = np.random.default_rng(1)
  divergences = rng.gamma(1.0, 1.0, (12, 6)).astype(np.float32)
  held = rng.random((12, 6)) < 0.5
  scores = similarity.score(divergences, held)
  assert scores.dtype == np.float32
  for n in range(6):
    out, in_ = divergences[~held[:, n], n], divergences[held[:, n], n]
    np.testing.assert_allclose(scores[n], out.mean() - in_.mean(), rtol=1e-5)


def test_a_target_like_the_models_with_the_sample_scores_high():
  held = np.array([[True], [True], [False], [False]])
  models = np.array([[[4.0, 0.0]], [[5.0, 0.0]], [[0.0, 1.0]], [[0.0, 2.0]]])
  for target, is_member in (([4.5, 0.0], True), ([0.0, 1.5], False)):
    found = similarity.score(signals.divergence(np.array([target]), models), held)
    assert (found[0] > 0) == is_member


@pytest.mark.parametrize(
  ("divergences", "held", "message"),
  [
    (np.zeros((2, 3)), np.ones((2, 3), bool), "3 samples have no model .* sample 0"),
    (np.zeros((2, 3)), np.zeros((2, 2), bool), "held has shape"),
    (np.zeros((2, 3)), np.zeros((2, 3)), "held has dtype float64"),
    (np.full((2, 3), np.inf), np.zeros((2, 3), bool), "divergences holds 6"),
  ],
)
def test_bad_input_is_named(divergences, held, message):
  with pytest.raises(ValueError, match=message):
    similarity.score(divergences, held)
