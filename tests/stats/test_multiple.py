import numpy as np
import pytest
from scipy import stats

from jmia.stats import multiple


def _p_values(shape=(4, 5, 6)):
  rng = np.random.default_rng(0)
  return (rng.random(shape) ** 3).round(2)  # with ties, zeros and ones


def _naive_holm(p_values, level):
  """Rejects from the smallest p-value on, as Holm's paper puts it."""
  rejected = np.zeros(len(p_values), bool)
  for step, i in enumerate(np.argsort(p_values, kind="stable")):
    if p_values[i] > level / (len(p_values) - step):
      break
    rejected[i] = True
  return rejected


def _naive_bh(p_values, level):
  """Rejects up to the largest p-value that lies below the line."""
  ordered = np.sort(p_values)
  below = [p for k, p in enumerate(ordered, 1) if p <= level * k / len(ordered)]
  return p_values <= max(below, default=-1)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_benjamini_hochberg_equals_scipy(axis):
  expected = stats.false_discovery_control(_p_values(), axis=axis)
  actual = multiple.benjamini_hochberg(_p_values(), axis=axis)
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("level", [0.013, 0.052, 0.31])
def test_adjusted_p_values_reject_as_the_procedures_do(axis, level):
  p_values = _p_values()
  for adjust, naive in (
    (multiple.holm, _naive_holm),
    (multiple.benjamini_hochberg, _naive_bh),
  ):
    expected = np.apply_along_axis(naive, axis, p_values, level)
    np.testing.assert_array_equal(adjust(p_values, axis=axis) <= level, expected)
    assert 0 < expected.mean() < 1


def test_by_hand():
  p_values = np.array([0.03, 0.01, 0.04, 0.9])
  np.testing.assert_allclose(multiple.holm(p_values), [0.09, 0.04, 0.09, 0.9])
  expected = [0.16 / 3, 0.04, 0.16 / 3, 0.9]
  np.testing.assert_allclose(multiple.benjamini_hochberg(p_values), expected)
  assert multiple.holm(np.array([0.2])) == 0.2
  assert multiple.holm(np.zeros((2, 0))).shape == (2, 0)


def test_holm_keeps_the_family_wise_level():
  rng = np.random.default_rng(1)
  # 6 true nulls that depend on one another, and 4 false ones.
  common = rng.normal(size=(20_000, 1))
  z = 0.8 * common + 0.6 * rng.normal(size=(20_000, 10))
  z[:, 6:] += 4
  adjusted = multiple.holm(stats.norm.sf(z))
  any_false = (adjusted[:, :6] <= 0.05).any(axis=1).mean()
  assert any_false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)
  assert (adjusted[:, 6:] <= 0.05).mean() > 0.8


def test_errors():
  for adjust in (multiple.holm, multiple.benjamini_hochberg):
    for bad in (-0.1, 1.1, np.nan):
      with pytest.raises(ValueError, match=f"p_values holds {bad}, expected"):
        adjust(np.array([0.5, bad]))
    with pytest.raises(ValueError, match="axis=1 is none of p_values of shape"):
      adjust(np.array([0.5]), axis=1)
    with pytest.raises(ValueError, match="axis=-1 is none of p_values of shape"):
      adjust(0.5)
