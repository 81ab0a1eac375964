"""Suite `agreement`: this device's losses and scores beside those of the CPU.

Speed counts for nothing where the numbers differ. A few models of each network are
trained for two epochs here and, in a process of its own, on the CPU; and every attack
that answers alone allow scores the same answers on both.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile

import jax
import numpy as np

from jmia import attacks, splits
from jmia.audit import outcome, signals_file
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

from . import measure, training

# Relative, of a model's loss after two epochs. Products that keep 10 bits of each
# factor (TF32) differ by 1e-3 at once, and training carries that on.
_LOSS_TOLERANCE = {"float32": 0.01, "tensorfloat32": 0.1, "bfloat16": 0.3}
_SCORE_TOLERANCE = 1e-3  # of the scores' spread
_NUM_MODELS, _BATCH_SIZE = 10, 8  # the CPU's share takes longest


def rows(
  num_models: int = _NUM_MODELS, batch_size: int = _BATCH_SIZE
) -> list[measure.Row]:
  """The largest difference of each network's losses, and of each attack's scores.

  Args:
    num_models: of each network.
    batch_size: of two steps an epoch.
  """
  with tempfile.TemporaryDirectory() as folder:
    file = os.path.join(folder, "cpu.npz")
    program = (
      f"import jax, numpy as np; from {__package__} import agreement;"
      f"jax.config.update('jax_default_matmul_precision', 'float32');"
      f"np.savez({file!r}, **agreement.answers({num_models}, {batch_size}))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment) as other:
      try:
        here = answers(num_models, batch_size)
      except BaseException:
        other.kill()
        raise
    if other.returncode:
      raise subprocess.CalledProcessError(other.returncode, command)
    with np.load(file) as found:
      there = dict(found)
  return [_row(name, here[name], there[name]) for name in here]


def answers(num_models: int, batch_size: int) -> dict[str, np.ndarray]:
  """Returns each network's losses `[M, epochs]` and each attack's scores `[N]`."""
  cases = (training.FC, training.CNN, training.RESNET)
  losses = {
    f"loss of {case.name}": _losses(case, num_models, batch_size) for case in cases
  }
  return losses | _scores()


def _losses(case: training.Case, num_models: int, batch_size: int) -> np.ndarray:
  dataset = case.dataset()
  config = dataclasses.replace(case.config, num_epochs=2, batch_size=batch_size)
  size = min(case.num_members, 2 * batch_size)
  result = parallel.run(
    config_lib.build(config, dataset).recipe,
    jax.random.key(0, impl="threefry2x32"),
    recipe_lib.Job(*splits.draw(np.arange(case.num_rows), size, num_models, seed=0)),
    recipe_lib.Data(dataset.x, dataset.y),
  )
  return np.asarray(result.metrics["loss"])


def _scores() -> dict[str, np.ndarray]:
  """Scores of a made-up target by every attack that its answers allow."""
  generator = np.random.default_rng(0)
  num, num_classes, num_references = 400, 10, 16
  labels = generator.integers(num_classes, size=num)

  def logits(*shape):
    noise = generator.normal(size=(*shape, num, num_classes))
    return (noise + 3 * np.eye(num_classes)[labels]).astype(np.float32)

  held = generator.random((2, num_references, num)) < 0.5
  evidence = signals_file.from_arrays(
    {
      "target_logits": logits(),
      "labels": labels,
      "members": np.arange(num) < num // 2,
      "population_logits": logits(),
      "population_labels": labels,
      "reference_logits": logits(num_references),
      "reference_members": held[0],
      "reference_population_logits": logits(num_references),
      "reference_population_members": held[1],
      "distilled_logits": logits(num_references),
    }
  )
  names = [n for n in attacks.names() if not outcome.lacking(evidence, [n])]
  return {f"scores of {n}": outcome.evaluate(evidence, n).scores for n in names}


def _row(name: str, here: np.ndarray, there: np.ndarray) -> measure.Row:
  """The largest difference: of losses relative to each, of scores to their spread."""
  if name.startswith("loss"):
    scale, tolerance = np.abs(there), _tolerance()
  else:
    scale, tolerance = np.ptp(there[np.isfinite(there)]), _SCORE_TOLERANCE
  same = (here == there) | (np.isnan(here) & np.isnan(there))
  apart = np.subtract(here, there, where=~same, out=np.zeros(same.shape))
  gap = np.abs(apart) / np.where(scale == 0, 1, scale)
  return measure.Row(
    suite="agreement",
    name=name,
    width=1,
    ours=None,
    peer="the CPU",
    target={"difference": tolerance},
    # A number on one side alone is as far apart as can be.
    more={"difference": float(np.nan_to_num(gap, nan=1e9).max())},
  )


def _tolerance() -> float:
  """Of losses: that of float32 where JAX was told of no other precision."""
  return _LOSS_TOLERANCE.get(measure.matmul_precision(), _LOSS_TOLERANCE["float32"])
