"""What scores of canaries prove of a training that was not done here."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jmia import _validate, signals
from jmia.dp import planting, proofs
from jmia.outputs import units
from jmia.stats import epsilon as epsilon_lib
from jmia.stats import intervals

ASSUMED = {
  "one_run": "Neither training nor scores may have seen the coins.",
  "many_runs": (
    "The runs must be alike but for the canary and their randomness, and none left out"
    " for its score."
  ),
}
_UNFAIR = 1e-6  # chance at which fair coins would be refused


def prove(
  scores: np.ndarray | None = None,
  is_in: np.ndarray | None = None,
  *,
  with_canary: np.ndarray | None = None,
  without_canary: np.ndarray | None = None,
  claimed_epsilon: float = math.inf,
  delta: float = 1e-5,
) -> list[dict[str, Any]]:
  """Returns what scores prove, as JSON values: a row for each run; see `proofs`.

  Either of many canaries, each in by a fair coin, in one model or a few
  (`scores`, `is_in`); or of one canary, by models trained with and without it. Higher =
  in. A score may be anything that is seen of the training, such as the canary's loss
  before it less that after it, but must not depend on the coins.

  Args:
    scores: `[m]`, or `[R, m]` of R models.
    is_in: likewise, bool: the coins, `planting.Planted.is_in`.
    with_canary: `[n]`, independent runs that had the canary.
    without_canary: `[n']`, that had it not.
    claimed_epsilon: for one row added or removed, above 0; infinite for none.
    delta: of the claim, and of what is proved; in [0, 1).

  Returns:
    Rows with `mode`, `run`, the numbers of canaries and runs, `claimed_epsilon` (None
    for none), `delta`, `epsilon_most` (what would be proved if every guess were right)
    and those of `proofs.one_run` or `many_runs`; for `proofs.sentences`.

  Raises:
    ValueError: neither or both are given; arrays are misshapen or hold NaN, coins are
      no fair ones, or a number is out of range.
  """
  if not claimed_epsilon > 0:
    raise ValueError(f"claimed_epsilon={claimed_epsilon} must be above 0")
  epsilon_lib.check_delta(delta)
  claim = proofs.Claim(float(claimed_epsilon), float(delta))
  one = {"scores": scores, "is_in": is_in}
  many = {"with_canary": with_canary, "without_canary": without_canary}
  if _are_given(one, many):
    return _of_coins(claim, *_coins(scores, is_in))
  if _are_given(many, one):
    return [_of_runs(claim, *(_scores(*item) for item in many.items()))]
  raise ValueError(
    "expected scores and is_in, of many canaries, or with_canary and without_canary, of"
    " one"
  )


def of_answers(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns scores `[m]`: how sure a model is of each canary's label, as a log-odds.

  Args:
    answers: `[m, C]` logits, probabilities or the like (`units.recognise`).
    labels: `[m]` which column is each canary's label.

  Raises:
    ValueError: answers are of no known unit, or labels of other canaries.
  """
  answers, labels = np.asarray(answers), np.asarray(labels)
  if answers.ndim != 2 or len(answers) != len(labels):
    raise ValueError(
      f"answers have shape {answers.shape}, expected [{len(labels)}, C]: one of each"
      " canary"
    )
  _validate.labels("labels", labels, answers.shape[1])
  logits = units.recognise({"answers": answers}).logits("answers", answers)
  of_each = jax.vmap(signals.scaled_logit)
  return np.asarray(of_each(jnp.asarray(logits), jnp.asarray(labels)))


def _are_given(of: Mapping[str, Any], not_of: Mapping[str, Any]) -> bool:
  return all(a is not None for a in of.values()) and all(
    a is None for a in not_of.values()
  )


def _scores(name: str, values: Any) -> np.ndarray:
  values = np.asarray(values)
  if values.dtype.kind not in "fiub":
    raise ValueError(f"{name} has dtype {values.dtype}, expected real numbers")
  return np.asarray(values, np.float64)


def _coins(scores: Any, is_in: Any) -> tuple[np.ndarray, np.ndarray]:
  """Scores and coins `[R, m]`."""
  values, coins = np.atleast_2d(_scores("scores", scores)), np.atleast_2d(is_in)
  if coins.dtype.kind in "iuf" and ((coins == 0) | (coins == 1)).all():
    coins = coins.astype(bool)
  if coins.dtype != bool:
    raise ValueError(f"is_in has dtype {coins.dtype}, expected bool")
  if values.ndim != 2 or values.shape != coins.shape or not values.size:
    raise ValueError(
      f"scores have shape {np.shape(scores)} and is_in {np.shape(is_in)}, expected [m]"
      " and [m]: one of each canary, or [R, m] of R models"
    )
  _check_fair(coins)
  return values, coins


def _check_fair(coins: np.ndarray) -> None:
  """Refuses coins that are no fair ones, for which no bound here holds."""
  num, num_in = coins.size, int(coins.sum())
  tail = special.bdtr(min(num_in, num - num_in), num, 0.5)
  if 2 * tail < _UNFAIR:
    raise ValueError(
      f"is_in has {num_in} of {num} canaries in: the bound is of canaries that are each"
      " in by a fair coin, which give so few of either kind in less than one case in a"
      " million"
    )


def _of_coins(
  claim: proofs.Claim, scores: np.ndarray, is_in: np.ndarray
) -> list[dict[str, Any]]:
  num_runs, num_canaries = scores.shape
  together = intervals.each_of(num_runs, confidence=proofs.CONFIDENCE)
  most = planting.most(num_canaries, claim.delta)
  return [
    {
      **_about("one_run", claim, num_canaries, num_runs),
      "run": number,
      "epsilon_most": most,
      **proofs.one_run(claim, of_run, coins, together),
    }
    for number, (of_run, coins) in enumerate(zip(scores, is_in, strict=True))
  ]


def _of_runs(
  claim: proofs.Claim, with_it: np.ndarray, without: np.ndarray
) -> dict[str, Any]:
  proved = proofs.many_runs(claim, with_it, without, proofs.CONFIDENCE)
  return {
    **_about("many_runs", claim, 1, len(with_it) + len(without)),
    "run": 0,
    "epsilon_most": epsilon_lib.lower_bound(
      np.ones(len(with_it)),
      np.zeros(len(without)),
      epsilon_lib.epsilon_curve(claim.delta),
    ),
    **proved,
  }


def _about(
  mode: str, claim: proofs.Claim, num_canaries: int, num_runs: int
) -> dict[str, Any]:
  is_claimed = math.isfinite(claim.epsilon)
  return {
    "mode": mode,
    "control": None,
    "num_canaries": num_canaries,
    "num_runs": num_runs,
    "claimed_epsilon": claim.epsilon if is_claimed else None,
    "delta": claim.delta,
  }


def beyond(rows: Sequence[Mapping[str, Any]]) -> str | None:
  """Returns what is said of a claim that no scores could contradict, or None."""
  claimed, most = rows[0]["claimed_epsilon"], max(row["epsilon_most"] for row in rows)
  if claimed is None or most > claimed:
    return None
  what = "canaries" if rows[0]["mode"] == "one_run" else "models"
  return (
    f"So few {what} prove epsilon {most:.2f} at most, if every guess is right: a claim"
    f" of {claimed:.2f} cannot be contradicted by them."
  )
