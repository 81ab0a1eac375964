"""RMIA: does the target favour the record more than it favours other records?

A model's belief in a record is the probability of its true class, `p(x | theta)`. How
much the target favours the record is the ratio `p(x | theta) / p(x)`, with `p(x)` the
belief of models in general:

  online    p(x) = (mean_in p + mean_out p) / 2
  offline   p(x) = ((1 + a) mean_out p + 1 - a) / 2

Offline the belief of models with the sample is guessed, as `a mean_out p + 1 - a`.

**The score** is `log p(x | theta) - log p(x)`, averaged over the queries. The paper's
is the share of population rows z with `[p(x | theta) / p(x)] / [p(z | theta) / p(z)] >
gamma` (`share`). With one query that share rises with the log ratio, whatever gamma and
the rows are, so that both rank alike; but it takes P + 1 values, and ties all samples
above the highest row: at a false positive rate below 1 / P nothing would be left to
tell. The option `by_share` scores by it. With several queries the paper counts z where
most queries exceed gamma; ours compares their mean.

Source: Zarifzadeh, Liu & Shokri, "Low-Cost High-Power Membership Inference Attacks",
Algorithm 1; gamma and a as in LeakPro. Departures: temperature is 1, and online both
kinds of models weigh alike even where one is in the majority, since how many held a
sample must not count. Of Privacy Meter's code we do not copy that it averages the
larger half of a row's signals into p(z), nor that it tunes `a` on a model whose members
are the target's others: with `a=tuned` each reference is attacked by the others, as if
it were a target, on rows that some of them held, and the `a` with the best mean AUC is
taken (`best_a`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks import _references, registry
from jmia.attacks.evidence import QUERIES, Evidence, Group, on_copies, queried
from jmia.stats import roc

GAMMA, A = 2.0, 0.33


def log_ratio_online(
  losses: np.ndarray,
  reference_losses: np.ndarray,
  held: np.ndarray,
  out: np.ndarray,
) -> np.ndarray:
  """Returns `log p(x | theta) - log p(x)`, p(x) over models with and without x.

  Args:
    losses: `[N]` the target's losses, `-log p(x | theta)`, or `[N, Q]` of Q copies of
      each sample, over which the log ratio is averaged.
    reference_losses: `[R, N]` or `[R, N, Q]`, of reference models; not read where
      neither mask is true.
    held: `[R, N]` bool, whether model r was trained on sample n.
    out: `[R, N]` bool, whether it was not.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: arrays disagree or are not finite, or a sample has no model of a kind.
  """
  _references.check("losses", losses, reference_losses, held=held, out=out)
  each = [
    _references.log_mean_probability(reference_losses, mask) for mask in (held, out)
  ]
  return _log_ratio(losses, _log_half_sum(*each))


def log_ratio_offline(
  losses: np.ndarray,
  reference_losses: np.ndarray,
  out: np.ndarray,
  *,
  a: float = A,
) -> np.ndarray:
  """Returns `log p(x | theta) - log p(x)`, p(x) from models without x alone.

  Args:
    losses: as in `log_ratio_online`, like the others.
    reference_losses: `[R, N]` or `[R, N, Q]`.
    out: `[R, N]` bool; one model is enough.
    a: in [0, 1]: how much of `mean_out p` models with the sample share. At 1 they are
      believed to answer like the others, at 0 to be sure of the true class.

  Returns:
    `[N]` float64; higher = member.

  Raises:
    ValueError: as `log_ratio_online`, and if `a` leaves [0, 1].
  """
  _validate.probability("a", a)
  _references.check("losses", losses, reference_losses, out=out)
  log_out = _references.log_mean_probability(reference_losses, out)
  return _log_ratio(losses, _raised(log_out, a))


def share(
  log_ratio: np.ndarray, population_log_ratio: np.ndarray, *, gamma: float = GAMMA
) -> np.ndarray:
  """Returns the share of population rows that the target favours gamma times less.

  It is `mean_z 1[ratio(x) / ratio(z) > gamma]`, by a sort and a search. `p(z)` must be
  built like `p(x)`, of as many models, or the two are not comparable.

  Args:
    log_ratio: `[N]`.
    population_log_ratio: `[P]`, of rows that the target was not trained on.
    gamma: above 0; the paper's is at least 1.

  Returns:
    `[N]` float64 in [0, 1]; higher = member.

  Raises:
    ValueError: `gamma` is not positive, there are no rows, or a ratio is not finite.
  """
  _validate.positive("gamma", gamma)
  _validate.shape("log_ratio", log_ratio, (None,))
  _validate.shape("population_log_ratio", population_log_ratio, (None,))
  _validate.finite("log_ratio", log_ratio)
  _validate.finite("population_log_ratio", population_log_ratio)
  if not len(population_log_ratio):
    raise ValueError("population_log_ratio holds no rows")
  rows = np.sort(population_log_ratio)
  below = np.searchsorted(rows, log_ratio - np.log(gamma), side="left")
  return below / len(rows)


def best_a(
  reference_losses: np.ndarray,
  held: np.ndarray,
  out: np.ndarray,
  *,
  candidates: Sequence[float] = (0.0, 0.2, 0.33, 0.5, 0.7, 0.9, 1.0),
) -> tuple[float, np.ndarray]:
  """Returns the `a` with which references find each other's members best.

  Each reference that held some rows is attacked by the others that did not hold them;
  the target plays no part. The AUC is averaged over the references.

  Args:
    reference_losses: `[R, N]` on rows that some of the models were trained on.
    held: `[R, N]` bool.
    out: `[R, N]` bool.
    candidates: values of `a` in [0, 1]; the first of equally good ones is taken.

  Returns:
    The best, and `[K]` the AUC of each candidate.

  Raises:
    ValueError: arrays disagree, a loss that counts is not finite, a candidate leaves
      [0, 1], or no reference has both a member and another row that a further model
      did not hold.
  """
  for a in candidates:
    _validate.probability("candidates", a)
  _validate.shape("reference_losses", reference_losses, (None, None))
  _validate.shape("held", held, reference_losses.shape)
  _validate.shape("out", out, reference_losses.shape)
  areas = []
  for r in range(len(reference_losses)):
    others = np.delete(np.arange(len(reference_losses)), r)
    known = (held[r] | out[r]) & out[others].any(axis=0)
    members = held[r, known]
    if members.all() or not members.any():
      continue
    losses, references = reference_losses[r, known], reference_losses[others][:, known]
    _references.check("losses", losses, references, out=out[others][:, known])
    log_out = _references.log_mean_probability(references, out[others][:, known])
    scores = (_log_ratio(losses, _raised(log_out, a)) for a in candidates)
    areas.append([roc.auc(of_a, members) for of_a in scores])
  if not areas:
    raise ValueError(
      "held and out leave no model with both a member and another row to try a on"
    )
  of_each = np.mean(areas, axis=0)
  return float(candidates[int(of_each.argmax())]), of_each


def _tuned_a(evidence: Evidence, **options: Any) -> float:
  """The `a` that suits the reference models best, on rows that some of them held."""
  del options
  group = evidence.groups["reference"]
  _check_common(group)
  parts = [
    (group.signals["loss"], group.held, group.out),
    (group.population["loss"], group.population_held, group.population_out),
  ]
  # Rows that nobody held are compared with more models than those that some did.
  some = [[a[:, part[1].any(axis=0)] for a in part] for part in parts]
  return best_a(*(np.concatenate(each, axis=1) for each in zip(*some, strict=True)))[0]


def _log_ratio(losses: np.ndarray, log_p: np.ndarray) -> np.ndarray:
  return _references.mean_queries(-np.asarray(losses, np.float64) - log_p)


def _raised(log_out: np.ndarray, a: float) -> np.ndarray:
  """`log(((1 + a) mean_out p + 1 - a) / 2)`."""
  if a == 1:
    return log_out
  # 1 - (1 + a) / 2 (1 - mean_out p), which loses nothing where p is nearly 1.
  return np.log1p((1 + a) / 2 * np.expm1(log_out))


def _log_half_sum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """`log((exp(first) + exp(second)) / 2)`, as `log_mean_probability` does it."""
  larger, smaller = np.maximum(first, second), np.minimum(first, second)
  return larger + np.log1p(np.expm1(smaller - larger) / 2)


def _online(evidence: Evidence, *, by_share: bool = False, gamma: float = GAMMA):
  group = evidence.groups["in_out"]
  losses, references = (queried(of.signals, "loss") for of in (evidence, group))
  log_ratio = log_ratio_online(losses, references, group.held, group.out)
  if not by_share:
    return log_ratio
  held, out = group.population_held, group.population_out
  rows = np.flatnonzero(held.any(axis=0) & out.any(axis=0))
  losses, references = _on_population(evidence, group, rows)
  return share(
    log_ratio,
    log_ratio_online(losses, references, held[:, rows], out[:, rows]),
    gamma=gamma,
  )


def _offline(
  evidence: Evidence, *, a: float = A, by_share: bool = False, gamma: float = GAMMA
):
  group = evidence.groups["reference"]
  losses, references = (queried(of.signals, "loss") for of in (evidence, group))
  log_ratio = log_ratio_offline(losses, references, group.out, a=a)
  if not by_share:
    return log_ratio
  out = group.population_out
  rows = np.flatnonzero(out.any(axis=0))
  losses, references = _on_population(evidence, group, rows)
  return share(
    log_ratio, log_ratio_offline(losses, references, out[:, rows], a=a), gamma=gamma
  )


def _on_population(evidence: Evidence, group: Group, rows: np.ndarray):
  """The target's and the references' losses on some rows of the population."""
  _check_common(group)
  losses, references = (queried(of.population, "loss") for of in (evidence, group))
  return losses[rows], references[:, rows]


def _check_common(group: Group) -> None:
  """Raises ValueError unless all models were asked about the same population."""
  if group.population_labels.ndim == 2:
    raise ValueError(
      "by_share and a=tuned compare rows, and the population's are each model's own"
    )


def _check_options(*, by_share: bool, gamma: float, a: float | str = A) -> None:
  if a != registry.TUNED:
    _validate.probability("a", float(a))
  _validate.positive("gamma", gamma)
  if gamma != GAMMA and not by_share:
    raise ValueError(f"gamma={gamma} is read with by_share alone")


def _needs(group: str, by_share: bool, held: int) -> registry.Needs:
  losses = (on_copies("loss", QUERIES),)
  # A row z is asked about as a sample is.
  population = losses if by_share else ()
  return registry.Needs(
    signals=losses,
    population=population,
    groups={
      group: registry.GroupNeeds(
        signals=losses,
        out=1,
        held=held,
        population=population,
        population_held=by_share and held > 0,
      )
    },
  )


def _offline_needs(*, a: float | str, by_share: bool, gamma: float) -> registry.Needs:
  del gamma
  needs = _needs("reference", by_share, held=0)
  if a != registry.TUNED:
    return needs
  # What references were trained on, of the samples or the population, they attack.
  losses = registry.GroupNeeds(signals=("loss",), population=("loss",), some_held=True)
  return registry.union([needs, registry.Needs(groups={"reference": losses})])


registry.register(
  registry.Attack(
    name="rmia_online",
    title="RMIA, online",
    attacker="with models that have and have not seen the record, who compares beliefs",
    explanation=(
      "Asks how much more the audited model believes in the record than models do on "
      "average, half of them trained with the record and half without it."
    ),
    source="Zarifzadeh et al., Algorithm 1",
    needs=lambda *, by_share, gamma: _needs("in_out", by_share, held=1),
    score=_online,
    check=_check_options,
  )
)

registry.register(
  registry.Attack(
    name="rmia_offline",
    title="RMIA, offline",
    attacker="with few reference models, who compares beliefs",
    explanation=(
      "Asks how much more the audited model believes in the record than models trained "
      "without it, and allows for how models trained with it would have answered; one "
      "reference model is enough."
    ),
    source="Zarifzadeh et al., Algorithm 1",
    needs=_offline_needs,
    score=_offline,
    check=_check_options,
    tune={"a": _tuned_a},
  )
)
