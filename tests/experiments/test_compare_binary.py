"""The comparison's binary, from folders of audits to its files."""

import csv
import json
import os
import sys

from absl.testing import flagsaver
import browser
import numpy as np
import pytest

from experiments import compare as binary
from experiments import launch, runs
from jmia.audit import comparison_files


@pytest.fixture
def run(monkeypatch, capsys):
  def run(*arguments):
    monkeypatch.setattr(sys, "argv", ["compare", "--compilation_cache=", *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


def _audit(folder, seed, shift):
  """An audit's folder: one attack on 200 samples, half of them members."""
  rng = np.random.default_rng(seed)
  members = np.arange(200) < 100
  score = rng.normal(size=200) + shift * members
  entry = {"auc": 0.5 + shift / 10, "auc_ci": [0.4 + shift / 10, 0.6 + shift / 10]}
  entry |= {"accuracy": 0.6, "tpr_at_fpr": {"0.1": 0.2}}
  entry |= {"tpr_at_fpr_ci": {"0.1": [0.1, 0.3]}}
  report = {
    "attacks": {"reference": entry},
    "config": {"defenses": [f"l2:{seed}"]},
    "target": {
      "train_accuracy": 1.0,
      "test_accuracy": 0.9,
      "num_members": 100,
      "num_nonmembers": 100,
    },
  }
  folder.mkdir()
  (folder / "report.json").write_text(json.dumps(report))
  arrays = {"index": np.arange(200), "members": members, "labels": np.arange(200) % 3}
  np.savez(folder / "scores.npz", **arrays, score_reference=score)
  return str(folder)


def test_it_leaves_a_page_and_says_the_verdict(run, tmp_path):
  plain, less = _audit(tmp_path / "plain", 0, 3.0), _audit(tmp_path / "less", 1, 0.0)
  code, out, err = run(plain, less, f"--output_dir={tmp_path / 'out'}")
  assert (code, err) == (0, "")
  assert out.startswith("less leaks less than plain: the largest AUC of any attack is")
  assert sorted(os.listdir(tmp_path / "out")) == sorted(
    [runs.RECORD, *comparison_files.FILES]
  )
  page = (tmp_path / "out" / "comparison.html").read_text()
  assert "less leaks less than plain" in page
  assert "l2:1" in page  # in what their settings differ
  assert "<script" not in page
  with (tmp_path / "out" / "changes.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 200
  assert sorted(int(row["rank_plain"]) for row in rows) == list(range(1, 201))
  found = json.loads((tmp_path / "out" / "comparison.json").read_text())
  assert found["comparisons"][0]["kind"] == "less"


def test_another_comparison_is_not_overwritten(run, tmp_path):
  audits = [_audit(tmp_path / name, n, 3.0 - n) for n, name in enumerate("abc")]
  to = f"--output_dir={tmp_path / 'out'}"
  code, said, _ = run(*audits[:2], to)
  assert code == 0
  before = (tmp_path / "out" / "comparison.json").read_bytes()
  code, out, err = run(audits[0], audits[2], to)
  assert (code, out) == (2, "")
  assert "holds finished results of another command (--audits " in err
  assert "take another folder, or --restart to replace them" in err
  assert (tmp_path / "out" / "comparison.json").read_bytes() == before
  code, out, err = run(*audits[:2], to)  # the same one is shown
  assert (code, out) == (0, said)
  assert "holds this command's finished results" in err
  (tmp_path / "b" / "report.json").touch()
  code, _, err = run(*audits[:2], to)
  assert code == 2
  assert f"{audits[1]} was changed" in err
  assert run(audits[0], audits[2], to, "--restart")[0] == 0
  assert (tmp_path / "out" / "comparison.json").read_bytes() != before


def test_a_comparison_of_an_unknown_command_is_not_overwritten(run, tmp_path):
  audits = [_audit(tmp_path / name, n, 3.0 - n) for n, name in enumerate("ab")]
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "comparison.json").write_text("{}")
  code, out, err = run(*audits, f"--output_dir={tmp_path / 'out'}")
  assert (code, out) == (2, "")
  assert "holds comparison.json, of an unknown command" in err


@browser.needed
def test_its_page_fits_a_telephone(run, tmp_path):
  audits = [_audit(tmp_path / name, n, 3.0 - n) for n, name in enumerate("abc")]
  assert run(*audits, f"--output_dir={tmp_path / 'out'}")[0] == 0
  page = (tmp_path / "out" / "comparison.html").read_text()
  browser.check(page, tmp_path, width=400)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["a"], "1 audits were given, expected two at least"),
    (["a", "a"], "names=a,a are not all different"),
    (["a", "b", "--names=x"], "names has 1 entries for 2 audits"),
    (["a", "absent"], "holds no report.json"),
    ([], "0 audits were given"),
  ],
)
def test_what_cannot_be_compared_is_one_line(
  run, tmp_path, monkeypatch, arguments, message
):
  _audit(tmp_path / "a", 0, 1.0)
  _audit(tmp_path / "b", 1, 1.0)
  monkeypatch.chdir(tmp_path)
  code, out, err = run(*arguments, "--output_dir=out")
  assert (code, out) == (2, "")
  (line,) = err.splitlines()
  assert line.startswith("compare: ")
  assert message in line
  assert sorted(os.listdir(tmp_path)) == ["a", "b"]
