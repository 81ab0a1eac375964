import jax.numpy as jnp
import numpy as np
import pytest

from jmia.attacks import (
  _calibration,
  distillation,
  leave_one_out,
  population,
  reference,
  shadow,
)
from jmia.stats import nulls, roc

PER_SAMPLE = (reference, distillation, leave_one_out)
ALPHA = np.array([0.05, 0.2, 0.5, 0.9])


def _losses(seed, shape):
  return np.random.default_rng(seed).gamma(1.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("attack", PER_SAMPLE)
def test_per_sample_attacks_use_each_samples_own_valid_references(attack):
  null_losses, losses = _losses(0, (15, 12)), _losses(1, (12,))
  valid = np.random.default_rng(2).random((15, 12)) < 0.6
  thresholds = attack.thresholds(null_losses, ALPHA, valid, method="linear")
  scores = attack.score(losses, null_losses, valid, method="empirical")
  assert thresholds.shape == (4, 12)
  assert thresholds.dtype == scores.dtype == np.float32
  for n in range(12):
    own = null_losses[valid[:, n], n]
    np.testing.assert_allclose(thresholds[:, n], np.quantile(own, ALPHA), rtol=1e-5)
    p = (1 + np.sum(own <= losses[n])) / (1 + len(own))
    np.testing.assert_allclose(scores[n], -np.log(p), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attack", PER_SAMPLE)
def test_per_sample_default_is_min_linear_logit(attack):
  null_losses, losses = _losses(3, (15, 6)), _losses(4, (6,))
  null = nulls.fit(null_losses)
  np.testing.assert_allclose(
    attack.thresholds(null_losses, ALPHA),
    nulls.quantile(null, ALPHA, "min_linear_logit"),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    attack.score(losses, null_losses),
    -np.asarray(nulls.log_p_value(null, losses, "min_linear_logit")),
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize("method", ["linear", "logit_gaussian"])
def test_blocks_change_nothing(method, monkeypatch):
  null_losses, losses = _losses(5, (10, 23)), _losses(6, (2, 23))
  valid = np.random.default_rng(7).random((10, 23)) < 0.7
  whole = (
    reference.thresholds(null_losses, ALPHA, valid, method=method),
    reference.score(losses, null_losses, valid, method=method),
  )
  monkeypatch.setattr(
    _calibration, "_BLOCK_SIZE", 60
  )  # 4 blocks of 6, the last overlapping
  assert len(_calibration._column_blocks(10, 23)) == 4
  blocked = (
    reference.thresholds(null_losses, ALPHA, valid, method=method),
    reference.score(losses, null_losses, valid, method=method),
  )
  for a, b in zip(whole, blocked, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_targets_scored_together_equal_one_by_one():
  null_losses, losses = _losses(8, (9, 11)), _losses(9, (3, 11))
  labels = np.random.default_rng(10).integers(0, 3, 11)
  together = reference.score(losses, null_losses)
  of_class = shadow.score(losses, labels, null_losses, labels, 3)
  assert together.shape == of_class.shape == (3, 11)
  for m in range(3):
    alone = reference.score(losses[m], null_losses)
    np.testing.assert_allclose(together[m], alone, rtol=1e-5, atol=1e-6)
    alone = shadow.score(losses[m], labels, null_losses, labels, 3)
    np.testing.assert_allclose(of_class[m], alone, rtol=1e-5, atol=1e-6)


def test_shadow_pools_the_valid_losses_of_the_class():
  rng = np.random.default_rng(11)
  shadow_losses, losses = _losses(12, (5, 30)), _losses(13, (8,))
  shadow_labels, labels = rng.integers(0, 3, 30), np.array([2, 0, 0, 2, 1, 1, 0, 2])
  valid = rng.random((5, 30)) < 0.5
  args = (shadow_losses, shadow_labels)
  thresholds = shadow.thresholds(*args, labels, 3, ALPHA, valid)
  scores = shadow.score(losses, labels, *args, 3, valid, method="empirical")
  unmasked = shadow.thresholds(*args, labels, 3, ALPHA)
  for n in range(8):
    is_class = shadow_labels == labels[n]
    pool = shadow_losses[:, is_class]
    np.testing.assert_allclose(
      unmasked[:, n], np.quantile(pool, ALPHA), rtol=1e-5, atol=1e-6
    )
    pool = pool[valid[:, is_class]]
    np.testing.assert_allclose(
      thresholds[:, n], np.quantile(pool, ALPHA), rtol=1e-5, atol=1e-6
    )
    p = (1 + np.sum(pool <= losses[n])) / (1 + len(pool))
    np.testing.assert_allclose(scores[n], -np.log(p), rtol=1e-5, atol=1e-6)


def test_shadow_ignores_classes_that_are_not_asked_for():
  shadow_losses, shadow_labels = _losses(14, (1, 4)), np.array([0, 0, 0, 2])
  labels = np.array([0, 0])
  thresholds = shadow.thresholds(shadow_losses, shadow_labels, labels, 3, ALPHA)
  np.testing.assert_allclose(
    thresholds[:, 1], np.quantile(shadow_losses[0, :3], ALPHA), rtol=1e-5
  )


def test_population_has_one_threshold_or_one_per_class():
  rng = np.random.default_rng(15)
  population_losses, losses = _losses(16, (50,)), _losses(17, (6,))
  by_class = {
    "population_labels": rng.integers(0, 2, 50),
    "labels": np.array([1, 0, 0, 1, 1, 0]),
    "num_classes": 2,
  }
  thresholds = population.thresholds(population_losses, ALPHA)
  assert thresholds.shape == (4, 1)
  np.testing.assert_allclose(
    thresholds[:, 0], np.quantile(population_losses, ALPHA), rtol=1e-5
  )
  scores = population.score(losses, population_losses, method="empirical")
  p = (1 + np.sum(population_losses[:, None] <= losses, axis=0)) / 51
  np.testing.assert_allclose(scores, -np.log(p), rtol=1e-5, atol=1e-6)
  # Per class it is attack S with this target as its only shadow model.
  as_shadow = (population_losses[None], by_class["population_labels"])
  np.testing.assert_array_equal(
    population.thresholds(population_losses, ALPHA, **by_class),
    shadow.thresholds(*as_shadow, by_class["labels"], 2, ALPHA),
  )
  np.testing.assert_array_equal(
    population.score(losses, population_losses, **by_class),
    shadow.score(losses, by_class["labels"], *as_shadow, 2),
  )


def test_arrays_on_the_device_give_what_arrays_on_the_host_give():
  null_losses, losses = _losses(24, (9, 12)), _losses(25, (12,))
  labels, valid = np.arange(12) % 3, np.arange(108).reshape(9, 12) % 5 > 0
  by_class = {"population_labels": labels, "labels": labels, "num_classes": 3}
  calls = (
    (reference.thresholds, (null_losses, ALPHA, valid), {}),
    (reference.score, (losses, null_losses, valid), {}),
    (shadow.thresholds, (null_losses, labels, labels, 3, ALPHA, valid), {}),
    (shadow.score, (losses, labels, null_losses, labels, 3, valid), {}),
    (population.thresholds, (losses, ALPHA), {}),
    (population.score, (losses, null_losses[0]), by_class),
  )

  def to_device(x):
    return jnp.asarray(x) if isinstance(x, np.ndarray) and x is not ALPHA else x

  for function, args, kwargs in calls:
    on_device = function(
      *(to_device(x) for x in args), **{k: to_device(v) for k, v in kwargs.items()}
    )
    np.testing.assert_allclose(on_device, function(*args, **kwargs), rtol=1e-6)


def test_two_references_by_hand():
  # Null losses 1 and 3: the median is 2, and a loss of 0.5 is below both.
  null_losses = np.array([[1.0], [3.0]])
  assert reference.thresholds(null_losses, np.array([0.5]), method="linear") == 2
  score = reference.score(np.array([0.5]), null_losses, method="empirical")
  assert score == pytest.approx(np.log(3), rel=1e-6)


def test_scores_are_positive_zero_at_least():
  scores = reference.score(np.full(4, 1e3), _losses(18, (5, 4)), method="empirical")
  np.testing.assert_array_equal(scores, np.zeros(4))
  assert not np.signbit(scores).any()


def test_reference_attack_keeps_its_level_and_finds_members():
  rng = np.random.default_rng(19)
  num_references, num_samples = 64, 8_000
  difficulty = rng.normal(0, 2, num_samples)

  def draw(rows):  # loss = softplus(-phi), phi Gaussian: the logit null holds
    return np.logaddexp(0, -(difficulty + rng.normal(size=(rows, num_samples))))

  null_losses, others = draw(num_references), draw(1)[0]
  for method in nulls.METHODS:
    thresholds = reference.thresholds(null_losses, ALPHA, method=method)
    rate = (others <= thresholds).mean(axis=1)
    slack = 4 * np.sqrt(ALPHA * (1 - ALPHA) / num_samples) + 2 / (num_references + 1)
    if method != "gaussian":  # the losses are not Gaussian, their logits are
      assert (rate <= ALPHA + slack).all(), (method, rate)
    if method == "empirical":
      p = np.exp(-reference.score(others, null_losses, method=method))
      valid_rate = (p[:, None] <= ALPHA + 1e-6).mean(axis=0)
      assert (valid_rate <= ALPHA + slack - 2 / (num_references + 1)).all()
  difficulty += 1.5  # members: phi is 1.5 standard deviations higher
  scores = reference.score(np.stack([draw(1)[0], others]), null_losses)
  members = np.arange(2 * num_samples) < num_samples
  # Two unit Gaussians 1.5 apart: AUC = Phi(1.5 / sqrt(2)) = 0.8556.
  assert roc.auc(scores.ravel(), members) == pytest.approx(0.8556, abs=0.015)


def test_scoring_compiles_once_for_all_blocks_and_targets(monkeypatch):
  monkeypatch.setattr(_calibration, "_BLOCK_SIZE", 70)
  null_losses, losses = _losses(20, (7, 53)), _losses(21, (53,))
  before = nulls.log_p_value._cache_size()
  reference.score(losses, null_losses, method="linear")
  assert nulls.log_p_value._cache_size() == before + 1
  for seed in (22, 23):
    reference.score(_losses(seed, (53,)), null_losses, method="linear")
  assert nulls.log_p_value._cache_size() == before + 1


@pytest.mark.parametrize(
  ("attack", "name"),
  [
    (reference, "reference_losses"),
    (distillation, "distilled_losses"),
    (leave_one_out, "left_out_losses"),
  ],
)
def test_per_sample_errors(attack, name):
  good, losses = np.ones((3, 2)), np.ones(2)
  with pytest.raises(ValueError, match=rf"{name} has shape \(3,\)"):
    attack.thresholds(np.ones(3), ALPHA)
  with pytest.raises(ValueError, match=rf"{name} holds 1 NaN or infinite"):
    attack.thresholds(np.array([[1.0, np.inf], [1, 1]]), ALPHA)
  with pytest.raises(
    ValueError, match=rf"{name} holds -1.0; method='min_linear_logit'"
  ):
    attack.thresholds(-good, ALPHA)
  attack.thresholds(-good, ALPHA, method="linear")
  with pytest.raises(ValueError, match="unknown method 'logit'"):
    attack.thresholds(good, ALPHA, method="logit")
  with pytest.raises(ValueError, match=r"alpha=.* must lie in \[0, 1\]"):
    attack.thresholds(good, ALPHA + 1)
  with pytest.raises(ValueError, match=r"alpha has shape \(1, 4\)"):
    attack.thresholds(good, ALPHA[None])
  with pytest.raises(ValueError, match="valid has dtype int64, expected bool"):
    attack.thresholds(good, ALPHA, np.ones((3, 2), np.int64))
  with pytest.raises(ValueError, match=r"valid has shape \(2, 2\), expected \(3, 2\)"):
    attack.thresholds(good, ALPHA, np.ones((2, 2), bool))
  valid = np.array([[True, True], [True, False], [False, False]])
  for call in (
    lambda: attack.thresholds(good, ALPHA, valid),
    lambda: attack.score(losses, good, valid),
  ):
    with pytest.raises(ValueError, match=r"1 of 2 samples .* first sample 1, .* has 1"):
      call()
  with pytest.raises(ValueError, match=r"2 of 2 samples .* first sample 0"):
    attack.score(losses, good[:1])
  with pytest.raises(ValueError, match=r"losses has shape \(3,\), expected \(2\)"):
    attack.score(np.ones(3), good)
  with pytest.raises(ValueError, match="losses holds 1 NaN"):
    attack.score(np.array([1.0, np.nan]), good)
  with pytest.raises(ValueError, match=r"losses holds -1\.0"):
    attack.score(-losses, good)


def test_shadow_errors():
  losses, labels = np.ones((2, 4)), np.array([0, 0, 1, 1])

  def call(shadow_losses=losses, shadow_labels=labels, labels=labels, valid=None):
    return shadow.thresholds(shadow_losses, shadow_labels, labels, 3, ALPHA, valid)

  with pytest.raises(ValueError, match="holds 0 losses of class 2, which is among"):
    call(labels=np.array([0, 2]))
  valid = np.array([[True] * 4, [False] * 4])
  valid[0, 2] = False
  with pytest.raises(ValueError, match="shadow_losses holds 1 losses of class 1"):
    call(valid=valid)
  with pytest.raises(ValueError, match=r"shadow_losses has shape \(4,\)"):
    call(losses[0])
  with pytest.raises(ValueError, match="shadow_losses holds 8 NaN"):
    call(losses * np.nan)
  with pytest.raises(ValueError, match=r"shadow_labels has shape \(3,\)"):
    call(shadow_labels=labels[:3])
  with pytest.raises(ValueError, match="labels holds labels from 0 to 3"):
    call(labels=np.array([0, 3]))
  with pytest.raises(ValueError, match="shadow_labels has dtype float64"):
    call(shadow_labels=labels * 1.0)
  with pytest.raises(ValueError, match=r"labels has shape \(1, 4\)"):
    call(labels=labels[None])
  with pytest.raises(ValueError, match=r"valid has shape \(1, 4\)"):
    call(valid=valid[:1])
  with pytest.raises(ValueError, match=r"losses has shape \(3,\), expected \(4\)"):
    shadow.score(np.ones(3), labels, losses, labels, 3)
  with pytest.raises(ValueError, match="losses holds 1 NaN"):
    shadow.score(np.array([1, 1, 1, np.nan]), labels, losses, labels, 3)


def test_population_errors():
  losses = np.ones(4)
  with pytest.raises(ValueError, match="holds 1 losses, expected at least 2"):
    population.thresholds(losses[:1], ALPHA)
  with pytest.raises(ValueError, match=r"population_losses has shape \(1, 4\)"):
    population.thresholds(losses[None], ALPHA)
  with pytest.raises(ValueError, match="population_losses holds 4 NaN"):
    population.thresholds(losses * np.nan, ALPHA)
  with pytest.raises(ValueError, match="missing are population_labels, num_classes"):
    population.thresholds(losses, ALPHA, labels=np.array([0]))
  with pytest.raises(ValueError, match="population_losses holds 0 losses of class 1"):
    population.thresholds(
      losses,
      ALPHA,
      population_labels=np.zeros(4, int),
      labels=np.array([0, 1]),
      num_classes=2,
    )
  with pytest.raises(ValueError, match=r"losses has shape \(2, 2\), expected \(any\)"):
    population.score(np.ones((2, 2)), losses)
  with pytest.raises(
    ValueError, match=r"losses holds -1\.0; method='min_linear_logit'"
  ):
    population.score(-losses, losses, method="min_linear_logit")
