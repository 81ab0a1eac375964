"""The binary that repeats Ye et al., cut down to seconds, from flags to files."""

import dataclasses
import json
import os
import sys

from absl.testing import flagsaver
import pytest

from experiments import enhanced_mia as binary
from experiments import launch
from jmia import datasets, models
from jmia.enhanced import configs

FIGURES = [
  "auc_by_size.png",
  "differences.png",
  "null_losses.png",
  "roc.png",
  "sample_auc.png",
]
ROW = {
  *("config", "attack", "auc", "auc_ci", "paper_auc", "num_models", "num_targets"),
  *("train_accuracy", "test_accuracy"),
}
ATTACKS = ["population", "shadow", "reference", "distillation", "leave_one_out"]
# purchase100_1 with a small network, for digits.
_FULL = configs.CONFIGS["purchase100_1"]
TINY = dataclasses.replace(
  _FULL,
  num_members=150,
  population_per_class=20,
  train=dataclasses.replace(_FULL.train, model="mlp_256_128", num_epochs=30),
)
FLAGS = (
  "--config=tiny",
  "--dataset=digits",
  "--num_models=15",
  "--num_targets=3",
  "--width=3",
)


@pytest.fixture(scope="module")
def run(cache):
  """Runs the binary with flags: its exit code."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(configs.CONFIGS, "tiny", TINY)

    def run(*arguments):
      patch.setattr(sys, "argv", ["enhanced_mia", cache, *arguments])
      with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
        launch.run(binary.main)
      return stopped.value.code or 0

    yield run


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
  """What a run with every attack leaves."""
  folder = tmp_path_factory.mktemp("enhanced") / "results"
  points = ("--agreement_points=4", "--models_per_point=2")
  assert run(*FLAGS, *points, f"--output_dir={folder}") == 0
  return folder


@pytest.fixture(scope="module")
def content(folder):
  return json.loads((folder / "results.json").read_text())


def test_the_files(folder):
  assert sorted(os.listdir(folder)) == sorted(
    [".jmia-run.json", *FIGURES, "results.json"]
  )
  for name in FIGURES:
    assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_the_contracts_rows(content):
  assert content["schema"] == 1
  assert [row["attack"] for row in content["rows"]] == ATTACKS
  for row in content["rows"]:
    assert row.keys() >= ROW
    assert (row["config"], row["dataset"]) == ("tiny", "digits")
    assert row["num_models"] == 15
    assert row["num_targets"] == (1 if row["attack"] == "leave_one_out" else 3)
    assert row["auc_ci"][0] <= row["auc"] <= row["auc_ci"][1]
    assert len(row["auc_by_target"]) == row["num_targets"]
    assert row["test_accuracy"] < row["train_accuracy"] <= 1
  paper = {row["attack"]: row["paper_auc"] for row in content["rows"]}
  assert paper["distillation"] == 0.876
  assert paper["leave_one_out"] is None


def test_the_papers_order(content):
  auc = {row["attack"]: row["auc"] for row in content["rows"]}
  assert auc["distillation"] > auc["reference"] > auc["population"]
  # Of 3 targets of 300 samples each an AUC is known to some .02.
  assert auc["population"] >= auc["shadow"] - 0.04
  assert auc["distillation"] - auc["population"] >= 0.03


def test_the_settings_and_the_kind_of_data_are_recorded(content):
  config = content["config"]
  assert (config["num_members"], config["num_population"]) == (150, 200)
  assert config["num_students"] == 14
  assert config["train"]["num_epochs"] == 30
  assert "digits" in content["notes"][0]
  stages = {"targets", "others", "signals"}
  assert content["seconds"].keys() == {*stages, "attacks", "total"}


def test_agreement_of_the_attacks(content):
  agreement = content["agreement"]
  assert agreement["alpha"] == 0.3
  assert agreement["num_samples"] == 4
  assert agreement["attacks"][:2] == ["ground truth", "leave_one_out"]
  for i, row in enumerate(agreement["share"]):
    assert row[i] == 1
    assert all(0 <= share <= 1 for share in row)


def test_the_most_exposed_samples(content):
  samples = content["exposed_samples"]
  assert samples
  for sample in samples:
    assert sample["num_holding"] >= 3
    assert sample["auc_ci"][0] <= sample["auc"] <= sample["auc_ci"][1]
  lows = [sample["auc_ci"][0] for sample in samples]
  assert lows == sorted(lows, reverse=True)


def test_a_run_without_students_and_retraining(run, tmp_path, capsys):
  fewer = ("--num_models=8", "--num_targets=1", "--num_students=0")
  assert run(*FLAGS, *fewer, f"--output_dir={tmp_path}") == 0
  content = json.loads((tmp_path / "results.json").read_text())
  assert [row["attack"] for row in content["rows"]] == ATTACKS[:3]
  assert {row["auc_ci_of"] for row in content["rows"]} == {"this target's AUC"}
  assert content["agreement"]["num_samples"] == 300
  out = capsys.readouterr().out
  assert "R · reference" in out
  assert f"The results are in {tmp_path / 'results.json'}" in out


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    (("--config=purchase",), "--config=purchase: expected one of purchase100_1, "),
    (("--num_models=2",), "num_models=2 must be at least 3"),
    (("--num_examples=9",), "num_examples=9 was given, but 'digits' has a fixed size"),
    (("--dataset=",), "purchase100 is not in data_dir"),
  ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
  run, arguments, line, tmp_path, capsys, monkeypatch
):
  def absent(*args, **kwargs):
    raise OSError("purchase100 is not in data_dir DIR and cannot be prepared")

  if arguments == ("--dataset=",):
    monkeypatch.setattr(datasets, "load", absent)
  assert run(*FLAGS, f"--output_dir={tmp_path / 'new'}", *arguments) == 2
  err = capsys.readouterr().err
  assert err.startswith(f"enhanced_mia: {line}")
  assert err.count("\n") == 1
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("attack", ["population", "distillation", "lira_offline"])
def test_the_training_can_be_changed_by_flags(run, tmp_path, attack):
  given = (f"--attacks={attack}", "--num_members=50", "--learning_rate=0.2")
  folder = tmp_path / "results"
  assert run(*FLAGS, *given, "--num_epochs=1", f"--output_dir={folder}") == 0
  config = json.loads((folder / "results.json").read_text())["config"]
  assert (config["num_members"], config["train"]["num_epochs"]) == (50, 1)
  assert config["train"]["optimizer"]["learning_rate"] == 0.2


def test_another_configuration_is_another_command(run, folder, capsys):
  given = [*FLAGS[1:], "--agreement_points=4", "--models_per_point=2"]
  assert run("--config=mnist_1", *given, f"--output_dir={folder}") == 2
  assert "--config tiny -> mnist_1" in capsys.readouterr().err


def test_every_configuration_is_complete():
  assert len(configs.CONFIGS.keys() - {"tiny"}) == 11
  for name, config in configs.CONFIGS.items():
    assert config.dataset in datasets.names()
    assert config.train.model in models.names()
    assert list(config.paper_auc) == ["shadow", "population", *ATTACKS[2:4]]
    assert (config.train.clip_norm is not None) == (name == "purchase100_4")
    train, test = config.paper_accuracy
    assert 0 < test < train <= 100
