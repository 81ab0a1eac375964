"""The classifier attack: a network learns members' answers from shadow models'.

Its input is the target's prediction vector with the label, or the largest few
probabilities in order; its training data are shadow models' answers on their own
members and non-members. All sizes of network, for all classes where each has its own,
are trained in one program: they are padded to the widest, and the padding is masked.

Source: Shokri et al., "Membership Inference Attacks Against Machine Learning Models"
(shadow models, a network for each class); Salem et al., "ML-Leaks" (sorted
probabilities); Yang, "Membership Inference Attack on Classification Models" (one
network of one hidden layer, its seven sizes).
"""

import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmia import _validate
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.stats import roc
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
  """Settings of the attack; widths and epochs are the report's.

  Rate and batch size are those of its public code, which from epoch 40 takes a tenth of
  the rate; here it is constant. The report does not say how it chooses the width.

  Attributes:
    hidden_sizes: widths tried of the one hidden layer.
    top_k: how many of the largest probabilities are the input, in falling order and
      without the label; None for the whole vector, with the label.
    per_class: whether each class has a network of its own; the label is no input then.
    num_epochs: passes over the shadow models' answers.
    learning_rate: of Adam.
    batch_size: answers in a minibatch.
    validation_share: of the shadow models' answers, held out to choose the size.
    max_examples: of the answers; more are cut down to a random choice.
  """

  hidden_sizes: tuple[int, ...] = (10, 20, 50, 70, 100, 150, 200)
  top_k: int | None = None
  per_class: bool = False
  num_epochs: int = 50
  learning_rate: float = 1e-3
  batch_size: int = 128
  validation_share: float = 0.2
  max_examples: int = 20_000

  def __post_init__(self) -> None:
    if not self.hidden_sizes:
      raise ValueError("hidden_sizes is empty, expected at least one width")
    for size in self.hidden_sizes:
      _validate.positive("hidden_sizes", size)
    for name in ("num_epochs", "batch_size", "learning_rate", "max_examples"):
      _validate.positive(name, getattr(self, name))
    if self.top_k is not None:
      _validate.positive("top_k", self.top_k)
    _validate.probability("validation_share", self.validation_share, open_interval=True)


class Shadow(NamedTuple):
  """Answers of shadow models, of all of them together.

  Attributes:
    logits: `[S, C]` finite float.
    labels: `[S]` int.
    members: `[S]` bool, whether the model that answered was trained on the sample.
  """

  logits: np.ndarray
  labels: np.ndarray
  members: np.ndarray


class Result(NamedTuple):
  """What the attack found.

  Attributes:
    scores: `[N]` float32 log odds of being a member; higher = member.
    hidden_sizes: `[G]` the width chosen for each class, or for all, `G` of 1.
  """

  scores: np.ndarray
  hidden_sizes: np.ndarray


class _Job(NamedTuple):
  """One network: its training and validation answers, its queries, its width."""

  member_idx: Any
  num_members: Any
  validation_idx: Any
  query_idx: Any
  width: Any


class _Data(NamedTuple):
  """Shadow models' answers `x [S, F]`, `y [S]`, and the target's, `queries [N, F]`."""

  x: Any
  y: Any
  queries: Any


def score(
  logits: np.ndarray,
  labels: np.ndarray,
  shadow: Shadow,
  config: ClassifierConfig | None = None,
  *,
  seed: int = 0,
) -> Result:
  """Trains the attack on shadow models' answers and asks it about the target's.

  The width is the one with the largest AUC on held-out answers of the shadow models;
  the target's play no part in it.

  Args:
    logits: `[N, C]` the target's, finite.
    labels: `[N]` int.
    shadow: what the attack learns from.
    config: settings. Default: the report's.
    seed: of the held-out choice and of training.

  Raises:
    ValueError: an array has a wrong shape, is not finite or holds a label that is no
      class; there are too few members or non-members to train on and to hold out, of
      all or of a class that is asked about; or every network of a class diverged.
  """
  config = config or ClassifierConfig()
  num_classes = _check(logits, labels, shadow)
  rng = np.random.default_rng(seed)
  shadow = _at_most(shadow, config.max_examples, rng)
  groups = _groups(labels, shadow, num_classes if config.per_class else None)
  parts = [_hold_out(rows, shadow.members, config, rng) for rows, _, _ in groups]
  num_sizes = len(config.hidden_sizes)
  repeat = lambda arrays: [a for a in arrays for _ in range(num_sizes)]  # noqa: E731
  train, sizes = _pad(repeat([part[0] for part in parts]))
  jobs = _Job(
    member_idx=train,
    num_members=sizes,
    validation_idx=_pad(repeat([part[1] for part in parts]))[0],
    query_idx=_pad(repeat([queries for _, queries, _ in groups]))[0],
    width=np.tile(np.array(config.hidden_sizes, np.int32), len(groups)),
  )
  data = _Data(
    x=_features(shadow.logits, shadow.labels, config),
    y=shadow.members.astype(np.int32),
    queries=_features(logits, labels, config),
  )
  network = _Network(max(config.hidden_sizes))
  found = parallel.run(
    _recipe(network, config, data.x.shape[1]),
    jax.random.key(seed, impl="threefry2x32"),
    jobs,
    data,
    collect=_collect(network),
  )
  return _choose(found, groups, parts, shadow.members, config, len(labels))


class _Network(nn.Module):
  """One hidden layer, of which the first `width` units take part."""

  max_width: int

  @nn.compact
  def __call__(self, x, width=None):
    hidden = nn.relu(nn.Dense(self.max_width, name="hidden")(x))
    if width is not None:
      hidden = jnp.where(jnp.arange(self.max_width) < width, hidden, 0.0)
    return nn.Dense(2, name="out")(hidden)


def _recipe(
  network: _Network, config: ClassifierConfig, num_features: int
) -> recipe_lib.Recipe:
  """Supervised training of networks whose width is the job's."""

  def loss(params, variables, batch, key, job):
    del key
    logits: Any = network.apply({"params": params}, batch.x, job.width)
    losses = optax.softmax_cross_entropy(logits, batch.targets)
    weight = batch.valid / jnp.maximum(batch.valid.sum(), 1)
    correct = logits.argmax(-1) == batch.targets.argmax(-1)
    return jnp.vdot(weight, losses), (variables, correct & batch.valid)

  recipe = recipe_lib.supervised(
    network,
    optimizers.transformation(optimizers.OptimizerConfig(name="adam")),
    example_shape=(num_features,),
    num_classes=2,
    batch_size=config.batch_size,
    num_epochs=config.num_epochs,
    learning_rate=lambda epoch: jnp.array(config.learning_rate),
    loss=loss,
  )

  def init(key, job):
    state = recipe.init(key, job)
    # Drawn for the widest: as large as a network of this width would have drawn them.
    gain = jnp.sqrt(network.max_width / job.width)
    kernel = state.params["out"]["kernel"]
    out = {**state.params["out"], "kernel": gain.astype(kernel.dtype) * kernel}
    return state._replace(params={**state.params, "out": out})

  return recipe._replace(init=init)


def _collect(network: _Network) -> parallel.Collect:
  """Log odds on a network's validation answers and on its queries."""

  def collect(state, job: _Job, data: _Data):
    def log_odds(x):
      logits: Any = network.apply(recipe_lib.model_variables(state), x, job.width)
      return logits[:, 1] - logits[:, 0]

    return log_odds(data.x[job.validation_idx]), log_odds(data.queries[job.query_idx])

  return collect


def _choose(found, groups, parts, members, config, num_samples) -> Result:
  """Takes each group's scores from its network with the best validation AUC."""
  shape = (len(groups), len(config.hidden_sizes))
  on_validation, on_queries = (a.reshape(*shape, -1) for a in found.collected)
  converged = (found.diverged_epoch < 0).reshape(shape)
  scores = np.empty(num_samples, np.float32)
  area = np.full(shape, -1.0)
  for g, ((_, queries, name), (_, held_out)) in enumerate(
    zip(groups, parts, strict=True)
  ):
    if not converged[g].any():
      raise ValueError(
        f"every network of {name} diverged: lower learning_rate={config.learning_rate}"
      )
    odds = on_validation[g][converged[g], : len(held_out)]
    area[g, converged[g]] = roc.auc(odds, members[held_out])
    scores[queries] = on_queries[g, area[g].argmax(), : len(queries)]
  chosen = np.array(config.hidden_sizes)[area.argmax(axis=1)]
  return Result(scores, chosen)


def _check(logits, labels, shadow) -> int:
  """Returns the number of classes; raises ValueError for arrays that do not fit."""
  _validate.shape("logits", logits, (None, None))
  num_classes = logits.shape[1]
  _validate.shape("labels", labels, (len(logits),))
  _validate.shape("shadow.logits", shadow.logits, (None, num_classes))
  _validate.shape("shadow.labels", shadow.labels, (len(shadow.logits),))
  _validate.shape("shadow.members", shadow.members, (len(shadow.logits),))
  for name, values in (("logits", logits), ("shadow.logits", shadow.logits)):
    _validate.finite(name, values)
  for name, values in (("labels", labels), ("shadow.labels", shadow.labels)):
    _validate.labels(name, values, num_classes)
  if shadow.members.dtype != np.bool_:
    raise ValueError(f"shadow.members has dtype {shadow.members.dtype}, expected bool")
  return num_classes


def _at_most(shadow: Shadow, num: int, rng: np.random.Generator) -> Shadow:
  """A random choice of the answers, if there are more."""
  if len(shadow.labels) <= num:
    return shadow
  rows = np.sort(rng.permutation(len(shadow.labels))[:num])
  return Shadow(*(array[rows] for array in shadow))


def _groups(labels, shadow, num_classes):
  """Returns (shadow rows, queries, name) of each network: one, or one for each class.

  Args:
    labels: `[N]` of the queries.
    shadow: all answers.
    num_classes: None for one network for all.
  """
  if num_classes is None:
    return [(np.arange(len(shadow.labels)), np.arange(len(labels)), "all classes")]
  return [
    (np.flatnonzero(shadow.labels == c), np.flatnonzero(labels == c), f"class {c}")
    for c in np.unique(labels)
  ]


def _hold_out(rows, members, config, rng) -> tuple[np.ndarray, np.ndarray]:
  """Returns training and validation rows; of both kinds the same share is held out."""
  parts = []
  for kind in (True, False):
    own = rng.permutation(rows[members[rows] == kind])
    num = max(1, round(config.validation_share * len(own)))
    if len(own) < 2:
      label = "members" if kind else "non-members"
      raise ValueError(
        f"the shadow models' answers hold {len(own)} {label} to learn from, of"
        f" {len(rows)} rows, expected at least 2 (of each class, where each has its own"
        " network)"
      )
    parts.append((own[num:], own[:num]))
  train, held_out = (np.concatenate(pair) for pair in zip(*parts, strict=True))
  return train, held_out


def _pad(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Stacks lists of rows, padded with row 0, and their lengths; int32."""
  sizes = np.array([len(r) for r in rows], np.int32)
  padded = np.zeros((len(rows), sizes.max()), np.int32)
  for row, own in zip(padded, rows, strict=True):
    row[: len(own)] = own
  return padded, sizes


def _features(logits, labels, config) -> np.ndarray:
  """Returns `[S, F]` float32 inputs of the network."""
  probs = np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32)))
  if config.top_k is not None:
    return -np.sort(-probs, axis=1)[:, : config.top_k]
  if config.per_class:
    return probs
  return np.hstack([probs, np.eye(probs.shape[1], dtype=np.float32)[labels]])


def shadow_of(evidence: Evidence) -> Shadow:
  """Returns the answers of a target's reference models, as shadow models.

  Args:
    evidence: with their logits on rows that some were trained on and some were not.
  """
  group = evidence.groups["reference"]
  counts = group.population_held | group.population_out
  labels = np.broadcast_to(group.population_labels, counts.shape)
  return Shadow(
    logits=group.population["logits"][counts],
    labels=labels[counts],
    members=group.population_held[counts],
  )


def _attacked(
  labels: np.ndarray, shadow: Shadow, config: ClassifierConfig, seed: int
) -> np.ndarray:
  """`[N]` bool: the samples whose network has two answers of each kind to learn from.

  Of the answers that `score` takes with this seed.
  """
  shadow = _at_most(shadow, config.max_examples, np.random.default_rng(seed))
  num_classes = shadow.logits.shape[1] if config.per_class else None
  at = np.zeros(len(labels), bool)
  for rows, queries, _ in _groups(labels, shadow, num_classes):
    num_members = shadow.members[rows].sum()
    at[queries] = min(num_members, len(rows) - num_members) >= 2
  return at


def _score(evidence: Evidence, *, by_class: bool = False, top_k: int = 0):
  config = ClassifierConfig(per_class=by_class, top_k=top_k or None)
  shadow, seed = shadow_of(evidence), evidence.seed
  at = _attacked(evidence.labels, shadow, config, seed)
  scores = np.full(len(at), np.nan, np.float32)
  if at.any():
    logits, labels = evidence.signals["logits"][at], evidence.labels[at]
    scores[at] = score(logits, labels, shadow, config, seed=seed).scores
  return scores


def _check_options(*, by_class: bool, top_k: int) -> None:
  del by_class
  if top_k < 0:
    raise ValueError(f"top_k={top_k} must be at least 1, or 0 for the whole answer")


registry.register(
  registry.Attack(
    name="classifier",
    title="Classifier",
    attacker="who trains a network on shadow models",
    explanation=(
      "Trains a network to tell shadow models' members from others by the whole answer "
      "and the label, and applies it to the audited model."
    ),
    source="Shokri et al.; Salem et al.; Yang",
    needs=registry.Needs(
      signals=("logits",),
      groups={
        "reference": registry.GroupNeeds(population=("logits",), population_held=True)
      },
    ),
    score=_score,
    check=_check_options,
    # Log odds: more likely a member than not.
    score_threshold=lambda evidence, **options: 0.0,
  )
)
