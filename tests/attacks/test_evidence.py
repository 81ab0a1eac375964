"""What an attack is given: signals of answers that are at hand."""

import jax
import numpy as np
import pytest

from jmia import signals
from jmia.attacks import evidence


@pytest.fixture
def compiled():
  """The programs that a test compiles, one entry each."""
  found: list[str] = []

  def listen(event, _, **__):
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(event)

  jax.clear_caches()
  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", ["loss", "entropy", "divergence"])
def test_a_signal_of_answers_is_one_program_whatever_their_number(name, compiled):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 7, 4)).astype(np.float32)
  labels = rng.integers(0, 4, 7).astype(np.int32)
  target = rng.normal(size=(7, 4)).astype(np.float32)
  found = evidence.of_logits(logits, labels, target)[name]
  assert len(compiled) == 1
  if name == "divergence":
    expected = [signals.divergence(target, of_model) for of_model in logits]
  else:
    expected = [signals.compute(z, labels, (name,))[name] for z in logits]
  np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)
