"""Attack S: is the loss lower than shadow models' losses on non-members of the class?

The null pools the losses of all shadow models on samples they were not trained on. The
threshold is `c_alpha(y)`: it knows the label, but neither the target nor the sample.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.1, eq. 11-16, and Table 1; the shadow models are Shokri et al.'s.
"""

import numpy as np

from jmia import _validate
from jmia.attacks import _calibration
from jmia.stats import nulls


def thresholds(
  shadow_losses: np.ndarray,
  shadow_labels: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  alpha: np.ndarray,
  valid: np.ndarray | None = None,
  *,
  method: str = "linear",
) -> np.ndarray:
  """Returns `c_alpha(y)` at each sample's label: a member where `loss <= c_alpha`.

  Args:
    shadow_losses: `[R, P]` loss of shadow model r on row p.
    shadow_labels: `[P]` integer labels of those rows.
    labels: `[N]` integer labels of the samples under attack.
    num_classes: number of classes.
    alpha: `[A]` significance levels in [0, 1].
    valid: `[R, P]` bool, false where model r was trained on row p: the null is of
      non-members. None if no model was trained on any of the rows.
    method: one of `nulls.METHODS`.

  Returns:
    `[A, N]` float32.

  Raises:
    ValueError: an array has a wrong shape, a NaN or an infinity, or a negative loss
      where the method takes a logit; a label is not in `[0, num_classes)`; `alpha`
      leaves [0, 1]; `method` is unknown; or a class among `labels` has fewer than 2
      valid losses (names the class).
  """
  null, columns = _fit(shadow_losses, shadow_labels, labels, num_classes, valid, method)
  return np.asarray(nulls.quantile(null, alpha, method))[:, columns]


def score(
  losses: np.ndarray,
  labels: np.ndarray,
  shadow_losses: np.ndarray,
  shadow_labels: np.ndarray,
  num_classes: int,
  valid: np.ndarray | None = None,
  *,
  method: str = "linear",
) -> np.ndarray:
  """Returns `-log p`, p the p-value of the loss among shadow non-members of its class.

  Args:
    losses: `[N]` the target's losses, or `[..., N]` of several targets.
    labels: as in `thresholds`, like the others.
    shadow_losses: `[R, P]`.
    shadow_labels: `[P]`.
    num_classes: number of classes.
    valid: `[R, P]` bool.
    method: one of `nulls.METHODS`.

  Returns:
    Float32 of the shape of `losses`, at least 0; higher = member. On why not `1 - p`:
    `reference.score`.

  Raises:
    ValueError: as `thresholds`, and for `losses` of another shape or not finite.
  """
  null, columns = _fit(shadow_losses, shadow_labels, labels, num_classes, valid, method)
  _calibration.check_losses("losses", losses, method)
  _validate.shape("losses", losses, (*losses.shape[:-1], len(columns)))
  return _calibration.score(nulls.select(null, columns), losses, method)


def _fit(shadow_losses, shadow_labels, labels, num_classes, valid, method):
  _validate.shape("shadow_losses", shadow_losses, (None, None))
  _calibration.check_losses("shadow_losses", shadow_losses, method)
  _calibration.check_valid(valid, shadow_losses.shape)
  return _calibration.fit_classes(
    shadow_losses,
    shadow_labels,
    labels,
    num_classes,
    valid,
    method,
    ("shadow_losses", "shadow_labels"),
  )
