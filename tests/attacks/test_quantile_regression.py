import numpy as np
import pytest
from scipy import special

from jmia.attacks import quantile_regression as qr
from jmia.stats import roc

C = 3


def _rows(num, seed, members=None):
  """Phi that depends on a feature and on the label, and spreads by another feature."""
  rng = np.random.default_rng(seed)
  x = rng.normal(5, 2, (num, 4)).astype(np.float32)
  y = rng.integers(0, C, num)
  spread = np.where(x[:, 1] > 5, 1.5, 0.3)
  lift = 0.0 if members is None else 2.0 * members
  phi = 3 * (x[:, 0] - 5) + 2.0 * y + spread * (rng.normal(size=num) + lift)
  return qr.Rows(x, y, phi.astype(np.float32))


MEMBERS = np.arange(900) < 300


@pytest.fixture(scope="module", params=list(qr.HEADS))
def found(request):
  """The scores of 300 members and 600 others; with one of the heads, twice."""
  config = qr.QuantileConfig(head=request.param, num_networks=2, num_epochs=30)
  samples, population = _rows(900, 0, MEMBERS), _rows(1000, 1)
  runs = range(2 if request.param == "pinball" else 1)
  return [qr.score(samples, population, C, config) for _ in runs], samples


def test_it_allows_for_what_each_record_would_have_had(found):
  (scores, *again), samples = found
  # Two spreads apart: .921 for who knows the distribution of every record.
  assert roc.auc(scores, MEMBERS) > 0.8
  assert roc.auc(samples.phi, MEMBERS) < 0.65
  for other in again:
    np.testing.assert_array_equal(scores, other)


def test_exchangeable_samples_lie_where_the_population_does(found):
  (scores, *_), samples = found
  others = scores[~MEMBERS]
  # An AUC of 300 and 300 has a standard deviation of .024.
  assert abs(roc.auc(others, np.arange(600) < 300) - 0.5) < 4 * 0.024
  # Half of them lie above what is predicted as the median, for each class, whose
  # medians are two or more spreads apart; the networks are small and two.
  for label in range(C):
    above = (others > 0)[samples.y[~MEMBERS] == label].mean()
    assert abs(above - 0.5) < 0.25


def test_the_gaussian_score_by_a_loop():
  rng = np.random.default_rng(4)
  phi, heads = rng.normal(size=9), rng.uniform(0.5, 2, (9, 2))
  expected = [(phi[n] - heads[n][0]) / heads[n][1] for n in range(9)]
  np.testing.assert_allclose(qr.gaussian(phi, heads), expected)


def test_the_rank_by_loops_within_and_beyond_the_quantiles():
  rng = np.random.default_rng(5)
  quantiles = np.cumsum(rng.uniform(0.1, 1, (200, len(qr.LEVELS))), axis=1)
  phi = rng.uniform(-3, 12, 200)
  odds = [np.log(level / (1 - level)) for level in qr.LEVELS]
  expected = []
  for value, of_row in zip(phi, quantiles, strict=True):
    if of_row[0] <= value <= of_row[-1]:
      expected.append(np.interp(value, of_row, odds))
    elif value < of_row[0]:
      slope = (odds[1] - odds[0]) / (of_row[1] - of_row[0])
      expected.append(odds[0] - slope * (of_row[0] - value))
    else:
      slope = (odds[-1] - odds[-2]) / (of_row[-1] - of_row[-2])
      expected.append(odds[-1] + slope * (value - of_row[-1]))
  np.testing.assert_allclose(qr.rank(phi, quantiles), expected, atol=1e-12)
  # At a quantile it is the log odds of that level.
  at = np.tile(quantiles[0], (len(qr.LEVELS), 1))
  np.testing.assert_allclose(qr.rank(quantiles[0], at), odds, atol=1e-12)


@pytest.mark.parametrize("head", qr.HEADS)
def test_losses_by_loops(head):
  rng = np.random.default_rng(6)
  phi, heads = rng.normal(size=5), rng.uniform(0.2, 2, (5, qr.HEADS[head]))
  expected = []
  for value, of_row in zip(phi, heads, strict=True):
    if head == "gaussian":
      expected.append(((value - of_row[0]) / of_row[1]) ** 2 / 2 + np.log(of_row[1]))
    else:
      each = [
        level * (value - q) if value >= q else (1 - level) * (q - value)
        for level, q in zip(qr.LEVELS, of_row, strict=True)
      ]
      expected.append(sum(each))
  found = qr._losses(head, heads.astype(np.float32), phi.astype(np.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


QUICK = qr.QuantileConfig(num_networks=1, num_epochs=1)


def _noise(shape, num, seed):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, *shape)).astype(np.float32)
  return qr.Rows(x, rng.integers(0, C, num), rng.normal(size=num).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 20, 2), (6, 6), (4, 4, 1)])
def test_rows_of_any_shape_have_a_network(shape):
  # Images below 4 x 4, and rows of two axes, are no convolutional network's.
  found = qr.score(_noise(shape, 5, 0), _noise(shape, 30, 1), C, QUICK)
  assert np.isfinite(found).all()


@pytest.mark.parametrize("value", [0.0, 1234567.8])
def test_features_that_do_not_vary_in_the_population_say_nothing(value):
  samples, population = _noise((4,), 6, 0), _noise((4,), 30, 1)
  population = population._replace(x=np.full((30, 4), value))
  found = qr.score(samples._replace(x=samples.x + value), population, C, QUICK)
  constant = qr.score(samples._replace(x=np.full((6, 4), value)), population, C, QUICK)
  np.testing.assert_allclose(found, constant, rtol=1e-6)


@pytest.mark.parametrize("head", qr.HEADS)
def test_what_is_learnt_of_rows_alike_are_their_quantiles(head):
  """By SciPy: the ranks of a phi that no feature and one label tell nothing of."""
  rng = np.random.default_rng(9)
  phi = rng.gamma(2.0, 3.0, 600).astype(np.float32)
  levels = np.array([0.08, 0.25, 0.5, 0.75, 0.93])
  at = np.quantile(phi, levels).astype(np.float32)
  rows = [
    qr.Rows(np.ones((len(of), 1), np.float32), np.zeros(len(of), int), of)
    for of in (at, phi)
  ]
  found = qr.score(*rows, 1, qr.QuantileConfig(head=head, num_networks=2))
  if head == "gaussian":
    expected = (at - phi.mean()) / phi.std()
  else:
    expected = special.logit(levels)
  # Each network learns from four fifths of the rows: a quantile of theirs at q is off
  # by sqrt(q (1 - q) / 480) in rank, .17 in log odds at .08 and .09 at .5.
  np.testing.assert_allclose(found, expected, atol=0.35)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s, p: (s, qr.Rows(*(a[:19] for a in p))), "population holds 19 rows"),
    (lambda s, p: (s._replace(x=s.x[:, :2]), p), r"samples.x has shape \(30, 2\)"),
    (lambda s, p: (s._replace(y=s.y + C), p), "samples.y holds labels from"),
    (lambda s, p: (s, p._replace(phi=p.phi * np.nan)), "population.phi holds 30 NaN"),
  ],
)
def test_bad_input_is_named(change, message):
  with pytest.raises(ValueError, match=message):
    qr.score(*change(_rows(30, 7), _rows(30, 8)), C)
  with pytest.raises(ValueError, match="unknown head 'pin'; did you mean 'pinball'"):
    qr.QuantileConfig(head="pin")
