"""Do the claims hold? Audits of drawn numbers, of which the truth is known.

    python -m experiments.simulations --output_dir=DIR --study=attacks
    python -m experiments.simulations --output_dir=DIR --study=discoveries
    python -m experiments.simulations --output_dir=DIR --study=epsilon
    python -m experiments.simulations --output_dir=DIR --study=intervals
    python -m experiments.simulations --output_dir=DIR --study=verdicts
    python -m experiments.simulations --output_dir=DIR --study=accusations
    python -m experiments.simulations --output_dir=DIR --study=power

Nothing is trained, but in the last two, and by attacks of `tails` that train. Studies:

    attacks      members like others: how often each attack's AUC interval misses .5,
                 and how often its p-values are below .001, .01, .05 and .1, with 2, 8
                 and 64 reference models, with and without ties
    tails        the same with 1,000 calibrating rows, of which p-values go below .001,
                 and 8 reference models
    discoveries  members that stand out, none to half of all: the share of the records
                 found at a false discovery rate of 10 % that are no members'
    epsilon      how often each lower bound on epsilon is above the truth, and how near
                 it comes
    intervals    scores whose AUC and ROC curve are known: how often the intervals of
                 AUC, TPR and a difference of two AUCs miss, and how wide they are
    verdicts     whole reports: how often they speak of leakage where there is none, and
                 how many of the records that they name are no members'
    accusations  how often keys accuse suspects that cannot know their labels, by each
                 of three tests; of --dataset, digits by default
    power        how often keys accuse models that were trained on their marked rows,
                 by rows and sub-marks, and the success rate of each

DIR/results.json holds a row for each cell. A run that was interrupted goes on with the
first cell that is missing when it is started again.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import hashlib
import itertools
import json
import pathlib
import time
from typing import Any

from absl import flags

from jmia import datasets, types
from jmia.attacks import registry
from jmia.audit import config as config_lib
from jmia.audit import simulated as simulated_audit
from jmia.audit import simulated_reports
from jmia.backdoor import claims, randomization
from jmia.backdoor import simulated as simulated_marks
from jmia.dp import simulated as simulated_dp
from jmia.report import results
from jmia.stats import simulated as simulated_scores

from . import attack_flags, bars, common_flags, launch, run_folder, study_flags

flags.declare_key_flag("output_dir")
flags.declare_key_flag("dataset")
flags.declare_key_flag("data_dir")
flags.declare_key_flag("seed")
flags.declare_key_flag("restart")
flags.declare_key_flag("attacks")
flags.declare_key_flag("attack_file")
flags.declare_key_flag("study")
_NUM = flags.DEFINE_integer(
  "num_simulations",
  None,
  "Of each cell. Default: 1000; of power, which trains a model in each, 10.",
  lower_bound=2,
)
# They train networks in each simulation; in `tails` they are tried where asked for.
_SLOW = ("classifier", "quantile_regression")
# Sub-marks of which the least p-value allows a claim, and is no lower than of use.
_SUBMARKS, _LEAST_FLOOR = (1, 2, 5, 7), 1e-5
_MARKED = (2, 4, 8, 12, 20, 40)

# Members and others, and true AUCs, of which intervals are drawn.
_SIZES = ((20, 20), (50, 1252), (200, 200), (450, 450), (1252, 1252))
_AUCS = (0.5, 0.6, 0.7, 0.9, 0.99)

# What only some studies read.
_OF_STUDY = {
  **dict.fromkeys(
    ("attacks", "tails", "discoveries", "verdicts"), ("attacks", "attack_file")
  ),
  **dict.fromkeys(("accusations", "power"), ("dataset", "data_dir")),
}

Cell = tuple[str, Callable[..., list[dict[str, Any]]]]


def _attacks() -> Iterator[Cell]:
  for num_models in (2, 8, 64):
    for ties in (False, True):
      name = f"{num_models} references{', ties' if ties else ''}"
      yield (
        name,
        functools.partial(
          simulated_audit.null_rows, _chosen(), num_models=num_models, ties=ties
        ),
      )


def _tails() -> Iterator[Cell]:
  names = _chosen()
  has_features = any(name.partition(":")[0] in _SLOW for name in names)
  for ties in (False, True):
    call = functools.partial(
      simulated_audit.null_rows,
      names,
      num_models=8,
      ties=ties,
      num_calibrating=1000,
      features=has_features,
    )
    yield f"1,000 calibrating rows{', ties' if ties else ''}", call


def _discoveries() -> Iterator[Cell]:
  for share in (0.0, 0.01, 0.1, 0.5):
    call = functools.partial(simulated_audit.discovery_rows, _chosen(), share=share)
    yield f"{share:g} members", call


def _epsilon() -> Iterator[Cell]:
  for num_runs in (100, 1_000, 10_000):
    for mu in (0.0, 0.5, 1.0, 2.0):
      call = functools.partial(simulated_dp.many_rows, mu, num_runs)
      yield f"many_runs {num_runs}, mu {mu:g}", call
  for num_canaries, epsilons in ((100, (0.0, 1.0, 4.0)), (400, (0.0, 1.0))):
    for epsilon in epsilons:
      call = functools.partial(simulated_dp.one_run_rows, epsilon, num_canaries)
      yield f"one_run {num_canaries}, epsilon {epsilon:g}", call
  for num_attacks in (1, 12):
    for ties in (False, True):
      call = functools.partial(
        simulated_dp.audit_rows, num_attacks, correlation=0.5, ties=ties
      )
      yield f"{num_attacks} attacks{', ties' if ties else ''}", call


def _intervals() -> Iterator[Cell]:
  for name in simulated_scores.pairs():
    for sizes, auc in itertools.product(_SIZES, _AUCS):
      call = functools.partial(simulated_scores.coverage_rows, name, auc, *sizes)
      yield f"{name}, AUC {auc:g}, {sizes[0]} and {sizes[1]}", call
  for sizes, aucs in itertools.product(_SIZES, ((0.5, 0.5), (0.6, 0.6), (0.8, 0.9))):
    for correlation in (0.0, 0.8):
      call = functools.partial(
        simulated_scores.difference_rows, aucs, correlation, *sizes
      )
      yield f"AUC {aucs}, correlation {correlation:g}, {sizes}", call


def _verdicts() -> Iterator[Cell]:
  every = _chosen()
  sets = (config_lib.DEFAULT_ATTACKS, every)
  cells: list[tuple[Sequence[str], dict[str, Any]]] = [
    (attacks, {"shift": shift, "ties": ties})
    for attacks in sets
    for shift in (0.0, 2.0)
    for ties in (False, True)
  ]
  cells.append((every, {"shift": 0.0, "num_targets": 4}))
  # Named are records where some stand out.
  about = {"shift": 8.0, "num_samples": 400, "num_calibrating": 2500}
  cells += [
    (attacks, {**about, "share": share}) for attacks in sets for share in (0.1, 0.5)
  ]
  for attacks, settings in cells:
    parts = [f"{len(attacks)} attacks", *(f"{k} {v}" for k, v in settings.items())]
    yield (
      ", ".join(parts).replace("_", " "),
      functools.partial(simulated_reports.verdict_rows, attacks, **settings),
    )


def _power() -> Iterator[Cell]:
  dataset = _dataset()
  tasks = [dataset]
  if dataset.name == "digits":
    tasks += [_fewer_classes(dataset, number) for number in (2, 3, 5)]
  for task in tasks:
    least, most = randomization.range_of_submarks(task.num_classes)
    for number, num_marked in itertools.product(range(least, most + 1), _MARKED):
      if num_marked >= number:
        call = functools.partial(
          simulated_marks.true_claim_rows,
          task,
          num_marked=num_marked,
          num_submarks=number,
        )
        yield f"{task.name}, {num_marked} rows, T = {number}", call


def _fewer_classes(dataset: types.Dataset, number: int) -> types.Dataset:
  """The digits by their remainder."""
  names = {2: "digits, odd or even"}
  return dataset._replace(
    name=names.get(number, f"digits modulo {number}"),
    y=dataset.y % number,
    num_classes=number,
  )


def _dataset() -> types.Dataset:
  return datasets.load(
    common_flags.DATASET.value or "digits", data_dir=common_flags.DATA_DIR.value
  )


def _accusations() -> Iterator[Cell]:
  dataset = _dataset()
  tasks = [dataset]
  if dataset.name == "digits":
    tasks.append(_fewer_classes(dataset, 2))
  for task in tasks:
    for number in _SUBMARKS:
      floor = float(task.num_classes) ** -number
      if _LEAST_FLOOR <= floor <= max(claims.LEVELS):
        call = functools.partial(
          simulated_marks.false_claim_rows, task, num_submarks=number
        )
        yield f"{task.name}, T = {number}", call


_STUDIES = {
  "attacks": _attacks,
  "tails": _tails,
  "discoveries": _discoveries,
  "epsilon": _epsilon,
  "intervals": _intervals,
  "verdicts": _verdicts,
  "accusations": _accusations,
  "power": _power,
}


def main() -> None:
  """Simulates, and writes the rows."""
  started = time.monotonic()
  study = study_flags.STUDY.value or "attacks"
  if study not in _STUDIES:
    raise ValueError(f"study={study}, expected one of {', '.join(_STUDIES)}")
  common_flags.refuse_of_others("study", study, _OF_STUDY)
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    kept = output_dir / "checkpoints"
    kept.mkdir(exist_ok=True)
    rows, seconds = [], {}
    with bars.shown("simulation", "simulating") as progress:
      for name, call in _STUDIES[study]():
        begun = time.monotonic()
        rows += _cell(kept, name, call, functools.partial(progress, name))
        seconds[name] = time.monotonic() - begun
    seconds["total"] = time.monotonic() - started
    content = results.document(
      rows,
      config={"study": study, "num_simulations": _num()},
      seed=common_flags.SEED.value,
      seconds=seconds,
    )
    results.write(output_dir / "results.json", content)
  print(results.table(_table(rows)))
  print(f"\nThe rows are in {output_dir / 'results.json'}")


def _cell(folder: pathlib.Path, name: str, call, progress) -> list[dict[str, Any]]:
  """The rows of a cell, simulated or as an earlier run left them."""
  asked = json.dumps([name, _num(), common_flags.SEED.value, _chosen()])
  path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
  if path.exists():
    return json.loads(path.read_text("utf-8"))["rows"]
  rows = call(num_simulations=_num(), seed=common_flags.SEED.value, progress=progress)
  results.write(path, {"rows": rows})
  return rows


def _num() -> int:
  is_power = study_flags.STUDY.value == "power"
  return int(_NUM.value or (10 if is_power else 1000))


def _chosen() -> tuple[str, ...]:
  """The attacks that are tried."""
  return attack_flags.chosen(tuple(n for n in registry.names() if n not in _SLOW))


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
  """A line for each row; numbers in a short form."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  return [names, *[[_text(name, row.get(name)) for name in names] for row in rows]]


def _text(name: str, value: Any) -> str:
  if isinstance(value, dict):
    return " ".join(f"{number:.4f}" for number in value.values())
  if isinstance(value, list) and not name.endswith("_ci"):  # a value a model
    return f"{sum(value) / len(value):.4f}"
  if isinstance(value, list):
    return "–".join(f"{number:.4f}" for number in value)
  return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
  launch.run(main)
