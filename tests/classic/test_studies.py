import numpy as np
import pytest

from jmia import types
from jmia.classic import models, settings, similarity_study, studies
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import optimizers


def _dataset(num=120):
  rng = np.random.default_rng(0)
  y = rng.integers(3, size=num).astype(np.int32)
  x = (rng.normal(0, 1, (3, 6))[y] + rng.normal(0, 1, (num, 6))).astype(np.float32)
  return types.Dataset("blobs", x, y, 3, num, 1.0, True, "Blobs.")


DATASET = _dataset()
TRAIN = config_lib.TrainConfig(
  model="mlp", model_options=(("features", (16,)),), batch_size=8, num_epochs=12,
  optimizer=optimizers.OptimizerConfig(learning_rate=0.2),
)  # fmt: skip


def test_parts_are_disjoint_and_each_model_fits_its_own_members():
  setting = models.Setting(train=TRAIN, num_shadows=2, num_trials=2, num_members=18)
  answers = models.train(DATASET, setting)
  assert answers.logits.shape == (2, 3, 36, 3)
  assert answers.converged.all()
  assert answers.is_evaluated.all()
  assert answers.mechanism is None
  correct = answers.logits.argmax(-1) == answers.labels
  assert correct[..., answers.members].mean() > correct[..., ~answers.members].mean()
  for trial in range(2):
    rows = models._cut(DATASET.num_examples, 18, 3, (0, trial))
    assert len(np.unique(rows)) == 6 * 18
    np.testing.assert_array_equal(answers.labels[trial], DATASET.y[rows.reshape(3, 36)])


def test_what_validated_is_not_evaluated():
  defenses = (registry.parse("early_stopping:0.2"),)
  train = config_lib.with_epochs(TRAIN, 2)
  setting = models.Setting(train=train, num_members=20, defenses=defenses)
  answers = models.train(DATASET, setting)
  kept = answers.is_evaluated
  np.testing.assert_array_equal(kept[..., :20].sum(axis=-1), 16)
  assert kept[..., 20:].all()


def test_defences_of_predictions_need_no_training_of_their_own(monkeypatch):
  plan = studies.Plan(
    dataset=DATASET, networks={"mlp": config_lib.with_epochs(TRAIN, 2)},
    attacks=("metric_loss",), num_members=20,
  )  # fmt: skip
  trained = []
  train = models.train

  def counted(*args, **kwargs):
    trained.append(args[1].defenses)
    return train(*args, **kwargs)

  monkeypatch.setattr(models, "train", counted)
  top, hot, only = map(registry.parse, ("top_k:1", "temperature:5", "label_only"))
  found = studies.defenses(plan, [(top, hot), (only,)])
  assert trained == [()]
  assert [row["defense"] for row in found.rows] == [
    "none", "top_k:1+temperature:5", "label_only",
  ]  # fmt: skip
  utility = {row["test_accuracy"] for row in found.rows}
  assert len(utility) == 1
  # Of the label alone the loss says no more than whether it is right.
  by_label = found.rows[-1]
  np.testing.assert_allclose(by_label["auc"], (1 + by_label["gap"]) / 2, rtol=1e-6)


def test_the_similarity_attack_compares_with_each_samples_own_models():
  # Models 0 and 1 are without; then model i with sample q, in the order of (i, q).
  rng = np.random.default_rng(0)
  divergences = rng.random((2 + 2 * 3, 3))
  scores = similarity_study._scores(divergences, np.ones(8, bool), 2)
  for q in range(3):
    own = (divergences[2 + q, q] + divergences[5 + q, q]) / 2
    np.testing.assert_allclose(scores[q], divergences[:2, q].mean() - own, rtol=1e-6)
  converged = np.ones(8, bool)
  converged[[0, 2 + 1]] = False
  scores = similarity_study._scores(divergences, converged, 2)
  np.testing.assert_allclose(
    scores[1], divergences[1, 1] - divergences[5 + 1, 1], rtol=1e-6
  )


def test_each_sample_has_models_that_differ_from_others_by_it_alone():
  setting = similarity_study.Setting(
    train=TRAIN, num_members=10, num_models=2, num_queries=3
  )
  queries = np.array([0, 1, 2])
  jobs = similarity_study._jobs(np.arange(50, 100), queries, setting)
  rows = [
    set(idx[:num]) for idx, num in zip(jobs.member_idx, jobs.num_members, strict=True)
  ]
  assert len(rows) == 2 + 6
  for i in range(2):
    for q in range(3):
      assert rows[2 + 3 * i + q] - rows[i] == {q}
      assert rows[i] < rows[2 + 3 * i + q]


def test_a_similarity_study_tells_members_of_a_model_that_learnt_them_by_heart():
  setting = similarity_study.Setting(
    train=config_lib.with_epochs(TRAIN, 30), num_members=16, num_queries=20,
    num_models=3, width=21,
  )  # fmt: skip
  noisy = DATASET._replace(y=np.random.default_rng(1).integers(3, size=120, dtype="i4"))
  found = similarity_study.run(noisy, setting)
  assert found.num_models == 3 * 21
  assert found.num_diverged == 0
  assert found.members.sum() == 10
  # Labels are noise: a model answers with a sample's label only if it has seen it.
  assert found.scores[found.members].mean() > found.scores[~found.members].mean() + 0.2


def test_the_reports_figures_and_networks():
  cifar = DATASET._replace(name="cifar10", x=np.zeros((1, 32, 32, 3), np.uint8))
  assert settings.paper_auc(cifar, "cnn", "metric_loss") == 0.7422
  assert settings.paper_auc(cifar, "mlp", "metric_entropy") == 0.7280
  assert settings.paper_auc(cifar, "cnn", "classifier") is None
  assert settings.paper_auc(DATASET, "mlp", "metric_loss") is None
  a1 = cifar._replace(name="folder:a1", num_classes=1000)
  assert settings.paper_auc(a1, "resnet", "metric_confidence") == 0.9962
  assert list(settings.networks(cifar)) == ["cnn", "mlp", "resnet", "alexnet"]
  train = settings.networks(cifar)["mlp"]
  assert (train.model, train.batch_size, train.num_epochs) == ("mlp_report", 128, 50)
  assert train.optimizer.boundaries == (40,)
  assert list(settings.networks(DATASET)) == ["mlp", "wide_mlp"]


def test_classes_are_cut():
  cut = studies.cut_to_classes(DATASET, 2)
  assert cut.num_classes == 2
  np.testing.assert_array_equal(cut.y, DATASET.y[DATASET.y < 2])
  np.testing.assert_array_equal(cut.x, DATASET.x[DATASET.y < 2])
  assert studies.cut_to_classes(DATASET, 3) is DATASET


@pytest.mark.parametrize("dataset", [DATASET, DATASET._replace(
  x=np.zeros((9, 8, 8, 1), np.uint8))], ids=["table", "images"])  # fmt: skip
def test_default_defences_are_ones(dataset):
  chosen = [registry.parse(text) for text in studies.default_defenses(dataset)]
  assert len({str(one) for one in chosen}) == len(chosen)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (
      lambda: models.train(DATASET, models.Setting(train=TRAIN, num_members=31)),
      "num_members=31 in 4 parts .* exceed the 120",
    ),
    (lambda: models.Setting(train=TRAIN, num_shadows=0), "num_shadows=0"),
    (
      lambda: similarity_study.Setting(train=TRAIN, num_members=5, num_queries=11),
      "num_queries=11 must be between 2",
    ),
    (
      lambda: similarity_study.run(
        DATASET, similarity_study.Setting(train=TRAIN, num_members=41, num_queries=2)
      ),
      "num_members=41 is above the population's 38 rows|exceed",
    ),
    (lambda: studies.Plan(dataset=DATASET, networks={}), "networks is empty"),
  ],
)
def test_bad_sizes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
