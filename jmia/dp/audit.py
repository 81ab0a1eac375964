"""What the models of a setting prove of DP-SGD, beside what its accountant claims."""

import math
from typing import Any

import numpy as np

from jmia import types
from jmia.defenses import dp_sgd
from jmia.dp import engine, proofs
from jmia.stats import epsilon as epsilon_lib
from jmia.stats import intervals

THREATS = ("final", "steps")


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
  is_many = setting.mode == "many_runs"
  num_rows = len(THREATS) * (1 if is_many else len(scored.is_in))
  together = intervals.each_of(num_rows, confidence=proofs.CONFIDENCE)
  claim = proofs.Claim(scored.run.epsilon, scored.run.delta)
  if is_many:
    claim = claim._replace(curve=_profile(scored.run))
  for threat in THREATS:
    scores = getattr(scored, threat)
    if is_many:
      about, is_in = _about(scored, setting, threat), scored.is_in[:, 0]
      proved = proofs.many_runs(claim, scores[is_in, 0], scores[~is_in, 0], together)
      found.append({**about, **proved})
      continue
    for number, (own, is_in) in enumerate(zip(scores, scored.is_in, strict=True)):
      about = _about(scored, setting, threat)
      proved = proofs.one_run(claim, own, is_in, together)
      found.append({**about, "run": number, **proved})
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


def _profile(run: dp_sgd.Mechanism) -> proofs.Curve | None:
  """The accountant's whole curve; None without noise."""
  if not math.isfinite(run.epsilon):
    return None
  epsilons = np.linspace(0, 2 * run.epsilon, 33)
  return epsilon_lib.profile_curve(epsilons, dp_sgd.profile(run, epsilons))


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
