import dataclasses

import numpy as np
import pytest

from jmia import cohort, datasets, evaluation, splits, types
from jmia.training import config as config_lib
from jmia.training import distillation, optimizers

DATASET = datasets.load("digits")
M, T, K, P, S, Q, L = 6, 2, 100, 200, 3, 5, 2
TRAIN = config_lib.TrainConfig(
  model="mlp",
  model_options=(("features", (32,)),),
  optimizer=optimizers.OptimizerConfig(learning_rate=0.1),
  batch_size=50,
  num_epochs=25,
)
CONFIG = cohort.CohortConfig(
  num_models=M,
  num_targets=T,
  num_members=K,
  num_population=P,
  num_distilled_targets=1,
  num_students=S,
  num_left_out=Q,
  num_retrained=L,
  train=TRAIN,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A cohort, and jobs, data and result of each of its runs."""
  runs, run = {}, cohort.parallel.run

  def watch(recipe, key, jobs, data, **kwargs):
    result = run(recipe, key, jobs, data, **kwargs)
    runs[kwargs["checkpoint_dir"].name] = jobs, data, result
    return result

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(cohort.parallel, "run", watch)
    folder = tmp_path_factory.mktemp("cohort")
    return cohort.gather(DATASET, CONFIG, checkpoint_dir=folder), runs


def _mask(jobs, num_rows):
  """Which rows of the run's data each model was trained on."""
  assigned = types.Splits(jobs.member_idx, jobs.num_members)
  return splits.member_mask(assigned, num_rows)


def test_every_stage_is_one_run(trained):
  _, runs = trained
  sizes = {name: len(jobs.num_members) for name, (jobs, *_) in runs.items()}
  assert sizes == {
    "targets": T,
    "references": M - T,
    "students": S,
    "left_out": Q // 2 * L + L,
  }


def test_population_rows_are_neither_trained_on_nor_evaluated(trained):
  found, runs = trained
  n = DATASET.num_examples
  for jobs, *_ in runs.values():
    assert not _mask(jobs, n)[:, n - P :].any()
  assert found.samples.max() < n - P
  x, y = runs["references"][1][:2]
  np.testing.assert_array_equal(found.population_labels, y[n - P :])
  # The run's rows are all of the dataset's, each once.
  rows = [np.unique(a.reshape(n, -1), axis=0) for a in (x, DATASET.x)]
  np.testing.assert_array_equal(*rows)
  np.testing.assert_array_equal(DATASET.x[found.rows], x[: len(found.rows)])
  np.testing.assert_array_equal(DATASET.y[found.rows], found.labels)


def test_a_target_is_evaluated_on_its_members_and_as_many_others(trained):
  found, runs = trained
  jobs = runs["targets"][0]
  for target in range(T):
    at = found.samples[target]
    assert len(set(at)) == 2 * K
    assert set(at[:K]) == set(jobs.member_idx[target])
    evidence = cohort.evidence(found, target)
    np.testing.assert_array_equal(evidence.members, np.arange(2 * K) < K)
    np.testing.assert_array_equal(evidence.index, found.rows[at])
    assert evidence.correct[:K].mean() > evidence.correct[K:].mean() > 0.5
    assert evidence.losses[:K].mean() < evidence.losses[K:].mean()


def test_held_says_who_was_trained_on_what(trained):
  found, runs = trained
  num_rows = len(found.rows)
  masks = [_mask(runs[name][0], DATASET.num_examples) for name in runs][:2]
  np.testing.assert_array_equal(found.held, np.concatenate(masks)[:, :num_rows])


def test_a_targets_references_are_all_others_but_never_itself(trained):
  found, _ = trained
  for target in range(T):
    evidence, at = cohort.evidence(found, target), found.samples[target]
    others = np.delete(np.arange(M), target)
    np.testing.assert_array_equal(
      evidence.reference_losses, found.losses[others][:, at]
    )
    np.testing.assert_array_equal(evidence.reference_held, found.held[others][:, at])
    np.testing.assert_array_equal(
      evidence.reference_population_losses, found.population_losses[others]
    )
    assert not evidence.reference_population_held.any()


def test_losses_are_of_the_rows_they_are_said_to_be_of(trained):
  found, runs = trained
  at_evaluated, at_population = runs["references"][2].collected
  np.testing.assert_array_equal(found.losses[T:], at_evaluated)
  np.testing.assert_array_equal(found.population_losses[T:], at_population)
  # Targets go another way to their losses. Those of a model are lowest where it learnt.
  for losses, held in zip(found.losses, found.held, strict=True):
    assert losses[held].mean() < losses[~held].mean()


def test_students_learn_from_their_target_on_the_others_rows(trained):
  found, runs = trained
  jobs, data, result = runs["students"]
  assert isinstance(data, distillation.Data)
  np.testing.assert_array_equal(jobs.teacher, 0)
  np.testing.assert_array_equal(found.students, [[3, 4, 5]])
  np.testing.assert_array_equal(jobs.member_idx, runs["references"][0].member_idx[1:])
  assert data.teacher_logits.shape == (1, DATASET.num_examples - P, 10)
  evidence, at = cohort.evidence(found, 0), found.samples[0]
  np.testing.assert_array_equal(evidence.distilled_losses, result.collected[:, at])
  np.testing.assert_array_equal(evidence.distilled_held, found.held[3:][:, at])
  assert cohort.evidence(found, 1).distilled_losses is None
  # The teacher's answers on the rows that are evaluated are those it is attacked by.
  right = data.teacher_logits[0, at].argmax(-1) == evidence.labels
  np.testing.assert_array_equal(right, evidence.correct)


def test_left_out_models_lack_their_sample_and_no_other(trained):
  found, runs = trained
  jobs, _, result = runs["left_out"]
  mask = _mask(jobs, DATASET.num_examples)
  evidence, at = cohort.evidence(found, 0), found.samples[0]
  np.testing.assert_array_equal(evidence.left_out, [0, 1, K, K + 1, K + 2])
  assert evidence.left_out_losses.shape == (L, Q)
  for q, sample in enumerate(at[evidence.left_out]):
    first = min(q, Q // 2) * L
    for model in range(L):
      assert not mask[first + model, sample]
      assert mask[first + model].sum() == (K - 1 if q < Q // 2 else K)
      loss = result.collected[first + model, sample]
      assert evidence.left_out_losses[model, q] == loss
  assert cohort.evidence(found, 1).left_out is None


def test_evidence_of_other_samples(trained):
  found, _ = trained
  at = found.samples[1][[0, K]]
  evidence = cohort.evidence(found, 0, at)
  np.testing.assert_array_equal(evidence.members, found.held[0, at])
  np.testing.assert_array_equal(evidence.losses, found.losses[0, at])
  assert evidence.left_out is None


def test_every_attack_runs(trained):
  evidence = cohort.evidence(trained[0], 0)
  assert evaluation.lacking(evidence, evaluation.ATTACKS) == {}
  for attack in ("population", "shadow"):
    assert 0.5 < evaluation.evaluate(evidence, attack).summary["auc"] < 1


def test_models_that_diverged_are_left_out(trained):
  found, _ = trained
  converged = np.arange(M) != 4
  bad = found._replace(
    converged=converged, students_converged=np.array([[1, 0, 1]], bool)
  )
  evidence = cohort.evidence(bad, 0)
  assert len(evidence.reference_losses) == M - 2
  assert len(evidence.distilled_losses) == len(evidence.distilled_held) == S - 1
  np.testing.assert_array_equal(
    evidence.distilled_held, found.held[[3, 5]][:, found.samples[0]]
  )


def test_a_target_that_diverges_is_named():
  optimizer = optimizers.OptimizerConfig(learning_rate=1e30)
  config = dataclasses.replace(
    CONFIG, train=dataclasses.replace(TRAIN, optimizer=optimizer, num_epochs=1)
  )
  with pytest.raises(ValueError, match=r"target 0 diverged at .* learning_rate=1e\+30"):
    cohort.gather(DATASET, config)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_models": 2, "num_targets": 1}, "num_models=2 must be at least 3"),
    ({"num_targets": 7}, "num_targets=7 must be from 0 to num_models = 6"),
    ({"num_targets": 0}, "num_targets=0 must be a finite number above 0"),
    ({"num_distilled_targets": 3}, "num_distilled_targets=3 .* to num_targets = 2"),
    ({"num_students": 6}, "num_students=6 must be from 2 to num_models - 1 = 5"),
    ({"num_left_out": 201}, "num_left_out=201 must be from 0 to 2 num_members = 200"),
    ({"num_retrained": 1}, "num_retrained=1 must be at least 2"),
  ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **settings)


@pytest.mark.parametrize(("num_population", "left"), [(1600, 197), (2000, 0)])
def test_a_pool_that_is_too_small_is_refused(num_population, left):
  config = dataclasses.replace(CONFIG, num_population=num_population)
  with pytest.raises(ValueError, match=f"leaves a pool of {left} of the 1797 rows"):
    cohort.gather(DATASET, config)
