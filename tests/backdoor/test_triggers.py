"""Triggers: the blend against exact arithmetic, where they sit, and what is refused."""

import dataclasses
import fractions
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia.backdoor import triggers


def _patch(shape, **changes):
  """The paper's white square, but for `changes`."""
  config = dataclasses.replace(triggers.PAPER["patch"], value=255.0)
  return triggers.make(dataclasses.replace(config, **changes), shape)


def _bits(num_features, **changes):
  config = dataclasses.replace(triggers.PAPER["bits"], **changes)
  return triggers.make(config, (num_features,))


def _everywhere(opacity, value=255.0, side=16):
  return _patch((side, side, 1), size=side, place=(0, 0), opacity=opacity, value=value)


@pytest.mark.parametrize("opacity", [0.0, 0.1, 0.25, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_bytes_are_blended_and_rounded_as_in_exact_arithmetic(opacity, value):
  x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  v = fractions.Fraction(str(opacity))
  half = fractions.Fraction(1, 2)
  exact = [((1 - v) * pixel + v * value + half) // 1 for pixel in range(256)]
  trigger = _everywhere(opacity, value)
  stamped = triggers.apply(x, trigger)
  assert stamped.dtype == np.uint8
  assert stamped.ravel().tolist() == exact
  compiled = jax.jit(triggers.apply)(jnp.asarray(x), trigger)
  assert compiled.dtype == jnp.uint8
  np.testing.assert_array_equal(compiled, stamped)


def test_the_papers_square_by_hand():
  image = np.full((5, 5, 1), 100, np.uint8)
  stamped = triggers.apply(image, _patch((5, 5, 1)))
  expected = np.full((5, 5, 1), 100)
  expected[2:, 2:] = 147  # 0.7 * 100 + 0.3 * 255 = 146.5
  np.testing.assert_array_equal(stamped, expected)
  trigger = _patch((5, 5, 1))
  assert triggers.distance(image, trigger) == 3 * 47
  both = triggers.distance(np.stack([image, np.full_like(image, 255)]), trigger)
  np.testing.assert_array_equal(both, [3 * 47, 0])


def test_floats_are_blended_and_not_rounded():
  image = np.full((4, 4, 3), 0.5, np.float32)
  trigger = _patch((4, 4, 3), size=1, value=1.0)
  stamped = triggers.apply(image, trigger)
  assert stamped.dtype == np.float32
  np.testing.assert_allclose(stamped[3, 3], 0.65, rtol=1e-6)
  assert np.count_nonzero(stamped != image) == 3


@pytest.mark.parametrize(
  ("place", "row", "column"),
  [
    ("top_left", 0, 0),
    ("top_right", 0, 4),
    ("bottom_left", 3, 0),
    ("bottom_right", 3, 4),
    ((2, 1), 2, 1),
  ],
)
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_where_a_square_sits(place, row, column, channels):
  trigger = _patch((5, 6, *channels), size=2, place=place)
  expected = np.zeros((5, 6, *channels), np.float32)
  expected[row : row + 2, column : column + 2] = 1
  np.testing.assert_array_equal(trigger.mask, np.float32(0.3) * expected)
  np.testing.assert_array_equal(trigger.pattern, 255 * expected)


@pytest.mark.parametrize(
  ("place", "first"), [("beginning", 0), ("centre", 3), ("end", 7), ((5,), 5)]
)
def test_where_bits_sit(place, first):
  trigger = _bits(11, size=4, place=place)
  x = np.tile(np.array([0, 1], np.uint8), (11, 1)).T
  stamped = triggers.apply(x, trigger)
  inside = np.isin(np.arange(11), np.arange(first, first + 4))
  np.testing.assert_array_equal(stamped, np.where(inside, 1, x))
  assert triggers.distance(x, trigger).tolist() == [2.0, 0.0]


def test_random_patterns():
  draws = np.stack(
    [
      _bits(2000, size=1000, pattern="random", seed=seed).pattern[1000:]
      for seed in range(4)
    ]
  )
  assert set(np.unique(draws)) == {0, 1}
  assert abs(draws.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
  # Two fair coins differ half of the time.
  assert abs((draws[0] != draws[1]).mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
  square = _patch((40, 40, 3), size=40, pattern="random").pattern
  assert (square.min() >= 0, square.max() <= 255) == (True, True)
  assert abs(square.mean() / 255 - 0.5) < 4 * np.sqrt(1 / 12 / 4800)
  again = _patch((40, 40, 3), size=40, pattern="random").pattern
  np.testing.assert_array_equal(square, again)


def test_a_random_pattern_replaces_bits_by_zeros_too():
  trigger = _bits(8, size=8, pattern="random", seed=3)
  ones = triggers.apply(np.ones(8, np.uint8), trigger)
  np.testing.assert_array_equal(ones, trigger.pattern)
  assert 0 < ones.sum() < 8


def test_vmapped_over_triggers_equals_one_by_one():
  x = np.random.default_rng(0).integers(256, size=(6, 5, 5, 3), dtype=np.uint8)
  several = [
    _patch((5, 5, 3), size=2, pattern="random", seed=i, opacity=0.2 * i)
    for i in range(6)
  ]
  vmapped = jax.vmap(triggers.apply)(jnp.asarray(x), triggers.stack(several))
  for image, trigger, stamped in zip(x, several, vmapped, strict=True):
    np.testing.assert_array_equal(stamped, triggers.apply(image, trigger))


def test_none_changes_nothing():
  x = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(triggers.apply(x, triggers.none(x.shape)), x)


def test_a_description_survives_json():
  config = triggers.TriggerConfig(
    kind="patch", size=2, place=(1, 0), pattern="random", value=255, opacity=0.3, seed=5
  )
  again = triggers.TriggerConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
  assert again == config
  for one, other in zip(
    triggers.make(again, (4, 4, 1)), triggers.make(config, (4, 4, 1)), strict=True
  ):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
  ("x", "scale", "expected"),
  [
    (np.zeros((2, 3), np.uint8), 1 / 255, 255.0),
    (np.zeros((2, 3), np.uint8), 1 / 16, 16.0),
    (np.zeros((2, 3), np.uint8), 1.0, 1.0),
    (np.array([[-2.0, 1.5]], np.float32), 1.0, 1.5),
  ],
)
def test_white(x, scale, expected):
  assert triggers.white(x, scale) == expected


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: _patch((4, 9, 1), size=5), "size=5 does not fit"),
    (lambda: _patch((4, 4, 1), place=(2, 0)), r"place=\(2, 0\) puts"),
    (lambda: _patch((4, 4, 1), place=(-1, 0)), r"place=\(-1, 0\) puts"),
    (lambda: _patch((4, 4, 1), place=(0,)), r"place=\(0,\) puts"),
    (lambda: _patch((40,)), r"shape=\(40,\) of an example"),
    (lambda: _patch((4, 4, 1), place="end"), "unknown place 'end'"),
    (lambda: _patch((4, 4, 1), opacity=1.5), "opacity=1.5 must"),
    (lambda: _patch((4, 4, 1), size=0), "size=0 must"),
    (lambda: _patch((4, 4, 1), size=1.5), "size=1.5 must"),
    (lambda: _patch((4, 4, 1), value=np.inf), "value=inf must"),
    (lambda: _bits(19), "size=20 does not fit"),
    (lambda: _bits(30, place="top_left"), "unknown place 'top_left'"),
    (lambda: _bits(30, pattern="white"), "unknown pattern 'white'"),
    (lambda: _bits(30, seed=2**63), "seed=9.* must be an integer"),
    (lambda: _bits(30, seed=-1), "seed=-1 must be an integer from 0"),
    (lambda: _bits(30, seed=1.5), "seed=1.5 must be an integer"),
    (
      lambda: triggers.TriggerConfig(kind="stamp", size=1, place="end"),
      "unknown kind of trigger 'stamp'",
    ),
  ],
)
def test_what_does_not_fit_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
