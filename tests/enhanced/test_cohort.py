import dataclasses

import numpy as np
import pytest

from jmia import datasets, splits, types
from jmia.audit import others, outcome, trainer, view
from jmia.enhanced import cohort
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
  """A cohort's panel, and jobs, data and result of each of its runs."""
  runs, run = {}, trainer.parallel.run

  def watch(recipe, key, jobs, data, **kwargs):
    result = run(recipe, key, jobs, data, **kwargs)
    runs[kwargs["checkpoint_dir"].name] = jobs, data, result
    return result

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trainer.parallel, "run", watch)
    folder = tmp_path_factory.mktemp("cohort")
    return cohort.train(DATASET, CONFIG, checkpoint_dir=folder), runs


def _mask(jobs, num_rows):
  """Which rows of the run's data each model was trained on."""
  assigned = types.Splits(jobs.member_idx, jobs.num_members)
  return splits.member_mask(assigned, num_rows)


def test_targets_are_one_run_and_all_others_another(trained):
  panel, runs = trained
  sizes = {name: len(jobs.num_members) for name, (jobs, *_) in runs.items()}
  assert sizes == {"targets": T, "others": M - T + S + Q // 2 * L + L}
  roles = panel.design.role.tolist()
  assert roles == (
    ["target"] * T
    + ["reference"] * (M - T)
    + ["distilled"] * S
    + ["left_out"] * (Q // 2 * L + L)
  )


def test_population_rows_are_neither_trained_on_nor_evaluated(trained):
  panel, runs = trained
  n, design = DATASET.num_examples, panel.design
  for jobs, *_ in runs.values():
    assert not _mask(jobs, n)[:, n - P :].any()
  assert design.samples.max() < design.num_evaluated < n - P
  x, y = runs["others"][1][:2]
  np.testing.assert_array_equal(view.evidence(panel, 0).population_labels, y[n - P :])
  # The run's rows are all of the dataset's, each once.
  rows = [np.unique(a.reshape(n, -1), axis=0) for a in (x, DATASET.x)]
  np.testing.assert_array_equal(*rows)
  np.testing.assert_array_equal(DATASET.x[design.rows], x)
  np.testing.assert_array_equal(DATASET.y[design.rows], panel.y)


def test_a_target_is_evaluated_on_its_members_and_as_many_others(trained):
  panel, runs = trained
  jobs = runs["targets"][0]
  for target in range(T):
    at = panel.design.samples[target]
    assert len(set(at)) == 2 * K
    assert set(at[:K]) == set(jobs.member_idx[target])
    evidence = view.evidence(panel, target)
    np.testing.assert_array_equal(evidence.members, np.arange(2 * K) < K)
    np.testing.assert_array_equal(evidence.index, panel.design.rows[at])
    correct, losses = evidence.signals["correctness"], evidence.signals["loss"]
    assert correct[:K].mean() > correct[K:].mean() > 0.5
    assert losses[:K].mean() < losses[K:].mean()


def test_a_targets_references_are_all_others_but_never_itself(trained):
  panel, runs = trained
  masks = [_mask(runs[name][0], DATASET.num_examples) for name in ("targets", "others")]
  held = np.concatenate([masks[0], masks[1][: M - T]])
  collected = runs["others"][2].collected
  for target in range(T):
    evidence, at = view.evidence(panel, target), panel.design.samples[target]
    group = evidence.groups["reference"]
    others = np.delete(np.arange(M), target)
    np.testing.assert_array_equal(group.held, held[others][:, at])
    np.testing.assert_array_equal(group.out, ~held[others][:, at])
    mate = panel.targets[1 - target]
    expected = [mate.signals["loss"][at], *collected[0]["loss"][: M - T, at]]
    np.testing.assert_array_equal(group.signals["loss"], expected)
    expected = [mate.population["loss"], *collected[1]["loss"][: M - T]]
    np.testing.assert_array_equal(group.population["loss"], expected)
    assert not group.population_held.any()
    # They hold some of the samples, so they serve attacks on models in and out too.
    np.testing.assert_array_equal(evidence.groups["in_out"].held, group.held)
    for losses, is_in in zip(group.signals["loss"], group.held, strict=True):
      assert losses[is_in].mean() < losses[~is_in].mean()


def test_students_learn_from_their_target_on_the_others_rows(trained):
  panel, runs = trained
  jobs, data, result = runs["others"]
  assert isinstance(data, distillation.Data)
  students = np.arange(M - T, M - T + S)
  is_student = np.isin(np.arange(len(jobs.teacher)), students)
  np.testing.assert_array_equal(jobs.teacher, np.where(is_student, 0, -1))
  # Of the last models, so that few students are trained on a target's rows.
  np.testing.assert_array_equal(
    jobs.member_idx[students], jobs.member_idx[M - T - S : M - T]
  )
  evidence, at = view.evidence(panel, 0), panel.design.samples[0]
  group = evidence.groups["distilled"]
  np.testing.assert_array_equal(
    group.signals["loss"], result.collected[0]["loss"][students][:, at]
  )
  mask = _mask(jobs, DATASET.num_examples)
  np.testing.assert_array_equal(group.held, mask[students][:, at])
  assert "distilled" not in view.evidence(panel, 1).groups
  # The teacher's answers on the rows that are evaluated are those it is attacked by.
  right = data.teacher_logits[0, at].argmax(-1) == evidence.labels
  np.testing.assert_array_equal(right, evidence.signals["correctness"] > 0)


def test_left_out_models_lack_their_sample_and_no_other(trained):
  panel, runs = trained
  jobs, _, result = runs["others"]
  mask = _mask(jobs, DATASET.num_examples)[M - T + S :]
  losses = result.collected[0]["loss"][M - T + S :]
  evidence, at = view.evidence(panel, 0), panel.design.samples[0]
  group = evidence.groups["left_out"]
  assert group.signals["loss"].shape == (L, 2 * K)
  attacked = np.flatnonzero(group.out.any(axis=0))
  np.testing.assert_array_equal(attacked, [0, 1, K, K + 1, K + 2])
  assert group.out[:, attacked].all()
  assert not group.held.any()
  for q, sample in enumerate(at[attacked]):
    first = min(q, Q // 2) * L
    for model in range(L):
      assert not mask[first + model, sample]
      assert mask[first + model].sum() == (K - 1 if q < Q // 2 else K)
      loss = group.signals["loss"][model, attacked[q]]
      assert loss == losses[first + model, sample]
  assert "left_out" not in view.evidence(panel, 1).groups


def test_evidence_of_other_samples(trained):
  panel, _ = trained
  at = panel.design.samples[1][[0, K]]
  evidence = view.evidence(panel, 0, at=at)
  held = splits.member_mask(panel.design.members, DATASET.num_examples)
  np.testing.assert_array_equal(evidence.members, held[0, at])
  expected = panel.targets[0].signals["loss"][at]
  np.testing.assert_array_equal(evidence.signals["loss"], expected)


def test_every_attack_runs(trained):
  evidence = view.evidence(trained[0], 0)
  assert outcome.lacking(evidence, cohort.ATTACKS) == {}
  for attack in ("population", "shadow"):
    assert 0.5 < outcome.evaluate(evidence, attack).summary["auc"] < 1


def test_models_that_diverged_are_left_out(trained):
  panel, _ = trained
  (block,) = panel.blocks
  bad = block.converged.copy()
  bad[[1, M - T + 1]] = False  # a reference and a student
  spoilt = panel._replace(blocks=(block._replace(converged=bad),))
  whole, less = (view.evidence(p, 0).groups for p in (panel, spoilt))
  assert less["reference"].num_models == M - 2
  kept = np.arange(M - 1) != 2  # after the other target
  np.testing.assert_array_equal(
    less["reference"].signals["loss"], whole["reference"].signals["loss"][kept]
  )
  np.testing.assert_array_equal(less["distilled"].held, whole["distilled"].held[[0, 2]])


def test_models_that_would_be_asked_much_in_vain_have_runs_of_their_own(monkeypatch):
  runs, run = {}, trainer.parallel.run

  def watch(recipe, key, jobs, data, **kwargs):
    result = run(recipe, key, jobs, data, **kwargs)
    runs[kwargs["config"]["dataset"], len(runs)] = jobs, result.collected
    return result

  monkeypatch.setattr(trainer.parallel, "run", watch)
  monkeypatch.setattr(others, "_MOST_IN_VAIN", 0)
  short = dataclasses.replace(TRAIN, num_epochs=2)
  panel = cohort.train(DATASET, dataclasses.replace(CONFIG, train=short))
  _, references, students, left_out = runs.values()
  u = panel.design.num_evaluated
  shapes = [
    [{name: a.shape for name, a in part.items()} for part in collected[:2]]
    for _, collected in (references, students, left_out)
  ]
  assert shapes == [
    [{"loss": (M - T, u)}, {"loss": (M - T, P)}],
    [{"loss": (S, u)}, {}],
    [{"loss": (Q // 2 * L + L, Q)}, {}],
  ]
  assert not hasattr(references[0], "teacher")
  assert set(panel.seconds) == {
    "targets", "signals", "others", "others_1", "others_2",
  }  # fmt: skip
  evidence, at = view.evidence(panel, 0), panel.design.samples[0]
  for name, losses in (("reference", references), ("distilled", students)):
    expected = losses[1][0]["loss"][:, at]
    found = evidence.groups[name].signals["loss"][-len(expected) :]
    np.testing.assert_array_equal(found, expected)
  group = evidence.groups["left_out"]
  attacked = np.flatnonzero(group.out.any(axis=0))
  assert len(attacked) == Q
  np.testing.assert_array_equal(
    group.signals["loss"][:, attacked[0]], left_out[1][0]["loss"][:L, at[attacked[0]]]
  )


def test_a_target_that_diverges_is_named():
  optimizer = optimizers.OptimizerConfig(learning_rate=1e30)
  config = dataclasses.replace(
    CONFIG, train=dataclasses.replace(TRAIN, optimizer=optimizer, num_epochs=1)
  )
  with pytest.raises(ValueError, match=r"target 0 diverged at .* learning_rate=1e\+30"):
    cohort.train(DATASET, config)


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
    cohort.train(DATASET, config)
