"""BaVarIA: LiRA with a prior, for few reference models.

As in `lira`, a sample's logit-scaled confidences are Gaussian over models with it, and
over models without it. Mean and variance of either have a normal-inverse-gamma prior,

  var ~ InverseGamma(alpha, beta)    mean | var ~ N(m, var / kappa)

whose posterior after n references of mean x and sum of squares S has

  kappa' = kappa + n    m' = (kappa m + n x) / kappa'    alpha' = alpha + n / 2
  beta' = beta + S / 2 + kappa n (x - m)^2 / (2 kappa')

and predicts a new model's confidence by Student's t, of 2 alpha' degrees of freedom
about m' with the squared scale `beta' (kappa' + 1) / (alpha' kappa')`. Then

  online    log t_in(phi) - log t_out(phi)
  offline   -log(1 - T_out(phi)), T the distribution function

and both are summed over the queries. A sample's variance moves from the prior's to its
own as references come, where LiRA switches between the two.

**The prior** is fitted to the references of all samples together (empirical Bayes);
nothing is left to tune and the target plays no part:

- alpha and beta from mean and variance of the samples' log variances, as Smyth does
  ("Linear models and empirical Bayes methods for assessing differential expression",
  2004, section 6.2): samples whose variances differ no more than chance has them differ
  get one and the same. `2 alpha` is kept within `FREEDOM`.
- m is the mean over samples, and kappa the ratio of the variance within samples to that
  of their means, by the method of moments. Of models with a sample, m is instead the
  posterior mean of models without it plus the mean difference: how hard a sample is
  differs much from sample to sample, what membership adds to it less.

Source: Brannvall, "Exponential-Family Membership Inference: From LiRA and RMIA to
BaVarIA" (2603.11799): the model is its abstract's, the prior's numbers are chosen here.
"""

from typing import Any, NamedTuple

import numpy as np

from jmia.attacks import _references, registry
from jmia.attacks.evidence import QUERIES, Evidence, on_copies, queried

# Bounds of the prior's degrees of freedom `2 alpha`: fewer have no variance to speak
# of, and more are as good as a known one.
FREEDOM = (1.0, 1000.0)

# Least variance, in squared units of phi, as in `lira`.
_FLOOR = 1e-12

# Tails below it are not taken from the distribution function, which rounds them to 0.
_TINY = 1e-290


class Normal(NamedTuple):
  """A normal-inverse-gamma distribution of mean and variance.

  Attributes:
    mean: `m`, `[N, ...]`.
    kappa: broadcastable, how many references the mean is worth.
    alpha: broadcastable, half the degrees of freedom of the variance.
    beta: broadcastable; the variance is about `beta / alpha`.
  """

  mean: np.ndarray
  kappa: np.ndarray
  alpha: np.ndarray
  beta: np.ndarray


class Student(NamedTuple):
  """A predictive distribution: degrees of freedom, centre and scale, `[N, ...]`."""

  freedom: np.ndarray
  centre: np.ndarray
  scale: np.ndarray


def score_online(
  phi: np.ndarray, reference_phi: np.ndarray, held: np.ndarray, out: np.ndarray
) -> np.ndarray:
  """Returns `log t_in(phi) - log t_out(phi)`, with priors fitted to the references.

  Args:
    phi: `[N]` the target's scaled logits, or `[N, Q]` of Q copies of each sample, over
      which the score is summed.
    reference_phi: `[R, N]` or `[R, N, Q]`, of reference models; not read where neither
      mask is true.
    held: `[R, N]` bool, whether model r was trained on sample n; one is enough.
    out: `[R, N]` bool, whether it was not; one is enough.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, a sample has no model of a kind, or
      of a kind no sample has 2.
  """
  _references.check("phi", phi, reference_phi, held=held, out=out)
  without = _posterior(reference_phi, out)
  with_it = _posterior(reference_phi, held, like=without)
  scores = log_density(predictive(with_it), phi) - log_density(predictive(without), phi)
  return _references.sum_queries(scores)


def score_offline(
  phi: np.ndarray, reference_phi: np.ndarray, out: np.ndarray
) -> np.ndarray:
  """Returns `-log(1 - T_out(phi))`, with the prior fitted to the references.

  Args:
    phi: as in `score_online`, like the others.
    reference_phi: `[R, N]` or `[R, N, Q]`.
    out: `[R, N]` bool.

  Returns:
    `[N]` float64, at least 0; higher = member.

  Raises:
    ValueError: as `score_online`.
  """
  _references.check("phi", phi, reference_phi, out=out)
  predicted = predictive(_posterior(reference_phi, out))
  return _references.sum_queries(0.0 - log_survival(predicted, phi))


def fit_prior(
  references: _references.Moments, like: np.ndarray | None = None
) -> Normal:
  """Returns the prior of the samples' means and variances, fitted to their references.

  Args:
    references: moments of each sample's references of one kind.
    like: `[N, ...]` what each sample's mean is like, but for a difference that all
      samples share; or None if nothing is known of single samples.

  Raises:
    ValueError: if no sample has 2 references.
  """
  number, mean, squares = references
  freedom = number - 1
  if (freedom.sum(axis=0) < 1).any():
    raise ValueError("no sample has 2 reference models of a kind, to tell a variance")
  like = np.zeros_like(mean) if like is None else like
  centre = like + (mean - like).mean(axis=0)
  pooled = np.maximum(squares.sum(axis=0) / freedom.sum(axis=0), _FLOOR)
  # The means scatter by their own error, `variance / number`, and `variance / kappa`.
  scatter = np.square(mean - centre).mean(axis=0) - pooled * (1 / number).mean(axis=0)
  kappa = pooled / np.maximum(scatter, pooled / FREEDOM[1])
  columns = zip(*(a.reshape(len(a), -1).T for a in (squares, freedom)), strict=True)
  fitted = np.array([_fit_variances(*column) for column in columns])
  alpha, variance = fitted.T.reshape(2, *mean.shape[1:])
  return Normal(centre, kappa, alpha, alpha * variance)


def posterior(prior: Normal, references: _references.Moments) -> Normal:
  """Returns what the prior becomes after the references, by the module's formulas."""
  number, mean, squares = references
  kappa = prior.kappa + number
  distance = np.square(mean - prior.mean)
  return Normal(
    (prior.kappa * prior.mean + number * mean) / kappa,
    kappa,
    prior.alpha + number / 2,
    prior.beta + squares / 2 + prior.kappa * number / kappa * distance / 2,
  )


def predictive(normal: Normal) -> Student:
  """Returns the distribution of a new model's confidence."""
  variance = normal.beta * (normal.kappa + 1) / (normal.alpha * normal.kappa)
  return Student(2 * normal.alpha, normal.mean, np.sqrt(np.maximum(variance, _FLOOR)))


def log_density(student: Student, phi: np.ndarray) -> np.ndarray:
  """Returns the log density of Student's t at `phi` `[N, ...]`: float64."""
  from scipy import special  # slow to import

  freedom, centre, scale = student
  distance = (phi - centre) / scale
  constant = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2)
  constant = constant - np.log(freedom * np.pi) / 2 - np.log(scale)
  return constant - (freedom + 1) / 2 * np.log1p(np.square(distance) / freedom)


def log_survival(student: Student, phi: np.ndarray) -> np.ndarray:
  """Returns the log probability of more than `phi` `[N, ...]`: float64, at most 0."""
  from scipy import special  # slow to import

  freedom, centre, scale = student
  distance = (phi - centre) / scale
  # Of the side that distance lies on, so that nothing cancels.
  tail = special.stdtr(freedom, -np.abs(distance))
  far = np.maximum(distance, 1.0)
  # Where a tail leaves floating point its leading term is exact to 1 / freedom.
  beyond = log_density(student, centre + far * scale) + np.log(scale)
  beyond = beyond + np.log(1 / far + far / freedom)
  log_tail = np.log(np.maximum(tail, _TINY))
  above = np.where((tail <= _TINY) & (distance > 1), beyond, log_tail)
  return np.where(distance > 0, above, np.log1p(-tail))


def _posterior(
  references: np.ndarray, mask: np.ndarray, like: Normal | None = None
) -> Normal:
  """Of the references that count, with the prior fitted to them."""
  of_kind = _references.moments(references, mask)
  return posterior(fit_prior(of_kind, None if like is None else like.mean), of_kind)


def _fit_variances(squares: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
  """Smyth's alpha and typical variance, of samples' sums of squares."""
  from scipy import special  # slow to import

  known = freedom > 0
  half = freedom[known] / 2
  variances = squares[known] / freedom[known]
  # As limma does: a variance of 0 would have a log without end.
  variances = np.maximum(variances, max(1e-5 * np.median(variances), _FLOOR))
  logs = np.log(variances) - special.digamma(half) + np.log(half)
  spread = np.var(logs, ddof=1) if len(logs) > 1 else 0.0
  excess = spread - special.polygamma(1, half).mean()
  low, high = FREEDOM[0] / 2, FREEDOM[1] / 2
  alpha = np.clip(_inverse_trigamma(excess, low, high), low, high)
  return alpha, np.exp(logs.mean() + special.digamma(alpha) - np.log(alpha))


def _inverse_trigamma(value: float, low: float, high: float) -> float:
  """The x in [low, high] with `trigamma(x) = value`, or the nearer end."""
  from scipy import optimize, special  # slow to import

  if value <= special.polygamma(1, high):
    return high
  if value >= special.polygamma(1, low):
    return low
  return optimize.brentq(lambda x: special.polygamma(1, x) - value, low, high)


def _online(evidence: Evidence) -> np.ndarray:
  group = evidence.groups["in_out"]
  phi, references = (queried(of.signals, "scaled_logit") for of in (evidence, group))
  return score_online(phi, references, group.held, group.out)


def _offline(evidence: Evidence) -> np.ndarray:
  group = evidence.groups["reference"]
  phi, references = (queried(of.signals, "scaled_logit") for of in (evidence, group))
  return score_offline(phi, references, group.out)


def _needs(group: str, **counts: Any) -> registry.Needs:
  phi = (on_copies("scaled_logit", QUERIES),)
  of_group = registry.GroupNeeds(signals=phi, **counts)
  return registry.Needs(signals=phi, groups={group: of_group})


registry.register(
  registry.Attack(
    name="bavaria",
    title="BaVarIA",
    attacker="with few models, who learns from all records what to expect",
    explanation=(
      "Asks which the audited model's confidence in the record fits better: that of "
      "models trained with the record, or that of models trained without it. What a "
      "few models cannot tell of one record it takes from all records."
    ),
    source="Brannvall; Smyth, section 6.2",
    needs=_needs("in_out", held=2, out=2),
    score=_online,
    # Where both are as likely.
    score_threshold=lambda evidence: 0.0,
  )
)

registry.register(
  registry.Attack(
    name="bavaria_offline",
    title="BaVarIA, offline",
    attacker="with few reference models, who learns from all records what to expect",
    explanation=(
      "Asks how far the audited model's confidence in the record lies above that of "
      "models trained without it, in units of their spread. What a few models cannot "
      "tell of one record it takes from all records."
    ),
    source="Brannvall; Smyth, section 6.2",
    needs=_needs("reference", out=2),
    score=_offline,
  )
)
