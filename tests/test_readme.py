"""README's Python runs as it stands, and its facts are those of the code."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from jmia import attacks, datasets
from jmia.audit import files, signals_file

_ROOT = pathlib.Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text()


def _python_block(containing: str, text: str = _README) -> str:
  blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
  (block,) = [b for b in blocks if containing in b]
  return block


def test_engine_example(capsys):
  exec(compile(_python_block("parallel.run"), "README.md", "exec"), {})
  assert capsys.readouterr().out == "(8, 10, 10)\n"


def test_pytorch_example(tmp_path, monkeypatch):
  pytest.importorskip("torch")
  monkeypatch.chdir(tmp_path)
  found = {}
  exec(compile(_python_block("import torch"), "README.md", "exec"), found)
  attacks = found["result"].report["attacks"]
  assert {"population", "shadow", "reference", "distillation"} <= set(attacks)
  assert attacks["distillation"]["auc_ci"][1] > 0.5
  written = {file.name for file in (tmp_path / "pytorch_report").iterdir()}
  assert written == {*files.FILES}


def test_an_attack_of_ones_own(tmp_path, monkeypatch):
  block = _python_block("attacks.register", attacks.__doc__)
  assert len(block.splitlines()) <= 30
  monkeypatch.chdir(tmp_path)
  try:
    exec(compile(block, "README.md", "exec"), {})
  finally:
    attacks.unregister("median_loss")
  folder = tmp_path / "own_attack"
  report = json.loads((folder / "report.json").read_text())
  assert list(report["attacks"]) == ["reference", "median_loss"]
  assert report["attacks"]["median_loss"]["num_models"] == 8
  with np.load(folder / "scores.npz") as scores:
    assert np.isfinite(scores["score_median_loss"]).all()
  assert "Median loss" in (folder / "report.html").read_text()


def test_a_forest_among_forests(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = {}
  exec(compile(_python_block("fit_sklearn"), "README.md", "exec"), found)
  report = found["result"].report
  assert list(report["attacks"]) == ["reference", "lira_offline"]
  # Members are answered by trees that have seen them.
  assert report["attacks"]["lira_offline"]["auc_ci"][0] > 0.6
  assert any("random" in note.lower() for note in report["notes"])
  assert (tmp_path / "forest_report" / "report.html").exists()


def test_round_trip_of_an_owner(tmp_path):
  section = _README.split("## Was your data used?")[1].split("\n## ")[0]
  blocks = re.findall(r"```(bash|python)\n(.*?)```", section, flags=re.DOTALL)
  assert [kind for kind, _ in blocks] == ["bash", "python", "bash"]
  environment = {
    **os.environ,
    "PYTHONPATH": str(_ROOT),
    "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
  }
  for kind, block in blocks:
    command = (
      ["bash", "-euc", block] if kind == "bash" else [sys.executable, "-c", block]
    )
    done = subprocess.run(
      command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
  # The last block asks of a model that had the data, and of one that had not.
  assert "the model was trained on the marked data" in done.stdout
  assert "No claim at 95 % confidence" in done.stdout
  table = section.split("The first says\n\n")[1].split("\n\n")[0]
  assert table.split()[:5] == done.stdout.split()[:5]


def test_names_every_dataset_and_every_array():
  for name in (*datasets.names(), *signals_file.ARRAYS):
    assert f"`{name}`" in _README


def test_has_the_two_commands_that_ci_runs():
  commands = re.findall(r"^python3 -m venv .*$", _README, flags=re.MULTILINE)
  assert len(commands) == 2
  assert commands[0].endswith("-m experiments.audit --output_dir=audit_report")
  assert commands[1].endswith("-m pytest")
