"""What scores of canaries prove of a mechanism, beside what is claimed of it."""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from jmia.stats import epsilon as epsilon_lib
from jmia.stats import one_run as one_run_lib

# False positive rates -> the highest true positive rates that privacy allows.
Curve = Callable[[np.ndarray], np.ndarray]
Row = Mapping[str, Any]  # JSON values of what one run, or all, prove to one attacker

CONFIDENCE = 0.95
_BY_POINT = 1e-3  # a bound misses the point that a test refutes by less than this

PROVED = {
  "one_run": (
    "Each canary was in by a coin of its own: epsilon_lower is valid without further"
    " assumption, for each run and threat model by itself."
  ),
  "many_runs": (
    "Models with and without the canary are independent runs of the mechanism:"
    " epsilon_lower is valid without further assumption, for each row by itself."
  ),
}
GAUSSIAN = (
  "epsilon_lower_gaussian holds if the mechanism's trade-off curve is a Gaussian's,"
  " which DP-SGD's is only nearly."
)


class Claim(NamedTuple):
  """What is claimed of a mechanism, for one row added or removed.

  Attributes:
    epsilon: infinite where nothing is claimed.
    delta: in [0, 1), of what is proved too.
    curve: of its whole privacy profile; None where one point is all that is known.
  """

  epsilon: float
  delta: float
  curve: Curve | None = None


def many_runs(
  claim: Claim, with_it: np.ndarray, without: np.ndarray, together: float
) -> dict[str, Any]:
  """Returns what models with and without a canary prove, as JSON values.

  Args:
    claim: of the mechanism.
    with_it: `[n]` scores of models that had the canary, higher = in.
    without: `[n']` of models that had it not.
    together: confidence of `epsilon_lower_at_once`.

  Returns:
    `epsilon_lower` at 95 %, `epsilon_lower_at_once`, `mu_lower`,
    `epsilon_lower_gaussian` (None at a delta of 0, where there is none), and of the
    claim `p_value` and `contradicted` (None without one).
  """
  curve = epsilon_lib.epsilon_curve(claim.delta)
  lower, at_once = (
    epsilon_lib.lower_bound(with_it, without, curve, confidence=confidence)
    for confidence in (CONFIDENCE, together)
  )
  mu = epsilon_lib.lower_bound(
    with_it, without, epsilon_lib.gaussian_curve(), confidence=CONFIDENCE
  )
  p_value = None
  if math.isfinite(claim.epsilon):
    of_point = lambda fpr: curve(claim.epsilon, fpr)  # noqa: E731
    p_value = epsilon_lib.p_value(with_it, without, claim.curve or of_point)
  gaussian = epsilon_lib.gaussian_epsilon(mu, claim.delta) if claim.delta else None
  return {
    "epsilon_lower": lower,
    "epsilon_lower_at_once": at_once,
    "mu_lower": mu,
    "epsilon_lower_gaussian": gaussian,
    **_of_claim(p_value),
  }


def one_run(
  claim: Claim, scores: np.ndarray, is_in: np.ndarray, together: float
) -> dict[str, Any]:
  """Returns what many canaries of one model prove, as `many_runs` but for `mu_lower`.

  Args:
    claim: of the mechanism.
    scores: `[m]`, higher = in.
    is_in: `[m]` bool, a fair coin each.
    together: confidence of `epsilon_lower_at_once`.
  """
  options = {"delta": claim.delta, "confidence": CONFIDENCE}
  p_value = None
  if math.isfinite(claim.epsilon):
    found = one_run_lib.guess(scores, is_in)
    of_claim = {"epsilon": claim.epsilon, "delta": claim.delta}
    least = min(one_run_lib.p_value(one, len(scores), **of_claim) for one in found)
    p_value = min(1.0, len(found) * least)
  gaussian = None
  if claim.delta:
    gaussian = one_run_lib.lower_bound_gaussian(scores, is_in, **options)
  return {
    "epsilon_lower": one_run_lib.lower_bound(scores, is_in, **options),
    "epsilon_lower_at_once": one_run_lib.lower_bound(
      scores, is_in, delta=claim.delta, confidence=together
    ),
    "epsilon_lower_gaussian": gaussian,
    **_of_claim(p_value),
  }


def _of_claim(p_value: float | None) -> dict[str, Any]:
  return {
    "p_value": p_value,
    "contradicted": None if p_value is None else p_value <= 1 - CONFIDENCE,
  }


def sentences(rows: Sequence[Row]) -> list[str]:
  """Returns a sentence for each mechanism: does what was found contradict its claim?

  Args:
    rows: of `audit.rows` or `given.prove`, of one mechanism or several.
  """
  return [_sentence(of_group) for of_group in by_mechanism(rows)]


def by_mechanism(rows: Sequence[Row]) -> list[list[Row]]:
  """Returns the rows of each mechanism, in the order in which they come."""
  groups: dict[Any, list[Row]] = {}
  for row in rows:
    groups.setdefault((row["claimed_epsilon"], row["control"]), []).append(row)
  return list(groups.values())


def are_contradicted(rows: Sequence[Row]) -> bool:
  """Returns whether the rows of one mechanism contradict its claim, taken together."""
  if rows[0]["claimed_epsilon"] is None:
    return False
  return bool(len(rows) * min(row["p_value"] for row in rows) <= 1 - CONFIDENCE)


def _sentence(rows: Sequence[Row]) -> str:
  """Of the rows of one mechanism."""
  claimed, control = rows[0]["claimed_epsilon"], rows[0]["control"]
  broken = f" with {control}" if control else ""
  # Each row holds at 95 % by itself; the best of several has their number to pay.
  best = max(row["epsilon_lower_at_once"] for row in rows)
  by_all = f" by all {len(rows)} rows together" if len(rows) > 1 else ""
  proved = f"at least {best:.2f} is proved at 95 %{by_all}"
  if claimed is None:
    return f"No epsilon is claimed{broken}; {proved}."
  name = f"Epsilon {claimed:.2f} at delta {rows[0]['delta']:g}{broken}"
  if are_contradicted(rows):
    of_all = f", all {len(rows)} rows taken together" if by_all else ""
    said = f"{name} is contradicted at 95 %{of_all}."
    if best >= claimed:
      return f"{said[:-1]}: at least {best:.2f} is proved."
    if best < claimed - _BY_POINT:
      said += (
        f" That {best:.2f} alone is proved is no contradiction: the test is of the"
        " accountant's whole curve of (epsilon, delta), the bound of its point at this"
        " delta."
      )
    return said
  if any(row["contradicted"] for row in rows):
    return (
      f"{name}: some row contradicts it by itself, but one of {len(rows)} may do so by"
      " chance; together they do not."
    )
  return f"{name} is consistent with what was found; {proved}."
