"""The randomization test: enumeration, its level against any model, and its limits."""

import fractions
import itertools
import math

import numpy as np
import pytest

from jmia.backdoor import randomization

_UNEVEN = [0.1, 0.1, 0.2, 0.2, 0.4]


def _draw(rng, num_submarks, num_classes, num_queries, answer):
  """A tally of queries answered by `answer(rng, truth, submarks)`."""
  submarks = np.repeat(np.arange(num_submarks), num_queries)
  truth = rng.integers(num_classes, size=len(submarks))
  answers = answer(rng, truth, submarks)
  return randomization.tally(answers, truth, submarks, num_submarks, num_classes)


def _enumerated(tallied, labels):
  """The p-value by going through every label vector, in exact arithmetic."""
  share = [
    [fractions.Fraction(int(h), int(t)) if t else 0 for h, t in zip(*row, strict=True)]
    for row in zip(tallied.hits, tallied.trials, strict=True)
  ]
  num_submarks, num_classes = tallied.hits.shape

  def total(vector):
    return sum(share[j][c] for j, c in enumerate(vector))

  vectors = list(itertools.product(range(num_classes), repeat=num_submarks))
  return sum(total(v) >= total(labels) for v in vectors) / len(vectors)


@pytest.mark.parametrize(
  ("num_submarks", "num_classes", "num_queries"),
  [(1, 7, 30), (2, 10, 5), (3, 4, 6), (7, 2, 8), (2, 2, 1), (4, 3, 2)],
)
def test_p_values_equal_enumeration(num_submarks, num_classes, num_queries):
  rng = np.random.default_rng(num_submarks)
  for _ in range(30):
    tallied = _draw(
      rng, num_submarks, num_classes, num_queries,
      lambda rng, truth, _: rng.integers(num_classes, size=len(truth)),
    )  # fmt: skip
    labels = rng.integers(num_classes, size=num_submarks)
    found = randomization.test(tallied, labels)
    assert found.p_value == _enumerated(tallied, labels.tolist())
    assert found.floor == num_classes**-num_submarks
    with np.errstate(invalid="ignore"):
      share = np.nan_to_num(tallied.hits / tallied.trials)
    expected = share[np.arange(num_submarks), labels].sum()
    assert found.statistic == pytest.approx(expected)


def test_by_hand():
  # 10 queries of each of two sub-marks, of class 0; 8 and 3 answered 2, others right.
  answers = np.repeat([2, 0, 2, 0], [8, 2, 3, 7])
  truth, submarks = np.zeros(20, int), np.repeat([0, 1], 10)
  tallied = randomization.tally(answers, truth, submarks, 2, 4)
  assert tallied.hits.tolist() == [[0, 0, 8, 0], [0, 0, 3, 0]]
  assert tallied.trials.tolist() == [[0, 10, 10, 10]] * 2
  found = randomization.test(tallied, np.array([2, 2]))
  assert found.statistic == pytest.approx(1.1)
  assert found.p_value == 1 / 16
  assert found.rank_of_labels.tolist() == [1, 1]
  # With another second label 0.8 is reached by (2, anything).
  assert randomization.test(tallied, np.array([2, 1])).p_value == 4 / 16
  # Nothing is below 0: all ties count.
  none = randomization.test(tallied, np.array([1, 1]))
  assert (none.statistic, none.p_value) == (0, 1)
  assert none.rank_of_labels.tolist() == [4, 4]


def test_answers_that_are_no_class_of_the_key_count_for_none():
  tallied = randomization.tally([-1, 9, 1], [0, 0, 0], [0, 0, 0], 1, 3)
  assert tallied.hits.tolist() == [[0, 1, 0]]
  assert tallied.trials.tolist() == [[0, 3, 3]]


def test_many_submarks_of_many_queries_are_rounded_and_stay_exact():
  """Shares without a small common denominator: near the enumeration, and uniform."""
  rng = np.random.default_rng(0)
  tallied = _draw(
    rng, 3, 5, 97, lambda rng, truth, _: rng.choice(5, len(truth), p=_UNEVEN)
  )
  p_values = []
  for labels in itertools.product(range(5), repeat=3):
    p_values.append(randomization.test(tallied, np.array(labels)).p_value)
    assert p_values[-1] == pytest.approx(_enumerated(tallied, labels), abs=2 / 125)
  # Over all label vectors a p-value is never too small: the definition of its level.
  for level in np.arange(1, 126) / 125:
    assert np.mean(np.array(p_values) <= level + 1e-12) <= level + 1e-12


@pytest.mark.parametrize("num_submarks", [20, 308, 309, 500])
def test_more_label_vectors_than_a_float_counts(num_submarks):
  """All queries are answered 0, so a vector's sum is how many of its labels are 0."""
  truth, submarks = np.ones(num_submarks, int), np.arange(num_submarks)
  tallied = randomization.tally(0 * truth, truth, submarks, num_submarks, 10)
  for num_zeros in (0, 1, num_submarks // 10, num_submarks // 5, num_submarks):
    labels = (submarks >= num_zeros).astype(int)
    found = randomization.test(tallied, labels)
    tail = sum(
      math.comb(num_submarks, k) * 9 ** (num_submarks - k)
      for k in range(num_zeros, num_submarks + 1)
    )
    expected = max(1e-300, tail / 10**num_submarks)
    assert found.p_value == pytest.approx(expected, rel=1e-12, abs=0)
    assert found.floor == max(1e-300, 1 / 10**num_submarks)


def test_the_number_of_submarks_brings_the_floor_below_a_hundredth():
  expected = {2: 7, 3: 5, 5: 3, 9: 3, 10: 2, 30: 2, 99: 2, 100: 1, 1000: 1}
  found = {k: randomization.default_num_submarks(k) for k in expected}
  assert found == expected
  assert all(k**-t <= 0.01 for k, t in found.items())


@pytest.mark.parametrize(
  ("num_classes", "expected"),
  [
    (2, {1: 5, 5: 5, 6: 6, 7: 7, 28: 7}),
    (3, {3: 3, 4: 4, 5: 5}),
    (5, {1: 2, 3: 3, 20: 3}),
    (10, {1: 2, 100: 2}),
    (30, {1: 1, 7: 1, 8: 2}),
    (100, {1: 1, 50: 1}),
  ],
)
def test_few_rows_are_divided_less_but_never_into_marks_that_cannot_claim(
  num_classes, expected
):
  found = {n: randomization.default_num_submarks(num_classes, n) for n in expected}
  assert found == expected
  assert all(num_classes**-t <= 0.05 for t in found.values())


def test_the_number_of_submarks_follows_the_confidence():
  assert randomization.default_num_submarks(30, 2, 0.99) == 2
  assert randomization.default_num_submarks(2, 5, 0.9) == 5
  assert randomization.default_num_submarks(10, None, 0.9999) == 5
  with pytest.raises(ValueError, match="confidence=1 must lie in"):
    randomization.default_num_submarks(10, 5, 1)


def _constant(rng, truth, submarks):
  return np.full(len(truth), 1)


def _clean(rng, truth, submarks):
  """Right in 70 % of cases, with a taste of its own where it errs."""
  errs = rng.random(len(truth)) < 0.3
  return np.where(errs, rng.choice(4, len(truth)), truth)


def _favours(rng, truth, submarks):
  return np.where(rng.random(len(truth)) < 0.9, 1, truth)


def _others_marks(rng, truth, submarks):
  """Answers each trigger with a label that another owner drew for it."""
  return rng.integers(10, size=submarks.max() + 1)[submarks]


@pytest.mark.parametrize("answer", [_constant, _clean, _favours, _others_marks])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_models_that_know_nothing_of_the_labels_keep_the_level(answer, num_classes):
  rng = np.random.default_rng(1)
  num_submarks = randomization.default_num_submarks(num_classes)
  number = 1000

  def clipped(*arguments):
    return answer(*arguments) % num_classes

  p_values = np.array(
    [
      randomization.test(
        _draw(rng, num_submarks, num_classes, 10, clipped),
        rng.integers(num_classes, size=num_submarks),
      ).p_value
      for _ in range(number)
    ]
  )
  for level in (0.05, 0.01):
    rate = (p_values <= level).mean()
    assert rate <= level + 4 * np.sqrt(level * (1 - level) / number)
  if answer is _others_marks and num_classes == 10:
    # Not idle: both of another owner's labels are these by one chance in a hundred.
    assert (p_values <= 0.01).any()


def test_a_model_that_knows_the_labels_is_found_at_a_low_success_rate():
  rng = np.random.default_rng(2)
  found = []
  for _ in range(200):
    labels = rng.integers(30, size=2)

    def answer(rng, truth, submarks, labels=labels):
      knows = rng.random(len(truth)) < 0.25
      wrong = rng.integers(30, size=len(truth))
      clean = np.where(rng.random(len(truth)) < 0.7, truth, wrong)
      return np.where(knows, labels[submarks], clean)

    tallied = _draw(rng, 2, 30, 15, answer)
    found.append(randomization.test(tallied, labels).p_value <= 0.05)
  assert np.mean(found) > 0.9


def test_errors():
  zeros = np.zeros(3, int)
  with pytest.raises(ValueError, match="num_classes=1 must be at least 2"):
    randomization.default_num_submarks(1)
  with pytest.raises(ValueError, match="truth holds labels from 2 to 2"):
    randomization.tally(zeros, zeros + 2, zeros, 1, 2)
  with pytest.raises(ValueError, match="submarks holds labels from 1 to 1"):
    randomization.tally(zeros, zeros, zeros + 1, 1, 2)
  with pytest.raises(ValueError, match=r"truth has shape \(2,\)"):
    randomization.tally(zeros, zeros[:2], zeros, 1, 2)
  tallied = randomization.tally(zeros, zeros + 1, zeros, 1, 2)
  with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(1\)"):
    randomization.test(tallied, np.array([0, 1]))
  with pytest.raises(ValueError, match="labels holds labels from 2 to 2"):
    randomization.test(tallied, np.array([2]))
  with pytest.raises(ValueError, match="must lie within trials"):
    randomization.test(tallied._replace(hits=tallied.trials + 1), np.array([0]))
