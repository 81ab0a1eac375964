"""How ONE model is trained.

A `Recipe` is a pair of pure functions. `supervised` builds the one that most of the
library uses: minibatch training of a Flax module, open at three seams (the fourth,
logits -> logits, acts on predictions; see `predictor`).

| seam     | type                            | default                       |
|----------|---------------------------------|-------------------------------|
| data     | (key, batch, job, data) -> batch | `normalize(1.0)`              |
| loss     | loss -> loss                    | `cross_entropy(model)` itself |
| gradient | loss -> gradient                | `value_and_grad`              |

Which rows a step sees is open too (`batches`), for DP-SGD, whose guarantee rests on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmia import _validate
from jmia.training import streams

Array = jax.Array
Stored = jax.Array | np.ndarray  # on the host before a run, on devices in it
PyTree = Any


class Recipe(NamedTuple):
  """How one model is trained.

  Attributes:
    init: `(key, job) -> state`.
    update: `(state, job, data) -> (state, metrics)`, one epoch.
    num_epochs: how many times `update` is called.
  """

  init: Callable[[Array, PyTree], PyTree]
  update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
  num_epochs: int


class Data(NamedTuple):
  """What all models share: `x [N, ...]` as stored, and labels `y [N]` int32."""

  x: Stored
  y: Stored


class Job(NamedTuple):
  """What differs between models; a recipe's own job type may hold more.

  Attributes:
    member_idx: `[K]` int32 rows of the data; those past `num_members` are padding.
    num_members: `[]` int32.
  """

  member_idx: Stored
  num_members: Stored


class MemberJob(Protocol):
  """What `supervised` asks of a job."""

  @property
  def member_idx(self) -> Stored: ...  # noqa: D102

  @property
  def num_members(self) -> Stored: ...  # noqa: D102


class Batch(NamedTuple):
  """One minibatch.

  Attributes:
    x: `[B, ...]` features; as stored until the data seam makes them float32.
    targets: `[B, C]` float32 class probabilities, one-hot unless a seam softens them.
    rows: `[B]` int32 rows of the data.
    valid: `[B]` bool, false on the padding of a last, partial batch.
  """

  x: Array
  targets: Array
  rows: Array
  valid: Array


class TrainState(NamedTuple):
  """State of one model in training.

  Attributes:
    params: trainable parameters.
    variables: the module's other collections, such as `batch_stats`.
    opt_state: the optimiser's state.
    key: the model's own key; constant, and folded with a stream and the step.
    epoch: `[]` int32, epochs done.
    step: `[]` int32, steps done.
  """

  params: PyTree
  variables: PyTree
  opt_state: PyTree
  key: Array
  epoch: Array
  step: Array


class Key(NamedTuple):
  """One step's keys, one for each purpose, so that none is used twice."""

  dropout: Array
  noise: Array


class Schedule(NamedTuple):
  """The minibatches of one epoch, `T` of them with `B` slots.

  Attributes:
    rows: `[T, B]` int32 rows of the data.
    valid: `[T, B]` bool, false in slots that hold no example.
    taken: `[T]` bool, whether there is such a step; if not, the state stays as it is.
  """

  rows: Array
  valid: Array
  taken: Array


# batches(key, job) -> the schedule of an epoch
Batches = Callable[[Array, Any], Schedule]
# loss(params, variables, batch, key, job) -> (scalar, (variables, correct [B] float32))
Loss = Callable[..., tuple[Array, tuple[PyTree, Array]]]
# gradient(loss)(params, ...) -> ((scalar, aux), gradients)
Gradient = Callable[[Loss], Callable[..., tuple[tuple[Array, Any], PyTree]]]
Transform = Callable[[Array, Batch, Any, Any], Batch]
_MANY_VECTORS = 32  # packing the ten of an MLP costs more than it gains


def normalize(feature_scale: float) -> Transform:
  """Data seam: features to float32, multiplied by `feature_scale`."""

  def transform(key: Array, batch: Batch, job: Any, data: Any) -> Batch:
    del key, job, data
    return batch._replace(x=as_float(batch.x, feature_scale))

  return transform


def as_float(x: Array, feature_scale: float) -> Array:
  """Returns stored features as the float32 values that a model sees."""
  if x.dtype == jnp.uint8 and jax.default_backend() != "cpu":
    # A GPU's matrix products can take bytes as they are, and so need no float copy of a
    # batch, but only signed ones; these are exact.
    x = jax.lax.bitcast_convert_type(x ^ 128, jnp.int8).astype(jnp.float32) + 128
  x = x.astype(jnp.float32)
  return x if feature_scale == 1 else x * feature_scale


def chain(*transforms: Transform) -> Transform:
  """Data seam: applies the transforms in order, each with a key of its own."""

  def transform(key: Array, batch: Batch, job: Any, data: Any) -> Batch:
    for i, one in enumerate(transforms):
      batch = one(jax.random.fold_in(key, i), batch, job, data)
    return batch

  return transform


def cross_entropy(model: nn.Module) -> Loss:
  """Returns the mean cross-entropy of `model` over the valid rows of a batch."""

  def loss(params, variables, batch: Batch, key: Key, job):
    del job
    logits, variables = model.apply(
      {"params": params, **variables},
      batch.x,
      train=True,
      mask=batch.valid,
      rngs={"dropout": key.dropout},
      mutable=list(variables),
    )
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy(logits, batch.targets)
    weight = batch.valid / jnp.maximum(batch.valid.sum(), 1)
    correct = logits.argmax(-1) == batch.targets.argmax(-1)
    return jnp.vdot(weight, losses), (variables, correct & batch.valid)

  return loss


def value_and_grad(loss: Loss):
  """Gradient seam: the plain gradient with respect to the parameters."""
  return jax.value_and_grad(loss, has_aux=True)


def clip_gradient(max_norm: float, gradient: Gradient = value_and_grad) -> Gradient:
  """Gradient seam: scales a batch's gradient down to global L2 norm `max_norm`.

  Raises:
    ValueError: if `max_norm` is not a finite number above 0.
  """
  _validate.positive("clip_norm", max_norm)
  clip = optax.clip_by_global_norm(max_norm)

  def clipped(loss: Loss):
    inner = gradient(loss)

    def value_and_clipped(*args):
      value, grads = inner(*args)
      return value, clip.update(grads, clip.init(grads))[0]

    return value_and_clipped

  return clipped


def off_step_key(key: Array, number: int = 0) -> Array:
  """Returns a key of a model's own that no step has: steps are counted in int32."""
  return jax.random.fold_in(key, 2**32 - 1 - number)


def epoch_order(key: Array, num_slots: int, num_members: Stored) -> Array:
  """Returns `[num_slots]` int32: the members' slots in random order, then padding."""
  # 31 random bits for members, a value above all of them for padding: a sort by one
  # word shuffles the former and keeps the latter behind, at half the cost of
  # jax.random.permutation.
  bits = jax.random.bits(key, (num_slots,)) >> 1
  padding = jnp.arange(num_slots) >= num_members
  return jnp.argsort(jnp.where(padding, jnp.uint32(0xFFFFFFFF), bits))


def shuffled(batch_size: int) -> Batches:
  """Every member once, in an order drawn from the key; the last batch is padded.

  Raises:
    ValueError: if `batch_size` is below 1.
  """
  _validate.positive("batch_size", batch_size)

  def batches(key: Array, job: MemberJob) -> Schedule:
    num_slots = job.member_idx.shape[0]
    num_steps = -(-num_slots // batch_size)
    order = epoch_order(key, num_slots, job.num_members)
    slots = jnp.pad(order, (0, num_steps * batch_size - num_slots))
    rows = job.member_idx[slots].reshape(num_steps, batch_size)
    valid = (jnp.arange(slots.shape[0]) < job.num_members).reshape(rows.shape)
    # A step of padding alone (a smaller model beside larger ones) must not move
    # momentum, weight decay or batch statistics.
    return Schedule(rows, valid, valid.any(axis=1))

  return batches


def supervised(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  *,
  example_shape: tuple[int, ...],
  num_classes: int,
  batch_size: int,
  num_epochs: int,
  learning_rate: Callable[[Array], Array],
  transform: Transform | None = None,
  loss: Loss | None = None,
  gradient: Gradient = value_and_grad,
  batches: Batches | None = None,
) -> Recipe:
  """Returns the recipe of ordinary supervised training in minibatches.

  Every epoch visits every member once, in an order drawn from the model's key, unless
  `batches` says otherwise. The last, partial batch is padded; padding has no part in
  the loss, the batch statistics or the step count, so the result is that of an
  unpadded loop.

  Args:
    model: a Flax module called as `model(x, train=bool, mask=[B] bool)`.
    optimizer: an optax transformation without a learning rate.
    example_shape: shape of one example.
    num_classes: number of classes `C`.
    batch_size: examples in a minibatch.
    num_epochs: passes over the members.
    learning_rate: epoch -> rate.
    transform: data seam; it must leave `x` float32. Default: `normalize(1.0)`.
    loss: loss seam, already applied. Default: `cross_entropy(model)`.
    gradient: gradient seam.
    batches: which rows each step sees. Default: `shuffled(batch_size)`.

  Returns:
    A recipe with `TrainState`, jobs as `MemberJob` and data as `Data`; its metrics
    are `{"loss": [], "accuracy": []}`, means over the examples seen in the epoch.

  Raises:
    ValueError: if `batch_size` or `num_epochs` is below 1; when it runs, if `data` has
      not as many labels as rows.
  """
  _validate.positive("num_epochs", num_epochs)
  transform = transform or normalize(1.0)
  loss_and_gradient = gradient(loss or cross_entropy(model))
  batches = batches or shuffled(batch_size)

  def init(key: Array, job: MemberJob) -> TrainState:
    del job
    example = jnp.zeros((1, *example_shape), jnp.float32)
    variables = dict(model.init(streams.initial(key, streams.INIT), example))
    params = variables.pop("params")
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, variables, optimizer.init(params), key, zero, zero)

  def step(state: TrainState, one: Schedule, rate, job, data):
    targets = jax.nn.one_hot(data.y[one.rows], num_classes)
    batch = Batch(data.x[one.rows], targets, one.rows, one.valid)
    batch = transform(streams.now(state, streams.DATA), batch, job, data)
    keys = Key(streams.now(state, streams.DROPOUT), streams.now(state, streams.NOISE))
    (value, (variables, correct)), grads = loss_and_gradient(
      state.params, state.variables, batch, keys, job
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    new = TrainState(
      params, variables, opt_state, state.key, state.epoch, state.step + 1
    )
    new = jax.tree.map(lambda n, o: jnp.where(one.taken, n, o), new, state)
    # A batch normalised by the statistics of no rows has a loss of NaN.
    value = jnp.where(one.valid.any(), value, 0.0)
    return new, (value * one.valid.sum(), correct.sum())

  def update(state: TrainState, job: MemberJob, data: Data):
    if len(data.y) != len(data.x):  # past its end JAX would read the last label
      raise ValueError(
        f"data.y holds {len(data.y)} labels, expected {len(data.x)}: one a row of x"
      )
    schedule = batches(streams.now(state, streams.ORDER), job)
    rate = learning_rate(state.epoch)
    pack, unpack = _packing(state)

    def packed_step(packed, one: Schedule):
      new, outcome = step(unpack(packed), one, rate, job, data)
      return pack(new), outcome

    packed, (losses, correct) = jax.lax.scan(packed_step, pack(state), schedule)
    state = unpack(packed)
    state = state._replace(epoch=state.epoch + 1)
    share = 1 / jnp.maximum(schedule.valid.sum(), 1)
    metrics = {"loss": losses.sum() * share, "accuracy": correct.sum() * share}
    return state, metrics

  return Recipe(init, update, num_epochs)


def _packing(
  like: PyTree,
) -> tuple[Callable[[PyTree], list[Array]], Callable[[list[Array]], PyTree]]:
  """Returns how a deep network's state is kept in an epoch's loop, and the way back.

  On an accelerator its vectors (biases, scales, running statistics) are one array, and
  so are updated by one kernel instead of one or two a layer. On a CPU, and for networks
  of few layers, the state is kept as it is.
  """
  leaves, structure = jax.tree.flatten(like)
  is_vector = [a.ndim == 1 and a.dtype == jnp.float32 for a in leaves]
  if sum(is_vector) < _MANY_VECTORS or jax.default_backend() == "cpu":
    return jax.tree.leaves, lambda packed: jax.tree.unflatten(structure, packed)
  vectors = [a for a, one in zip(leaves, is_vector, strict=True) if one]
  ends = np.cumsum([a.size for a in vectors])[:-1]

  def pack(state: PyTree) -> list[Array]:
    leaves = list(zip(jax.tree.leaves(state), is_vector, strict=True))
    joined = jnp.concatenate([a for a, one in leaves if one])
    return [joined, *(a for a, one in leaves if not one)]

  def unpack(packed: list[Array]) -> PyTree:
    vectors, others = iter(jnp.split(packed[0], ends)), iter(packed[1:])
    leaves = [next(vectors if one else others) for one in is_vector]
    return jax.tree.unflatten(structure, leaves)

  return pack, unpack


def model_variables(state: TrainState) -> PyTree:
  """Returns what a trained module is applied with: parameters and statistics."""
  return {"params": state.params, **state.variables}


def predictor(
  model: nn.Module,
  feature_scale: float,
  output: Callable[[Array], Array] = lambda logits: logits,
) -> Callable[[PyTree, Array], Array]:
  """Returns `(variables, x [B, ...] as stored) -> logits [B, C]`, not in training.

  Args:
    model: the module that was trained; its variables are `model_variables(state)`.
    feature_scale: the dataset's.
    output: output seam, logits -> logits, `[B, C]` both.
  """

  def predict(variables: PyTree, x: Array) -> Array:
    logits: Any = model.apply(variables, as_float(x, feature_scale), train=False)
    return output(logits.astype(jnp.float32))

  return predict


def answers(
  predict: Callable[[PyTree, Array], Array],
  variables: PyTree,
  x: Array,
  rows: Array,
  *,
  batch_size: int,
) -> Array:
  """Returns a model's logits on rows of the data, a batch at a time; traceable.

  Args:
    predict: of `predictor`.
    variables: of `model_variables`.
    x: `[N, ...]` as stored.
    rows: `[n]` int rows of `x`; the last batch is filled up with the last of them.
    batch_size: rows predicted at once.

  Returns:
    `[n, C]` float32.
  """
  num_rows = len(rows)
  batch_size = min(batch_size, num_rows)
  num_batches = -(-num_rows // batch_size)
  slots = jnp.minimum(jnp.arange(num_batches * batch_size), num_rows - 1)
  batches = jnp.asarray(rows)[slots].reshape(num_batches, batch_size)
  logits = jax.lax.map(lambda batch: predict(variables, x[batch]), batches)
  return logits.reshape(num_batches * batch_size, -1)[:num_rows]
