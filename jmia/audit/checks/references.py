"""Whether the models that a black box is compared with are like it."""

import numpy as np

from jmia.attacks.evidence import Evidence

_GAP = 0.1  # of accuracy
_RATIO = 2.0  # of mean losses
_SHARE = 0.5  # of samples


def notes(evidence: Evidence, model: str) -> list[str]:
  """Says what the references are, how they match the target and where they do not.

  Args:
    evidence: of a black-box target.
    model: what the references are, such as "mlp".
  """
  group = evidence.groups.get("reference")
  if group is None or "loss" not in group.signals:
    return []
  said = [f"the reference models are of kind {model}; the target is a black box"]
  losses, out = group.signals["loss"], group.out
  if out.any():
    most = np.where(out, losses, -np.inf).max(0)
    share = float((evidence.signals["loss"] > most)[out.any(0)].mean())
    if share > _SHARE:
      said.append(
        f"the target's loss is above every reference model's on {share:.0%} of the"
        " samples: it is fitted less than they are, which pushes attacks that compare"
        " with them below guessing. Train references like the target"
      )
  if "loss" in group.population and "loss" in evidence.population:
    said += _gaps(evidence, group)
  return said


def _gaps(evidence: Evidence, group) -> list[str]:
  """The gaps on rows of the population that a reference was not trained on."""
  if not group.population_out.any() or group.population_labels.ndim == 2:
    return []
  out = group.population_out
  theirs = float(np.asarray(group.population["loss"])[out].mean(dtype=np.float64))
  rows = np.broadcast_to(np.asarray(evidence.population["loss"]), out.shape)
  own = float(rows[out].mean(dtype=np.float64))
  said = (
    f"on rows unseen by both, the target's mean loss is {own:.3g}, theirs {theirs:.3g}"
  )
  bad = max(own, theirs) > _RATIO * max(min(own, theirs), 1e-9)
  both = (evidence.population, group.population)
  if all("correctness" in signals for signals in both):
    hits = np.asarray(group.population["correctness"])[out].mean()
    mine = np.broadcast_to(evidence.population["correctness"], out.shape)[out].mean()
    said += f", its accuracy {mine:.1%}, theirs {hits:.1%}"
    bad |= abs(float(mine - hits)) > _GAP
  if bad:
    said += (
      "; they do not match it, so attacks that compare with them may find less, or"
      " find this difference: train references like the target"
    )
  return [said]
