import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.defenses import softening
from jmia.training import recipe as recipe_lib


def _batch(num_slots, num_valid):
  rng = np.random.default_rng(0)
  return recipe_lib.Batch(
    jnp.array(rng.integers(256, size=(num_slots, 5)), jnp.uint8),
    jax.nn.one_hot(rng.integers(3, size=num_slots), 3),
    jnp.arange(num_slots),
    jnp.arange(num_slots) < num_valid,
  )


def test_mixup_mixes_valid_examples_and_their_labels_alike():
  batch = _batch(9, 6)
  mix = jax.jit(lambda key: softening.mixup(0.4)(key, batch, None, None))
  for seed in range(3):
    mixed = mix(jax.random.key(seed))
    assert mixed.x.dtype == mixed.targets.dtype == jnp.float32
    # One share for the batch: every mixture is of two valid rows, each used twice.
    draw, order = jax.random.split(jax.random.key(seed))
    share = jax.random.beta(draw, 0.4, 0.4)
    assert 0 <= share <= 1
    partner = np.asarray(recipe_lib.epoch_order(order, 9, 6))
    assert sorted(partner[:6]) == list(range(6))
    for name in ("x", "targets"):
      before = np.asarray(getattr(batch, name), np.float32)
      expected = share * before + (1 - share) * before[partner]
      np.testing.assert_allclose(getattr(mixed, name)[:6], expected[:6], rtol=1e-5)
    np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, rtol=1e-6)


def test_label_smoothing_spreads_a_share_over_all_classes():
  def loss(params, variables, batch, key, job):
    return batch.targets, (variables, None)

  batch = _batch(4, 4)
  smooth = softening.label_smoothing(0.3)(loss)
  targets, _ = smooth(None, {}, batch, None, None)
  np.testing.assert_allclose(targets, 0.7 * batch.targets + 0.1, rtol=1e-6)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: softening.mixup(0), "alpha=0"),
    (lambda: softening.label_smoothing(1), "amount=1"),
  ],
)
def test_bad_strengths_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
