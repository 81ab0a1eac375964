"""Whether the target learnt anything at all."""

import numpy as np

from jmia.attacks.evidence import Evidence


def notes(evidence: Evidence) -> list[str]:
  """Says that nothing was learnt, so that nothing can leak; nothing where it was.

  That is where the target's accuracy on its own members is no better than the share of
  their largest class, or its mean loss on them not below that of answering their class
  shares, whatever the sample.
  """
  of_members = evidence.labels[evidence.members]
  counts = np.bincount(of_members, minlength=evidence.num_classes)
  shares = counts[counts > 0] / counts.sum()
  if len(shares) < 2:
    return []  # one class: there is nothing to learn
  found = []
  right = evidence.signals.get("correctness")  # not known of losses alone
  accuracy = 1.0 if right is None else float((right[evidence.members] > 0).mean())
  if accuracy <= shares.max():
    found.append(
      f"its accuracy on its own members, {accuracy:.1%}, is no better than their"
      f" largest class's share, {shares.max():.1%}"
    )
  loss = float(evidence.signals["loss"][evidence.members].mean(dtype=np.float64))
  chance = float(-(shares * np.log(shares)).sum())
  if not loss < chance:
    found.append(
      f"its mean loss on them, {loss:.3g}, is not below that of answering the class"
      f" shares, {chance:.3g}"
    )
  if not found:
    return []
  return [
    f"the target learnt next to nothing: {', and '.join(found)}; what was not learnt"
    " cannot leak, and figures near guessing say nothing of a model that works. Look"
    " for features out of scale, too few epochs, or labels that do not fit"
  ]
