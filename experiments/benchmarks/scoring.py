"""Suite `scoring`: thresholds and scores of attacks S, P and R.

1,000 models' losses on 20,000 samples at 100 significance levels; their limit is the
time that a core takes to read those losses once. privacy-meter gives
thresholds only, and calls a sample a member where its loss is at most the threshold.
Its functions are called as its own metrics call them: attack R on a transposed view of
the models' losses, attack S on what a mask leaves of all losses, class after class.

Suite `scoring/attacks`: each attack's scores from losses of 256 reference models, half
of them in, on 20,000 samples and 10,000 population rows. Its limit is the time that a
core takes to read what the attack reads, once, at the rate at which it copies a large
array.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import tracemalloc

import jax
import numpy as np

from jmia.attacks import evidence as evidence_lib
from jmia.attacks import population, reference, registry, shadow
from jmia.audit import signals_file

from . import measure

NUM_MODELS, NUM_SAMPLES, NUM_LEVELS, NUM_CLASSES = 1_000, 20_000, 100, 100
ATTACKED = 256, 20_000, 10_000  # reference models, samples, population rows
METHODS = ("linear", "gaussian", "logit_gaussian")
_THEIRS = {
  "linear": "linear_itp_threshold_func",
  "gaussian": "gaussian_threshold_func",
  "logit_gaussian": "logit_rescale_threshold_func",
}


def levels() -> np.ndarray:
  """Returns `[NUM_LEVELS]` significance levels that thresholds are asked for."""
  return np.linspace(0.001, 0.999, NUM_LEVELS)


def rows(sizes: tuple[int, int, int] | None = None) -> list[measure.Row]:
  """Each attack's thresholds by each method, and attack R's scores.

  Args:
    sizes: models, samples and classes; `NUM_MODELS` and so on by default.
  """
  num_models, num_samples, num_classes = sizes or (NUM_MODELS, NUM_SAMPLES, NUM_CLASSES)
  rng = np.random.default_rng(0)
  losses = rng.exponential(size=(num_models, num_samples)).astype(np.float32)
  labels = rng.integers(num_classes, size=num_samples)
  alpha = levels()
  flat, groups = losses.ravel(), np.tile(labels, num_models)
  target = losses[0]

  def r(method):
    return lambda: reference.thresholds(losses, alpha, method=method)

  def s(method):
    return lambda: shadow.thresholds(
      losses, labels, labels, num_classes, alpha, method=method
    )

  def p(method):
    return lambda: [population.thresholds(row, alpha, method=method) for row in losses]

  nulls: Mapping[str, tuple[Callable, Callable]] = {
    "R": (r, lambda f: lambda: f(losses.T, alpha)),
    "S": (
      s,
      lambda f: lambda: [f(flat[groups == c], alpha) for c in range(num_classes)],
    ),
    "P": (p, lambda f: lambda: [f(row, alpha) for row in losses]),
  }
  floor = losses.nbytes / measure.bandwidth()
  found = [
    _thresholds(attack, method, *calls, floor, num_models)
    for attack, calls in nulls.items()
    for method in METHODS
  ]
  return found + [_scores(losses, target, method, floor) for method in METHODS]


def attack_rows(sizes: tuple[int, int, int] | None = None) -> list[measure.Row]:
  """Every attack that takes losses alone, from losses to scores.

  Args:
    sizes: reference models, samples and population rows; `ATTACKED` by default.
  """
  num_models, num_samples, num_population = sizes or ATTACKED
  rng = np.random.default_rng(0)

  def losses(*shape: int) -> np.ndarray:
    return np.asarray(rng.exponential(size=shape), np.float32)

  drawn = rng.random((num_models, num_samples + num_population))
  held = np.argsort(drawn, axis=0) < num_models // 2
  arrays = {
    "target_losses": losses(num_samples),
    "labels": rng.integers(NUM_CLASSES, size=num_samples),
    "members": rng.random(num_samples) < 0.5,
    "population_losses": losses(num_population),
    "population_labels": rng.integers(NUM_CLASSES, size=num_population),
    "reference_losses": losses(num_models, num_samples),
    "reference_members": held[:, :num_samples],
    "reference_population_losses": losses(num_models, num_population),
    "reference_population_members": held[:, num_samples:],
  }
  evidence = signals_file.from_arrays(arrays)
  bandwidth = measure.bandwidth()
  return [
    _attack(evidence, registry.get(name), bandwidth)
    for name in (*registry.names(), "rmia_offline:by_share")
    if registry.lacking(evidence, registry.get(name)) is None
  ]


def _attack(
  evidence: evidence_lib.Evidence, attack: registry.Attack, bandwidth: float
) -> measure.Row:
  (needs,) = attack.all_needs()
  num_bytes = _read(evidence, needs)
  call = lambda: attack.score(evidence, **attack.options)  # noqa: E731
  (cost,) = measure.alternate(call, seconds=1, least=3)
  tracemalloc.start()
  call()
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  options = ":by_share" if attack.options.get("by_share") else ""
  groups = evidence.groups.values()
  return measure.Row(
    suite="scoring",
    name=f"scores of {attack.name}{options}",
    width=max(group.num_models for group in groups) if needs.groups else 1,
    ours=cost,
    limit_share=num_bytes / bandwidth / cost.wall,
    more={"read_mib": num_bytes / 2**20, "peak_mib": peak / 2**20},
  )


def _read(evidence: evidence_lib.Evidence, needs: registry.Needs) -> int:
  """Bytes of the signals that an attack takes, and of the masks beside them."""
  of = _named(evidence.signals, needs.signals)
  of += _named(evidence.population, needs.population)
  for name, wanted in needs.groups.items():
    group = evidence.groups[name]
    of += _named(group.signals, wanted.signals)
    of += _named(group.population, wanted.population)
    of += [group.held, group.out] if wanted.signals else []
    of += [group.population_held, group.population_out] if wanted.population else []
  return sum(array.nbytes for array in of)


def _named(signals: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
  return [evidence_lib.queried(signals, evidence_lib.parse(n)[0]) for n in names]


def _thresholds(
  attack: str, method: str, ours: Callable, theirs: Callable, floor: float, width: int
) -> measure.Row:
  """Beside privacy-meter's; `floor` is the least number of seconds."""
  function = _privacy_meter(method)
  with measure.compilation() as seconds:
    costs = measure.alternate(
      ours(method), *([theirs(function)] if function else []), seconds=2, least=2
    )
  least = 20 if method == "linear" else 50
  return measure.Row(
    suite="scoring",
    name=f"thresholds of {attack}, {method}",
    width=width,
    ours=costs[0],
    peer=_peer(),
    theirs=costs[1] if function else None,
    limit_share=floor / costs[0].wall,
    compile_s=sum(seconds),
    target={"ratio": least if jax.default_backend() == "cpu" else 200},
  )


def _scores(
  losses: np.ndarray, target: np.ndarray, method: str, floor: float
) -> measure.Row:
  """A target's p-values; privacy-meter has none to compare with."""
  with measure.compilation() as seconds:
    (cost,) = measure.alternate(
      lambda: reference.score(target, losses[1:], method=method), seconds=1, least=2
    )
  return measure.Row(
    suite="scoring",
    name=f"scores of R, {method}",
    width=len(losses),
    ours=cost,
    limit_share=floor / cost.wall,
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
