"""Mechanisms broken on purpose: an audit must see them, and not the sound one."""

import dp_example
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.dp import audit, controls, engine
from jmia.training import recipe as recipe_lib


def _p_values(control, **changes):
  """Of each attacker, of the claim."""
  setting = dp_example.setting(control=control, **changes)
  rows = audit.rows(engine.run(dp_example.dataset(), setting), setting)
  assert [row["contradicted"] for row in rows] == [r["p_value"] <= 0.05 for r in rows]
  return {row["threat"]: row["p_value"] for row in rows}


def test_the_sound_mechanism_is_not_contradicted():
  assert min(_p_values(None).values()) > 0.05


def test_too_little_noise_is_contradicted():
  assert max(_p_values("noise_tenth").values()) < 1e-3


def _linear(params, variables, batch, key, job):
  """An example's gradient is its features."""
  del key, job
  return (params["w"] * batch.x).sum(), (variables, batch.valid.astype(float))


def _steps(seams, x, num=2000):
  """Gradients `[num, F]` of one batch under keys of their own."""
  batch = recipe_lib.Batch(
    jnp.asarray(x), jnp.zeros((len(x), 3)), jnp.arange(len(x)), jnp.ones(len(x), bool)
  )
  job = engine._Job(np.arange(8), np.array(8), np.array(1))
  params = {"w": jnp.zeros(x.shape[1])}

  def one(key):
    keys = recipe_lib.Key(dropout=key, noise=key)
    return seams.gradient(_linear)(params, {}, batch, keys, job)[1]["w"]

  return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), num)))


def test_each_control_breaks_what_it_says():
  private = controls.Private(engine.mechanism(dp_example.setting()), 1.0, 8, 8)
  x = np.zeros((8, 6), np.float32)
  x[:, 0], x[:4, 1] = 3, 4  # norms 5 and 3; the mean (3, 2) has norm 3.6
  clipped = np.array([(4 * 3 / 5 + 4 * 1) / 8, 4 * 4 / 5 / 8, 0, 0, 0, 0])
  mean = np.array([3, 2, 0, 0, 0, 0])
  expected = {  # what is left of the gradient, and the noise over the sound one's
    None: (clipped, 1),
    "noise_over_batch": (clipped, 1 / 8),
    "noise_tenth": (clipped, 1 / 10),
    "same_noise": (None, 0),
    "no_clipping": (mean, 1),
    "batch_clipping": (mean / np.sqrt(13), 1),
    "no_poisson": (clipped, 1),
    "shared_noise": (clipped, 0),
  }
  assert set(expected) == {None, *controls.CONTROLS}
  for name, (center, noise) in expected.items():
    steps = _steps(controls.seams(private, name), x)
    # 12,000 numbers: their standard deviation is known to 0.65 %, means to 2.2 %.
    np.testing.assert_allclose(
      steps.std(axis=0).mean(), noise * private.noise, rtol=0.03, atol=1e-4
    )
    if center is not None:
      margin = 5 * noise * private.noise / np.sqrt(len(steps)) + 1e-4
      np.testing.assert_allclose(steps.mean(axis=0), center, atol=margin)


def test_noise_that_all_models_share():
  private = controls.Private(engine.mechanism(dp_example.setting()), 1.0, 8, 8)
  optimizer = controls.seams(private, "shared_noise").optimizer
  models = {"w": jnp.zeros((2, 3000))}  # two models

  def two_steps(params):
    first, state = optimizer.update(params, optimizer.init(params))
    second, _ = optimizer.update(params, state)
    return first["w"], second["w"]

  first, second = map(np.asarray, jax.vmap(two_steps)(models))
  np.testing.assert_array_equal(first[0], first[1])
  assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 5 / np.sqrt(3000)
  np.testing.assert_allclose(first[0].std(), private.noise, rtol=0.1)
  with pytest.raises(ValueError, match="unknown control 'quiet'"):
    controls.seams(private, "quiet")


def test_batches_of_a_fixed_size():
  setting = dp_example.setting()
  private = controls.Private(engine.mechanism(setting), 1.0, 8, 8)
  job = engine._Job(np.arange(33, dtype=np.int32), np.int32(32), np.int32(0))
  schedule = controls.seams(private, "no_poisson").batches(5)(jax.random.key(0), job)
  np.testing.assert_array_equal(schedule.valid.sum(axis=1), 8)
  for rows, valid in zip(schedule.rows, schedule.valid, strict=True):
    taken = np.asarray(rows)[np.asarray(valid)]
    assert len(set(taken.tolist())) == 8
    assert taken.max() < 32
