import numpy as np
import pytest
from sklearn import metrics

from jmia import evaluation
from jmia.attacks import distillation, population, reference, shadow
from jmia.evidence import Evidence

N, P, R, C = 2000, 2000, 32, 4


def _evidence(leak=0.0, seed=0, num=N):
  """Losses `exp(hardness + noise)`; the target's on members lie `leak` decibans lower.

  Without a leak a member, a non-member and every null loss are exchangeable.
  """
  rng = np.random.default_rng(seed)
  hardness, population_hardness = rng.normal(-1, 1.5, num), rng.normal(-1, 1.5, P)
  members = rng.random(num) < 0.5
  losses = lambda mean, *lead: np.exp(  # noqa: E731
    mean + rng.normal(size=(*lead, len(mean)))
  ).astype(np.float32)
  attacked = np.sort(rng.permutation(num)[: num // 2])
  return Evidence(
    index=np.arange(num),
    labels=rng.integers(0, C, num).astype(np.int32),
    members=members,
    num_classes=C,
    losses=losses(hardness - leak * members),
    correct=np.ones(num, bool),
    population_losses=losses(population_hardness),
    population_labels=rng.integers(0, C, P).astype(np.int32),
    reference_losses=losses(hardness, R),
    reference_held=np.zeros((R, num), bool),
    reference_population_losses=losses(population_hardness, R),
    reference_population_held=np.zeros((R, P), bool),
    distilled_losses=losses(hardness, R),
    left_out=attacked,
    left_out_losses=losses(hardness[attacked], R),
    left_out_valid=np.ones((R, len(attacked)), bool),
  )


NULL, LEAK = _evidence(), _evidence(leak=1.5)
# How many null losses a sample's threshold comes from.
_NUM_NULL = {"population": P, "shadow": R * P // C}


@pytest.mark.parametrize("attack", evaluation.ATTACKS)
def test_without_a_leak_every_attack_keeps_its_level(attack):
  outcome = evaluation.evaluate(NULL, attack)
  low, high = outcome.summary["auc_ci"]
  assert low < 0.5 < high
  attacked = ~np.isnan(outcome.scores)
  num, num_null = attacked.sum(), _NUM_NULL.get(attack, R)
  # All samples follow the null, so all of them are false positives. Theirs and the
  # shared null's sampling, four standard errors.
  shared = num_null if attack in _NUM_NULL else np.inf
  tolerance = 4 * np.sqrt(0.09 * (1 / num + 1 / shared))
  called = NULL.losses[attacked] <= outcome.thresholds[attacked]
  # c_alpha rejects up to alpha + 2 / (n + 1) of the null (stats.nulls).
  assert called.mean() <= evaluation.ALPHA + 2 / (num_null + 1) + tolerance
  assert called.mean() > 0.01  # it is no attack that calls nobody
  p_value = np.exp(-outcome.scores[attacked].astype(np.float64))
  for level in (0.5, evaluation.ALPHA):
    assert (p_value <= level).mean() <= level + tolerance


@pytest.mark.parametrize("attack", ["population", "shadow", "reference"])
def test_smoothed_p_values_keep_small_levels_too(attack):
  scores = evaluation.evaluate(NULL, attack, "linear").scores
  rate = (np.exp(-scores.astype(np.float64)) <= 0.04).mean()
  assert rate <= 0.04 + 4 * np.sqrt(0.04 * 0.96 * (1 / N + 1 / P))


def test_a_leak_is_found_and_per_sample_nulls_find_more():
  summaries = {
    name: evaluation.evaluate(LEAK, name).summary for name in evaluation.ATTACKS
  }
  for summary in summaries.values():
    assert summary["auc_ci"][0] > 0.5
  for strong in ("reference", "distillation", "leave_one_out"):
    for weak in ("population", "shadow"):
      assert summaries[strong]["auc_ci"][0] > summaries[weak]["auc_ci"][1]


def test_scores_and_thresholds_are_the_attacks_own():
  level = [evaluation.ALPHA]
  e = _evidence(leak=1.0, num=200)
  held, population_held = np.random.default_rng(1).random((2, R, P)) < 0.4
  e = e._replace(
    reference_held=held[:, :200], reference_population_held=population_held
  )
  null = (e.reference_population_losses, e.population_labels)
  expected = {
    "population": (
      population.score(e.losses, e.population_losses),
      np.repeat(population.thresholds(e.population_losses, level)[0], 200),
    ),
    "shadow": (
      shadow.score(e.losses, e.labels, *null, C, ~population_held),
      shadow.thresholds(*null, e.labels, C, level, ~population_held)[0],
    ),
    "reference": (
      reference.score(e.losses, e.reference_losses, ~e.reference_held),
      reference.thresholds(e.reference_losses, level, ~e.reference_held)[0],
    ),
    "distillation": (
      distillation.score(e.losses, e.distilled_losses),
      distillation.thresholds(e.distilled_losses, level)[0],
    ),
  }
  for name, (scores, thresholds) in expected.items():
    outcome = evaluation.evaluate(e, name)
    np.testing.assert_array_equal(outcome.scores, scores)
    np.testing.assert_array_equal(outcome.thresholds, thresholds)
    assert outcome.scores.dtype == outcome.thresholds.dtype == np.float32


def test_losses_of_models_that_held_a_row_have_no_influence():
  rng = np.random.default_rng(1)
  held, population_held = rng.random((R, N)) < 0.5, rng.random((R, P)) < 0.5
  changed = LEAK._replace(
    reference_held=held,
    reference_losses=np.where(held, 1e-9, LEAK.reference_losses).astype(np.float32),
    reference_population_held=population_held,
    reference_population_losses=np.where(
      population_held, 1e-9, LEAK.reference_population_losses
    ).astype(np.float32),
  )
  masked = LEAK._replace(reference_held=held, reference_population_held=population_held)
  for attack in ("shadow", "reference"):
    expected = evaluation.evaluate(masked, attack).scores
    np.testing.assert_array_equal(evaluation.evaluate(changed, attack).scores, expected)
    assert (evaluation.evaluate(LEAK, attack).scores != expected).any()


def test_leave_one_out_attacks_its_samples_alone():
  outcome = evaluation.evaluate(LEAK, "leave_one_out")
  attacked = np.isin(np.arange(N), LEAK.left_out)
  np.testing.assert_array_equal(~np.isnan(outcome.scores), attacked)
  np.testing.assert_array_equal(~np.isnan(outcome.thresholds), attacked)
  expected = reference.score(LEAK.losses[LEAK.left_out], LEAK.left_out_losses)
  np.testing.assert_array_equal(outcome.scores[LEAK.left_out], expected)
  assert outcome.summary["num_samples"] == N // 2
  assert outcome.summary["num_nonmembers"] == (~LEAK.members[attacked]).sum()


@pytest.mark.parametrize(("attack", "num_models"), [("population", 0), ("shadow", R)])
def test_summary_against_scikit_learn(attack, num_models):
  scores, _, summary = evaluation.evaluate(LEAK, attack)
  fpr, tpr, _ = metrics.roc_curve(LEAK.members, scores, drop_intermediate=False)
  np.testing.assert_allclose(
    summary["auc"], metrics.roc_auc_score(LEAK.members, scores), rtol=1e-9
  )
  for level in ("0.1", "0.01", "0.001"):
    expected = tpr[fpr <= float(level)].max()
    np.testing.assert_allclose(summary["tpr_at_fpr"][level], expected)
    low, high = summary["tpr_at_fpr_ci"][level]
    assert low <= expected <= high
  share = LEAK.members.mean()
  accuracy = (share * tpr + (1 - share) * (1 - fpr)).max()
  np.testing.assert_allclose(summary["accuracy"], accuracy)
  assert summary["estimator"] == "linear"
  assert (summary["num_samples"], summary["num_models"]) == (N, num_models)
  assert set(summary) == {
    *("auc", "auc_ci", "accuracy", "tpr_at_fpr", "tpr_at_fpr_ci", "estimator"),
    *("num_samples", "num_nonmembers", "num_models"),
  }


def test_an_estimator_replaces_the_attacks_own():
  outcome = evaluation.evaluate(LEAK, "reference", "gaussian")
  assert outcome.summary["estimator"] == "gaussian"
  np.testing.assert_array_equal(
    outcome.scores,
    reference.score(LEAK.losses, LEAK.reference_losses, method="gaussian"),
  )


@pytest.mark.parametrize(
  ("field", "attack", "lacks"),
  [
    ("population_losses", "population", "population_logits and population_labels"),
    ("reference_losses", "reference", "reference_logits"),
    ("reference_population_losses", "shadow", "reference_population_logits and"),
    ("distilled_losses", "distillation", "distilled_logits"),
    ("left_out_losses", "leave_one_out", "models retrained without each sample"),
  ],
)
def test_what_an_attack_lacks_is_named(field, attack, lacks):
  missing = evaluation.lacking(NULL._replace(**{field: None}), evaluation.ATTACKS)
  assert list(missing) == [attack]
  assert missing[attack].startswith(f"needs {lacks}")
  assert evaluation.lacking(NULL, evaluation.ATTACKS) == {}


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"unknown attack 'refrence'; .*'reference'"):
    evaluation.evaluate(NULL, "refrence")
  with pytest.raises(ValueError, match=r"unknown estimator 'gauss'; .*'gaussian'"):
    evaluation.evaluate(NULL, "reference", "gauss")


def test_a_null_that_is_too_small_is_refused():
  one = NULL._replace(distilled_losses=NULL.distilled_losses[:1])
  with pytest.raises(ValueError, match="fewer than 2 valid null losses"):
    evaluation.evaluate(one, "distillation")
  others = NULL._replace(population_labels=np.zeros(P, np.int32))
  with pytest.raises(ValueError, match="holds 0 losses of class 1"):
    evaluation.evaluate(others, "shadow")


def test_distilled_models_that_held_a_sample_are_left_out_of_its_null():
  held = np.zeros((R, N), bool)
  held[0] = True
  without = LEAK._replace(distilled_losses=LEAK.distilled_losses[1:])
  expected = evaluation.evaluate(without, "distillation", alpha=0.3)
  found = evaluation.evaluate(
    LEAK._replace(distilled_held=held), "distillation", alpha=0.3
  )
  np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
  np.testing.assert_allclose(found.thresholds, expected.thresholds, rtol=1e-4)
  usual = evaluation.evaluate(without, "distillation")
  np.testing.assert_array_equal(usual.scores, expected.scores)
  assert (usual.thresholds < expected.thresholds).all()
