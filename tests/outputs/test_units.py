"""What answers are taken for, and how coarse they are found to be."""

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from jmia.outputs import coarse as coarse_lib
from jmia.outputs import one_class, units

N, C = 300, 6
LABELS = np.random.default_rng(98).integers(0, C, N)
SOFTMAX = special.softmax(
  np.random.default_rng(0).normal(scale=2, size=(N, C)) + 3 * np.eye(C)[LABELS], axis=-1
)


def _top(p, k):
  return np.where(p >= np.sort(p, axis=-1)[..., -k, None], p, 0)


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


def _log_odds(told, name, values):
  logits = told.logits(name, values).astype(float)
  return logits[:, 1] - logits[:, 0]


def test_by_hand():
  p = np.tile([[0.25, 0.75, 0.0], [0.6, 0.3, 0.1]], (4, 1))
  told = units.recognise({"a": p})
  assert told.coarse == coarse_lib.Coarse(decimals=2)
  found = np.exp(told.logits("a", p))[:2]
  np.testing.assert_allclose(found, [[0.25, 0.75, 0.005], [0.6, 0.3, 0.1]], rtol=1e-6)
  # Of the 2 largest of 4 the other two share what is left.
  cut = np.tile([[0.512345, 0.3, 0, 0], [0, 0, 0.1, 0.85]], (4, 1))
  told = units.recognise({"a": cut})
  assert told.coarse == coarse_lib.Coarse(top_k=2)
  np.testing.assert_allclose(
    np.exp(told.logits("a", cut))[:2],
    [[0.512345, 0.3, 0.0938275, 0.0938275], [0.025, 0.025, 0.1, 0.85]],
    rtol=1e-5,
  )


@pytest.mark.parametrize("n", [3, 7, 8, 12, 30, 128, 200, 256, 300, 333, 500, 997])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_votes_are_counted(n, num_classes):
  counts = np.random.default_rng(n).multinomial(n, _shares(num_classes))
  forms = [counts / n, (counts / n).astype(np.float32)]
  if n <= 300:  # of more its errors are too large
    forms.append(_added(counts, n))
  for p in forms:
    told = units.recognise({"a": p})
    assert told.coarse == coarse_lib.Coarse(votes=n)
    found = np.exp(told.logits("a", p))
    np.testing.assert_allclose(found, _shared(counts / n, 0.5 / n), rtol=1e-5)
  # One number a row: the other is a difference.
  both, _ = one_class.two_columns("a", (counts[:, 1] / n).astype(np.float32))
  if num_classes == 2:
    assert units.recognise({"a": both}).coarse.votes == n


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_decimals_are_no_votes(n):
  counts = np.random.default_rng(n).multinomial(n, _shares(6))
  assert units.recognise({"a": counts / n}).coarse == coarse_lib.Coarse(
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
  assert told.coarse == coarse_lib.EXACT
  np.testing.assert_allclose(told.logits("a", p)[:, 1:], np.log(p[:, 1:]), rtol=1e-5)


def test_sixteen_bits_near_one_half_are_no_votes():
  z = np.random.default_rng(0).normal(0, 0.15, size=(400, 2))
  p = special.softmax(z, axis=-1).astype(ml_dtypes.bfloat16).astype(np.float32)
  assert p.min() > 0.25
  assert units.recognise({"a": p}).coarse == coarse_lib.Coarse(dtype="bfloat16")


def test_few_rows_are_no_votes():
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3]], (15, 1))
  assert units.recognise({"a": p}).coarse == coarse_lib.EXACT
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3]], (16, 1))
  p[0] = 0, 1
  assert units.recognise({"a": p}).coarse == coarse_lib.EXACT
  p = np.tile([[1 / 3, 2 / 3], [2 / 3, 1 / 3], [0, 1]], (16, 1))
  assert units.recognise({"a": p}).coarse == coarse_lib.Coarse(votes=3)


def test_the_fewest_votes_are_everybodys():
  counts = np.random.default_rng(0).multinomial(7, _shares(3))
  others = np.random.default_rng(1).multinomial(3, _shares(3))
  told = units.recognise({"a": counts / 7, "b": others / 3})
  assert told.coarse == coarse_lib.Coarse(votes=3)
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


@pytest.mark.parametrize(
  ("dtype", "most"), [(np.float64, 37.5), (np.float32, 17.4), (np.float16, 8.4)]
)
@pytest.mark.parametrize("columns", [1, 2])
def test_sure_answers_of_two_classes_are_cut_where_floats_end(dtype, most, columns):
  z = np.array([-3.0, 3, -6, 6, 7, 8, -9, 9, 17.5, 30, 60, -5])
  p = special.expit(z).astype(dtype)
  both, _ = (
    one_class.two_columns("a", p) if columns == 1 else (np.stack([1 - p, p], -1), 0)
  )
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
  both, note = one_class.two_columns("a", p)
  assert "probabilities of class 1" in note
  assert both.max() == 1
  with pytest.raises(ValueError, match="outputs=logits, or give probabilities"):
    one_class.two_columns("a", 100 * p)
  assert one_class.two_columns("a", 100 * p, "logits")[0].max() > 90


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
