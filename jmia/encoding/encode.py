"""The encoding recipe: a classifier trained beside a discriminator of its own members.

Song and Shokri, Algorithm 1. The client's rows are D_C; a chosen part of them, D_C-m,
is encoded, the rest is D_C-nm. With the synthetic rows of the key,
`D_m = D_C-m + D_A-m` and `D_nm = D_C-nm + D_A-nm`. Each iteration does

  1. k discriminator steps: on a minibatch of D_m and D_nm together, the binary
     cross-entropy of a linear discriminator g of what is read of the model,

       L_enc = -mean(log g(h(x)) over D_m rows, log(1 - g(h(x))) over D_nm rows),

     moves both the model (theta) and the discriminator (phi), at rate eta_d;
  2. one classifier step: the cross-entropy on a minibatch of D_C moves theta, at eta_f.

The paper prints L_enc without its sign, says that it is minimised, and steps down its
gradient in Algorithm 1; the negative is meant. Otherwise than in Algorithm 1:

- It draws b rows for either step. Here an epoch is one pass over D_C, in which each row
  of D_m and D_nm is visited k times: the discriminator's batches are larger than the
  classifier's by the synthetic rows' share.
- It writes theta's step before phi's. Here both are from one gradient (section 4.2).

The paper leaves open k, and:

- Each objective has momentum of its own. One buffer for both would apply the momentum
  of one objective's gradient at the other's rate.
- Batch statistics are those of the batch in both kinds of step, and both move the
  running ones.

Defences are of the classifier's step: the client asks for them, and the encoding is
what its training code adds.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmia import _validate, splits, types
from jmia.defenses import registry
from jmia.encoding import activations
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import optimizers, parallel, streams
from jmia.training import recipe as recipe_lib

Array = jax.Array
PyTree = Any
# Returns parameters that satisfy a constraint: (params, job) -> params.
Constrain = Callable[[PyTree, Any], PyTree]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
  """Settings of an encoding.

  Attributes:
    train: the classifier, its optimiser (eta_f and the schedule), batch size, epochs.
    layer: where the encoding is read: a layer, or `activations.OUTPUT`.
    discriminator_rate: eta_d at epoch 0; it follows the classifier's schedule.
    discriminator_steps: the paper's k.
    defenses: that the classifier's step carries; those that act on a step alone
      (`registry.acts_on_step`).
  """

  train: config_lib.TrainConfig
  layer: str
  discriminator_rate: float = 0.01
  discriminator_steps: int = 1
  defenses: tuple[registry.DefenseConfig, ...] = ()

  def __post_init__(self) -> None:
    _validate.positive("discriminator_rate", self.discriminator_rate)
    _validate.positive("discriminator_steps", self.discriminator_steps)
    if self.train.clip_norm is not None:
      raise ValueError(f"clip_norm={self.train.clip_norm}: expected None, not clipped")
    for defense in self.defenses:
      if not registry.acts_on_step(defense.name):
        raise ValueError(
          f"defense {str(defense)!r} cannot go with an encoding, which takes those that"
          " change a step of the classifier alone"
        )


class Job(NamedTuple):
  """What differs between models.

  Attributes:
    member_idx: `[K]` int32, the rows D_C; those past `num_members` are padding.
    num_members: `[]` int32.
    is_encoded: `[K]` bool, which of them are D_C-m.
    synthetic: `[2 * S, ...]` float32, D_A-m and then D_A-nm (`keys.expand`).
    unit_mask: `[U]` bool, the units that carry the encoding.
  """

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  is_encoded: recipe_lib.Stored
  synthetic: recipe_lib.Stored
  unit_mask: recipe_lib.Stored


def make_jobs(
  members: Sequence[np.ndarray],
  encoded: Sequence[np.ndarray],
  material: keys_lib.Material,
) -> Job:
  """Returns stacked jobs, one for each of `M` models.

  Args:
    members: for each model the rows D_C.
    encoded: for each model the rows D_C-m, all of them members.
    material: of `keys.expand`, for as many keys.

  Raises:
    ValueError: if the numbers of models differ, a row is repeated, none or all of the
      members are encoded, or an encoded row is no member.
  """
  if not len(members) == len(encoded) == len(material.units):
    raise ValueError(
      f"members holds {len(members)} models, encoded {len(encoded)} and material"
      f" {len(material.units)}: expected as many"
    )
  assigned = splits.ragged(list(members))
  splits.ragged(list(encoded))
  for m, (rows, chosen) in enumerate(zip(members, encoded, strict=True)):
    absent = np.setdiff1d(chosen, rows)
    if absent.size:
      raise ValueError(f"encoded[{m}] holds row {absent[0]}, which is not a member")
    if len(chosen) == len(rows):
      raise ValueError(f"encoded[{m}] holds all members: none is left to differ from")
  is_encoded = np.zeros(assigned.member_idx.shape, bool)
  for row, rows, chosen in zip(is_encoded, members, encoded, strict=True):
    row[: len(rows)] = np.isin(rows, chosen)
  return Job(*assigned, is_encoded, material.synthetic, material.unit_mask)


class Discriminator(NamedTuple):
  """Linear: `weight [U]` (0 at units that carry nothing) and `bias []`, float32."""

  weight: Array
  bias: Array


class EncodeState(NamedTuple):
  """State of one model in training.

  Attributes:
    params: of the classifier, theta.
    variables: its other collections, such as `batch_stats`.
    discriminator: phi.
    classify_state: the classifier step's optimiser state.
    encode_state: the discriminator step's, of theta and phi.
    key: the model's own key; constant, and folded with a stream and the step.
    epoch: `[]` int32, epochs done.
    step: `[]` int32, iterations done.
  """

  params: PyTree
  variables: PyTree
  discriminator: Discriminator
  classify_state: PyTree
  encode_state: PyTree
  key: Array
  epoch: Array
  step: Array


def recipe(
  config: EncodeConfig,
  dataset: types.Dataset,
  *,
  constrain: Constrain = lambda params, job: params,
) -> recipe_lib.Recipe:
  """Returns the recipe of Algorithm 1.

  Args:
    config: the settings.
    dataset: gives the shape, the scale and the number of classes.
    constrain: applied to the parameters after each step of either kind.

  Returns:
    A recipe with `EncodeState`, jobs as `Job` (or with more fields) and data as
    `recipe.Data`. Metrics are means over the rows of an epoch, while it trains:
    `{"loss", "accuracy"}` over D_C, and `{"encoding_loss", "encoding_accuracy"}` over
    D_m and D_nm.

  Raises:
    ValueError: if the model has no such layer.
  """
  plan = registry.plan(
    config.defenses, config.train, dataset, num_members=dataset.num_examples
  )
  model = config_lib.make_model(plan.train, dataset)
  activations.num_units(model, config.layer, dataset.x.shape[1:])
  parts = _Parts(model, config, plan, dataset, constrain)

  def update(state: EncodeState, job: Job, data: recipe_lib.Data):
    def iteration(state, batches):
      pool, client = batches
      passes = jnp.arange(config.discriminator_steps)
      state, encoding = jax.lax.scan(
        lambda s, at: parts.discriminator_step(s, *at, job, data), state, (passes, pool)
      )
      state, classifying = parts.classifier_step(state, client, job, data)
      is_real = pool.valid.any() | client.valid.any()
      return state._replace(step=state.step + is_real), (encoding, classifying)

    pool = parts.pool_batches(state, job)
    client = parts.client_batches(state, job)
    state, (encoding, classifying) = jax.lax.scan(iteration, state, (pool, client))
    num_pooled = config.discriminator_steps * (len(job.synthetic) + job.num_members)
    loss, correct = (a.sum() / job.num_members for a in classifying)
    encoding_loss, encoding_correct = (a.sum() / num_pooled for a in encoding)
    metrics = {
      "loss": loss,
      "accuracy": correct,
      "encoding_loss": encoding_loss,
      "encoding_accuracy": encoding_correct,
    }
    return state._replace(epoch=state.epoch + 1), metrics

  return recipe_lib.Recipe(parts.init, update, config.train.num_epochs)


class Encoded(NamedTuple):
  """`M` trained models, each as it would be published.

  Attributes:
    variables: parameters and statistics, leaves `[M, ...]` on the host.
    metrics: `[M, E]` each, those of `recipe`.
    diverged_epoch: `[M]` int32, -1 for none; leave the others out.
  """

  variables: PyTree
  metrics: dict[str, np.ndarray]
  diverged_epoch: np.ndarray

  def model(self, m: int) -> PyTree:
    """Returns the variables of model m."""
    return jax.tree.map(lambda a: a[m], self.variables)


def train(
  config: EncodeConfig,
  dataset: types.Dataset,
  jobs: Job,
  key: jax.Array,
  **run_options: Any,
) -> Encoded:
  """Trains one encoded model for each job.

  Args:
    config: the settings.
    dataset: whose rows the jobs name.
    jobs: of `make_jobs`.
    key: typed key `[]`; model m starts from `fold_in(key, m)`.
    **run_options: of `parallel.run`, such as `width` or `checkpoint_dir`.

  Raises:
    ValueError: as `recipe` and `parallel.run`.
  """
  result = parallel.run(
    recipe(config, dataset),
    key,
    jobs,
    recipe_lib.Data(dataset.x, dataset.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
    config=dataclasses.asdict(config),
    **run_options,
  )
  return Encoded(result.collected, result.metrics, result.diverged_epoch)


class _Parts:
  """The parts of one iteration, with what they share."""

  def __init__(
    self,
    model: nn.Module,
    config: EncodeConfig,
    plan: registry.Plan,
    dataset: types.Dataset,
    constrain: Constrain,
  ):
    optimizer, num_epochs = plan.train.optimizer, plan.train.num_epochs
    # Decay belongs to the classifier's objective: once per iteration, not k + 1 times.
    encoder = dataclasses.replace(
      optimizer, learning_rate=config.discriminator_rate, weight_decay=0.0
    )
    self.model, self.layer = model, config.layer
    self.batch_size = config.train.batch_size
    self.discriminator_steps = config.discriminator_steps
    self.num_classes = dataset.num_classes
    self.example_shape = dataset.x.shape[1:]
    self.feature_scale = dataset.feature_scale
    self.constrain = constrain
    self.classify = optimizers.transformation(optimizer)
    self.classify_rate = optimizers.schedule(optimizer, num_epochs)
    self.encode = optimizers.transformation(encoder)
    self.encode_rate = optimizers.schedule(encoder, num_epochs)
    self.transform = config_lib.data_seam(plan.train, dataset, plan.transforms)
    self.classify_gradient = plan.gradient(plan.loss(recipe_lib.cross_entropy(model)))
    self.encode_gradient = jax.value_and_grad(self.encoding_loss, has_aux=True)

  def init(self, key: Array, job: Job) -> EncodeState:
    example = jnp.zeros((1, *self.example_shape), jnp.float32)
    variables = dict(self.model.init(streams.initial(key, streams.INIT), example))
    params = variables.pop("params")
    num_units = job.unit_mask.shape[0]
    draw = jax.random.normal(streams.initial(key, streams.DISCRIMINATOR), (num_units,))
    weight = draw * job.unit_mask / jnp.sqrt(job.unit_mask.sum())
    discriminator = Discriminator(weight, jnp.zeros(()))
    zero = jnp.zeros((), jnp.int32)
    return EncodeState(
      params,
      variables,
      discriminator,
      self.classify.init(params),
      self.encode.init((params, discriminator)),
      key,
      zero,
      zero,
    )

  def client_batches(self, state: EncodeState, job: Job) -> "_Slots":
    """D_C in random order, `[steps, B]`."""
    num_slots = job.member_idx.shape[0]
    num_steps = -(-num_slots // self.batch_size)
    order = recipe_lib.epoch_order(
      streams.now(state, streams.ORDER), num_slots, job.num_members
    )
    return _batches(order, job.num_members, num_steps, self.batch_size)

  def pool_batches(self, state: EncodeState, job: Job) -> "_Slots":
    """D_m and D_nm in k random orders, `[steps, k, B']`.

    Slots are the synthetic rows and then the client's, so that padding is last.
    """
    num_steps = -(-job.member_idx.shape[0] // self.batch_size)
    num_slots = len(job.synthetic) + job.member_idx.shape[0]
    num_valid = len(job.synthetic) + job.num_members

    def one_pass(key):
      order = recipe_lib.epoch_order(key, num_slots, num_valid)
      return _batches(order, num_valid, num_steps, -(-num_slots // num_steps))

    keys = jax.random.split(streams.now(state, streams.POOL), self.discriminator_steps)
    return jax.tree.map(lambda a: a.swapaxes(0, 1), jax.vmap(one_pass)(keys))

  def classifier_step(self, state: EncodeState, at: "_Slots", job: Job, data):
    """Returns the state after one classifier step, and its sums of loss and hits."""
    rows = job.member_idx[at.slots]
    batch = recipe_lib.Batch(
      data.x[rows], jax.nn.one_hot(data.y[rows], self.num_classes), rows, at.valid
    )
    batch = self.transform(streams.now(state, streams.DATA), batch, job, data)
    keys = recipe_lib.Key(
      streams.now(state, streams.DROPOUT), streams.now(state, streams.NOISE)
    )
    (loss, (variables, correct)), grads = self.classify_gradient(
      state.params, state.variables, batch, keys, job
    )
    updates, classify_state = self.classify.update(
      grads, state.classify_state, state.params
    )
    rate = self.classify_rate(state.epoch)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    new = state._replace(
      params=self.constrain(params, job),
      variables=variables,
      classify_state=classify_state,
    )
    return _unless_padding(at.valid, new, state, loss, correct)

  def encoding_loss(self, trained, variables, x, is_member, valid, dropout):
    """L_enc of the valid rows, and `(variables, correct [B])`."""
    params, discriminator = trained
    h, variables = activations.apply(
      self.model,
      {"params": params, **variables},
      x,
      self.layer,
      train=True,
      mask=valid,
      rngs={"dropout": dropout},
    )
    log_odds = h @ discriminator.weight + discriminator.bias
    losses = optax.sigmoid_binary_cross_entropy(log_odds, is_member)
    weight = valid / jnp.maximum(valid.sum(), 1)
    correct = ((log_odds > 0) == is_member) & valid
    return jnp.vdot(weight, losses), (variables, correct)

  def discriminator_step(self, state: EncodeState, number, at: "_Slots", job, data):
    """As `classifier_step`, for discriminator step `number` of the k."""
    x, is_member = self.pooled(at.slots, job, data)
    trained = state.params, state.discriminator
    dropout = jax.random.fold_in(streams.now(state, streams.ENCODE_DROPOUT), number)
    (loss, (variables, correct)), grads = self.encode_gradient(
      trained, state.variables, x, is_member, at.valid, dropout
    )
    # Units outside the key carry nothing: their weight is 0 and stays so.
    on_units = grads[1]._replace(weight=grads[1].weight * job.unit_mask)
    updates, encode_state = self.encode.update(
      (grads[0], on_units), state.encode_state, trained
    )
    rate = self.encode_rate(state.epoch)
    params, discriminator = jax.tree.map(lambda p, u: p - rate * u, trained, updates)
    new = state._replace(
      params=self.constrain(params, job),
      variables=variables,
      discriminator=discriminator,
      encode_state=encode_state,
    )
    return _unless_padding(at.valid, new, state, loss, correct)

  def pooled(self, slots: Array, job: Job, data) -> tuple[Array, Array]:
    """Float32 features of rows of D_m and D_nm, and which are of D_m."""
    num_synthetic = len(job.synthetic)
    is_synthetic = slots < num_synthetic
    client = jnp.maximum(slots - num_synthetic, 0)
    synthetic = job.synthetic[jnp.minimum(slots, num_synthetic - 1)]
    real = recipe_lib.as_float(data.x[job.member_idx[client]], self.feature_scale)
    broadcast = is_synthetic.reshape(-1, *[1] * (real.ndim - 1))
    x = jnp.where(broadcast, synthetic, real)
    is_member = jnp.where(
      is_synthetic, slots < num_synthetic // 2, job.is_encoded[client]
    )
    return x, is_member


class _Slots(NamedTuple):
  """Minibatches of slots: `slots [..., B]` int32, and `valid [..., B]`: no padding."""

  slots: Array
  valid: Array


def _batches(order, num_valid, num_steps: int, size: int) -> _Slots:
  """Cuts an order of slots into `[num_steps, size]`."""
  slots = jnp.pad(order, (0, num_steps * size - order.shape[0]))
  valid = jnp.arange(slots.shape[0]) < num_valid
  return _Slots(slots.reshape(num_steps, size), valid.reshape(num_steps, size))


def _unless_padding(valid, new: EncodeState, old: EncodeState, loss, correct):
  """The state after a step, unless it was of padding alone, and the step's sums."""
  new = jax.tree.map(lambda n, o: jnp.where(valid.any(), n, o), new, old)
  return new, (jnp.where(valid.any(), loss, 0.0) * valid.sum(), correct.sum())
