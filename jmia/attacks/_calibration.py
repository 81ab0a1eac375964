"""What the attacks share: checks of their arrays, and nulls per sample or per class."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks.evidence import Evidence
from jmia.attacks.registry import GroupNeeds, Needs
from jmia.stats import nulls

# Null losses or thresholds held at a time: bounds the memory beyond inputs and outputs
# to some 200 MB.
_BLOCK_SIZE = 2**22


def against(
  group: str, score: Callable[..., np.ndarray], thresholds: Callable[..., np.ndarray]
) -> dict[str, Any]:
  """Returns needs and functions of an attack on the losses of a group's models.

  Args:
    group: whose models that did not hold a sample give its null.
    score: the attack's, of arrays.
    thresholds: likewise.
  """

  def null(evidence: Evidence) -> tuple[np.ndarray, np.ndarray | None]:
    of_group = evidence.groups[group]
    valid = None if of_group.out.all() else of_group.out
    return of_group.signals["loss"], valid

  def score_evidence(evidence: Evidence, *, estimator: str = "min_linear_logit"):
    return score(evidence.signals["loss"], *null(evidence), method=estimator)

  def loss_thresholds(evidence: Evidence, alpha: np.ndarray, *, estimator: str):
    losses, valid = null(evidence)
    return thresholds(losses, alpha, valid, method=estimator)

  return {
    "needs": Needs(
      signals=("loss",), groups={group: GroupNeeds(signals=("loss",), out=2)}
    ),
    "score": score_evidence,
    "loss_thresholds": loss_thresholds,
    "check": check_options,
  }


def check_options(*, estimator: str, **options: Any) -> None:
  """Raises ValueError if there is no such estimator; takes what other options too."""
  del options
  _validate.known("estimator", estimator, nulls.METHODS)


def thresholds_per_sample(
  null_losses: np.ndarray,
  alpha: np.ndarray,
  valid: np.ndarray | None,
  method: str,
  name: str,
) -> np.ndarray:
  """Thresholds `[A, N]` where sample n's null is column n of `null_losses` `[R, N]`."""
  _check_per_sample(null_losses, valid, method, name)
  thresholds = np.empty((np.size(alpha), null_losses.shape[1]), np.float32)
  num_rows, num_samples = null_losses.shape
  for columns in _column_blocks(max(num_rows, np.size(alpha)), num_samples):
    null = _fit_columns(null_losses, valid, columns, method)
    thresholds[:, columns] = nulls.quantile(null, alpha, method)
  return thresholds


def score_per_sample(
  losses: np.ndarray,
  null_losses: np.ndarray,
  valid: np.ndarray | None,
  method: str,
  name: str,
) -> np.ndarray:
  """Scores of losses `[..., N]`; sample n's null is column n of `null_losses`."""
  _check_per_sample(null_losses, valid, method, name)
  check_losses("losses", losses, method)
  _validate.shape("losses", losses, (*losses.shape[:-1], null_losses.shape[1]))
  scores = np.empty(losses.shape, np.float32)
  num_rows, num_samples = null_losses.shape
  for columns in _column_blocks(max(num_rows, losses[..., 0].size), num_samples):
    null = _fit_columns(null_losses, valid, columns, method)
    scores[..., columns] = score(null, losses[..., columns], method)
  return scores


def score(null: nulls.Null, losses: np.ndarray, method: str) -> np.ndarray:
  """Minus the log of the p-value, with +0 where it is 1."""
  return 0.0 - np.asarray(nulls.log_p_value(null, losses, method))


def fit_classes(
  losses: np.ndarray,
  loss_labels: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  valid: np.ndarray | None,
  method: str,
  names: tuple[str, str],
) -> tuple[nulls.Null, np.ndarray]:
  """A null for each class among `labels` `[N]`, and each label's column in it `[N]`.

  Class y's null pools `losses` `[..., P]` of the valid rows with `loss_labels` `[P]` y.
  """
  _validate.shape(names[1], loss_labels, losses.shape[-1:])
  _validate.shape("labels", labels, (None,))
  _validate.labels(names[1], loss_labels, num_classes)
  _validate.labels("labels", labels, num_classes)
  losses, loss_labels = np.asarray(losses), np.asarray(loss_labels)
  classes, columns = np.unique(np.asarray(labels), return_inverse=True)
  # Sorted by label once: picking each class's columns would read all rows C times.
  order = np.argsort(loss_labels, kind="stable")
  losses = np.take(losses, order, axis=-1)
  valid = None if valid is None else np.take(np.asarray(valid), order, axis=-1)
  bounds = np.searchsorted(loss_labels[order], [classes, classes + 1])
  pools = []
  for label, start, stop in zip(classes, *bounds, strict=True):
    pool = losses[..., start:stop]
    pools.append(pool.ravel() if valid is None else pool[valid[..., start:stop]])
    if len(pools[-1]) < 2:
      raise ValueError(
        f"{names[0]} holds {len(pools[-1])} losses of class {label}, which is among "
        "labels; its null needs at least 2"
      )
  return nulls.fit_groups(pools, method=method), columns


def check_losses(name: str, losses: np.ndarray, method: str) -> None:
  """Raises ValueError unless losses are finite, and not negative where a logit is."""
  _validate.known("method", method, nulls.METHODS)
  _validate.finite(name, losses)
  if "logit" in method and losses.size and losses.min() < 0:
    raise ValueError(
      f"{name} holds {losses.min()}; method={method!r} takes losses of at least 0"
    )


def check_valid(valid: np.ndarray | None, shape: tuple[int, ...]) -> None:
  """Raises ValueError unless `valid` is None or a bool mask of the given shape."""
  if valid is None:
    return
  _validate.shape("valid", valid, shape)
  if valid.dtype != np.bool_:
    raise ValueError(f"valid has dtype {valid.dtype}, expected bool")


def _check_per_sample(
  null_losses: np.ndarray, valid: np.ndarray | None, method: str, name: str
) -> None:
  _validate.shape(name, null_losses, (None, None))
  check_losses(name, null_losses, method)
  check_valid(valid, null_losses.shape)
  num_rows, num_samples = null_losses.shape
  counts = np.full(num_samples, num_rows) if valid is None else valid.sum(axis=0)
  nulls.check_counts(counts, "sample")


def _column_blocks(num_rows: int, num_columns: int) -> list[slice]:
  """Columns block by block; the last overlaps, so that all compile as one shape."""
  num_blocks = max(1, -(-num_rows * num_columns // _BLOCK_SIZE))
  width = -(-num_columns // num_blocks)
  last = num_columns - width
  starts = (min(start, last) for start in range(0, num_columns, max(width, 1)))
  return [slice(start, start + width) for start in starts]


def _fit_columns(
  null_losses: np.ndarray, valid: np.ndarray | None, columns: slice, method: str
) -> nulls.Null:
  block_valid = None if valid is None else valid[:, columns]
  return nulls.fit(null_losses[:, columns], block_valid, method=method)
