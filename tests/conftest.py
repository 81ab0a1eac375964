"""What all tests share."""

import os

# Most of a test's time is compiling, and most of that LLVM's optimisation, which
# changes results by rounding alone. Programs that tests start inherit it.
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
  ]
).strip()

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
  """Programs that many tests share are compiled once; most take longer than to run.

  Returns the folder, which the workers share.
  """
  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    folder = folder.parent  # the workers'
  settings = {
    "jax_compilation_cache_dir": str(folder / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  for name, value in settings.items():
    jax.config.update(name, value)
    # Tests start programs too, which read these.
    os.environ[name.upper()] = str(value)
  return folder / "compiled"
