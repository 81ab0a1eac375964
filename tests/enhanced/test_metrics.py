import numpy as np
import pytest

from jmia import cohort, cohort_metrics, evaluation
from jmia.attacks import population
from jmia.stats import roc
from jmia.training import config as config_lib

M, T, K, P, C, U = 9, 2, 30, 60, 3, 80
MODELS_OF_STUDENTS = np.arange(T, M)


@pytest.fixture(scope="module")
def made():
  """A cohort of made-up losses: where a model holds a sample, its loss is a third."""
  rng = np.random.default_rng(0)
  samples = np.stack([rng.permutation(U)[: 2 * K] for _ in range(T)])
  held = rng.random((M, U)) < 0.2
  for target, at in enumerate(samples):
    held[target] = False
    held[target, at[:K]] = True
  # Sample 0 is held by nobody, and the last model diverged.
  held[:, 0] = False
  hardness = rng.normal(size=U)
  losses = np.exp(hardness + 0.7 * rng.normal(size=(M, U))).astype(np.float32)
  students = np.stack([MODELS_OF_STUDENTS])
  return cohort.Cohort(
    config=cohort.CohortConfig(
      num_models=M,
      num_targets=T,
      num_members=K,
      num_population=P,
      num_distilled_targets=1,
      num_students=len(MODELS_OF_STUDENTS),
      train=config_lib.TrainConfig(),
    ),
    rows=np.arange(U) + 1000,
    labels=(np.arange(U) % C).astype(np.int32),
    population_labels=(np.arange(P) % C).astype(np.int32),
    num_classes=C,
    samples=samples,
    held=held,
    losses=np.where(held, losses / 3, losses),
    population_losses=rng.exponential(size=(M, P)).astype(np.float32),
    correct=np.ones((T, U), bool),
    converged=np.arange(M) != M - 1,
    students=students,
    student_losses=losses[students],
    students_converged=np.ones(students.shape, bool),
    left_out_losses=np.empty((8, 0), np.float32),
    left_out_valid=np.empty((8, 0), bool),
    notes=[],
    seconds={},
  )


def test_by_target_runs_what_can_run(made):
  outcomes = cohort_metrics.by_target(made)
  assert list(outcomes) == ["population", "shadow", "reference", "distillation"]
  assert [len(of_attack) for of_attack in outcomes.values()] == [T, T, T, 1]
  for attack, of_attack in outcomes.items():
    expected = evaluation.evaluate(cohort.evidence(made, 0), attack)
    np.testing.assert_array_equal(of_attack[0].scores, expected.scores)


def test_by_sample_compares_holders_with_the_others(made, monkeypatch):
  monkeypatch.setattr(cohort_metrics, "_BLOCK_SIZE", 7 * M)  # more blocks than one
  for attack in ("reference", "population"):
    found = cohort_metrics.by_sample(made, attack)
    assert found.auc.shape == (U,)
    for i in range(U):
      ok = np.arange(M - 1)
      score = -made.losses[ok, i]
      if attack == "population":
        score = [
          population.score(made.losses[m, [i]], made.population_losses[m])[0]
          for m in ok
        ]
      expected = roc.auc(np.array(score), made.held[ok, i])
      np.testing.assert_allclose(found.auc[i], expected, rtol=1e-6)
    assert np.isnan(found.auc[0])


def test_by_sample_knows_two_attacks(made):
  with pytest.raises(ValueError, match="attack='shadow', expected 'population' or"):
    cohort_metrics.by_sample(made, "shadow")


def test_by_num_models_takes_the_first_ones(made):
  sizes = (2, 5, 7, 100)
  found = cohort_metrics.by_num_models(made, sizes)
  assert list(found) == ["shadow", "reference", "distillation"]
  evidence = cohort.evidence(made, 0)
  first = evidence._replace(
    reference_losses=evidence.reference_losses[:7],
    reference_held=evidence.reference_held[:7],
    reference_population_losses=evidence.reference_population_losses[:7],
    reference_population_held=evidence.reference_population_held[:7],
    distilled_losses=evidence.distilled_losses[:7],
    distilled_held=evidence.distilled_held[:7],
  )
  for attack, auc in found.items():
    assert auc.shape == (T, len(sizes))
    expected = evaluation.evaluate(first, attack).summary["auc"]
    np.testing.assert_allclose(auc[0, 2], expected, rtol=1e-6)
    assert np.isnan(auc[:, 3]).all()
  # Of two references some sample was held by one at least, and has no null.
  assert np.isnan(found["reference"][0, 0])
  assert np.isnan(found["distillation"][1]).all()


def test_by_population_takes_the_first_rows(made):
  found = cohort_metrics.by_population(made, (2, 30, P))
  assert list(found) == ["population", "shadow"]
  evidence = cohort.evidence(made, 1)
  for attack, auc in found.items():
    expected = evaluation.evaluate(evidence, attack).summary["auc"]
    np.testing.assert_allclose(auc[1, 2], expected, rtol=1e-6)
  assert np.isnan(found["shadow"][:, 0]).all()  # two rows, three classes
  expected = population.score(evidence.losses, evidence.population_losses[:30])
  np.testing.assert_allclose(
    found["population"][1, 1], roc.auc(expected, evidence.members), rtol=1e-6
  )


def test_agreement_is_the_share_of_like_decisions(made):
  evidence = cohort.evidence(made, 0)
  names, share = cohort_metrics.agreement(evidence, 0.3)
  assert names == ["ground truth", "shadow", "population", "reference", "distillation"]
  calls = [evidence.members] + [
    evidence.losses <= evaluation.evaluate(evidence, name, alpha=0.3).thresholds
    for name in names[1:]
  ]
  for i, one in enumerate(calls):
    for j, other in enumerate(calls):
      assert share[i, j] == np.mean(one == other)


def test_agreement_is_on_the_left_out_samples_where_there_are_any(made):
  evidence = cohort.evidence(made, 0)
  at = np.array([0, 3, K, K + 4])
  evidence = evidence._replace(
    left_out=at,
    left_out_losses=np.random.default_rng(1).exponential(size=(3, 4)),
    left_out_valid=np.ones((3, 4), bool),
  )
  names, share = cohort_metrics.agreement(evidence, 0.3)
  assert names[:2] == ["ground truth", "leave_one_out"]
  np.testing.assert_array_equal(share * 4, np.round(share * 4))
