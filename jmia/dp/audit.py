"""What the scores of canaries prove of a mechanism, beside what is claimed of it."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from jmia import types
from jmia.defenses import dp_sgd
from jmia.dp import engine
from jmia.stats import epsilon as epsilon_lib
from jmia.stats import intervals, one_run

CONFIDENCE = 0.95
THREATS = ("final", "steps")

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


def rows(scored: engine.Scored, setting: engine.Setting) -> list[dict[str, Any]]:
  """Returns what the scores prove, as JSON values: a row for each threat model and run.

  `epsilon_lower` holds at 95 % for each row by itself, and `epsilon_lower_at_once` for
  all rows of the mechanism together. `p_value` is of the claim, None where none is
  made, and `contradicted` says that it is at most 5 %. In `many_runs` it is of "the
  runs are as private as accounted for", the mechanism's whole privacy profile, of which
  the stated (epsilon, delta) is one point; in `one_run` of that point.

  Args:
    scored: of `engine.run`.
    setting: what it was run with.
  """
  found = []
  num_runs = 1 if setting.mode == "many_runs" else len(scored.is_in)
  together = intervals.each_of(len(THREATS) * num_runs, confidence=CONFIDENCE)
  for threat in THREATS:
    scores = getattr(scored, threat)
    if setting.mode == "many_runs":
      about = _about(scored, setting, threat)
      found.append({**about, **_many(scored, scores, together)})
      continue
    for number, (own, is_in) in enumerate(zip(scores, scored.is_in, strict=True)):
      about = _about(scored, setting, threat)
      found.append({**about, "run": number, **_one(scored.run, own, is_in, together)})
  return found


def _about(scored: engine.Scored, setting: engine.Setting, threat: str):
  run = scored.run
  is_private = math.isfinite(run.epsilon)
  return {
    "mode": setting.mode,
    "canary": setting.canary,
    "start": setting.start,
    "control": setting.control,
    "threat": threat,
    "num_canaries": setting.num_tested,
    "num_runs": setting.num_runs,
    "claimed_epsilon": run.epsilon if is_private else None,
    "delta": run.delta,
    "noise_multiplier": run.noise_multiplier,
    "sampling_rate": run.sampling_rate,
    "num_steps": run.num_steps,
    "train_accuracy": _mean(scored.accuracy),
    "num_diverged": scored.num_diverged,
  }


def _mean(values: np.ndarray) -> float | None:
  finite = values[np.isfinite(values)]
  return float(finite.mean()) if finite.size else None


def _many(scored: engine.Scored, scores: np.ndarray, together: float) -> dict[str, Any]:
  run, is_in = scored.run, scored.is_in[:, 0]
  with_it, without = scores[is_in, 0], scores[~is_in, 0]
  lower, at_once = (
    epsilon_lib.lower_bound(
      with_it, without, epsilon_lib.epsilon_curve(run.delta), confidence=confidence
    )
    for confidence in (CONFIDENCE, together)
  )
  mu = epsilon_lib.lower_bound(
    with_it, without, epsilon_lib.gaussian_curve(), confidence=CONFIDENCE
  )
  p_value = None
  if math.isfinite(run.epsilon):
    epsilons = np.linspace(0, 2 * run.epsilon, 33)
    curve = epsilon_lib.profile_curve(epsilons, dp_sgd.profile(run, epsilons))
    p_value = epsilon_lib.p_value(with_it, without, curve)
  return {
    "epsilon_lower": lower,
    "epsilon_lower_at_once": at_once,
    "mu_lower": mu,
    "epsilon_lower_gaussian": epsilon_lib.gaussian_epsilon(mu, run.delta),
    "p_value": p_value,
    "contradicted": None if p_value is None else p_value <= 1 - CONFIDENCE,
  }


def _one(
  run: dp_sgd.Mechanism, scores: np.ndarray, is_in: np.ndarray, together: float
) -> dict[str, Any]:
  at_once = one_run.lower_bound(scores, is_in, delta=run.delta, confidence=together)
  options = {"delta": run.delta, "confidence": CONFIDENCE}
  p_value = None
  if math.isfinite(run.epsilon):
    found = one_run.guess(scores, is_in)
    of_claim = {"epsilon": run.epsilon, "delta": run.delta}
    least = min(one_run.p_value(one, len(scores), **of_claim) for one in found)
    p_value = min(1.0, len(found) * least)
  return {
    "epsilon_lower": one_run.lower_bound(scores, is_in, **options),
    "epsilon_lower_at_once": at_once,
    "epsilon_lower_gaussian": one_run.lower_bound_gaussian(scores, is_in, **options),
    "p_value": p_value,
    "contradicted": None if p_value is None else p_value <= 1 - CONFIDENCE,
  }


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns a sentence for each mechanism: does what was found contradict its claim?

  Args:
    rows: of `rows`, of several mechanisms.
  """
  groups: dict[Any, list[Mapping[str, Any]]] = {}
  for row in rows:
    groups.setdefault((row["claimed_epsilon"], row["control"]), []).append(row)
  return [_sentence(of_group) for of_group in groups.values()]


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
  """Of the rows of one mechanism."""
  claimed, control = rows[0]["claimed_epsilon"], rows[0]["control"]
  broken = f" with {control}" if control else ""
  # Each row holds at 95 % by itself; the best of several has their number to pay.
  best = max(row["epsilon_lower_at_once"] for row in rows)
  proved = f"at least {best:.2f} is proved at 95 % by all {len(rows)} rows together"
  if claimed is None:
    return f"No epsilon is claimed{broken}; {proved}."
  name = f"Epsilon {claimed:.2f} at delta {rows[0]['delta']:g}{broken}"
  if len(rows) * min(row["p_value"] for row in rows) <= 1 - CONFIDENCE:
    said = f"{name} is contradicted at 95 %, all {len(rows)} rows taken together."
    if best < claimed:
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


def check(dataset: types.Dataset, setting: engine.Setting) -> None:
  """Raises ValueError where a setting does not fit the dataset, before training."""
  needed = setting.num_members
  if setting.canary in ("natural", "mislabelled"):
    needed += setting.num_tested
  if needed > dataset.num_examples:
    raise ValueError(
      f"num_members={setting.num_members} and {setting.num_tested} canaries of kind"
      f" {setting.canary} exceed the {dataset.num_examples} rows of the dataset"
    )
  engine.mechanism(setting)
