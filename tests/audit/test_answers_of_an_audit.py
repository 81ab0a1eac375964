"""An audit of answers in every form: the same answers give the same, or are refused."""

import re

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from jmia import audit
from jmia.audit import answers, signals_file

N, C, R = 300, 6, 6


def _logits(seed, boost=0.0):
  rng = np.random.default_rng(seed)
  hard = np.random.default_rng(99).normal(0, 2, N)
  z = rng.normal(size=(N, C))
  z[np.arange(N), LABELS] += 2 + hard + boost
  return z


LABELS = np.random.default_rng(98).integers(0, C, N)
MEMBERS = np.arange(N) < N // 2
TARGET = _logits(0, 2.0 * MEMBERS)
REFERENCES = np.stack([_logits(1 + r) for r in range(R)])
SOFTMAX = special.softmax(TARGET, axis=-1)


def _top(p, k):
  return np.where(p >= np.sort(p, axis=-1)[..., -k, None], p, 0)


def _votes(p, n):
  """Shares of n votes, by the largest remainder."""
  whole = np.floor(n * p)
  rest = n * p - whole
  rank = np.argsort(np.argsort(-rest, axis=-1), axis=-1)
  missing = n - whole.sum(-1, keepdims=True)
  return (whole + (rank < missing)) / n


def _evidence(target, references=REFERENCES, **given):
  return signals_file.from_arrays(
    {
      "target_logits": target,
      "reference_logits": references,
      "labels": LABELS,
      "members": MEMBERS,
    },
    **given,
  )


def _auc(evidence):
  report = audit.from_evidence(evidence, ["reference"]).report
  return report["attacks"]["reference"]["auc"], report["notes"]


EXACT, _ = _auc(_evidence(TARGET))
# Form of the answers -> what it makes of probabilities, and a part of what is said.
LOSSLESS = {
  "probabilities": (lambda p: p, None),
  "one row of 300 sums to .99": (
    lambda p: np.where(np.arange(N)[:, None] == 7, 0.99 * p, p), "1 of 300 rows sum"
  ),
  "percentages": (lambda p: 100 * p, "percentages: divided by 100"),
  "log-probabilities": (np.log, None),
  "float64 with rounding errors": (lambda p: p - 1e-9, None),
}  # fmt: skip
COARSE = {
  "2 decimals": (lambda p: p.round(2), "rounded to 2 decimals"),
  "3 decimals": (lambda p: p.round(3), "rounded to 3 decimals"),
  "whole percentages": (lambda p: (100 * p).round(), "rounded to 2 decimals"),
  "the 3 largest": (lambda p: _top(p, 3), "the 3 largest"),
  "the 3 largest of a sum of one": (
    lambda p: _top(p, 3) / _top(p, 3).sum(-1, keepdims=True), "the 3 largest"
  ),
  "8 bits": (lambda p: (256 * p).round() / 256, "multiples of 1/256"),
  "bfloat16": (lambda p: p.astype(ml_dtypes.bfloat16), "of bfloat16"),
  "bfloat16 stored as float32": (
    lambda p: p.astype(ml_dtypes.bfloat16).astype(np.float32), "of bfloat16"
  ),
  "float16": (lambda p: p.astype(np.float16), "of float16"),
}  # fmt: skip


@pytest.mark.parametrize("form", LOSSLESS)
def test_forms_that_lose_nothing_give_the_same_scores(form):
  change, said = LOSSLESS[form]
  auc, notes = _auc(_evidence(change(SOFTMAX)))
  assert auc == pytest.approx(EXACT, abs=2e-3)
  of_units = [note for note in notes if note.startswith("target_logits")]
  assert of_units == [] if said is None else said in " ".join(of_units)


@pytest.mark.parametrize("form", COARSE)
def test_coarse_answers_are_compared_with_equally_coarse_ones(form):
  change, said = COARSE[form]
  evidence = _evidence(change(SOFTMAX))
  auc, notes = _auc(evidence)
  assert any(said in note for note in notes)
  # As if the references had answered so too: then nobody could tell who was exact.
  alike = change(special.softmax(REFERENCES, axis=-1))
  np.testing.assert_allclose(
    evidence.groups["reference"].signals["loss"],
    _evidence(change(SOFTMAX), alike).groups["reference"].signals["loss"],
    atol=0.02,
  )
  assert EXACT - 0.08 < auc <= EXACT + 0.02


def test_references_may_be_the_coarse_ones():
  references = special.softmax(REFERENCES, axis=-1).round(2)
  evidence = _evidence(TARGET, references)
  assert evidence.notes[0].startswith("reference_logits are probabilities rounded to 2")
  losses = evidence.signals["loss"]
  rounded = _evidence(SOFTMAX.round(2), references).signals["loss"]
  np.testing.assert_allclose(losses, rounded, atol=1e-5)


@pytest.mark.parametrize(("n", "least"), [(3, 0.74), (30, 0.82)])
def test_votes_are_compared_with_equally_coarse_answers(n, least):
  auc, notes = _auc(_evidence(_votes(SOFTMAX, n)))
  assert f"multiples of 1/{n}, as of {n} votes" in " ".join(notes)
  assert least < auc < EXACT


def test_masked_classes_are_taken():
  masked = TARGET.copy()
  masked[:, C - 1] = np.where(LABELS == C - 1, masked[:, C - 1], -np.inf)
  evidence = _evidence(masked)
  assert "values of -inf count as a probability of 1e-38" in evidence.notes[0]
  assert np.isfinite(evidence.signals["loss"]).all()
  # log(0) of a model's own log_softmax is the same.
  with np.errstate(divide="ignore"):
    own = np.log(special.softmax(masked, axis=-1))
  np.testing.assert_allclose(
    _evidence(own).signals["loss"], evidence.signals["loss"], rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("is_probability", [True, False])
def test_one_number_a_row_of_two_classes(shape, is_probability):
  z = TARGET[:, 1] - TARGET[:, 0]
  of = REFERENCES[..., 1] - REFERENCES[..., 0]
  answer = special.expit if is_probability else (lambda a: a)
  labels = (LABELS % 2).astype(int)
  evidence = signals_file.from_arrays(
    {
      "target_logits": answer(z).reshape(shape),
      "reference_logits": answer(of).reshape((R, *shape)),
      "labels": labels,
      "members": MEMBERS,
    }
  )
  assert evidence.num_classes == 2
  losses = np.logaddexp(0, np.where(labels == 1, -z, z))
  np.testing.assert_allclose(evidence.signals["loss"], losses, rtol=1e-3, atol=1e-5)
  kind = "probabilities" if is_probability else "logits"
  assert f"one number a row is taken for {kind} of class 1" in evidence.notes[0]


@pytest.mark.parametrize(
  ("target", "given", "message"),
  [
    (special.expit(TARGET), {}, "only 0 of 300 rows sum to 1"),
    (
      np.where(np.arange(N)[:, None] < 9, TARGET, SOFTMAX), {},
      "291 of 300 rows are probabilities, and row 0 is not",
    ),
    (TARGET, {"outputs": "probabilities"}, "expected probabilities in [0, 1]"),
    (TARGET, {"outputs": "log_probabilities"}, "expected log-probabilities, at most 0"),
    (TARGET, {"outputs": "odds"}, "outputs"),
    (np.where(TARGET > 3, np.nan, TARGET), {}, "NaN or infinite values, first"),
    (np.where(TARGET > 3, np.inf, TARGET), {}, "NaN or infinite values, first"),
    (np.full((N, C), -np.inf), {}, "-inf for every class, first at (0,)"),
  ],
)  # fmt: skip
def test_what_is_neither_is_refused(target, given, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    _evidence(target, **given)


def test_what_the_caller_says_stands():
  sigmoids = special.expit(TARGET)
  losses = _evidence(sigmoids, outputs="logits").signals["loss"]
  expected = -special.log_softmax(sigmoids, axis=-1)[np.arange(N), LABELS]
  np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_black_box_is_taken_alike_whenever_it_is_asked():
  first, told = answers.ask(lambda x: SOFTMAX[x].round(2), np.arange(N), C)
  # Nothing of these rows alone tells of two decimals.
  again, _ = answers.ask(lambda x: SOFTMAX[x].round(2), np.arange(3), C, told=told)
  np.testing.assert_array_equal(first[:3], again)
  made = told.coarsened(np.asarray(TARGET[:3], np.float32))
  np.testing.assert_allclose(made, again, atol=1e-5)
  one, told = answers.ask(lambda x: SOFTMAX[x, :1], np.arange(N), 2)
  np.testing.assert_allclose(np.exp(one[:, 1]), SOFTMAX[:, 0], rtol=1e-4)
  assert told.notes[0].startswith("predict(x): one number a row")


@pytest.mark.parametrize("decimals", [2, 3])
def test_probabilities_of_one_class_are_all_rounded_alike(decimals):
  rows = np.arange(N)
  target = SOFTMAX[rows, LABELS].round(decimals)
  references = special.softmax(REFERENCES, axis=-1)[:, rows, LABELS]
  arrays = {
    "target_true_class_probabilities": target,
    "reference_true_class_probabilities": references,
    "labels": LABELS,
    "members": MEMBERS,
  }
  evidence = signals_file.from_arrays(arrays)
  (note,) = evidence.notes
  assert f"rounded to {decimals} decimals" in note
  half = 0.5 * 10.0**-decimals
  np.testing.assert_allclose(
    evidence.groups["reference"].signals["true_class_probability"],
    references.round(decimals).clip(half, 1 - half),
    rtol=1e-6,
  )
  most = evidence.signals["scaled_logit"].max()
  assert most <= np.log((1 - half) / half) + 1e-4
  with pytest.raises(ValueError, match="expected probabilities in"):
    signals_file.from_arrays({**arrays, "target_true_class_probabilities": target + 1})


def test_copies_of_one_number_are_taken_as_the_rows_were():
  values = np.linspace(-3, 3, 32)
  x = np.arange(32)[:, None]
  _, told = answers.ask(lambda rows: values[rows[:, 0]], x, 2)
  # Of some rows alone they might be probabilities.
  some = slice(16, 20)
  found, _ = answers.ask(lambda rows: values[rows[:, 0]], x, 2, some, told=told)
  np.testing.assert_allclose(found[:, 1] - found[:, 0], values[some], rtol=1e-6)


def test_models_that_answer_in_other_units_are_named():
  note = "answers are taken for different things: target_logits for probabilities,"
  notes = _evidence(SOFTMAX).notes
  assert any(one.startswith(note) for one in notes)
  # Of another scale they are no probabilities: what they are taken for can be seen.
  notes = _evidence(255 * SOFTMAX, special.softmax(REFERENCES, -1)).notes
  (said,) = [one for one in notes if one.startswith("answers are taken")]
  assert "target_logits for logits, reference_logits for probabilities" in said
  assert not any(one.startswith("answers are taken") for one in _evidence(TARGET).notes)
