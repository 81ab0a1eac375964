"""Canaries: what each kind is made of."""

import dp_example
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.dp import canaries
from jmia.training import recipe as recipe_lib

ROWS = np.arange(50, 120)


def _make(kind, num=12):
  return canaries.make(kind, dp_example.dataset(), ROWS, num, seed=3)


def test_natural_rows_and_rows_with_wrong_labels():
  dataset = dp_example.dataset()
  natural, wrong = _make("natural"), _make("mislabelled")
  np.testing.assert_array_equal(natural.x, dataset.x[50:62] / np.float32(8))
  np.testing.assert_array_equal(natural.y, dataset.y[50:62])
  np.testing.assert_array_equal(wrong.x, natural.x)
  assert (wrong.y != natural.y).all()
  assert set(wrong.y) <= {0, 1, 2}


def test_rows_that_nobody_else_is_like():
  noise, feature = _make("noise"), _make("feature", 2)
  assert noise.x.min() >= 0
  assert 0.9 < noise.x.max() <= 1
  # The one feature that no row tells apart, four times as large as any value.
  expected = np.zeros((2, 6), np.float32)
  expected[:, 2] = 4
  np.testing.assert_array_equal(feature.x, expected)
  empty = _make("gradient")
  assert not empty.x.any()


@pytest.mark.parametrize("kind", canaries.KINDS)
def test_draws_follow_the_seed(kind):
  first, again = _make(kind), _make(kind)
  np.testing.assert_array_equal(first.x, again.x)
  np.testing.assert_array_equal(first.y, again.y)


def test_what_there_are_too_few_of_is_refused():
  with pytest.raises(ValueError, match="num_canaries=71 is above the 70 rows left"):
    _make("natural", 71)
  with pytest.raises(ValueError, match="unknown canary 'loud'"):
    _make("loud")
  params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}
  with pytest.raises(ValueError, match="num_canaries=7 is above the 6 numbers"):
    canaries.coordinates(params, 7)


def test_each_gradient_canary_pushes_a_number_of_its_own():
  params = {"b": jnp.zeros(2), "w": jnp.ones((5, 4))}
  places = canaries.coordinates(params, 6)
  assert places[0] == 1
  assert len(set(places[1].tolist())) == 6
  assert places[1].max() < 20

  def plain(params, variables, batch, key, job):
    del key, job
    return (params["w"].sum() * 3 + params["b"].sum()), (variables, batch.valid)

  loss = canaries.coordinate_loss(plain, places, 10, 0.5)
  for row in (3, 10, 15):
    batch = recipe_lib.Batch(
      jnp.zeros((1, 4)), jnp.zeros((1, 2)), jnp.array([row]), jnp.ones(1, bool)
    )
    gradient = jax.grad(lambda p, batch=batch: loss(p, {}, batch, None, None)[0])(
      params
    )
    if row < 10:  # an ordinary row has its own gradient
      np.testing.assert_array_equal(gradient["w"], 3)
      continue
    expected = np.zeros(20)
    # So far above the clipping norm that, clipped, it is a unit vector times it.
    expected[places[1][row - 10]] = 100 * 0.5
    np.testing.assert_allclose(gradient["w"].ravel(), expected)
    np.testing.assert_array_equal(gradient["b"], 0)
