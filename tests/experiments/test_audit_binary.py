"""The audit's binary, from its flags to its files."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from experiments import audit as binary
from experiments import bars, launch

FILES = [
  ".jmia-run.json", "exposed.csv", "model_card.md", "report.html", "report.json",
  "roc.png", "scores.npz",
]  # fmt: skip
ATTACKS = ("population", "shadow", "reference", "distillation", "leave_one_out")
# 50 members learnt by heart, and 4 + 4 + 2 x 2 + 2 other models, four at a time.
ALONE = ("--num_members=50", "--num_population=150", "--num_epochs=20", "--width=1")
TINY = (*ALONE, "--num_references=4", "--num_distilled=4")
ALL = (
  *("--width=4", f"--attacks={','.join(ATTACKS)}"),
  *("--num_left_out=4", "--num_retrained=2"),
)
_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys, cache):
  """Runs the binary with flags: its exit code, stdout and stderr."""

  def run(*arguments):
    trains = not any(a.startswith(("--signals", "--repeat")) for a in arguments)
    trains_one = {"--attacks=population", "--attacks=label_only_noise"} & {*arguments}
    sizes = ALONE if trains_one else TINY
    sizes = sizes if trains else ()
    monkeypatch.setattr(sys, "argv", ["audit", cache, *sizes, *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(binary.main)
    return stopped.value.code or 0, *capsys.readouterr()

  return run


def _subprocess(program, *arguments):
  return subprocess.run(
    [sys.executable, *program, *TINY, *arguments],
    env={**os.environ, "PYTHONPATH": str(_ROOT)},
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope="session")
def folder(cache, tmp_path_factory):
  """What `python -m experiments.audit` leaves, with every attack."""
  folder = tmp_path_factory.mktemp("audit") / "report"
  program = ("-m", "experiments.audit")
  done = _subprocess(program, cache, *ALL, f"--output_dir={folder}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("Audit of mlp_256_128 trained on digits; 50 members")
  assert f"The report is {folder / 'report.html'}" in done.stdout
  assert "training the models compared with: 100%" in done.stderr
  assert "Training 1 target, 4 reference models, 4 distilled models, " in done.stderr
  return folder


def test_the_contracts_files(folder):
  assert sorted(os.listdir(folder)) == FILES
  assert (folder / "roc.png").read_bytes()[:4] == b"\x89PNG"
  assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_contracts_report(folder):
  report = json.loads((folder / "report.json").read_text())
  assert report["schema"] == 1
  assert report["seed"] == 0
  assert isinstance(report["device"], str)
  assert report["config"]["dataset"] == "digits"
  assert {"jmia", "jax"} <= set(report["versions"])
  assert set(report["target"]) == {
    *("train_accuracy", "test_accuracy", "num_members", "num_nonmembers")
  }
  assert list(report["attacks"]) == list(ATTACKS)
  for result in report["attacks"].values():
    low, high = result["auc_ci"]
    assert 0 <= low <= result["auc"] <= high <= 1
    for rates in (result["tpr_at_fpr"], result["tpr_at_fpr_ci"]):
      assert set(rates) == {"0.1", "0.01", "0.001"}
  assert set(report["seconds"]) == {"train", "signals", "attacks", "total"}


def test_a_limit_that_is_surely_exceeded_is_exit_code_3(run, tmp_path):
  rng = np.random.default_rng(0)
  members = np.arange(60) < 30
  logits = rng.normal(size=(60, 3))
  labels = np.where(members, logits.argmax(1), logits.argmin(1))
  signals = _signals(tmp_path / "s.npz", target_logits=5 * logits, labels=labels)
  out = tmp_path / "out"
  code, printed, err = run(signals, f"--output_dir={out}", "--fail_above=auc:0.6")
  assert code == 3
  assert sorted(os.listdir(out)) == FILES
  assert err.startswith("audit: P · population: AUC is above 0.6 (at least 0.")
  assert "The report is" in printed
  code, _, err = run(signals, f"--output_dir={out}", "--fail_above=tpr@0.01:0.9")
  assert code == 2  # nobody may take it for passed
  assert err.startswith(f"audit: {out} holds this command's finished results")
  assert "audit: TPR at 1% FPR: the limit of 0.9 is not tested: even attacks" in err
  line, _ = _refused(run, tmp_path, signals, "--fail_above=auc")
  assert "fail_above='auc', expected auc:VALUE or tpr@FPR:VALUE" in line


@pytest.mark.parametrize("how", [(), ("--dry_run",)])
def test_a_limit_that_cannot_be_tested_is_said_before_training(run, tmp_path, how):
  code, out, err = run(
    f"--output_dir={tmp_path / 'out'}", "--fail_above=auc:0.5,tpr@0.01:0.05", *how
  )
  assert (code, out) == (2, "")
  assert err.startswith(
    "audit: fail_above: TPR at 1% FPR: the limit of 0.05 is not tested: even attacks"
  )
  assert err.count("\n") == 1  # nothing was trained
  assert os.listdir(tmp_path) == []


def test_what_comes_next_can_be_pasted():
  attack = {"auc": 0.9, "auc_ci": [0.8, 0.95], "tpr_at_fpr": {}, "tpr_at_fpr_ci": {}}
  report = {
    "target": {"num_members": 99, "num_nonmembers": 99},
    "attacks": {"reference": attack},
    "config": {"dataset": "digits", "train": {}},
  }
  _, repeat, compare = binary._next(report, pathlib.Path("my folder"))
  assert "--repeat='my folder/report.json' --defense=" in repeat
  assert "jmia compare 'my folder' DIR" in compare


def test_a_report_can_be_repeated(run, folder, tmp_path):
  """Its settings come back whole; trained it is elsewhere."""
  from jmia.audit import repeat

  report = json.loads((folder / "report.json").read_text())
  config = repeat.settings_of(report)
  assert (config.num_members, config.num_references, config.width) == (50, 4, 4)
  assert config.attacks == ATTACKS
  again = json.loads(json.dumps(dataclasses.asdict(config), default=str))
  for name, value in again.items():
    assert value == report["config"][name], name
  report["config"] = {"signals": "a.npz"}
  (tmp_path / "r.json").write_text(json.dumps(report))
  line, _ = _refused(run, tmp_path, f"--repeat={tmp_path / 'r.json'}")
  assert "of a file of signals" in line


def test_a_dry_run_trains_nothing_that_stays(run, tmp_path):
  code, out, _ = run("--dry_run", f"--output_dir={tmp_path / 'out'}")
  assert code == 0
  assert re.fullmatch(
    "Would train 1 target, 4 reference models, 4 distilled models: 180 epochs of up to"
    r" 50 rows, in about \d+ s and [\d.]+ [MG]B of memory\.\n",
    out,
  )
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--groups=sex", "groups: digits has no column 'sex'"),
    ("--defense=rounding:-1", "decimals=-1 must be"),
    ("--defense=l2:1,l2:2", "defense 'l2' is named 2 times"),
    ("--defense=bit_flip:.1", "expected bits as uint8"),
    ("--defense=stacking:1000", "num_parts=1000 is above num_members=50"),
    ("--num_queries=500", "num_queries=500, but an image of 8 x 8 pixels has"),
  ],
)
@pytest.mark.parametrize("dry", [("--dry_run",), ()])
def test_a_dry_run_refuses_what_the_run_does(run, tmp_path, flag, message, dry):
  to = f"--output_dir={tmp_path / 'out'}"
  code, out, err = run(flag, *dry, to, "--attacks=lira_offline,distillation")
  assert (code, out) == (2, "")
  assert message in err.splitlines()[-1]
  assert len(err.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_attacks_that_no_row_of_such_data_allows_are_refused_beforehand(run, tmp_path):
  bits = ("--dataset=purchase100_synthetic", "--num_examples=400")
  for dry in ("--dry_run", "--nodry_run"):
    code, out, err = run(
      *bits, dry, f"--output_dir={tmp_path / 'out'}", "--attacks=label_only_noise"
    )
    assert (code, out) == (2, "")
    assert err.endswith(
      "no attack can run: label_only_noise needs a model to ask, and images, or rows of"
      " reals, to alter\n"
    )
    assert "Training" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_a_folder_that_the_run_does(run, folder):
  before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
  code, out, err = run("--dry_run", "--seed=5", f"--output_dir={folder}")
  assert (code, out) == (2, "")
  assert "holds finished results of another command" in err
  code, out, _ = run("--dry_run", "--seed=5", f"--output_dir={folder}", "--restart")
  assert code == 0
  assert "Would train" in out
  after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
  assert after == before


def test_the_contracts_scores(folder):
  with np.load(folder / "scores.npz") as file:
    arrays = dict(file)
  assert {"index", "members", *(f"score_{name}" for name in ATTACKS)} <= set(arrays)
  assert arrays["members"].dtype == bool
  assert arrays["members"].sum() == 50
  assert np.issubdtype(arrays["index"].dtype, np.integer)
  for name in ATTACKS:
    score = arrays[f"score_{name}"]
    assert (score.dtype, score.shape) == (np.float32, (100,))
    attacked = ~np.isnan(score)
    assert attacked.sum() == (4 if name == "leave_one_out" else 100)
    if attacked.all():
      inside, outside = score[arrays["members"]], score[~arrays["members"]]
      assert np.mean(inside) > np.mean(outside)


# As the binary, but killed the moment that a second chunk of others is saved.
_KILLED = """
import os, signal
from experiments import audit, bars, launch
from jmia.training import checkpoint
save = checkpoint.Store.save_chunk
def save_and_die(store, chunk, results):
  save(store, chunk, results)
  if chunk == 1:
    os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Store.save_chunk = save_and_die
launch.run(audit.main)
"""


@pytest.fixture(scope="module")
def half_finished(cache, tmp_path_factory):
  """A folder whose run was killed half-way."""
  folder = tmp_path_factory.mktemp("killed") / "report"
  done = _subprocess(("-c", _KILLED), cache, *ALL, f"--output_dir={folder}")
  assert done.returncode == -signal.SIGKILL
  chunks = sorted(p.name for p in (folder / "checkpoints" / "others").glob("*.npz"))
  assert chunks == ["chunk_00000.npz", "chunk_00001.npz"]
  left = sorted(os.listdir(folder))
  assert left == [".jmia-run.json", ".jmia-run.lock", "checkpoints"]
  return folder


@pytest.mark.parametrize(
  ("flag", "change"),
  [
    ("--seed=1", "--seed (default) -> 1"),
    ("--batch_size=17", "--batch_size (default) -> 17"),
  ],
)
def test_other_settings_in_a_half_finished_folder_are_refused(
  run, half_finished, flag, change
):
  code, out, err = run(*ALL, f"--output_dir={half_finished}", flag)
  assert (code, out) == (2, "")
  (line,) = err.splitlines()
  assert line.startswith(
    f"audit: output_dir={half_finished} holds an unfinished run of"
  )
  assert change in line
  assert len(list((half_finished / "checkpoints" / "others").glob("*.npz"))) == 2


def test_a_killed_run_goes_on_to_the_same_scores(
  run, half_finished, folder, monkeypatch
):
  told = []
  shown = bars.shown

  def watched():
    told_by = shown()
    progress = told_by.__enter__()

    class Watched:
      def __enter__(self):
        return lambda *args: (told.append(args), progress(*args))

      def __exit__(self, *args):
        return told_by.__exit__(*args)

    return Watched()

  monkeypatch.setattr(bars, "shown", watched)
  code, _, err = run(*ALL, f"--output_dir={half_finished}")
  assert code == 0, err
  # The target and two of four chunks were there, the other two are trained.
  assert told[:3] == [("target", 20, 20), ("others", 80, 280), ("others", 160, 280)]
  assert told[3:5] == [("others", 164, 280), ("others", 168, 280)]
  assert sorted(os.listdir(half_finished)) == FILES
  with (
    np.load(half_finished / "scores.npz") as resumed,
    np.load(folder / "scores.npz") as whole,
  ):
    assert set(resumed) == set(whole)
    for name in whole:
      # This process has one device, and the whole run had one for each core: what is
      # computed on the way to a score is vectorised in other pieces.
      np.testing.assert_allclose(resumed[name], whole[name], rtol=1e-5)


def _signals(path, **changes):
  rng = np.random.default_rng(0)
  arrays = {
    "target_logits": rng.normal(size=(60, 3)),
    "labels": rng.integers(0, 3, 60),
    "members": np.arange(60) < 30,
    "population_logits": rng.normal(size=(50, 3)),
    "population_labels": rng.integers(0, 3, 50),
    **changes,
  }
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  return f"--signals={path}"


def test_signals_are_audited_without_training(run, tmp_path):
  signals = _signals(tmp_path / "s.npz", group_sex=np.array(["f", "m"] * 30))
  given = (signals, f"--output_dir={tmp_path / 'out'}", "--seed=4", "--groups=sex")
  code, out, err = run(*given)
  assert (code, err) == (0, "")
  assert "Audit of a model known by its outputs alone; 30 members" in out
  assert sorted(os.listdir(tmp_path / "out")) == FILES
  report = json.loads((tmp_path / "out" / "report.json").read_text())
  assert list(report["attacks"]) == ["population"]
  assert set(report["missing"]) == {
    "shadow", "reference", "distillation", "lira_offline", "rmia_offline",
  }  # fmt: skip
  assert "Not run: R · reference. Needs reference_logits of at least 2 models" in out
  assert report["seed"] == 4
  assert {row["group"] for row in report["groups"]["by"]["sex"]} == {"f", "m"}
  assert sum(row["num_members"] for row in report["groups"]["by"]["sex"]) == 30
  assert report["config"]["signals"] == str(tmp_path / "s.npz")


def test_a_locale_without_dashes_loses_no_file(tmp_path):
  locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
  done = subprocess.run(
    [
      *(sys.executable, "-m", "experiments.audit", _signals(tmp_path / "s.npz")),
      f"--output_dir={tmp_path / 'out'}",
    ],
    env={**os.environ, **locale, "PYTHONPATH": str(_ROOT)},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, "")
  assert "?" in done.stdout  # for a dash
  assert sorted(os.listdir(tmp_path / "out")) == FILES
  assert "–" in (tmp_path / "out" / "model_card.md").read_text("utf-8")


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("[]", "it is no report.json of an audit"),
    ("{", "Expecting property name"),
    ('{"config": null, "seed": 0}', "it is no report.json of an audit"),
    ('{"config": {"train": {}}}', "the report's config cannot be repeated"),
  ],
)
def test_what_is_no_report_is_not_repeated(run, tmp_path, content, message):
  (tmp_path / "r.json").write_text(content)
  line, err = _refused(run, tmp_path, f"--repeat={tmp_path / 'r.json'}")
  assert message in line
  assert f"--repeat={tmp_path / 'r.json'}: " in line
  assert err == f"{line}\n"


def test_signals_leave_somebodys_checkpoints_alone(run, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "checkpoints" / "epoch_7.pt").touch()
  code, _, err = run(_signals(tmp_path / "s.npz"), f"--output_dir={tmp_path}")
  assert code == 2
  assert "holds checkpoints, of an unknown command" in err
  assert (tmp_path / "checkpoints" / "epoch_7.pt").exists()


def _refused(run, tmp_path, *arguments):
  """The one line that a refused command writes; it leaves nothing behind."""
  before = sorted(tmp_path.rglob("*"))
  code, out, err = run(f"--output_dir={tmp_path / 'a' / 'b'}", *arguments)
  assert (code, out) == (2, "")
  assert sorted(tmp_path.rglob("*")) == before
  line = err.splitlines()[-1]
  assert line.startswith("audit: ")
  assert "--verbosity" not in line  # it was foreseen
  return line, err


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--dataset=location3"], "unknown dataset 'location3'; did you mean 'location30'"),
    (["--model=mlp_256"], "unknown model 'mlp_256'; did you mean 'mlp_256_128'?"),
    (["--attacks=shadows"], "unknown attack 'shadows'; did you mean 'shadow'?"),
    (["--attacks="], "attacks is empty"),
    (["--estimator=linea"], "unknown estimator 'linea'; did you mean 'linear'?"),
    (["--num_membrs=3"], "Unknown command line flag 'num_membrs'. Did you mean"),
    (["--num_members=many"], "flag --num_members=many: expected a whole number"),
    (["--num_members=0"], "flag --num_members=0: 0 is not a positive integer"),
    (["--num_members=2000"], "exceed the 1797 examples"),
    (["--num_population=49"], "num_members=50 is above the population's 49 rows"),
    (["--num_references=1"], "num_references=1 must be at least 2"),
    (["--num_epochs=0"], "num_epochs=0 must be"),
    (["--learning_rate=nan"], "learning_rate=nan must be"),
    (["--num_examples=5"], "num_examples=5 was given, but 'digits' has a fixed size"),
    (["--width=0"], "width=0 must be"),
    (["digits"], "unexpected argument 'digits'"),
    (["--dataset=npz:/absent.npz"], "/absent.npz: no such file"),
    (["--dataset=table:/absent.csv?target=y"], "/absent.csv: no such file"),
    (["--dataset=table:/absent.csv"], "names no target, expected table:PATH?target="),
    (["--dataset=folder:/absent"], "/absent: no such folder"),
    (["--signals=/absent.npz"], "/absent.npz: no such file"),
    (["--signals="], "--signals must have a value"),
    ([f"--signals={pathlib.Path(__file__).parent}", "--groups=sex"], "folder"),
  ],
)
def test_bad_flags_are_one_line(run, tmp_path, arguments, message):
  line, err = _refused(run, tmp_path, *arguments)
  assert message in line
  assert err == f"{line}\n"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"target_logits": np.zeros((60, 3, 1))}, "target_logits has shape (60, 3, 1)"),
    ({"target_logits": np.full((60, 3), np.nan)}, "target_logits holds 180 NaN"),
    ({"labels": np.full(60, 3)}, "labels holds labels from 3 to 3, expected 0 to 2"),
    ({"labels": None}, "array labels is missing"),
    ({"members": np.ones(60, bool)}, "members marks 60 of 60 rows: no non-members"),
    ({"members": np.zeros(60, bool)}, "members marks 0 of 60 rows: no members"),
    ({"population_logits": np.zeros((50, 4))}, "population_logits has shape (50, 4)"),
    ({"population_logit": np.zeros(3)}, "did you mean 'population_logits'?"),
    (
      {"population_logits": None, "population_labels": None},
      "no attack can run: population needs population_",
    ),
    ({"population_logits": None}, "population_labels is of no use without population"),
    ({"group_sex": np.ones(59)}, "group_sex has shape (59,), expected (60)"),
  ],
)
def test_bad_signals_are_one_line(run, tmp_path, changes, message):
  line, err = _refused(run, tmp_path, _signals(tmp_path / "s.npz", **changes))
  assert message in line
  assert err == f"{line}\n"


@pytest.mark.parametrize(
  ("x", "y", "message"),
  [
    (np.full((300, 4), np.nan), np.arange(300) % 3, "x holds 1200 NaN or infinite"),
    (np.full((300, 4), np.inf), np.arange(300) % 3, "x holds 1200 NaN or infinite"),
    (np.eye(300, 4), np.arange(300) - 1, "y holds 300 different labels over 300"),
    (np.eye(300, 4), np.arange(299) % 3, "x has 300 rows and y has 299, expected"),
    (np.zeros((300, 2, 9, 9)), np.arange(300) % 3, "looks like images with their"),
  ],
)
def test_bad_arrays_are_one_line(run, tmp_path, x, y, message):
  np.savez(tmp_path / "data.npz", x=x, y=y)
  line, err = _refused(run, tmp_path, f"--dataset=npz:{tmp_path / 'data.npz'}")
  assert message in line
  assert err == f"{line}\n"


@pytest.mark.parametrize("flag", ["--signals=", "--dataset=npz:"])
def test_a_truncated_file_is_one_line(run, tmp_path, flag):
  _signals(tmp_path / "s.npz")
  content = (tmp_path / "s.npz").read_bytes()
  (tmp_path / "s.npz").write_bytes(content[:-100])
  line, err = _refused(run, tmp_path, f"{flag}{tmp_path / 's.npz'}")
  assert "s.npz" in line
  assert ".npz file" in line
  assert err == f"{line}\n"


def test_an_estimator_that_no_attack_on_signals_reads_is_refused(run, tmp_path):
  given = (_signals(tmp_path / "s.npz"), "--estimator=linear", "--attacks=metric_loss")
  line, _ = _refused(run, tmp_path, *given)
  assert "--estimator is read by none of the attacks" in line


def test_an_archive_that_is_missing_or_truncated_is_named(run, tmp_path, monkeypatch):
  pytest.importorskip("tensorflow_datasets")
  from jmia.datasets import builders

  def open_url(url, **unused):
    raise ConnectionError(f"cannot reach {url}")

  monkeypatch.setattr(builders.downloader, "_open_url", open_url)
  data_dir = tmp_path / "data"
  arguments = ("--dataset=location30", f"--data_dir={data_dir}")
  output_dir = tmp_path / "out"
  code, _, err = run(*arguments, f"--output_dir={output_dir}")
  assert code == 2
  assert "location30 is not in data_dir" in err.splitlines()[-1]
  assert "put dataset_location.tgz from" in err.splitlines()[-1]
  manual = data_dir / "downloads" / "manual"
  manual.mkdir(parents=True, exist_ok=True)
  (manual / "dataset_location.tgz").write_bytes(b"\x1f\x8b\x08truncated")
  code, _, err = run(*arguments, f"--output_dir={output_dir}")
  assert code == 2
  assert "dataset_location.tgz" in err.splitlines()[-1]
  assert "cannot reach" not in err.splitlines()[-1]
  assert not output_dir.exists()


@pytest.mark.parametrize("below", ["", "/deeper/still"])
def test_an_unwritable_output_folder_is_one_line(run, tmp_path, below):
  (tmp_path / "file").write_text("")
  code, _, err = run(f"--output_dir={tmp_path / 'file'}{below}")
  (line,) = err.splitlines()
  assert code == 2
  assert f"output_dir={tmp_path / 'file'}{below} cannot be used" in line
  assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("num_epochs", [2, 5])
def test_a_target_that_diverges_is_named_and_can_be_mended(run, tmp_path, num_epochs):
  """After 2 steps its weights are finite, but not what it predicts; after 5 neither."""
  flags = (f"--num_epochs={num_epochs}", "--attacks=population")
  line, _ = _refused(run, tmp_path, *flags, "--learning_rate=1e6")
  assert "audit: the target diverged at epoch " in line
  assert line.endswith(": lower learning_rate=1000000.0")
  if num_epochs == 2:
    code, *_ = run(f"--output_dir={tmp_path / 'a' / 'b'}", *flags)
    assert code == 0
    assert sorted(os.listdir(tmp_path / "a" / "b")) == FILES


def test_every_flag_says_what_it_means():
  for flag in flags.FLAGS.get_flags_for_module(binary):
    assert len(flag.help) > 10, flag.name
