"""Models that the caller fits, one at a time: forests, boosting, anything with a fit.

The engine trains networks, all at once. A model of another kind is fairly compared with
models of its own kind alone, so an audit takes a function that fits one; it is called
in processes of its own, one a core. (This module imports no JAX, nor do they.)
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jmia import types

_BATCH = 1024  # rows that a model is asked about at once

Predict = Callable[[np.ndarray], Any]
# (x [K, ...] as a black box is given rows, y [K] int32, seed) -> x -> answers [B, C]
Fit = Callable[[np.ndarray, np.ndarray, int], Predict]


def name(fit: Fit) -> str:
  """What reports call the models: `fit.name`, or the function's own name."""
  found = getattr(fit, "name", None) or getattr(fit, "__name__", type(fit).__name__)
  return str(found)


def seeds(seed: int, models: np.ndarray) -> list[int]:
  """Returns a seed for each model, of its number and the audit's seed alone.

  Args:
    seed: of the audit.
    models: `[m]` numbers in the design.

  Returns:
    `m` integers in `[0, 2^32)`, which NumPy and scikit-learn take.
  """
  return [
    int(np.random.SeedSequence(seed, spawn_key=(int(m),)).generate_state(1)[0])
    for m in models
  ]


def answers(
  fit: Fit,
  members: types.Splits,
  x: np.ndarray,
  y: np.ndarray,
  asked: np.ndarray,
  *,
  seeds: list[int],
  num_jobs: int | None = None,
) -> Iterator[np.ndarray]:
  """Fits models and yields what each answers, in their order.

  Args:
    fit: `(x [K, ...], y [K], seed) -> predict`, and `predict` takes features
      `[B, ...]` to logits or probabilities `[B, C]`. It travels to other processes, so
      it holds no open file or device.
    members: `[m, K]` rows of `x` that each is fitted on.
    x: `[n, ...]` features, as a black box is given them.
    y: `[n]` int32 labels.
    asked: `[a]` rows of `x` that each is asked about.
    seeds: `m` integers, one for each model.
    num_jobs: processes at once. Default: one a core; 1: this one.

  Yields:
    What `predict` gave, `[a, C]` if it gave what it should.
  """
  import joblib

  jobs = (
    joblib.delayed(_fit_and_ask)(fit, x, y, idx[:size], asked, seed)
    for idx, size, seed in zip(*members, seeds, strict=True)
  )
  yield from joblib.Parallel(n_jobs=num_jobs or -1, return_as="generator")(jobs)


def _fit_and_ask(fit, x, y, members, asked, seed) -> np.ndarray:
  """One model's answers."""
  predict = fit(x[members], y[members], seed)
  return np.concatenate(
    [
      np.asarray(predict(x[asked[start : start + _BATCH]]))
      for start in range(0, len(asked), _BATCH)
    ]
  )
