"""Attack R: is the target's loss lower than that of models trained without the sample?

The null of a sample (x, y) is the loss on it of reference models, trained on other data
from the population: the threshold is `c_alpha(x, y)`, one per sample, for any target.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.3, eq. 23-27, and Table 1.
"""

import numpy as np

from jmia.attacks import _calibration, registry


def thresholds(
  reference_losses: np.ndarray,
  alpha: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `c_alpha(x, y)`: a sample is called a member where `loss <= c_alpha`.

  Args:
    reference_losses: `[R, N]` loss of reference model r on sample n.
    alpha: `[A]` significance levels in [0, 1].
    valid: `[R, N]` bool, false where model r was trained on sample n: such a loss is
      no draw from the null, and is left out. None if no model was trained on any.
    method: one of `nulls.METHODS`.

  Returns:
    `[A, N]` float32.

  Raises:
    ValueError: an array has a wrong shape, a NaN or an infinity, or a negative loss
      where the method takes a logit; `alpha` leaves [0, 1]; `method` is unknown; or a
      sample has fewer than 2 valid references (says how many do, and the first).
  """
  return _calibration.thresholds_per_sample(
    reference_losses, alpha, valid, method, "reference_losses"
  )


def score(
  losses: np.ndarray,
  reference_losses: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `-log p`, p the p-value of the target's loss under the null.

  It orders samples as `1 - p` does, which in float32 would tie every p below 6e-8.
  `nulls` says how p inverts the threshold.

  Args:
    losses: `[N]` the target's losses, or `[..., N]` of several targets. A target's
      references must not include it: give targets with different `valid` one by one.
    reference_losses: as in `thresholds`.
    valid: as in `thresholds`.
    method: one of `nulls.METHODS`.

  Returns:
    Float32 of the shape of `losses`, at least 0; higher = member.

  Raises:
    ValueError: as `thresholds`, and for `losses` of another shape or not finite.
  """
  return _calibration.score_per_sample(
    losses, reference_losses, valid, method, "reference_losses"
  )


registry.register(
  registry.Attack(
    name="reference",
    title="R · reference",
    attacker="with reference models",
    explanation=(
      "Trains reference models without the record and asks whether the audited model's "
      "loss is lower than theirs, which accounts for how hard this very record is."
    ),
    source="Ye et al., Enhanced Membership Inference Attacks, section 4.3, eq. 23-27",
    **_calibration.against("reference", score, thresholds),
  )
)
