"""Calibrated loss: how far is the loss below that of models without the record?

The score is `mean_out loss - loss`: the target's loss less what the record's own
difficulty explains.

Source: Watson, Guo, Cormode & Sablayrolles, "On the Importance of Difficulty
Calibration in Membership Inference Attacks", with the loss as the score calibrated.
"""

import numpy as np

from jmia.attacks import _references, registry
from jmia.attacks.evidence import Evidence


def score(
  losses: np.ndarray, reference_losses: np.ndarray, out: np.ndarray
) -> np.ndarray:
  """Returns the mean loss of models without the sample less the target's.

  Args:
    losses: `[N]` the target's losses, or `[N, Q]` of Q copies of each sample, over
      which the score is averaged.
    reference_losses: `[R, N]` or `[R, N, Q]`, of reference models; not read where `out`
      is false.
    out: `[R, N]` bool, whether model r was not trained on sample n; one is enough.

  Returns:
    `[N]` float64, in nats; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, or a sample has no such model.
  """
  _references.check("losses", losses, reference_losses, out=out)
  mean = _references.moments(reference_losses, out).mean
  return _references.mean_queries(mean - np.asarray(losses, np.float64))


def _score(evidence: Evidence) -> np.ndarray:
  group = evidence.groups["reference"]
  return score(evidence.signals["loss"], group.signals["loss"], group.out)


registry.register(
  registry.Attack(
    name="calibrated_loss",
    title="Calibrated loss",
    attacker="who allows for how hard the record is",
    explanation=(
      "Asks how far the audited model's loss on the record lies below the mean loss of "
      "models trained without it; one reference model is enough."
    ),
    source="Watson et al.",
    needs=registry.Needs(
      signals=("loss",),
      groups={"reference": registry.GroupNeeds(signals=("loss",), out=1)},
    ),
    score=_score,
  )
)
