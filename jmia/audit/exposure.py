"""Whom an attack exposes: sample by sample over models, and group by group of rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.stats import intervals

_BLOCK_SIZE = 2**22  # scores ranked at a time, to bound memory


class OfGroup(NamedTuple):
  """How well an attack tells members from others within one group of rows.

  Attributes:
    auc, low, high: with its 95 % interval; NaN where the group has but one kind.
    num_members, num_nonmembers: attacked.
  """

  auc: float
  low: float
  high: float
  num_members: int
  num_nonmembers: int


def by_sample(
  scores: np.ndarray, held: np.ndarray, *, confidence: float = 0.95
) -> intervals.AucInterval:
  """Returns how well an attack tells models that hold a sample from those that do not.

  Ye et al., section 5: the AUC of each sample over models.

  Args:
    scores: `[M, N]` of every model attacked in turn; higher = member.
    held: `[M, N]` bool, whether model m was trained on sample n.
    confidence: of each interval; those of samples that are picked for their intervals
      need `intervals.each_of` as many as they are picked from.

  Returns:
    An `AucInterval` of `[N]`; NaN where no model, or every model, holds the sample.

  Raises:
    ValueError: as `intervals.auc`.
  """
  step = max(1, _BLOCK_SIZE // len(scores))
  blocks = [
    intervals.auc(
      scores[:, i : i + step], held[:, i : i + step], confidence=confidence, axis=0
    )
    for i in range(0, scores.shape[1], step)
  ]
  return intervals.AucInterval(*map(np.concatenate, zip(*blocks, strict=True)))


def by_group(
  scores: np.ndarray, members: np.ndarray, groups: np.ndarray
) -> Mapping[Any, OfGroup]:
  """Returns the exposure of each group of rows, such as classes, most exposed first.

  Args:
    scores: `[N]`, higher = member; NaN where a sample was not attacked.
    members: `[N]` bool.
    groups: `[N]` labels of any kind that sorts.

  Raises:
    ValueError: if shapes differ.
  """
  _validate.shape("members", members, scores.shape)
  _validate.shape("groups", groups, scores.shape)
  found = {}
  attacked = ~np.isnan(scores)
  for group in np.unique(groups[attacked]):
    at = attacked & (groups == group)
    auc = intervals.auc(scores[at], members[at])
    found[group.item()] = OfGroup(
      *(float(auc.auc), float(auc.low), float(auc.high)),
      num_members=int(members[at].sum()),
      num_nonmembers=int((~members[at]).sum()),
    )
  order = sorted(found, key=lambda group: -np.nan_to_num(found[group].low, nan=-1.0))
  return {group: found[group] for group in order}
