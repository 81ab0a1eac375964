"""What an audit will train, how long that takes here, and in what memory."""

from collections.abc import Mapping
import time
from typing import NamedTuple

import jax
import numpy as np

from jmia import splits, types
from jmia.audit import config as config_lib
from jmia.audit import preparation
from jmia.training import config as training_config
from jmia.training import parallel, widths
from jmia.training import recipe as recipe_lib

_TIMED_EPOCHS = 6
_ROLES = {
  "target": "target",
  "reference": "reference model",
  "in_out": "in-and-out model",
  "distilled": "distilled model",
  "left_out": "retrained model",
}


class Plan(NamedTuple):
  """What is to be trained.

  Attributes:
    models: role -> how many.
    rows: that a target is trained on, and the others at most.
    num_epochs: of each.
    train: settings.
  """

  models: dict[str, int]
  rows: tuple[int, int]
  num_epochs: int
  train: training_config.TrainConfig

  @property
  def num_models(self) -> int:
    """All models together."""
    return sum(self.models.values())

  def __str__(self) -> str:
    """The plan in one line."""
    parts = [
      f"{num:,} {_ROLES.get(role, role)}{'s' if num > 1 else ''}"
      for role, num in self.models.items()
    ]
    return (
      f"{', '.join(parts)}: {self.num_models * self.num_epochs:,} epochs of up to "
      f"{max(self.rows):,} rows"
    )


def plan(
  dataset: types.Dataset,
  config: config_lib.AuditConfig,
  groups: Mapping[str, np.ndarray] | None = None,
  columns: Mapping[str, np.ndarray] | None = None,
) -> Plan:
  """Returns what `audit.run` would train with the same arguments.

  Raises:
    ValueError: as `audit.run` before it trains.
    ImportError: likewise.
  """
  prepared = preparation.prepare(dataset, config, groups=groups, columns=columns)
  models: dict[str, int] = {}
  sizes = []
  for part in prepared.design.parts:
    num = len(part.members.num_members)
    models[part.role] = models.get(part.role, 0) + num
    sizes.append(int(part.members.num_members.max()))
  train = prepared.trainer.train
  return Plan(models, (sizes[0], max(sizes[1:], default=0)), train.num_epochs, train)


class Cost(NamedTuple):
  """What a plan costs here: seconds of training, and bytes on each device."""

  seconds: float
  num_bytes: float


def cost(dataset: types.Dataset, planned: Plan, *, width: int | None = None) -> Cost:
  """Returns what the training would cost, from a few timed epochs.

  As many models as are trained together are trained without defences, and the time
  from their first finished epoch to their last is taken: compilation is not in it, and
  takes some seconds more. Defences that change a step, such as DP-SGD, take longer, and
  more memory, than that.

  Args:
    dataset: whose rows are trained on.
    planned: of `plan`.
    width: models trained at once. Default: chosen from memory.

  Raises:
    ValueError: too little is trained to be timed.
  """
  num = min(planned.num_models, widths.most_at_once(planned.num_models))
  rows = np.arange(dataset.num_examples)
  assigned = splits.draw(rows, max(planned.rows), num, seed=0)
  train = training_config.with_epochs(planned.train, _TIMED_EPOCHS)
  trainable = training_config.build(train, dataset)
  told: list[tuple[float, int]] = []
  needed: list[float] = []

  def listen(event: str, value: float, **_: object) -> None:
    if event == parallel.MEMORY_EVENT:
      needed.append(value)

  jax.monitoring.register_scalar_listener(listen)
  try:
    parallel.run(
      trainable.recipe,
      jax.random.key(0, impl="threefry2x32"),
      recipe_lib.Job(*assigned),
      recipe_lib.Data(dataset.x, dataset.y.astype(np.int32)),
      collect=lambda state, job, data: job.num_members,
      width=width if width is None else min(width, num),
      progress=lambda done, _: told.append((time.monotonic(), done)),
    )
  finally:
    jax.monitoring.unregister_scalar_listener(listen)
  (start, first), (end, last) = told[0], told[-1]
  if last <= first:
    raise ValueError("too little is trained to be timed")
  rate = (end - start) / (last - first)
  return Cost(rate * planned.num_models * planned.num_epochs, needed[0])
