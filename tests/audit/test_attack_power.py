"""Power by number of references: each row against an audit of the models it names."""

import numpy as np
import pytest

from jmia import audit, types
from jmia.audit import outcome, power, view
from jmia.report import study_plots
from jmia.training import config as config_lib

ATTACKS = ("population", "reference", "rmia_offline", "lira_online")


@pytest.fixture(scope="module")
def panel():
  generator = np.random.default_rng(0)
  x = generator.normal(size=(240, 6)).astype(np.float32)
  y = generator.integers(0, 3, 240).astype(np.int32)
  dataset = types.Dataset("noise", x, y, 3, 240, 1.0, True, "Noise.")
  config = audit.AuditConfig(
    attacks=ATTACKS,
    num_targets=2,
    references="in_out",
    num_members=60,
    num_calibration=0,
    num_references=4,
    train=config_lib.TrainConfig(model="mlp_256_128", num_epochs=30, batch_size=20),
  )
  return power.train(dataset, config)


def test_each_row_is_of_the_first_references_alone(panel):
  rows = power.rows(panel, ATTACKS, [1, 2, 4])
  by_cell = {(row["attack"], row["num_references"]): row for row in rows}
  # An attack on the target alone has one row; two in and two out make a Gaussian each.
  assert set(by_cell) == {
    ("population", 0), ("reference", 4), ("lira_online", 4),
    *(("rmia_offline", size) for size in (1, 2, 4)),
  }  # fmt: skip
  # In each target's view the other target stands before the references.
  for size in (1, 2, 4):
    expected = []
    for target in range(2):
      evidence = view.evidence(panel, target)
      assert evidence.groups["reference"].num_models == 5
      cut = {
        name: group.models(slice(1, 1 + size))
        for name, group in evidence.groups.items()
      }
      of_target = outcome.evaluate(evidence._replace(groups=cut), "rmia_offline")
      expected.append(of_target.summary)
    row = by_cell["rmia_offline", size]
    assert row["auc"] == pytest.approx(np.mean([e["auc"] for e in expected]))
    assert row["num_samples"] == np.mean([e["num_samples"] for e in expected]) // 1
    assert row["auc_ci"][0] <= row["auc"] <= row["auc_ci"][1]
  # One model is out for about half of the samples, and so are the samples it serves.
  assert by_cell["rmia_offline", 1]["num_samples"] < 80
  assert by_cell["rmia_offline", 4]["num_samples"] == 120
  figure = study_plots.power_figure(rows)
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert len(labels) == len(ATTACKS)


def test_copies_and_the_rows_alone_have_curves_of_their_own():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(120, 8, 8, 1)).astype(np.float32)
  y = rng.integers(0, 3, 120).astype(np.int32)
  dataset = types.Dataset("noise", x, y, 3, 120, 1.0, True, "Noise.")
  config = audit.AuditConfig(
    attacks=("calibrated_loss", "rmia_offline"),
    num_members=30,
    num_calibration=0,
    num_references=2,
    num_queries=3,
    train=config_lib.TrainConfig(model="mlp_256_128", num_epochs=2, batch_size=20),
  )
  rows = power.rows(power.train(dataset, config), config.attacks, [2])
  by_curve = {(row["attack"], row["num_queries"]): row["auc"] for row in rows}
  assert set(by_curve) == {
    ("calibrated_loss", 1), ("rmia_offline", 3), ("rmia_offline", 1)
  }  # fmt: skip
  labels = study_plots.power_figure(rows).legends[0].get_texts()
  assert "RMIA, offline, 3 queries" in [label.get_text() for label in labels]


@pytest.fixture
def noise():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 6)).astype(np.float32)
  y = rng.integers(0, 3, 300).astype(np.int32)
  return types.Dataset("noise", x, y, 3, 300, 1.0, True, "Noise.")


def _config(*attacks, **changes):
  train = config_lib.TrainConfig(model="mlp_256_128", num_epochs=2, batch_size=20)
  given = {"num_targets": 2, "num_members": 50, "num_calibration": 0, "train": train}
  return audit.AuditConfig(attacks=attacks, **{**given, **changes})


def test_models_of_each_kind_are_counted_as_they_are(noise):
  attacks = ("reference", "distillation", "lira_online")
  config = _config(*attacks, num_references=4, num_distilled=3)
  panel = power.train(noise, config)
  rows = power.rows(panel, attacks, [2, 8])
  # Of each kind there are fewer than 8, and two in and two out are four.
  assert [(row["attack"], row["num_references"]) for row in rows] == [
    ("reference", 2), ("reference", 4), ("distillation", 2), ("distillation", 3),
    ("lira_online", 4),
  ]  # fmt: skip
  cut = [
    e._replace(groups={"distilled": e.groups["distilled"].first(2)})
    for e in (view.evidence(panel, target) for target in range(2))
  ]
  each = [outcome.evaluate(evidence, "distillation").summary["auc"] for evidence in cut]
  assert rows[2]["auc"] == pytest.approx(np.mean(each))


def test_a_reference_that_diverged_leaves_no_place_to_another_target(panel):
  (block,) = panel.blocks
  fewer = panel._replace(
    blocks=(block._replace(converged=np.arange(len(block.models)) > 0),)
  )
  rows = power.rows(fewer, ["rmia_offline"], [1, 4])
  assert [row["num_references"] for row in rows] == [1, 3]
  expected = []
  for target in range(2):
    evidence = view.evidence(panel, target)
    second = evidence.groups["reference"].models(slice(2, 3))
    cut = evidence._replace(groups={"reference": second})
    expected.append(outcome.evaluate(cut, "rmia_offline").summary["auc"])
  assert rows[0]["auc"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
  ("attack", "sizes", "changes", "message"),
  [
    ("lira_online", [1, 3], {}, "'lira_online' can have no row: a sample needs 2"),
    ("reference", [2], {"references": "in_out"}, "'reference' can have no row: a sa"),
    ("distillation", [1], {}, "needs 0 models trained on it and 2 that were not"),
    ("leave_one_out", [1], {}, "which the first 1 are for none"),
    ("classifier", [4], {"references": "in_out"}, "a reference held, and none did"),
    ("label_only_augment", [4], {}, "have no copies to ask about"),
  ],
)
def test_an_attack_that_can_have_no_row_is_refused(
  noise, attack, sizes, changes, message
):
  config = _config("metric_loss", attack, num_references=4, **changes)
  with pytest.raises(ValueError, match=message):
    power.check(noise, config, sizes)


@pytest.mark.parametrize(
  ("attack", "sizes", "references"),
  [
    ("lira_online", [4], "population"),
    ("lira_online", [4], "in_out"),
    ("reference", [3], "in_out"),
    ("distillation", [2], "population"),
    ("leave_one_out", [2], "population"),
    ("classifier", [1], "population"),
    ("label_only_noise", [1], "population"),
  ],
)
def test_an_attack_that_can_have_a_row_is_not(noise, attack, sizes, references):
  power.check(noise, _config(attack, num_references=4, references=references), sizes)


def test_no_row_at_all_is_said(panel):
  with pytest.raises(ValueError, match="too few models for any of the attacks"):
    power.rows(panel, ["lira_online"], [1])
