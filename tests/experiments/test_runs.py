"""A folder of results belongs to one command: resumed, shown, refused, locked."""

import fcntl
import json
import os
import sys

from absl import flags
from absl.testing import flagsaver
import pytest

from experiments import common, runs


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Runs a small binary: its exit code, stdout and stderr."""
  folder = tmp_path / "out"

  def run(*arguments, work=lambda folder: None, show=None):
    def main():
      with common.run_dir(common.OUTPUT_DIR.value, show) as made:
        work(made)
        (made / "results.json").write_text("1")
      print("worked")

    argv = ["tool", "--compilation_cache=", f"--output_dir={folder}", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    # The flags of this test's binary are the shared ones.
    monkeypatch.setattr(
      flags.FlagValues, "get_key_flags_for_module",
      lambda self, module: [self[name] for name in ("seed", "dataset", "restart")],
    )  # fmt: skip
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      common.run(main)
    return stopped.value.code or 0, *capsys.readouterr()

  run.folder = folder
  return run


def _stop(folder):
  (folder / "checkpoints").mkdir(exist_ok=True)
  raise KeyboardInterrupt


def test_finished_results_are_shown_and_not_made_again(run):
  assert run("--seed=3")[:2] == (0, "worked\n")
  code, out, err = run("--seed=3")
  assert (code, out) == (0, f"The results are results.json in {run.folder}\n")
  assert "holds this command's finished results; --restart makes them anew" in err
  code, out, _ = run("--seed=3", show=lambda folder: print("as before"))
  assert (code, out) == (0, "as before\n")
  assert run("--seed=3", "--restart")[1] == "worked\n"


def test_another_command_is_refused_by_its_flags(run):
  run("--seed=3")
  code, out, err = run("--dataset=npz:a.npz")
  assert (code, out) == (2, "")
  assert "finished results of another command" in err
  assert "--dataset (default) -> npz:a.npz; --seed 3 -> (default)" in err
  assert run("--dataset=npz:a.npz", "--restart")[1] == "worked\n"


def test_data_that_changed_are_another_command(run, tmp_path):
  data = tmp_path / "a.npz"
  data.write_bytes(b"1")
  run(f"--dataset=npz:{data}")
  assert run(f"--dataset=npz:{data}")[0] == 0
  data.write_bytes(b"12")
  code, _, err = run(f"--dataset=npz:{data}")
  assert code == 2
  assert f"npz:{data} was changed" in err


def test_an_unfinished_run_is_the_same_commands(run):
  code, _, err = run("--seed=3", work=_stop)
  assert code == 130
  assert "the same command resumes" in err
  code, _, err = run("--seed=4")
  assert code == 2
  assert "an unfinished run of another command (--seed 3 -> 4)" in err
  seen = []
  assert run("--seed=3", work=lambda f: seen.append(os.listdir(f)))[0] == 0
  assert "checkpoints" in seen[0]
  run("--seed=4", "--restart", work=lambda f: seen.append(os.listdir(f)))
  assert "checkpoints" not in seen[1]


def test_what_left_nothing_to_resume_is_nobodys(run):
  def fail(folder):
    raise ValueError("no such thing")

  assert run("--seed=3", work=fail)[0] == 2
  assert not run.folder.exists()
  assert run("--seed=4")[0] == 0


def test_what_a_killed_run_left_half_written_goes(run):
  (run.folder / ".incomplete-7-x").mkdir(parents=True)
  assert run()[0] == 0
  assert sorted(os.listdir(run.folder)) == [runs.RECORD, "results.json"]


def test_after_a_restart_the_command_resumes_without_it(run):
  run("--seed=3")
  code, _, err = run("--seed=3", "--restart", work=_stop)
  assert code == 130
  assert "the same command without --restart resumes" in err


def test_one_run_at_a_time(run):
  run.folder.mkdir()
  descriptor = os.open(run.folder, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  code, _, err = run()
  assert code == 2
  assert "is in use by another run" in err
  os.close(descriptor)  # as when its process dies
  assert run()[0] == 0


def test_a_damaged_record_is_no_record(run):
  run("--seed=3")
  (run.folder / runs.RECORD).write_text("{")
  assert run("--seed=4")[1] == "worked\n"
  record = json.loads((run.folder / runs.RECORD).read_text())
  assert record["flags"] == {"seed": "4"}
  assert record["finished"] is True
