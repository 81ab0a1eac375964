"""The audit of DP-SGD, from its flags to its file."""

import json
import sys

from absl.testing import flagsaver
import pytest

from experiments import dp_audit as binary
from experiments import launch
from jmia.defenses import dp_sgd
from jmia.dp import audit
from jmia.training import checkpoint

TINY = (
  "--num_runs=12",
  "--num_members=40",
  "--num_epochs=1",
  "--batch_size=20",
  "--delta=1e-3",
  "--width=8",
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs the binary with flags: its exit code, stdout and stderr."""

  def run(*arguments):
    folder = f"--output_dir={tmp_path / 'out'}"
    monkeypatch.setattr(sys, "argv", ["dp_audit", folder, *TINY, *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


@pytest.fixture
def coarse(monkeypatch):
  """A coarse accountant is quick and errs to the safe side, here by less than .001."""
  monkeypatch.setattr(dp_sgd, "_INTERVAL", 0.01)
  dp_sgd._calibrate.cache_clear()
  yield
  dp_sgd._calibrate.cache_clear()  # no other test is to find what it said


@pytest.mark.usefixtures("coarse")
def test_claims_stand_beside_what_is_proved(run, tmp_path, monkeypatch):
  # Stopped on the way, it leaves no result, and goes on.
  save = checkpoint.Store.save_chunk
  saved = []

  def save_and_stop(store, chunk, results):
    save(store, chunk, results)
    saved.append(chunk)
    if len(saved) == 4:  # of the second mechanism
      raise KeyboardInterrupt

  flags = ("--claimed_epsilon=2,inf",)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.Store, "save_chunk", save_and_stop)
    code, out, err = run(*flags)
  assert (code, out) == (130, "")
  assert "the same command resumes" in err
  left = sorted(path.name for path in (tmp_path / "out").iterdir())
  assert left == [".jmia-run.json", "checkpoints"]
  code, out, err = run(*flags)
  assert code == 0, err
  content = json.loads((tmp_path / "out" / "results.json").read_text())
  rows = content["rows"]
  assert [(r["claimed_epsilon"] is None, r["control"], r["threat"]) for r in rows] == [
    (is_inf, None, threat) for is_inf in (False, True) for threat in ("final", "steps")
  ]
  claimed = rows[0]["claimed_epsilon"]
  assert 1.9 < claimed <= 2
  assert all(row["epsilon_lower"] >= 0 for row in rows)
  assert len(content["config"]["settings"]) == 2
  assert not (tmp_path / "out" / "checkpoints").exists()
  assert f"Epsilon {claimed:.2f} at delta 0.001 is consistent" in out
  assert "No epsilon is claimed" in out
  assert "independent runs of the mechanism" in out


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--claimed_epsilon=four", "claimed_epsilon=four, expected a number or inf"),
    ("--claimed_epsilon=0", "epsilon=0.0 must be above 0"),
    ("--control=quiet", "unknown control 'quiet'"),
    ("--num_members=1797", "num_members=1797 and 1 canaries of kind natural exceed"),
  ],
)
def test_what_cannot_be_audited_is_one_line(run, tmp_path, flag, message):
  code, _, err = run(flag, "--canary=natural")
  assert (code, err.count("\n")) == (2, 1), err
  assert message in err
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("flags", "model", "options"),
  [
    ((), "mlp", {"features": (32,)}),
    (("--dropout_rate=0.9",), "mlp", {"features": (32,), "dropout_rate": 0.9}),
    (("--model=mlp_256_128",), "mlp_256_128", {}),
    (
      ("--model=mlp_256_128", "--dropout_rate=0.9"),
      "mlp_256_128",
      {"dropout_rate": 0.9},
    ),
  ],
)
def test_another_model_has_widths_of_its_own_and_the_dropout_asked_for(
  run, monkeypatch, flags, model, options
):
  asked = []

  def check(dataset, setting):
    asked.append(setting.train)
    raise ValueError("enough")

  monkeypatch.setattr(audit, "check", check)
  run(*flags)
  assert (asked[0].model, dict(asked[0].model_options)) == (model, options)


@pytest.mark.parametrize(
  ("p_values", "shown"),
  [([0.3], "0.3"), ([0.8, 0.9, 1e-9, 0.7], "4e-09"), ([0.8, 0.9], "1"), ([None], "–")],
)
def test_of_several_runs_one_p_value_is_of_all(p_values, shown):
  row = {
    "claimed_epsilon": 1.0, "control": None, "threat": "final", "canary": "gradient",
    "start": "blank", "epsilon_lower": 0.1, "epsilon_lower_gaussian": 0.2,
    "contradicted": None,
  }  # fmt: skip
  header, line = binary._table([{**row, "p_value": one} for one in p_values])
  assert line[header.index("p")] == shown
