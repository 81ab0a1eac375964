"""What a folder holds is not lost: verdicts, keys, queries; one command at a time."""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading

from absl.testing import flagsaver
import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from experiments import launch, mark, verify, watermark
from jmia import locks


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a binary in an empty folder: its exit code, stdout and stderr."""
  monkeypatch.chdir(tmp_path)

  def run(binary, *arguments):
    name = binary.__name__.split(".")[-1]
    monkeypatch.setattr(sys, "argv", [name, "--compilation_cache=", *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


@pytest.fixture
def marked(run):
  """A marking in `mine`, and the answers of two suspects."""
  digits = sklearn_datasets.load_digits()
  np.savez("digits.npz", x=digits.images.astype(np.uint8), y=digits.target)
  code, _, err = run(mark, "--data=digits.npz", "--num_marked=20", "--output_dir=mine")
  assert (code, err) == (0, "")
  num_queries = len(np.load("mine/queries.npz")["x"])
  np.save("a.npy", np.arange(num_queries) % 10)
  np.save("b.npy", np.arange(num_queries) % 7)


def _verify(run, *arguments):
  return run(verify, "--key=mine/key.json", *arguments)


def _content(folder):
  return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def test_a_folder_that_cannot_be_made_is_named(run, marked):
  pathlib.Path("file").touch()
  os.symlink("nowhere", "link")
  data = ("--data=digits.npz", "--num_marked=20")
  for path, why in (
    ("n" * 300, "File name too long"),
    ("file", "it is no folder"),
    ("link", "it is a link to nothing"),
    ("file/inside", "Not a directory"),
  ):
    code, out, err = run(mark, *data, f"--output_dir={path}")
    assert (code, out) == (2, "")
    assert err.startswith(f"mark: output_dir={path} cannot be used: ")
    assert why in err
    assert err.count("\n") == 1
  assert sorted(os.listdir()) == [
    *("a.npy", "b.npy", "digits.npz", "file", "link", "mine")
  ]


def test_links_and_odd_names_are_folders(run, marked):
  os.mkdir("real")
  os.symlink("real", "link")
  data = ("--data=digits.npz", "--num_marked=20")
  for path in ("link", "with a\nline", "ümlaut \u2013 and more"):
    assert run(mark, *data, f"--output_dir={path}")[0] == 0
    assert {*os.listdir(path)} == {"key.json", "marked.npz", "queries.npz"}
  assert {*os.listdir("real")} == {"key.json", "marked.npz", "queries.npz"}


def test_what_is_printed_to_a_full_disk_is_said_and_the_files_are_there(marked):
  root = pathlib.Path(__file__).parents[2]
  command = [sys.executable, "-m", "experiments.mark", "--compilation_cache="]
  with open("/dev/full", "w", encoding="utf-8") as full:
    done = subprocess.run(
      [*command, "--data=digits.npz", "--num_marked=20", "--output_dir=out"],
      env={**os.environ, "PYTHONPATH": str(root)},
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert done.returncode == 2
  assert done.stderr == (
    "mark: what it prints cannot be written: [Errno 28] No space left on device\n"
  )
  assert {*os.listdir("out")} == {"key.json", "marked.npz", "queries.npz"}


def test_a_verdict_is_not_replaced_by_another(run, marked):
  code, said, err = _verify(run, "--predictions=a.npy", "--output_dir=out")
  assert (code, err) == (0, "")
  before = _content("out")
  assert {"verdict.json", "verdict.html"} < before.keys()
  code, out, err = _verify(run, "--predictions=b.npy", "--output_dir=out")
  assert (code, out) == (2, "")
  assert err == (
    "verify: output_dir=out holds finished results of another command (--predictions"
    " a.npy -> b.npy): take another folder, or --restart to replace them\n"
  )
  np.save("a.npy", np.load("b.npy"))
  code, _, err = _verify(run, "--predictions=a.npy", "--output_dir=out")
  assert code == 2
  assert "a.npy was changed" in err
  assert _content("out") == before
  code, again, _ = _verify(run, "--predictions=b.npy", "--output_dir=out", "--restart")
  assert code == 0
  assert _content("out")["verdict.json"] != before["verdict.json"]
  assert again.splitlines()[-1] == said.splitlines()[-1]


def test_the_same_verdict_again_is_shown(run, marked):
  arguments = ("--predictions=a.npy", "--output_dir=out")
  _, said, _ = _verify(run, *arguments)
  before = _content("out")
  code, again, err = _verify(run, *arguments)
  assert (code, again) == (0, said)
  assert err.count("\n") == 1
  assert _content("out") == before


def test_a_verdict_of_an_unknown_command_is_left(run, marked):
  pathlib.Path("out").mkdir()
  pathlib.Path("out/verdict.json").write_text("{}", "utf-8")
  code, out, err = _verify(run, "--predictions=a.npy", "--output_dir=out")
  assert (code, out) == (2, "")
  assert "holds verdict.json, of an unknown command" in err
  assert _content("out") == {"verdict.json": b"{}"}


def test_results_that_were_written_over_are_not_shown_as_the_commands(run, marked):
  arguments = ("--predictions=a.npy", "--output_dir=out")
  _verify(run, *arguments)
  path = pathlib.Path("out/verdict.json")
  path.write_text(path.read_text("utf-8") + " ", "utf-8")
  code, out, err = _verify(run, *arguments)
  assert (code, out) == (2, "")
  assert err == (
    "verify: output_dir=out holds verdict.json other than this command made it: take"
    " another folder, or --restart to replace it\n"
  )


def test_the_verdict_may_lie_beside_the_key(run, marked):
  before = _content("mine")
  code, _, err = _verify(run, "--predictions=a.npy", "--output_dir=mine")
  assert (code, err) == (0, "")
  assert before.items() < _content("mine").items()
  assert _verify(run, "--predictions=b.npy", "--output_dir=mine")[0] == 2


@contextlib.contextmanager
def _held_by_another(folder):
  """Another thread's, as another process's would be."""
  held, done = threading.Event(), threading.Event()

  def hold():
    with locks.held(folder):
      held.set()
      done.wait()

  other = threading.Thread(target=hold)
  other.start()
  held.wait()
  try:
    yield
  finally:
    done.set()
    other.join()


def test_two_at_once_in_one_folder(run, marked):
  commands = (
    (verify, "--key=mine/key.json", "--predictions=a.npy"),
    (mark, "--data=digits.npz", "--num_marked=20"),
    (watermark, "commit", "--data_file=digits.npz"),
    (watermark, "embed", "--data_file=digits.npz", "--num_epochs=1"),
  )
  os.mkdir("out")
  with _held_by_another(pathlib.Path("out")):
    for command in commands:
      code, out, err = run(*command, "--output_dir=out")
      assert (code, out) == (2, "")
      assert err.endswith(
        "output_dir=out is in use by another run: wait for it, or take another folder\n"
      )
      assert err.count("\n") == 1
  assert os.listdir("out") == []


def test_a_lock_that_a_killed_process_left_is_no_marking(run, marked):
  os.mkdir("out")
  pathlib.Path("out", locks.NAME).touch()
  code, _, err = run(mark, "--data=digits.npz", "--num_marked=20", "--output_dir=out")
  assert (code, err) == (0, "")
  assert sorted(os.listdir("out")) == ["key.json", "marked.npz", "queries.npz"]


def test_what_an_owner_cannot_make_again_is_not_replaced(run, marked):
  commit = (watermark, "commit", "--data_file=digits.npz", "--output_dir=out")
  assert run(*commit, "--num_claimed=5", "--encoded_fraction=0.1")[0] == 0
  before = _content("out")
  code, _, err = run(*commit, "--num_claimed=6", "--encoded_fraction=0.1")
  assert code == 2
  assert err == (
    "watermark: output_dir=out holds secret.json, which would be lost: take another"
    " folder\n"
  )
  assert _content("out") == before
  pathlib.Path("out/key.json").write_text("{}", "utf-8")
  code, _, err = run(watermark, "embed", "--data_file=digits.npz", "--output_dir=out")
  assert code == 2
  assert "holds key.json, which would be lost" in err


def test_queries_that_may_have_been_sent_are_not_replaced(run, marked):
  embed = ("embed", "--data_file=digits.npz", "--black_box", "--num_epochs=1")
  sizes = ("--num_claimed=5", "--key_rows=5")
  assert run(watermark, *embed, *sizes, "--output_dir=out")[0] == 0
  queries = ("queries", "--key_file=out/key.json", "--claim_file=out/claim.npz")
  few = ("--num_wrong_keys=3", "--output_dir=out")
  assert run(watermark, *queries, *few)[0] == 0
  before = _content("out")
  assert before.keys() == {"model.npz", "key.json", "claim.npz", "queries.npz"}
  assert run(watermark, *queries, *few)[0] == 0  # the same
  assert _content("out") == before
  code, out, err = run(watermark, *queries, *few, "--seed=1")
  assert (code, out) == (2, "")
  assert err == (
    "watermark: output_dir=out holds other queries, queries.npz, which would be lost:"
    " take another folder\n"
  )
  assert _content("out") == before
