"""Many private models at once, with canaries in some of them, and scores of each."""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, splits, types
from jmia.defenses import dp_sgd
from jmia.dp import canaries as canaries_lib
from jmia.dp import controls, reading
from jmia.training import augment, optimizers, parallel
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

MODES = ("one_run", "many_runs")
STARTS = ("blank", "trained")
_PLAIN = optimizers.OptimizerConfig(momentum=0.0)
_START, _RUN = range(2)  # streams of the seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What is audited, and how.

  Attributes:
    mode: `one_run`, many canaries by a coin each in every model, or `many_runs`, one
      canary in half of the models.
    canary: one of `canaries.KINDS`.
    num_canaries: of each model in `one_run`.
    num_runs: models in `one_run`, models of each kind in `many_runs`.
    num_members: rows that every model trains on beside canaries.
    train: network, batch size, epochs and learning rate; of SGD at a constant rate,
      without momentum, weight decay or clipping of its own.
    private: epsilon, delta and clipping norm of DP-SGD.
    start: `blank`, one random start that all models share and an attacker knows, or
      `trained`, the same trained without noise on rows that no model holds.
    control: one of `controls.CONTROLS`, a mechanism broken on purpose; None for DP-SGD.
    seed: of everything.
  """

  mode: str = "many_runs"
  canary: str = "gradient"
  num_canaries: int = 1000
  num_runs: int = 500
  num_members: int = 400
  train: config_lib.TrainConfig
  private: dp_sgd.DPConfig
  start: str = "blank"
  control: str | None = None
  seed: int = 0

  def __post_init__(self) -> None:
    _validate.known("mode", self.mode, MODES)
    _validate.known("canary", self.canary, canaries_lib.KINDS)
    _validate.known("start", self.start, STARTS)
    for name in ("num_canaries", "num_runs", "num_members"):
      _validate.positive(name, getattr(self, name))
    _validate.key_seed("seed", self.seed)
    if self.control is not None:
      _validate.known("control", self.control, controls.CONTROLS)
    _check_plain(self.train)

  @property
  def num_tested(self) -> int:
    """Canaries that one model's scores are of."""
    return self.num_canaries if self.mode == "one_run" else 1


def _check_plain(train: config_lib.TrainConfig) -> None:
  """Refuses settings of training that the mechanism under audit does not have."""
  given = dataclasses.asdict(train.optimizer)
  for name in ("name", "momentum", "weight_decay", "schedule"):
    if given[name] != getattr(_PLAIN, name):
      raise ValueError(
        f"train.optimizer.{name}={given[name]} is not read: the audited mechanism is"
        " plain SGD at a constant rate, without momentum or weight decay"
      )
  if train.augmentation != augment.AugmentConfig():
    raise ValueError("train.augmentation is not read: rows are trained on as they are")
  if train.clip_norm is not None:
    raise ValueError(
      f"train.clip_norm={train.clip_norm} is not read: private.clip_norm is"
    )


class Scored(NamedTuple):
  """Scores of `m` canaries by `M` models, higher = in.

  Attributes:
    final: `[M, m]`, of who sees the last model alone: by how much the canary's loss has
      fallen since the start.
    steps: `[M, m]`, of who sees all models in between: the log likelihood ratio of each
      step, of how far it moved along the canary's clipped gradient, summed. Where a
      reading is of several steps, or there is no noise, the distances are summed.
    is_in: `[M, m]` bool, who trained on what.
    accuracy: `[M]` share of the rows beside canaries that the model calls rightly.
    run: the mechanism as it is accounted for.
    num_diverged: models whose numbers overflowed; their scores are the lowest.
  """

  final: np.ndarray
  steps: np.ndarray
  is_in: np.ndarray
  accuracy: np.ndarray
  run: dp_sgd.Mechanism
  num_diverged: int


class _Job(NamedTuple):
  """As `recipe.Job`, and which model it is."""

  member_idx: np.ndarray
  num_members: np.ndarray
  model_id: np.ndarray


class _State(NamedTuple):
  """A model in training, and what was seen of each canary on the way, `[m]`."""

  model: recipe_lib.TrainState
  steps: jax.Array


def mechanism(setting: Setting) -> dp_sgd.Mechanism:
  """Returns the mechanism as it is accounted for.

  Raises:
    ValueError: as `dp_sgd.mechanism`.
  """
  num = setting.num_members
  if setting.mode == "one_run":
    num += setting.num_canaries
  return dp_sgd.mechanism(
    setting.private,
    num_members=num,
    batch_size=setting.train.batch_size,
    num_epochs=setting.train.num_epochs,
  )


def run(
  dataset: types.Dataset,
  setting: Setting,
  *,
  width: int | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  progress: parallel.Progress = lambda done, total: None,
) -> Scored:
  """Trains a setting's models, and scores its canaries by each.

  Args:
    dataset: to take members, canaries and the rows of a trained start from.
    setting: what is audited.
    width: see `parallel.run`, as for all that follow.
    checkpoint_dir: where to save and resume.
    progress: told of model-epochs.

  Raises:
    ValueError: the dataset has not enough rows, or a setting does not fit.
  """
  private_run = mechanism(setting)
  problem = _problem(dataset, setting)
  is_in = coins(setting)
  first = setting.num_members
  members = [
    np.append(np.arange(first), first + np.flatnonzero(mine)) for mine in is_in
  ]
  cut = splits.ragged(members)
  jobs = _Job(cut.member_idx, cut.num_members, np.arange(len(members), dtype=np.int32))
  recipe, collect = _recipe(dataset, setting, private_run, problem.start)
  result = parallel.run(
    recipe,
    _key(setting, _RUN),
    jobs,
    problem.data,
    collect=collect,
    width=width,
    checkpoint_dir=checkpoint_dir,
    config={
      **dataclasses.asdict(setting),
      "noise_multiplier": private_run.noise_multiplier,
      "max_batch_size": private_run.max_batch_size,
    },
    progress=progress,
  )
  final, steps, accuracy = result.collected
  diverged = result.diverged_epoch >= 0
  # A model's score may be any function of it: the lowest where there is none.
  final, steps = (
    np.where(np.isfinite(a) & ~diverged[:, None], a, -np.inf) for a in (final, steps)
  )
  return Scored(final, steps, is_in, accuracy, private_run, int(diverged.sum()))


def coins(setting: Setting) -> np.ndarray:
  """Returns `[M, m]` bool, which canaries each model trains on.

  In `one_run` each by an independent fair coin; in `many_runs` the first half of the
  models has the one canary.
  """
  if setting.mode == "many_runs":
    return (np.arange(2 * setting.num_runs) < setting.num_runs)[:, None]
  rng = np.random.default_rng(np.random.SeedSequence([setting.seed, 2]))
  return rng.random((setting.num_runs, setting.num_canaries)) < 0.5


class _Problem(NamedTuple):
  """Data with the canaries at its end, and the parameters that models start from."""

  data: recipe_lib.Data
  start: Any


def _problem(dataset: types.Dataset, setting: Setting) -> _Problem:
  rng = np.random.default_rng(np.random.SeedSequence([setting.seed, 1]))
  order = rng.permutation(dataset.num_examples)
  base, left = np.split(order, [setting.num_members])
  if len(base) < setting.num_members:
    raise ValueError(
      f"num_members={setting.num_members} is above the {len(base)} rows of the dataset"
    )
  num = setting.num_tested
  canaries = canaries_lib.make(setting.canary, dataset, left, num, seed=setting.seed)
  data = recipe_lib.Data(
    np.concatenate([canaries_lib.as_seen(dataset, base), canaries.x]),
    np.concatenate([dataset.y[base].astype(np.int32), canaries.y]),
  )
  unseen = left[num:] if setting.canary in ("natural", "mislabelled") else left
  return _Problem(data, _start(dataset, setting, unseen))


def _start(dataset: types.Dataset, setting: Setting, rows: np.ndarray) -> Any:
  """Returns the parameters that all models start from, on the host."""
  plain = _supervised(dataset, setting)
  if setting.start == "trained" and not len(rows):
    raise ValueError(
      f"start=trained: num_members={setting.num_members} and the canaries leave no rows"
    )
  num_epochs = setting.train.num_epochs if setting.start == "trained" else 0
  rows = rows if num_epochs else np.arange(1)
  data = recipe_lib.Data(
    canaries_lib.as_seen(dataset, rows), dataset.y[rows].astype(np.int32)
  )
  job = recipe_lib.Job(np.arange(len(rows)), np.array(len(rows), np.int32))
  state = jax.jit(plain.init)(_key(setting, _START), job)
  if num_epochs:
    update = jax.jit(plain.update)
    for _ in range(num_epochs):
      state, _ = update(state, job, data)
  if jax.tree.leaves(state.variables):
    raise ValueError(
      f"model={setting.train.model} keeps {', '.join(state.variables)}, which DP-SGD"
      " cannot protect: expected a model without batch normalisation"
    )
  return jax.device_get(state.params)


def _supervised(dataset, setting, **seams) -> recipe_lib.Recipe:
  """Returns plain training of the setting's network at its constant rate."""
  train = setting.train
  rate = train.optimizer.learning_rate
  seams.setdefault("optimizer", optimizers.transformation(_PLAIN))
  optimizer = seams.pop("optimizer")
  return recipe_lib.supervised(
    config_lib.make_model(train, dataset),
    optimizer,
    example_shape=dataset.x.shape[1:],
    num_classes=dataset.num_classes,
    batch_size=train.batch_size,
    num_epochs=train.num_epochs,
    learning_rate=lambda epoch: jnp.float32(rate),
    **seams,
  )


def _recipe(
  dataset: types.Dataset, setting: Setting, run: dp_sgd.Mechanism, start: Any
) -> tuple[recipe_lib.Recipe, parallel.Collect]:
  """Returns private training that watches the canaries, and what is kept of it."""
  logits = _logits(dataset, setting)
  reader = _reader(dataset, setting, start, logits)
  steps_per_epoch = run.num_steps // setting.train.num_epochs
  # With many canaries a reading costs as much as a step or more: one an epoch.
  interval = steps_per_epoch if setting.mode == "one_run" else 1
  inner = _private_training(dataset, setting, run, reader.loss, interval)
  step = functools.partial(
    _watched_step,
    inner,
    reader,
    _unit(setting),
    run if interval == 1 and run.noise_multiplier > 0 else None,
  )

  # `init` is given no data: what all models start from is part of the program.
  def init(key: jax.Array, job: _Job) -> _State:
    model = inner.init(key, job)
    params = jax.tree.map(jnp.asarray, start)
    return _State(model._replace(params=params), jnp.zeros(setting.num_tested))

  def update(state: _State, job: _Job, data: recipe_lib.Data):
    state, metrics = jax.lax.scan(
      lambda state, _: step(state, job, data),
      state,
      length=steps_per_epoch // interval,
    )
    return state, jax.tree.map(lambda a: a.mean(0), metrics)

  def collect(state: _State, job: _Job, data: recipe_lib.Data):
    del job
    params = state.model.params
    first = jax.tree.map(jnp.asarray, start)
    fallen = reader.losses(first, data) - reader.losses(params, data)
    return fallen, state.steps, _accuracy(logits, params, data, setting.num_members)

  num_epochs = setting.train.num_epochs
  return inner._replace(init=init, update=update, num_epochs=num_epochs), collect


def _private_training(
  dataset: types.Dataset,
  setting: Setting,
  run: dp_sgd.Mechanism,
  loss: recipe_lib.Loss,
  num_steps: int,
) -> recipe_lib.Recipe:
  """The mechanism, or what it is broken to, whose epoch is some steps."""
  config = setting.private
  private = controls.Private(
    run, config.clip_norm, setting.train.batch_size, config.microbatch_size
  )
  seams = controls.seams(private, setting.control)
  return _supervised(
    dataset,
    setting,
    loss=loss,
    gradient=seams.gradient,
    batches=seams.batches(num_steps),
    optimizer=seams.optimizer,
  )


def _unit(setting: Setting) -> float:
  """How far a step of the mean clipped gradient moves the parameters at most."""
  rate, norm = setting.train.optimizer.learning_rate, setting.private.clip_norm
  return rate * norm / setting.train.batch_size


def _watched_step(
  inner: recipe_lib.Recipe,
  reader: reading.Reader,
  unit: float,
  run: dp_sgd.Mechanism | None,
  state: _State,
  job: _Job,
  data: recipe_lib.Data,
) -> tuple[_State, Any]:
  """Trains on, and adds what the canaries' readings tell of it.

  Args:
    inner: private training, up to the next reading.
    reader: of the canaries.
    unit: of `_unit`.
    run: whose step a reading is of, to weigh it by its likelihood; None where it is of
      several steps, or of none with noise: then the distance itself counts.
    state: before.
    job: of the model.
    data: of all models.
  """
  model, metrics = inner.update(state.model, job, data)
  moved, size = reader.alignment(state.model.params, model.params, data)
  seen = moved / unit
  if run is not None:
    seen = reading.log_ratio(seen, size, run)
  return _State(model, state.steps + seen), metrics


def _reader(
  dataset: types.Dataset, setting: Setting, start: Any, logits: reading.Logits
) -> reading.Reader:
  """How the setting's canaries are trained on and read."""
  loss = recipe_lib.cross_entropy(config_lib.make_model(setting.train, dataset))
  first, clip_norm = setting.num_members, setting.private.clip_norm
  if setting.canary != "gradient":
    return reading.of_rows(loss, logits, first, clip_norm)
  places = canaries_lib.coordinates(start, setting.num_tested)
  return reading.of_coordinates(loss, places, first, clip_norm)


def _logits(dataset: types.Dataset, setting: Setting) -> reading.Logits:
  """(params, x) -> logits of the setting's network, float32."""
  model: Any = config_lib.make_model(setting.train, dataset)

  def logits(params, x):
    return model.apply({"params": params}, x, train=False).astype(jnp.float32)

  return logits


def _accuracy(
  logits: reading.Logits, params: Any, data: recipe_lib.Data, num_members: int
) -> jax.Array:
  """The share of rows beside canaries that a model calls rightly."""
  found = logits(params, data.x[:num_members]).argmax(-1)
  return (found == data.y[:num_members]).mean()


def _key(setting: Setting, stream: int) -> jax.Array:
  return jax.random.fold_in(jax.random.key(setting.seed, impl="threefry2x32"), stream)
