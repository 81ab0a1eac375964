"""The distribution of a loss under "not a member", its quantiles and its p-values.

A calibrated attack rejects "not a member" at level alpha where `loss <= c_alpha`, with
`c_alpha` the alpha quantile of losses `l_1 .. l_n` seen under that hypothesis (Ye et
al., "Enhanced Membership Inference Attacks against Machine Learning Models", section 4,
eq. 9-10: the "alpha-percentile for the histogram"; how it interpolates is not said).
Five estimators of the quantile, numerically those of privacy-meter 1.0.1's
`hypothesis_test.py`, and the p-value that inverts each:

  method            c_alpha                             p-value of a loss l
  empirical         lower order statistic               (1 + #{l_r <= l}) / (1 + n)
  linear            interpolated order statistic        (2 + h) / (1 + n)
  gaussian          mean + std Phi^-1(alpha)            Phi((l - mean) / std)
  logit_gaussian    of phi = -log(expm1(l + floor))     Phi(-(phi - mean) / std)
  min_linear_logit  the smaller of linear and logit     max(h / (n - 1), logit's)

`h` is the fractional rank of l: k - 1 at the k-th smallest null loss, linear between
two, -1 below all.

**Threshold and p-value.** For 0 < alpha < 1 and l tied with no null loss,
`l <= c_alpha` exactly if `p_raw <= alpha`. `p_raw` is the p-value above, except that

- empirical has `p_raw = #{l_r < l} / (n - 1)` and linear `p_raw = max(h, 0) / (n - 1)`:
  their p-values are smoothed. A smoothed p-value is never 0, and if l and the null
  losses are exchangeable then P(p <= t) <= t for every t, with ties too, which does
  not hold of `p_raw`. `c_alpha`, the paper's, is laxer at small alpha: without ties
  it rejects up to a share alpha + 2 / (n + 1) of the null;
- logit_gaussian compares `l + loss_floor`: privacy-meter adds the floor to the null's
  losses and does not take it off the threshold. So does that part of min_linear_logit.

Under the floor phi hardly changes: in float32 all losses below some 1e-13 have one. So
it is computed as its distance from the phi of loss 0, which moments and p-values, being
differences, do not notice: `log1p(expm1(l) / (1 - exp(-floor)))`, whose relative
precision, and so the order of losses, goes on to 0.

The Gaussian tails are never 0, so gaussian, logit_gaussian and min_linear_logit need no
smoothing: scores below all null losses still differ. Their level is as good as the fit.

**Departures from privacy-meter 1.0.1**, whose code has these quirks:

- its 2-D Gaussian takes `ppf(1 - alpha)`, its 1-D one `ppf(alpha)`; ours is the latter;
- linear replaces the first and last *entries* of alpha by `min - 1e-4` and
  `max + 1e-4`, over all samples in 2-D. Ours does so where alpha is 0 or 1, with the
  sample's own minimum and maximum;
- its logit threshold at alpha = 0 is NaN; ours is the limit, 0.
"""

from collections.abc import Callable, Iterable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate

_Array = jax.Array | np.ndarray
_Part = Any  # an array, or None where the method does not read it

METHODS = ("empirical", "linear", "gaussian", "logit_gaussian", "min_linear_logit")

# What a method reads of a null: order statistics, moments, or moments of the logits.
_FIELDS = {
  "empirical": ("values",),
  "linear": ("values",),
  "gaussian": ("mean",),
  "logit_gaussian": ("logit_mean",),
  "min_linear_logit": ("values", "logit_mean"),
}
_LEAST_LOGIT = 1e-9  # of mean distance; float32 holds squares of 1e-6 of it
_EDGE = 1e-4  # how far linear's thresholds at alpha = 0 and 1 lie beyond the losses


class Null(NamedTuple):
  """Null losses of N columns (samples, classes or one model), and their moments.

  Column n's are the `num_losses[n]` entries of `values` from `start[n]` on, ascending;
  columns may differ in length and several may share their values. What the method it
  was fitted for does not read is None.

  Attributes:
    num_losses: `[N]` int32, at least 2.
    loss_floor: `[]` float32.
    values: `[K]` float32 losses.
    start: `[N]` int32.
    mean: `[N]` float32 mean of the losses.
    std: `[N]` float32 standard deviation, of maximum likelihood (divided by n).
    logit_mean: `[N]` float32 mean of how far `phi = -log(expm1(loss + loss_floor))`
      lies below that of loss 0, at least 0.
    logit_std: `[N]` float32 standard deviation of it.
  """

  num_losses: _Array
  loss_floor: _Array
  values: _Part = None
  start: _Part = None
  mean: _Part = None
  std: _Part = None
  logit_mean: _Part = None
  logit_std: _Part = None


def fit(
  losses: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str | None = None,
  loss_floor: float = 1e-6,
  std_floor: float = 1e-6,
) -> Null:
  """Returns the null of every column of `losses`; runs on the host.

  Args:
    losses: `[R, N]` finite losses.
    valid: `[R, N]` bool, the losses that belong to the null; None for all. A masked
      loss has no influence, as if it were absent.
    method: the one of `METHODS` it is for, to compute no more; None for any.
    loss_floor: added to a loss before its logit, which is infinite at loss 0.
    std_floor: least standard deviation, for losses that are all equal; of logits it is
      that share of their `logit_mean`.

  Returns:
    A `Null` of N columns.

  Raises:
    ValueError: a shape disagrees, `method` is unknown, a floor is not positive, or a
      column has fewer than 2 valid losses.
  """
  _validate.shape("losses", losses, (None, None))
  _check_fit(method, loss_floor, std_floor)
  num_rows, num_columns = losses.shape
  count = np.full(num_columns, num_rows)
  if valid is not None:
    _validate.shape("valid", valid, losses.shape)
    count = np.asarray(valid).sum(axis=0)
  check_counts(count)
  null = Null(count.astype(np.int32), np.asarray(loss_floor, np.float32))
  if _reads(method, "values"):
    rows = _ascending_rows(losses, valid)
    start = np.arange(num_columns, dtype=np.int32) * np.int32(num_rows)
    null = null._replace(values=rows.reshape(-1), start=start)
  if _reads(method, "mean"):
    mean, std = _moments(losses, valid, null.num_losses, std_floor)
    null = null._replace(mean=mean, std=std)
  if _reads(method, "logit_mean"):
    logits = _jitted_logit(losses, null.loss_floor)
    mean, std = _moments(logits, valid, null.num_losses, 0.0)
    std = jnp.maximum(std, _logit_std_floor(mean, std_floor))
    null = null._replace(logit_mean=mean, logit_std=std)
  return null


def fit_groups(
  groups: Sequence[np.ndarray],
  *,
  method: str | None = None,
  loss_floor: float = 1e-6,
  std_floor: float = 1e-6,
) -> Null:
  """Returns the null of every group of losses, of any sizes; runs on the host.

  As `fit`, with column n from `groups[n]`, one-dimensional. Moments are summed in
  float64: a group may pool millions of losses.
  """
  _check_fit(method, loss_floor, std_floor)
  for group in groups:
    _validate.shape("groups", group, (None,))
  count = np.array([len(group) for group in groups])
  check_counts(count)
  null = Null(count.astype(np.int32), np.asarray(loss_floor, np.float32))
  if _reads(method, "values"):
    start = (np.cumsum(count) - count).astype(np.int32)
    null = null._replace(values=_ascending_groups(groups, count), start=start)
  if _reads(method, "mean"):
    mean, std = _group_moments(groups, std_floor)
    null = null._replace(mean=mean, std=std)
  if _reads(method, "logit_mean"):
    logits = (_host_logit(group, loss_floor) for group in groups)
    mean, std = _group_moments(logits, 0.0)
    std = np.maximum(std, _logit_std_floor(mean, std_floor))
    null = null._replace(logit_mean=mean, logit_std=std)
  return null


def select(null: Null, columns: np.ndarray) -> Null:
  """Returns the null whose column n is `null`'s column `columns[n]`; values shared."""
  own = {
    name: array[columns]
    for name, array in null._asdict().items()
    if array is not None and name not in ("values", "loss_floor")
  }
  return null._replace(**own)


def check_counts(count: np.ndarray, kind: str = "column") -> None:
  """Raises ValueError unless every column has at least 2 valid losses."""
  short = np.flatnonzero(count < 2)
  if short.size:
    raise ValueError(
      f"{short.size} of {count.size} {kind}s have fewer than 2 valid null losses; "
      f"first {kind} {short[0]}, which has {count[short[0]]}"
    )


def quantile(null: Null, alpha: np.ndarray, method: str) -> jax.Array:
  """Returns the threshold `c_alpha` of every level and column.

  Ranks `alpha (n - 1)` are computed in float64 on the host, as NumPy does: in float32
  their rounding would pick a neighbouring order statistic.

  Args:
    null: of N columns.
    alpha: `[A]` significance levels in [0, 1].
    method: one of `METHODS`.

  Returns:
    `[A, N]` float32; a loss at most this is called a member's.

  Raises:
    ValueError: `method` is unknown or not the one the null was fitted for, or `alpha`
      is not `[A]` levels in [0, 1].
  """
  from scipy import special

  _check_fitted(null, method)
  alpha = np.asarray(alpha, np.float64)
  _validate.shape("alpha", alpha, (None,))
  if not ((alpha >= 0) & (alpha <= 1)).all():
    raise ValueError(f"alpha={alpha} must lie in [0, 1]")
  count = np.asarray(null.num_losses, np.float64)
  if (count == count[:1]).all():
    count = count[:1]  # one column of ranks serves all
  rank = alpha[:, None] * (count - 1)
  levels = _Levels(
    lower=np.floor(rank).astype(np.int32),
    fraction=(rank % 1).astype(np.float32),
    edge=(_EDGE * ((alpha == 1).astype(np.float32) - (alpha == 0)))[:, None],
    normal=special.ndtri(alpha).astype(np.float32)[:, None],
  )
  return _jitted_quantile(null, levels, method)


@functools.partial(jax.jit, static_argnames="method")
def log_p_value(null: Null, loss: jax.Array, method: str) -> jax.Array:
  """Returns the log of the smoothed p-value `P_null(L <= loss)`; traceable.

  Args:
    null: of N columns.
    loss: `[..., N]` losses, column n's against column n's null.
    method: one of `METHODS`.

  Returns:
    `[..., N]` float32, at most 0; near 1 a p-value is known to about 1e-7.

  Raises:
    ValueError: `method` is unknown or not the one the null was fitted for.
  """
  _check_fitted(null, method)
  return _LOG_P_VALUES[method](null, jnp.asarray(loss, jnp.float32))


def ascending(group_of: jax.Array, values: jax.Array) -> jax.Array:
  """Returns `[K]` values group after group, each ascending; traceable.

  Args:
    group_of: `[K]` int32, the group of each value.
    values: `[K]` float32.
  """
  return jax.lax.sort((group_of, values), num_keys=2)[1]


class _Levels(NamedTuple):
  """What the significance levels come to, each `[A, N]` or, alike, `[A, 1]`."""

  lower: np.ndarray  # rank of the order statistic below the quantile
  fraction: np.ndarray  # of the way to the next
  edge: np.ndarray  # -1e-4 at alpha = 0, 1e-4 at alpha = 1, else 0
  normal: np.ndarray  # Phi^-1(alpha)


@functools.partial(jax.jit, static_argnames="method")
def _jitted_quantile(null: Null, levels: _Levels, method: str) -> jax.Array:
  return _QUANTILES[method](null, levels)


def _empirical_quantile(null: Null, levels: _Levels) -> jax.Array:
  return null.values[null.start + levels.lower]


def _linear_quantile(null: Null, levels: _Levels) -> jax.Array:
  below = null.values[null.start + levels.lower]
  above = null.values[null.start + jnp.minimum(levels.lower + 1, null.num_losses - 1)]
  gap, fraction = above - below, levels.fraction
  # From the nearer end, so that rounding never leaves the interval.
  between = jnp.where(
    fraction < 0.5, below + fraction * gap, above - (1 - fraction) * gap
  )
  return between + levels.edge


def _gaussian_quantile(null: Null, levels: _Levels) -> jax.Array:
  return jnp.asarray(null.mean + null.std * levels.normal)


def _logit_quantile(null: Null, levels: _Levels) -> jax.Array:
  of_zero = _loss_to_logit(jnp.asarray(null.loss_floor))
  return jax.nn.softplus(null.logit_mean + null.logit_std * levels.normal - of_zero)


def _min_quantile(null: Null, levels: _Levels) -> jax.Array:
  return jnp.minimum(_linear_quantile(null, levels), _logit_quantile(null, levels))


def _empirical_log_p(null: Null, loss: jax.Array) -> jax.Array:
  return jnp.log((1 + _num_at_most(null, loss)) / (1 + null.num_losses))


def _linear_log_p(null: Null, loss: jax.Array) -> jax.Array:
  return jnp.log((2 + _fractional_rank(null, loss)) / (1 + null.num_losses))


def _gaussian_log_p(null: Null, loss: jax.Array) -> jax.Array:
  return jax.scipy.special.log_ndtr((loss - null.mean) / null.std)


def _logit_log_p(null: Null, loss: jax.Array) -> jax.Array:
  logit = _logit_below_zeros(loss, null.loss_floor)
  return jax.scipy.special.log_ndtr((logit - null.logit_mean) / null.logit_std)


def _min_log_p(null: Null, loss: jax.Array) -> jax.Array:
  rank = jnp.maximum(_fractional_rank(null, loss), 0)
  return jnp.maximum(jnp.log(rank / (null.num_losses - 1)), _logit_log_p(null, loss))


_QUANTILES: dict[str, Callable[[Null, _Levels], jax.Array]] = {
  "empirical": _empirical_quantile,
  "linear": _linear_quantile,
  "gaussian": _gaussian_quantile,
  "logit_gaussian": _logit_quantile,
  "min_linear_logit": _min_quantile,
}
_LOG_P_VALUES: dict[str, Callable[[Null, jax.Array], jax.Array]] = {
  "empirical": _empirical_log_p,
  "linear": _linear_log_p,
  "gaussian": _gaussian_log_p,
  "logit_gaussian": _logit_log_p,
  "min_linear_logit": _min_log_p,
}


def _num_at_most(null: Null, loss: jax.Array) -> jax.Array:
  """`#{l_r <= loss}` in each column's own stretch of values, by bisection."""

  def halve(_: int, bounds: tuple[jax.Array, jax.Array]):
    low, high = bounds
    middle = (low + high) // 2
    at_most = null.values[null.start + middle] <= loss
    is_open = low < high
    return (
      jnp.where(is_open & at_most, middle + 1, low),
      jnp.where(is_open & ~at_most, middle, high),
    )

  zeros = jnp.zeros(jnp.broadcast_shapes(loss.shape, null.num_losses.shape), jnp.int32)
  num_steps = null.values.size.bit_length()
  return jax.lax.fori_loop(0, num_steps, halve, (zeros, zeros + null.num_losses))[0]


def _fractional_rank(null: Null, loss: jax.Array) -> jax.Array:
  """Rank k - 1 at the k-th smallest null loss, linear between two, -1 below all."""
  num_below = _num_at_most(null, loss)
  is_between = (num_below > 0) & (num_below < null.num_losses)
  below = null.values[null.start + jnp.maximum(num_below - 1, 0)]
  above = null.values[null.start + jnp.minimum(num_below, null.num_losses - 1)]
  # Two losses near the least float may differ by less than one: then they are one loss,
  # and the rank is that of the larger.
  gap = above - below
  tells = gap >= jnp.finfo(gap.dtype).tiny
  share = jnp.where(tells, (loss - below) / jnp.where(tells, gap, 1), 1)
  return num_below - 1 + jnp.where(is_between, share, 0)


def _loss_to_logit(loss: jax.Array) -> jax.Array:
  """`log(p / (1 - p))` at `p = exp(-loss)`; `-log(expm1(loss))` overflows at 89."""
  return -loss - jnp.log(-jnp.expm1(-loss))


def _logit_below_zeros(loss: jax.Array, loss_floor: _Array) -> jax.Array:
  """How far the logit of `loss + loss_floor` lies below that of `loss_floor`."""
  small = jnp.log1p(jnp.expm1(jnp.minimum(loss, 1)) / -jnp.expm1(-loss_floor))
  # Of a large loss `expm1` would overflow, and nothing cancels.
  large = _loss_to_logit(jnp.asarray(loss_floor)) - _loss_to_logit(loss + loss_floor)
  return jnp.where(loss < 1, small, large)


@jax.jit
def _jitted_logit(losses: jax.Array, loss_floor: jax.Array) -> jax.Array:
  return _logit_below_zeros(jnp.asarray(losses, jnp.float32), loss_floor)


def _logit_std_floor(mean: _Array, std_floor: float) -> _Array:
  """The least standard deviation of logits: what is above it is more than rounding."""
  return std_floor * mean.clip(_LEAST_LOGIT)


@jax.jit
def _moments(
  x: jax.Array, valid: jax.Array | None, count: jax.Array, std_floor: float
) -> tuple[jax.Array, jax.Array]:
  """Mean and standard deviation of the valid entries of each column; each `[N]`."""
  x = jnp.asarray(x, jnp.float32)
  rough = jnp.sum(x, axis=0, where=valid) / count
  # Deviations from a mean that is right but for rounding: they sum to that rounding,
  # and their squares cancel nothing.
  error = jnp.sum(x - rough, axis=0, where=valid) / count
  square = jnp.sum(jnp.square(x - rough), axis=0, where=valid) / count
  variance = jnp.maximum(square - jnp.square(error), 0)
  return rough + error, jnp.maximum(jnp.sqrt(variance), std_floor)


def _host_logit(group: np.ndarray, loss_floor: float) -> np.ndarray:
  """As `_logit_below_zeros`, in NumPy: groups differ in size, each would compile."""
  loss, floor = np.asarray(group, np.float64), np.float64(np.float32(loss_floor))
  with np.errstate(invalid="ignore", divide="ignore"):  # negative: NaN, as there
    small = np.log1p(np.expm1(np.minimum(loss, 1)) / -np.expm1(-floor))
    shifted = loss + floor
    large = shifted + np.log(-np.expm1(-shifted)) - floor - np.log(-np.expm1(-floor))
  return np.where(loss < 1, small, large)


def _group_moments(
  groups: Iterable[np.ndarray], std_floor: float
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each group, summed in float64."""
  mean, std = [], []
  for group in groups:
    mean.append(np.mean(group, dtype=np.float64))
    std.append(np.std(np.asarray(group, np.float32), dtype=np.float64))
  return np.array(mean, np.float32), np.maximum(std, std_floor).astype(np.float32)


def _reads(method: str | None, field: str) -> bool:
  return method is None or field in _FIELDS[method]


def _check_fit(method: str | None, loss_floor: float, std_floor: float) -> None:
  if method is not None:
    _validate.known("method", method, METHODS)
  _validate.positive("loss_floor", loss_floor)
  _validate.positive("std_floor", std_floor)


def _check_fitted(null: Null, method: str) -> None:
  _validate.known("method", method, METHODS)
  if any(getattr(null, field) is None for field in _FIELDS[method]):
    raise ValueError(f"null was fitted for another method than {method!r}")


def _on_host() -> bool:
  """Whether to sort with NumPy: XLA:CPU's sort takes 40 times as long."""
  return jax.default_backend() == "cpu"


def _ascending_rows(losses: np.ndarray, valid: np.ndarray | None) -> jax.Array:
  """`[N, R]` float32: each column's losses ascending, masked ones at +inf."""
  if not _on_host():
    rows = jnp.asarray(losses, jnp.float32).T
    return jnp.sort(rows if valid is None else jnp.where(valid.T, rows, jnp.inf))
  copy = np.array(np.asarray(losses).T, np.float32, order="C")
  if valid is not None:
    copy[~np.asarray(valid).T] = np.inf
  copy.sort()
  return jnp.asarray(copy)


def _ascending_groups(groups: Sequence[np.ndarray], count: np.ndarray) -> _Array:
  """`[sum(count)]` float32: group after group, each ascending."""
  values = np.concatenate([np.asarray(group, np.float32) for group in groups])
  if not _on_host():
    group_of = np.repeat(np.arange(len(groups), dtype=np.int32), count)
    return ascending(jnp.asarray(group_of), jnp.asarray(values))
  for part in np.split(values, np.cumsum(count)[:-1]):
    part.sort()
  return values
