"""Lower bounds on epsilon from scores of members and of others, in float64 on the host.

A mechanism allows an attack with false positive rate `u` at most a true positive rate
`g(u)`, its curve: under (epsilon, delta) `epsilon_curve`, under mu-Gaussian privacy
`gaussian_curve`. Where more true positives are seen than a curve allows, the curve is
refuted, and all of the family below it: the bound is the largest parameter refuted.

**The test.** `m` members and `n` others are scored, each an independent draw of its
kind. The threshold is the `j`-th highest score of the others, at a rank fixed
beforehand; `k` members are above it. Whatever the scores' distribution, the threshold's
false positive rate `U` is at most (stochastically) `Beta(j, n + 1 - j)`, and given the
threshold `k` is binomial with a rate of at most `g(U)`. So under the curve the chance
of `k` or more is at most `E[P(Bin(m, g(U)) >= k)]`: exact, with ties to the safe side,
and with no share of the level lost on an interval for each rate. Likewise with members
and others in each other's place, and scores turned round, for attacks that know best
who is no member.

**Which threshold.** The best of several ranks is not known beforehand. All ranks of a
fixed grid are tested, `n / 2`, `n / 8`, ... 1, in both directions, each at its share of
the level (Bonferroni), and so are all attacks of a joint bound. By simulation (two
Gaussians at distances .3 to 3, and members of whom 5 % stand out, 200 and 1,000 of
each kind, 1 to 20 attacks) this proves more than choosing attack and rank on half, or a
quarter, of the samples and testing that one on the rest, but for 6 or more attacks of
which few members stand out far.

Source: Jagielski et al., "Auditing Differentially Private Machine Learning" (2020), for
the bound from two rates; Nasr et al., "Tight Auditing of Differentially Private Machine
Learning" (2023), for the Gaussian curve; Wilks (1941) for a sample's ranks as bounds.
Departs: they count at thresholds picked on the same scores, or pay for two intervals.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.stats import rate_tests

# (parameter, false positive rates [...]) -> the highest true positive rates [...]
Curve = Callable[[float, np.ndarray], np.ndarray]

# A bound from n samples is about log(n): no test comes near.
_HIGHEST = 64.0
_TOLERANCE = 1e-4  # absolute, of a bound; to the safe side


def epsilon_curve(delta: float) -> Curve:
  """Returns the curves of (epsilon, delta), over epsilon.

  `g(u) = min(1, e^eps u + delta, 1 - e^-eps (1 - delta - u))`: either kind of error
  bounds the other (Kairouz et al. 2015, equation 4).
  """

  def curve(epsilon: float, fpr: np.ndarray) -> np.ndarray:
    few = math.exp(epsilon) * fpr + delta
    many = 1 - math.exp(-epsilon) * np.maximum(1 - delta - fpr, 0)
    return np.minimum(np.minimum(few, many), 1.0)

  return curve


def exchange_curve(delta: float) -> Curve:
  """Returns the curves of an exchanged row, over the epsilon of one added or removed.

  Evidence of one row in another's place, as that of a training set of fixed size, so
  bounds the epsilon of the weaker neighbours that most guarantees are stated for.
  """

  def curve(epsilon: float, fpr: np.ndarray) -> np.ndarray:
    doubled, larger = exchanged(epsilon, delta)
    return epsilon_curve(min(larger, 1.0))(doubled, fpr)

  return curve


def gaussian_curve() -> Curve:
  """Returns the curves of Gaussian privacy, `g(u) = Phi(Phi^-1(u) + mu)`, over mu.

  Source: Dong, Roth & Su, "Gaussian Differential Privacy" (2022), equation 6.
  """
  from scipy import special  # slow to import

  return lambda mu, fpr: special.ndtr(special.ndtri(fpr) + mu)


def exchanged(epsilon: float, delta: float) -> tuple[float, float]:
  """Returns what (epsilon, delta) for a row added or removed is for one exchanged.

  `(2 epsilon, (1 + e^epsilon) delta)`: the one row goes, then the other comes.
  """
  return 2 * epsilon, (1 + math.exp(epsilon)) * delta


def gaussian_epsilon(mu: float, delta: float) -> float:
  """Returns the epsilon at `delta` of mu-Gaussian privacy; infinite at a delta of 0.

  Raises:
    ValueError: `mu` is negative or `delta` is not in [0, 1].
    ImportError: dp-accounting is not installed.

  Source: Balle & Wang (2018), theorem 8, by `dp_accounting`.
  """
  import dp_accounting

  if not mu >= 0:
    raise ValueError(f"mu={mu} must be at least 0")
  _validate.probability("delta", delta)
  if mu == 0:
    return 0.0
  if delta == 0:
    return math.inf
  return float(dp_accounting.get_epsilon_gaussian(1 / mu, delta))


def lower_bound(
  member_scores: np.ndarray,
  other_scores: np.ndarray,
  curve: Curve,
  *,
  confidence: float = 0.95,
) -> float:
  """Returns the largest parameter of a family of curves that the scores refute.

  Args:
    member_scores: `[m]`, independent draws; higher = member.
    other_scores: `[n]`, independent draws.
    curve: family of curves, increasing in its parameter.
    confidence: of the bound, in (0, 1).

  Returns:
    The bound, at least 0: above the true parameter in at most `1 - confidence` of all
    repetitions.

  Raises:
    ValueError: scores are not `[m]` and `[n]`, are empty or hold NaN, or `confidence`
      is not in (0, 1).
  """
  tests = _tests(member_scores, other_scores)
  _validate.probability("confidence", confidence, open_interval=True)
  level = (1 - confidence) / len(tests)
  best = 0.0
  for test in tests:
    best = largest(functools.partial(_refutes, test, curve, level), best)
  return best


def p_value(
  member_scores: np.ndarray,
  other_scores: np.ndarray,
  curve: Callable[[np.ndarray], np.ndarray],
) -> float:
  """Tests that an attack stays below one curve; see `lower_bound`.

  Args:
    member_scores: `[m]`, independent draws; higher = member.
    other_scores: `[n]`, independent draws.
    curve: false positive rates -> the highest true positive rates, such as
      `profile_curve` of a claimed mechanism.

  Returns:
    At most t with a chance of at most t, for every t, if the curve holds.

  Raises:
    ValueError: as `lower_bound`.
  """
  tests = _tests(member_scores, other_scores)
  return min(1.0, len(tests) * min(_p_value(test, curve) for test in tests))


def profile_curve(
  epsilons: np.ndarray, deltas: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the curve of a mechanism that is (epsilon, delta) private at each pair.

  The more pairs of its privacy profile, the closer to the mechanism's own curve.

  Args:
    epsilons: `[K]`.
    deltas: `[K]`, of each.
  """
  pairs = [
    (float(epsilon), epsilon_curve(float(delta)))
    for epsilon, delta in zip(epsilons, deltas, strict=True)
  ]
  return lambda fpr: np.min([curve(epsilon, fpr) for epsilon, curve in pairs], axis=0)


class EpsilonLower(NamedTuple):
  """What scores prove of one target, each at the same confidence, together too.

  Attributes:
    add_remove: epsilon of a guarantee for one row added or removed.
    exchange: epsilon of a guarantee for one row exchanged for another.
  """

  add_remove: float
  exchange: float


def epsilon_lower(
  scores: np.ndarray,
  members: np.ndarray,
  *,
  delta: float = 0.0,
  confidence: float = 0.95,
) -> EpsilonLower:
  """Returns the epsilon that an attack's scores on one target prove at `delta`.

  The target's training set has a fixed size: a member is told from a row in whose place
  another was a member, which is an exchange. (eps, delta) for a row added or removed
  allows (2 eps, (1 + e^eps) delta) there, so `add_remove` is the smaller number.

  **An estimate, not a proof.** Samples of one target are taken for independent draws of
  members and of others; they share a model, and the bound holds under this assumption.
  `ASSUMPTION` says so to a reader.

  Args:
    scores: `[N]`, higher = member; or `[A, N]` of `A` attacks, of which the best is
      chosen and paid for: one bound over all.
    members: `[N]` bool.
    delta: of the guarantee, in [0, 1).
    confidence: of the bound, in (0, 1).

  Raises:
    ValueError: `scores` is of another shape or holds NaN, `members` is not `[N]` bool
      with both kinds, or `delta` or `confidence` is out of range.
  """
  scores, members = np.asarray(scores), np.asarray(members)
  rows = np.atleast_2d(scores)
  if rows.ndim != 2 or not len(rows):
    raise ValueError(f"scores has shape {scores.shape}, expected [N] or [A, N]")
  _validate.shape("members", members, (rows.shape[1],))
  if members.dtype != bool:
    raise ValueError(f"members has dtype {members.dtype}, expected bool")
  _validate.probability("confidence", confidence, open_interval=True)
  check_delta(delta)
  share = 1 - (1 - confidence) / len(rows)

  def best(curve: Curve) -> float:
    return max(
      lower_bound(row[members], row[~members], curve, confidence=share) for row in rows
    )

  return EpsilonLower(best(exchange_curve(delta)), best(epsilon_curve(delta)))


ASSUMPTION = (
  "An estimate, not a proof: the samples of one target are taken for independent draws,"
  " though they share a model."
)


def check_delta(delta: float) -> None:
  """Raises ValueError unless `delta` is in [0, 1)."""
  if not 0 <= delta < 1:
    raise ValueError(f"delta={delta} must be in [0, 1)")


def verdict(claimed: float, proved: float, confidence: float = 0.95) -> str:
  """Returns a sentence on an epsilon claimed and one proved, of equal neighbours.

  Args:
    claimed: by the accountant.
    proved: a lower bound.
    confidence: of the bound.
  """
  level = f"{100 * confidence:g} %"
  if proved > claimed:
    return (
      f"Contradicted at {level}: epsilon is claimed to be at most {claimed:.4g}, and is"
      f" above {proved:.4g}."
    )
  return (
    f"Consistent: epsilon is claimed to be at most {claimed:.4g}; at {level} it is"
    f" shown to be at least {proved:.4g}."
  )


class _Test(NamedTuple):
  """Hits above the rank-th highest of the other kind's `num_null` scores."""

  hits: int
  num: int
  rank: int
  num_null: int


def _tests(member_scores: np.ndarray, other_scores: np.ndarray) -> list[_Test]:
  """Returns the tests of the fixed grid of ranks, in both directions."""
  kinds = []
  for name, values in (
    ("member_scores", member_scores), ("other_scores", other_scores)
  ):  # fmt: skip
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
      raise ValueError(f"{name} has shape {values.shape}, expected [n], n at least 1")
    if np.isnan(values).any():
      raise ValueError(f"{name} holds {np.isnan(values).sum()} NaN values")
    kinds.append(np.sort(values))
  member, other = kinds
  return [
    *_directed(member, other),
    *_directed(-other[::-1], -member[::-1]),
  ]


def _directed(scores: np.ndarray, null: np.ndarray) -> list[_Test]:
  """Returns the tests of ascending scores against those of the other kind."""
  return [
    _Test(
      int(len(scores) - np.searchsorted(scores, null[-rank], side="right")),
      len(scores),
      rank,
      len(null),
    )
    for rank in _ranks(len(null))
  ]


def _ranks(num: int) -> list[int]:
  """Returns `num / 2`, `num / 8`, ..., 1."""
  ranks = [1]
  rank = num // 2
  while rank > 1:
    ranks.append(rank)
    rank //= 4
  return sorted(set(ranks))


def _p_value(test: _Test, curve: Callable[[np.ndarray], np.ndarray]) -> float:
  """Returns `E[P(Bin(num, g(U)) >= hits)]`: from above, and within 4 %."""
  if not test.hits:
    return 1.0
  mass, rates = _null_rates(test.rank, test.num_null)
  tail = rate_tests.binomial_tail(np.array(test.hits), test.num, curve(rates))
  return float(mass @ tail)


def _refutes(test: _Test, curve: Curve, level: float, parameter: float) -> bool:
  return _p_value(test, functools.partial(curve, parameter)) <= level


@functools.lru_cache(256)
def _null_rates(rank: int, num: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns a distribution of rates on a grid, above `Beta(rank, num + 1 - rank)`.

  Cells are finer towards the upper tail, on which small p-values rest, and each is
  put at its upper end.
  """
  from scipy import special  # slow to import

  tail = np.append(np.geomspace(1, 1e-9, 600), 0.0)
  return tail[:-1] - tail[1:], special.betainccinv(rank, num + 1 - rank, tail[1:])


def largest(is_refuted: Callable[[float], bool], start: float = 0.0) -> float:
  """Returns the largest parameter refuted from `start` on, or `start` if it is not."""
  if not is_refuted(start):
    return start
  low, high = start, max(1.0, 2 * start)
  while is_refuted(high):
    low, high = high, 2 * high
    if high > _HIGHEST:
      return low
  while high - low > _TOLERANCE:
    middle = (low + high) / 2
    low, high = (middle, high) if is_refuted(middle) else (low, middle)
  return low
