"""BASE: the Bayes-optimal attack's threshold, from reference models.

Where the posterior of models is proportional to `exp(-loss)`, the best membership score
of a sample is the target's log probability less the log of the mean probability under
models that might as well have been trained:

  online    log p(x | theta) - log((mean_in p + mean_out p) / 2)
  offline   log p(x | theta) - alpha log mean_out p

Offline the models that held the sample are missing, so that the mean is too low: alpha
in [0, 1] raises it. The online score is that of `rmia_online`; its authors prove as
much of the papers' two attacks.

Source: Lassila, Ostman, Ngo & Graell i Amat, "Practical Bayes-Optimal Membership
Inference Attacks" (2505.24089), and alpha as in LeakPro. Departures: temperature is 1;
and online both kinds of models weigh alike, as in the paper, where they are as many.
"""

import numpy as np

from jmia import _validate
from jmia.attacks import _references, registry, rmia
from jmia.attacks.evidence import Evidence

ALPHA = 0.33


def score_offline(
  losses: np.ndarray,
  reference_losses: np.ndarray,
  out: np.ndarray,
  *,
  alpha: float = ALPHA,
) -> np.ndarray:
  """Returns `log p(x | theta) - alpha log mean_out p`.

  Args:
    losses: `[N]` the target's losses, `-log p(x | theta)`, or `[N, Q]` of Q copies of
      each sample, over which the score is averaged.
    reference_losses: `[R, N]` or `[R, N, Q]`, of reference models; not read where `out`
      is false.
    out: `[R, N]` bool, whether model r was not trained on sample n; one is enough.
    alpha: in [0, 1]; at 0 the references do not count.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, a sample has no such model, or
      `alpha` leaves [0, 1].
  """
  _validate.probability("alpha", alpha)
  _references.check("losses", losses, reference_losses, out=out)
  log_mean = _references.log_mean_probability(reference_losses, out)
  return _references.mean_queries(-np.asarray(losses, np.float64) - alpha * log_mean)


# The two are one.
score_online = rmia.log_ratio_online


def _score(evidence: Evidence, *, alpha: float = ALPHA, online: bool = False):
  losses = evidence.signals["loss"]
  if online:
    group = evidence.groups["in_out"]
    return score_online(losses, group.signals["loss"], group.held, group.out)
  group = evidence.groups["reference"]
  return score_offline(losses, group.signals["loss"], group.out, alpha=alpha)


def _check_options(*, alpha: float, online: bool) -> None:
  _validate.probability("alpha", alpha)
  if online and alpha != ALPHA:
    raise ValueError(f"alpha={alpha} is not read with online")


def _needs(*, alpha: float, online: bool) -> registry.Needs:
  del alpha
  group, held = ("in_out", 1) if online else ("reference", 0)
  return registry.Needs(
    signals=("loss",),
    groups={group: registry.GroupNeeds(signals=("loss",), out=1, held=held)},
  )


registry.register(
  registry.Attack(
    name="base",
    title="BASE",
    attacker="with few reference models, who weighs the evidence by Bayes' rule",
    explanation=(
      "Asks how much more likely the record is under the audited model than under "
      "models in general; one reference model is enough."
    ),
    source="Lassila et al.",
    needs=_needs,
    score=_score,
    check=_check_options,
  )
)
