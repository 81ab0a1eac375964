import jax
import pytest

_SET_BY_BINARIES = (
  "jax_compilation_cache_dir",
  "jax_default_matmul_precision",
  "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def jax_settings(monkeypatch):
  """A binary sets JAX's for its process; the next test has those before."""
  # This process has its devices already.
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
  before = {name: getattr(jax.config, name) for name in _SET_BY_BINARIES}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
