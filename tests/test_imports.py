"""What is slow to import, or may be absent, is imported only where it is used."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = (
  "array_record",
  "flax",
  "jax",
  "jinja2",
  "joblib",
  "matplotlib",
  "numpy",
  "optax",
  "orbax",
  "pandas",
  "scipy",
  "scipy.special",  # 0.15 s of its own
  "scipy.stats",
  "sklearn",
  "tensorflow",
  "tensorflow_datasets",
  "torch",
  "tqdm",
)


def _loaded_by(statement):
  """Returns which of `HEAVY` a fresh Python has after a statement."""
  code = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
  process = subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stderr
  return set(json.loads(process.stdout)) & set(HEAVY)


def test_importing_jmia_loads_nothing():
  assert _loaded_by("import jmia") == set()


def test_the_probe_sees_what_is_loaded():
  assert _loaded_by("import numpy") == {"numpy"}


@pytest.mark.parametrize(
  "statement",
  [
    "from jmia import adapters, attacks, audit, classic, datasets, enhanced, splits",
    "from jmia.training import checkpoint, config, distillation, parallel",
    "from jmia import encoding, report",
  ],
)
def test_the_library_loads_no_slow_package_until_it_is_used(statement):
  slow = {
    "array_record", "jinja2", "joblib", "matplotlib", "orbax", "pandas",
    "scipy.special", "scipy.stats", "sklearn", "tensorflow", "tensorflow_datasets",
    "torch",
  }  # fmt: skip
  assert not _loaded_by(statement) & slow


def test_the_audit_needs_no_tensorflow_datasets():
  # None in sys.modules makes an import fail, as where the package is absent.
  blocked = "sys.modules.update(tensorflow_datasets=None, tensorflow=None)"
  statement = (
    f"{blocked}\nimport experiments.audit\nfrom jmia import datasets\n"
    "dataset = datasets.load('digits')\nassert dataset.x.shape[0] > 1000\n"
    "try:\n  import tensorflow_datasets\n"
    "except ImportError:\n  pass\nelse:\n  raise SystemExit('not blocked')"
  )
  assert "jax" in _loaded_by(statement)
