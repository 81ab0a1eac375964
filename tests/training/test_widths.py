"""How many models are trained at once, by the memory that their programs need."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.training import parallel, widths
from jmia.training import programs as programs_lib
from jmia.training import recipe as recipe_lib

KEY = jax.random.key(0, impl="threefry2x32")


def _heavy(num_floats):
  """A recipe whose state is `num_floats` float32 per model, and hardly more."""
  return recipe_lib.Recipe(
    lambda key, job: jnp.zeros(num_floats),
    lambda state, job, data: (state + job, ()),
    num_epochs=1,
  )


def _width_in(memory_budget, recipe):
  jobs = np.zeros(12, np.float32)
  return parallel.run(recipe, KEY, jobs, (), memory_budget=memory_budget).width


def test_width_shrinks_to_the_budget(monkeypatch):
  monkeypatch.setattr(widths, "_MAX_WIDTH_CPU", 16)
  recipe = _heavy(250_000)  # 1 MB
  assert _width_in(100_000_000, recipe) == 12
  # An epoch holds 1 MB more, and a bool for each number: 2.25 MB for a model.
  assert _width_in(14_000_000, recipe) == 6
  assert _width_in(11_500_000, recipe) == 4  # three chunks of 4, not of 5, 5 and 2


@pytest.mark.parametrize(("num_floats", "width"), [(1_000, 12), (40_000_000, 1)])
def test_a_model_that_fills_an_accelerator_trains_alone(monkeypatch, num_floats, width):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  lowered = []
  lower = programs_lib.lower

  def note(source, width, *args):
    lowered.append(width)
    return lower(source, width, *args)

  monkeypatch.setattr(programs_lib, "lower", note)
  mesh = jax.make_mesh((1,), (parallel.AXIS,))
  source = _source(_heavy(num_floats), lambda *args: (), 12, mesh)
  _, chosen = widths.chosen(source, None, None, 2**40)
  assert chosen == (width, None)
  # One model is tried first: where it fills the device nothing wider is compiled.
  assert lowered == [1, width]


@pytest.mark.parametrize("memory_budget", [0, 900_000])
def test_a_model_above_the_budget_is_refused(memory_budget):
  with pytest.raises(ValueError, match=rf"one model takes \d+.*{memory_budget}"):
    _width_in(memory_budget, _heavy(250_000))


def test_the_budget_covers_what_is_collected():
  collect = lambda state, job, data: jnp.outer(state, state)  # noqa: E731
  mesh = jax.sharding.Mesh(np.array(jax.devices()), (parallel.AXIS,))
  lowered = programs_lib.lower(_source(_heavy(500), collect, 2, mesh), 2)
  compiled = programs_lib.compiled(lowered)
  # Each of two models: 500 numbers of state and 500^2 collected, of 4 bytes.
  assert programs_lib.bytes_needed(compiled, 1) >= 2 * 4 * (500 + 500**2)


def test_the_budget_covers_jobs_that_carry_much(monkeypatch):
  monkeypatch.setattr(widths, "_MAX_WIDTH_CPU", 16)
  jobs = np.zeros((12, 250_000), np.float32)  # 1 MB a model
  recipe = recipe_lib.Recipe(
    lambda key, job: jnp.zeros(()),
    lambda state, job, data: (state + job[0], ()),
    num_epochs=1,
  )
  found = {
    budget: parallel.run(recipe, KEY, jobs, (), memory_budget=budget).width
    for budget in (20_000_000, 6_500_000)
  }
  assert found == {20_000_000: 12, 6_500_000: 6}
  with pytest.raises(ValueError, match=r"one model takes 10\d{5} bytes"):
    parallel.run(recipe, KEY, jobs, (), memory_budget=900_000)


def test_the_budget_is_that_of_the_meshs_devices(monkeypatch):
  def device(free):
    stats = {"bytes_limit": free, "bytes_in_use": 0}
    return types.SimpleNamespace(memory_stats=lambda: stats)

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "local_devices", lambda: [device(100), device(10)])
  mesh = types.SimpleNamespace(local_devices=[device(100)])
  assert widths._default_budget(mesh) == 80


def _source(recipe, collect, num_models, mesh):
  jobs = np.zeros(num_models, np.float32)
  return programs_lib.Source(recipe, collect, mesh, KEY, jobs, ())
