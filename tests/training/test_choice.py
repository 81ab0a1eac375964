import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.models import layers
from jmia.training import choice, parallel
from jmia.training import recipe as recipe_lib

KEY = jax.random.key(0)
NUM_EPOCHS = 20


@pytest.fixture
def folder(tmp_path):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  yield tmp_path / "jmia_choices"
  jax.config.update("jax_compilation_cache_dir", before)


def _clock(monkeypatch, *durations):
  """Makes the clock tell of these timings, one after another; returns what is left."""
  left = [time for duration in durations for time in (0.0, duration)]
  monkeypatch.setattr(choice, "now", lambda: left.pop(0))
  return left


def test_the_second_call_is_timed(monkeypatch):
  events = []
  monkeypatch.setattr(choice, "now", lambda: events.append("clock") or len(events))
  assert choice.seconds(lambda: events.append("call")) == 2
  assert events == ["call", "clock", "call", "clock"]


def _out_of_memory(candidate):
  if candidate.width > 1:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 8 GiB")
  return 3.0


def test_the_fastest_is_the_first_of_equals_and_must_fit():
  narrow, wide = choice.Candidate(1, None), choice.Candidate(8, "native")
  assert choice.fastest([wide, narrow], lambda c: 1.0) == wide
  assert choice.fastest([wide, narrow], lambda c: c.width) == narrow
  assert choice.fastest([wide, narrow], lambda c: math.inf) == wide
  assert choice.fastest([narrow, wide], _out_of_memory) == narrow
  with pytest.raises(jax.errors.JaxRuntimeError, match="8 GiB"):
    choice.fastest([wide, narrow], _out_of_memory)
  with pytest.raises(ValueError, match="must not be empty"):
    choice.fastest([], _out_of_memory)


def _convolving():
  """A recipe whose state `[1, 4, 4, 1]` is convolved with ones in each epoch."""
  kernel = jnp.ones((3, 3, 1, 1))

  def update(state, job, data):
    layer = layers.conv(1, (3, 3), lowering="auto", use_bias=False, parent=None)
    return layer.apply({"params": {"kernel": kernel}}, state) / 9 + job, state.sum()

  return recipe_lib.Recipe(
    lambda key, job: jnp.ones((1, 4, 4, 1)), update, num_epochs=NUM_EPOCHS
  )


def _train(**kwargs):
  return parallel.run(
    _convolving(),
    KEY,
    np.arange(8, dtype=np.float32),
    (),
    memory_budget=2**30,
    **kwargs,
  )


def test_width_and_lowering_are_timed_once_and_kept(monkeypatch, folder, tmp_path):
  on_cpu = _train()
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  # Patches, as written, at width 8; native; and native again two at a time.
  left = _clock(monkeypatch, 10.0, 5.0, 2.0, 0.4)  # after 10 s of compilation
  timed = _train(checkpoint_dir=tmp_path / "run")
  assert not left
  assert timed.width == 2  # 4 * 0.4 s against 2 s
  (kept,) = folder.iterdir()
  assert json.loads(kept.read_text()) == {"width": 2, "lowering": "native"}
  # Timing begins training, and leaves nothing of it behind.
  np.testing.assert_allclose(timed.metrics, on_cpu.metrics, rtol=1e-5)

  # A second run, and one that resumes without the kept choice, time nothing but that.
  _clock(monkeypatch, 20.0, 0.0)
  assert _train().width == 2
  kept.unlink()
  assert _train(checkpoint_dir=tmp_path / "run").width == 2
  assert json.loads((tmp_path / "run" / "run.json").read_text())["lowering"] == "native"

  # A damaged choice is made anew.
  kept.write_text("{")
  left = _clock(monkeypatch, 2.0, 1.0, 2.0, 0.4)
  assert _train().width == 8
  assert not left
  assert json.loads(kept.read_text()) == {"width": 8, "lowering": None}


def test_a_short_run_is_not_worth_a_search(monkeypatch, folder):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  # 20 epochs of 3 s; to compile the other lowering and another width takes 16 s.
  left = _clock(monkeypatch, 8.0, 3.0)
  assert _train().width == 8
  assert not left
  assert not folder.exists()


def test_a_cpu_and_a_given_width_time_nothing(monkeypatch, folder):
  _clock(monkeypatch, 1.0, 1.0)  # of compilation
  assert _train().width == 8
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert _train(width=4).width == 4
  assert not folder.exists()


def test_an_unknown_lowering_is_refused():
  with (
    pytest.raises(ValueError, match="unknown lowering 'auto'"),
    layers.on_accelerator("auto"),
  ):
    pass
