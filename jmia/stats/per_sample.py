"""Is a false positive rate that is pooled over samples each sample's own?

An attack at a false positive rate of 1 % calls 1 % of the non-members members. It need
not call each of them in 1 % of all targets: where scores are not calibrated for each
sample, or where targets are compared with models that they share, some are called
again and again, and others never. Then a rate is an average over samples, and says
little about a certain one. With several targets trained on draws of the same rows this
can be seen: the same non-members are called by more targets than chance would have it.

Source: the question is that of Jälkö, Pradhan, Räisä & Honkela, "On Reliability of
Efficient Membership Inference Vulnerability Evaluation" (2026); statistic, test and
estimate are ours.
"""

from typing import NamedTuple

import numpy as np

from jmia import _validate

NUM_PERMUTATIONS = 999


class Spread(NamedTuple):
  """How the samples' own false positive rates differ.

  Attributes:
    rate: mean over samples and targets, at most the level that was asked for.
    deviation: standard deviation of the samples' own rates, without the noise of few
      targets; 0 where they differ by no more than chance.
    p_value: of the hypothesis that every non-member of a target is called alike.
    num_pairs: pairs of targets that a sample was out of, over all samples.
  """

  rate: float
  deviation: float
  p_value: float
  num_pairs: int


def spread(
  scores: np.ndarray, members: np.ndarray, level: float, *, seed: int = 0
) -> Spread | None:
  """Compares how often the same non-members are called by several targets.

  Of `o` targets that a sample was out of, `h` call it a member, each at a threshold of
  its own that no more than a share `level` of its non-members passes. `h (h - 1)`,
  summed over samples, estimates the mean square of the samples' rates times
  `o (o - 1)`, whatever the rates are; the deviation follows from it. Under the
  hypothesis each target's calls could as well be of any other of its non-members: the
  p-value is the rank of the sum among those of `NUM_PERMUTATIONS` such draws.

  Args:
    scores: `[T, N]`, higher = member; NaN where target t was not asked about sample n.
    members: `[T, N]` bool.
    level: pooled false positive rate, in (0, 1).
    seed: of the permutations.

  Returns:
    The spread; None where no sample was out of two targets, or nothing is called.

  Raises:
    ValueError: shapes disagree, or `level` is out of range.
  """
  _validate.shape("scores", scores, (None, None))
  _validate.shape("members", members, scores.shape)
  _validate.probability("level", level, open_interval=True)
  pairs = list(zip(scores, members, strict=True))
  others = [np.flatnonzero(~m & ~np.isnan(s)) for s, m in pairs]
  called = [_called(s[out], level) for s, out in zip(scores, others, strict=True)]
  outs = np.zeros(scores.shape[1], int)
  hits = np.zeros_like(outs)
  for out, of_target in zip(others, called, strict=True):
    outs[out] += 1
    hits[out[of_target]] += 1
  num_pairs = _pairs(outs)
  if not num_pairs or not hits.any():
    return None
  rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5A]))
  seen, as_many = _pairs(hits), 0
  for _ in range(NUM_PERMUTATIONS):
    drawn = np.zeros_like(hits)
    for out, of_target in zip(others, called, strict=True):
      drawn[rng.choice(out, of_target.sum(), replace=False)] += 1
    as_many += _pairs(drawn) >= seen
  rate = hits.sum() / outs.sum()
  variance = max(0.0, seen / num_pairs - rate**2)
  p_value = (1 + as_many) / (1 + NUM_PERMUTATIONS)
  return Spread(float(rate), float(variance**0.5), float(p_value), num_pairs)


def _called(scores: np.ndarray, level: float) -> np.ndarray:
  """Which are above a threshold that at most a share `level` passes."""
  most = int(level * len(scores))
  if not most:
    return np.zeros(len(scores), bool)
  return scores > np.partition(scores, len(scores) - most - 1)[len(scores) - most - 1]


def _pairs(counts: np.ndarray) -> int:
  return int((counts * (counts - 1)).sum())
