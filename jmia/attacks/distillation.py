"""Attack D: is the target's loss lower than that of models distilled from it?

The null of a sample (x, y) and a target theta is the loss on (x, y) of models trained
on population rows that theta itself has labelled (soft labels). They imitate theta but
never saw the sample, so the threshold `c_alpha(theta, x, y)` depends on both: attack R
with the references drawn from models like this target.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.4, eq. 28-38, and Table 1.
"""

import numpy as np

from jmia.attacks import _calibration, registry


def thresholds(
  distilled_losses: np.ndarray,
  alpha: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `c_alpha(theta, x, y)`: called a member where `loss <= c_alpha`.

  Args:
    distilled_losses: `[R, N]` loss of distilled model r of *this* target on sample n.
    alpha: `[A]` significance levels in [0, 1].
    valid: `[R, N]` bool, false where model r was distilled on sample n. None if the
      population holds none of the samples.
    method: one of `nulls.METHODS`.

  Returns:
    `[A, N]` float32.

  Raises:
    ValueError: as `reference.thresholds`.
  """
  return _calibration.thresholds_per_sample(
    distilled_losses, alpha, valid, method, "distilled_losses"
  )


def score(
  losses: np.ndarray,
  distilled_losses: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `-log p`, p the p-value of the target's loss among its distilled models'.

  Args:
    losses: `[N]` the target's losses. Several targets go one by one: each has its own
      distilled models.
    distilled_losses: as in `thresholds`.
    valid: as in `thresholds`.
    method: one of `nulls.METHODS`.

  Returns:
    `[N]` float32, at least 0; higher = member. On why not `1 - p`: `reference.score`.

  Raises:
    ValueError: as `thresholds`, and for `losses` of another shape or not finite.
  """
  return _calibration.score_per_sample(
    losses, distilled_losses, valid, method, "distilled_losses"
  )


registry.register(
  registry.Attack(
    name="distillation",
    title="D · distillation",
    attacker="with distilled copies of the model",
    explanation=(
      "Distils the audited model into copies that never saw the record itself and asks "
      "whether its loss is lower than theirs, on this very record."
    ),
    source="Ye et al., Enhanced Membership Inference Attacks, section 4.4, eq. 28-38",
    **_calibration.against("distilled", score, thresholds),
  )
)
