"""Quantile regression: is the confidence high for a record that looks like this one?

An ensemble of small networks learns from population rows, none of which the target was
trained on, how the target's logit-scaled confidence `phi` is distributed given the
features and the label. A member's lies high in what is predicted for it. No other model
is trained, and none of the target's training is known.

  head=pinball    monotone quantiles `q_k(x)` at `LEVELS`, by the pinball loss
  head=gaussian   `N(mu(x), sigma(x)^2)`, by its likelihood

Both predict a quantile function, and the ensemble's is the mean over its networks.

**The score.** Gaussian: `(phi - mu(x)) / sigma(x)`. Pinball: the log odds of the rank t
of phi, `log(t / (1 - t))`, interpolated linearly in phi between the predicted quantiles
and extended beyond the first and the last with the slope of the interval there. The
tails are logistic then, and scores go on where all quantiles are passed: a rank alone
would tie there, just where a low false positive rate is decided.

Source: Bertran, Tang, Kearns, Morgenstern, Roth & Wu, "Scalable Membership Inference
Attacks via Quantile Regression". Departures: the label is an input too; an ensemble,
each network of which stops at the epoch that suits best a fifth of the rows, held out
of its training; and where the paper tunes networks of the target's size, one small
network for all images, and one for all else.
"""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, models
from jmia.attacks import registry
from jmia.attacks.evidence import FEATURES, Evidence
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
HEADS: Mapping[str, int] = types.MappingProxyType(
  {"pinball": len(LEVELS), "gaussian": 2}  # numbers that a network says
)
MIN_ROWS = 20

_LEAST = 0.02  # sigma, and the distance of quantiles, in standard deviations of phi
_BATCH = 512  # rows predicted at once
_STEPS = 16  # of an epoch, at least: by fewer, quantiles stay near where they begin
_SMALLEST_IMAGE = 4  # of which two poolings leave a pixel


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantileConfig:
  """Settings of the attack.

  Attributes:
    head: one of `HEADS`.
    num_networks: of the ensemble.
    num_epochs: passes over the population, of which each network keeps the best.
    learning_rate: of Adam.
    weight_decay: as in `optimizers.OptimizerConfig`.
    batch_size: rows in a minibatch; of few rows a sixteenth of those trained on.
    validation_share: of the rows, held out of each network's training.
  """

  head: str = "pinball"
  num_networks: int = 8
  num_epochs: int = 60
  learning_rate: float = 2e-3
  weight_decay: float = 1e-3
  batch_size: int = 128
  validation_share: float = 0.2

  def __post_init__(self) -> None:
    _validate.known("head", self.head, HEADS)
    for name in ("num_networks", "num_epochs", "learning_rate", "batch_size"):
      _validate.positive(name, getattr(self, name))
    _validate.probability("validation_share", self.validation_share, open_interval=True)


class Rows(NamedTuple):
  """Rows of one kind.

  Attributes:
    x: `[n, ...]` features.
    y: `[n]` int labels.
    phi: `[n]` float, the target's logit-scaled confidence.
  """

  x: Any
  y: Any
  phi: Any


class _Data(NamedTuple):
  """The population `x`, `y`, `phi`; samples; and what features are scaled by."""

  x: Any
  y: Any
  phi: Any
  samples: Any
  sample_labels: Any
  centre: Any
  scale: Any


class _Job(NamedTuple):
  """One network: population rows to train on, and those that choose the epoch."""

  member_idx: Any
  num_members: Any
  validation_idx: Any


class _State(NamedTuple):
  """A network in training, and as it was after its best epoch."""

  inner: recipe_lib.TrainState
  best: Any
  best_loss: Any


def score(
  samples: Rows,
  population: Rows,
  num_classes: int,
  config: QuantileConfig | None = None,
  *,
  seed: int = 0,
) -> np.ndarray:
  """Trains the ensemble on the population and scores the samples.

  Args:
    samples: `N` rows under attack.
    population: `P` rows that the target was not trained on and that are not attacked.
    num_classes: of the labels.
    config: settings. Default: a `QuantileConfig`.
    seed: of what is held out, and of training.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, labels are out of range, there are
      fewer than `MIN_ROWS` population rows, or every network diverged.
  """
  config = config or QuantileConfig()
  _check(samples, population, num_classes)
  centre = float(np.mean(population.phi, dtype=np.float64))
  spread = max(float(np.std(population.phi, dtype=np.float64)), 1e-6)
  phi = [
    (np.asarray(of.phi, np.float64) - centre) / spread for of in (samples, population)
  ]
  data = _data(samples, population, phi[1].astype(np.float32))
  network = _network(data.x.shape[1:], num_classes, config.head)
  jobs = _jobs(len(data.y), config, np.random.default_rng(seed))
  batch_size = min(config.batch_size, -(-jobs.member_idx.shape[1] // _STEPS))
  config = dataclasses.replace(config, batch_size=batch_size)
  found = parallel.run(
    _recipe(network, data.x.shape[1:], num_classes, config),
    jax.random.key(seed, impl="threefry2x32"),
    jobs,
    data,
    collect=lambda state, job, data: _predict(
      network, state.best, data.samples, data.sample_labels, data
    ),
  )
  converged = found.diverged_epoch < 0
  if not converged.any():
    raise ValueError(
      f"every network diverged: lower learning_rate={config.learning_rate}"
    )
  heads = found.collected[converged].astype(np.float64).mean(axis=0)
  return gaussian(phi[0], heads) if config.head == "gaussian" else rank(phi[0], heads)


def gaussian(phi: np.ndarray, heads: np.ndarray) -> np.ndarray:
  """Returns `(phi - mu) / sigma`, `[N]`, of `heads` `[N, 2]`, mu and sigma."""
  return (phi - heads[:, 0]) / heads[:, 1]


def rank(phi: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
  """Returns the log odds of each phi's rank among quantiles of its own, as above.

  Args:
    phi: `[N]`.
    quantiles: `[N, K]` at `LEVELS`, rising.

  Returns:
    `[N]` float64, without bounds.
  """
  odds = np.log(LEVELS) - np.log1p(-np.array(LEVELS))
  # The interval that phi lies in, or the one nearest to it.
  above = (phi[:, None] >= quantiles).sum(axis=1)
  at = np.clip(above, 1, len(LEVELS) - 1)
  rows = np.arange(len(phi))
  low, high = quantiles[rows, at - 1], quantiles[rows, at]
  slope = (odds[at] - odds[at - 1]) / (high - low)
  return odds[at - 1] + slope * (phi - low)


class _Network(nn.Module):
  """A trunk for the features, to which the label is joined before the last layers."""

  trunk: nn.Module
  num_classes: int
  head: str

  @nn.compact
  def __call__(self, x, labels=None, *, train=False, mask=None):
    labels = jnp.zeros(len(x), jnp.int32) if labels is None else labels
    hidden = nn.relu(self.trunk(x, train=train, mask=mask))
    hidden = jnp.concatenate([hidden, jax.nn.one_hot(labels, self.num_classes)], axis=1)
    hidden = nn.relu(nn.Dense(64)(hidden))
    out = nn.Dense(HEADS[self.head])(hidden)
    if self.head == "gaussian":
      return jnp.stack([out[:, 0], nn.softplus(out[:, 1]) + _LEAST], axis=1)
    steps = nn.softplus(out[:, 1:]) + _LEAST / len(LEVELS)
    return jnp.cumsum(jnp.concatenate([out[:, :1], steps], axis=1), axis=1)


def _network(shape: tuple[int, ...], num_classes: int, head: str) -> _Network:
  is_image = len(shape) == 3 and min(shape[:2]) >= _SMALLEST_IMAGE
  features = (16, 32) if is_image else (64,)
  trunk = models.make("cnn" if is_image else "mlp", 64, features=features)
  return _Network(trunk, num_classes, head)


def _losses(head: str, heads: jax.Array, phi: jax.Array) -> jax.Array:
  """`[B]`: minus the log likelihood, or the pinball loss summed over levels."""
  if head == "gaussian":
    mu, sigma = heads[:, 0], heads[:, 1]
    return 0.5 * jnp.square((phi - mu) / sigma) + jnp.log(sigma)
  error, levels = phi[:, None] - heads, jnp.array(LEVELS)
  return jnp.maximum(levels * error, (levels - 1) * error).sum(axis=1)


def _scaled(x: jax.Array, data: _Data) -> jax.Array:
  return (x.astype(jnp.float32) - data.centre) * data.scale


def _predict(network, variables, x, labels, data: _Data) -> jax.Array:
  """`[n, H]` of rows as stored, a batch at a time."""
  rows = jnp.arange(len(labels))

  def of_rows(variables, at):
    return network.apply(variables, _scaled(x[at], data), labels[at])

  return recipe_lib.answers(of_rows, variables, rows, rows, batch_size=_BATCH)


def _recipe(
  network: _Network, shape: tuple[int, ...], num_classes: int, config: QuantileConfig
) -> recipe_lib.Recipe:
  """Regression of phi, keeping the best epoch on a network's validation rows."""

  def targets(key, batch, job, data: _Data):
    del key, job
    answers = jnp.stack([data.phi[batch.rows], data.y[batch.rows]], axis=1)
    return batch._replace(x=_scaled(batch.x, data), targets=answers)

  def loss(params, variables, batch, key, job):
    del key, job
    phi, labels = batch.targets[:, 0], batch.targets[:, 1].astype(jnp.int32)
    heads: Any = network.apply({"params": params}, batch.x, labels)
    weight = batch.valid / jnp.maximum(batch.valid.sum(), 1)
    value = jnp.vdot(weight, _losses(config.head, heads, phi))
    return value, (variables, jnp.zeros_like(batch.valid))

  optimizer = optimizers.OptimizerConfig(
    name="adam",
    learning_rate=config.learning_rate,
    weight_decay=config.weight_decay,
    schedule="cosine",
  )
  recipe = recipe_lib.supervised(
    network,
    optimizers.transformation(optimizer),
    example_shape=shape,
    num_classes=num_classes,
    batch_size=config.batch_size,
    num_epochs=config.num_epochs,
    learning_rate=optimizers.schedule(optimizer, config.num_epochs),
    transform=targets,
    loss=loss,
  )

  def init(key, job):
    inner = recipe.init(key, job)
    return _State(inner, recipe_lib.model_variables(inner), jnp.array(jnp.inf))

  def update(state: _State, job: _Job, data: _Data):
    inner, metrics = recipe.update(state.inner, job, data)
    variables, at = recipe_lib.model_variables(inner), job.validation_idx
    heads = _predict(network, variables, data.x[at], data.y[at], data)
    value = _losses(config.head, heads, data.phi[at]).mean()
    best = jax.tree.map(
      lambda new, old: jnp.where(value < state.best_loss, new, old),
      variables,
      state.best,
    )
    return _State(inner, best, jnp.minimum(value, state.best_loss)), metrics

  return recipe._replace(init=init, update=update)


def _jobs(num_rows: int, config: QuantileConfig, rng: np.random.Generator) -> _Job:
  """Each network's rows, of which it holds out others than its neighbours."""
  num_held_out = max(1, round(config.validation_share * num_rows))
  orders = [rng.permutation(num_rows) for _ in range(config.num_networks)]
  order = np.stack(orders).astype(np.int32)
  sizes = np.full(len(order), num_rows - num_held_out, np.int32)
  return _Job(order[:, num_held_out:], sizes, order[:, :num_held_out])


def _data(samples: Rows, population: Rows, phi: np.ndarray) -> _Data:
  x = np.asarray(population.x)
  centre = x.mean(axis=0, dtype=np.float64)
  # Of equal numbers rounding would leave a spread.
  spread = np.where(x.max(0) > x.min(0), x.std(axis=0, dtype=np.float64), 0.0)
  # A feature that hardly varies would be blown up where it does; where none varies,
  # there is nothing to learn from them.
  scale = 1 / np.maximum(spread, 0.1 * float(spread.mean()) or np.inf)
  labels = (np.asarray(of.y, np.int32) for of in (population, samples))
  return _Data(
    x,
    next(labels),
    phi,
    np.asarray(samples.x),
    next(labels),
    centre.astype(np.float32),
    scale.astype(np.float32),
  )


def _check(samples: Rows, population: Rows, num_classes: int) -> None:
  """Raises ValueError for arrays that do not fit."""
  for name, of in (("samples", samples), ("population", population)):
    _validate.shape(f"{name}.phi", of.phi, (None,))
    _validate.shape(f"{name}.y", of.y, (len(of.phi),))
    shape = (len(of.phi), *np.shape(population.x)[1:])
    _validate.shape(f"{name}.x", of.x, shape)
    _validate.finite(f"{name}.x", of.x)
    _validate.finite(f"{name}.phi", of.phi)
    _validate.labels(f"{name}.y", of.y, num_classes)
  if len(population.phi) < MIN_ROWS:
    raise ValueError(
      f"population holds {len(population.phi)} rows, expected at least {MIN_ROWS}"
    )


def _score(evidence: Evidence, *, head: str = "pinball") -> np.ndarray:
  samples, population = (
    Rows(of[FEATURES], labels, of["scaled_logit"])
    for of, labels in (
      (evidence.signals, evidence.labels),
      (evidence.population, evidence.population_labels),
    )
  )
  config = QuantileConfig(head=head)
  return score(samples, population, evidence.num_classes, config, seed=evidence.seed)


def _check_options(*, head: str) -> None:
  _validate.known("head", head, HEADS)


def _needs(*, head: str) -> registry.Needs:
  del head
  names = (FEATURES, "scaled_logit")
  return registry.Needs(signals=names, population=names, num_population=MIN_ROWS)


registry.register(
  registry.Attack(
    name="quantile_regression",
    title="Quantile regression",
    attacker="with samples of the population, who learns what to expect of each record",
    explanation=(
      "Trains networks on records that the model never saw to predict how sure it is of"
      " a record, and asks how far it is surer than that; needs no other model of the"
      " kind."
    ),
    source="Bertran et al.",
    needs=_needs,
    score=_score,
    check=_check_options,
  )
)
