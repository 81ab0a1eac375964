"""Private models with canaries: who holds what, and what scores say."""

import dataclasses

import dp_example
import numpy as np
import pytest
from scipy import stats

from jmia.dp import audit, engine, proofs, reading
from jmia.training import augment


def test_every_canary_has_a_coin_of_its_own():
  setting = dp_example.setting(mode="one_run", num_runs=40, num_canaries=500)
  coins = engine.coins(setting)
  assert coins.shape == (40, 500)
  # 20,000 fair coins, and as many pairs of neighbours: 4 standard deviations.
  assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)
  together = (coins[:, 1:] & coins[:, :-1]).mean()
  assert abs(together - 0.25) < 4 * 0.45 / np.sqrt(20_000)
  half = engine.coins(dp_example.setting(num_runs=3))
  np.testing.assert_array_equal(half[:, 0], [True] * 3 + [False] * 3)


@pytest.fixture(scope="module")
def without_noise():
  setting = dp_example.setting(np.inf, mode="one_run", num_runs=6)
  return setting, engine.run(dp_example.dataset(), setting)


def test_without_noise_scores_tell_who_was_in(without_noise):
  setting, scored = without_noise
  assert scored.final.shape == scored.steps.shape == (6, 20)
  # 52 members, 8 of them expected in a batch, 14 steps: P(never sampled) = .095; a
  # canary's own push is as large as 8 ordinary examples' could be at most.
  held = scored.steps[scored.is_in]
  others = scored.steps[~scored.is_in]
  assert np.median(held) > np.percentile(others, 95)
  # The parameter moved by as much as the sum over the steps says, in units of a step's
  # largest gradient, .5 x 1 / 8.
  np.testing.assert_allclose(scored.final, scored.steps / 16, rtol=1e-3, atol=1e-5)
  assert scored.num_diverged == 0
  assert setting.num_tested == 20
  rows = audit.rows(scored, setting)
  assert [row["threat"] for row in rows] == ["final"] * 6 + ["steps"] * 6
  assert all(row["claimed_epsilon"] is None for row in rows)
  assert np.median([row["epsilon_lower"] for row in rows]) > 0.2
  best = max(row["epsilon_lower_at_once"] for row in rows)
  assert best <= max(row["epsilon_lower"] for row in rows)
  (sentence,) = proofs.sentences(rows)
  assert f"at least {best:.2f} is proved at 95 % by all {len(rows)} rows" in sentence


def test_rows_are_read_by_loss_and_by_alignment():
  setting = dp_example.setting(
    np.inf,
    mode="one_run",
    canary="mislabelled",
    num_runs=4,
    num_canaries=10,
    start="trained",
  )
  scored = engine.run(dp_example.dataset(), setting)
  assert np.isfinite(scored.final).all()
  difference = [
    own[held].mean() - own[~held].mean()
    for own, held in zip(scored.steps, scored.is_in, strict=True)
  ]
  assert np.mean(difference) > 0


def test_a_step_is_weighed_by_its_likelihood_ratio():
  run = engine.mechanism(dp_example.setting())
  sigma, rate = run.noise_multiplier, run.sampling_rate
  moved, size = np.array([-3.0, 0.2, 1.0, 9.0]), np.array([1.0, 0.4, 1.0, 0.0])
  noise = stats.norm(scale=sigma)
  expected = np.log(
    ((1 - rate) * noise.pdf(moved) + rate * noise.pdf(moved - size)) / noise.pdf(moved)
  )
  found = reading.log_ratio(moved, size, run)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
  dataset = dp_example.dataset()
  with pytest.raises(ValueError, match="num_members=119 and 20 canaries"):
    audit.check(
      dataset, dp_example.setting(mode="one_run", canary="natural", num_members=119)
    )
  with pytest.raises(ValueError, match="unknown mode 'two_runs'"):
    dp_example.setting(mode="two_runs")
  with pytest.raises(ValueError, match="unknown control 'none'"):
    dp_example.setting(control="none")
  with pytest.raises(ValueError, match="num_runs=0"):
    dp_example.setting(num_runs=0)


@pytest.mark.parametrize(
  "changes",
  [{"momentum": 0.9}, {"weight_decay": 0.1}, {"schedule": "cosine"}, {"name": "adam"}],
)
def test_settings_of_another_optimizer_are_refused(changes):
  (name,) = changes
  optimizer = dataclasses.replace(dp_example.TRAIN.optimizer, **changes)
  train = dataclasses.replace(dp_example.TRAIN, optimizer=optimizer)
  with pytest.raises(ValueError, match=f"train.optimizer.{name}=.* is not read"):
    dp_example.setting(train=train)
  varied = augment.AugmentConfig(flip=True)
  train = dataclasses.replace(dp_example.TRAIN, augmentation=varied)
  with pytest.raises(ValueError, match=r"train.augmentation is not read"):
    dp_example.setting(train=train)
  train = dataclasses.replace(dp_example.TRAIN, clip_norm=1.0)
  with pytest.raises(ValueError, match=r"train.clip_norm=1.0 is not read"):
    dp_example.setting(train=train)
