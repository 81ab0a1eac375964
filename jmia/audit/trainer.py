"""How the models of a panel are trained: one dataset, one recipe, one seed."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import os
import pathlib
import shutil
import types as types_lib
from typing import Any, NamedTuple, NoReturn

import jax

from jmia import types
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

Progress = Callable[[str, int, int], None]  # (what, done, total)


def silent(what: str, done: int, total: int) -> None:
  """Tells nobody of the progress."""
  del what, done, total


class Trainer(NamedTuple):
  """What all models of a panel share.

  Attributes:
    dataset: whose rows designs speak of.
    train: settings of training.
    num_members: of a target; DP-SGD chooses its sampling rate for so many.
    defenses: that every model carries.
    seed: of training.
    width: models trained at once. Default: chosen from memory (`parallel.run`).
    checkpoint_dir: where to save and resume; each run has a folder in it.
    progress: told of each run's model-epochs.
    outputs: what models that are not trained here answer (`kinds.OUTPUTS`).
  """

  dataset: types.Dataset
  train: config_lib.TrainConfig
  num_members: int
  defenses: tuple[registry.DefenseConfig, ...] = ()
  seed: int = 0
  width: int | None = None
  checkpoint_dir: pathlib.Path | None = None
  progress: Progress = silent
  outputs: str = "auto"

  def defended(self) -> registry.Plan:
    """What the defences change in the training of every model."""
    return registry.plan(
      self.defenses, self.train, self.dataset, num_members=self.num_members
    )

  def build(self, *transforms: recipe_lib.Transform) -> config_lib.Trainable:
    """The recipe of every model, and how it predicts."""
    return registry.build(self.defended(), self.dataset, transforms=transforms)

  def run(
    self,
    what: str,
    recipe: recipe_lib.Recipe,
    stream: int | None,
    *args,
    settings: Mapping[str, Any] = types_lib.MappingProxyType({}),
    **kwargs,
  ) -> parallel.Result:
    """Trains models in a checkpoint folder of their own, from a stream of the seed.

    Args:
      what: names the folder, and the stage to `progress`.
      recipe: of `parallel.run`, as are `args` and `kwargs`.
      stream: of the seed; None for the seed itself.
      *args: see `recipe`.
      settings: beside the trainer's own, that a run must share with what it resumes.
      **kwargs: see `recipe`.
    """
    key = jax.random.key(self.seed, impl="threefry2x32")
    return parallel.run(
      recipe,
      key if stream is None else jax.random.fold_in(key, stream),
      *args,
      **kwargs,
      checkpoint_dir=self.checkpoint_dir and self.checkpoint_dir / what,
      config={
        "dataset": self.dataset.name,
        "train": dataclasses.asdict(self.train),
        "defenses": [dataclasses.asdict(one) for one in self.defenses],
        **settings,
      },
      progress=lambda done, total: self.progress(what, done, total),
    )

  def fail_diverged(self, message: str, *runs: str) -> NoReturn:
    """Raises ValueError; what was trained is of no use, and would be in the way."""
    if self.checkpoint_dir is not None:
      for what in runs:
        shutil.rmtree(self.checkpoint_dir / what, ignore_errors=True)
      with contextlib.suppress(OSError):  # it is absent, or holds other files
        self.checkpoint_dir.rmdir()
    rate = self.train.optimizer.learning_rate
    raise ValueError(f"{message}: lower learning_rate={rate}")


def folder(path: str | os.PathLike[str] | None) -> pathlib.Path | None:
  """The folder of checkpoints, if there is one."""
  return None if path is None else pathlib.Path(path)
