"""Bounds of a mean: of zeros and ones Clopper & Pearson's, of others a Dirichlet's."""

import numpy as np
import pytest
from scipy import stats

from jmia.stats import _bounded_mean


def _lower(values, least, tail):
  values = np.asarray(values, float)
  return _bounded_mean.lower(values, np.ones(len(values), bool), least, tail)


@pytest.mark.parametrize("tail", [0.1, 0.025, 0.001])
@pytest.mark.parametrize("num", [8, 50, 2500])
def test_zeros_and_ones_have_the_exact_bounds(num, tail):
  for successes in sorted({1, 2, num // 2, num - 3, num - 1, num}):
    values = np.arange(num) < successes
    exact = stats.beta.ppf(tail, successes, num - successes + 1)
    distance = successes / num - exact
    off = (_lower(values, 0, tail) - exact) / distance
    # A gamma in place of the beta: nowhere nearer by more than a 25th.
    assert -0.4 < off < 0.04
    if num >= 50 and successes > 2:
      assert off > -0.06
    upper = _bounded_mean.upper(1.0 - values, np.ones(num, bool), 1, tail)
    assert upper == pytest.approx(1 - _lower(values, 0, tail))
  assert _lower(np.zeros(num), 0, tail) == 0


@pytest.mark.parametrize("kind", ["uniform", "few are low", "few at either end"])
def test_quantiles_of_a_weighted_mean(kind):
  rng = np.random.default_rng(0)
  values = {
    "uniform": rng.random(40),
    "few are low": np.where(np.arange(60) < 3, 0.0, 0.5 + 0.1 * rng.random(60)),
    "few at either end": np.repeat([-1.0, 0, 1], [2, 60, 4]),
  }[kind]
  least = -1 if kind == "few at either end" else 0
  weights = rng.dirichlet(np.ones(len(values) + 1), 400_000)
  drawn = weights @ np.append(values, least)
  for tail in (0.025, 0.001):
    expected = np.quantile(drawn, tail)
    assert _lower(values, least, tail) == pytest.approx(
      expected, abs=0.12 * (values.mean() - expected)
    )


def test_rows_are_bounded_each_by_its_own_values():
  rng = np.random.default_rng(1)
  values, mask = rng.random((3, 20)), rng.random((3, 20)) < 0.5
  found = _bounded_mean.lower(np.where(mask, values, np.nan), mask, 0, 0.025)
  alone = [_lower(row[of], 0, 0.025) for row, of in zip(values, mask, strict=True)]
  np.testing.assert_allclose(found, alone)
