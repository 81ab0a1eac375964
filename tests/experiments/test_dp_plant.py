"""The audit of one's own training: canaries planted, scored, and what they prove."""

import hashlib
import json
import pathlib
import sys

from absl.testing import flagsaver
import numpy as np
import pytest
from sklearn import datasets, neighbors

from experiments import dp_audit, dp_plant, launch


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a binary with flags in an empty folder: exit code, stdout and stderr."""
  monkeypatch.chdir(tmp_path)

  def run(binary, *arguments):
    name = binary.__name__.rpartition(".")[2]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


def _save_digits():
  """A third of the digits, with the names of their classes as text."""
  digits = datasets.load_digits()
  names = np.array([f"number {n}" for n in range(10)])
  x = digits.images[:600].astype(np.uint8)
  np.savez("digits.npz", x=x, y=names[digits.target[:600]])


def _answers():
  """Of the nearest neighbour, which gives every row that it was trained on away."""
  train, canaries = np.load("planted/train.npz"), np.load("planted/canaries.npz")
  model = neighbors.KNeighborsClassifier(1)
  model.fit(train["x"].reshape(len(train["x"]), -1), train["y"])
  return model.predict_proba(canaries["x"].reshape(len(canaries["x"]), -1))


def _results(folder):
  return json.loads(pathlib.Path(folder, "results.json").read_text("utf-8"))


def test_what_was_planted_is_proved(run):
  _save_digits()
  code, out, err = run(
    dp_plant,
    "--dataset=npz:digits.npz",
    "--num_canaries=100",
    "--output_dir=planted",
    "--seed=0",  # by chance, wrong coins prove something in one case of twenty
  )
  assert code == 0, err
  assert "Then ask the model about all 100 rows of planted/canaries.npz" in out
  assert "so many canaries prove an epsilon of 3.01, and no larger one" in out
  coins, train = np.load("planted/coins.npz"), np.load("planted/train.npz")
  canaries = np.load("planted/canaries.npz")
  assert len(train["y"]) == 500 + coins["is_in"].sum()
  assert train["x"].dtype == np.uint8
  np.testing.assert_array_equal(coins["classes"][coins["labels"]], canaries["y"])
  np.testing.assert_array_equal(
    np.load("digits.npz")["x"][coins["rows"]], canaries["x"].reshape(100, 8, 8)
  )
  np.save("answers.npy", _answers())
  code, out, err = run(
    dp_audit,
    "--scores=answers.npy",
    "--coins=planted/coins.npz",
    "--claimed_epsilon=1",
    "--delta=1e-6",
    "--output_dir=proved",
  )
  assert code == 0, err
  assert "Epsilon 1.00 at delta 1e-06 is contradicted at 95 %: at least" in out
  assert "Neither training nor scores may have seen the coins." in out
  content = _results("proved")
  (row,) = content["rows"]
  assert row["epsilon_lower"] > 2
  assert row["num_canaries"] == 100
  assert content["config"]["scores"] == ["answers.npy"]
  page = pathlib.Path("proved/proof.html").read_text("utf-8")
  assert "Does this training keep the epsilon that is claimed?" in page
  assert f"{row['epsilon_lower']:.2f}" in page
  for file in ("answers.npy", "planted/coins.npz"):
    digest = hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
    assert f"<dt>{file}" in page
    assert digest in page
  # With coins that the model knows nothing of, nothing is proved.
  wrong = np.random.default_rng(0).random(100) < 0.5
  np.savez("wrong.npz", is_in=wrong, labels=coins["labels"])
  code, out, _ = run(
    dp_audit, "--scores=answers.npy", "--coins=wrong.npz", "--output_dir=nothing"
  )
  assert code == 0
  assert "No epsilon is claimed; at least 0.00 is proved at 95 %." in out


def test_the_operating_system_draws_the_coins_unless_a_seed_does(run):
  _save_digits()
  drawn = []
  for folder, *seed in (("a",), ("b",), ("c", "--seed=5"), ("d", "--seed=5")):
    code, _, err = run(
      dp_plant, "--dataset=npz:digits.npz", "--num_canaries=60",
      f"--output_dir={folder}", *seed,
    )  # fmt: skip
    assert code == 0, err
    drawn.append(np.load(f"{folder}/coins.npz")["is_in"].tolist())
  assert drawn[0] != drawn[1]
  assert drawn[2] == drawn[3]


def test_coins_are_not_replaced(run):
  _save_digits()
  flags = ("--dataset=npz:digits.npz", "--num_canaries=60", "--output_dir=planted")
  assert run(dp_plant, *flags)[0] == 0
  before = np.load("planted/coins.npz")["is_in"]
  code, out, err = run(dp_plant, *flags)
  assert (code, out) == (2, "")
  assert "holds train.npz, which would be lost: take another folder" in err
  np.testing.assert_array_equal(np.load("planted/coins.npz")["is_in"], before)


def test_several_models_and_one_canary(run):
  rng = np.random.default_rng(0)
  for number in range(2):
    is_in = rng.random(80) < 0.5
    np.savez(f"coins{number}.npz", is_in=is_in)
    np.save(f"scores{number}.npy", is_in + rng.normal(0, 0.1, 80))
  code, out, err = run(
    dp_audit,
    "--scores=scores0.npy,scores1.npy",
    "--coins=coins0.npz,coins1.npz",
    "--claimed_epsilon=6",
    "--output_dir=two",
  )
  assert code == 0, err
  assert "by all 2 rows together" in out
  assert "a claim of 6.00 cannot be contradicted by them" in out
  np.savez("one.npz", with_canary=rng.normal(3, 1, 90), without_canary=np.zeros(90))
  code, out, err = run(dp_audit, "--scores=one.npz", "--output_dir=one")
  assert code == 0, err
  assert "none left out for its score" in out
  (row,) = _results("one")["rows"]
  assert row["mode"] == "many_runs"
  assert row["epsilon_lower"] > 1


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ("--scores=s.npy --num_epochs=3", "--num_epochs is not read with --scores"),
    ("--scores=s.npy --dataset=digits --seed=1", "--dataset, --seed is not read with"),
    ("--scores=s.npy --claimed_epsilon=1,2", "--claimed_epsilon=1,2: one claim"),
    ("--scores=s.npy,s.npy --coins=c.npz", "--scores holds 2 and --coins 1 files"),
    ("--scores=s.npy", "s.npy: is_in is missing"),
    ("--scores=s.npy,t.npy --coins=c.npz,c.npz", "each file holds one's scores"),
    ("--scores=s.npy --coins=absent.npz", "absent.npz: no such file"),
    ("--scores=s.npy --coins=c.npz --claimed_epsilon=0", "claimed_epsilon=0"),
    ("--coins=c.npz", "--coins is of --scores"),
    ("--scores=", "--scores must have a value"),
  ],
)
def test_flags_that_nothing_reads_and_bad_files(run, tmp_path, flags, said):
  np.save("s.npy", np.zeros(20))
  np.save("t.npy", np.zeros(21))
  np.savez("c.npz", is_in=np.arange(20) % 2 == 0)
  code, out, err = run(dp_audit, *flags.split(), "--output_dir=out")
  assert (code, out) == (2, "")
  assert said in err
  assert len(err.splitlines()) == 1
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ("--canary=gradient", "canary=gradient is of training that is done here"),
    ("--num_canaries=2000", "num_canaries=2000 must be from 1 to 1796"),
    ("--dataset=table:t.csv?target=y", "is a table of named columns"),
  ],
)
def test_what_cannot_be_planted(run, tmp_path, flags, said):
  lines = ["a,b,y", *(f"{n},{n * n % 7},{'uv'[n % 2]}" for n in range(40))]
  (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
  code, out, err = run(dp_plant, flags, "--output_dir=out")
  assert (code, out) == (2, "")
  assert said in err
  assert not (tmp_path / "out").exists()
