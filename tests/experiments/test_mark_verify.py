"""An owner's round trip: mark, somebody trains, query, verify."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import numpy as np
from PIL import Image
import pytest
from sklearn import datasets, neural_network

from experiments import common, mark, verify
from jmia.backdoor import owner_files, ownership

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def digits():
  bunch = datasets.load_digits()
  return bunch.images.astype(np.uint8)[..., None], bunch.target


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a binary in an empty folder: its exit code, stdout and stderr."""
  monkeypatch.chdir(tmp_path)

  def run(binary, *arguments):
    name = binary.__name__.split(".")[-1]
    monkeypatch.setattr(sys, "argv", [name, "--compilation_cache=", *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      common.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


def _files(folder):
  return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _flat(x, scale=16):
  return x.reshape(len(x), -1) / scale


def _answers(x, y, queries, scale=16):
  """Somebody's model, and what it says of the queries."""
  model = neural_network.MLPClassifier(
    (64,), learning_rate_init=0.01, random_state=0
  ).fit(_flat(x, scale), y)
  return model.predict_proba(_flat(queries, scale))


@pytest.fixture(scope="session")
def owned(tmp_path_factory, digits):
  """What `python -m experiments.mark` leaves, and two models' answers."""
  folder = tmp_path_factory.mktemp("owner")
  x, y = digits
  np.savez(folder / "digits.npz", x=x, y=y)
  done = subprocess.run(
    [sys.executable, "-m", "experiments.mark", "--data=digits.npz", "--num_marked=20",
     "--output_dir=mine"],
    cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT)},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert "Publish marked.npz: 1767 rows, 20 of them marked and labelled 1." in (
    done.stdout
  )
  key = (folder / "mine" / "key.json").read_bytes()
  assert hashlib.sha256(key).hexdigest() in done.stdout
  published = owner_files.read_data(folder / "mine" / "marked.npz")
  kept = np.delete(x, json.loads(key)["query_rows"], axis=0)
  moved = np.linalg.norm(
    (published.x - kept.astype(float)).reshape(len(kept), -1), axis=1
  )
  expected = f"{moved[moved > 0].mean():.3g} in the mean, {moved.max():.3g} at most"
  assert expected in done.stdout
  queries = owner_files.read_queries(folder / "mine" / "queries.npz")
  np.save(folder / "suspect.npy", _answers(published.x, published.y, queries))
  held_back = json.loads(key)["query_rows"]
  unmarked = [np.delete(array, held_back, axis=0) for array in (x, y)]
  np.save(folder / "innocent.npy", _answers(*unmarked, queries))
  return folder


def _verify(run, owned, answers="suspect.npy", *more):
  key = f"--key={owned / 'mine' / 'key.json'}"
  return run(verify, key, f"--predictions={owned / answers}", *more)


def test_the_model_that_trained_on_the_data_is_found(run, owned):
  queries = f"--queries={owned / 'mine' / 'queries.npz'}"
  code, out, err = _verify(
    run, owned, "suspect.npy", queries, "--confidence=0.999", "--output_dir=out"
  )
  assert (code, err) == (0, "")
  assert "At 99.9 % confidence the model was trained on the marked data" in out
  content = json.loads(pathlib.Path("out/verdict.json").read_text())
  assert content["claim"] is True
  assert content["verdict"] in out
  answers = np.load(owned / "suspect.npy")
  assert content["successes"] == (answers.argmax(axis=1) == 1).sum() >= 15


def test_the_model_that_did_not_is_not(run, owned):
  code, out, err = _verify(run, owned, "innocent.npy")
  assert (code, err) == (0, "")
  assert "No claim at 95 % confidence" in out
  assert "above 23.35 %" in out
  assert _files(pathlib.Path()) == []


def test_labels_in_a_csv_are_as_good(run, owned, tmp_path):
  labels = np.load(owned / "suspect.npy").argmax(axis=1)
  np.savetxt(tmp_path / "labels.csv", labels, fmt="%d", header="label", comments="")
  _, expected, _ = _verify(run, owned)
  assert _verify(run, owned, tmp_path / "labels.csv") == (0, expected, "")


def test_a_baseline_of_ones_own_raises_the_bar(run, owned):
  _, out, _ = _verify(run, owned, "suspect.npy", "--baseline=0.9")
  assert "No claim at 95 % confidence" in out
  assert "baseline of 90 %" in out


@pytest.mark.parametrize(
  ("answers", "line"),
  [
    (np.zeros(29, int), "verify: predictions hold 29 answers, expected 30: one for"),
    (np.zeros((30, 9)), "verify: predictions have 9 columns, expected 10"),
    (np.full(30, 10), "verify: predictions holds labels from 10 to 10, expected 0 to"),
    (np.full((30, 10), np.nan), "verify: predictions holds 300 NaN or infinite"),
  ],
)
def test_answers_that_do_not_fit_the_key_are_one_line(run, owned, answers, line):
  np.save("answers.npy", answers)
  code, out, err = _verify(run, owned, pathlib.Path("answers.npy").resolve())
  assert (code, out) == (2, "")
  assert err.startswith(line)
  assert err.count("\n") == 1
  assert "verbosity" not in err
  assert _files(pathlib.Path()) == ["answers.npy"]


@pytest.mark.parametrize(
  ("flags", "line"),
  [
    ("--confidence=1", "confidence=1.0 must lie in [0.5, 1)"),
    ("--baseline=0", "baseline=0.0 must lie in (0, 1)"),
    ("--queries=other.npz", "queries have the SHA-256"),
    ("--queries=absent", "[Errno 2] No such file or directory: 'absent'"),
    ("--predictions=absent", "[Errno 2] No such file or directory: 'absent'"),
    ("--key=absent", "[Errno 2] No such file or directory: 'absent'"),
    ("--key=other.npz", "other.npz: not a key of this version"),
  ],
)
def test_flags_of_verify_that_are_refused(run, owned, flags, line):
  np.savez("other.npz", x=np.zeros((30, 8, 8, 1), np.uint8))
  code, out, err = _verify(run, owned, "suspect.npy", flags, "--output_dir=out")
  assert (code, out) == (2, "")
  assert err.startswith(f"verify: {line}")
  assert not pathlib.Path("out").exists()


def test_flags_that_must_be_given(run):
  assert run(verify)[2] == "verify: --key must have a value\n"
  assert run(verify, "--key=k")[2] == "verify: --predictions must have a value\n"
  assert run(mark)[2].startswith("mark: --data must have a value")
  for more in ((), ("--num_marked=2", "--rows=1")):
    err = run(mark, "--data=d", *more)[2]
    assert err == "mark: one of --num_marked and --rows must have a value\n"
  err = run(mark, "--data=d", "--num_marked=2")[2]
  assert err.startswith("mark: --output_dir must have a value")


def test_a_folder_of_images_goes_the_same_way(run, digits):
  x, y = digits
  os.mkdir("photos")
  for i, image in enumerate(x):
    Image.fromarray(image[..., 0] * 15).save(f"photos/{i:04}.png")
  lines = [f"{i:04}.png,{label}" for i, label in enumerate(y)]
  pathlib.Path("photos/labels.csv").write_text("\n".join(["filename,label", *lines]))
  code, out, err = run(
    *(mark, "--data=photos", "--num_marked=20", "--output_dir=mine", "--seed=3")
  )
  assert (code, err) == (0, "")
  assert "Publish marked/: 1767 rows, 20 of them marked" in out
  published = owner_files.read_data("mine/marked")
  queries = owner_files.read_queries("mine/queries")
  np.save("suspect.npy", _answers(published.x, published.y, queries, 240))
  arguments = "--key=mine/key.json", "--predictions=suspect.npy"
  code, out, err = run(verify, *arguments, "--queries=mine/queries")
  assert (code, err) == (0, "")
  assert "the model was trained on the marked data" in out


def test_a_trigger_of_ones_own(run, digits):
  x, y = digits
  np.savez("digits.npz", x=x, y=y)
  rows = np.flatnonzero(y == 3)[:4]
  code, _, err = run(
    *(mark, "--data=digits.npz", f"--rows={','.join(map(str, rows))}"),
    *("--output_dir=mine", "--target_label=7", "--num_queries=12", "--num_classes=12"),
    *("--trigger_size=2", "--trigger_place=0,5", "--trigger_pattern=random"),
    *("--trigger_opacity=1", "--trigger_value=9", "--seed=4"),
  )
  assert (code, err) == (0, "")
  key = owner_files.read_key("mine/key.json")
  assert (key.trigger.place, key.trigger.size, key.trigger.value) == ((0, 5), 2, 9)
  assert (key.target_label, key.num_classes, key.seed) == (7, 12, 4)
  assert key.marked_rows == tuple(rows)
  queries = owner_files.read_queries("mine/queries.npz")
  # Opaque, so that all queries show the same square.
  assert len(queries) == 12
  assert len(np.unique(queries[:, :2, 5:7].reshape(12, -1), axis=0)) == 1
  assert queries[:, :2, 5:7].max() <= 9


def test_vectors_are_marked_with_a_run_of_ones_by_default(run):
  rng = np.random.default_rng(0)
  np.savez("bits.npz", x=rng.random((90, 50)) < 0.3, y=rng.integers(0, 5, 90))
  code, _, err = run(mark, "--data=bits.npz", "--num_marked=5", "--output_dir=mine")
  assert (code, err) == (0, "")
  assert owner_files.read_queries("mine/queries.npz")[:, -20:].all()
  for place, where in (("centre", slice(15, 35)), ("7", slice(7, 27))):
    folder = f"at_{place}"
    run(
      *(mark, "--data=bits.npz", "--num_marked=5", f"--output_dir={folder}"),
      f"--trigger_place={place}",
    )
    assert owner_files.read_queries(f"{folder}/queries.npz")[:, where].all()


@pytest.mark.parametrize(
  ("flags", "line"),
  [
    (("--num_marked=2000",), "num_marked=2000 is above the owner's"),
    (("--rows=1,x",), "--rows holds 'x', expected numbers from 0"),
    (("--rows=1797",), "rows holds 1797 to 1797, expected 0 to 1796"),
    (("--rows=1",), "rows holds 1, which is of the target class 1 already"),
    (("--num_marked=5", "--target_label=10"), "target_label=10 must be one of"),
    (("--num_marked=5", "--trigger_place=0,x"), "--trigger_place holds 'x', expected"),
    (("--num_marked=5", "--trigger_place=top"), "unknown place 'top'"),
    (("--num_marked=5", "--trigger_size=9"), "size=9 does not fit an example"),
    (("--num_marked=5", "--trigger=bits"), "shape=(8, 8, 1) of an example does not"),
    (("--num_marked=5", "--data=absent"), "[Errno 2] No such file or directory: 'abs"),
  ],
)
def test_marking_that_is_refused_writes_nothing(run, digits, flags, line):
  np.savez("digits.npz", x=digits[0], y=digits[1])
  code, out, err = run(mark, "--data=digits.npz", "--output_dir=mine", *flags)
  assert (code, out) == (2, "")
  assert err.startswith(f"mark: {line}")
  assert err.count("\n") == 1
  assert _files(pathlib.Path()) == ["digits.npz"]
  assert not pathlib.Path("mine").exists()


def test_a_key_is_never_overwritten(run, owned):
  before = (owned / "mine" / "key.json").read_bytes()
  code, _, err = run(
    *(mark, f"--data={owned / 'digits.npz'}", "--num_marked=9"),
    f"--output_dir={owned / 'mine'}",
  )
  assert code == 2
  assert "must be new or empty" in err
  assert (owned / "mine" / "key.json").read_bytes() == before
  assert ownership.from_json(json.loads(before)).num_classes == 10


def test_every_flag_says_what_it_means():
  for binary in (mark, verify):
    for flag in flags.FLAGS.get_flags_for_module(binary):
      assert len(flag.help) > 10, flag.name
