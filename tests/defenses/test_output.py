import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jmia.defenses import output

EVERY = {
  "top_k": output.top_k(3),
  "rounding": output.rounding(3),
  "noise": output.noise(0.3),
  "temperature": output.temperature(4.0),
  "label_only": output.label_only(),
}
LOGITS = np.random.default_rng(0).normal(0, 3, (200, 6)).astype(np.float32)


def _probs(logits):
  return special.softmax(np.asarray(logits, np.float64), axis=-1)


@pytest.mark.parametrize("name", EVERY)
def test_answers_are_finite_and_keep_the_predicted_class(name):
  given = jax.jit(EVERY[name])(LOGITS)
  assert given.shape == LOGITS.shape
  assert given.dtype == jnp.float32
  assert np.isfinite(given).all()
  if name == "rounding":  # two probabilities may become equal
    leads = np.take_along_axis(np.asarray(given), LOGITS.argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(leads, given.max(axis=1))
  else:
    np.testing.assert_array_equal(given.argmax(1), LOGITS.argmax(1))


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("k", [1, 3])
def test_top_k_gives_k_probabilities_and_shares_the_rest(k, scale):
  probs = _probs(scale * LOGITS)
  given = _probs(output.top_k(k)(scale * LOGITS))
  order = np.argsort(-probs, axis=1)
  for p, g, o in zip(probs, given, order, strict=True):
    np.testing.assert_allclose(g[o[:k]], p[o[:k]], rtol=1e-4)
    # Of what is nearly certain the rest is small, and no less exact for that.
    np.testing.assert_allclose(g[o[k:]], p[o[k:]].mean(), rtol=1e-4, atol=1e-38)


def test_top_k_of_all_classes_hides_nothing_and_ties_keep_their_order():
  assert output.top_k(6)(LOGITS) is LOGITS
  tied = jnp.zeros((1, 5))
  assert output.top_k(1)(tied).argmax() == 0
  np.testing.assert_allclose(_probs(output.top_k(2)(tied)), 0.2, rtol=1e-6)


def test_rounding():
  # (0.66524, 0.24473, 0.09003) to one place is (0.7, 0.2, 0.1), of sum one.
  given = _probs(output.rounding(1)(jnp.array([[2.0, 1.0, 0.0]])))
  np.testing.assert_allclose(given, [[0.7, 0.2, 0.1]], rtol=1e-6)
  assert _probs(output.rounding(1)(jnp.array([[9.0, 0.0]])))[0, 1] < 1e-30


def test_noise_is_that_of_its_answer_and_its_seed():
  noise = jax.jit(output.noise(0.01))
  first = noise(LOGITS)
  np.testing.assert_array_equal(first[::-1], noise(LOGITS[::-1]))
  # A last bit more or less does not give a caller another draw.
  nearly = noise(LOGITS * np.float32(1 + 1e-7))
  same = np.isclose(_probs(first), _probs(nearly), atol=1e-5).all(axis=1)
  assert same.mean() > 0.99
  other = jax.jit(output.noise(0.01, seed=1))(LOGITS)
  assert not np.allclose(_probs(first), _probs(other))
  shift = _probs(first) - _probs(LOGITS)
  # Dividing by the sum and the bound at zero change it a little.
  assert 0.004 < shift.std() < 0.012
  assert len(np.unique(np.round(shift[:, 0], 6))) > 190  # a draw for each answer


def test_temperature_and_label_only():
  np.testing.assert_allclose(output.temperature(2.0)(LOGITS), LOGITS / 2)
  given = _probs(output.label_only()(LOGITS))
  np.testing.assert_allclose(given, np.eye(6)[LOGITS.argmax(1)], atol=1e-37)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: output.top_k(0), "k=0"),
    (lambda: output.rounding(0), "decimals=0"),
    (lambda: output.noise(0.0), "std=0.0"),
    (lambda: output.temperature(-1), "temperature=-1"),
  ],
)
def test_bad_strengths_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
