import jax
import pytest

_SET_BY_BINARIES = (
  "jax_compilation_cache_dir",
  "jax_default_matmul_precision",
  "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(scope="package", autouse=True)
def devices():
  """This process has its devices already: a binary that runs in it asks for no more."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_NUM_CPU_DEVICES", "1")
    yield


@pytest.fixture(scope="session")
def cache(compiled_once):
  """The flag of a binary that compiles what the tests have not compiled yet."""
  return f"--compilation_cache={compiled_once}"


@pytest.fixture(autouse=True)
def jax_settings():
  """A binary sets JAX's for its process; the next test has those before."""
  before = {name: getattr(jax.config, name) for name in _SET_BY_BINARIES}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
