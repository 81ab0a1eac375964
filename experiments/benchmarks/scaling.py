"""Suite `scaling`: what a model costs among 1 to 1,024, and on 1 to 8 devices.

The engine chooses the width. Purchase's network trains on 512 rows for three epochs, so
that beginning and ending a chunk weigh as much as they ever will. Several devices are
CPU devices forced in processes of their own: they share the cores, so what counts there
is that results agree, little time is lost, and no compiled program has a collective.
"""

import dataclasses
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
from typing import NamedTuple

import jax
import numpy as np

from jmia import splits
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

from . import measure, training

_NUM_MODELS = (1, 4, 16, 64, 256, 1_024)
_NUM_DEVICES = (1, 2, 4, 8)
_ON_DEVICES = 16  # models, a multiple of every number of devices
_CASE = dataclasses.replace(training.FC, num_members=512)
_COLLECTIVE = re.compile(
  "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|"
  "reduce-scatter"
)


class Run(NamedTuple):
  """Cost of one model, the width chosen, peak memory so far, and the mean loss."""

  cost: measure.Cost
  width: int
  peak_mib: float
  loss: float


def rows() -> list[measure.Row]:
  """Cost of a model by number of models, and by number of devices."""
  return [*_by_models(), *_by_devices()]


def run(num_models: int) -> Run:
  """Trains so many models; compiling and the very first epoch are not counted."""
  num_epochs = 3
  config = dataclasses.replace(_CASE.config, num_epochs=num_epochs)
  dataset = _CASE.dataset()
  assigned = splits.draw(
    np.arange(_CASE.num_rows), _CASE.num_members, num_models, seed=0
  )
  begun: list[tuple[measure.Cost, int]] = []

  def begin(done: int, total: int) -> None:
    del total
    if not begun:
      begun.append((measure.now(), done))

  result = parallel.run(
    config_lib.build(config, dataset).recipe,
    jax.random.key(0, impl="threefry2x32"),
    recipe_lib.Job(*assigned),
    recipe_lib.Data(dataset.x, dataset.y),
    progress=begin,
  )
  ((start, done),) = begun
  return Run(
    cost=measure.since(start, num_models - done / num_epochs),
    width=result.width,
    peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    loss=float(result.metrics["loss"].mean()),
  )


def _by_models() -> list[measure.Row]:
  # Each in a process of its own, so that peak memory is its own too. An accelerator is
  # one process's, and its memory is not what is measured here.
  on_cpu = jax.default_backend() == "cpu"
  runs = {
    num_models: _apart(num_models, 1)[0] if on_cpu else run(num_models)
    for num_models in _NUM_MODELS
  }
  base = runs[16]
  found = []
  for num_models, one in runs.items():
    is_wide = num_models > 16
    # Cost within 10 % of 16 models', and no more memory than 64 took but for results.
    target = {"ratio": 0.9, "growth_mib": 32.0} if is_wide else {}
    found.append(
      measure.Row(
        suite="scaling",
        name=f"a model of {num_models}",
        width=one.width,
        ours=one.cost,
        peer="a model of 16",
        theirs=base.cost,
        target=target,
        more={
          "peak_mib": one.peak_mib,
          "growth_mib": max(0.0, one.peak_mib - runs[64].peak_mib),
        },
      )
    )
  return found


def _by_devices() -> list[measure.Row]:
  runs = {count: _apart(_ON_DEVICES, count) for count in _NUM_DEVICES}
  one, _ = runs[1]
  return [
    measure.Row(
      suite="scaling",
      name=f"a model of {_ON_DEVICES} on {count} CPU devices",
      width=found.width,
      ours=found.cost,
      peer="one CPU device",
      theirs=one.cost,
      target={"collectives": 0, "loss_difference": 1e-4},
      more={
        "collectives": collectives,
        "loss_difference": abs(found.loss / one.loss - 1),
      },
    )
    for count, (found, collectives) in runs.items()
  ]


def _apart(num_models: int, num_devices: int) -> tuple[Run, int]:
  """Returns a fresh process's run on forced CPU devices, and all its collectives."""
  code = (
    f"import json; from {__package__} import scaling; "
    f"print(json.dumps(scaling.run({num_models})))"
  )
  with tempfile.TemporaryDirectory() as folder:
    options = (
      f"--xla_force_host_platform_device_count={num_devices} --xla_dump_to={folder}"
      " --xla_dump_hlo_as_text"
    )
    done = subprocess.run(
      [sys.executable, "-c", code],
      env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": options},
      capture_output=True,
      text=True,
      check=True,
    )
    programs = list(pathlib.Path(folder).glob("*after_optimizations.txt"))
    if not programs:
      raise RuntimeError("XLA wrote no compiled program to search for collectives")
    found = sum(len(_COLLECTIVE.findall(path.read_text("utf-8"))) for path in programs)
  cost, *others = json.loads(done.stdout.splitlines()[-1])
  return Run(measure.Cost(*cost), *others), found
