"""The binary of the classic attacks' studies, from its flags to its files."""

import json
import sys

from absl.testing import flagsaver
import numpy as np
import pytest

from experiments import classic_mia as binary
from experiments import launch

TINY = (
  "--networks=mlp",
  "--num_members=60",
  "--num_epochs=4",
  "--classic_attacks=correctness,metric_loss",
)
KEYS = {
  "dataset", "shadow_dataset", "model", "shadow_model", "defense", "aware", "trial",
  "attack", "auc", "auc_ci", "accuracy", "accuracy_ci", "epsilon_lower", "tpr_at_fpr",
  "tpr_at_fpr_ci", "train_accuracy", "test_accuracy", "gap", "num_members",
  "num_nonmembers", "num_shadows", "epsilon", "delta", "paper_auc",
}  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys, cache, tmp_path):
  """Runs the binary with flags: its exit code, its results if any, stdout, stderr."""

  def run(*arguments):
    folder = tmp_path / "results"
    argv = ["classic_mia", cache, f"--output_dir={folder}", *TINY, *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    file = folder / "results.json"
    content = json.loads(file.read_text()) if file.exists() else None
    return stopped.value.code or 0, content, *capsys.readouterr()

  return run


def test_metrics_writes_a_row_for_each_trial_and_attack(run, tmp_path):
  code, content, out, _ = run("--num_trials=2")
  assert code == 0
  names = sorted(path.name for path in (tmp_path / "results").iterdir())
  assert names == [".jmia-run.json", "results.json", "roc_mlp.png"]
  rows = content["rows"]
  assert [(row["trial"], row["attack"]) for row in rows] == [
    (trial, attack) for trial in (0, 1) for attack in ("correctness", "metric_loss")
  ]
  for row in rows:
    assert set(row) == KEYS
    assert row["num_members"] == row["num_nonmembers"] == 60
    assert row["auc_ci"][0] <= row["auc"] <= row["auc_ci"][1]
    if row["attack"] == "correctness":
      np.testing.assert_allclose(row["accuracy"], (1 + row["gap"]) / 2)
  assert content["config"]["study"] == "metrics"
  heading, _, header, *_ = out.splitlines()
  assert heading == "digits: target mlp, defence none, members 60"
  assert header.split()[:3] == ["trial", "attack", "AUC"]
  assert out.count("metric_loss") == 2


def test_gap_fits_a_line_over_sizes_and_epochs(run, tmp_path):
  code, content, _, _ = run("--study=gap", "--sizes=60,30", "--epochs=4")
  assert code == 0
  assert (tmp_path / "results" / "gap.png").exists()
  assert [(row["num_members"], row["num_epochs"]) for row in content["rows"][::2]] == [
    (60, 4), (30, 4),
  ]  # fmt: skip
  line = content["summary"]["accuracy of correctness = a + b gap"]
  # The attack's accuracy is (1 + g) / 2: the line is exact.
  np.testing.assert_allclose([line["a"], line["b"]], 0.5, atol=1e-6)


def test_defences_are_compared_with_none(run, tmp_path):
  code, content, out, _ = run(
    "--study=defenses", "--defenses=top_k:1+temperature:2,label_only"
  )
  assert code == 0
  assert (tmp_path / "results" / "defenses.png").exists()
  table = out.split("\n\n")[1].splitlines()
  assert table[0].split()[:4] == ["defence", "strongest", "attack", "AUC"]
  assert [line.split()[0] for line in table[2:]] == [
    "none", "top_k:1+temperature:2", "label_only",
  ]  # fmt: skip
  defenses = [row["defense"] for row in content["rows"][::2]]
  assert defenses == ["none", "top_k:1+temperature:2", "label_only"]
  by_label = content["rows"][-1]
  # Of the label alone the loss says no more than whether it is right.
  np.testing.assert_allclose(by_label["auc"], content["rows"][-2]["auc"])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--study=metric"], "study=metric, expected one of metrics,"),
    (["--networks=vgg"], "networks holds 'vgg', expected some of cnn,mlp for digits"),
    (["--classic_attacks=loss"], "unknown attack 'loss'"),
    (["--study=defenses", "--defenses=topk"], "unknown defense 'topk'"),
    (["--study=gap", "--epochs=4,x"], "epochs=4,x, expected whole numbers"),
    (["--study=transfer_data"], "--shadow_dataset must name the other dataset"),
    (
      ["--study=transfer_data", "--shadow_dataset=digits"],
      "shadow_dataset=digits is the target's own",
    ),
    (["--num_members=900"], "num_members=900 in 4 parts"),
  ],
)
def test_bad_input_is_named_and_leaves_nothing(run, tmp_path, arguments, message):
  code, content, _, err = run(*arguments)
  assert (code, content) == (2, None)
  assert message in err
  assert not (tmp_path / "results").exists()
