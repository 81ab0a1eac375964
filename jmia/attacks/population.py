"""Attack P: is the loss lower than the target's own losses on the population?

The null is the target's loss on rows that it was not trained on: no other model is
needed. The threshold is `c_alpha(theta)`, one for all samples of a target, or per class
`c_alpha(theta, y)`.

Source: Ye et al., "Enhanced Membership Inference Attacks against Machine Learning
Models", section 4.2, eq. 17-22, and Table 1; the threshold per class is ours.
"""

from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks import _calibration, registry
from jmia.attacks.evidence import Evidence
from jmia.stats import nulls


def thresholds(
  population_losses: np.ndarray,
  alpha: np.ndarray,
  *,
  method: str = "linear",
  population_labels: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  num_classes: int | None = None,
) -> np.ndarray:
  """Returns `c_alpha(theta)`, or `c_alpha(theta, y)` where labels are given.

  Args:
    population_losses: `[P]` the target's losses on population rows, none of which it
      was trained on and none of which is under attack.
    alpha: `[A]` significance levels in [0, 1].
    method: one of `nulls.METHODS`.
    population_labels: `[P]` integer labels. It, `labels` and `num_classes` are given
      together, for thresholds per class, or not at all.
    labels: `[N]` integer labels of the samples under attack.
    num_classes: number of classes.

  Returns:
    Float32, `[A, 1]`, which holds for all samples alike, or per class `[A, N]`. A
    sample is called a member where `loss <= c_alpha`.

  Raises:
    ValueError: an array has a wrong shape, a NaN or an infinity, or a negative loss
      where the method takes a logit; labels are given in part or not in
      `[0, num_classes)`; `alpha` leaves [0, 1]; `method` is unknown; or there are fewer
      than 2 population losses, or of a class among `labels` (names the class).
  """
  null, columns = _fit(
    population_losses, population_labels, labels, num_classes, method
  )
  return np.asarray(nulls.quantile(null, alpha, method))[:, columns]


def score(
  losses: np.ndarray,
  population_losses: np.ndarray,
  *,
  method: str = "linear",
  population_labels: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  num_classes: int | None = None,
) -> np.ndarray:
  """Returns `-log p`, p the p-value of the target's loss among its population losses.

  Args:
    losses: `[N]` the target's losses. Several targets go one by one: each has its own
      losses on the population.
    population_losses: as in `thresholds`, like the others.
    method: one of `nulls.METHODS`.
    population_labels: `[P]`.
    labels: `[N]`.
    num_classes: number of classes.

  Returns:
    `[N]` float32, at least 0; higher = member. On why not `1 - p`: `reference.score`.

  Raises:
    ValueError: as `thresholds`, and for `losses` of another shape or not finite.
  """
  null, columns = _fit(
    population_losses, population_labels, labels, num_classes, method
  )
  _calibration.check_losses("losses", losses, method)
  _validate.shape("losses", losses, (None if labels is None else len(columns),))
  return _calibration.score(nulls.select(null, columns), losses, method)


def _fit(population_losses, population_labels, labels, num_classes, method):
  """The null, and each sample's column of it; one column for all if not by class."""
  _validate.shape("population_losses", population_losses, (None,))
  _calibration.check_losses("population_losses", population_losses, method)
  by_class = {
    "population_labels": population_labels,
    "labels": labels,
    "num_classes": num_classes,
  }
  missing = [name for name, value in by_class.items() if value is None]
  if not missing:
    return _calibration.fit_classes(
      population_losses,
      population_labels,
      labels,
      num_classes,
      None,
      method,
      ("population_losses", "population_labels"),
    )
  if len(missing) < len(by_class):
    raise ValueError(
      f"{', '.join(by_class)} go together; missing are {', '.join(missing)}"
    )
  if len(population_losses) < 2:
    raise ValueError(
      f"population_losses holds {len(population_losses)} losses, expected at least 2"
    )
  return nulls.fit_groups([population_losses], method=method), np.zeros(1, int)


def _classes(evidence: Evidence, at: np.ndarray, by_class: bool) -> dict[str, Any]:
  """What makes the null one of each class, of the samples `at`."""
  if not by_class:
    return {}
  return {
    "population_labels": evidence.population_labels,
    "labels": evidence.labels[at],
    "num_classes": evidence.num_classes,
  }


def _attacked(evidence: Evidence, by_class: bool) -> np.ndarray:
  """`[N]` bool: by class, the samples of a class that 2 population rows have."""
  if not by_class:
    return np.ones(len(evidence.labels), bool)
  count = np.bincount(evidence.population_labels, minlength=evidence.num_classes)
  return count[evidence.labels] >= 2


def _score(evidence: Evidence, *, estimator: str = "linear", by_class: bool = False):
  at = _attacked(evidence, by_class)
  scores = np.full(len(at), np.nan, np.float32)
  if at.any():
    scores[at] = score(
      evidence.signals["loss"][at],
      evidence.population["loss"],
      method=estimator,
      **_classes(evidence, at, by_class),
    )
  return scores


def _thresholds(evidence: Evidence, alpha, *, estimator: str, by_class: bool):
  at = _attacked(evidence, by_class)
  found = np.full((len(alpha), len(at)), np.nan, np.float32)
  if at.any():
    found[:, at] = thresholds(
      evidence.population["loss"],
      alpha,
      method=estimator,
      **_classes(evidence, at, by_class),
    )
  return found


registry.register(
  registry.Attack(
    name="population",
    title="P · population",
    attacker="with samples of the population",
    explanation=(
      "Asks whether the model's loss on a record is lower than on most records of the "
      "population it never saw; needs only such records, and sets one threshold for "
      "all or one for each class."
    ),
    source="Ye et al., Enhanced Membership Inference Attacks, section 4.2, eq. 17-22",
    needs=registry.Needs(signals=("loss",), population=("loss",), num_population=2),
    score=_score,
    loss_thresholds=_thresholds,
    check=_calibration.check_options,
  )
)
