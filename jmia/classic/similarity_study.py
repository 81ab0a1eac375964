"""The similarity attack: models with and without each of many samples, in one run."""

from collections.abc import Callable
import dataclasses
import os
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import _validate, splits, types
from jmia.attacks import similarity
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

_ANSWER_BATCH = 256
_STREAMS = {"target": 0, "others": 1}  # of the seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """Settings of the attack.

  Attributes:
    train: of every model.
    defenses: that every model carries.
    num_members: of the target, and rows of each model without the sample.
    num_queries: samples attacked, half of them members.
    num_models: `k`, models without a sample, and as many with it.
    seed: of draws and training.
    width: models trained at once. Default: chosen from memory.
  """

  train: config_lib.TrainConfig
  defenses: tuple[registry.DefenseConfig, ...] = ()
  num_members: int
  num_queries: int = 200
  num_models: int = 5
  seed: int = 0
  width: int | None = None

  def __post_init__(self) -> None:
    _validate.positive("num_members", self.num_members)
    _validate.positive("num_models", self.num_models)
    if not 2 <= self.num_queries <= 2 * self.num_members:
      raise ValueError(
        f"num_queries={self.num_queries} must be between 2 and twice"
        f" num_members={self.num_members}"
      )


class Result(NamedTuple):
  """What the attack found.

  Attributes:
    scores: `[Q]` float32, higher = member.
    logits: `[Q, C]` the target's.
    labels: `[Q]`.
    members: `[Q]` bool.
    num_models: trained, the target apart.
    num_diverged: of them; they are left out.
    seconds: that their training took, compilation included; of what a resumed run
      still had to do.
  """

  scores: np.ndarray
  logits: np.ndarray
  labels: np.ndarray
  members: np.ndarray
  num_models: int
  num_diverged: int
  seconds: float


class _Data(NamedTuple):
  """As `recipe.Data`, with the samples attacked and the target's answers."""

  x: Any
  y: Any
  query_idx: Any
  target_logits: Any


def run(
  dataset: types.Dataset,
  setting: Setting,
  *,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Result:
  """Trains a target, and for each sample `k` models without it and `k` with it.

  The rows are cut into the target's members, as many others, and a population. Model i
  without a sample is trained on the i-th draw from the population; as it knows none of
  the samples it serves for all. Model i with sample q is trained on that draw and q.
  So `k (Q + 1)` models stand for `2 k` of each of `Q` samples.

  Args:
    dataset: to train on.
    setting: how.
    checkpoint_dir: where to save and resume.
    progress: told of each stage's model-epochs.

  Raises:
    ValueError: the rows do not suffice, the target diverged, or too many models did for
      a sample to have one with it and one without; and as `parallel.run`.
  """
  folder = None if checkpoint_dir is None else pathlib.Path(checkpoint_dir)
  cut = splits.audit(
    dataset.num_examples,
    num_members=setting.num_members,
    num_nonmembers=setting.num_members,
    seed=(setting.seed, 0),
  )
  half = setting.num_queries // 2
  queries = np.concatenate(
    [cut.members[: setting.num_queries - half], cut.nonmembers[:half]]
  )
  jobs = _jobs(cut.population, queries, setting)
  plan = registry.plan(
    setting.defenses, setting.train, dataset, num_members=setting.num_members
  )
  trainable = registry.build(plan, dataset)

  def train(what, jobs, data, collect):
    return parallel.run(
      trainable.recipe,
      jax.random.fold_in(jax.random.key(setting.seed), _STREAMS[what]),
      jobs,
      data,
      collect=collect,
      width=setting.width if what == "others" else None,
      checkpoint_dir=folder and folder / what,
      config={"setting": dataclasses.asdict(setting), "dataset": dataset.name},
      progress=lambda done, total: progress(what, done, total),
    )

  logits = _target_logits(train, trainable, dataset, cut.members, queries)
  started = time.monotonic()
  found = train(
    "others",
    recipe_lib.Job(*jobs),
    _Data(dataset.x, dataset.y, queries, logits),
    _divergences(trainable),
  )
  seconds = time.monotonic() - started
  converged = (found.diverged_epoch < 0) & np.isfinite(found.collected).all(axis=1)
  return Result(
    scores=_scores(found.collected, converged, setting.num_models),
    logits=logits,
    labels=dataset.y[queries],
    members=np.arange(len(queries)) < len(queries) - half,
    num_models=len(converged),
    num_diverged=int((~converged).sum()),
    seconds=seconds,
  )


def _jobs(population, queries, setting: Setting) -> types.Splits:
  """Models without, `[k]`, and then with each sample, `[k, Q]`."""
  if setting.num_members > len(population):
    raise ValueError(
      f"num_members={setting.num_members} is above the population's {len(population)}"
      " rows, on which the models compared with are trained: lower num_members"
    )
  draws = splits.draw(
    population, setting.num_members, setting.num_models, seed=(setting.seed, 1)
  ).member_idx
  with_one = [np.append(draw, query) for draw in draws for query in queries]
  return splits.ragged([*draws, *with_one])


def _target_logits(train, trainable, dataset, members, queries) -> np.ndarray:
  """Trains the target; its answers on the samples, `[Q, C]`."""

  def collect(state, job, data):
    return _answers(trainable, state, data.x, queries)

  result = train(
    "target",
    recipe_lib.Job(*splits.ragged([members])),
    recipe_lib.Data(dataset.x, dataset.y),
    collect,
  )
  if result.diverged_epoch[0] >= 0 or not np.isfinite(result.collected).all():
    raise ValueError("the target diverged: lower learning_rate")
  return result.collected[0]


def _divergences(trainable: config_lib.Trainable) -> parallel.Collect:
  """The target's divergence from a model on every sample, `[Q]`."""

  def collect(state, job, data: _Data):
    logits = _answers(trainable, state, data.x, data.query_idx)
    return similarity.divergence(data.target_logits, logits)

  return collect


def _answers(trainable, state, x, rows):
  return recipe_lib.answers(
    trainable.predict,
    recipe_lib.model_variables(state),
    x,
    rows,
    batch_size=_ANSWER_BATCH,
  )


def _scores(divergences, converged, num_models: int) -> np.ndarray:
  """Each sample's score from its own models with it and those without any."""
  num_queries = divergences.shape[1]
  without, with_any = divergences[:num_models], divergences[num_models:]
  # [k, Q, Q]: model i with sample q, on every sample; its own is the diagonal.
  own = with_any.reshape(num_models, num_queries, num_queries)
  own = np.diagonal(own, axis1=1, axis2=2)
  all_kept = np.concatenate(
    [
      np.repeat(converged[:num_models, None], num_queries, axis=1),
      converged[num_models:].reshape(num_models, num_queries),
    ]
  )
  values = np.concatenate([without, own])
  held = np.arange(2 * num_models)[:, None] >= num_models
  if all_kept.all():
    return similarity.score(values, np.broadcast_to(held, values.shape))
  return np.array(
    [
      similarity.score(values[kept, q][:, None], held[kept])[0]
      for q, kept in enumerate(all_kept.T)
    ]
  )
