"""README's Python runs as it stands, and its facts are those of the code."""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

from absl import flags
import numpy as np
import pytest

from experiments import command_table
from jmia import attacks, audit, datasets
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
  exec(compile(_python_block("RandomForestClassifier"), "README.md", "exec"), {})
  evidence = signals_file.load("signals.npz")
  report = audit.from_evidence(evidence, ("reference", "lira_online")).report
  # Members are answered by trees that have seen them.
  assert all(found["auc_ci"][0] > 0.6 for found in report["attacks"].values())
  assert len(report["attacks"]) == 2


def _pasted(kind, block, folder, **changes):
  """What a block of the page does in a shell, or in Python, in a folder."""
  environment = {
    **os.environ,
    **changes,
    "PYTHONPATH": str(_ROOT),
    "OMP_NUM_THREADS": "1",  # small products are slower by many threads, not faster
    "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
  }
  command = ["bash", "-euc", block] if kind == "bash" else [sys.executable, "-c", block]
  done = subprocess.run(
    command, cwd=folder, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return done


def _making_of_digits():
  data = _README.split("Here scikit-learn's digits stand")[1]
  return data.split("```bash\n")[1].split("jmia data")[0]


def test_round_trip_of_an_owner(tmp_path):
  make_data = _making_of_digits()
  section = _README.split("## Was your data used?")[1].split("\n## ")[0]
  blocks = re.findall(r"```(bash|python)\n(.*?)```", section, flags=re.DOTALL)
  assert [kind for kind, _ in blocks] == ["bash", "python", "bash"]
  for kind, block in [("bash", make_data), *blocks]:
    done = _pasted(kind, block, tmp_path)
  # The last block asks of a model that had the data, and of one that had not.
  assert "the model was trained on the marked data" in done.stdout
  assert "No claim at 95 % confidence" in done.stdout
  table = section.split("The first says\n\n")[1].split("\n\n")[0]
  assert table.split()[:5] == done.stdout.split()[:5]


def test_an_audit_of_private_training(tmp_path):
  section = _README.split("### Does the guarantee hold?")[1].split("## Was your")[0]
  own = section.split("Your own training")[1]
  blocks = re.findall(r"```(bash|python)\n(.*?)```", own, flags=re.DOTALL)
  assert [kind for kind, _ in blocks] == ["bash", "python", "bash"]
  for kind, block in [("bash", _making_of_digits()), *blocks]:
    done = _pasted(kind, block, tmp_path)
  assert "Epsilon 1.00 at delta 1e-05 is contradicted at 95 %: at least" in done.stdout
  (row,) = json.loads((tmp_path / "proved" / "results.json").read_text())["rows"]
  for figure in (row["epsilon_lower"], row["epsilon_most"]):
    assert f"{figure:.2f}" in own


def test_a_watermark_by_a_nonce(tmp_path):
  section = _README.split("## Membership written into a model")[1].split("\n## ")[0]
  (block,) = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
  _pasted("bash", _making_of_digits(), tmp_path)
  # It computes longer than it compiles: with all of LLVM's optimisation.
  said = _pasted("bash", block, tmp_path, XLA_FLAGS="").stdout
  assert (
    "The claim stands at level 0.01 (p = 0.01), provided that the commitment" in said
  )
  assert "assigned by the nonce 'a headline of a later newspaper'" in said
  # The same commitment is printed at first, after the training and with the verdict.
  assert len(set(re.findall(r"\b[0-9a-f]{64}\b", said))) == 1


def _commands():
  """The `jmia` commands of README's blocks, one a line."""
  blocks = "".join(re.findall(r"```bash\n(.*?)```", _README, flags=re.DOTALL))
  lines = blocks.replace("\\\n", " ").splitlines()
  return [line for line in lines if line.startswith("jmia ")]


@pytest.mark.parametrize("line", _commands())
def test_commands_have_the_flags_that_there_are(line):
  _, name, *arguments = shlex.split(line)
  module = importlib.import_module(f"experiments.{command_table.COMMANDS[name].module}")
  known = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)}
  given = [argument for argument in arguments if argument.startswith("--")]
  assert {argument[2:].partition("=")[0] for argument in given} <= known
  assert len(given) == len(arguments) or hasattr(module, "POSITIONAL")


def test_names_every_dataset_and_every_array():
  assert all(f"`{name}`" in _README for name in datasets.names())
  told = importlib.import_module("experiments.audit").__doc__
  assert all(re.search(rf"\b{name}\b", told) for name in signals_file.ARRAYS)


def test_the_picture_is_there_and_small():
  (picture,) = re.findall(r"!\[.+\]\((.+)\)", _README)
  assert (_ROOT / picture).stat().st_size < 150_000


def test_has_the_two_commands_that_ci_runs():
  commands = re.findall(r"^python3 -m venv .*$", _README, flags=re.MULTILINE)
  assert len(commands) == 2
  assert commands[0].endswith("-m experiments.audit --output_dir=audit_report")
  assert commands[1].endswith("-m pytest")
