"""Reads an encoding: from the published model and the key alone, who was encoded.

Song and Shokri, section 4.3: the discriminator of the training is not needed. A new
one, an MLP, learns to tell the activations of D_A-m from those of D_A-nm, both made
again from the secret, and is then asked about the activations of any row. Its answer is
its log-odds: higher = more likely encoded, above 0 = called a member.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate, models
from jmia.encoding import activations
from jmia.encoding import keys as keys_lib
from jmia.stats import intervals
from jmia.training import optimizers, parallel
from jmia.training import recipe as recipe_lib

PyTree = Any
# A forward pass of this many rows of a VGG takes about 0.5 GiB.
_KEYS_AT_ONCE, _ROWS_AT_ONCE = 8, 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeConfig:
  """Settings of the decoder: the paper's (section 5.2) but for batches and momentum.

  Attributes:
    hidden: units of its hidden layer.
    num_epochs: passes over the synthetic rows.
    learning_rate: of SGD with momentum.
    momentum: of SGD.
    batch_size: synthetic rows in a minibatch. With larger ones 80 epochs are too few
      steps at this rate: the decoder is cut off while it still improves.
  """

  hidden: int = 128
  num_epochs: int = 80
  learning_rate: float = 0.001
  momentum: float = 0.9
  batch_size: int = 5

  def __post_init__(self) -> None:
    for name in ("hidden", "num_epochs", "learning_rate", "batch_size"):
      _validate.positive(name, getattr(self, name))
    _validate.probability("momentum", self.momentum)


class Decoders(NamedTuple):
  """Decoders of one model, one for each of `M` keys.

  Attributes:
    layer: what they read.
    units: `[M, n]` int32, which units of it.
    variables: of the decoders' MLPs, leaves `[M, ...]` float32.
  """

  layer: str
  units: np.ndarray
  variables: PyTree


class Decoded(NamedTuple):
  """How well members are told from others, one value for each of `M` models.

  Attributes:
    precision: at equal numbers of members and others: `tpr / (tpr + fpr)`, 0 where
      nobody is called a member. The paper counts rows: the same where its encoded and
      test rows are as many (Table 2 but for MNIST, which has 10,000 and 20,000).
    recall: the true positive rate.
    fpr: the false positive rate.
    auc: with its 95 % interval.
    auc_low: see `intervals.auc`.
    auc_high: see `intervals.auc`.
  """

  precision: np.ndarray
  recall: np.ndarray
  fpr: np.ndarray
  auc: np.ndarray
  auc_low: np.ndarray
  auc_high: np.ndarray


def fit(
  model: nn.Module,
  variables: PyTree,
  keys: Sequence[keys_lib.Key],
  example_shape: tuple[int, ...],
  config: DecodeConfig | None = None,
  *,
  progress: parallel.Progress = lambda done, total: None,
) -> Decoders:
  """Returns each key's decoder of a published model.

  A decoder depends on the model and its key alone: what it draws at random (initial
  weights, order of the rows) is drawn from the secret too.

  Args:
    model: the published module.
    variables: its parameters and other collections.
    keys: `M` keys, alike in all but their secrets.
    example_shape: shape of one row of data.
    config: of the decoders. Default: the paper's.
    progress: told how many keys are done, and of how many.

  Raises:
    ValueError: as `keys.expand`.
  """
  config = config or DecodeConfig()

  def fit_group(variables, material):
    return material.units, _fit(model, keys[0].layer, config, variables, material)

  groups = (
    (variables, keys_lib.expand([keys[k] for k in at], model, example_shape))
    for at in _groups(len(keys))
  )
  units, fitted = _over_devices(fit_group, groups, len(keys), progress)
  return Decoders(keys[0].layer, units, fitted)


def scores(
  model: nn.Module,
  variables: PyTree,
  decoders: Decoders,
  x: np.ndarray,
  feature_scale: float,
) -> np.ndarray:
  """Returns each decoder's log-odds that each row was encoded.

  Args:
    model: the published module.
    variables: its parameters and other collections.
    decoders: of `fit`, for this model.
    x: `[N, ...]` features as stored.
    feature_scale: the dataset's.

  Returns:
    `[M, N]` float32, higher = member, above 0 = called one.

  Raises:
    ValueError: if x holds no rows.
  """
  if not len(x):
    raise ValueError("x holds no rows, expected at least one")
  found = []
  for rows in np.array_split(x, -(-len(x) // _ROWS_AT_ONCE)):
    # The last rows are filled up with copies, so that one program does for all.
    fill = np.minimum(np.arange(min(len(x), _ROWS_AT_ONCE)), len(rows) - 1)
    h = _read(model, decoders.layer, feature_scale, variables, rows[fill])
    log_odds = _ask(h, decoders.units, decoders.variables)
    found.append(np.asarray(log_odds)[:, : len(rows)])
  return np.concatenate(found, axis=1)


def scores_of_readings(
  h_synthetic: np.ndarray,
  h: np.ndarray,
  keys: Sequence[keys_lib.Key],
  config: DecodeConfig | None = None,
  *,
  progress: parallel.Progress = lambda done, total: None,
) -> np.ndarray:
  """As `scores` of `fit`, where a model is known by its answers alone.

  Args:
    h_synthetic: `[M, 2 * S, C]` float32 log-probabilities that the model gives to each
      key's synthetic rows, in the order of `keys.Material`.
    h: `[N, C]` those that it gives to the rows in question.
    keys: `M` keys that read the output.
    config: of the decoders. Default: the paper's.
    progress: as of `fit`.

  Returns:
    `[M, N]` float32 log-odds.

  Raises:
    ValueError: if an array is not finite or not of its shape.
  """
  rows = 2 * keys[0].num_synthetic
  _validate.shape("h_synthetic", h_synthetic, (len(keys), rows, None))
  _validate.shape("h", h, (None, h_synthetic.shape[-1]))
  _validate.finite("h_synthetic", h_synthetic)
  _validate.finite("h", h)
  words = np.array([divmod(key.secret, 2**32) for key in keys], np.uint32)
  every_unit = np.broadcast_to(
    np.arange(h.shape[-1]), (min(len(keys), _KEYS_AT_ONCE), h.shape[-1])
  )
  config = config or DecodeConfig()

  def ask_group(h_synthetic, words):
    return _ask(h, every_unit, _fit_readings(config, h_synthetic, words))

  groups = ((h_synthetic[at], words[at]) for at in _groups(len(keys)))
  return _over_devices(ask_group, groups, len(keys), progress)


def measure(scores: np.ndarray, is_member: np.ndarray) -> Decoded:
  """Returns how well scores tell members from others.

  Args:
    scores: `[..., N]` log-odds; above 0 is called a member.
    is_member: `[N]` bool; with members and others.

  Raises:
    ValueError: as `intervals.auc`, or members or others are absent.
  """
  is_member = np.asarray(is_member)
  if is_member.all() or not is_member.any():
    raise ValueError(
      f"is_member holds {is_member.sum()} members of {is_member.size} rows, expected"
      " members and others"
    )
  called = np.asarray(scores) > 0
  recall = called[..., is_member].mean(-1)
  fpr = called[..., ~is_member].mean(-1)
  precision = recall / np.maximum(recall + fpr, np.finfo(np.float64).tiny)
  bounds = intervals.auc(scores, is_member)
  return Decoded(precision, recall, fpr, bounds.auc, bounds.low, bounds.high)


def _groups(num_keys: int) -> Iterator[np.ndarray]:
  """Indices of the keys that are fitted together; of none, one empty group.

  The last group is filled up with copies, so that one program does for all.
  """
  for start in range(0, max(1, num_keys), _KEYS_AT_ONCE):
    at = np.arange(start, start + min(num_keys, _KEYS_AT_ONCE))
    yield np.minimum(at, num_keys - 1)


def _over_devices(
  function: Callable[..., PyTree],
  groups: Iterable[tuple[PyTree, ...]],
  num_keys: int,
  progress: parallel.Progress,
) -> PyTree:
  """Results of groups of keys, which go to the devices in turn, cut to `num_keys`.

  Not `parallel.run`: the rows of a thousand keys are too many to be jobs of one run, so
  they are drawn group by group; and a decoder is too small for more than one core.
  """
  devices = jax.local_devices()
  results: list[PyTree] = []
  for arguments in groups:
    device = devices[len(results) % len(devices)]
    results.append(function(*jax.device_put(arguments, device)))
    # One group on each device at most: synthetic rows take memory.
    if len(results) >= len(devices):
      jax.block_until_ready(results[-len(devices)])
      num_done = (len(results) - len(devices) + 1) * _KEYS_AT_ONCE
      progress(min(num_done, num_keys), num_keys)
  found = jax.tree.map(
    lambda *parts: np.concatenate([np.asarray(part) for part in parts])[:num_keys],
    *results,
  )
  progress(num_keys, num_keys)
  return found


def _decoder(config: DecodeConfig) -> nn.Module:
  """The decoder's MLP. Two logits: their difference is the log-odds."""
  return models.make("mlp", 2, features=(config.hidden,))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(model, layer, config: DecodeConfig, variables, material: keys_lib.Material):
  """Variables `[M, ...]` of the decoders of some keys."""
  # Read one key's rows after another: the model's activations are the large part.
  h = jax.lax.map(
    lambda at: activations.read(model, variables, at[0], layer)[:, at[1]],
    (material.synthetic, material.units),
  )
  return _fit_readings(config, h, material.words)


@functools.partial(jax.jit, static_argnums=0)
def _fit_readings(config: DecodeConfig, h, words):
  """Variables `[M, ...]` of the decoders of readings `h [M, 2 * S, n]`."""
  num_synthetic = h.shape[1]
  optimizer = optimizers.OptimizerConfig(
    learning_rate=config.learning_rate, momentum=config.momentum
  )
  recipe = recipe_lib.supervised(
    _decoder(config),
    optimizers.transformation(optimizer),
    example_shape=h.shape[2:],
    num_classes=2,
    batch_size=min(config.batch_size, num_synthetic),
    num_epochs=config.num_epochs,
    learning_rate=optimizers.schedule(optimizer, config.num_epochs),
  )
  job = recipe_lib.Job(jnp.arange(num_synthetic), jnp.int32(num_synthetic))
  is_member = (jnp.arange(num_synthetic) < num_synthetic // 2).astype(jnp.int32)

  def fit_one(h, words):
    data = recipe_lib.Data(h, is_member)
    state = recipe.init(jax.random.wrap_key_data(words, impl="threefry2x32"), job)
    state, _ = jax.lax.scan(
      lambda s, _: recipe.update(s, job, data), state, length=config.num_epochs
    )
    return recipe_lib.model_variables(state)

  return jax.vmap(fit_one)(h, words)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _read(model, layer: str, feature_scale: float, variables, x):
  """`[B, U]` of stored rows."""
  x = recipe_lib.as_float(x, feature_scale)
  return activations.read(model, variables, x, layer)


@jax.jit
def _ask(h, units, variables):
  """`[M, B]` log-odds of what was read, `h [B, U]`."""
  params: Any = variables["params"]
  decoder = _decoder(DecodeConfig(hidden=params["Dense_0"]["bias"].shape[-1]))

  def ask_one(units, variables):
    logits: Any = decoder.apply(variables, h[:, units])
    return logits[:, 1] - logits[:, 0]

  return jax.vmap(ask_one)(units, variables)
