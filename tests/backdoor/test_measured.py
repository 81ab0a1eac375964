"""Measured success rates, between and beyond the rows they were measured with."""

import numpy as np
import pytest

from jmia.backdoor import measured

OF = measured.Rates(
  "by hand", (2, 8, 32), 1, (0.1, 0.5, 0.8), (0.1, 0.2, 0.1), 0.9, "run", "figure"
)


def test_rates_between_and_beyond():
  assert [measured.rate(OF, rows) for rows in (2, 8, 32)] == [
    (0.1, 0.1),
    (0.5, 0.2),
    (0.8, 0.1),
  ]
  # Half-way in the logarithm.
  assert measured.rate(OF, 4) == pytest.approx((0.3, 0.15))
  assert measured.rate(OF, 16) == pytest.approx((0.65, 0.15))
  assert measured.rate(OF, 100) == (0.8, 0.1)
  assert measured.rate(OF, 1.9) is None


def test_the_table_is_of_rates():
  assert measured.MEASURED
  for of in measured.MEASURED.values():
    assert len(of.rows) == len(of.means) == len(of.spreads)
    assert (np.diff(of.rows) > 0).all()
    assert all(0 <= rate <= 1 for rate in (*of.means, of.accuracy))
    # What a Beta distribution can have.
    assert all(s**2 < m * (1 - m) for m, s in zip(of.means, of.spreads, strict=True))
