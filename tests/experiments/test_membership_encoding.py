"""The binary of Song and Shokri's studies, cut down to a few rows and epochs."""

import dataclasses
import functools
import json

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest
from sklearn import manifold

from experiments import membership_encoding as binary
from jmia import datasets
from jmia.encoding import decode, settings, studies, trials
from jmia.training import config as config_lib

DIGITS = {
  "num_trials": 2, "num_epochs": 3, "num_members": 200, "num_test": 100,
  "num_synthetic": 20,
}  # fmt: skip
RECORDS = DIGITS | {"setup": "purchase5", "num_trials": 1}
COMMON = {"study", "setup", "form", "trial", "diverged"}
DECODED = {"precision", "recall", "fpr", "auc", "auc_low", "auc_high"}


def _run(folder, **given):
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(output_dir=str(folder), **given):
    binary.main()
  content = json.loads((folder / "results.json").read_text())
  assert content["schema"] == 1
  assert not (folder / "checkpoints").exists()
  return content["rows"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A folder of models that studies of the same settings share, and its first rows."""
  models = str(tmp_path_factory.mktemp("models"))
  rows = _run(
    tmp_path_factory.mktemp("plain"), study="whitebox", models_dir=models, **DIGITS
  )
  return models, rows


def test_whitebox(trained):
  _, rows = trained
  assert [row["trial"] for row in rows] == [0, 1]
  for row in rows:
    assert row.keys() == COMMON | DECODED | {
      "baseline_accuracy", "test_accuracy", "train_accuracy", "encoding_accuracy",
      "auc_without_encoding", "paper",
    }  # fmt: skip
    assert row["paper"] is None
    assert 0 < row["test_accuracy"] <= 1
    assert row["auc_low"] < row["auc"] < row["auc_high"]


def test_blackbox(tmp_path):
  rows = _run(tmp_path, study="blackbox", **DIGITS)
  assert {row["form"] for row in rows} == {"blackbox"}
  assert (tmp_path / "blackbox.png").stat().st_size > 10_000
  assert all(row.keys() >= DECODED | {"baseline_accuracy"} for row in rows)


def test_more_steps_of_the_encoding_for_each_of_the_classifiers(tmp_path):
  reached = []
  for steps in (1, 8):
    folder = tmp_path / str(steps)
    rows = _run(folder, study="blackbox", discriminator_steps=steps, **DIGITS)
    content = json.loads((folder / "results.json").read_text())
    assert content["config"]["discriminator_steps"] == steps
    reached.append([row["encoding_accuracy"] for row in rows])
  assert np.all(np.subtract(reached[1], reached[0]) > 0)


def test_redaction_of_the_same_models(tmp_path, trained, capsys):
  models, plain = trained
  rows = _run(tmp_path, study="redaction", models_dir=models, **DIGITS)
  assert len(rows) == 2 * (1 + 2 * 4 + 16)
  assert {row["mask"] for row in rows} >= {"none", "centre 4/32", "block 3,3"}
  assert rows[0]["removed"] == 0
  assert (tmp_path / "redaction.png").stat().st_size > 10_000
  assert [row["auc"] for row in rows if row["mask"] == "none"] == [
    row["auc"] for row in plain
  ]
  assert "centre 16/32" in capsys.readouterr().out
  with pytest.raises(ValueError, match="was made with"):
    _run(tmp_path, study="redaction", models_dir=models, **DIGITS, encoded_share=0.3)


def test_watermark_beside_the_same_models(tmp_path, trained, monkeypatch):
  models, _ = trained
  # False claims are as rare however little a decoder has learnt.
  short = functools.partial(decode.DecodeConfig, num_epochs=10)
  monkeypatch.setattr(decode, "DecodeConfig", short)
  rows = _run(tmp_path, study="watermark", models_dir=models, num_claims=99, **DIGITS)
  assert [(row["model"], row["claim"]) for row in rows] == [
    (model, claim)
    for model in ("watermarked", "clean")
    for claim in ("owner", "wrong key", "unrelated rows")
  ]
  assert (tmp_path / "watermark.png").stat().st_size > 10_000
  content = json.loads((tmp_path / "results.json").read_text())
  assert content["config"]["num_trials"] == 1
  # Of 99 false claims at 5 %, 16 or more are accepted once in 30,000 times.
  assert all(
    row["p_value_at_0.05"] < 16 / 99 for row in rows if row["num_claims"] == 99
  )


def test_losses_by_epoch(tmp_path):
  rows = _run(tmp_path, study="losses", **DIGITS)
  assert [(row["trial"], row["epoch"]) for row in rows] == [
    (trial, epoch) for trial in (0, 1) for epoch in (1, 2, 3)
  ]
  for name in ("encoded_loss", "other_loss", "test_loss", "encoding_loss"):
    assert all(row[name] > 0 for row in rows)
    assert rows[2][name] < rows[0][name]
  assert (tmp_path / "losses.png").stat().st_size > 10_000


def test_capacity(tmp_path):
  rows = _run(tmp_path, study="capacity", **DIGITS)
  assert [row["width"] for row in rows] == [64, 64, 256, 256, 512, 512]
  assert all(row.keys() >= DECODED | {"test_accuracy"} for row in rows)


def test_pruning_of_the_same_models(tmp_path, trained, monkeypatch):
  models, plain = trained
  again = studies._encode_again

  def diverging(*arguments):
    return again(*arguments)._replace(diverged_epoch=np.zeros(18, np.int32))

  monkeypatch.setattr(studies, "_encode_again", diverging)
  rows = _run(tmp_path, study="pruning", models_dir=models, **DIGITS)
  shares = [share / 10 for share in range(1, 10)]
  assert [(row["trial"], row["share"], row["method"]) for row in rows] == [
    (trial, share, method)
    for trial in (0, 1)
    for share in shares
    for method in ("magnitude", "adversarial")
  ]
  # That encoding again diverged says nothing of the models that it began from.
  assert all(row["diverged"] == (row["method"] == "adversarial") for row in rows)
  # A tenth of the smallest weights changes little, nine tenths much.
  least, most = (
    np.mean(
      [
        r["test_accuracy"]
        for r in rows
        if (r["share"], r["method"]) == (s, "magnitude")
      ]
    )
    for s in (0.1, 0.9)
  )
  before = np.mean([row["test_accuracy"] for row in plain])
  assert abs(least - before) < 0.05
  assert most < before - 0.1


def test_transfer_of_a_black_box(tmp_path):
  rows = _run(
    tmp_path, study="transfer", form="blackbox", transfer_to="digits", **DIGITS
  )
  assert [row["epoch"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
  assert {row["form"] for row in rows} == {"blackbox"}
  assert (tmp_path / "transfer.png").stat().st_size > 10_000
  assert rows[0]["target_accuracy"] is None
  after = [row["target_accuracy"] for row in rows[2:]]
  assert min(after[-2:]) > max(after[:2])  # chance is .1
  assert min(after[-2:]) > 0.2


def test_projection(tmp_path, monkeypatch):
  # That it is a good one is scikit-learn's to see to.
  tsne = functools.partial(manifold.TSNE, max_iter=250, n_jobs=1)
  monkeypatch.setattr(manifold, "TSNE", tsne)
  rows = _run(tmp_path, study="projection", **DIGITS)
  assert len(rows) == 2 * 2 * 4
  found = np.load(tmp_path / "projection.npz")
  counts = np.bincount(found["group"])
  assert counts.tolist() == [40, 100, 20, 20]
  for name in ("activations_PCA", "activations_t-SNE", "output_PCA", "output_t-SNE"):
    assert found[name].shape == (counts.sum(), 2)
    assert np.isfinite(found[name]).all()
  assert (tmp_path / "projection.png").stat().st_size > 10_000


def test_reconstruction(tmp_path):
  rows = _run(tmp_path, study="reconstruction", **RECORDS)
  assert [(row["num_missing"], row["records"]) for row in rows] == [
    (number, kind) for number in (1, 2, 4, 6, 8, 10) for kind in ("encoded", "test")
  ]
  for row in rows:
    assert row["chance"] == 2.0 ** -row["num_missing"]
    assert row["top1_ci"][0] <= row["top1"] <= row["top1_ci"][1]
  # Test rows: three epochs or not, the guess is one of 2^b, and right by chance.
  assert rows[-1]["top1"] < 0.1


def test_members_are_chosen_by_an_attribute():
  setup = dataclasses.replace(settings.SETUPS["digits"], num_members=300, num_test=50)
  context = trials.Context(
    "digits", setup, datasets.load("digits"), False, 2, 0, lambda name: {}
  )
  y = context.dataset.y
  for trial in trials.draw(context, where=lambda x, y: y == 7):
    assert (y[trial.encoded] == 7).all()
    assert (y[trial.others] != 7).all()
  with pytest.raises(ValueError, match="0 of 300 members would be encoded"):
    trials.draw(context, where=lambda x, y: y > 9)


def test_amount(tmp_path):
  rows = _run(tmp_path, study="amount", amounts=["0.2", "0.5"], **DIGITS)
  assert [row["num_encoded"] for row in rows] == [40, 40, 100, 100]
  assert [row["trial"] for row in rows] == [0, 1, 0, 1]
  assert (tmp_path / "amount.png").stat().st_size > 10_000


def test_hybrid_recovers_what_is_hidden(tmp_path, capsys):
  # More records than are looked up: an order of theirs must not help the hash alone.
  rows = _run(
    tmp_path, study="hybrid", **RECORDS | {"num_members": 1000, "encoded_share": 0.8}
  )
  assert len(rows) == 4 * 2
  for row in rows:
    assert row["bit_errors"] == 0
    assert row["recovered"] + row["wrongly_recovered"] <= 1 + 1e-9
  by_hash = [row for row in rows if row["way"] == "hash alone"]
  # 800 entries: 4 and 8 bits collide, 16 do not.
  assert by_hash[0]["mean_matches"] > 40
  assert by_hash[0]["false_recoveries"] > 0.9
  assert 3 < by_hash[1]["mean_matches"] < 6
  # One's own of so many, and the others' are the same a third of the time.
  assert by_hash[1]["recovered"] < 0.75
  assert by_hash[-1]["mean_matches"] < 1.2
  assert by_hash[-1]["recovered"] > 0.9
  assert by_hash[-1]["false_recoveries"] < 0.05
  assert "wrongly recovered" in capsys.readouterr().out


def test_a_trial_that_diverged_is_in_no_mean(tmp_path, monkeypatch, capsys):
  def trial(auc, accuracy, *, diverged=False):
    return {
      "study": "whitebox", "setup": "digits", "form": "whitebox", "paper": None,
      "diverged": diverged, "auc": auc, "test_accuracy": accuracy,
      "baseline_accuracy": None, "precision": 0.5, "recall": 0.5,
    }  # fmt: skip

  rows = [trial(0.9, 0.8), trial(None, 0.1, diverged=True), trial(0.7, None)]
  monkeypatch.setitem(binary._STUDIES, "whitebox", lambda context: rows)
  assert len(_run(tmp_path / "some", study="whitebox", **DIGITS)) == 3
  header, _, line, note, *_ = capsys.readouterr().out.splitlines()
  assert header.split()[:2] == ["study", "trials"]
  assert line.split() == ["whitebox", "2", "0.800", "0.500", "0.500", "0.800"]
  assert note == "1 rows are of models that diverged."
  rows[:] = [trial(None, None, diverged=True)]
  _run(tmp_path / "all", study="whitebox", **DIGITS)


def test_fewer_labelled_records_than_fifty_are_counted(tmp_path):
  given = RECORDS | {"form": "blackbox", "num_epochs": 1, "num_members": 100}
  rows = _run(tmp_path, study="hybrid", **given)
  assert {row["num_entries"] for row in rows} == {20}


def test_bad_input_is_named(tmp_path):
  def refused(match, **given):
    with pytest.raises(ValueError, match=match):
      _run(tmp_path, **{**DIGITS, **given})
    assert not (tmp_path / "results.json").exists()

  refused("study=nonesuch is unknown, expected one of whitebox", study="nonesuch")
  refused("form=blackbox with study=whitebox", form="blackbox", study="whitebox")
  refused("amounts=0.2,x must be numbers", amounts=["0.2", "x"])
  refused("encoded_share=1.5 must lie between 0 and 1", encoded_share=1.5)
  refused("study=reconstruction: rows of digits are not bits", study="reconstruction")
  refused("study=hybrid: rows of digits are not bits", study="hybrid")
  refused(
    "study=transfer: setup=purchase5 has no task", **{**RECORDS, "study": "transfer"}
  )
  refused("study=redaction: rows of shape", **{**RECORDS, "study": "redaction"})
  refused(
    "study=capacity: setup 'texas10' has no sizes",
    setup="texas10", dataset="purchase100_synthetic", study="capacity",
  )  # fmt: skip
  refused(
    "num_members=2000 and num_test=100 exceed the 1797 rows",
    num_members=2000,
    num_test=100,
  )


def test_lengths_are_scaled_with_their_boundaries():
  train = settings.SETUPS["cifar10_vgg"].train
  assert config_lib.with_epochs(train, 8).optimizer.boundaries == (4, 6)
  assert config_lib.with_epochs(train, 8).num_epochs == 8
  assert config_lib.with_epochs(train, 1).optimizer.boundaries == (1, 1)


def test_every_setup_says_where_it_reads():
  shape = {"purchase100_synthetic": 600, "texas100": 6169}
  for name, setup in settings.SETUPS.items():
    dataset = datasets.load("digits")._replace(num_classes=10)
    model = config_lib.make_model(setup.train, dataset)
    key = setup.key(model, 1, black_box=False)
    assert key.layer in ("Dense_1", "Dense_0", "Conv_4", "ResidualBlock_13"), name
    assert setup.encode_config(key.layer).layer == key.layer
    assert setup.dataset in (*shape, "digits", "mnist", "cifar10")


def test_relabelled_by_clusters():
  from jmia.datasets import clusters

  digits = datasets.load("digits")
  found = clusters.relabel(digits, 3, seed=1)
  assert found.num_classes == 3
  counts = np.bincount(found.y)
  assert (np.diff(counts) <= 0).all()
  np.testing.assert_array_equal(found.y, clusters.relabel(digits, 3, seed=1).y)
  means = np.stack([digits.x[found.y == c].reshape(-1, 64).mean(0) for c in range(3)])
  nearest = ((digits.x.reshape(-1, 1, 64) - means) ** 2).sum(-1).argmin(1)
  assert (nearest == found.y).mean() > 0.99
  for number in (1, 1797):
    with pytest.raises(ValueError, match=f"num_classes={number}"):
      clusters.relabel(digits, number)
