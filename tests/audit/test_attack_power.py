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
