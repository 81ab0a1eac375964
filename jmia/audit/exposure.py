"""Whom an attack exposes, sample by sample over models."""

import numpy as np

from jmia.stats import intervals

_BLOCK_SIZE = 2**22  # scores ranked at a time, to bound memory


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
