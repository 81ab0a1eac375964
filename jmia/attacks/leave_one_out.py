"""Attack L: is the target's loss lower than that of models trained without this sample?

The null of a sample z is the loss on it of models retrained on `D - {z}`, the target's
own training set without z. The attacker knows everything but whether z was used, and
the threshold is `c_alpha(D - {z}, x, y)`: an upper bound for an auditor, with R models
to retrain for every sample.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.5, which gives no formula; its Table 1 has no Attack L.
"""

import numpy as np

from jmia.attacks import _calibration, registry


def thresholds(
  left_out_losses: np.ndarray,
  alpha: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `c_alpha(D - {z}, x, y)`: called a member where `loss <= c_alpha`.

  Args:
    left_out_losses: `[R, N]` loss on sample n of the r-th model retrained on the
      target's training set without sample n. A column has its own models.
    alpha: `[A]` significance levels in [0, 1].
    valid: `[R, N]` bool, false where there is no such model. None if all exist.
    method: one of `nulls.METHODS`.

  Returns:
    `[A, N]` float32.

  Raises:
    ValueError: as `reference.thresholds`.
  """
  return _calibration.thresholds_per_sample(
    left_out_losses, alpha, valid, method, "left_out_losses"
  )


def score(
  losses: np.ndarray,
  left_out_losses: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "min_linear_logit",
) -> np.ndarray:
  """Returns `-log p`, p the p-value of the target's loss among models without z.

  Args:
    losses: `[N]` the target's losses. Several targets go one by one: each has its own
      training set.
    left_out_losses: as in `thresholds`.
    valid: as in `thresholds`.
    method: one of `nulls.METHODS`.

  Returns:
    `[N]` float32, at least 0; higher = member. On why not `1 - p`: `reference.score`.

  Raises:
    ValueError: as `thresholds`, and for `losses` of another shape or not finite.
  """
  return _calibration.score_per_sample(
    losses, left_out_losses, valid, method, "left_out_losses"
  )


registry.register(
  registry.Attack(
    name="leave_one_out",
    title="L · leave-one-out",
    attacker="who knows every training record but one",
    explanation=(
      "Compares with models trained on all of the training data but this one record; "
      "an idealised attacker, who shows what a single record can give away."
    ),
    source="Ye et al., Enhanced Membership Inference Attacks, section 4.5",
    **_calibration.against("left_out", score, thresholds),
  )
)
