"""Suites of whole jobs: a thousand reference models, private models, MIB's networks."""

import dataclasses

import jax
import numpy as np

from jmia import datasets, splits
from jmia.defenses import registry
from jmia.enhanced import cohort, configs, metrics
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

from . import measure, training

_ATTACKS = ("population", "shadow", "reference", "lira_online", "rmia_online")
_MIB_ROWS, _MIB_EPOCHS = 50_000, 150  # of CIFAR-10, and of Hu et al.


def references(num_models: int = 1_000) -> list[measure.Row]:
  """The paper's Purchase100 II: its reference models, and the attacks' scores."""
  config = configs.CONFIGS["purchase100_2"]
  dataset = datasets.load("purchase100_synthetic")
  settings = cohort.CohortConfig(
    attacks=_ATTACKS,
    num_models=num_models,
    num_targets=1,
    num_members=config.num_members,
    num_population=config.population_per_class * dataset.num_classes,
    train=config.train,
  )
  start = measure.now()
  with measure.compilation() as compiled:
    panel = cohort.train(dataset, settings)
    trained = measure.since(start)
    found = metrics.by_target(panel, _ATTACKS)
  cost = measure.since(start)
  after = cost.wall - sum(compiled)
  return [
    measure.Row(
      suite="references",
      name=f"{num_models} models of purchase100_2, attacked",
      width=1,
      ours=cost,
      compile_s=sum(compiled),
      target={"after_compilation_s": 10},
      more={
        "after_compilation_s": after,
        "training_s": trained.wall,
        "auc": {name: of[0].summary["auc"] for name, of in found.items()},
      },
    )
  ]


# What `dp_audit` trains on digits: a small network, of which many fit.
AUDITED = training.Case(
  name="dp_audit",
  shape=(64,),
  num_classes=10,
  num_rows=1_797,
  num_members=400,
  config=config_lib.TrainConfig(
    model="mlp", model_options=(("features", (32,)),), batch_size=64
  ),
)


def private(num_models: int | None = None) -> list[measure.Row]:
  """An epoch of DP-SGD of one model among many, beside an ordinary one."""
  fc = dataclasses.replace(training.FC, num_members=1_280)
  is_cpu = jax.default_backend() == "cpu"
  found = []
  for case, width in ((AUDITED, 256), (fc, 4 if is_cpu else 256)):
    width = num_models or width
    private, plain = (epoch(case, width, names) for names in (("dp_sgd:8",), ()))
    found.append(
      measure.Row(
        suite="private",
        name=f"{case.name}: epoch",
        width=width,
        ours=private,
        peer="without DP-SGD",
        theirs=plain,
        more={"model_epochs_per_second": 1 / private.wall},
      )
    )
  return found


def mib(num_models: int = 8) -> list[measure.Row]:
  """ResNet-18 as MIB trains it on CIFAR-10, extrapolated from a few steps."""
  is_cpu = jax.default_backend() == "cpu"
  num_members = 256 if is_cpu else 2_560
  case = dataclasses.replace(
    training.RESNET, num_rows=num_members, num_members=num_members
  )
  cost = epoch(case, 1 if is_cpu else num_models, ())
  step = cost.wall / case.num_steps
  steps = -(-_MIB_ROWS // case.config.batch_size) * _MIB_EPOCHS
  return [
    measure.Row(
      suite="mib",
      name="step",
      width=1 if is_cpu else num_models,
      ours=measure.Cost(step, cost.cpu / case.num_steps),
      more={"extrapolated_hours_of_eight": 8 * step * steps / 3600},
    )
  ]


def epoch(case: training.Case, num_models: int, names) -> measure.Cost:
  """Cost of an epoch of one of the models; the first epoch is not counted."""
  dataset = case.dataset()
  config = dataclasses.replace(case.config, num_epochs=3)
  plan = registry.plan(
    [registry.parse(name) for name in names],
    config,
    dataset,
    num_members=case.num_members,
  )
  rows = splits.draw(np.arange(case.num_rows), case.num_members, num_models, seed=0)
  begun: list[tuple[measure.Cost, int]] = []
  ended: list[tuple[measure.Cost, int]] = []

  def watch(done: int, total: int) -> None:
    del total
    (ended if begun else begun).append((measure.now(), done))

  parallel.run(
    registry.build(plan, dataset).recipe,
    jax.random.key(0, impl="threefry2x32"),
    recipe_lib.Job(*rows),
    recipe_lib.Data(dataset.x, dataset.y),
    width=num_models,
    progress=watch,
  )
  (start, before), (end, done) = begun[0], ended[-1]
  units = done - before
  return measure.Cost((end.wall - start.wall) / units, (end.cpu - start.cpu) / units)
