"""Suite `scoring`: thresholds and scores of attacks S, P and R.

1,000 models' losses on 20,000 samples at 100 significance levels. privacy-meter gives
thresholds only, and calls a sample a member where its loss is at most the threshold;
its attack R takes one null a sample, its S and P one null for a class or a model.
"""

from collections.abc import Callable, Mapping
import importlib
import importlib.metadata
import importlib.util

import jax
import numpy as np

from experiments.benchmarks import measure
from jmia.attacks import population, reference, shadow

NUM_MODELS, NUM_SAMPLES, NUM_LEVELS, NUM_CLASSES = 1_000, 20_000, 100, 100
METHODS = ("linear", "gaussian", "logit_gaussian")
_THEIRS = {
  "linear": "linear_itp_threshold_func",
  "gaussian": "gaussian_threshold_func",
  "logit_gaussian": "logit_rescale_threshold_func",
}


def rows() -> list[measure.Row]:
  """Each attack's thresholds by each method, and attack R's scores."""
  rng = np.random.default_rng(0)
  losses = rng.exponential(size=(NUM_MODELS, NUM_SAMPLES)).astype(np.float32)
  labels = rng.integers(NUM_CLASSES, size=NUM_SAMPLES)
  alpha = np.linspace(0.001, 0.999, NUM_LEVELS)
  pools = np.argsort(labels, kind="stable")
  bounds = np.searchsorted(labels[pools], np.arange(1, NUM_CLASSES))
  # privacy-meter's functions read rows, so it is given them contiguous.
  by_sample = np.ascontiguousarray(losses.T)
  by_class = [part.ravel() for part in np.split(losses[:, pools], bounds, axis=1)]
  target = losses[0]

  def r(method):
    return lambda: reference.thresholds(losses, alpha, method=method)

  def s(method):
    return lambda: shadow.thresholds(
      losses, labels, labels, NUM_CLASSES, alpha, method=method
    )

  def p(method):
    return lambda: [population.thresholds(row, alpha, method=method) for row in losses]

  nulls: Mapping[str, tuple[Callable, Callable]] = {
    "R": (r, lambda f: lambda: f(by_sample, alpha)),
    "S": (s, lambda f: lambda: [f(pool, alpha) for pool in by_class]),
    "P": (p, lambda f: lambda: [f(row, alpha) for row in losses]),
  }
  found = [
    _thresholds(attack, method, *calls)
    for attack, calls in nulls.items()
    for method in METHODS
  ]
  return found + [_scores(losses, target, method) for method in METHODS]


def _thresholds(
  attack: str, method: str, ours: Callable, theirs: Callable
) -> measure.Row:
  function = _privacy_meter(method)
  with measure.compilation() as seconds:
    costs = measure.alternate(
      ours(method), *([theirs(function)] if function else []), seconds=2, least=2
    )
  least = 20 if method == "linear" else 50
  return measure.Row(
    suite="scoring",
    name=f"thresholds of {attack}, {method}",
    width=NUM_MODELS,
    ours=costs[0],
    peer=_peer(),
    theirs=costs[1] if function else None,
    compile_s=sum(seconds),
    target={"ratio": least if jax.default_backend() == "cpu" else 200},
  )


def _scores(losses: np.ndarray, target: np.ndarray, method: str) -> measure.Row:
  """A target's p-values; privacy-meter has none to compare with."""
  with measure.compilation() as seconds:
    (cost,) = measure.alternate(
      lambda: reference.score(target, losses[1:], method=method), seconds=1, least=2
    )
  return measure.Row(
    suite="scoring",
    name=f"scores of R, {method}",
    width=NUM_MODELS,
    ours=cost,
    compile_s=sum(seconds),
  )


def _privacy_meter(method: str) -> Callable | None:
  if importlib.util.find_spec("privacy_meter") is None:
    return None
  theirs = importlib.import_module("privacy_meter.hypothesis_test")
  return getattr(theirs, _THEIRS[method])


def _peer() -> str:
  if importlib.util.find_spec("privacy_meter") is None:
    return "privacy-meter (not installed)"
  return f"privacy-meter {importlib.metadata.version('privacy-meter')}"
