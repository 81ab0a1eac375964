"""Attack S: is the loss lower than shadow models' losses on non-members of the class?

The null pools the losses of all shadow models on samples they were not trained on. The
threshold is `c_alpha(y)`: it knows the label, but neither the target nor the sample.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.1, eq. 11-16, and Table 1; the shadow models are Shokri et al.'s.
"""

import numpy as np

from jmia import _validate
from jmia.attacks import _calibration, registry
from jmia.attacks.evidence import Evidence
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


def _null(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The shadow models' losses, their labels, and which of them count."""
  group = evidence.groups["reference"]
  labels = group.population_labels
  null = (group.population["loss"], labels, group.population_out)
  if labels.ndim == 1:
    return null
  # Rows of each model's own: as good as one model's.
  flat = [array.reshape(1, -1) for array in null]
  return flat[0], flat[1][0], flat[2]


def _in_classes(evidence: Evidence) -> np.ndarray:
  """`[N]` bool: the samples of a class of which 2 losses count."""
  _, labels, valid = _null(evidence)
  count = np.bincount(labels, valid.sum(axis=0), minlength=evidence.num_classes)
  return count[evidence.labels] >= 2


def _score(evidence: Evidence, *, estimator: str = "linear"):
  at = _in_classes(evidence)
  scores = np.full(len(at), np.nan, np.float32)
  if not at.any():
    return scores
  losses, labels, valid = _null(evidence)
  scores[at] = score(
    evidence.signals["loss"][at],
    evidence.labels[at],
    losses,
    labels,
    evidence.num_classes,
    valid,
    method=estimator,
  )
  return scores


def _thresholds(evidence: Evidence, alpha, *, estimator: str):
  at = _in_classes(evidence)
  found = np.full((len(alpha), len(at)), np.nan, np.float32)
  if not at.any():
    return found
  losses, labels, valid = _null(evidence)
  found[:, at] = thresholds(
    losses,
    labels,
    evidence.labels[at],
    evidence.num_classes,
    alpha,
    valid,
    method=estimator,
  )
  return found


registry.register(
  registry.Attack(
    name="shadow",
    title="S · shadow",
    attacker="with shadow models",
    explanation=(
      "Trains shadow models on similar data, sees how low their losses fall on records "
      "they did not train on, and sets one threshold for each class."
    ),
    source="Ye et al., Enhanced Membership Inference Attacks, section 4.1, eq. 11-16",
    needs=registry.Needs(
      signals=("loss",),
      groups={"reference": registry.GroupNeeds(population=("loss",))},
    ),
    score=_score,
    loss_thresholds=_thresholds,
    check=_calibration.check_options,
  )
)
