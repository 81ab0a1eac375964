import dataclasses
import hashlib
import json
import pathlib

from absl import flags
from absl.testing import flagsaver
import jax
import numpy as np
import pytest
from scipy import special
from sklearn import datasets as sklearn_datasets

from experiments import watermark as binary
from jmia import datasets, encoding
from jmia.encoding import claims, decode, draws, encode, files, nonces, owner
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib

NONCE = "a headline of a later newspaper"


def _run(command, **given):
  flags.FLAGS.mark_as_parsed()
  paths = {k: str(v) for k, v in given.items() if isinstance(v, pathlib.Path)}
  with flagsaver.flagsaver(command=command, **{**given, **paths}):
    binary.main()


def _verdict(folder, **given):
  """Of `verify`, with what is given and written to `folder`."""
  _run("verify", output_dir=folder, num_wrong_keys=99, **given)
  found = json.loads((folder / "verdict.json").read_text())
  page = (folder / "verdict.html").read_text()
  outcome = "stands" if found["accepted"] else "does not stand"
  assert f"The claim {outcome} at level" in page
  assumed = claims.ORDER if "nonce" in given else claims.NOT_CHOSEN
  assert assumed[1:].replace("'", "&#39;") in page
  assert ("whatever was committed to" in page) == ("nonce" not in given)
  assert found["commitment"] in page
  return found


@pytest.fixture(scope="module", autouse=True)
def fitted_once():
  """A decoder depends on its model and its key alone: no test fits it once more."""
  known = {}
  fit = decode.fit

  def fit_what_is_new(model, variables, keys, shape, **options):
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
      digest.update(np.asarray(leaf).tobytes())
    of_model = known.setdefault((model, digest.digest(), shape), {})
    new = [key for key in dict.fromkeys(keys) if key not in of_model]
    if new:
      found = fit(model, variables, new, shape, **options)
      for m, key in enumerate(new):
        of_model[key] = jax.tree.map(lambda a, m=m: a[m], found[1:])
    units, fitted = jax.tree.map(lambda *a: np.stack(a), *(of_model[k] for k in keys))
    return decode.Decoders(keys[0].layer, units, fitted)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decode, "fit", fit_what_is_new)
    yield


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
  """An owner's data, and two watermarked models: in a layer, and in the outputs."""
  folder = tmp_path_factory.mktemp("owned")
  digits = sklearn_datasets.load_digits()
  np.savez(
    folder / "data.npz",
    x=(digits.data[:500] / 16).astype(np.float32),
    y=digits.target[:500],
    x_test=(digits.data[500:] / 16).astype(np.float32),
    y_test=digits.target[500:],
  )
  data = {"data_file": folder / "data.npz"}
  training = {"num_epochs": 60, "discriminator_rate": 0.1}
  for form in ("white", "black"):
    of_key = {"secret": "2019", "black_box": form == "black"}
    of_key |= {"key_rows": 30, "num_claimed": 80}
    _run("embed", output_dir=folder / form, **data, **of_key, **training)
    committed = folder / f"{form}_by_nonce"
    _run("commit", output_dir=committed, **data, **of_key)
    prepared = {"prepared": committed / "secret.json", "nonce": NONCE}
    _run("embed", output_dir=committed, **data, **prepared, **training)
  return folder


def test_committed_rows_by_a_nonce(owned, tmp_path, capsys):
  folder = owned / "white_by_nonce"
  prepared = files.read_prepared(folder / "secret.json")
  assert prepared.num_claimed == 80
  assert (folder / "secret.json").stat().st_mode & 0o777 == 0o600
  commitment = nonces.commitment(prepared)
  assert files.read_key(folder / "key.json").commitment == commitment
  found = _verdict(tmp_path, **_files(folder), nonce=NONCE, commitment=commitment)
  said = capsys.readouterr().out
  assert found["accepted"]
  assert found["nonce"] == NONCE
  assert found["p_rows"] < 1e-6
  assert f"Rows: assigned by the nonce '{NONCE}' after the commitment." in said
  assert f"provided that {claims.ORDER}." in said
  assert "Valid only if" not in said
  assert "2019" not in (tmp_path / "verdict.html").read_text()


def test_only_the_rows_that_the_nonce_draws_are_encoded_and_claimed(owned):
  folder = owned / "white_by_nonce"
  claim, x = files.read_claim(folder / "claim.npz"), np.load(owned / "data.npz")["x"]
  order = nonces.order(nonces.row_hashes(x, 2019), NONCE)
  for part, expected in (
    (claim.is_claimed, order[:80]),
    (~claim.is_claimed, order[-80:]),
  ):
    assert {row.tobytes() for row in claim.x[part]} == {
      x[i].tobytes() for i in expected
    }


def test_another_nonce_or_rows_that_were_chosen_do_not_stand(owned, tmp_path):
  folder = owned / "white_by_nonce"
  given = _files(folder)
  found = _verdict(tmp_path, **given, nonce=f"{NONCE}, another")
  assert not found["accepted"]
  assert found["assignment"].startswith("not those that the nonce draws")
  # A model of the owner's, and rows with their right sides that are not the extremes.
  claim, key = (
    files.read_claim(given["claim_file"]),
    files.read_key(given["key_file"]).key,
  )
  part = np.concatenate(
    [np.flatnonzero(claim.is_claimed)[:60], np.flatnonzero(~claim.is_claimed)[:60]]
  )
  chosen = claim._replace(x=claim.x[part], is_claimed=claim.is_claimed[part])
  files.write_claim(tmp_path / "claim.npz", chosen)
  match = "not what the key's commitment"
  with pytest.raises(ValueError, match=match):
    _verdict(tmp_path, **{**given, "claim_file": tmp_path / "claim.npz"}, nonce=NONCE)
  # With as many rows as were committed to, the commitment is right, and they are not.
  places = np.flatnonzero(claim.is_claimed)
  x = claim.x.copy()
  x[places[0]] = np.load(owned / "data.npz")["x"][
    nonces.order(nonces.row_hashes(np.load(owned / "data.npz")["x"], 2019), NONCE)[80]
  ]
  files.write_claim(tmp_path / "claim.npz", claim._replace(x=x))
  assert key.secret == 2019
  found = _verdict(
    tmp_path, **{**given, "claim_file": tmp_path / "claim.npz"}, nonce=NONCE
  )
  assert found["p_value"] <= 0.01
  assert not found["accepted"]


def test_a_committed_model_that_can_only_be_asked(owned, tmp_path):
  given = _files(owned / "black_by_nonce") | {"seed": 77}
  model = files.read_model(given.pop("model_file"))
  _run("queries", output_dir=tmp_path, num_wrong_keys=99, **given)
  x = np.load(tmp_path / "queries.npz")["x"]
  np.save(tmp_path / "answers.npy", model.module.apply(model.variables, x))
  answers = {
    "answers_file": tmp_path / "answers.npy",
    "queries_file": tmp_path / "queries.npz",
  }
  assert _verdict(tmp_path, **answers, **given, nonce=NONCE)["accepted"]


def test_a_nonce_and_what_was_committed_to_that_do_not_fit(owned, tmp_path):
  folder, data = owned / "white_by_nonce", owned / "data.npz"

  def refused(match, command="embed", **given):
    with pytest.raises(ValueError, match=match):
      _run(command, **{"output_dir": tmp_path / "new", **given})

  prepared = {"data_file": data, "prepared": folder / "secret.json"}
  refused("need each other", **prepared)
  refused("need each other", data_file=data, nonce=NONCE)
  refused("nonce='7' is short enough", **prepared, nonce="7")
  refused("expected from 80 to 420", **prepared, nonce=NONCE, encoded_fraction=0.1)
  refused("encoded_fraction=2.0 of 500", "commit", data_file=data, encoded_fraction=2.0)
  refused("unknown layer 'Dens'", "commit", data_file=data, layer="Dens")
  refused(
    "holds secret.json, which would be lost",
    "commit",
    data_file=data,
    output_dir=folder,
  )
  content = json.loads((folder / "secret.json").read_text())
  changed = tmp_path / "secret.json"
  for field, value in (("num_claimed", 70), ("feature_scale", 2.0), ("schema", 2)):
    changed.write_text(json.dumps({**content, field: value}))
    refused("not a secret.json", data_file=data, prepared=changed, nonce=NONCE)
  with np.load(data) as held:
    np.savez(tmp_path / "other.npz", x=held["x"][:400], y=held["y"][:400])
  other = {**prepared, "data_file": tmp_path / "other.npz"}
  refused("does not hold the rows that", **other, nonce=NONCE)
  refused("nonce must have a value", "verify", **_files(folder))
  refused("so leave it out", "verify", **_files(owned / "white"), nonce=NONCE)
  # A word does not turn a claim into one of the other kind.
  claim = files.read_claim(folder / "claim.npz")
  files.write_claim(tmp_path / "claim.npz", claim._replace(row_hashes=None))
  given = {**_files(folder), "claim_file": tmp_path / "claim.npz"}
  refused("not what the key's commitment", "verify", **given)
  old = files.read_key(folder / "key.json")._replace(schema=2)
  files.write_key(tmp_path / "key.json", old)
  given = {**_files(folder), "key_file": tmp_path / "key.json"}
  refused("of an older version knows nothing of", "verify", **given, nonce=NONCE)


def _files(folder):
  return {
    "key_file": folder / "key.json",
    "claim_file": folder / "claim.npz",
    "model_file": folder / "model.npz",
  }


def test_an_encoding_that_is_not_learnt_is_said_to_be_none(owned, tmp_path, capsys):
  _run(
    "embed",
    data_file=owned / "data.npz",
    output_dir=tmp_path,
    num_epochs=2,
    discriminator_rate=1e-4,
    key_rows=30,
  )
  said = capsys.readouterr().out
  assert "That is little. Whether a claim stands on it, `verify` says" in said
  assert "Without a nonce (`commit`) a claim holds only if the rows were not" in said


@pytest.mark.parametrize(("secret", "is_kept"), [("2019", True), (None, False)])
def test_only_a_secret_that_is_given_can_be_resumed(
  owned, tmp_path, monkeypatch, secret, is_kept
):
  def interrupted(*args, checkpoint_dir, **kwargs):
    assert checkpoint_dir == (tmp_path / "checkpoints" if is_kept else None)
    raise KeyboardInterrupt

  monkeypatch.setattr(encode, "train", interrupted)
  with pytest.raises(KeyboardInterrupt):
    _run("embed", data_file=owned / "data.npz", output_dir=tmp_path, secret=secret)


def test_an_owner_is_believed(owned, tmp_path, capsys):
  verdict = _verdict(tmp_path, **_files(owned / "white"))
  assert verdict["accepted"]
  assert verdict["p_value"] == verdict["p_key"] == 0.01
  assert verdict["p_rows"] < 1e-6
  said = capsys.readouterr()
  assert "The claim stands at level 0.01" in said.out
  assert f"provided that {claims.NOT_CHOSEN}" in said.out
  assert "Rows: assigned as the secret draws them; nothing shows" in said.out
  assert verdict["assumes"] == claims.NOT_CHOSEN
  commitment = files.read_key(owned / "white" / "key.json").commitment
  assert f"Valid only if {commitment} was published before the model" in said.out
  assert verdict["commitment"] == commitment
  assert not verdict["commitment_given"]
  for name in ("key.json", "claim.npz"):
    assert (owned / "white" / name).stat().st_mode & 0o777 == 0o600
  assert "decoders: 100%" in said.err


def test_who_knows_the_rows_but_not_the_secret_is_not(owned, tmp_path, capsys):
  given = _files(owned / "white")
  key = files.read_key(given["key_file"]).key
  claim = files.read_claim(given["claim_file"])
  wrong = dataclasses.replace(key, secret=5)
  files.write_key(tmp_path / "key.json", _committed(wrong, claim))
  verdict = _verdict(tmp_path, **{**given, "key_file": tmp_path / "key.json"})
  assert not verdict["accepted"]
  assert verdict["assignment"].startswith("not assigned as the secret draws them")
  assert "does not stand" in capsys.readouterr().out


def test_a_commitment_that_was_published(owned, tmp_path, capsys):
  given = _files(owned / "white")
  commitment = files.read_key(given["key_file"]).commitment
  verdict = _verdict(tmp_path, **given, commitment=commitment)
  assert verdict["accepted"]
  assert verdict["commitment_given"]
  assert "Valid only if" not in capsys.readouterr().out
  with pytest.raises(ValueError, match=f"commitment={'0' * 64} is not of this key"):
    _verdict(tmp_path, **given, commitment="0" * 64)


def _committed(key, claim):
  return claims.CommittedKey(key, claims.commitment_of(key, claim))


def _aged(owned, folder, schema):
  """An owner's files as an older version wrote them."""
  given = _files(owned / "white")
  content = json.loads(given["key_file"].read_text())
  key = files.read_key(given["key_file"]).key
  claim = files.read_claim(given["claim_file"])
  content["commitment"] = claims.commitment_of(key, claim, schema)
  content["schema"] = schema
  (folder / "key.json").write_text(json.dumps(content))
  return {**given, "key_file": folder / "key.json"}


def test_a_key_of_schema_2_is_verified_and_said_to_be_one(owned, tmp_path):
  verdict = _verdict(tmp_path, **_aged(owned, tmp_path, 2))
  assert verdict["accepted"]
  assert "older version" in verdict["assignment"]
  assert "feature_scale" in verdict["assumes"]


def test_no_claim_stands_by_a_key_of_schema_1(owned, tmp_path, capsys):
  verdict = _verdict(tmp_path, **_aged(owned, tmp_path, 1))
  assert verdict["p_value"] <= 0.01
  assert not verdict["accepted"]
  assert "older version, which cannot show how rows" in capsys.readouterr().out


@pytest.mark.parametrize("schema", [1, 2, 4])
def test_a_key_is_not_made_older_by_a_word(owned, tmp_path, schema):
  given = _files(owned / "white")
  content = json.loads(given["key_file"].read_text())
  (tmp_path / "key.json").write_text(json.dumps({**content, "schema": schema}))
  with pytest.raises(ValueError, match=r"not what the key.s commitment|one of 1 to 3"):
    _verdict(tmp_path, **{**given, "key_file": tmp_path / "key.json"})


@pytest.mark.parametrize("scale", [1 / 16, -3.0, 1e-9, np.nan])
def test_a_claims_scale_is_not_changed_afterwards(owned, tmp_path, scale):
  given = _files(owned / "white")
  claim = files.read_claim(given["claim_file"])
  assert claim.feature_scale == 1
  files.write_claim(tmp_path / "claim.npz", claim._replace(feature_scale=scale))
  match = (
    r"not what the key.s commitment|feature_scale=.* must be a finite number above"
  )
  with pytest.raises(ValueError, match=match):
    _verdict(tmp_path, **{**given, "claim_file": tmp_path / "claim.npz"})


def test_copies_of_a_row_add_nothing(owned, tmp_path):
  given = _files(owned / "white")
  key = files.read_key(given["key_file"]).key
  claim = files.read_claim(given["claim_file"])
  tenfold = claim._replace(
    x=np.tile(claim.x, (10, 1)), is_claimed=np.tile(claim.is_claimed, 10)
  )
  files.write_claim(tmp_path / "claim.npz", tenfold)
  files.write_key(tmp_path / "key.json", _committed(key, tenfold))
  changed = {name: tmp_path / given[name].name for name in ("key_file", "claim_file")}
  found = _verdict(tmp_path, **{**given, **changed})
  assert found["p_rows"] == _verdict(tmp_path, **given)["p_rows"]


def test_copies_are_encoded_together_and_claimed_once(owned, tmp_path, monkeypatch):
  digits = np.load(owned / "data.npz")
  x, y = np.tile(digits["x"][:40], (3, 1)), np.tile(digits["y"][:40], 3)
  np.savez(tmp_path / "data.npz", x=x, y=y)
  made = {}

  def stopped(members, marked, *args):
    made["encoded"] = marked[0]
    raise KeyboardInterrupt

  def claim(dataset, *parts):
    made["claim"] = of_draws(dataset, *parts)
    return made["claim"]

  of_draws = draws._claim
  monkeypatch.setattr(draws, "_claim", claim)
  monkeypatch.setattr(encode, "make_jobs", stopped)
  with pytest.raises(KeyboardInterrupt):
    _run("embed", data_file=tmp_path / "data.npz", output_dir=tmp_path, secret="1")
  assert len(made["encoded"]) == 24
  assert len({i % 40 for i in made["encoded"]}) == 8
  assert len(np.unique(made["claim"].x, axis=0)) == len(made["claim"].x) == 16


def test_a_thief_who_chooses_rows_after_the_fact(owned, tmp_path):
  """He decodes rows of his own by a secret of his own, and claims those that score.

  The two tests alone would believe him now and then; the assignment does not.
  """
  given = _files(owned / "white")
  key = keys_lib.Key(secret=77, layer="Dense_1", num_synthetic=30)
  claim = files.read_claim(given["claim_file"])
  model = files.read_model(given["model_file"])
  fitted = decode.fit(model.module, model.variables, [key], claim.x.shape[1:])
  (scores,) = decode.scores(
    model.module, model.variables, fitted, claim.x, model.feature_scale
  )
  theirs = claim._replace(is_claimed=scores > np.median(scores))
  files.write_claim(tmp_path / "claim.npz", theirs)
  files.write_key(tmp_path / "key.json", _committed(key, theirs))
  verdict = _verdict(
    tmp_path,
    key_file=tmp_path / "key.json",
    claim_file=tmp_path / "claim.npz",
    model_file=given["model_file"],
  )
  assert verdict["p_rows"] < 1e-6
  assert not verdict["accepted"]


def test_a_model_that_can_only_be_asked(owned, tmp_path, capsys):
  given = _files(owned / "black") | {"seed": 77}
  path = given.pop("model_file")
  _run("queries", output_dir=tmp_path, num_wrong_keys=99, **given)
  x = np.load(tmp_path / "queries.npz")["x"]
  assert x.shape == (100 * 60 + 160, 64)
  model = files.read_model(path)
  np.save(tmp_path / "answers.npy", model.module.apply(model.variables, x))
  answers = {
    "answers_file": tmp_path / "answers.npy",
    "queries_file": tmp_path / "queries.npz",
  }
  by_answers = _verdict(tmp_path, **answers, **given)
  assert by_answers["accepted"]
  # The model at hand gives the same.
  by_model = _verdict(tmp_path, model_file=path, **given)
  assert by_model["share"] == pytest.approx(by_answers["share"], abs=0.02)
  assert by_model["p_key"] == by_answers["p_key"]
  # What answers are taken for is said where it is no matter of course.
  assert "watermark:" not in capsys.readouterr().err
  p = special.softmax(np.load(tmp_path / "answers.npy").astype(float), axis=-1)
  np.save(tmp_path / "answers.npy", 100 * p)
  by_percent = _verdict(tmp_path, **answers, **given)
  assert by_percent["share"] == pytest.approx(by_answers["share"], abs=0.02)
  assert "answers.npy are percentages" in capsys.readouterr().err
  _check_queries_are_compared(answers, given, owned / "black_by_nonce")


def _check_queries_are_compared(answers, given, other):
  """Answers are not read to other queries than those that were asked."""
  good = {**given, **answers, "num_wrong_keys": 99}
  of_nonce = {"key_file": other / "key.json", "claim_file": other / "claim.npz"}
  for changed, match in (
    ({"seed": 0}, r"queries_file=.*num_wrong_keys=99 and seed=0: give the seed"),
    ({"num_wrong_keys": 100}, r"queries_file=.*with num_wrong_keys=100, which are"),
    ({"queries_file": None}, "--queries_file must have a value"),
    ({"queries_file": given["claim_file"]}, "claim.npz: not the queries.npz"),
    (of_nonce, "queries_file=.* are not those of this key and claim"),
    ({"answers_file": None, "model_file": "x"}, "--queries_file is not read without"),
  ):
    with pytest.raises(ValueError, match=match):
      _run("verify", **{**good, **changed})


def test_rows_that_were_standardised_are_said_to_be(tmp_path, capsys):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(80, 6)) * [1, 1, 1, 1, 1000, 1] + [0, 0, 0, 0, 5000, 0]
  np.savez(tmp_path / "data.npz", x=x, y=np.arange(80) % 2)
  _run(
    "embed", data_file=tmp_path / "data.npz", output_dir=tmp_path / "out", num_epochs=1
  )
  said = capsys.readouterr().out
  assert "1 of the 6 columns of x are standardised" in said
  assert "The model takes rows changed so, not as they came" in said


def test_files_come_back(owned):
  folder = owned / "white"
  key, commitment, schema = files.read_key(folder / "key.json")
  assert schema == 3
  assert key == keys_lib.Key(secret=2019, layer="Dense_1", num_synthetic=30)
  claim = files.read_claim(folder / "claim.npz")
  assert claim.is_claimed.sum() == 80
  assert len(claim.x) == 160
  assert claims.commitment_of(key, claim) == commitment
  model = files.read_model(folder / "model.npz")
  assert (model.name, model.num_classes) == ("mlp_256_128", 10)
  files.write_model(folder / "again.npz", model)
  again = files.read_model(folder / "again.npz")
  jax.tree.map(np.testing.assert_array_equal, again.variables, model.variables)


def _check_altered_models(path, altered, refused):
  with np.load(path) as file:
    arrays = dict(file)
  meta = json.loads(str(arrays["meta"]))
  kernel = arrays["params/Dense_0/kernel"]
  for changed, match in (
    ({"params/Dense_0/kernel": kernel[:9]}, r"kernel is float32 of shape \(9, 256\)"),
    ({"params/Dense_0/kernel": kernel.astype(str)}, r"kernel is <U32 of shape"),
    ({"params/Dense_9/kernel": kernel}, "Dense_9/kernel is missing, or too many"),
    ({"meta": np.array(json.dumps({**meta, "options": [1]}))}, "must be a mapping"),
    ({"meta": np.array(json.dumps({**meta, "feature_scale": 0}))}, "feature_scale=0"),
    ({"meta": np.array(json.dumps({**meta, "name": "x"}))}, "unknown model 'x'"),
  ):
    np.savez(altered, **{**arrays, **changed})
    refused(rf"model\.npz: not a model file \(.*{match}", model_file=altered)


def test_bad_input_is_named(owned, tmp_path):
  folder = owned / "white"
  good = {
    "key_file": folder / "key.json",
    "claim_file": folder / "claim.npz",
    "model_file": folder / "model.npz",
    "num_wrong_keys": 99,
  }

  def refused(match, command="verify", **changed):
    with pytest.raises((ValueError, FileNotFoundError), match=match):
      _run(command, **{k: v for k, v in {**good, **changed}.items() if v is not None})

  refused("--key_file must have a value", key_file=None)
  refused("one of --model_file and --answers_file", model_file=None)
  refused("99 wrong keys cannot reach level=0.001", level=0.001)
  refused("no such file", model_file=tmp_path / "absent.npz")
  refused("not a key of experiments.watermark", key_file=folder / "claim.npz")
  (tmp_path / "deep.json").write_text("[" * 100_000)
  refused("not a key of experiments.watermark", key_file=tmp_path / "deep.json")
  refused("not a model file", model_file=folder / "claim.npz")
  _check_altered_models(folder / "model.npz", tmp_path / "model.npz", refused)
  refused("x is missing, expected x, is_claimed", claim_file=folder / "model.npz")
  claim = files.read_claim(folder / "claim.npz")
  swapped = claim._replace(is_claimed=~claim.is_claimed)
  files.write_claim(tmp_path / "claim.npz", swapped)
  refused("not what the key's commitment", claim_file=tmp_path / "claim.npz")
  np.save(tmp_path / "answers.npy", np.zeros((3, 10)))
  refused(
    "reads layer 'Dense_1'",
    model_file=None,
    answers_file=tmp_path / "answers.npy",
    queries_file=tmp_path / "queries.npz",
  )
  black = {name: owned / "black" / name for name in ("key.json", "claim.npz")}
  asked = owner.queries(
    files.read_key(black["key.json"]),
    files.read_claim(black["claim.npz"]),
    num_wrong_keys=99,
  )
  files.write_queries(tmp_path / "queries.npz", asked)
  refused(
    r"answers.npy has shape \(3, 10\)",
    model_file=None,
    answers_file=tmp_path / "answers.npy",
    queries_file=tmp_path / "queries.npz",
    key_file=black["key.json"],
    claim_file=black["claim.npz"],
  )
  refused(
    "holds model.npz, which would be lost",
    "embed",
    data_file=owned / "data.npz",
    output_dir=folder,
  )
  refused("--data_file must have a value", "embed", output_dir=tmp_path)
  refused(
    "secret must be an integer",
    "embed",
    data_file=owned / "data.npz",
    output_dir=tmp_path / "new",
    secret="x",
  )
  refused("expected a command", None)


def test_python_does_the_same(owned, tmp_path):
  folder = owned / "white_by_nonce"
  dataset = datasets.load(f"npz:{owned / 'data.npz'}")
  key = encoding.new_key(dataset, secret=2019, num_synthetic=30)
  prepared, commitment = encoding.commit(dataset, key, num_claimed=80)
  assert prepared == files.read_prepared(folder / "secret.json")
  train = config_lib.with_epochs(owner.default_setup(dataset).train, 60)
  made = encoding.embed(
    dataset, prepared=prepared, nonce=NONCE, train=train, discriminator_rate=0.1
  )
  owner.write(tmp_path, made)
  for name in owner.FILES:
    if name.endswith(".json"):
      assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    else:
      with np.load(tmp_path / name) as ours, np.load(folder / name) as theirs:
        assert ours.files == theirs.files
        for array in ours.files:
          np.testing.assert_array_equal(ours[array], theirs[array])
  given = {"nonce": NONCE, "commitment": commitment}
  found = encoding.verify(made.model, made.key, made.claim, **given, num_wrong_keys=99)
  printed = _verdict(tmp_path / "verdict", **_files(folder), **given)
  assert printed == {"schema": 1, **found.content()}
