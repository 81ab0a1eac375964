import dataclasses

import numpy as np
import pytest

from jmia import attacks, splits, types
from jmia.audit import panel as panel_lib
from jmia.audit import training as training_lib
from jmia.audit import view
from jmia.classic import settings, studies
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


PLAN = studies.Plan(dataset=DATASET, networks={"mlp": TRAIN}, attacks=("metric_loss",))


def _train(**changes):
  plan = dataclasses.replace(PLAN, **changes)
  (train,) = plan.networks.values()
  return studies._train(plan, "mlp", DATASET, train)


def test_parts_are_disjoint_and_each_model_fits_its_own_members():
  panel = _train(num_shadows=2, num_trials=2, num_members=18)
  (block,), own = panel.blocks, panel.design.own
  logits = block.population["logits"]
  assert logits.shape == (6, 36, 3)
  assert block.converged.all()
  assert panel.chose is None
  correct = logits.argmax(-1) == DATASET.y[own]
  assert correct[:, :18].mean() > correct[:, 18:].mean()
  masks = splits.member_mask(panel.design.members, DATASET.num_examples)
  for trial in range(2):
    rows = own[3 * trial : 3 * trial + 3]
    assert len(np.unique(rows)) == 6 * 18
    for model in range(3):
      members = np.flatnonzero(masks[3 * trial + model])
      np.testing.assert_array_equal(members, np.sort(rows[model, :18]))
    evidence = view.evidence(panel, trial)
    np.testing.assert_array_equal(evidence.labels, DATASET.y[rows[0]])
    np.testing.assert_array_equal(evidence.index, rows[0])
    group = evidence.groups["reference"]
    np.testing.assert_array_equal(group.population_labels, DATASET.y[rows[1:]])


def test_shadow_models_can_be_asked_about_the_targets_rows():
  attacks_chosen = ("metric_loss", "reference")
  panel = _train(num_shadows=2, num_trials=2, num_members=18, attacks=attacks_chosen)
  for trial in range(2):
    group = view.evidence(panel, trial).groups["reference"]
    assert group.signals["loss"].shape == (2, 36)
    assert group.out.all()
    np.testing.assert_array_equal(
      group.signals["loss"],
      panel.blocks[0].signals["loss"][3 * trial + 1 : 3 * trial + 3],
    )
  found = studies.metrics(
    dataclasses.replace(PLAN, num_shadows=2, num_members=18, attacks=attacks_chosen)
  )
  assert [row["attack"] for row in found.rows] == list(attacks_chosen)


def test_what_validated_is_not_evaluated():
  short = {"mlp": config_lib.with_epochs(TRAIN, 2)}
  plan = dataclasses.replace(PLAN, networks=short, num_members=20)
  chosen = (registry.parse("early_stopping:0.2"),)
  panel = studies._train(plan, "mlp", DATASET, short["mlp"], chosen)
  chose = np.take_along_axis(panel.chose, panel.design.own, axis=1)
  np.testing.assert_array_equal(chose[:, :20].sum(axis=-1), 4)
  assert not chose[:, 20:].any()
  assert panel.chose.sum() == chose.sum()
  evidence = view.evidence(panel, 0)
  assert (evidence.members.sum(), len(evidence.members)) == (16, 36)


def test_defences_of_predictions_need_no_training_of_their_own(monkeypatch):
  plan = dataclasses.replace(
    PLAN, networks={"mlp": config_lib.with_epochs(TRAIN, 2)}, num_members=20
  )
  trained = []
  train = training_lib.train

  def counted(design, trainer, *args):
    trained.append(trainer.defenses)
    return train(design, trainer, *args)

  monkeypatch.setattr(training_lib, "train", counted)
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


def test_each_sample_has_models_that_differ_from_others_by_it_alone():
  plan = dataclasses.replace(PLAN, num_members=10)
  design = studies._with_and_without(plan, 10, 3, 2)
  assert design.num_evaluated == 3
  masks = splits.member_mask(design.members, len(design.rows))
  target, *others = (set(np.flatnonzero(mask)) for mask in masks)
  # Two of the three samples are the target's, and its other rows are nobody else's.
  assert target & {0, 1, 2} == {0, 1}
  assert len(target) == 10
  assert len(others) == 2 + 6
  serves = design.serves[1:]
  for i in range(2):
    assert not others[i] & target
    assert serves[i].all()
    for q in range(3):
      model = 2 + 3 * i + q
      assert others[model] - others[i] == {q}
      assert others[i] < others[model]
      np.testing.assert_array_equal(serves[model], np.arange(3) == q)
  assert len(np.unique(design.rows)) == len(design.rows)


def test_the_similarity_attack_compares_with_each_samples_own_models():
  plan = dataclasses.replace(PLAN, num_members=10)
  design = studies._with_and_without(plan, 10, 3, 2)
  rng = np.random.default_rng(0)
  divergences = rng.random((8, 1, 3)).astype(np.float32)
  panel = panel_lib.Panel(
    design=design, y=DATASET.y[design.rows], num_classes=3, seed=0,
    targets=[panel_lib.Target({"loss": np.zeros(3)}, {})], notes=[], seconds={},
    blocks=(
      panel_lib.Block(
        1 + np.arange(8), {"divergence": divergences}, {}, np.ones(8, bool)
      ),
    ),
  )  # fmt: skip
  attack = attacks.get("similarity")
  scores = attack.score(view.evidence(panel, 0))
  without, with_any = divergences[:2, 0], divergences[2:, 0].reshape(2, 3, 3)
  for q in range(3):
    expected = without[:, q].mean() - with_any[:, q, q].mean()
    np.testing.assert_allclose(scores[q], expected, rtol=1e-5)
  # Model 0 without, and model 0 with sample 1, diverged.
  converged = np.ones(8, bool)
  converged[[0, 2 + 1]] = False
  block = panel.blocks[0]._replace(converged=converged)
  scores = attack.score(view.evidence(panel._replace(blocks=(block,)), 0))
  np.testing.assert_allclose(scores[1], without[1, 1] - with_any[1, 1, 1], rtol=1e-5)


def test_a_similarity_study_tells_members_of_a_model_that_learnt_them_by_heart():
  noisy = DATASET._replace(y=np.random.default_rng(1).integers(3, size=120, dtype="i4"))
  plan = dataclasses.replace(
    PLAN, dataset=noisy, networks={"mlp": config_lib.with_epochs(TRAIN, 30)},
    num_members=16, width=21,
  )  # fmt: skip
  found = studies.similarity(plan, 20, 3)
  rows = {row["attack"]: row for row in found.rows}
  assert rows["similarity"]["num_models"] == 3 * 21
  assert "diverged" not in " ".join(found.notes)
  assert rows["similarity"]["num_members"] == 10
  # Labels are noise: a model answers with a sample's label only if it has seen it.
  scores, members = found.curves["mlp"]["similarity"]
  assert scores[members].mean() > scores[~members].mean() + 0.2
  assert rows["metric_loss"]["accuracy"] > 0.5


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
  wide = settings.networks(cifar._replace(name="cifar100", num_classes=100))["mlp"]
  assert dict(wide.model_options)["features"][-1] == 256
  assert list(settings.networks(DATASET)) == ["mlp", "wide_mlp"]


def test_classes_are_cut():
  cut = studies.cut_to_classes(DATASET, 2)
  assert cut.num_classes == 2
  np.testing.assert_array_equal(cut.y, DATASET.y[DATASET.y < 2])
  np.testing.assert_array_equal(cut.x, DATASET.x[DATASET.y < 2])
  assert studies.cut_to_classes(DATASET, 3) is DATASET


def test_a_defence_that_cannot_be_is_refused_before_any_model_is_trained(monkeypatch):
  monkeypatch.setattr(studies, "_train", lambda *args: pytest.fail("it trained"))
  candidates = [(registry.parse("l2:0.1"),), (registry.parse("flip"),)]
  with pytest.raises(ValueError, match="defense 'flip': blobs holds rows of shape"):
    studies.defenses(PLAN, candidates)


@pytest.mark.parametrize("dataset", [DATASET, DATASET._replace(
  x=np.zeros((9, 8, 8, 1), np.uint8))], ids=["table", "images"])  # fmt: skip
def test_default_defences_are_ones(dataset):
  chosen = [registry.parse(text) for text in studies.default_defenses(dataset)]
  assert len({str(one) for one in chosen}) == len(chosen)


@pytest.mark.parametrize(
  ("x", "varied"),
  [
    (np.eye(9, dtype=np.uint8), {"bit_flip"}),
    (np.full((9, 8), 16, np.uint8), set()),
    (np.zeros((9, 8, 8, 1), np.uint8), {"flip", "crop", "cutout", "rand_augment"}),
    (np.full((9, 8, 8, 1), -1.0, np.float32), {"flip", "crop", "cutout"}),
    (np.zeros((9, 8, 3), np.float32), set()),
  ],
)
def test_default_defences_suit_the_rows(x, varied):
  found = studies.default_defenses(DATASET._replace(x=x, feature_scale=1.0))
  names = {registry.parse(text).name for text in found}
  of_rows = {"bit_flip", "flip", "crop", "cutout", "rand_augment"}
  assert names & of_rows == varied


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: _train(num_members=31), "num_members=31 in 4 parts .* exceed the 120"),
    (lambda: dataclasses.replace(PLAN, num_shadows=0), "num_shadows=0"),
    (lambda: studies.similarity(PLAN, 61, 1), "num_samples=61 must be between 2"),
    (
      lambda: studies.similarity(dataclasses.replace(PLAN, num_members=41), 2, 1),
      "num_members=41 is above the population's 38 rows|exceed",
    ),
    (lambda: studies.similarity(PLAN, 2, 0), "num_with=0 must be"),
    (lambda: studies.Plan(dataset=DATASET, networks={}), "networks is empty"),
  ],
)
def test_bad_sizes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize(
  ("attack", "needs"),
  [
    ("similarity", "other models than shadow models"),
    ("lira_online", "other models than shadow models"),
    ("distillation", "other models than shadow models"),
    ("quantile_regression", "the rows' features"),
    ("reference", "num_shadows of at least 2, not 1"),
  ],
)
def test_attacks_that_shadow_models_do_not_serve_are_refused(attack, needs):
  with pytest.raises(
    ValueError, match=f"attacks holds '{attack}', which needs {needs}"
  ):
    dataclasses.replace(PLAN, attacks=(attack,))


def test_every_other_attack_runs_by_itself():
  served = [a for a in attacks.describe() if studies._lacks(a, 2) is None]
  plan = dataclasses.replace(
    PLAN, attacks=tuple(a for a in served if a != "label_only_augment"), num_shadows=2
  )
  found = studies.metrics(plan)
  assert {row["attack"] for row in found.rows} == {*plan.attacks}
