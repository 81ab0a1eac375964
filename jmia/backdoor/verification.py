"""Did a model train on data that was marked? Tests on how it answers marked queries.

The owner queries a model with m marked samples that are not of the target class and
that nobody trained on. The attack success rate (ASR) alpha is the share that the model
gives the target label. The null hypothesis is `Pr(f(x') = y_t) <= beta`, with the
baseline beta an upper bound of what a model does that never saw the marks.

**Two tests.** Hu et al. take Student's t (their Theorem 1, proved in A.1): claim where
`sqrt(m - 1) (alpha - beta) - sqrt(alpha - alpha^2) t_tau > 0`, with `t_tau` the
tau-quantile on m - 1 degrees of freedom. That is `T > t_tau` for
`T = sqrt(m) (alpha - beta) / s`, s the sample standard deviation with m - 1 in its
denominator, since `s^2 = m / (m - 1) (alpha - alpha^2)`. At alpha = 0 and 1 the
criterion stands though T is infinite: never a claim, always a claim. The other test is
the exact binomial one, and it decides (`Verification.rejected`).

**Their real levels**, at beta = 1 / K and 5 to 200 queries: at tau = 0.95 the t-test is
liberal for K = 2 (it accuses up to 6.0 % of clean models) and conservative for K of 10
and more (from 30 queries 0.8 % at K = 10, 0.3 % at 30, 0.02 % at 100). At tau = 0.99,
K = 2 and 5 queries it accuses 3.1 %, since it takes an ASR of 1 for certain; above
beta = 1 / 2 that happens ever more often. The exact test never exceeds its level, and
where K is large it has more power: its levels from 30 queries are 2.6, 1.7 and 3.6 %.

**What the exact test assumes.** For one fixed model: queries drawn independently from
the owner's distribution, or at random without replacement from held-out rows so drawn,
chosen without regard to the model's answers; and beta at least that model's own rate.
Then that model is accused with a chance of at most 1 - tau. A mean over clean models is
no such bound: queries of one model share the model, so if clean models differ, those
above the mean are accused too often. `beta = 1 / K` is an assumption as well: a trigger
or label that clean models favour breaks it. Choosing the label at random does not mend
that, since a model that gives all marked samples one label meets it once in K times.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy import typing as npt
from scipy import special

from jmia import _validate
from jmia.stats import levels, rate_tests


class Verification(NamedTuple):
  """The verdict on each model, and what it rests on; arrays of one shape `[...]`.

  Attributes:
    asr: float64, the share of queries answered with the target label.
    t_statistic: float64; -inf at an ASR of 0 and +inf at 1, for which JSON has no
      value: write null there.
    p_value: float64, of the t-test; 1 at an ASR of 0 and 0 at 1, its limits.
    p_value_exact: float64, of the binomial test; never 0.
    rejected_t: bool, whether the paper's criterion makes the claim.
    rejected: bool, whether the claim is made: `p_value_exact <= 1 - confidence`.
  """

  asr: np.ndarray
  t_statistic: np.ndarray
  p_value: np.ndarray
  p_value_exact: np.ndarray
  rejected_t: np.ndarray
  rejected: np.ndarray


def draw_queries(
  key: jax.Array, eligible: np.ndarray, num_queries: int, num_draws: int
) -> jax.Array:
  """Draws sets of queries, without replacement, on the device.

  Draw d of owner i depends on `key`, i, d and the owner's own samples alone.

  Args:
    key: a `jax.random.key`.
    eligible: `[..., N]` bool, the samples to draw from: held out, and not of the target
      class. Leading axes are owners.
    num_queries: `m`.
    num_draws: `D`, sets of queries for each owner.

  Returns:
    `[..., D, m]` int32 indices into N, each set in no particular order.

  Raises:
    ValueError: a number is below 1, `eligible` is not bool, or one of its rows has
      fewer than `num_queries` samples.
  """
  eligible = np.asarray(eligible)
  _validate.positive("num_queries", num_queries)
  _validate.positive("num_draws", num_draws)
  if eligible.dtype != np.bool_ or not eligible.ndim:
    raise ValueError(
      f"eligible has dtype {eligible.dtype} and shape {eligible.shape}, expected bool "
      "[..., N]"
    )
  available = eligible.sum(axis=-1)
  if (available < num_queries).any():
    raise ValueError(
      f"num_queries={num_queries} is above the {available.min()} samples that are "
      "eligible"
    )
  rows = jnp.asarray(eligible.reshape(-1, eligible.shape[-1]))
  drawn = _draw(key, rows, num_queries, num_draws)
  return drawn.reshape(*eligible.shape[:-1], num_draws, num_queries)


def count_successes(
  predicted: jax.Array, queries: jax.Array, target_label: jax.Array
) -> jax.Array:
  """Counts the queries of each draw that are given the target label; on the device.

  Args:
    predicted: `[..., N]` int, the labels that a model gives the marked samples.
    queries: `[..., D, m]` int, of `draw_queries`.
    target_label: `[...]` int. All leading axes broadcast: `predicted [M, O, N]` with
      `queries [O, D, m]` and `target_label [O]` is M models x O owners.

  Returns:
    `[..., D]` int32.
  """
  return _count(predicted, queries, target_label)


def verify(
  successes: npt.ArrayLike,
  num_queries: int,
  baseline: npt.ArrayLike,
  confidence: float = 0.95,
) -> Verification:
  """Tests "the model did not train on the marked data", for any number of models.

  Args:
    successes: `[...]` int, queries answered with the target label.
    num_queries: `m`, at least 2.
    baseline: beta, a float or `[...]` broadcastable against `successes`; in (0, 1).
    confidence: tau, in (0, 1); the level of each test is 1 - tau. For several owners or
      models at once, adjust `p_value_exact` by `jmia.stats.multiple`.

  Returns:
    A `Verification` of the broadcast shape.

  Raises:
    ValueError: an argument is out of range, or the shapes do not broadcast.
  """
  _validate.probability("confidence", confidence, open_interval=True)
  level = levels.of_confidence(confidence)
  student = rate_tests.student(successes, num_queries, baseline)
  exact = rate_tests.binomial(successes, num_queries, baseline)
  asr = np.broadcast_to(np.asarray(successes) / num_queries, exact.shape)
  return Verification(
    asr=asr,
    t_statistic=student.statistic,
    p_value=student.p_value,
    p_value_exact=exact,
    rejected_t=student.p_value < level,
    rejected=levels.reaches(exact, level),
  )


def asr_threshold(num_queries: int, baseline: float, confidence: float = 0.95) -> float:
  """Returns the ASR above which the paper's criterion makes the claim.

  The root of `sqrt(m - 1) (alpha - beta) = sqrt(alpha - alpha^2) t_tau`; with
  `c = t_tau^2 / (m - 1)` it is
  `(beta + c / 2 + sqrt(c beta (1 - beta) + c^2 / 4)) / (1 + c)`, Wilson's bound.

  Args:
    num_queries: `m`, at least 2.
    baseline: beta, in (0, 1).
    confidence: tau, at least 0.5 and below 1.

  Raises:
    ValueError: an argument is out of range.

  Source: Hu et al., Theorem 1. From 30 queries at 0.95 it is 23.35, 14.42 and 10.79 %
  for K = 10, 30 and 100; the paper prints 23.3, 14.4 (14.1 in its tables) and 10.7.
  """
  if num_queries < 2:
    raise ValueError(f"num_queries={num_queries} must be at least 2")
  _validate.probability("baseline", baseline, open_interval=True)
  if not 0.5 <= confidence < 1:
    raise ValueError(f"confidence={confidence} must lie in [0.5, 1)")
  c = special.stdtrit(num_queries - 1, confidence) ** 2 / (num_queries - 1)
  root = np.sqrt(c * baseline * (1 - baseline) + c**2 / 4)
  return float((baseline + c / 2 + root) / (1 + c))


def critical_successes(
  num_queries: npt.ArrayLike, baseline: float, confidence: float = 0.95
) -> np.ndarray:
  """Returns the least number of successes with which the exact test makes the claim.

  Args:
    num_queries: `[...]` int, m, at least 1.
    baseline: beta, in (0, 1).
    confidence: tau, in (0, 1).

  Returns:
    `[...]` int, at least 1; `num_queries + 1` where even m of m are too few.

  Raises:
    ValueError: an argument is out of range.
  """
  num_queries = np.asarray(num_queries)
  if not (num_queries >= 1).all():
    raise ValueError(f"num_queries={num_queries} must be at least 1")
  _validate.probability("baseline", baseline, open_interval=True)
  _validate.probability("confidence", confidence, open_interval=True)
  level = levels.of_confidence(confidence)
  # The tail falls with the count; `low` is always too few, `high` always enough.
  low, high = np.zeros_like(num_queries), num_queries + 1
  while (high - low > 1).any():
    middle = (low + high) // 2
    tail = rate_tests.binomial_tail(middle, num_queries, np.asarray(baseline))
    is_enough = levels.reaches(tail, level)
    low, high = np.where(is_enough, low, middle), np.where(is_enough, middle, high)
  return high


@jax.jit
def _count(predicted, queries, target_label):
  def one(predicted, queries, target_label):
    return jnp.sum(predicted[queries] == target_label, axis=-1, dtype=jnp.int32)

  return jnp.vectorize(one, signature="(n),(d,m),()->(d)")(
    predicted, queries, target_label
  )


@jax.jit(static_argnums=(2, 3))
def _draw(key, eligible, num_queries, num_draws):
  def one(key, rows, count):
    # Floyd & Bentley (1987): a uniform subset in as many steps as it has members.
    last = count - num_queries + jnp.arange(num_queries)
    proposed = jax.random.randint(key, (num_queries,), 0, last + 1)

    def step(i, chosen):
      is_taken = (chosen == proposed[i]).any()
      return chosen.at[i].set(jnp.where(is_taken, last[i], proposed[i]))

    chosen = jax.lax.fori_loop(0, num_queries, step, jnp.full(num_queries, -1))
    return rows[chosen]

  def draws(owner, eligible):
    rows = jnp.argsort(~eligible).astype(jnp.int32)  # stable: the eligible come first
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      jax.random.fold_in(key, owner), jnp.arange(num_draws)
    )
    return jax.vmap(one, (0, None, None))(keys, rows, eligible.sum())

  return jax.vmap(draws)(jnp.arange(len(eligible)), eligible)
