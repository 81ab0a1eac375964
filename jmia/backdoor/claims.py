"""Verdicts on a suspect by a key of sub-marks: three tests, of which one decides.

The randomization test decides (`randomization`); it assumes nothing of the suspect, but
that it was fixed without knowledge of the labels, and of the owner that he did not
choose these, which a nonce shows (`prepared`). Beside it stand the exact binomial
test and the t-test of Hu et al. on the queries of all sub-marks together, those of the
label's own class left out; both assume that a model which never saw the marks answers
with a sub-mark's label at a rate of at most the baseline, and queries independently.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jmia import _validate
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import draws, randomization, submarks, verification
from jmia.backdoor import prepared as prepared_lib
from jmia.stats import levels, multiple

TESTS = ("randomization", "binomial", "t")
LEVELS = (0.05, 0.01)  # of claims that studies count
ADJUSTMENTS = ("holm", "bh", "none")
_MOST = 0.8  # share of a sub-mark's queries that makes one label stand out


class OfSubmark(NamedTuple):
  """What was answered to one sub-mark's queries.

  Attributes:
    trials: queries of other classes than its label.
    successes: of these, answered with the label.
    rank: how many classes do at least as well as the label; 1 if it is ahead.
    next_share: the largest share of another class, of queries not of that class.
  """

  trials: int
  successes: int
  rank: int
  next_share: float


class Basis(NamedTuple):
  """What a key rests on.

  Attributes:
    nonce: that drew the labels; None where the secret alone did.
    commitment: that was published before the nonce was known; None without one.
    commitment_given: whether it was compared with a published one.
  """

  nonce: str | None = None
  commitment: str | None = None
  commitment_given: bool = False


class Verdict(NamedTuple):
  """What a suspect's answers say; see `sentence`.

  Attributes:
    randomization: the test that decides.
    by_submark: the answers to each of the `T`.
    p_adjusted: its p-value, adjusted for the number of suspects.
    claim: whether `p_adjusted <= 1 - confidence`.
    confidence: 1 minus the chance of a false claim.
    successes: queries answered with their sub-mark's label, its own class left out.
    trials: such queries.
    baseline: of the two tests beside.
    needed: successes from which on the binomial test makes the claim.
    beside: the binomial and the t-test, each of shape `[]`.
    asr_threshold_t: the rate above which the t-test makes the claim.
    hints: what in the answers looks like a mistake in how they were written down.
    basis: of the key.
  """

  randomization: randomization.Result
  by_submark: tuple[OfSubmark, ...]
  p_adjusted: float
  claim: bool
  confidence: float
  successes: int
  trials: int
  baseline: float
  needed: int
  beside: verification.Verification
  asr_threshold_t: float
  hints: tuple[str, ...]
  basis: Basis = Basis()


def basis(
  key: submarks.Key, *, nonce: str | None = None, commitment: str | None = None
) -> Basis:
  """Returns what a key rests on.

  Args:
    key: the owner's.
    nonce: that became known after the commitment, if one drew the labels.
    commitment: that was published; None: not known.

  Raises:
    ValueError: the key has no nonce and one is given, or a commitment; it has one and
      none is given, or another; its labels are not those of secret and nonce; or the
      commitment is another, or not of the key.
  """
  if key.commitment is None or key.nonce is None:
    for name, value in (("nonce", nonce), ("commitment", commitment)):
      if value is not None:
        raise ValueError(
          f"{name}={value}: the secret alone has drawn the key's labels, so leave it"
          " out"
        )
    return Basis()
  if commitment is not None and commitment.strip().lower() != key.commitment:
    raise ValueError(
      f"commitment={commitment} is not of this key: its own is {key.commitment}"
    )
  if prepared_lib.commitment(submarks.prepared_of(key)) != key.commitment:
    raise ValueError("the key is not what its commitment was made for")
  if nonce is None:
    raise ValueError(
      "nonce must have a value, the text that was made public after the commitment: the"
      f" key says {key.nonce!r}"
    )
  if nonce.strip() != key.nonce:
    raise ValueError(f"nonce={nonce!r} is not of this key: its own is {key.nonce!r}")
  drawn = draws.labels(key.secret, len(key.submarks), len(key.class_names), nonce)
  if not np.array_equal(key.labels, drawn):
    raise ValueError("the key's labels are not those that its secret draws with nonce")
  return Basis(key.nonce, key.commitment, commitment is not None)


def judge(
  key: submarks.Key,
  answers: np.ndarray,
  *,
  nonce: str | None = None,
  commitment: str | None = None,
  confidence: float = 0.95,
  baseline: float | None = None,
) -> Verdict:
  """Judges one suspect.

  Args:
    key: the owner's.
    answers: `[m]` int classes, of `answers.classes`.
    nonce: of `basis`.
    commitment: of `basis`.
    confidence: in [0.5, 1).
    baseline: of the two tests beside, in (0, 1); by default 1 / K.

  Raises:
    ValueError: as `basis`; the answers do not fit the key, or a number is out of range.
  """
  rests_on = basis(key, nonce=nonce, commitment=commitment)
  tallied = submarks.tally(key, answers)
  found = randomization.test(tallied, key.labels)
  successes, trials = _own(tallied, key.labels)
  baseline = 1 / len(key.class_names) if baseline is None else baseline
  if trials < 2:
    raise ValueError(
      f"the key has {trials} queries of other classes than their label, expected 2"
    )
  threshold = verification.asr_threshold(trials, baseline, confidence)
  return Verdict(
    randomization=found,
    by_submark=_by_submark(tallied, key.labels, found.rank_of_labels),
    p_adjusted=found.p_value,
    claim=_is_enough(found.p_value, confidence),
    confidence=confidence,
    successes=successes,
    trials=trials,
    baseline=baseline,
    needed=int(verification.critical_successes(trials, baseline, confidence)),
    beside=verification.verify(successes, trials, baseline, confidence),
    asr_threshold_t=threshold,
    hints=_hints(key, np.asarray(answers)),
    basis=rests_on,
  )


def p_values(
  tallied: randomization.Tally, labels: np.ndarray
) -> tuple[float, float, float]:
  """Returns the p-values of `TESTS`, the last two at the baseline 1 / K.

  Those two are 1 where fewer than two queries are of other classes than their label.

  Args:
    tallied: the answers to all sub-marks' queries.
    labels: `[T]` int, the owner's.

  Raises:
    ValueError: as `randomization.test`.
  """
  randomized = randomization.test(tallied, labels).p_value
  successes, trials = _own(tallied, labels)
  if trials < 2:
    return randomized, 1.0, 1.0
  beside = verification.verify(successes, trials, 1 / tallied.hits.shape[1])
  return randomized, float(beside.p_value_exact), float(beside.p_value)


def together(verdicts: Sequence[Verdict], adjustment: str) -> list[Verdict]:
  """Returns the verdicts with one level for all of them.

  Args:
    verdicts: on several suspects, or by several keys.
    adjustment: of `ADJUSTMENTS`. Holm's keeps the chance of any false claim at the
      level, however the tests depend on one another; Benjamini and Hochberg's the
      expected share of false claims among the claims, for tests that are independent
      or positively dependent, which those of several suspects by one key need not be;
      none keeps the level of each alone.

  Raises:
    ValueError: there is no such adjustment.
  """
  _validate.known("adjustment", adjustment, ADJUSTMENTS)
  p_values = np.array([verdict.randomization.p_value for verdict in verdicts])
  if adjustment != "none":
    adjust = {"holm": multiple.holm, "bh": multiple.benjamini_hochberg}[adjustment]
    p_values = adjust(p_values)
  return [
    verdict._replace(p_adjusted=float(p), claim=_is_enough(p, verdict.confidence))
    for verdict, p in zip(verdicts, p_values, strict=True)
  ]


def sentence(verdict: Verdict) -> str:
  """Returns the verdict in words."""
  level = f"{100 * verdict.confidence:.4g} %"
  result = verdict.randomization
  p_value = f"p = {verdict.p_adjusted:.2g}"
  if verdict.p_adjusted != result.p_value:
    p_value += f", adjusted from {result.p_value:.2g}"
  ahead = int((result.rank_of_labels == 1).sum())
  number = len(result.rank_of_labels)
  answers = (
    f"the secret label is ahead of all others on {ahead} of {number} sub-marks, and"
    f" {verdict.successes} of {verdict.trials} queries are answered with it ({p_value})"
  )
  if verdict.claim:
    return f"At {level} confidence the model was trained on the marked data: {answers}."
  if not _is_enough(result.floor, verdict.confidence):
    return (
      f"No claim can be made at {level} confidence: with {number} sub-marks no p-value"
      f" is below {result.floor:.2g}. Here {answers}."
    )
  return (
    f"No claim at {level} confidence: {answers}. This does not show that it was not"
    " trained on the marked data."
  )


def assumption(basis: Basis | None = None) -> str:
  """Returns what the verdict assumes, in words.

  Args:
    basis: of the key. Default: of one without a nonce.
  """
  holds = (
    "The verdict holds whatever the suspect is, also one trained on other owners'"
    " marks, if"
  )
  known = "whoever trained the model knew of the labels from the marked rows alone."
  if basis is None or basis.nonce is None:
    return (
      f"{holds} the key was fixed before the model, its secret was drawn once and not"
      f" chosen among several, and {known} A deposited hash of the key shows the first."
    )
  said = (
    f"{holds} the commitment was published before the nonce was known to anybody and"
    " was the only one, the nonce was not chosen among several, and"
    f" {known} How secret and queries were chosen does not matter then: the nonce"
    f" {basis.nonce!r}, which nobody could foresee, has drawn the labels."
  )
  if basis.commitment_given:
    return said
  return (
    f"{said} Valid only if {basis.commitment} was published before the nonce was known:"
    " no commitment was given to compare."
  )


def document(verdict: Verdict) -> dict[str, Any]:
  """Returns the verdict as JSON values; an infinite t statistic is null."""
  result, beside = verdict.randomization, verdict.beside
  t_statistic = float(beside.t_statistic)
  return {
    "schema": 2,
    "claim": verdict.claim,
    "verdict": sentence(verdict),
    "assumes": assumption(verdict.basis),
    **verdict.basis._asdict(),
    "hints": list(verdict.hints),
    "confidence": verdict.confidence,
    "p_value": result.p_value,
    "p_value_adjusted": verdict.p_adjusted,
    "p_value_floor": result.floor,
    "statistic": result.statistic,
    "rank_of_labels": result.rank_of_labels.tolist(),
    "submarks": [one._asdict() for one in verdict.by_submark],
    "successes": verdict.successes,
    "trials": verdict.trials,
    "baseline": verdict.baseline,
    "binomial_test": {
      "p_value": float(beside.p_value_exact),
      "successes_needed": verdict.needed,
      "claim": bool(beside.rejected),
    },
    "t_test": {
      "t_statistic": t_statistic if np.isfinite(t_statistic) else None,
      "p_value": float(beside.p_value),
      "asr_threshold": verdict.asr_threshold_t,
      "claim": bool(beside.rejected_t),
    },
  }


def _own(tallied: randomization.Tally, labels: np.ndarray) -> tuple[int, int]:
  """Queries answered with their sub-mark's label, and those of other classes."""
  own = np.arange(len(labels)), labels
  return int(tallied.hits[own].sum()), int(tallied.trials[own].sum())


def _by_submark(
  tallied: randomization.Tally, labels: np.ndarray, ranks: np.ndarray
) -> tuple[OfSubmark, ...]:
  shares = tallied.hits / np.maximum(tallied.trials, 1)
  found = []
  for j, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
    others = np.delete(shares[j], label)
    found.append(
      OfSubmark(
        int(tallied.trials[j, label]),
        int(tallied.hits[j, label]),
        int(rank),
        float(others.max()),
      )
    )
  return tuple(found)


def _is_enough(p_value: float, confidence: float) -> bool:
  return bool(levels.reaches(p_value, levels.of_confidence(confidence)))


def _hints(key: submarks.Key, answers: np.ndarray) -> tuple[str, ...]:
  """Signs that the suspect numbers its classes otherwise."""
  hints = []
  unknown = int((answers < 0).sum())
  names = key.class_names
  if unknown:
    hints.append(
      f"{unknown} of {len(answers)} answers are none of the key's classes,"
      f" {classes_lib.listed(names)}, or tie: if the suspect numbers its classes from"
      " another start, translate its answers."
    )
  shifts = set()
  for j, label in enumerate(key.labels):
    of_submark = answers[np.array(key.query_submarks) == j]
    values, counts = np.unique(of_submark[of_submark >= 0], return_counts=True)
    if not counts.size or counts.max() < _MOST * len(of_submark):
      return tuple(hints)
    shifts.add(int(values[counts.argmax()] - label) % len(names))
  if shifts and shifts != {0}:
    read_off = (
      f"A shift that is read off them is one of {len(names)} tries: divide the level by"
      f" {len(names)}."
      if len(shifts) == 1
      else "An order that is read off them proves nothing: some order fits any answers."
    )
    hints.append(
      "Each sub-mark's queries are answered with one label, but not with the key's:"
      " look whether the suspect numbers its classes as the key does. A verdict after"
      " such a change holds at its level only if that numbering is known otherwise than"
      f" from these answers. {read_off}"
    )
  return tuple(hints)
