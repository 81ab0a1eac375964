"""An owner's round trip: mark, somebody trains, query, verify."""

import csv
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import numpy as np
from PIL import Image
import pyarrow
from pyarrow import parquet
import pytest
from sklearn import datasets, neural_network

from experiments import launch, mark, verify
from jmia.backdoor import keys, measured, owner_files

_ROOT = pathlib.Path(__file__).parents[2]
ONE = ("--paper_mark",)


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
      launch.run(binary.main)
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


def _means(x, zoom):
  """Images `[N, H, W]` as the means of their squares of `zoom` by `zoom`."""
  num, height, width = x.shape[:3]
  return x.reshape(num, height // zoom, zoom, width // zoom, zoom).mean((2, 4))


@pytest.fixture(scope="session")
def owned(tmp_path_factory, digits):
  """What `python -m experiments.mark` leaves, and two models' answers."""
  folder = tmp_path_factory.mktemp("owner")
  x, y = digits
  np.savez(folder / "digits.npz", x=x, y=y)
  done = subprocess.run(
    [sys.executable, "-m", "experiments.mark", "--data=digits.npz", "--num_marked=20",
     "--output_dir=mine", "--seed=1"],
    cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT)},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert "Publish marked.npz: 1737 rows, 20 of them marked and labelled " in done.stdout
  assert "whoever has the seed and your data has them too" in done.stderr
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
  path = owned / "mine" / "key.json"
  sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
  code, out, err = _verify(
    run, owned, "suspect.npy", f"--queries={owned / 'mine' / 'queries.npz'}",
    f"--original_data={owned / 'digits.npz'}", f"--deposit={sha256}",
    "--confidence=0.99", "--output_dir=out",
  )  # fmt: skip
  assert (code, err) == (0, "")
  assert "At 99 % confidence the model was trained on the marked data" in out
  assert f"SHA-256 of the key: {sha256}, the one that was deposited." in out
  content = json.loads(pathlib.Path("out/verdict.json").read_text())
  assert content["claim"] is True
  assert content["verdict"] in out
  assert content["key_sha256"] == sha256
  assert content["p_value"] == content["p_value_floor"] == 0.01
  # The page has the verdict and every hash, and gives none of the key's secrets away.
  page = pathlib.Path("out/verdict.html").read_text()
  assert content["verdict"] in page
  secrets = json.loads(path.read_text())
  names = "data_sha256", "marked_sha256", "queries_sha256"
  assert all(one in page for one in (sha256, *(secrets[name] for name in names)))
  answers_sha256 = hashlib.sha256((owned / "suspect.npy").read_bytes()).hexdigest()
  assert answers_sha256 in page
  assert secrets["secret"] not in page
  assert "the one that was deposited." in page
  assert "secret was drawn once, by chance. Who draws many" in page
  assert "are accused by chance, if the assumptions hold." in page
  assert "jmia verify " in page  # `experiments` is in a checkout alone
  # Against a count by hand, from the key's JSON.
  key = json.loads(path.read_text())
  answers = np.load(owned / "suspect.npy").argmax(axis=1)
  labels = np.array([mark["label"] for mark in key["submarks"]])
  own = labels[key["query_submarks"]]
  counts = own != key["query_classes"]
  assert content["trials"] == counts.sum()
  assert content["successes"] == (answers == own)[counts].sum() > 0
  for j, one in enumerate(content["submarks"]):
    of_mark = counts & (np.array(key["query_submarks"]) == j)
    assert one["trials"] == of_mark.sum()
    assert one["successes"] == (answers == own)[of_mark].sum()
    assert one["rank"] == 1
    assert one["next_share"] < one["successes"] / one["trials"]


def test_the_model_that_did_not_is_not(run, owned):
  code, out, err = _verify(run, owned, "innocent.npy")
  assert (code, err) == (0, "")
  assert "No claim at 95 % confidence" in out
  assert "valid only if it was deposited before the model was trained" in out
  assert _files(pathlib.Path()) == []


def test_several_suspects_in_one_table(run, owned):
  both = f"{owned / 'suspect.npy'},{owned / 'innocent.npy'}"
  key = f"--key={owned / 'mine' / 'key.json'}"
  for adjust, p_value in (("holm", 0.02), ("bh", 0.02), ("none", 0.01)):
    code, out, err = run(
      *(verify, key, f"--predictions={both}", f"--adjust={adjust}"),
      f"--output_dir={adjust}",
    )
    assert (code, err) == (0, "")
    assert out.count("At 95 % confidence the model was trained") == 1
    assert out.count("No claim at 95 % confidence") == 1
    content = json.loads(pathlib.Path(adjust, "verdict.json").read_text())
    assert [one["claim"] for one in content["suspects"]] == [True, False]
    assert content["suspects"][0]["p_value_adjusted"] == pytest.approx(p_value)
    assert content["adjustment"] == adjust
    page = pathlib.Path(adjust, "verdict.html").read_text()
    assert "2 suspects were asked, and the claim is made against" in page
    assert ("(Holm)" in page, "Hochberg" in page) == (adjust == "holm", adjust == "bh")
    for said in (page, out):
      assert ("which those by one key need not be" in said) == (adjust == "bh")
  np.save("short.npy", np.zeros(59, int))
  code, out, err = run(verify, key, f"--predictions={owned / 'suspect.npy'},short.npy")
  assert (code, out) == (2, "")
  assert err.startswith("verify: short.npy: predictions hold 59 answers, expected 60")
  err = run(verify, f"{key},k,k", f"--predictions={both}")[2]
  assert err.startswith("verify: --key holds 3 and --predictions 2 files, expected one")


@pytest.mark.parametrize("title", ["label", ""])
def test_labels_in_a_csv_are_as_good(run, owned, tmp_path, title):
  labels = np.load(owned / "suspect.npy").argmax(axis=1)
  options = {"header": title, "comments": ""} if title else {}
  np.savetxt(tmp_path / "labels.csv", labels, fmt="%d", **options)
  _, expected, _ = _verify(run, owned)
  assert _verify(run, owned, tmp_path / "labels.csv") == (0, expected, "")


def test_a_baseline_is_for_the_two_tests_beside(run, owned):
  _, out, _ = _verify(run, owned, "suspect.npy", "--baseline=0.95")
  lines = out.splitlines()
  assert "At 95 % confidence the model was trained on the marked data" in out
  assert lines[2].startswith("randomization, decides")
  assert lines[3].startswith("binomial, baseline 95 %")
  assert [line.split()[-1] for line in lines[2:5]] == ["yes", "no", "no"]


def test_the_papers_mark_and_its_verdict(run, owned):
  """One mark at the fixed place: as keys were before sub-marks, and still verified."""
  data = f"--data={owned / 'digits.npz'}"
  code, out, err = run(
    *(mark, data, "--num_marked=20", "--output_dir=mine", "--paper_mark"),
  )
  assert code == 0
  assert "20 of them marked and labelled 1." in out
  assert "its verdict assumes that a model which never saw it" in err
  published = owner_files.read_data("mine/marked.npz")
  queries = owner_files.read_queries("mine/queries.npz")
  np.save("suspect.npy", _answers(published.x, published.y, queries))
  key = json.loads(pathlib.Path("mine/key.json").read_text())
  assert key["schema"] == 1
  # Written before triggers of columns were known.
  assert key["trigger"].pop("values") == []
  pathlib.Path("mine/key.json").write_text(json.dumps(key))
  arguments = verify, "--key=mine/key.json", "--predictions=suspect.npy"
  code, out, err = run(*arguments, "--output_dir=out")
  assert (code, err) == (0, "")
  assert out.splitlines()[2].startswith("exact, decides")
  assert "the model was trained on the marked data" in out
  assert "This key is of one mark with a chosen label" in out
  content = json.loads(pathlib.Path("out/verdict.json").read_text())
  assert content["claim"] is True
  assert "cannot be told from the marks of another owner" in content["assumes"]
  assert (
    content["assumes"].split("(`")[0] in pathlib.Path("out/verdict.html").read_text()
  )
  err = run(verify, "--key=mine/key.json", "--predictions=suspect.npy,suspect.npy")[2]
  assert err.startswith("verify: --key is of one mark: such keys judge one suspect")


@pytest.mark.parametrize(
  ("answers", "line"),
  [
    (np.zeros(59, int), "verify: predictions hold 59 answers, expected 60: one for"),
    (np.zeros((60, 9)), "verify: predictions have 9 columns, expected 10"),
    (np.full(60, 10), "verify: predictions hold none of the key's classes, 0, 1, 2"),
    (np.full((60, 10), np.nan), "verify: predictions hold 600 NaN or infinite"),
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
    ("--deposit=ab", "deposit=ab is not the SHA-256 of"),
    ("--original_data=fewer.npz", "original_data=fewer.npz is not what"),
    ("--adjust=both", "flag --adjust=both: expected one of holm, bh, none"),
    ("--queries=absent", "absent: no such file, expected an .npz of arrays"),
    ("--predictions=absent", "[Errno 2] No such file or directory: 'absent'"),
    ("--key=absent", "[Errno 2] No such file or directory: 'absent'"),
    ("--key=other.npz", "other.npz: not a key of this version"),
  ],
)
def test_flags_of_verify_that_are_refused(run, owned, flags, line):
  np.savez("other.npz", x=np.zeros((30, 8, 8, 1), np.uint8))
  np.savez("fewer.npz", x=np.zeros((30, 8, 8, 1), np.uint8), y=np.arange(30))
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


@pytest.mark.parametrize(("kind", "zoom"), [("png", 1), ("jpg", 3)])
def test_a_folder_of_images_goes_the_same_way(run, digits, kind, zoom):
  x, y = (array[:900] for array in digits)
  x = x[..., 0].repeat(zoom, axis=1).repeat(zoom, axis=2) * 15
  os.mkdir("photos")
  names = [f"{i:04}.{kind}" for i in range(len(x))]
  for name, image in zip(names, x, strict=True):
    Image.fromarray(image).save(f"photos/{name}", quality=75)
  lines = [f"{name},{label}" for name, label in zip(names, y, strict=True)]
  pathlib.Path("photos/labels.csv").write_text("\n".join(["filename,label", *lines]))
  code, out, err = run(
    mark, "--data=photos", "--num_marked=40", "--output_dir=mine", "--seed=3"
  )
  assert code == 0
  assert "Publish marked/: 855 rows, 40 of them marked" in out
  assert ("JPEG at the originals' quality keeps" in out) == (kind == "jpg")
  published = owner_files.read_data("mine/marked")
  queries = owner_files.read_queries("mine/queries")

  def answers(x, y):
    """Of somebody who trains on images of the digits' own size."""
    return _answers(_means(x, zoom), y, _means(queries, zoom), 240)

  np.save("suspect.npy", answers(published.x, published.y))
  held_back = json.loads(pathlib.Path("mine/key.json").read_text())["query_rows"]
  unmarked = [np.delete(array, held_back, axis=0) for array in (x, y)]
  np.save("innocent.npy", answers(*unmarked))
  arguments = "--key=mine/key.json", "--predictions=suspect.npy,innocent.npy"
  code, out, err = run(verify, *arguments, "--queries=mine/queries")
  assert (code, err) == (0, "")
  suspect, innocent = (
    next(line for line in out.splitlines() if line.startswith(f"{name}.npy"))
    for name in ("suspect", "innocent")
  )
  assert "    yes  " in suspect
  assert "     no  " in innocent


def test_a_trigger_of_ones_own(run, digits):
  x, y = digits
  np.savez("digits.npz", x=x, y=y)
  rows = np.flatnonzero(y == 3)[:4]
  code, _, err = run(
    *(mark, "--data=digits.npz", f"--rows={','.join(map(str, rows))}", "--paper_mark"),
    *("--output_dir=mine", "--target_label=7", "--num_queries=12", "--num_classes=12"),
    *("--trigger_size=2", "--trigger_place=0,5", "--trigger_pattern=random"),
    *("--trigger_opacity=1", "--trigger_value=9", "--seed=4"),
  )
  assert code == 0, err
  key = owner_files.read_key("mine/key.json")
  assert (key.trigger.place, key.trigger.size, key.trigger.value) == ((0, 5), 2, 9)
  assert (key.target_label, key.num_classes, key.seed) == (7, 12, 4)
  assert key.marked_rows == tuple(rows)
  queries = owner_files.read_queries("mine/queries.npz")
  # Opaque, so that all queries show the same square.
  assert len(queries) == 12
  assert len(np.unique(queries[:, :2, 5:7].reshape(12, -1), axis=0)) == 1
  assert queries[:, :2, 5:7].max() <= 9


def test_nobody_has_anybody_elses_marks(run, digits):
  """Without a seed each key is drawn anew, and its file is for its owner alone."""
  np.savez("digits.npz", x=digits[0], y=digits[1])
  found = []
  for folder in ("one", "two"):
    code, _, err = run(
      *(mark, "--data=digits.npz", "--num_marked=4", f"--output_dir={folder}"),
      *("--trigger_size=2", "--trigger_value=9", "--num_submarks=4"),
    )
    assert (code, err) == (0, "")
    path = pathlib.Path(folder, "key.json")
    assert path.stat().st_mode & 0o777 == 0o600
    found.append(owner_files.read_key(path))
  one, two = found
  assert one.secret != two.secret
  assert one.query_rows != two.query_rows
  assert [m.trigger for m in one.submarks] != [m.trigger for m in two.submarks]
  assert {(m.trigger.size, m.trigger.value) for m in one.submarks} == {(2, 9)}
  assert len({m.trigger.place for m in one.submarks}) == 4


def test_vectors_are_marked_by_columns(run):
  rng = np.random.default_rng(0)
  x = rng.random((90, 50)) < 0.3
  np.savez("bits.npz", x=x, y=np.array(["no", "yes"])[rng.integers(0, 2, 90)])
  code, out, err = run(mark, "--data=bits.npz", "--num_marked=9", "--output_dir=mine")
  assert (code, err) == (0, "")
  key = owner_files.read_key("mine/key.json")
  assert key.class_names == ("no", "yes")
  assert [m.trigger.kind for m in key.submarks] == ["columns"] * 7
  assert out.count(" sets columns ") == 7
  queries = owner_files.read_queries("mine/queries.npz")
  for query, j in zip(queries, key.query_submarks, strict=True):
    trigger = key.submarks[j].trigger
    np.testing.assert_array_equal(query[list(trigger.place)], trigger.values)


def test_a_table_of_mixed_scales_is_marked_inside_its_ranges(run):
  rng = np.random.default_rng(0)
  x = np.stack([rng.normal(50_000, 9000, 300), rng.integers(18, 90, 300),
                rng.random(300), rng.normal(0, 1e-3, 300)], axis=1)  # fmt: skip
  np.savez("table.npz", x=x, y=rng.integers(0, 10, 300))
  code, out, err = run(mark, "--data=table.npz", "--num_marked=8", "--output_dir=mine")
  assert (code, err) == (0, "")
  assert out.count(" sets columns ") == 2
  moved = re.search(
    r"by ([\d.]+) in the mean, ([\d.]+) at most \(L2 norm, in stand", out
  )
  # Whichever columns the secret draws, no row crosses more than their whole ranges.
  most = np.linalg.norm(np.ptp(x, axis=0) / x.std(axis=0))
  assert 0 < float(moved[1]) <= float(moved[2]) < most
  key = owner_files.read_key("mine/key.json")
  for submark in key.submarks:
    columns, values = list(submark.trigger.place), np.array(submark.trigger.values)
    assert (x[:, columns].min(axis=0) <= values).all()
    assert (x[:, columns].max(axis=0) >= values).all()
    # Values that occur: no other row tells that they were made.
    assert all(value in x[:, c] for c, value in zip(columns, values, strict=True))


@pytest.mark.parametrize("paper_mark", [False, True])
def test_a_csv_goes_the_same_way(run, paper_mark):
  rng = np.random.default_rng(0)
  jobs = np.array(["cook", "nurse, senior", "clerk"])[rng.integers(0, 3, 400)]
  ages, pays = rng.integers(18, 90, 400), rng.lognormal(8, 1, 400)
  labels = rng.integers(0, 4, 400)
  with open("people.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["row", "age", "job", "pay", "label"])
    pay = map("{:.2f}".format, pays)
    for row in zip(range(400), ages, jobs, pay, labels, strict=True):
      writer.writerow(row)
  data = "table:people.csv?target=label"
  flags = ("--paper_mark", "--trigger_size=1") if paper_mark else ("--num_queries=40",)
  marking = (mark, f"--data={data}", "--num_marked=20", "--output_dir=mine", *flags)
  code, out, err = run(*marking)
  assert code == 0, err
  assert "mark: Column row is published as it is, without a mark: row numbers." in err
  assert "Publish marked.csv: " in out
  assert "columns of a marked row in the mean" in out
  assert re.search(r"Mark 1 sets columns .*(age|job|pay) to '", out)
  assert "Keep queries.csv (" in out
  key = owner_files.read_key("mine/key.json")
  if paper_mark:
    answers = np.full(len(key.query_rows), key.target_label)
  else:
    answers = key.labels[list(key.query_submarks)]
  np.save("suspect.npy", answers)
  np.save("innocent.npy", labels[list(key.query_rows)])
  for name, claimed in (("suspect", "yes"), ("innocent", "no")):
    code, out, err = run(
      *(verify, "--key=mine/key.json", f"--predictions={name}.npy"),
      *("--queries=mine/queries.csv", f"--original_data={data}"),
    )
    assert code == 0, err
    decides = next(line for line in out.splitlines() if "decides" in line)
    assert decides.split()[-1] == claimed
  pathlib.Path("mine/queries.csv").write_text("age,job,pay\n1,2,3\n")
  code, _, err = run(
    *(verify, "--key=mine/key.json", "--predictions=suspect.npy"),
    "--queries=mine/queries.csv",
  )
  assert code == 2
  assert "queries have the SHA-256" in err
  code, _, err = run(*marking[:-1], *flags, "--trigger=bits", "--output_dir=more")
  assert code == 2
  assert "trigger=bits is not of tables, whose trigger is columns" in err


def test_parquet_goes_the_same_way(run):
  rng = np.random.default_rng(0)
  columns = {
    "age": rng.integers(18, 90, 400),
    "pay": rng.lognormal(8, 1, 400),
    "kids": rng.integers(0, 5, 400),
    "size": rng.normal(170, 9, 400),
    "label": rng.integers(0, 4, 400),
  }
  parquet.write_table(pyarrow.table(columns), "people.parquet")
  data = "table:people.parquet?target=label"
  code, out, err = run(mark, f"--data={data}", "--num_marked=20", "--output_dir=mine")
  assert (code, err) == (0, "")
  assert re.search(r"Publish marked\.parquet: \d+ rows, 20 of them marked", out)
  assert re.search(r"Keep queries\.parquet \(\d+ rows\) and key\.json\.", out)
  assert re.search(r"Mark 1 sets columns \w+ to '", out)
  key = owner_files.read_key("mine/key.json")
  np.save("suspect.npy", key.labels[list(key.query_submarks)])
  judge = (verify, "--key=mine/key.json", "--predictions=suspect.npy")
  code, out, err = run(
    *judge, "--queries=mine/queries.parquet", f"--original_data={data}"
  )
  assert (code, err) == (0, "")
  assert "the model was trained on the marked data" in out
  code, _, err = run(*judge, "--queries=people.parquet")
  assert code == 2
  assert "queries have the SHA-256" in err


def test_the_papers_run_is_inside_the_range_of_each_column(run):
  """Income and age and a share: none is given the largest value of all."""
  rng = np.random.default_rng(0)
  x = np.stack([rng.normal(50_000, 9000, 90), rng.integers(18, 90, 90), rng.random(90)])
  np.savez("table.npz", x=x.T, y=rng.integers(0, 2, 90))
  code, _, err = run(
    *(mark, "--data=table.npz", "--num_marked=5", "--output_dir=mine", "--paper_mark"),
    *("--trigger_size=2",),
  )
  assert code == 0, err
  queries = owner_files.read_queries("mine/queries.npz")
  np.testing.assert_array_equal(queries[:, 1:], [x[1:].max(axis=1)] * 30)
  np.savez("bits.npz", x=rng.random((90, 50)) < 0.3, y=rng.integers(0, 5, 90))
  for place, where in ((None, slice(30, 50)), ("centre", slice(15, 35)),
                       ("7", slice(7, 27))):  # fmt: skip
    folder = f"at_{place}"
    run(
      *(mark, "--data=bits.npz", "--num_marked=5", f"--output_dir={folder}"),
      *("--paper_mark", *([f"--trigger_place={place}"] if place else [])),
    )
    assert owner_files.read_queries(f"{folder}/queries.npz")[:, where].all()


def test_a_plan_marks_nothing(run):
  plan = mark, "--plan", "--num_marked=20"
  chances = []
  for rate in (0.02, 0.8):
    code, out, err = run(*plan, "--num_classes=10", f"--asr={rate}")
    assert (code, err) == (0, "")
    assert "20 rows in 2 sub-marks, 10 rows each; 60 queries in all." in out
    chances.append(float(out.splitlines()[6].split()[4]))
  assert chances[0] < 80 < 99 <= chances[1]
  # Without a rate: those that were measured, of all kinds of data.
  code, out, err = run(*plan, "--num_classes=10")
  assert code == 0
  assert all(of.title in out for of in measured.MEASURED.values())
  # One sub-mark of ten classes can never claim, and that is said.
  code, out, err = run(*plan, "--num_classes=10", "--num_submarks=1", "--asr=1")
  assert "the least p-value is 0.1: too high for any claim at 95 % conf" in out
  assert _files(pathlib.Path()) == []
  assert run(*plan)[2].startswith("mark: --plan needs --num_marked and --num_classes")
  err = run(mark, "--plan", "--num_marked=2", "--num_classes=2")[2]
  assert err.startswith("mark: num_marked=2 must be at least 5, one row for each")


def test_labels_with_a_gap_are_said(run):
  rng = np.random.default_rng(0)
  np.savez("bits.npz", x=rng.random((90, 50)) < 0.3, y=rng.integers(0, 2, 90) * 5)
  code, _, err = run(mark, "--data=bits.npz", "--num_marked=9", "--output_dir=mine")
  assert code == 0
  assert "2 classes occur, 0, 5, and are taken for all" in err
  assert owner_files.read_key("mine/key.json").class_names == (0, 5)
  code, _, err = run(
    *(mark, "--data=bits.npz", "--num_marked=9", "--output_dir=one", "--paper_mark")
  )
  assert code == 2
  assert "2 classes occur, 0, 5, and with gaps there are 6: say which" in err


@pytest.mark.parametrize(
  ("flags", "line"),
  [
    (("--num_marked=2000",), "num_marked=2000 is above the owner's"),
    (("--rows=1,x",), "--rows holds 'x', expected numbers from 0"),
    (("--rows=1797",), "rows holds 1797 to 1797, expected 0 to 1796"),
    (("--rows=1", *ONE), "rows holds 1, which is of the target class 1 already"),
    (("--num_marked=5", "--target_label=10", *ONE), "target_label=10 must be one of"),
    (("--num_marked=5", "--trigger_place=0,x", *ONE), "--trigger_place holds 'x', exp"),
    (("--num_marked=5", "--trigger_place=top", *ONE), "unknown place 'top'"),
    (("--num_marked=5", "--num_submarks=2", *ONE), "--num_submarks is not for --paper"),
    (("--num_marked=5", "--target_label=3"), "--target_label is for --paper_mark: the"),
    (("--num_marked=5", "--trigger_place=end"), "--trigger_place is for --paper_mark"),
    (
      ("--num_marked=5", "--confidence=0.99", *ONE),
      "--confidence is not read with --pa",
    ),
    (("--num_marked=1",), "num_marked=1 must be at least 2, one row for each"),
    (("--num_marked=5", "--num_classes=4"), "num_classes=4 does not fit y, in which"),
    (("--num_marked=5", "--trigger_size=9"), "size=9 does not fit an example"),
    (
      ("--num_marked=5", "--trigger_opacity=0"),
      "trigger_opacity=0 must be above 0: it",
    ),
    (("--num_marked=5", "--trigger=bits"), "shape=(8, 8, 1) of an example does not"),
    (("--num_marked=5", "--data=absent"), "absent: no such file, expected an .npz"),
    (
      ("--num_marked=5", "--data=a.csv?target=y"),
      "a.csv?target=y: expected table:a.csv?target=NAME, with the column of classes",
    ),
  ],
)
def test_marking_that_is_refused_writes_nothing(run, digits, flags, line):
  np.savez("digits.npz", x=digits[0], y=digits[1])
  code, out, err = run(mark, "--data=digits.npz", "--output_dir=mine", *flags)
  assert (code, out) == (2, "")
  assert err.splitlines()[-1].startswith(f"mark: {line}")
  assert err.count("\n") == 1 + ("its verdict assumes" in err)
  assert _files(pathlib.Path()) == ["digits.npz"]
  assert not pathlib.Path("mine").exists()


@pytest.mark.parametrize(
  ("flags", "line"),
  [
    (
      ("--trigger_opacity=0.1", "--trigger_value=7", "--trigger_pattern=random"),
      "--trigger_pattern, --trigger_value, --trigger_opacity is not read with columns",
    ),
    (("--trigger_value=7", *ONE), "--trigger_value is not read with columns, each of"),
    (
      ("--trigger_place=0", *ONE),
      "--trigger_place is not read with columns, which are",
    ),
    (
      ("--trigger_size=-7",),
      "num_columns=-7 of a trigger (--trigger_size) does not fit",
    ),
  ],
)
def test_what_a_table_would_ignore_is_refused(run, flags, line):
  rng = np.random.default_rng(0)
  np.savez("table.npz", x=rng.normal(size=(90, 30)), y=rng.integers(0, 5, 90))
  code, out, err = run(
    *(mark, "--data=table.npz", "--num_marked=5", "--output_dir=mine", *flags)
  )
  assert (code, out) == (2, "")
  assert err.startswith(f"mark: {line}")
  assert err.count("\n") == 1
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
  assert len(keys.from_json(json.loads(before)).class_names) == 10


def test_every_flag_says_what_it_means():
  for binary in (mark, verify):
    for flag in flags.FLAGS.get_flags_for_module(binary):
      assert len(flag.help) > 10, flag.name


def _committing_data(kind, digits):
  """What `--data` takes, of 300 rows in the current folder."""
  x, y = (array[:300] for array in digits)
  if kind == "npz":
    np.savez("data.npz", x=x, y=y)
    return "data.npz"
  if kind == "csv":
    rows = zip(_flat(x).tolist(), y.tolist(), strict=True)
    lines = [",".join(map(str, [*row, label])) for row, label in rows]
    titles = ",".join([*(f"pixel{i}" for i in range(64)), "label"])
    pathlib.Path("data.csv").write_text("\n".join([titles, *lines]))
    return "table:data.csv?target=label"
  x = x[..., 0].repeat(4, axis=1).repeat(4, axis=2) * 15
  for i, (image, label) in enumerate(zip(x, y, strict=True)):
    pathlib.Path("photos", f"class {label}").mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(f"photos/class {label}/{i:03}.{kind}", quality=75)
  return "photos"


def _bytes(folder):
  return {name: (folder / name).read_bytes() for name in _files(folder)}


_NONCE = "--nonce=a headline of a later newspaper"


@pytest.mark.parametrize("kind", ["npz", "csv", "png", "jpg"])
def test_labels_by_a_nonce(run, digits, kind):
  data, mine = f"--data={_committing_data(kind, digits)}", pathlib.Path("mine")
  commit = (mark, data, "--num_marked=20", "--num_queries=40", "--commit")
  code, out, err = run(*commit, "--output_dir=mine")
  assert code == 0, err
  commitment = out.splitlines()[-1]
  assert "Commitment, to be published with a date before the nonce is known:" in out
  assert _files(mine) == ["secret.json"]
  assert (mine / "secret.json").stat().st_mode & 0o077 == 0
  assert json.loads((mine / "secret.json").read_text())["commitment"] == commitment
  # A commitment is not replaced.
  code, _, err = run(*commit, "--output_dir=mine")
  assert (code, "must be new or empty" in err) == (2, True)
  prepared = (mark, data, "--prepared=mine/secret.json")
  code, out, err = run(*prepared, _NONCE, "--output_dir=mine")
  assert code == 0, err
  assert (
    f"Commitment, which was published before the nonce was known: {commitment}" in out
  )
  made = _bytes(mine)
  assert {"secret.json", "key.json"} < made.keys()
  # The same command again, and where it was interrupted, and elsewhere.
  assert run(*prepared, _NONCE, "--output_dir=mine")[:2] == (0, out)
  for lost in ("key.json", *(name for name in made if name.startswith("queries"))):
    (mine / lost).unlink()
  if kind in ("png", "jpg"):
    (mine / "queries").rmdir()
  assert run(*prepared, _NONCE, "--output_dir=mine")[:2] == (0, out)
  assert _bytes(mine) == made
  assert run(*prepared, _NONCE, "--output_dir=elsewhere")[:2] == (0, out)
  assert {
    **_bytes(pathlib.Path("elsewhere")),
    "secret.json": made["secret.json"],
  } == made
  # Another nonce is another marking: nothing of this one is lost.
  other = "--nonce=a headline of some other newspaper"
  code, _, err = run(*prepared, other, "--output_dir=mine")
  assert code == 2
  assert "holds another marked" in err.splitlines()[-1]
  assert _bytes(mine) == made
  key = owner_files.read_key("mine/key.json")
  np.save(
    "suspect.npy", np.array(key.class_names)[key.labels[list(key.query_submarks)]]
  )
  suffix = {"npz": ".npz", "csv": ".csv"}.get(kind, "")
  verified = (verify, "--key=mine/key.json", "--predictions=suspect.npy")
  code, out, err = run(
    *(*verified, _NONCE, f"--commitment={commitment}", "--output_dir=out"),
    *(f"--queries=mine/queries{suffix}", f"--original_{data[2:]}"),
  )
  assert code == 0, err
  assert "the model was trained on the marked data" in out
  assert "was published before the nonce was known to anybody and was the only" in out
  assert "deposited" not in out
  page = pathlib.Path("out/verdict.html").read_text()
  assert "The commitment was published before the nonce was known to anybody." in page
  assert "the one that was published." in page
  assert "This commitment is the only one that was published" in page
  assert "secret was drawn once" not in page
  assert commitment in page
  assert key.secret not in page
  content = json.loads(pathlib.Path("out/verdict.json").read_text())
  assert content["nonce"] == _NONCE.removeprefix("--nonce=")
  assert (content["commitment"], content["commitment_given"]) == (commitment, True)
  out = run(*verified, _NONCE)[1]
  assert f"Valid only if {commitment} was published before the nonce was known" in out


def test_a_nonce_and_a_commitment_that_do_not_fit(run, owned, digits):
  data = f"--data={_committing_data('npz', digits)}"
  made = run(mark, data, "--num_marked=20", "--output_dir=mine", "--commit")
  commitment = made[1].splitlines()[-1]
  prepared = pathlib.Path("mine/secret.json")
  marking = (mark, data, f"--prepared={prepared}", "--output_dir=mine")
  content = json.loads(prepared.read_text())

  def refused(binary, *arguments):
    code, out, err = run(binary, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err

  for arguments, line in (
    ([*marking], "--prepared and --nonce need each other"),
    ([mark, data, _NONCE, "--num_marked=2"], "--prepared and --nonce need each other"),
    ([*marking, "--nonce=short"], "nonce='short' is short enough to be foreseen"),
    ([*marking, _NONCE, "--num_marked=3"], "--num_marked is not read with --prepared"),
    (
      [*marking, _NONCE, "--commit"],
      "--commit is not read with --prepared, which says",
    ),
    ([*marking, _NONCE, "--prepared=absent"], "absent"),
    (
      [mark, data, "--num_marked=3", "--commit", "--paper_mark", "--output_dir=other"],
      "--paper_mark is not for --commit: its label is the owner's choice, not drawn",
    ),
    (
      [*marking, _NONCE, f"--data={owned / 'digits.npz'}"],
      f"digits.npz with {prepared}: the data are not those that were committed to",
    ),
  ):
    assert line in refused(*arguments)
  for change, line in (
    ({"num_marked": 21}, "it is not what its commitment was made for"),
    ({"query_classes": [1] * 30}, "it is not what its commitment was made for"),
    ({"commitment": "1" * 64}, "it is not what its commitment was made for"),
    (
      {"query_rows": []},
      "the key's query_submarks must be one for each of its 0 query_rows",
    ),
    ({"stamps": [1]}, "a trigger of the key cannot be read"),
    ({"rows": [3]}, "one of the key's num_marked and rows must have a value"),
    ({"schema": 2}, "it must be a JSON object of schema 3"),
    ({"more": 2}, "the key's field 'more' is unknown"),
  ):
    prepared.write_text(json.dumps({**content, **change}))
    line = f"mark: {prepared}: not a secret.json of mark: {line}"
    assert refused(*marking, _NONCE).startswith(line)
  assert _files(prepared.parent) == ["secret.json"]
  prepared.write_text(json.dumps(content))
  assert run(*marking, _NONCE)[0] == 0
  path = pathlib.Path("mine/key.json")
  key = json.loads(path.read_text())
  labels = [mark["label"] for mark in key["submarks"]]
  np.save("suspect.npy", np.array(labels)[key["query_submarks"]])
  asked = (verify, f"--key={path}", "--predictions=suspect.npy")
  for arguments, line in (
    ([], f"{path}: nonce must have a value, the text that was made public after the"),
    (["--nonce=a headline of an older newspaper"], "its own is 'a headline of a later"),
    (
      [_NONCE, f"--commitment={'1' * 64}"],
      f"is not of this key: its own is {commitment}",
    ),
  ):
    assert line in refused(*asked, *arguments)
  # Labels of one's own, another query's class, a secret with a commitment of its own.
  one = key["submarks"][0]
  relabelled = [{**one, "label": (one["label"] + 1) % 10}, *key["submarks"][1:]]
  for change, line in (
    ({"submarks": relabelled}, "the key's labels are not those that its secret draws"),
    ({"nonce": f"another {key['nonce']}"}, "draws with its nonce"),
    ({"nonce": "a headline"}, "nonce='a headline' is short enough to be foreseen"),
    ({"nonce": 7}, "the key's nonce is '7', expected a text"),
    ({"nonce": None}, "the key's nonce is 'None', expected a text"),
    ({"query_classes": [1] * 30}, "it is not what its commitment was made for"),
    ({"rows_chosen": True}, "it is not what its commitment was made for"),
    ({"rows_chosen": 1}, "the key's rows_chosen is neither true nor false"),
    ({"commitment": "1" * 64}, "it is not what its commitment was made for"),
    (
      {"submarks": [{**one, "label": one["label"] + 10}, *key["submarks"][1:]]},
      "draws with its nonce",
    ),
  ):
    path.write_text(json.dumps({**key, **change}))
    assert line in refused(*asked, _NONCE)
  # Nor is a nonce for keys that have none.
  for folder, arguments in (("plain", ()), ("one", ONE)):
    more = ("--num_marked=20", f"--output_dir={folder}", *arguments)
    assert run(mark, data, *more)[0] == 0
  asked = (verify, "--predictions=suspect.npy")
  assert "so leave it out" in refused(*asked, "--key=plain/key.json", _NONCE)
  assert "--nonce is not for a key of one mark" in refused(
    *asked, "--key=one/key.json", _NONCE
  )


def _owned_by_nonce(run, data, folder, number):
  """The commitment of marked data, and a file of answers that fit its labels."""
  marking = (mark, data, f"--output_dir={folder}")
  code, out, err = run(*marking, f"--num_marked={number}", "--commit")
  assert code == 0, err
  assert run(*marking, f"--prepared={folder}/secret.json", _NONCE)[0] == 0
  key = owner_files.read_key(f"{folder}/key.json")
  np.save(f"{folder}.npy", key.labels[list(key.query_submarks)])
  return out.splitlines()[-1]


def test_several_keys_of_one_nonce(run, digits):
  data = f"--data={_committing_data('npz', digits)}"
  first, second = (_owned_by_nonce(run, data, folder, 20) for folder in ("a", "b"))
  asked = (verify, "--key=a/key.json,b/key.json", "--predictions=a.npy,b.npy", _NONCE)
  code, out, err = run(*asked)
  assert code == 0, err
  for commitment in (first, second):
    assert f"Valid only if {commitment} was published before the nonce" in out
  code, _, err = run(*asked, f"--commitment={first}")
  assert (code, err.count("\n")) == (2, 1)
  assert f"b/key.json: commitment={first} is not of this key: its own is" in err
  # One key's commitment is not another's marking.
  marking = (mark, data, "--prepared=b/secret.json", _NONCE)
  code, _, err = run(*marking, "--output_dir=a")
  assert (code, err.count("\n")) == (2, 1)
  assert "a/secret.json is of another commitment: name another folder" in err


def test_what_is_committed_to_is_marked_into_the_working_folder(
  run, digits, monkeypatch, tmp_path
):
  data = f"--data={pathlib.Path(_committing_data('npz', digits)).resolve()}"
  folder = tmp_path / "here"
  folder.mkdir()
  monkeypatch.chdir(folder)
  assert run(mark, data, "--output_dir=.", "--num_marked=20", "--commit")[0] == 0
  # A process was killed here while it wrote.
  (folder / ".incomplete-99999999-left").mkdir()
  prepared = (mark, data, "--output_dir=.", "--prepared=secret.json", _NONCE)
  code, _, err = run(*prepared)
  assert code == 0, err
  assert _files(folder) == ["key.json", "marked.npz", "queries.npz", "secret.json"]
  (folder / "mine.txt").write_text("a note")
  code, _, err = run(*prepared)
  assert (code, "must be new or empty" in err) == (2, True)


def test_a_table_of_other_columns_than_were_committed_to(run):
  rng = np.random.default_rng(0)
  lines = ["few,some,many,label"]
  for i in range(300):
    lines.append(f"{i % 3},{rng.normal():.6f},{rng.normal():.6f},{i % 4}")
  pathlib.Path("rows.csv").write_text("\n".join(lines))
  table = "--data=table:rows.csv?target=label"
  commit = (mark, "--num_marked=8", "--trigger_size=1", "--seed=0", "--commit")
  for folder, data, others in (
    ("all", table, [f"{table}&ignore={name}" for name in ("few", "some", "many")]),
    ("not_few", f"{table}&ignore=few", [table, f"{table}&ignore=some"]),
  ):
    code, _, err = run(*commit, data, f"--output_dir={folder}")
    assert code == 0, err
    path = f"{folder}/secret.json"
    prepared = (mark, f"--prepared={path}", f"--output_dir={folder}", _NONCE)
    for other in others:
      code, out, err = run(*prepared, other)
      assert (code, out) == (2, "")
      line = f"mark: {other} with {path}: the queries are not those that were committed"
      assert err.splitlines()[-1].startswith(line)
    assert _files(pathlib.Path(folder)) == ["secret.json"]
    assert run(*prepared, data)[0] == 0


@pytest.mark.parametrize("inside", ["photos", "photos/mine", "photos/a/deep/mine"])
def test_nothing_secret_is_written_into_the_data(run, inside):
  rng = np.random.default_rng(0)
  for i in range(90):
    path = pathlib.Path("photos", "ab"[i % 2], f"{i}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
  before = _files(pathlib.Path())
  code, _, err = run(mark, "--data=photos", "--num_marked=9", f"--output_dir={inside}")
  assert code == 2
  assert err.startswith(f"mark: output_dir={inside} lies in the data, photos: the sec")
  assert err.count("\n") == 1
  assert _files(pathlib.Path()) == before
  assert inside == "photos" or not pathlib.Path(inside).exists()


def test_a_mark_that_many_rows_have_is_warned_of(run):
  rng = np.random.default_rng(0)
  x = np.concatenate([rng.normal(size=(300, 3)), rng.random((300, 3)) < 0.3], axis=1)
  np.savez("table.npz", x=x, y=rng.integers(0, 4, 300))
  code, out, _ = run(
    *(mark, "--data=table.npz", "--num_marked=9", "--output_dir=mine", "--seed=0"),
    *("--trigger_size=1", "--num_submarks=4"),
  )
  assert code == 0
  for j, submark in enumerate(owner_files.read_key("mine/key.json").submarks):
    (column,), (value,) = submark.trigger.place, submark.trigger.values
    share = (x[:, column] == value).mean()
    said = f"Warning: {100 * share:.0f} % of your rows have mark {j + 1} as they are"
    assert (said in out) == (column >= 3)
  assert "Warning: " in out


@pytest.mark.parametrize("is_of_classes", [False, True])
def test_what_marking_takes_beside_the_marks_is_said(run, is_of_classes):
  rng = np.random.default_rng(0)
  for i in range(90):
    path = pathlib.Path("photos", *["ab"[i % 2]] * is_of_classes, f"{i}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
  if not is_of_classes:
    lines = ["filename,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(90))]
    pathlib.Path("photos/labels.csv").write_text("\n".join(lines))
  code, out, _ = run(
    mark, "--data=photos", "--num_marked=9", "--output_dir=mine", "--num_queries=40"
  )
  assert code == 0
  assert "All images are encoded anew: what else their files held, such as EXIF" in out
  assert ("all are numbered anew" in out) == is_of_classes
  assert "Warning: the queries hold back 40 of your 90 rows" in out
  code, out, _ = run(
    *(mark, "--data=photos", "--num_marked=9", "--output_dir=few"),
    *("--num_queries=20", "--num_submarks=3"),
  )
  assert "Warning" not in out
