"""A folder of results belongs to one command: resumed, shown, refused, locked."""

import json
import os
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import pytest

from experiments import common_flags, launch, run_folder, runs
from jmia import locks

_SHARED = ("seed", "dataset", "restart", "output_dir")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Runs a small binary: its exit code, stdout and stderr."""
  folder = tmp_path / "out"

  def run(*arguments, work=lambda folder: None, show=None):
    def main():
      with run_folder.run_dir(common_flags.OUTPUT_DIR.value, show) as made:
        work(made)
        (made / "results.json").write_text("1")
      print("worked")

    argv = ["tool", "--compilation_cache=", f"--output_dir={folder}", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    # The flags of this test's binary are the shared ones.
    monkeypatch.setattr(
      flags.FlagValues, "get_key_flags_for_module",
      lambda self, module: [self[name] for name in _SHARED],
    )  # fmt: skip
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(main)
    return stopped.value.code or 0, *capsys.readouterr()

  run.folder = folder
  return run


def _keep(folder):
  """What training leaves: what was asked for, and a chunk of models."""
  stage = folder / "checkpoints" / "others"
  stage.mkdir(parents=True, exist_ok=True)
  (stage / "run.json").write_text("{}")
  (stage / "chunk_00000.npz").write_text("1")


def _stop(folder):
  _keep(folder)
  raise KeyboardInterrupt


def _record(run):
  return json.loads((run.folder / runs.RECORD).read_text())


def test_finished_results_are_shown_and_not_made_again(run):
  assert run("--seed=3")[:2] == (0, "worked\n")
  code, out, err = run("--seed=3")
  assert (code, out) == (0, f"The results are results.json in {run.folder}\n")
  assert "holds this command's finished results; --restart makes them anew" in err
  code, out, _ = run("--seed=3", show=lambda folder: print("as before"))
  assert (code, out) == (0, "as before\n")
  assert run("--seed=3", "--restart")[1] == "worked\n"


def test_finished_results_of_which_a_file_has_gone_are_not_shown(run):
  def work(folder):
    (folder / "report.html").write_text("a page")

  assert run("--seed=3", work=work)[0] == 0
  (run.folder / "mine.txt").write_text("of no matter")
  assert run("--seed=3")[1].startswith("The results are mine.txt, report.html")
  (run.folder / "mine.txt").unlink()
  assert run("--seed=3")[0] == 0
  (run.folder / "report.html").unlink()
  code, out, err = run("--seed=3")
  assert (code, out) == (2, "")
  assert err == (
    f"tool: output_dir={run.folder} holds this command's finished results, but"
    " report.html is gone: --restart makes all of them anew\n"
  )
  assert run("--seed=3", "--restart", work=work)[:2] == (0, "worked\n")
  assert run("--seed=3")[0] == 0


def test_a_record_of_a_version_that_named_no_files_serves(run):
  run("--seed=3")
  record = _record(run)
  del record["files"]
  (run.folder / runs.RECORD).write_text(json.dumps(record))
  assert run("--seed=3")[:2] == (0, f"The results are results.json in {run.folder}\n")


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


def test_only_stages_that_hold_work_are_resumed(run):
  run("--seed=3", work=_stop)
  (run.folder / "checkpoints" / "target").mkdir()
  (run.folder / "checkpoints" / "target" / "run.json").write_text("{}")
  seen = []
  run("--seed=3", work=lambda folder: seen.append(run_folder._resumed))
  assert seen == [{"others"}]


def test_what_left_nothing_to_resume_is_nobodys(run):
  assert run("--seed=3", work=_fail)[0] == 2
  assert not run.folder.exists()
  assert run("--seed=4")[0] == 0


def test_an_interruption_before_anything_is_kept_promises_nothing(run):
  def stop(folder):
    _keep(folder)
    (folder / "checkpoints" / "others" / "chunk_00000.npz").unlink()
    (folder / "checkpoints" / "others" / ".chunk_00000.npz.7-ab.partial").write_text(
      "half"
    )
    raise KeyboardInterrupt

  code, _, err = run("--seed=3", work=stop)
  assert (code, err) == (130, "tool: interrupted\n")
  assert not run.folder.exists()
  assert run("--seed=4")[0] == 0


def test_what_a_killed_run_left_half_written_goes(run):
  (run.folder / ".incomplete-7-x").mkdir(parents=True)
  (run.folder / ".results.json.7-ab.partial").write_text("half")
  (run.folder / ".mine.partial").write_text("whole")
  assert run()[0] == 0
  left = sorted(os.listdir(run.folder))
  assert left == [runs.RECORD, ".mine.partial", "results.json"]


def test_checkpoints_go_when_the_results_are_there(run):
  assert run(work=_keep)[0] == 0
  assert sorted(os.listdir(run.folder)) == [runs.RECORD, "results.json"]


def test_a_run_that_is_killed_as_it_finishes_trains_nothing_again(run, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(runs, "remove_checkpoints", lambda folder: None)
    run("--seed=3", work=_keep)
  assert _record(run)["finished"] is True
  assert runs.is_resumed(run.folder)
  code, out, _ = run("--seed=3")
  assert (code, out) == (0, f"The results are results.json in {run.folder}\n")
  assert sorted(os.listdir(run.folder)) == [runs.RECORD, "results.json"]


def test_after_a_restart_the_command_resumes_without_it(run):
  run("--seed=3")
  code, _, err = run("--seed=3", "--restart", work=_stop)
  assert code == 130
  assert "the same command without --restart resumes" in err


def _fail(folder):
  raise ValueError("no such thing")


def test_a_restart_that_fails_at_once_leaves_results_to_their_command(run):
  run("--seed=3")
  assert run("--seed=4", "--restart", work=_fail)[0] == 2
  assert _record(run)["flags"] == {"seed": "3"}
  assert run("--seed=3")[1].startswith("The results are")


def test_a_restart_that_fails_among_its_results_is_whose_they_are(run):
  def fail(folder):
    (folder / "results.json").unlink()
    (folder / "results.json").write_text("half")
    raise OSError("disk full")

  run("--seed=3")
  assert run("--seed=4", "--restart", work=fail)[0] == 2
  assert "--seed 4 -> 3" in run("--seed=3")[2]
  assert run("--seed=4")[1] == "worked\n"


_HELD = """
import pathlib, sys
from jmia import locks
with locks.held(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  open(pathlib.Path(sys.argv[1]) / locks.NAME).close()
  sys.stdin.read()
"""


def test_one_run_at_a_time(run):
  run.folder.mkdir()
  with subprocess.Popen(
    [sys.executable, "-c", _HELD, run.folder],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
  ) as other:  # fmt: skip
    assert other.stdout.readline() == "held\n"
    code, _, err = run()
    assert code == 2
    assert "is in use by another run" in err
    other.kill()
  assert os.listdir(run.folder) == [locks.NAME]  # a dead process holds nothing
  assert run()[0] == 0
  assert sorted(os.listdir(run.folder)) == [runs.RECORD, "results.json"]


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(run, monkeypatch):
  import fcntl

  run.folder.mkdir()
  flock, opened = fcntl.flock, []

  def as_another_ends(descriptor, how):
    opened.append(os.fstat(descriptor).st_ino)
    if len(opened) == 1:
      (run.folder / locks.NAME).rename(run.folder / "gone")
    flock(descriptor, how)

  monkeypatch.setattr(fcntl, "flock", as_another_ends)
  with locks.held(run.folder):
    assert os.stat(run.folder / locks.NAME).st_ino == opened[1] != opened[0]


@pytest.mark.parametrize(
  "content", [None, "{", "[]", '{"flags": [], "inputs": {}}', "[" * 100_000]
)
def test_results_of_an_unknown_command_are_refused(run, content):
  run("--seed=3")
  record = run.folder / runs.RECORD
  record.unlink() if content is None else record.write_text(content)
  code, out, err = run("--seed=4")
  assert (code, out) == (2, "")
  state = "absent" if content is None else "damaged"
  assert err == (
    f"tool: output_dir={run.folder} holds results.json, of an unknown command"
    f" (.jmia-run.json is {state}): take another folder, or --restart to replace them\n"
  )
  assert run("--seed=4", "--restart", work=_fail)[0] == 2
  assert run("--seed=4")[0] == 2  # still
  assert run("--seed=4", "--restart")[1] == "worked\n"
  assert _record(run)["flags"] == {"seed": "4"}
  assert _record(run)["finished"] is True


def test_checkpoints_of_an_unknown_command_are_left(run):
  _keep(run.folder)
  code, _, err = run()
  assert code == 2
  assert "holds checkpoints, of an unknown command" in err
  assert runs.is_resumed(run.folder)
  assert run("--restart")[0] == 0


def test_a_folder_with_files_of_ones_own_is_taken(run):
  (run.folder / "checkpoints").mkdir(parents=True)
  (run.folder / "log.txt").write_text("")
  (run.folder / "data.npz").write_text("")
  assert run()[1] == "worked\n"


def test_results_that_somebody_removed_are_made_again(run):
  run("--seed=3")
  (run.folder / "results.json").unlink()
  assert run("--seed=4")[1] == "worked\n"
