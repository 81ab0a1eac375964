"""Whole reports of models that are numbers drawn at random: is what they say true?

An audit's verdict rests on many figures at once. Here it is asked where the truth is
known, on the path that a file of answers takes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jmia.audit import auditing, limits, simulated
from jmia.report import wording
from jmia.stats import monte_carlo

# What a model that leaks nothing keeps.
_LIMITS = (
  limits.Limit("auc", 0.5),
  limits.Limit("0.1", 0.1),
  limits.Limit("0.01", 0.01),
)


def verdict_rows(
  attacks: Sequence[str],
  *,
  shift: float,
  num_targets: int = 1,
  num_samples: int = 120,
  num_calibrating: int = 60,
  share: float = 0.5,
  ties: bool = False,
  num_models: int = 8,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns how often reports speak of leakage, as one row.

  Args:
    attacks: of each report.
    shift: of a member's logit at the target; at 0 members are like others, and nothing
      leaks.
    num_targets: of each audit, drawn apart from one another.
    num_samples: of each target.
    num_calibrating: rows that calibrate p-values; among many attacks a record is named
      only where they are many.
    share: of the samples that are members.
    ties: whether logits are whole numbers.
    num_models: references of each kind.
    num_simulations: at least 1.
    seed: of the draws.
    progress: told of simulations.

  Returns:
    A row with the shares of reports that say `leak` and `hint`
    (`report.wording.verdict`), of those that exceed limits which a model without
    leakage keeps (`exceeded`), and, where records are named, the share of them that are
    no members', in the mean over all reports (`false_discovery_rate`).
  """
  said: list[str] = []
  exceeded, wrong, found = [], [], []
  for _, rng in monte_carlo.draws(num_simulations, seed, progress):
    targets = [
      simulated.evidence(
        own,
        num_models=num_models,
        num_samples=num_samples,
        num_calibrating=num_calibrating,
        num_members=round(share * num_samples),
        shift=shift,
        ties=ties,
      )
      for own in rng.spawn(num_targets)
    ]
    report = auditing.from_evidence(targets, attacks).report
    said.append(wording.verdict(report).kind)
    exceeded.append(bool(limits.exceeded(report, _LIMITS)))
    named = report.get("found")
    if named:
      of_members = named["num_members"]
      wrong.append(1 - of_members / named["num_found"] if named["num_found"] else 0.0)
      found.append(of_members / round(share * num_samples))
  return [
    {
      "num_attacks": len(attacks),
      "num_targets": num_targets,
      "num_samples": num_samples,
      "num_calibrating": num_calibrating,
      "share": share,
      "shift": shift,
      "ties": ties,
      "num_simulations": num_simulations,
      "leak": float(np.mean([kind == "leak" for kind in said])),
      "hint": float(np.mean([kind == "hint" for kind in said])),
      "exceeded": float(np.mean(exceeded)),
      "false_discovery_rate": float(np.mean(wrong)) if wrong else None,
      "found": float(np.mean(found)) if found else None,
    }
  ]
