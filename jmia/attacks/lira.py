"""LiRA: is the target's confidence more likely under models with the record?

The signal of a sample is its logit-scaled confidence, `phi = log(p_y / (1 - p_y))`,
which is nearly Gaussian over models. Reference models trained with the sample give
`N(mu_in, var_in)`, those trained without it `N(mu_out, var_out)`:

  online    log N(phi; mu_in, var_in) - log N(phi; mu_out, var_out)
  offline   -log(1 - Phi((phi - mu_out) / std_out))

and both are summed over the queries. Offline needs no model that held the sample.

**Variance.** A sample has its own where it has `MIN_OWN` references of each kind that
the form uses, else the one pooled over all samples, of deviations from each sample's
own mean: `sum_n sum_r (phi_rn - mean_n)^2 / sum_n (R_n - 1)`, for either kind and for
each query. Carlini et al. pool below 64 models, 32 of each kind; ours is 30, so that 64
models one of which is the target stay on one side for every sample. Were samples on
both sides, the number of the other models that held one would decide, and where every
row is in exactly half of the models that number tells who is a member. The online form
takes the lesser of the two numbers, which does not tell.

Source: Carlini et al., "Membership Inference Attacks From First Principles",
Algorithm 1 and, offline, eq. 4. Departures from its public codes: means, where they
take medians; a pooled variance centred for each sample, where they take the spread of
all samples together; and the paper's one-sided offline score, where theirs is a
density, two-sided.
"""

from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks import _references, registry
from jmia.attacks.evidence import QUERIES, Evidence, on_copies, queried

MIN_OWN = 30
VARIANCES = ("auto", "own", "pooled")

# Least standard deviation, in units of phi: of references that all answer alike.
_STD_FLOOR = 1e-6


def score_online(
  phi: np.ndarray,
  reference_phi: np.ndarray,
  held: np.ndarray,
  out: np.ndarray,
  *,
  variance: str = "auto",
) -> np.ndarray:
  """Returns `log N(phi; mu_in, var_in) - log N(phi; mu_out, var_out)`.

  As in the paper, a confidence far above that of the models with the sample speaks
  against membership where their variance is the smaller one.

  Args:
    phi: `[N]` the target's scaled logits, or `[N, Q]` of Q copies of each sample, over
      which the score is summed.
    reference_phi: `[R, N]` or `[R, N, Q]`, of reference models; not read where neither
      mask is true.
    held: `[R, N]` bool, whether model r was trained on sample n.
    out: `[R, N]` bool, whether it was not.
    variance: "auto", as the module says; or "own" or "pooled" for every sample.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, a sample has no model of a kind (2
      with its own variance), no sample has 2 to pool, or `variance` is unknown.
  """
  _references.check("phi", phi, reference_phi, held=held, out=out)
  own = own_variance(held, out, variance=variance)
  with_it = _log_density(phi, reference_phi, held, own, "held")
  without = _log_density(phi, reference_phi, out, own, "out")
  return _references.sum_queries(with_it - without)


def score_offline(
  phi: np.ndarray,
  reference_phi: np.ndarray,
  out: np.ndarray,
  *,
  variance: str = "auto",
) -> np.ndarray:
  """Returns `-log(1 - Phi((phi - mu_out) / std_out))`, one-sided.

  It is minus the log of a Gaussian p-value, which ranks well but holds its level only
  with very many references: it is no p-value to be quoted.

  Args:
    phi: as in `score_online`, like the others.
    reference_phi: `[R, N]` or `[R, N, Q]`.
    out: `[R, N]` bool.
    variance: "auto", "own" or "pooled".

  Returns:
    `[N]` float64, at least 0; higher = member.

  Raises:
    ValueError: as `score_online`.
  """
  from scipy import special  # slow to import

  _references.check("phi", phi, reference_phi, out=out)
  own = own_variance(out, variance=variance)
  mean, std = _fit(reference_phi, out, own, "out")
  # 0 - x, for a +0 where the p-value is 1.
  scores = 0.0 - special.log_ndtr((mean - np.asarray(phi, np.float64)) / std)
  return _references.sum_queries(scores)


def own_variance(*masks: np.ndarray, variance: str = "auto") -> np.ndarray:
  """Returns `[N]` bool: whose variance is the sample's own, and not the pooled one.

  Args:
    *masks: `[R, N]` bool, of each kind of models that the form uses.
    variance: as in `score_online`.

  Raises:
    ValueError: if `variance` is unknown.
  """
  _validate.known("variance", variance, VARIANCES)
  fewest = np.min([mask.sum(axis=0) for mask in masks], axis=0)
  least = {"auto": MIN_OWN, "own": 0, "pooled": np.inf}[variance]
  return fewest >= least


def _log_density(phi, references, mask, own, name) -> np.ndarray:
  """`log N(phi; mean, std^2)`, less a constant."""
  mean, std = _fit(references, mask, own, name)
  return -0.5 * np.square((phi - mean) / std) - np.log(std)


def _fit(references, mask, own, name) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each sample's references, and query's."""
  number, mean, squares = _references.moments(references, mask)
  freedom = number - 1
  own = own.reshape(own.shape + (1,) * (mean.ndim - 1))
  if (own & (freedom < 1)).any():
    few = np.flatnonzero((own & (freedom < 1)).reshape(len(own), -1).any(axis=1))
    raise ValueError(
      f"{name} marks one model for {len(few)} samples, first sample {few[0]}; a "
      "variance of its own needs 2"
    )
  if not own.all() and freedom.sum() < 1:
    raise ValueError(
      f"{name} marks one model for every sample; to pool a variance some need 2"
    )
  pooled = squares.sum(axis=0) / np.maximum(freedom.sum(axis=0), 1)
  each = squares / np.maximum(freedom, 1)
  std = np.sqrt(np.where(own, each, pooled))
  return mean, np.maximum(std, _STD_FLOOR)


def _online(evidence: Evidence, *, variance: str = "auto") -> np.ndarray:
  group = evidence.groups["in_out"]
  phi, references = (queried(of.signals, "scaled_logit") for of in (evidence, group))
  return score_online(phi, references, group.held, group.out, variance=variance)


def _offline(evidence: Evidence, *, variance: str = "auto") -> np.ndarray:
  group = evidence.groups["reference"]
  phi, references = (queried(of.signals, "scaled_logit") for of in (evidence, group))
  return score_offline(phi, references, group.out, variance=variance)


def _check_options(*, variance: str) -> None:
  _validate.known("variance", variance, VARIANCES)


def _needs(group: str, **counts: Any) -> registry.Needs:
  phi = (on_copies("scaled_logit", QUERIES),)
  of_group = registry.GroupNeeds(signals=phi, **counts)
  return registry.Needs(signals=phi, groups={group: of_group})


registry.register(
  registry.Attack(
    name="lira_online",
    title="LiRA, online",
    attacker="with models trained with the record and models trained without it",
    explanation=(
      "Asks which the audited model's confidence in the record fits better: that of "
      "models trained with the record, or that of models trained without it."
    ),
    source="Carlini et al., Algorithm 1",
    needs=_needs("in_out", held=2, out=2),
    score=_online,
    check=_check_options,
    # Where both are as likely.
    score_threshold=lambda evidence, **options: 0.0,
  )
)

registry.register(
  registry.Attack(
    name="lira_offline",
    title="LiRA, offline",
    attacker="with reference models, who expects bell-shaped confidences",
    explanation=(
      "Asks how far the audited model's confidence in the record lies above that of "
      "models trained without it, in units of their spread."
    ),
    source="Carlini et al., eq. 4",
    needs=_needs("reference", out=2),
    score=_offline,
    check=_check_options,
  )
)
