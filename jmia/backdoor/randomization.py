"""Does a model know an owner's secret labels? A test that assumes nothing of the model.

The owner draws T sub-marks: triggers, each with a label of its own, drawn independently
and uniformly from the K classes by a secret. A suspect is asked about rows stamped with
each, drawn from all classes without regard to the labels. Let `A_j[c]` be the share of
sub-mark j's queries, those of true class c left out, that the suspect answers with c.
The statistic is `sum_j A_j[y_j]`, with y the owner's labels.

*Null: the model is independent of the labels*, given the triggers and the queries. Then
y is uniform over the `K^T` vectors whatever the model does, and

    p = #{c in {1..K}^T: sum_j A_j[c_j] >= sum_j A_j[y_j]} / K^T

is a valid p-value: `P(p <= t) <= t` for every t. It is so for a model that always
answers the same, for one that favours a label or the triggers' class, and for one that
was trained on other owners' marks: none of them knows y. Equal sums count against the
claim, and no p-value is below `K^-T`, the floor.

This is Fisher's randomization test, with the draw of the labels as the randomization;
Hu et al. test the success rate against an assumed one instead (`verification`).
"""

import math
from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.stats import levels

# Where the shares have no small common denominator they are rounded to 1 / _UNITS, a
# multiple of every number up to 12: another statistic, and no less exact a test.
_UNITS = 55_440
# Label vectors that may do as well as the owner's, and yet a claim is made: with fewer
# the label must be ahead on every sub-mark, and one unlearnt costs the claim.
_SLACK = 5
# Rows of a sub-mark where one alone can claim: fewer are not divided.
_ROWS_EACH = 4
_P_FLOOR = 1e-300  # less than this, which a float may not hold, no p-value is
_EXACT = 2.0**53  # counts up to here are exact as float64


class Tally(NamedTuple):
  """What a suspect answered, by sub-mark and class.

  Attributes:
    hits: `[T, K]` int, queries answered with the class, those of that class left out.
    trials: `[T, K]` int, queries that are not of the class.
  """

  hits: np.ndarray
  trials: np.ndarray


class Result(NamedTuple):
  """The test's outcome.

  Attributes:
    statistic: `sum_j A_j[y_j]`, from 0 to T.
    p_value: exact; from `floor` to 1.
    floor: `K^-T`, or 1e-300 where that is less.
    rank_of_labels: `[T]` int, for each sub-mark how many classes do at least as well
      as its label: 1 where that is ahead of all others.
  """

  statistic: float
  p_value: float
  floor: float
  rank_of_labels: np.ndarray


def default_num_submarks(
  num_classes: int, num_marked: int | None = None, confidence: float = 0.95
) -> int:
  """Returns how many sub-marks to divide the rows to be marked among.

  The most of `range_of_submarks`, or as many as there are rows; where a single one can
  make a claim, several only if each has 4 rows. At 95 % that is for K = 2 7 from 7 rows
  on, for K = 10 2, and for K = 30 1 with fewer than 8 rows and 2 from there on.

  Args:
    num_classes: K, at least 2.
    num_marked: rows to be marked; None for as many as one likes.
    confidence: that a claim is to have, in (0, 1).

  Raises:
    ValueError: an argument is out of range.
  """
  least, most = range_of_submarks(num_classes, confidence)
  if num_marked is None:
    return most
  each = _ROWS_EACH if least == 1 else 1
  return max(least, min(most, num_marked // each))


def range_of_submarks(num_classes: int, confidence: float = 0.95) -> tuple[int, int]:
  """Returns the least number of sub-marks that can make a claim, and one with slack.

  The first is the least T with `K^-T` at most `1 - confidence`, the second with `K^-T`
  at most a fifth of that: at 95 % 5 and 7 for K = 2, 2 and 3 for K = 5, 2 and 2 for
  K = 10, 1 and 2 for K = 30. Models that were trained on marked rows of 2 to 5 classes
  (digits modulo 2, 3 and 5, and breast cancer's) are claimed more often with the second
  at every number of rows tried.

  Raises:
    ValueError: an argument is out of range.
  """
  if num_classes < 2:
    raise ValueError(f"num_classes={num_classes} must be at least 2")
  _validate.probability("confidence", confidence, open_interval=True)
  level = levels.of_confidence(confidence)
  return _with_floor(num_classes, level), _with_floor(num_classes, level / _SLACK)


def tally(
  answers: np.ndarray,
  truth: np.ndarray,
  submarks: np.ndarray,
  num_submarks: int,
  num_classes: int,
) -> Tally:
  """Counts a suspect's answers.

  Args:
    answers: `[m]` int classes; whatever is not from 0 to K - 1 is no class of the key.
    truth: `[m]` int, each query's own class.
    submarks: `[m]` int, the sub-mark that each query bears.
    num_submarks: T.
    num_classes: K.

  Raises:
    ValueError: a shape, a class or a sub-mark is not as said.
  """
  answers, truth, submarks = map(np.asarray, (answers, truth, submarks))
  _validate.shape("truth", truth, answers.shape)
  _validate.shape("submarks", submarks, answers.shape)
  _validate.labels("truth", truth, num_classes)
  _validate.labels("submarks", submarks, num_submarks)
  shape = num_submarks, num_classes
  own = np.zeros(shape, np.int64)
  np.add.at(own, (submarks, truth), 1)
  hits = np.zeros(shape, np.int64)
  counts = (answers >= 0) & (answers < num_classes) & (answers != truth)
  np.add.at(hits, (submarks[counts], answers[counts]), 1)
  return Tally(hits, own.sum(axis=1, keepdims=True) - own)


def test(tallied: Tally, labels: np.ndarray) -> Result:
  """Tests "the model is independent of the labels".

  A sub-mark all of whose queries are of class c has `A_j[c] = 0`.

  Args:
    tallied: of the suspect's answers.
    labels: `[T]` int, the owner's.

  Raises:
    ValueError: the labels are not `[T]` classes, or there are more hits than trials.
  """
  hits, trials = map(np.asarray, tallied)
  _validate.shape("trials", trials, hits.shape)
  num_submarks, num_classes = hits.shape
  labels = np.asarray(labels)
  _validate.shape("labels", labels, (num_submarks,))
  _validate.labels("labels", labels, num_classes)
  if (hits > trials).any() or (hits < 0).any():
    raise ValueError(f"hits={hits.tolist()} must lie within trials={trials.tolist()}")
  own_of = np.arange(num_submarks), labels
  scores = _scores(hits, trials)
  own = scores[own_of]
  ways, vectors = _num_ways(scores)
  p_value = float(ways[own.sum() :].sum() / vectors)
  return Result(
    statistic=float((hits[own_of] / np.maximum(trials[own_of], 1)).sum()),
    p_value=max(p_value, _P_FLOOR),
    floor=max(1 / num_classes**num_submarks, _P_FLOOR),
    rank_of_labels=(scores >= own[:, None]).sum(axis=1),
  )


def _with_floor(num_classes: int, level: float) -> int:
  """The least T with `K^-T` at most the level."""
  number = 1
  while not levels.reaches(float(num_classes) ** -number, level):
    number += 1
  return number


def _scores(hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
  """The shares `[T, K]` as integers."""
  present = np.maximum(trials, 1)
  units = min(math.lcm(*map(int, np.unique(present))), _UNITS)
  return (2 * hits * units + present) // (2 * present)


def _num_ways(scores: np.ndarray) -> tuple[np.ndarray, float]:
  """How many label vectors have each sum, and of how many.

  Counts are exact up to 2^53 vectors. From there on they are shares, to the relative
  precision of float64, which counts of very many would overflow.
  """
  ways, vectors = np.ones(1), 1.0
  for of_classes in scores:
    values, counts = np.unique(of_classes, return_counts=True)
    grown = np.zeros(len(ways) + values[-1])
    for value, count in zip(values, counts, strict=True):
      grown[value : value + len(ways)] += count * ways
    ways, vectors = grown, vectors * len(of_classes)
    if vectors > _EXACT:
      ways, vectors = ways / vectors, 1.0
  return ways, vectors
