"""What a black-box model's answers are taken for."""

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from jmia.encoding import answers
from jmia.outputs import units

LOGITS = np.random.default_rng(0).normal(scale=3, size=(400, 10))
PROBABILITIES = special.softmax(LOGITS, axis=-1)
EXPECTED = special.log_softmax(LOGITS, axis=-1)


def _read(values):
  return answers.log_probabilities("answers", values)


@pytest.mark.parametrize(
  ("values", "atol"),
  [
    (LOGITS, 1e-5),
    (EXPECTED, 1e-5),
    (PROBABILITIES, 1e-5),
    (PROBABILITIES.astype(np.float32), 1e-4),
    (100 * PROBABILITIES, 1e-5),
    # As much above 1 or below 0 as another sum leaves.
    (np.where(PROBABILITIES > 0.9999, 1 + 1e-7, PROBABILITIES), 1e-3),
    # Where an audit asks what they are, they are scaled to one.
    (PROBABILITIES * np.random.default_rng(1).uniform(0.96, 1, (400, 1)), 1e-5),
  ],
)
def test_units_do_not_matter(values, atol):
  np.testing.assert_allclose(_read(values), EXPECTED, atol=atol)
  assert _read(values).dtype == np.float32


def test_a_zero_that_was_computed_is_one():
  values = PROBABILITIES.copy()
  values[0, 3] = -1e-9
  least = values[values > 0].min() / 2
  kept = np.where(values > 0, values, least)
  np.testing.assert_allclose(
    _read(values), np.log(kept / kept.sum(-1, keepdims=True)), atol=1e-5
  )


def test_a_zero_counts_as_half_of_the_least():
  found = np.exp(_read(np.array([[1, 0, 0], [0.98, 0.01, 0.0]])))
  np.testing.assert_allclose(found[0], np.array([1, 0.005, 0.005]) / 1.01, rtol=1e-5)
  np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_rounded_probabilities_of_many_classes_are_probabilities():
  """Sums of 100 rounded probabilities miss one by more than 5 % in many rows."""
  p = np.random.default_rng(0).dirichlet(np.full(100, 0.5), size=300)
  rounded = np.round(p, 2)
  assert (np.abs(rounded.sum(-1) - 1) > 0.05).any()
  kept = np.where(rounded > 0, rounded, 0.005)
  expected = np.log(kept / kept.sum(-1, keepdims=True))
  np.testing.assert_allclose(_read(rounded), expected, atol=1e-5)
  np.testing.assert_allclose(_read(np.round(100 * rounded)), expected, atol=1e-5)


def test_the_largest_alone_are_probabilities():
  top = np.where(np.sort(PROBABILITIES)[:, -2:-1] <= PROBABILITIES, PROBABILITIES, 0)
  assert (np.abs(top.sum(-1) - 1) > 0.05).sum() > 40
  found = np.exp(_read(top))
  np.testing.assert_allclose(found.max(-1), PROBABILITIES.max(-1), rtol=1e-5)
  np.testing.assert_allclose(found[top > 0], PROBABILITIES[top > 0], rtol=1e-5)


def test_what_can_be_read_in_two_ways_is_refused():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match=r"answers holds values between 0 and 1, but"):
    _read(rng.random((50, 10)))  # of ten classes one by one, or logits
  mixed = np.concatenate([PROBABILITIES[:300], LOGITS[300:]])
  with pytest.raises(ValueError, match=r"300 of 400 rows are prob.*row 300 is not"):
    _read(mixed)
  mixed = PROBABILITIES.copy()
  mixed[7] /= 10
  with pytest.raises(ValueError, match=r"399 of 400 rows sum to 1 .* row 7 to 0.1\)"):
    _read(mixed)


def test_what_are_no_answers_is_refused():
  with pytest.raises(ValueError, match=r"answers has shape \(10,\)"):
    _read(LOGITS[0])
  with pytest.raises(ValueError, match=r"answers has shape \(0, 10\)"):
    _read(LOGITS[:0])
  with pytest.raises(ValueError, match="dtype <U1, expected real numbers"):
    _read(np.full((2, 2), "a"))
  with pytest.raises(ValueError, match="answers holds 1 NaN or infinite"):
    _read(np.where(LOGITS[2, 3] == LOGITS, np.nan, LOGITS))


def test_a_class_that_is_ruled_out_is_one():
  """As in an audit: it has the least probability of float32."""
  masked = LOGITS.copy()
  masked[3, 1] = -np.inf
  found = _read(masked)
  assert found[3, 1] == pytest.approx(np.log(np.finfo(np.float32).tiny), rel=1e-5)
  rest = special.log_softmax(masked[3])
  np.testing.assert_allclose(np.delete(found[3], 1), np.delete(rest, 1), atol=1e-5)
  others = np.arange(len(LOGITS)) != 3
  np.testing.assert_allclose(found[others], EXPECTED[others], atol=1e-5)
  (note,) = answers.notes("answers", masked)
  assert "1 values of -inf" in note


def test_all_zeros_are_the_same_however_sums_are_rounded():
  """What rows miss one by in float64 is nothing that the others could share."""
  top = np.where(np.sort(PROBABILITIES)[:, -2:-1] <= PROBABILITIES, PROBABILITIES, 0)
  never = np.where(np.arange(10) == 0, 0, PROBABILITIES)
  for p in (top, never):
    p = p / p.sum(-1, keepdims=True)
    assert len(np.unique(p.sum(-1))) > 1
    found = _read(p)
    ratio = found[p == 0] - np.log(p[p > 0].min() / 2)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), atol=0.2)


@pytest.mark.parametrize(
  ("values", "said"),
  [
    (LOGITS, []),
    (PROBABILITIES, []),
    (100 * PROBABILITIES, ["answers are percentages: divided by 100"]),
    (
      PROBABILITIES * np.where(np.arange(400) == 7, 0.9, 1)[:, None],
      ["answers: 1 of 400 rows sum to 0.9 to 0.9, the others to 1: all are taken for"
       " probabilities, scaled to one"],
    ),
  ],
)  # fmt: skip
def test_what_is_no_matter_of_course_is_said(values, said):
  assert answers.notes("answers", values) == said


def _kinds():
  rng = np.random.default_rng(3)
  for num_classes in (2, 10, 100):
    logits = rng.normal(scale=3, size=(200, num_classes))
    p = special.softmax(logits, axis=-1)
    yield from (logits, special.log_softmax(logits, axis=-1), p, 100 * p)
    yield from (np.round(p, d) for d in (1, 2, 3, 4))
    yield from (np.round(100 * p, d) for d in (0, 1))
    yield p.astype(ml_dtypes.bfloat16)
    yield from (p.astype(np.float16), 1 - (1 - p).astype(np.float32))
    yield np.stack([rng.multinomial(30, each) / 30 for each in p])
    yield np.where(p == p.max(-1, keepdims=True), p, 0)


@pytest.mark.parametrize("values", [*_kinds()])
def test_an_audit_takes_answers_for_the_same(values):
  recognised = units.recognise({"answers": values})
  theirs = recognised.logits("answers", values)
  ours = _read(values)
  is_logits = recognised.kinds["answers"][0] in ("logits", "log_probabilities")
  assert is_logits == np.allclose(
    ours, special.log_softmax(values.astype(np.float64), axis=-1), atol=1e-4
  )
  if recognised.coarse.is_exact:  # they differ in what a 0 counts as
    given = is_logits | (values > 0)
    theirs = special.log_softmax(theirs, axis=-1)
    np.testing.assert_allclose(ours[given], theirs[given], atol=1e-3)
