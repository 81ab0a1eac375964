import hashlib

import numpy as np
import pytest
from scipy import stats

from jmia.encoding import synthetic


def test_rows_are_the_same_bits_everywhere():
  rows = synthetic.rows(2019, (7, 5, 3), 20, low=-1.0, high=1.0)
  digest = hashlib.sha256(rows.astype("<f4").tobytes()).hexdigest()
  assert digest[:16] == "282ca25b08c0c232"
  units = synthetic.units(2019, 128, 0.5)
  digest = hashlib.sha256(units.astype("<i4").tobytes()).hexdigest()
  assert digest[:16] == "8b6d1412bc6021f1"


def test_rows_are_two_normal_clouds():
  low, high = -3.0, 5.0
  rows = synthetic.rows(5, (400,), 500, low=low, high=high)
  assert rows.shape == (1000, 400)
  assert rows.dtype == np.float32
  for kind in np.split(rows, 2):
    means = kind.mean(0)
    # The mean of 500 rows is within 5 / sqrt(500) of mu, of which the bounds are known.
    assert means.min() > low - 0.23
    assert means.max() < high + 0.23
    assert stats.kstest(means, "uniform", (low, high - low)).pvalue > 1e-3
    noise = (kind - means) / np.sqrt(1 - 1 / 500)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    # Rows and features are independent of their neighbours.
    for a, b in ((noise[:-1], noise[1:]), (noise[:, :-1], noise[:, 1:])):
      assert abs((a * b).mean()) < 5 / np.sqrt(a.size) + 1 / 500
  means = rows.reshape(2, 500, 400).mean(1)
  assert abs(np.corrcoef(means)[0, 1]) < 5 / np.sqrt(400)


def test_the_logarithm_is_right():
  x = np.concatenate(
    [np.random.default_rng(0).random(10_000), 2.0 ** np.arange(-60, 0), [0.75, 1.0]]
  )
  found = synthetic._log(x)
  assert np.abs(found - np.log(x)).max() < 1e-14
  assert found[-1] == 0


def test_fewer_rows_are_not_other_noise():
  few, many = (synthetic._normal(synthetic._philox(3, 1), n) for n in (10, 20_000))
  np.testing.assert_array_equal(few, many[:10])


def test_secrets_differ_and_repeat():
  first = synthetic.rows(1, (8,), 4)
  np.testing.assert_array_equal(first, synthetic.rows(1, (8,), 4))
  for other in (0, 2, 2**32 + 1, 2**64 - 1):
    assert not np.isclose(first, synthetic.rows(other, (8,), 4)).any()


def test_units_are_a_uniform_draw():
  drawn = np.stack([synthetic.units(s, 20, 0.25) for s in range(4000)])
  assert drawn.shape == (4000, 5)
  assert drawn.dtype == np.int32
  assert (np.diff(drawn) > 0).all()
  counts = np.bincount(drawn.ravel(), minlength=20)
  assert stats.chisquare(counts).pvalue > 1e-3
  assert len(synthetic.units(0, 3, 0.01)) == 1
  np.testing.assert_array_equal(synthetic.units(0, 3, 1.0), [0, 1, 2])


@pytest.mark.parametrize("secret", [-1, 2**64, 1.0, "1", True, None])
def test_bad_secrets_are_refused(secret):
  with pytest.raises(ValueError, match="secret="):
    synthetic.rows(secret, (2,), 1)
  with pytest.raises(ValueError, match="secret="):
    synthetic.units(secret, 2, 0.5)


def test_bad_sizes_are_refused():
  with pytest.raises(ValueError, match="num_rows=0"):
    synthetic.rows(0, (2,), 0)
  with pytest.raises(ValueError, match="num_units=0"):
    synthetic.units(0, 0, 0.5)
  for share in (0, 1.1, float("nan")):
    with pytest.raises(ValueError, match="share="):
      synthetic.units(0, 2, share)
