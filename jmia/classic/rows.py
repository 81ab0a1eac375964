"""What an attack achieves on one target, as a row of results."""

from typing import Any

import numpy as np

from jmia.attacks import metric
from jmia.attacks.evidence import Evidence
from jmia.audit.outcome import Outcome
from jmia.stats import intervals


def row(
  evidence: Evidence, attack: str, outcome: Outcome, *, delta: float = 0.0
) -> dict[str, Any]:
  """Returns what an attack achieves, as JSON values, with 95 % intervals.

  `accuracy` is at the attack's own threshold, which never saw the target's members:
  the mean of the shares of members and of others called rightly. Its interval is the
  mean of the two shares' Clopper-Pearson intervals, each at 97.5 %, which hold together
  at least 95 % of the time.

  `epsilon_lower` is the epsilon that those two shares prove at `delta`, for one row of
  the training set exchanged for another: `TPR <= exp(eps) FPR + delta`, and likewise
  for non-members, with each share at the unfavourable end of its interval. A guarantee
  for one row added or removed allows twice its epsilon there. It takes samples for
  independent, though all are of one target.

  Args:
    evidence: of the target.
    attack: as it was asked for.
    outcome: of `outcome.evaluate`, asked to decide.
    delta: of the guarantee that is tried.

  Returns:
    The row; what rests on a threshold is None for an attack that has none.
  """
  members, called = evidence.members, _called(evidence, outcome)
  correct = evidence.signals["correctness"] > 0
  train_accuracy = float(correct[members].mean())
  test_accuracy = float(correct[~members].mean())
  summary = outcome.summary
  decided: dict[str, Any] = dict.fromkeys(("accuracy", "accuracy_ci", "epsilon_lower"))
  if called is not None:
    hits = np.array([called[members].sum(), (~called)[~members].sum()])
    num = np.array([members.sum(), (~members).sum()])
    # Both hold together with 95 % at least (Bonferroni).
    shares = intervals.clopper_pearson(hits, num, confidence=0.975)
    decided = {
      "accuracy": float((hits / num).mean()),
      "accuracy_ci": [float(shares.low.mean()), float(shares.high.mean())],
      "epsilon_lower": epsilon_lower(shares, delta),
    }
  return {
    "attack": attack,
    "auc": summary["auc"],
    "auc_ci": summary["auc_ci"],
    **decided,
    "tpr_at_fpr": summary["tpr_at_fpr"],
    "tpr_at_fpr_ci": summary["tpr_at_fpr_ci"],
    "train_accuracy": train_accuracy,
    "test_accuracy": test_accuracy,
    "gap": train_accuracy - test_accuracy,
    "num_members": int(members.sum()),
    "num_nonmembers": int((~members).sum()),
  }


def epsilon_lower(shares: intervals.Interval, delta: float) -> float:
  """Returns the epsilon proved by the shares called rightly, at least 0.

  Args:
    shares: bounds `[2]` of the share of members called members, and of others called
      others.
    delta: of the guarantee that is tried.
  """
  # exp(eps) >= (right - delta) / wrong, for either kind of sample.
  right, wrong = shares.low - delta, 1 - shares.low[::-1]
  ratio = right / np.maximum(wrong, np.finfo(float).tiny)
  return float(max(0.0, np.log(np.maximum(ratio, 1.0)).max()))


def _called(evidence: Evidence, outcome: Outcome) -> np.ndarray | None:
  """`[N]` bool, whom the attack calls a member; None if it has no rule for all."""
  if np.isnan(outcome.scores).any():
    return None
  if outcome.threshold is not None:
    return metric.predict(outcome.scores, outcome.threshold)
  if np.isnan(outcome.thresholds).any():
    return None
  return evidence.signals["loss"] <= outcome.thresholds
