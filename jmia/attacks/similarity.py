"""The similarity attack: is the target more like models with the sample, or without?

For each sample there are models trained with it and models trained without it. The
target's answer on the sample is compared with theirs by the Kullback-Leibler
divergence, and the score is how much nearer it is to the models with the sample:

  `mean_out KL(target || model) - mean_in KL(target || model)`.

Source: Long, Bindschaedler & Gunter, "Towards Measuring Membership Privacy", which
Yang's "Membership Inference Attack on Classification Models" describes (section 2.5)
and leaves out for its cost (section 4). The report trains k models on draws and k on
the same draws with the record, and compares the similarity of each group's answers to
y^, typically by the KL divergence. That y^ is the target's answer, which section 2.5
calls the label, is the notation of section 2; that the two groups enter by the
difference of their mean divergences, and that the target is the first argument, is how
we read it. `classic.studies.similarity` trains the pairs; an audit's models hold each
row by chance instead, whole halves of the rows at once.
"""

import numpy as np

from jmia import _validate
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence


def score(
  divergences: np.ndarray, held: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
  """Returns the mean divergence from models without less that from models with.

  Args:
    divergences: `[R, N]` of the target's answer on sample n from model r's.
    held: `[R, N]` bool, whether model r was trained on sample n.
    out: `[R, N]` bool, whether it was not. Default: all others; where neither is true,
      the divergence does not count.

  Returns:
    `[N]` float32; higher = member.

  Raises:
    ValueError: shapes differ, held is not bool, a divergence is not finite, or a
      sample has no model with it or none without (says how many, and the first).
  """
  _validate.shape("divergences", divergences, (None, None))
  _validate.shape("held", held, divergences.shape)
  _validate.finite("divergences", divergences)
  if held.dtype != np.bool_:
    raise ValueError(f"held has dtype {held.dtype}, expected bool")
  out = ~held if out is None else out
  _validate.shape("out", out, divergences.shape)
  with_it = held.sum(axis=0)
  lacking = np.flatnonzero((with_it == 0) | ~out.any(axis=0))
  if lacking.size:
    raise ValueError(
      f"{lacking.size} samples have no model with them or none without, first sample "
      f"{lacking[0]}, which {with_it[lacking[0]]} of {len(held)} models held"
    )
  wide = np.asarray(divergences, np.float64)
  mean_in = np.mean(wide, axis=0, where=held)
  mean_out = np.mean(wide, axis=0, where=out)
  return (mean_out - mean_in).astype(np.float32)


def _score(evidence: Evidence) -> np.ndarray:
  group = evidence.groups["in_out"]
  return score(group.signals["divergence"], group.held, group.out)


registry.register(
  registry.Attack(
    name="similarity",
    title="Similarity",
    attacker="with models that have and have not seen the record",
    explanation=(
      "Compares the audited model's answer with those of models trained with the "
      "record and of models trained without it, by their divergence."
    ),
    source="Long et al.; named by Yang",
    needs=registry.Needs(
      groups={"in_out": registry.GroupNeeds(signals=("divergence",), held=1, out=1)}
    ),
    score=_score,
    # Where both groups are as near.
    score_threshold=lambda evidence: 0.0,
  )
)
