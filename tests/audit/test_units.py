"""What answers are: every form of the same answers gives the same, or is refused."""

import re

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from jmia import audit
from jmia.audit import answers, signals_file, units

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


def test_by_hand():
  p = np.tile([[0.25, 0.75, 0.0], [0.6, 0.3, 0.1]], (4, 1))
  told = units.recognise({"a": p})
  assert told.coarse == units.Coarse(decimals=2)
  found = np.exp(told.logits("a", p))[:2]
  np.testing.assert_allclose(found, [[0.25, 0.75, 0.005], [0.6, 0.3, 0.1]], rtol=1e-6)
  # Of the 2 largest of 4 the other two share what is left.
  cut = np.tile([[0.512345, 0.3, 0, 0], [0, 0, 0.1, 0.85]], (4, 1))
  told = units.recognise({"a": cut})
  assert told.coarse == units.Coarse(top_k=2)
  np.testing.assert_allclose(
    np.exp(told.logits("a", cut))[:2],
    [[0.512345, 0.3, 0.0938275, 0.0938275], [0.025, 0.025, 0.1, 0.85]],
    rtol=1e-5,
  )


@pytest.mark.parametrize(("n", "least"), [(3, 0.74), (30, 0.82)])
def test_votes_are_compared_with_equally_coarse_answers(n, least):
  auc, notes = _auc(_evidence(_votes(SOFTMAX, n)))
  assert f"multiples of 1/{n}, as of {n} votes" in " ".join(notes)
  assert least < auc < EXACT


@pytest.mark.parametrize("n", [3, 7, 8, 12, 30, 128, 200, 256, 300, 333, 500, 997])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_votes_are_counted(n, num_classes):
  counts = np.random.default_rng(n).multinomial(n, _shares(num_classes))
  forms = [counts / n, (counts / n).astype(np.float32)]
  if n <= 300:  # of more its errors are too large
    forms.append(_added(counts, n))
  for p in forms:
    told = units.recognise({"a": p})
    assert told.coarse == units.Coarse(votes=n)
    found = np.exp(told.logits("a", p))
    np.testing.assert_allclose(found, _shared(counts / n, 0.5 / n), rtol=1e-5)
  # One number a row: the other is a difference.
  both, _ = units.two_columns("a", (counts[:, 1] / n).astype(np.float32))
  if num_classes == 2:
    assert units.recognise({"a": both}).coarse.votes == n


def _shared(p, hidden):
  """Probabilities in which each 0 is its share of what rounding may have hidden."""
  filled = p.copy()
  for row in filled:
    zeros = row == 0
    if zeros.any():
      row[zeros] = min(hidden, max(1 - row.sum(), hidden) / zeros.sum())
  return filled


def _shares(num_classes):
  alphas = np.full(num_classes, 0.3)
  return np.random.default_rng(0).dirichlet(alphas, 400)


def _added(counts, n):
  """As a loop over the votes adds them up, in float32."""
  total = np.zeros(counts.shape, np.float32)
  for vote in range(n):
    total += (vote < counts).astype(np.float32) / np.float32(n)
  return total


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_decimals_are_no_votes(n):
  counts = np.random.default_rng(n).multinomial(n, _shares(6))
  assert units.recognise({"a": counts / n}).coarse == units.Coarse(
    decimals=len(str(n)) - 1
  )


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_exact_answers_are_no_votes(num_classes):
  for seed, scale in enumerate((0.1, 1, 10, 30, 100)):
    z = scale * np.random.default_rng(seed).normal(size=(2000, num_classes))
    for dtype in (np.float32, np.float64):
      p = special.softmax(z.astype(dtype), axis=-1)
      coarse = units.recognise({"a": p}).coarse
      assert (coarse.votes, coarse.decimals) == (None, None)


def test_sure_answers_are_not_rounded():
  # All but 0 and 1, of which a loss is told by what is left.
  z = np.random.default_rng(0).normal(0, 2, size=(400, 3)) + 40 * np.eye(3)[[0] * 400]
  p = special.softmax(z, axis=-1)
  assert p[:, 1:].max() < 1e-7
  told = units.recognise({"a": p})
  assert told.coarse == units.EXACT
  np.testing.assert_allclose(told.logits("a", p)[:, 1:], np.log(p[:, 1:]), rtol=1e-5)


def test_sixteen_bits_near_one_half_are_no_votes():
  z = np.random.default_rng(0).normal(0, 0.15, size=(400, 2))
  p = special.softmax(z, axis=-1).astype(ml_dtypes.bfloat16).astype(np.float32)
  assert p.min() > 0.25
  assert units.recognise({"a": p}).coarse == units.Coarse(dtype="bfloat16")


def test_few_rows_are_no_votes():
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3]], (15, 1))
  assert units.recognise({"a": p}).coarse == units.EXACT
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3]], (16, 1))
  p[0] = 0, 1
  assert units.recognise({"a": p}).coarse == units.EXACT
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3], [0, 1]], (16, 1))
  assert units.recognise({"a": p}).coarse == units.Coarse(votes=3)


def test_the_fewest_votes_are_everybodys():
  counts = np.random.default_rng(0).multinomial(7, _shares(3))
  others = np.random.default_rng(1).multinomial(3, _shares(3))
  told = units.recognise({"a": counts / 7, "b": others / 3})
  assert told.coarse == units.Coarse(votes=3)
  found = np.exp(told.logits("a", counts / 7))
  expected = _shared(np.rint(3 * counts / 7) / 3, 0.5 / 3)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_classes_alone():
  told = units.recognise({"a": np.eye(C)[LABELS]})
  assert told.coarse.top_k == 1
  assert "give a class alone" in told.notes[0]
  logits = told.logits("a", np.eye(C)[LABELS])
  assert logits[0, LABELS[0]] == 0
  assert logits.min() < -87


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


def test_a_class_that_a_model_never_saw_is_no_cut():
  p = np.insert(SOFTMAX, 2, 0, axis=-1)
  found = units.recognise({"target_logits": p})
  assert found.coarse.top_k is None
  (note,) = found.notes
  assert "1 of 7 classes (2, counted from 0) have a probability of 0" in note
  assert note.endswith("no other model's answers are cut for it")
  # Models that did see it are taken as they are.
  other = units.recognise({"predict": SOFTMAX}, coarse=found.coarse)
  np.testing.assert_allclose(
    special.softmax(other.logits("predict", SOFTMAX), axis=-1), SOFTMAX, rtol=1e-5
  )


def test_the_largest_are_a_cut_though_a_class_is_never_among_them():
  p = np.insert(_top(SOFTMAX, 3), 2, 0, axis=-1)
  found = units.recognise({"target_logits": p})
  assert found.coarse.top_k == 3
  assert "the 3 largest probabilities" in found.notes[0]


def test_one_class_alone_is_a_class_alone():
  p = np.tile(np.eye(C)[1], (N, 1))
  assert units.recognise({"target_logits": p}).coarse.top_k == 1


def _log_odds(told, name, values):
  logits = told.logits(name, values).astype(float)
  return logits[:, 1] - logits[:, 0]


@pytest.mark.parametrize(
  ("dtype", "most"), [(np.float64, 37.5), (np.float32, 17.4), (np.float16, 8.4)]
)
@pytest.mark.parametrize("columns", [1, 2])
def test_sure_answers_of_two_classes_are_cut_where_floats_end(dtype, most, columns):
  z = np.array([-3.0, 3, -6, 6, 7, 8, -9, 9, 17.5, 30, 60, -5])
  p = special.expit(z).astype(dtype)
  both, _ = units.two_columns("a", p) if columns == 1 else (np.stack([1 - p, p], -1), 0)
  told = units.recognise({"a": both})
  found = _log_odds(told, "a", both)
  # The nearer to the end, the fewer digits are left: half of one at a half less.
  near = np.abs(z) < most - 2
  np.testing.assert_allclose(found[near], z[near], atol=0.2)
  assert most - 1 < found.max() < most
  # Another model, of which more is known, is cut at the same.
  other = np.asarray(told.coarsened(np.stack([np.zeros(2), [20.0, 80]], -1)))
  assert (other[:, 1] - other[:, 0]).max() < most


def test_a_small_probability_of_softmax_is_no_complement():
  p = special.softmax([[0, z] for z in (-3.3, 2.1, 14, 20, 60, 95, 1, -40)], axis=-1)
  told = units.recognise({"a": p})
  np.testing.assert_allclose(
    _log_odds(told, "a", p), [-3.3, 2.1, 14, 20, 60, 87.336, 1, -40], rtol=1e-3
  )


def test_a_zero_of_float16_is_what_its_least_hides():
  p = special.softmax(np.linspace(0, 40, 16)[:, None] * [1, 0, 0], axis=-1)
  p = p.astype(np.float16)
  told = units.recognise({"a": p})
  least = np.exp(told.logits("a", p)[p == 0])
  np.testing.assert_allclose(least, 2.0**-25, rtol=1e-5)


@pytest.mark.parametrize("num_classes", [10, 1000])
def test_many_zeros_share_what_rounding_hides(num_classes):
  p = np.zeros((20, num_classes))
  p[:, 0] = np.linspace(0.9, 1, 20).round(3)
  p[:, 1] = (1 - p[:, 0]).round(3)
  told = units.recognise({"a": p})
  logits = told.logits("a", p).astype(float)
  others = special.logsumexp(logits[:, 1:], axis=-1)
  # Sure but for .0005, whatever the number of classes.
  assert (logits[:, 0] - others)[-1] == pytest.approx(np.log(1 / 0.0005), abs=0.01)
  assert (logits[:, 0] - others)[0] == pytest.approx(np.log(9), abs=0.01)


def test_one_number_may_miss_one_and_percentages_are_refused():
  p = np.append(special.expit(np.linspace(-5, 5, 9)), 1.0000002)
  both, note = units.two_columns("a", p)
  assert "probabilities of class 1" in note
  assert both.max() == 1
  with pytest.raises(ValueError, match="outputs=logits, or give probabilities"):
    units.two_columns("a", 100 * p)
  assert units.two_columns("a", 100 * p, "logits")[0].max() > 90


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


def test_counts_are_divided_by_their_sum():
  votes = np.random.default_rng(0).multinomial(50, [0.5, 0.3, 0.2], size=100)
  whole = units.recognise({"a": votes / 50})
  told = units.recognise({"a": votes})
  assert told.notes[0] == "a are counts that sum to 50: divided by it"
  assert told.coarse == whole.coarse
  np.testing.assert_allclose(
    told.logits("a", votes[:7]), whole.logits("a", votes[:7] / 50), rtol=1e-6
  )


def test_probabilities_of_8_bits_are_no_logits():
  p = np.random.default_rng(0).dirichlet(np.ones(5), size=100)
  with pytest.raises(ValueError, match="divide them by their scale"):
    units.recognise({"a": np.rint(255 * p).astype(np.uint8)})
  assert units.recognise({"a": np.rint(255 * p).astype(int)}, "logits").notes == ()


def test_integers_of_other_sums_are_logits():
  values = np.random.default_rng(0).integers(0, 30, size=(100, 5))
  assert units.recognise({"a": values}).kinds["a"] == ["logits"]


@pytest.mark.parametrize(
  ("dtype", "votes"),
  [(np.float16, 50), (np.float16, 100), (np.float16, 7), (ml_dtypes.bfloat16, 10)],
)
def test_votes_that_were_stored_in_16_bits(dtype, votes):
  rng = np.random.default_rng(0)
  p = rng.multinomial(votes, [0.6, 0.3, 0.1], size=200) / votes
  whole, told = units.recognise({"a": p}), units.recognise({"a": p.astype(dtype)})
  assert told.coarse.is_exact is False
  np.testing.assert_allclose(
    told.logits("a", p.astype(dtype)), whole.logits("a", p), rtol=1e-5, atol=1e-6
  )
  exact = rng.dirichlet(np.ones(3), size=200).astype(dtype)
  assert units.recognise({"a": exact}).coarse.votes is None
