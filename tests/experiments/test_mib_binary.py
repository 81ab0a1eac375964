"""The binary of Hu et al.'s studies, from its flags to its files."""

import collections
import json
import os
import sys

from absl.testing import flagsaver
import numpy as np
import pytest
from scipy import stats

from experiments import launch
from experiments import mib as binary
from jmia.backdoor import variants
from jmia.training import checkpoint

# 300 digits, 30 of them marked: a mark is learnt in a few epochs.
TINY = (
  "--num_members=300",
  "--marked_share=0.1",
  "--num_epochs=4",
  "--num_trials=2",
  "--width=8",
)
STUDIES = "--study=single,patterns,labels,locations,sizes,ratio,baseline"
# The contract's, and the paper's own criterion beside the exact test's verdict, and how
# far the trigger moves a row.
KEYS = {
  "dataset", "study", "variant", "trial", "owner", "num_marked", "num_train",
  "num_queries", "target_label", "trigger_distance", "asr", "asr_all", "asr_without",
  "asr_threshold", "t_statistic", "p_value", "p_value_exact", "rejected", "rejected_t",
  "train_accuracy", "test_accuracy", "paper_asr",
  "p_value_randomization", "p_value_binomial", "p_value_t",
  "p_value_randomization_each", "p_value_binomial_each", "p_value_t_each",
}  # fmt: skip
PLOTS = ("baseline", "labels", "locations", "marked_images", "patterns", "ratio")
PLOTS = sorted(f"{name}.png" for name in (*PLOTS, "sizes"))


def _run(patch, cache, *arguments):
  """Runs the binary with flags; returns its exit code."""
  patch.setattr(sys, "argv", ["mib", cache, *TINY, *arguments])
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(binary.main)
  return stopped.value.code or 0


@pytest.fixture
def run(monkeypatch, capsys, cache):
  """Runs the binary with flags: its exit code, stdout and stderr."""

  def run(*arguments):
    return _run(monkeypatch, cache, *arguments), *capsys.readouterr()

  return run


@pytest.fixture(scope="module")
def folder(cache, tmp_path_factory):
  """What all studies but two leave, on digits."""
  folder = tmp_path_factory.mktemp("mib") / "digits"
  with pytest.MonkeyPatch.context() as patch:
    assert _run(patch, cache, STUDIES, f"--output_dir={folder}") == 0
  return folder


@pytest.fixture(scope="module")
def content(folder):
  return json.loads((folder / "results.json").read_text())


def _of(content, study):
  return [row for row in content["rows"] if row["study"] == study]


def test_the_contracts_files(folder):
  expected = sorted([".jmia-run.json", *PLOTS, "results.json"])
  assert sorted(os.listdir(folder)) == expected
  for name in PLOTS:
    assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_a_larger_trigger_moves_a_row_further(content):
  distances = {
    (row["trial"], int(row["variant"].split("×")[0])): row["trigger_distance"]
    for row in _of(content, "sizes")
  }
  for trial in (0, 1):
    moved = [distances[key] for key in sorted(distances) if key[0] == trial]
    assert len(moved) == 4
    assert 0 < moved[0] < moved[1] < moved[2] < moved[3]


def test_the_contracts_rows(content):
  assert content["schema"] == 1
  assert content["config"]["num_trials"] == 2
  assert set(content["seconds"]) == {"train", "total"}
  for row in content["rows"]:
    assert set(row) == KEYS
    assert row["dataset"] == "digits"
    assert row["paper_asr"] is None
  trials = collections.Counter(
    (row["study"], row["variant"], row["owner"]) for row in content["rows"]
  )
  assert set(trials.values()) == {2}
  variants_of = collections.Counter(study for study, _, _ in trials)
  assert variants_of == {
    "single": 1, "patterns": 5, "labels": 5, "locations": 4, "sizes": 4, "ratio": 4,
    "baseline": 4,
  }  # fmt: skip
  # A trial has the clean models with and without the owner's rows, the default, 5
  # patterns, 5 labels, 3 other corners, 4 sizes and 4 ratios, none of them the default.
  assert content["config"]["num_models"] == 2 * (2 + 1 + 5 + 5 + 3 + 4 + 4)


def test_the_statistics_are_those_of_the_queries(content):
  for row in content["rows"]:
    successes = 30 * row["asr"]
    assert abs(successes - round(successes)) < 1e-9
    exact = stats.binom.sf(round(successes) - 1, 30, 0.1)
    np.testing.assert_allclose(row["p_value_exact"], exact, rtol=1e-9)
    assert row["rejected"] == (exact <= 0.05)
    assert row["rejected_t"] == (row["asr"] > row["asr_threshold"])
    answers = np.arange(30) < round(successes)
    if 0 < row["asr"] < 1:
      test = stats.ttest_1samp(answers, 0.1, alternative="greater")
      np.testing.assert_allclose(row["t_statistic"], test.statistic, rtol=1e-9)
      np.testing.assert_allclose(row["p_value"], test.pvalue, rtol=1e-9)
    else:
      assert row["t_statistic"] is None
      assert row["p_value"] == 1 - row["asr"]


def test_marks_are_learnt_and_clean_models_are_not_accused(content):
  rates = {
    row["variant"]: row["asr_all"] for row in _of(content, "sizes") if row["trial"] == 0
  }
  assert rates["8×8"] > 0.8
  assert all(row["rejected"] for row in content["rows"] if row["variant"] == "8×8")
  assert max(row["asr_without"] for row in _of(content, "single")) < 0.1
  assert max(row["asr_all"] for row in _of(content, "baseline")[:6]) < 0.2
  assert min(row["test_accuracy"] for row in content["rows"]) > 0.6


def test_studies_share_the_models_they_have_in_common(content):
  single = _of(content, "single")
  for study, variant in (("locations", "bottom right"), ("baseline", "MIB with")):
    same = [row for row in _of(content, study) if row["variant"] == variant]
    for one, other in zip(single, same, strict=True):
      one, other = one.copy(), other.copy()
      for key in ("study", "variant"):
        one.pop(key), other.pop(key)
      assert one == other
  for without in ("baseline without", "MIB without"):
    for row in _of(content, "baseline"):
      if row["variant"] == without:
        assert row["asr_all"] == row["asr_without"]
        assert row["num_train"] < 300
        assert row["num_marked"] == 0


def test_the_summary_is_of_the_rows(content):
  assert len(content["summary"]) == 27
  for line in content["summary"]:
    rows = [
      row
      for row in content["rows"]
      if (row["study"], row["variant"]) == (line["study"], line["variant"])
    ]
    rates = [row["asr_all"] for row in rows]
    assert line["rates"] == rates
    np.testing.assert_allclose(line["asr_all"], np.mean(rates))
    assert line["claims"] == np.mean([row["rejected"] for row in rows])


def test_many_owners_of_one_model_and_accusers_of_clean_ones(run, tmp_path):
  x = np.random.default_rng(0).integers(2, size=(400, 30), dtype=np.uint8)
  np.savez(tmp_path / "bits.npz", x=x, y=(x[:, 0] + x[:, 1]).astype(np.int32))
  code, out, err = run(
    f"--dataset=npz:{tmp_path / 'bits.npz'}",
    "--study=owners,false_claims",
    "--marked_share=0.03",
    f"--output_dir={tmp_path / 'out'}",
  )
  assert code == 0, err
  assert {"owners.png", "results.json"} <= set(os.listdir(tmp_path / "out"))
  content = json.loads((tmp_path / "out" / "results.json").read_text())
  assert content["config"]["trigger"]["kind"] == "bits"
  owners, accusers = _of(content, "owners"), _of(content, "false_claims")
  assert [row["owner"] for row in owners] == 2 * list(range(10))
  assert {row["num_marked"] for row in owners} == {9}
  assert len({row["test_accuracy"] for row in owners}) <= 2  # one model a trial
  assert len(accusers) == 200
  assert {row["num_marked"] for row in accusers} == {0}
  assert {row["num_train"] for row in accusers} == {300 - 90}
  assert [line["num_trials"] for line in content["summary"]] == [*[2] * 10, 200]
  assert "Of 200 claims against clean models, " in out


def test_submarks_of_one_owner(run, tmp_path):
  code, out, err = run("--study=submarks", f"--output_dir={tmp_path}")
  assert code == 0, err
  assert out.count("30 a sub-mark") == 3 * 4  # tests, numbers of sub-marks
  content = json.loads((tmp_path / "results.json").read_text())
  names = [line["variant"] for line in content["summary"]]
  assert names == ["1 sub-mark", *(f"{t} sub-marks" for t in (2, 3, 4))]
  for number, line in enumerate(content["summary"], start=1):
    rows = [row for row in content["rows"] if row["variant"] == line["variant"]]
    assert len(rows) == line["num_trials"] == 2 * number
    for trial in range(2):
      of_trial = [row for row in rows if row["trial"] == trial]
      assert sum(row["num_marked"] for row in of_trial) == 30
      (p_value,) = {row["p_value_randomization"] for row in of_trial}
      # Exact: a whole number of the label vectors.
      assert p_value * 10**number == pytest.approx(round(p_value * 10**number))
    for test in ("randomization", "binomial", "t_each"):
      p_values = [row[f"p_value_{test}"] for row in rows if row["owner"] == 0]
      for level in (0.05, 0.01):
        claimed = np.mean([p <= level for p in p_values])
        assert line["together"][test][f"{level}"] == claimed
    assert (tmp_path / "submarks.png").exists()
  # One mark of ten classes has no p-value below a tenth.
  assert content["summary"][0]["together"]["randomization"] == {"0.05": 0, "0.01": 0}


def test_an_interrupted_run_leaves_no_result_and_resumes(
  run, folder, content, tmp_path, monkeypatch
):
  arguments = (STUDIES, f"--output_dir={tmp_path / 'cut'}")
  save = checkpoint.Store.save_chunk

  def save_and_stop(store, chunk, results):
    save(store, chunk, results)
    if chunk == 3:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.Store, "save_chunk", save_and_stop)
    code, out, err = run(*arguments)
  assert (code, out) == (130, "")
  assert "interrupted; the same command resumes" in err
  assert sorted(os.listdir(tmp_path / "cut")) == [".jmia-run.json", "checkpoints"]
  code, _, err = run(*arguments, "--marked_share=0.05")
  assert code == 2
  assert "marked_share" in err
  assert run(*arguments)[0] == 0
  assert sorted(os.listdir(tmp_path / "cut")) == sorted(os.listdir(folder))
  resumed = json.loads((tmp_path / "cut" / "results.json").read_text())
  assert resumed["rows"] == content["rows"]


def test_marked_models_carry_defences(run, tmp_path):
  folder = tmp_path / "out"
  arguments = (
    "--study=single",
    "--defense=dropout:0.1,temperature:2",
    "--model=mlp_mib",
  )
  assert run(*arguments, "--num_epochs=1", f"--output_dir={folder}")[0] == 0
  content = json.loads((folder / "results.json").read_text())
  assert content["config"]["defenses"] == ["dropout:0.1", "temperature:2"]
  assert "dropout:0.1 weakens the training" in content["notes"][0]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("--defense=smoothing:1",), "unknown defense 'smoothing'"),
    (("--study=sides",), "study=sides holds 'sides', expected all, or some of"),
    (("--marked_share=1.5",), "marked_share=1.5 must lie in (0, 1)"),
    (("--num_members=1500",), "num_members=1500 is above the 1438 rows to train on"),
    (("--marked_share=0.95",), "num_marked=285 is above the owner's"),
    (("--model=cnn_33",), "unknown model 'cnn_33'"),
    (("--num_epochs=0",), "num_epochs=0 must be"),
  ],
)
def test_bad_input_is_refused_in_one_line(run, tmp_path, arguments, message):
  code, out, err = run(*arguments, f"--output_dir={tmp_path / 'out'}")
  assert (code, out) == (2, "")
  (line,) = err.splitlines()
  assert line.startswith("mib: ")
  assert message in line
  assert not (tmp_path / "out").exists()


def test_the_description_lists_every_study():
  for study in variants.STUDIES:
    assert f"\n    {study} " in binary.__doc__
