import numpy as np
import pytest
from scipy import stats

from jmia.stats import conformal

LEVELS = (0.001, 0.01, 0.05, 0.1)


def _naive(scores, calibration):
  """p-values by counting, one by one."""
  found = np.full(scores.shape, np.nan)
  rows = calibration[~np.isnan(calibration)]
  for i, score in enumerate(scores):
    if not np.isnan(score):
      found[i] = (1 + sum(z >= score for z in rows)) / (1 + len(rows))
  return found


def test_p_values_equal_counting_with_ties_infinities_and_nan():
  rng = np.random.default_rng(0)
  scores, rows = rng.integers(0, 6, (3, 40)) * 1.0, rng.integers(0, 6, (3, 25)) * 1.0
  scores[0, :3], rows[1, :4] = [np.nan, np.inf, -np.inf], [np.nan, np.nan, np.inf, -1]
  actual = conformal.p_values(scores, rows)
  assert actual.dtype == np.float64
  for i in range(3):
    np.testing.assert_array_equal(actual[i], _naive(scores[i], rows[i]))
  # The same rows for all.
  shared = conformal.p_values(scores, rows[0])
  np.testing.assert_array_equal(shared[2], _naive(scores[2], rows[0]))


def test_by_hand():
  rows = np.array([1.0, 2.0, 2.0, 3.0])
  found = conformal.p_values(np.array([0.0, 2.0, 2.5, 3.0, 9.0]), rows)
  np.testing.assert_allclose(found, [1, 4 / 5, 2 / 5, 2 / 5, 1 / 5])
  # Float32 scores are compared as they are, not rounded together.
  close = np.nextafter(np.float32(1), np.float32(2))
  assert conformal.p_values(np.array([close]), np.ones(3, np.float32)) == 0.25
  assert conformal.p_values(np.zeros(1), np.full(3, np.nan)) == 1


def test_classes_are_compared_with_their_own_and_rare_ones_together():
  rng = np.random.default_rng(1)
  calibration_labels = np.repeat([0, 1, 2, 3, 5], [60, 50, 12, 3, 1])
  labels = np.repeat([0, 1, 2, 3, 4, 6], [60, 50, 12, 3, 1, 0])
  rows, scores = rng.normal(size=126), rng.normal(size=126)
  found = conformal.p_values(
    scores, rows, labels=labels, calibration_labels=calibration_labels, min_rows=20
  )
  # 2 to 5 have 16 rows together; the next rarest, 1, makes them enough.
  for group in ([0], [1, 2, 3, 4, 5]):
    own, of = np.isin(labels, group), np.isin(calibration_labels, group)
    np.testing.assert_array_equal(found[own], _naive(scores[own], rows[of]))
  # Where they are enough, 1 stays by itself.
  found = conformal.p_values(
    scores, rows, labels=labels, calibration_labels=calibration_labels, min_rows=16
  )
  for group in ([0], [1], [2, 3, 4, 5]):
    own, of = np.isin(labels, group), np.isin(calibration_labels, group)
    np.testing.assert_array_equal(found[own], _naive(scores[own], rows[of]))


def test_one_class_is_the_pooled_null():
  rng = np.random.default_rng(2)
  scores, rows = rng.normal(size=(2, 30)), rng.normal(size=(2, 10))
  np.testing.assert_array_equal(
    conformal.p_values(
      scores, rows, labels=np.full(30, 3), calibration_labels=np.full(10, 3)
    ),
    conformal.p_values(scores, rows),
  )


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_null_p_values_are_valid_with_and_without_ties(digits):
  rng = np.random.default_rng(3)
  # One sample an audit, so that all are independent: the tolerance is binomial.
  num = 20_000
  scores, rows = rng.normal(size=(num, 1)), rng.normal(size=(num, 99))
  if digits is not None:
    scores, rows = scores.round(digits), rows.round(digits)
  found = conformal.p_values(scores, rows)
  for level in LEVELS:
    slack = 4 * np.sqrt(level * (1 - level) / num)
    assert (found <= level).mean() <= level + slack
  if digits is None:
    assert (found <= 0.1).mean() >= 0.1 - 4 * np.sqrt(0.09 / num)


def test_null_p_values_by_class_are_valid_where_rare_classes_score_high():
  # Comparing the rare classes with all rows instead would give .15 at .1.
  rng = np.random.default_rng(4)
  share = 1 / np.arange(1, 31)
  share /= share.sum()
  found = []
  for _ in range(400):
    labels, of_rows = rng.choice(30, 40, p=share), rng.choice(30, 600, p=share)
    scores = rng.normal(size=40) + labels / 7
    rows = rng.normal(size=600) + of_rows / 7
    found.append(
      conformal.p_values(
        scores, rows, labels=labels, calibration_labels=of_rows, min_rows=40
      )
    )
  for level in LEVELS:
    rates = (np.array(found) <= level).mean(axis=1)  # independent over audits
    assert rates.mean() <= level + 4 * max(rates.std(), 0.01) / 20


def test_q_values_ignore_what_is_not_tested():
  rng = np.random.default_rng(5)
  p_values = rng.random((3, 20)) ** 3
  p_values[0, 4:9] = np.nan
  p_values[2] = np.nan
  found = conformal.q_values(p_values)
  tested = ~np.isnan(p_values[0])
  assert np.isnan(found[0][~tested]).all()
  expected = stats.false_discovery_control(p_values[0, tested])
  np.testing.assert_allclose(found[0, tested], expected)
  np.testing.assert_allclose(found[1], stats.false_discovery_control(p_values[1]))
  assert np.isnan(found[2]).all()
  np.testing.assert_array_equal(conformal.q_values(p_values.T, axis=0), found.T)


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_false_discoveries_among_members_that_stand_out_keep_to_the_level(
  digits, share
):
  rng = np.random.default_rng(6)
  num_audits, num = 400, 500
  members = np.arange(num) < num * share
  scores = rng.normal(size=(num_audits, num)) + 4 * members
  rows = rng.normal(size=(num_audits, 1000))
  if digits is not None:
    scores, rows = scores.round(digits), rows.round(digits)
  q = conformal.q_values(conformal.p_values(scores, rows))
  for level in (0.1, 0.2):
    called = q <= level
    false = (called & ~members).sum(axis=1) / np.maximum(called.sum(axis=1), 1)
    error = false.std() / np.sqrt(num_audits)
    assert false.mean() <= level * (1 - share) + 4 * error
  if share >= 0.1:
    assert (q <= 0.2)[:, members].mean() > 0.9


def test_errors():
  scores, rows = np.zeros(4), np.zeros(3)
  labels, of_rows = np.zeros(4, int), np.zeros(3, int)

  def call(**changed):
    given = {"labels": labels, "calibration_labels": of_rows, **changed}
    return conformal.p_values(scores, rows, **given)

  with pytest.raises(ValueError, match=r"calibration has shape \(0,\): it holds no"):
    conformal.p_values(scores, rows[:0])
  with pytest.raises(ValueError, match="must be given together"):
    call(calibration_labels=None)
  with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(4\)"):
    call(labels=labels[:3])
  with pytest.raises(ValueError, match="calibration_labels must be integer classes"):
    call(calibration_labels=of_rows - 1)
  with pytest.raises(ValueError, match="labels must be integer classes"):
    call(labels=np.zeros(4))
  with pytest.raises(ValueError, match="min_rows=0 must be"):
    call(min_rows=0)
  with pytest.raises(ValueError, match=r"p_values holds 1.5, expected"):
    conformal.q_values(np.array([np.nan, 1.5]))


def test_excess_is_a_p_value():
  rng = np.random.default_rng(0)
  drawn = {
    "normal": lambda n: rng.normal(size=n),
    "ties": lambda n: (rng.random(n) < 0.97).astype(float),
    "rare": lambda n: np.where(rng.random(n) < 0.01, 5.0, rng.random(n)),
  }
  for draw in drawn.values():
    p = [conformal.excess(draw(400), draw(100)) for _ in range(1000)]
    for level in (0.01, 0.05):
      # 2.6 standard errors of 1,000 draws.
      assert np.mean(np.array(p) <= level) <= level + 2.6 * np.sqrt(level / 1000)


def test_excess_holds_far_out_where_one_score_is_held_by_nearly_all():
  # Few others of very many rows: the normal law has 0.014 for 0.0017.
  num_ours, num_rows, rate = 10, 900, 0.02
  chance = 0.0
  for ours in range(5):
    for rows in range(45):
      p = conformal.excess(
        np.arange(num_ours) < ours, (np.arange(num_rows) < rows).astype(float)
      )
      if p <= 0.01 / 6:
        of_ours = stats.binom.pmf(ours, num_ours, rate)
        chance += of_ours * stats.binom.pmf(rows, num_rows, rate)
  assert chance <= 0.01 / 6
  # And it tells: all of ten are what two of a hundred rows are.
  assert conformal.excess(np.ones(10), np.arange(900) < 18) < 1e-10


def test_excess_sees_what_makes_p_values_too_small():
  rng = np.random.default_rng(1)
  rows = rng.normal(size=200)
  assert conformal.excess(rng.normal(1, 1, 400), rows) < 1e-10
  assert conformal.excess(rng.normal(-1, 1, 400), rows) == 1  # p-values are too large
  # A tenth stands out: of little weight in the ranks, and all of it at small p.
  some = np.where(np.arange(400) < 40, 9, rng.normal(size=400))
  assert conformal.excess(some, rows) < 0.003
  assert conformal.excess(np.ones(400), np.ones(200)) == 1
  assert conformal.excess(np.full(3, np.nan), rows) == 1
