"""What an audit is to train, once everything that can be refused beforehand is."""

from collections.abc import Mapping
import os
from typing import NamedTuple

import numpy as np

from jmia import types
from jmia.adapters import fitted
from jmia.attacks import evidence, registry
from jmia.audit import config as config_lib
from jmia.audit import copies as copies_lib
from jmia.audit import design as design_lib
from jmia.audit import group_exposure
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib
from jmia.audit.checks import split as split_check
from jmia.audit.targets import Predict
from jmia.training import config as training_config


class Prepared(NamedTuple):
  """An audit that nothing is known to stand against.

  Attributes:
    split: which rows are whose.
    design: who trains on what.
    trainer: how.
  """

  split: types.AuditSplit
  design: design_lib.Design
  trainer: trainer_lib.Trainer


def prepare(
  dataset: types.Dataset,
  config: config_lib.AuditConfig,
  *,
  predict: Predict | None = None,
  references: fitted.Fit | None = None,
  split: types.AuditSplit | None = None,
  groups: Mapping[str, np.ndarray] | None = None,
  columns: Mapping[str, np.ndarray] | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: trainer_lib.Progress = trainer_lib.silent,
) -> Prepared:
  """Returns what `audit.run` would train, checked as it checks it; trains nothing.

  Args:
    dataset: as in `audit.run`, like all that follows.
    config: settings.
    predict: the model under audit.
    references: fits the models compared with.
    split: the rows of each kind.
    groups: name -> `[num_examples]`.
    columns: likewise.
    checkpoint_dir: where training is saved.
    progress: told of it.

  Raises:
    ValueError: as `audit.run` before it trains.
    ImportError: what a defence takes is not installed.
  """
  for kind, given in (("groups", groups), ("columns", columns)):
    group_exposure.check_rows(kind, given, num_rows=dataset.num_examples)
  _check_together(config, predict, references, split)
  if config.near_copies is not None:
    split_check.check_near(config.near_copies, dataset.x.shape)
  split = config_lib.split_of(dataset, config, split)
  trainer = trainer_of(dataset, config, split, checkpoint_dir, progress)
  trainer.build()  # refuses settings and defences
  design = config_lib.design_of(split, config)
  inputs = training_lib.inputs(
    design, trainer, config.needs(), predict=predict, fit=references
  )
  _check_some_can_run(config, inputs.asked.copies)
  return Prepared(split, design, trainer)


def trainer_of(
  dataset: types.Dataset,
  config: config_lib.AuditConfig,
  split: types.AuditSplit,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: trainer_lib.Progress = trainer_lib.silent,
) -> trainer_lib.Trainer:
  """Returns how all models of an audit are trained."""
  return trainer_lib.Trainer(
    dataset=dataset,
    train=config.train or training_config.preset(dataset.name, dataset.x.shape[1:]),
    num_members=len(split.members),
    defenses=config.defenses,
    seed=config.seed,
    width=config.width,
    checkpoint_dir=trainer_lib.folder(checkpoint_dir),
    progress=progress,
    outputs=config.outputs,
  )


def _check_together(
  config: config_lib.AuditConfig,
  predict: Predict | None,
  references: fitted.Fit | None,
  split: types.AuditSplit | None,
) -> None:
  """Refuses arguments that do not go together."""
  if predict is not None and not callable(predict):
    raise ValueError(
      f"predict is a {type(predict).__name__}, expected a function: jmia.adapters makes"
      " one of a model"
    )
  if predict is not None and split is None:
    raise ValueError("predict needs split: which rows was the model trained on?")
  if predict is not None and config.num_targets > 1:
    raise ValueError(f"num_targets={config.num_targets}, but predict is one target")
  if references is not None and config.defenses:
    raise ValueError("defenses change the training here; with references, fit does it")


def _check_some_can_run(
  config: config_lib.AuditConfig, copies: Mapping[str, copies_lib.Copies]
) -> None:
  """Refuses attacks of which each asks about copies that such rows do not have."""
  lacking: dict[str, str] = {}
  for name in config.attacks:
    (needs,) = registry.get(name, **config.options()).all_needs()
    kinds = {evidence.parse(signal)[1] for signal in needs.signals}
    for kind in registry.OF_COPIES.keys() & kinds - copies.keys():
      lacking[name] = f"needs {registry.OF_COPIES[kind]}"
  if len(lacking) == len(config.attacks):
    reasons = "; ".join(f"{name} {reason}" for name, reason in lacking.items())
    raise ValueError(f"no attack can run: {reasons}")
