"""DP-SGD: clipped gradients of single examples, Gaussian noise, Poisson sampling.

The mechanism, and what its epsilon means:

- At each of `num_steps` steps every member is in the batch independently with the same
  probability `sampling_rate` (Poisson sampling); `poisson` draws it so, with a
  probability never above that rate.
- The gradient of each example in the batch is clipped to the L2 norm `clip_norm`, they
  are summed, Gaussian noise of standard deviation `noise_multiplier * clip_norm` is
  added to every coordinate of the sum, and it is divided by the *expected* batch size,
  a constant. A batch that happens to be empty takes its step, of noise alone.
- Neighbouring training sets differ in one member, added or removed; for one exchanged
  for another the guarantee is weaker. The number of members, for which the rate is
  chosen, and the number of steps are taken to be public.
- Epsilon at delta is that of `dp_accounting`'s accountant by privacy loss
  distributions, whose discretisation errs to the safe side.
- Arrays have static shapes, so a batch has at most `max_batch_size` examples. With a
  chance `t` of ever exceeding it, the mechanism is within total variation `t` of the
  one accounted for, on both of two neighbouring sets, which makes an `(eps, delta')`
  guarantee `(eps, delta' + (1 + exp(eps)) t)`. `max_batch_size` is such that the added
  term is at most `_SLACK delta`, and epsilon is computed at `(1 - _SLACK) delta`.

The guarantee is of the trained parameters alone. Not covered: the loss and accuracy of
each epoch, settings that were chosen by looking at the same data, that a table's
features are standardised by statistics of all its rows, members included, and that the
noise comes from a pseudo-random generator in float32.

Source: Abadi et al., "Deep Learning with Differential Privacy". Noise is drawn from
each model's own key, so that models trained in one program have independent noise.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate
from jmia.defenses import clipping
from jmia.training import recipe as recipe_lib

_SLACK = 1e-3  # share of delta set aside for batches that would overflow
# Of the privacy loss; halving it moves epsilon by less than 1 % from .3 on. Below, the
# safe side is far: an epsilon of .03 has 1.5 times the noise that it needs, .01 three.
_INTERVAL = 1e-3
# Above this epsilon the interval grows with it, or an accountant's table would: at
# 1e6 it would have a thousand million rows.
_LARGE_EPSILON = 50.0
# More is given the noise of this much, which no training notices: further up the
# accountant's own numbers overflow.
_LARGEST_EPSILON = 1e6
_TOLERANCE = 1e-3  # relative, of the noise multiplier


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPConfig:
  """What is asked of DP-SGD.

  Attributes:
    epsilon: above 0; infinity clips and adds no noise.
    delta: in (0, 1); should be well below one in the number of members.
    clip_norm: L2 norm that every example's gradient is clipped to.
    microbatch_size: examples that go through the model at once.
  """

  epsilon: float
  delta: float = 1e-5
  clip_norm: float = 1.0
  microbatch_size: int = 16

  def __post_init__(self) -> None:
    if not self.epsilon > 0:
      raise ValueError(f"epsilon={self.epsilon} must be above 0")
    _validate.probability("delta", self.delta, open_interval=True)
    _validate.positive("clip_norm", self.clip_norm)
    _validate.positive("microbatch_size", self.microbatch_size)


class Mechanism(NamedTuple):
  """A run of DP-SGD as the accountant sees it.

  Attributes:
    epsilon: the guarantee, at most what was asked for; infinity without noise.
    delta: see `epsilon`.
    num_members: that the rate and the slots are made for.
    noise_multiplier: standard deviation of the noise over the clipping norm.
    sampling_rate: each member's chance to be in a batch.
    num_steps: in all epochs.
    max_batch_size: slots of a batch, a multiple of the microbatch.
  """

  epsilon: float
  delta: float
  num_members: int
  noise_multiplier: float
  sampling_rate: float
  num_steps: int
  max_batch_size: int


def mechanism(
  config: DPConfig, *, num_members: int, batch_size: int, num_epochs: int
) -> Mechanism:
  """Returns the run with the least noise that keeps to the epsilon asked for.

  Args:
    config: epsilon, delta and the microbatch.
    num_members: that the sampling rate is chosen for, `batch_size / num_members`.
    batch_size: expected examples in a batch, at most `num_members`.
    num_epochs: of `ceil(num_members / batch_size)` steps each.

  Raises:
    ValueError: a size is below 1, `batch_size` is above `num_members`, or `delta` is
      not below `1 / num_members`.
    ImportError: dp-accounting is not installed.
  """
  for name, value in (("batch_size", batch_size), ("num_epochs", num_epochs)):
    _validate.positive(name, value)
  if batch_size > num_members:
    raise ValueError(f"batch_size={batch_size} is above num_members={num_members}")
  if config.delta >= 1 / num_members:
    raise ValueError(
      f"delta={config.delta} must be below 1 / num_members={1 / num_members:.2g}: else"
      " publishing a member outright would do"
    )
  rate = batch_size / num_members
  num_steps = math.ceil(num_members / batch_size) * num_epochs
  noise_multiplier, found = 0.0, math.inf
  if math.isfinite(config.epsilon):
    target = min(config.epsilon, _LARGEST_EPSILON)
    noise_multiplier = _calibrate(target, config.delta, rate, num_steps)
    found = epsilon(noise_multiplier, rate, num_steps, config.delta, _interval(target))
  slots = _max_batch_size(num_members, rate, num_steps, found, config.delta)
  return Mechanism(
    epsilon=found,
    delta=config.delta,
    num_members=num_members,
    noise_multiplier=noise_multiplier,
    sampling_rate=rate,
    num_steps=num_steps,
    max_batch_size=-(-slots // config.microbatch_size) * config.microbatch_size,
  )


def _interval(target: float) -> float:
  """Returns how finely the privacy loss is cut up where `target` is asked for."""
  return _INTERVAL * max(1.0, target / _LARGE_EPSILON)


@functools.cache
def epsilon(
  noise_multiplier: float,
  sampling_rate: float,
  num_steps: int,
  delta: float,
  interval: float = _INTERVAL,
) -> float:
  """Returns the epsilon of a run at `delta`, for adding or removing one member.

  Args:
    noise_multiplier: above 0.
    sampling_rate: of the Poisson sampling, in (0, 1].
    num_steps: at least 1.
    delta: in (0, 1), of which `_SLACK` is set aside (see the module).
    interval: of the privacy loss; a coarser one errs further to the safe side.
  """
  accountant = _accountant(noise_multiplier, sampling_rate, num_steps, interval)
  return float(accountant.get_epsilon((1 - _SLACK) * delta))


def profile(run: Mechanism, epsilons: np.ndarray) -> np.ndarray:
  """Returns the delta of a run at each epsilon, for adding or removing one member.

  Args:
    run: with noise.
    epsilons: `[K]`, at least 0.

  Returns:
    `[K]` float64, each with the chance of a batch that overflows, as the module says.

  Raises:
    ValueError: the run has no noise.
    ImportError: dp-accounting is not installed.
  """
  if not math.isfinite(run.epsilon):
    raise ValueError(f"epsilon={run.epsilon} of a run without noise: no delta below 1")
  accountant = _accountant(
    run.noise_multiplier, run.sampling_rate, run.num_steps, _interval(run.epsilon)
  )
  epsilons = np.asarray(epsilons, np.float64)
  deltas = np.array([accountant.get_delta(float(e)) for e in epsilons])
  overflow = _SLACK * run.delta / (1 + math.exp(min(run.epsilon, 700.0)))
  return np.minimum(deltas + (1 + np.exp(np.minimum(epsilons, 700))) * overflow, 1.0)


def _accountant(
  noise_multiplier: float, sampling_rate: float, num_steps: int, interval: float
) -> Any:
  """Returns the accountant of a run, told of it."""
  import dp_accounting
  from dp_accounting import pld

  accountant = pld.PLDAccountant(
    dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    value_discretization_interval=interval,
  )
  step = dp_accounting.GaussianDpEvent(noise_multiplier)
  if sampling_rate < 1:
    step = dp_accounting.PoissonSampledDpEvent(sampling_rate, step)
  accountant.compose(step, num_steps)
  return accountant


@functools.cache
def _calibrate(target: float, delta: float, rate: float, num_steps: int) -> float:
  """Returns the least noise multiplier, to `_TOLERANCE`, with epsilon <= target."""
  interval = _interval(target)

  def is_enough(noise_multiplier: float) -> bool:
    return epsilon(noise_multiplier, rate, num_steps, delta, interval) <= target

  # From a lot of noise downwards, since an accountant is slow where there is little.
  high = 1.0
  while not is_enough(high):
    high *= 2
  low = high / 2
  while low > 1e-3 and is_enough(low):
    high, low = low, low / 2
  while high - low > _TOLERANCE * high:
    middle = (low + high) / 2
    low, high = (low, middle) if is_enough(middle) else (middle, high)
  return high


def _max_batch_size(num_members, rate, num_steps, epsilon, delta) -> int:
  """Returns the least bound that keeps overflow within its share of delta."""
  from scipy import special

  # No guarantee, no share: then a chance of one in a thousand million at all will do.
  allowed = 1e-9
  if math.isfinite(epsilon):
    allowed = _SLACK * delta / (1 + math.exp(min(epsilon, 700.0)))
  if allowed < 1e-290:  # smaller than tails can be told: no batch may overflow at all
    return num_members + 1
  sizes = np.arange(num_members + 2)  # a neighbour may have one member more
  overflow = num_steps * special.bdtrc(sizes, num_members + 1, rate)
  return int(sizes[np.argmax(overflow <= allowed)])


def poisson(run: Mechanism, steps_per_epoch: int) -> recipe_lib.Batches:
  """Returns batches to which every member belongs independently of all others.

  Args:
    run: gives the rate and the slots.
    steps_per_epoch: steps in one epoch, each of which is taken.

  Raises:
    ValueError: when traced, for a job with more than one slot beyond `num_members`:
      its batches would overflow more often than accounted for.
  """
  # An integer comparison: the chance is floor(rate 2^32) / 2^32, not above the rate.
  last = np.uint32(math.floor(run.sampling_rate * 2**32) - 1)

  def batches(key: jax.Array, job: recipe_lib.MemberJob) -> recipe_lib.Schedule:
    num_slots = len(job.member_idx)
    if num_slots > run.num_members + 1:
      raise ValueError(
        f"a model has {num_slots} slots for members; its DP-SGD was made for"
        f" num_members={run.num_members}, or one more"
      )
    is_member = jnp.arange(num_slots) < job.num_members
    member_idx = jnp.asarray(job.member_idx)

    def one_step(step_key: jax.Array) -> tuple[jax.Array, jax.Array]:
      bits = jax.random.bits(step_key, (num_slots,), jnp.uint32)
      is_in = (bits <= last) & is_member
      slots = jnp.nonzero(is_in, size=run.max_batch_size, fill_value=0)[0]
      return member_idx[slots], jnp.arange(run.max_batch_size) < is_in.sum()

    # One by one: members by steps of random bits would be large.
    keys = jax.random.split(key, steps_per_epoch)
    rows, valid = jax.lax.map(one_step, keys)
    return recipe_lib.Schedule(rows, valid, jnp.ones(steps_per_epoch, bool))

  return batches


def noisy_gradient(
  clip_norm: float,
  noise_multiplier: float,
  expected_batch_size: float,
  microbatch_size: int,
) -> recipe_lib.Gradient:
  """Gradient seam: the noised sum of clipped gradients over the expected batch size.

  The loss must treat each example by itself: it is called with batches of one. Valid
  examples come first in a batch, and only the microbatches that hold some are computed.

  Args:
    clip_norm: L2 norm that every example's gradient is clipped to.
    noise_multiplier: standard deviation of the noise over `clip_norm`.
    expected_batch_size: what the sum is divided by.
    microbatch_size: divides the slots of a batch; so many examples go through the model
      at once.

  Raises:
    ValueError: when traced, for a model that keeps batch statistics: they mix the
      examples of a batch, and would be published without noise.
    ImportError: jax-privacy is not installed.
  """

  def gradient(loss: recipe_lib.Loss):
    def value_and_noisy(params, variables, batch, key, job):
      if jax.tree.leaves(variables):
        raise ValueError(
          f"the model keeps {', '.join(variables)}, which DP-SGD cannot protect:"
          " expected a model without batch normalisation"
        )

      def of_one(params, example):
        one, slot = example
        own = key._replace(dropout=jax.random.fold_in(key.dropout, slot[0]))
        value, (_, correct) = loss(params, variables, one, own, job)
        return value, correct.sum()

      clipped = clipping.clipped_sum(
        of_one,
        params,
        (batch, jnp.arange(len(batch.valid))),
        batch.valid,
        clip_norm,
        microbatch_size,
      )
      value = clipped.value / jnp.maximum(batch.valid.sum(), 1)
      grads = add_noise(key.noise, clipped.total, noise_multiplier * clip_norm)
      grads = jax.tree.map(lambda g: g / expected_batch_size, grads)
      return (value, (variables, clipped.aux)), grads

    return value_and_noisy

  return gradient


def add_noise(key: jax.Array, tree: Any, std: float) -> Any:
  """Returns the tree with independent Gaussian noise on every number."""
  leaves, structure = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  noisy = [
    leaf + std * jax.random.normal(k, leaf.shape, leaf.dtype)
    for k, leaf in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, noisy)
