"""An attack in a file of the user's own, in the binaries' help and results."""

import json
import sys

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from experiments import attack_flags, audit, classic_mia, enhanced_mia, launch
from jmia import attacks

_FILE = """
import numpy as np
from jmia import attacks

attacks.register(attacks.Attack(
  name="negated_entropy", title="Negated entropy", attacker="who tests the seam",
  explanation="Scores by how concentrated the answer is.", source="nobody",
  needs=attacks.Needs(signals=("entropy",)),
  score=lambda evidence, *, power=1.0: -(evidence.signals["entropy"] ** power),
))
"""


@pytest.fixture
def own(tmp_path):
  """The flag that makes the attack known."""
  path = tmp_path / "own.py"
  path.write_text(_FILE)
  yield f"--attack_file={path}"
  if "negated_entropy" in attacks.names():
    attacks.unregister("negated_entropy")
  attack_flags.describe()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a binary: its exit code, its folder, stdout and stderr."""

  def run(binary, *arguments):
    folder = tmp_path / binary.__name__
    argv = [binary.__name__, "--compilation_cache=", f"--output_dir={folder}"]
    monkeypatch.setattr(sys, "argv", [*argv, *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, folder, *capsys.readouterr()

  return run


def test_the_help_of_three_binaries_knows_it(own):
  assert "negated_entropy" not in flags.FLAGS["attacks"].help
  attack_flags.load_files(["audit", own])
  for binary in (audit, enhanced_mia, classic_mia):
    (flag,) = [
      flag
      for flag in flags.FLAGS.get_key_flags_for_module(binary.__name__)
      if flag.name == "attacks"
    ]
    assert "negated_entropy:power=1.0" in flag.help
  attack_flags.load_files(["audit", own])  # twice does no harm


def test_an_audit_and_a_study_run_it(own, run, tmp_path):
  rng = np.random.default_rng(0)
  np.savez(
    tmp_path / "s.npz", target_logits=rng.normal(size=(60, 3)),
    labels=rng.integers(0, 3, 60), members=np.arange(60) < 30,
  )  # fmt: skip
  wanted = "--attacks=metric_loss,negated_entropy:power=2"
  code, folder, out, err = run(audit, f"--signals={tmp_path / 's.npz'}", wanted, own)
  assert code == 0, err
  report = json.loads((folder / "report.json").read_text())
  assert list(report["attacks"]) == ["metric_loss", "negated_entropy:power=2"]
  assert "Negated entropy, power 2.0" in out
  assert "score_negated_entropy:power=2" in np.load(folder / "scores.npz")

  tiny = ("--networks=mlp", "--num_members=40", "--num_epochs=1")
  code, folder, _, err = run(classic_mia, *tiny, wanted, own)
  assert code == 0, err
  rows = json.loads((folder / "results.json").read_text())["rows"]
  assert [row["attack"] for row in rows] == ["metric_loss", "negated_entropy:power=2"]
  assert rows[0]["accuracy"] is not None
  assert rows[1]["accuracy"] is None  # it has no rule for whom to call a member


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "own.py: no such file"),
    ("1 / 0", "own.py: ZeroDivisionError: division by zero"),
    ("import sys; sys.exit(0)", "own.py: SystemExit: 0"),
    (_FILE.replace("negated_entropy", "shadow"), "attack 'shadow' is registered"),
    ("", "own.py registers no attack: it must call attacks.register"),
    (_FILE.replace("attacks.register(", "made = ("), "own.py registers no attack"),
  ],
)
def test_a_file_that_is_none_is_one_line(run, tmp_path, content, message):
  path = tmp_path / "own.py"
  if content is not None:
    path.write_text(content)
  code, folder, out, err = run(audit, f"--attack_file={path}")
  assert (code, out) == (2, "")
  assert message in err.splitlines()[-1]
  assert len(err.splitlines()) == 1
  assert not folder.exists()
