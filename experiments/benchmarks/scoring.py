"""Suite `scoring`: thresholds and scores of attacks S, P and R.

1,000 models' losses on 20,000 samples at 100 significance levels. privacy-meter gives
thresholds only, and calls a sample a member where its loss is at most the threshold.
Its functions are called as its own metrics call them: attack R on a transposed view of
the models' losses, attack S on what a mask leaves of all losses, class after class.
"""

from collections.abc import Callable, Mapping
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io

import jax
import numpy as np

from jmia.attacks import population, reference, shadow

from . import measure

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
  flat, groups = losses.ravel(), np.tile(labels, NUM_MODELS)
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
    "R": (r, lambda f: lambda: f(losses.T, alpha)),
    "S": (
      s,
      lambda f: lambda: [f(flat[groups == c], alpha) for c in range(NUM_CLASSES)],
    ),
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
  theirs = getattr(
    importlib.import_module("privacy_meter.hypothesis_test"), _THEIRS[method]
  )

  def quiet(*args):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints debugging lines
      return theirs(*args)

  return quiet


def _peer() -> str:
  if importlib.util.find_spec("privacy_meter") is None:
    return "privacy-meter (not installed)"
  return f"privacy-meter {importlib.metadata.version('privacy-meter')}"
