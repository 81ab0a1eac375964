import numpy as np
import pytest

from jmia.datasets import features

_RNG = np.random.default_rng(0)


def _seen(x):
  """What a model sees, by the definition of `types.Dataset`."""
  found = features.read("x", x)
  return found.x.astype(np.float32) * np.float32(found.scale), found


@pytest.mark.parametrize(
  ("x", "divisor"),
  [
    (_RNG.integers(2, size=(30, 5)), 1),
    (_RNG.random((30, 5)) > 0.5, 1),
    (_RNG.random((30, 5)), 1),
    (_RNG.standard_normal((30, 5)), 1),
    (_RNG.standard_normal((30, 4, 4, 3)), 1),  # normalised already
    (np.append(_RNG.integers(256, size=(30, 5)), [[255] * 5], 0).astype(np.uint8), 255),
    (np.append(_RNG.integers(17, size=(30, 64)), [[16] * 64], 0), 16),
    (np.append(_RNG.random((30, 8)) * 255, [[255.0] * 8], 0), 255),
    (np.full((30, 4, 4, 1), 255) * _RNG.integers(2, size=(30, 4, 4, 1)), 255),
    (np.full((30, 4, 4, 1), 4095) * _RNG.integers(2, size=(30, 4, 4, 1)), 4095),
    (np.full((30, 4, 4, 1), 65_000) * _RNG.integers(2, size=(30, 4, 4, 1)), 65_535),
    (np.sign(_RNG.standard_normal((30, 5))) * 1e-3, 1e-3),
  ],
)
def test_one_scale_for_all_values(x, divisor):
  seen, found = _seen(x)
  np.testing.assert_allclose(seen, x / divisor, rtol=1e-6)
  assert found.x.dtype in (np.uint8, np.float32)
  assert not found.is_changed
  is_usual = divisor in (1, 255) and (divisor == 1 or x.dtype == np.uint8)
  assert bool(found.notes) != is_usual
  assert all(f"divided by {divisor:.6g}" in note for note in found.notes)


def test_columns_of_different_scales_are_standardised():
  x = np.stack(
    [
      _RNG.integers(18, 90, 500),
      np.exp(_RNG.standard_normal(500) + 10),
      _RNG.random(500),
      np.full(500, 1e9) + 0.1,
      1_990 + np.arange(500) % 30,
      _RNG.integers(2, size=500),
    ],
    axis=1,
  )
  seen, found = _seen(x)
  for column in (0, 1, 4):  # the oracle is scikit-learn's
    from sklearn import preprocessing

    expected = preprocessing.StandardScaler().fit_transform(x[:, [column]])[:, 0]
    np.testing.assert_allclose(seen[:, column], expected, atol=1e-4)
  for column in (2, 5):
    np.testing.assert_array_equal(seen[:, column], x[:, column].astype(np.float32))
  np.testing.assert_array_equal(seen[:, 3], 0)  # one value alone
  assert found.notes == (
    "4 of the 6 columns of x are standardised (mean 0, deviation 1 over all rows): "
    "they are of different scales.",
  )
  assert found.is_changed


def test_the_mean_and_deviation_may_be_of_some_rows():
  x = _RNG.standard_normal((5_000, 3)) * [1, 10, 0] + [0, 5, 7]
  rows = np.arange(0, 5_000, 2)
  found = features.standardise(x, rows)
  expected = (x[:, :2] - x[rows, :2].mean(0)) / x[rows, :2].std(0)
  np.testing.assert_allclose(found[:, :2], expected, atol=1e-5)
  np.testing.assert_array_equal(found[:, 2], 0)


def test_values_far_from_zero_are_centred():
  x = 300 + _RNG.standard_normal((50, 4, 4, 1))
  seen, found = _seen(x)
  np.testing.assert_allclose(seen, (x - x.mean()) / x.std(), atol=1e-4)
  assert "centred at" in found.notes[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_are_put_last(channels):
  x = _RNG.integers(256, size=(20, channels, 8, 9), dtype=np.uint8)
  found = features.read("x", x)
  np.testing.assert_array_equal(found.x, x.transpose(0, 2, 3, 1))
  assert "NCHW" in found.notes[0]
  assert found.is_changed


def test_grey_images_get_a_channel():
  found = features.read("x", _RNG.integers(256, size=(20, 8, 8)))
  assert found.x.shape == (20, 8, 8, 1)
  assert "taken for grey images, with one channel" in found.notes[0]


@pytest.mark.parametrize("shape", [(20, 8, 9, 3), (20, 8, 9, 1), (20, 3, 32, 3)])
def test_channels_last_stay(shape):
  assert features.read("x", _RNG.random(shape)).x.shape == shape


def test_sequences_are_no_images():
  x = _RNG.standard_normal((40, 12, 3)) * [1, 100, 1]
  found = features.read("x", x)
  assert found.x.shape == x.shape
  assert "1 of the 3 columns" in found.notes[0]


@pytest.mark.parametrize(
  ("x", "message"),
  [
    (np.zeros(3), r"x has shape \(3,\), expected \[N, ...\]"),
    (np.zeros((0, 3)), r"x has shape \(0, 3\)"),
    (np.zeros((3, 0)), r"x has shape \(3, 0\)"),
    ([[1j]], "x has dtype complex128"),
    ([["a"]], "x has dtype <U1, .* table:PATH"),
    (np.array([[None]]), "x has dtype object"),
    ([[np.nan, 1]], "x holds 1 NaN"),
    ([[-np.inf, 1]], "x holds 1 NaN or infinite"),
    (
      [[-1e300, 1]],
      r"x holds a number of size 1e\+300, expected at most 3.4e\+38, which",
    ),
    (np.full((4, 3), 7.0), r"x holds 7\.0 alone: there is nothing to learn"),
    (np.zeros((4, 8, 8, 1), np.uint8), "x holds 0 alone: there is nothing to learn"),
    (np.ones((4, 3), bool), "x holds True alone: there is nothing to learn"),
    (
      np.zeros((20, 2, 32, 32)),
      r"looks like images with their channels first \(NCHW\)",
    ),
    (_RNG.integers(30_000, size=(200, 20)), "x looks like tokens"),
  ],
)
def test_what_no_network_learns_from_is_refused(x, message):
  with pytest.raises(ValueError, match=message):
    features.read("x", x)


def test_measurements_are_no_tokens():
  walk = np.cumsum(_RNG.integers(-50, 51, size=(200, 20)), axis=1)
  walk -= walk.min()
  found = features.read("x", walk)
  assert found.x.max() * found.scale == pytest.approx(1)
