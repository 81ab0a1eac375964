"""Small recipes and problems that several tests of training share."""

import os
import pathlib
import subprocess
import sys

from flax import linen as nn
import jax
import numpy as np

from jmia import splits
from jmia.training import recipe as recipe_lib

ROOT = pathlib.Path(__file__).parents[2]
NUM_EXAMPLES, NUM_CLASSES, SHAPE = 40, 3, (4, 4, 1)


class Net(nn.Module):
  """What makes exact training hard: batch statistics and dropout."""

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    x = nn.Dense(5)(x.reshape(len(x), -1))
    if mask is not None:
      mask = mask[:, None]
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x, mask=mask)
    x = nn.Dropout(0.3, deterministic=not train)(nn.relu(x))
    return nn.Dense(NUM_CLASSES)(x)


class Linear(nn.Module):
  """Softmax regression."""

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    del train, mask
    return nn.Dense(NUM_CLASSES)(x.reshape(len(x), -1))


def data(seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(NUM_EXAMPLES, *SHAPE)).astype(np.float32)
  return recipe_lib.Data(
    x, rng.integers(NUM_CLASSES, size=NUM_EXAMPLES, dtype=np.int32)
  )


def jobs(*sizes):
  """One job for each size, with members of its own."""
  rng = np.random.default_rng(1)
  return recipe_lib.Job(
    *splits.ragged([rng.permutation(NUM_EXAMPLES)[:size] for size in sizes])
  )


def drift(num_epochs=3):
  """A recipe that learns nothing, is compiled at once, and is random throughout.

  A model's value `[2]` starts at a draw of its own; every epoch halves it, and adds
  another draw, the job's `rate` and the data's mean.
  """

  def init(key, job):
    return {"key": key, "value": jax.random.normal(key, (2,)) + 0 * job["rate"]}

  def update(state, job, data):
    key, draw = jax.random.split(state["key"])
    value = state["value"] / 2 + jax.random.normal(draw, (2,)) + job["rate"]
    value += data["x"].mean()
    return {"key": key, "value": value}, {"first": value[0], "both": value}

  return recipe_lib.Recipe(init, update, num_epochs)


def drift_jobs(num_models):
  return {"rate": np.linspace(0, 1, num_models, dtype=np.float32)}


DRIFT_DATA = {"x": np.arange(3, dtype=np.float32)}


def drift_oracle(key, rates, num_epochs):
  """The same `[M, E, 2]`, one model and one epoch after another."""
  everything = []
  for m, rate in enumerate(rates):
    model_key = jax.random.fold_in(key, m)
    value, values = np.asarray(jax.random.normal(model_key, (2,))), []
    for _ in range(num_epochs):
      model_key, draw = jax.random.split(model_key)
      value = value / 2 + np.asarray(jax.random.normal(draw, (2,))) + rate + 1
      values.append(value)
    everything.append(values)
  return np.array(everything)


def value_of(state, job, data):
  del job, data
  return state["value"]


def assert_close(actual, expected, tolerance):
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance),
    actual,
    expected,
  )


def assert_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def subprocess_environment(num_devices=1):
  """For a Python that finds this repository and sees CPU devices alone."""
  paths = [str(ROOT), str(pathlib.Path(__file__).parent)]
  # The binaries' tests may have set how many devices this very process has.
  inherited = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
  return {
    **inherited,
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join(paths),
    # Beside what tests compile with: rounding must be the same.
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')}"
    f" --xla_force_host_platform_device_count={num_devices}",
  }


def start(code, *args, num_devices=1):
  """Starts a Python program on forced CPU devices."""
  return subprocess.Popen(
    [sys.executable, "-c", code, *map(str, args)],
    env=subprocess_environment(num_devices),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, timeout=240):
  """Returns what a program printed; fails with its errors if it failed."""
  try:
    out, errors = process.communicate(timeout=timeout)
  finally:
    process.kill()
  assert process.returncode == 0, errors
  return out
