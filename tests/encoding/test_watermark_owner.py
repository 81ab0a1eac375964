"""A watermark in Python: commit, embed, verify."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from jmia import datasets, encoding, splits
from jmia.encoding import claims, files, nonces, owner, watermark
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

NONCE = "a headline of a later newspaper"
NUM_WRONG_KEYS = 99


@functools.cache
def _dataset():
  digits = datasets.load("digits")
  return datasets.from_arrays(digits.x[:400], digits.y[:400])


def _train():
  setup = owner.default_setup(_dataset())
  return config_lib.with_epochs(setup.train, 60)


@functools.cache
def _made(black_box=False):
  key = encoding.new_key(_dataset(), secret=2019, black_box=black_box, num_synthetic=30)
  prepared, commitment = encoding.commit(_dataset(), key)
  made = encoding.embed(_dataset(), prepared=prepared, nonce=NONCE, train=_train())
  return made, commitment


@functools.cache
def _clean():
  """A model of the same rows, in which nothing is encoded."""
  dataset = _dataset()
  trainable = config_lib.build(_train(), dataset)
  result = parallel.run(
    trainable.recipe,
    jax.random.key(5),
    recipe_lib.Job(*splits.ragged([np.arange(dataset.num_train)])),
    recipe_lib.Data(dataset.x, dataset.y),
    collect=lambda state, job, data: recipe_lib.model_variables(state),
  )
  variables = jax.tree.map(lambda a: a[0], result.collected)
  return _made()[0].model._replace(variables=variables)


def _verify(model, made, **given):
  given = {"nonce": NONCE, "num_wrong_keys": NUM_WRONG_KEYS, **given}
  return encoding.verify(model, made.key, made.claim, **given)


def _never_asked(x):
  raise AssertionError("it was asked")


@functools.cache
def _believed():
  made, commitment = _made()
  told = []
  verdict = _verify(
    made.model,
    made,
    commitment=commitment,
    progress=lambda done, total: told.append((done, total)),
  )
  return verdict, told


def test_the_owner_is_believed():
  (made, commitment), (verdict, told) = _made(), _believed()
  assert verdict.accepted
  assert verdict.p_rows < 1e-6
  assert verdict.p_value == verdict.p_key == 0.01
  assert told[-1] == (100, 100)
  assert verdict.basis == claims.Basis(
    f"assigned by the nonce {NONCE!r} after the commitment",
    claims.ORDER,
    True,
    commitment,
    True,
    NONCE,
  )
  assert verdict.statement.startswith("The claim stands at level 0.01 (p = 0.01), pro")
  assert claims.ORDER in verdict.statement
  assert "Valid only if" not in verdict.statement
  assert made.num_encoded == 80
  assert made.known > 0.9
  assert (made.claim.is_claimed.sum(), len(made.claim.x)) == (80, 160)


def test_without_the_commitment_a_verdict_says_what_it_must_have_been():
  (made, commitment), (verdict, _) = _made(), _believed()
  basis = claims.basis(made.key, made.claim, nonce=NONCE)
  assert basis == verdict.basis._replace(commitment_given=False)
  last = verdict._replace(basis=basis).statement.splitlines()[-1]
  assert last.startswith(f"Valid only if {commitment} was published before the nonce")


def test_a_clean_model_is_not_claimed():
  made, commitment = _made()
  verdict = _verify(_clean(), made, commitment=commitment)
  assert not verdict.accepted
  assert verdict.p_rows > 0.01
  assert verdict.basis.can_stand
  assert verdict.statement.startswith("The claim does not stand at level 0.01")


def test_who_knows_the_rows_but_not_the_secret_is_not_believed():
  made, _ = _made()
  key = dataclasses.replace(made.key.key, secret=5)
  wrong = made._replace(
    key=claims.CommittedKey(key, claims.commitment_of(key, made.claim))
  )
  verdict = _verify(made.model, wrong)
  assert not verdict.tests.accepted
  assert not verdict.accepted
  assert verdict.basis.assignment.startswith("not those that the nonce draws")


def test_another_nonce_does_not_stand():
  made, _ = _made()
  basis = claims.basis(made.key, made.claim, nonce=f"{NONCE}, another")
  assert not basis.can_stand
  assert basis.assignment.startswith("not those that the nonce draws")
  # Whatever the scores are.
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(100, 160)) + 9 * np.eye(100, 1) * made.claim.is_claimed
  verdict = claims.judge(basis, made.claim, scores)
  assert verdict.tests.accepted
  assert not verdict.accepted
  assert "the claim cannot stand" in verdict.statement


def test_a_claim_of_the_secret_alone():
  key = encoding.new_key(_dataset(), secret=7, num_synthetic=30)
  made = encoding.embed(_dataset(), key=key, num_claimed=50, train=_train())
  verdict = _verify(made.model, made, nonce=None)
  assert verdict.accepted
  assert verdict.basis.assumes == claims.NOT_CHOSEN
  assert f"{made.key.commitment} was published before the model" in verdict.statement
  assert made.claim.is_claimed.sum() == 50
  with pytest.raises(ValueError, match="so leave it out"):
    _verify(_never_asked, made)


def test_what_does_not_fit_is_refused_before_anybody_is_asked():
  made, commitment = _made(black_box=True)

  def refused(match, of=made, **given):
    with pytest.raises(ValueError, match=match):
      _verify(_never_asked, of, **given)

  refused("commitment=0000 is not of this key and claim: theirs", commitment="0000")
  refused("nonce must have a value", nonce=None)
  refused("nonce='7' is short enough", nonce="7")
  refused("98 wrong keys cannot reach level=0.01", num_wrong_keys=98)
  refused("level=1.5", level=1.5)
  other = claims.CommittedKey(made.key.key, "0" * 64)
  refused("not what the key's commitment", of=made._replace(key=other))
  older = made.key._replace(schema=2)
  refused("older version knows nothing of", of=made._replace(key=older))
  swapped = made.claim._replace(x=made.claim.x[::-1], feature_scale=2.0)
  refused("not what the key's commitment", of=made._replace(claim=swapped))
  refused("the key reads layer 'Dense_1', which answers do not", of=_made()[0])
  assert commitment == made.key.commitment


@pytest.mark.parametrize("softmax", [True, False])
def test_a_model_that_can_only_be_asked(softmax):
  made, commitment = _made(black_box=True)
  given = {"commitment": commitment, "seed": 77}

  def predict(x):
    assert x.dtype == np.float32
    logits = made.model.module.apply(made.model.variables, x)
    return jax.nn.softmax(logits) if softmax else logits

  by_function = _verify(predict, made, **given)
  assert by_function.accepted
  x = encoding.queries(made.key, made.claim, num_wrong_keys=NUM_WRONG_KEYS, seed=77)
  assert x.shape == (100 * 60 + 160, *_dataset().x.shape[1:])
  by_answers = _verify(np.asarray(predict(x)), made, **given)
  by_model = _verify(made.model, made, **given)
  for found in (by_answers, by_model):
    assert found.p_key == by_function.p_key
    assert found.tests.share == pytest.approx(by_function.tests.share, abs=0.02)
  # Answers are read in another order with another seed: what was asked tells.
  asked = {**given, "asked": x}
  assert _verify(np.asarray(predict(x)), made, **asked) == by_answers
  with pytest.raises(ValueError, match="num_wrong_keys=99 and seed=78: give the seed"):
    _verify(np.asarray(predict(x)), made, **{**asked, "seed": 78})
  with pytest.raises(ValueError, match=r"queries of shape \(6159, "):
    _verify(np.asarray(predict(x)), made, **{**asked, "asked": x[1:]})
  with pytest.raises(ValueError, match=r"answers has shape \(6159, 10\)"):
    _verify(np.asarray(predict(x))[1:], made, **given)
  with pytest.raises(ValueError, match="the key reads layer 'Dense_1'"):
    encoding.queries(_made()[0].key, made.claim, num_wrong_keys=1)


def test_a_model_of_other_rows_is_refused():
  made, _ = _made()
  variables = jax.tree.map(np.asarray, made.model.variables)
  kernel = variables["params"]["Dense_0"]["kernel"][:9]
  variables["params"]["Dense_0"] = {**variables["params"]["Dense_0"], "kernel": kernel}
  with pytest.raises(ValueError, match=r"kernel is float32 of shape \(9, 256\)"):
    _verify(made.model._replace(variables=variables), made)


def test_commit_binds_key_and_rows():
  key = keys_lib.Key(secret=3, layer="Dense_1")
  first = encoding.commit(_dataset(), key)
  assert first.commitment == nonces.commitment(first.prepared)
  assert first == encoding.commit(_dataset(), key)
  assert first.prepared.num_claimed == 80  # all that are encoded
  fewer = encoding.commit(_dataset(), key, num_claimed=20)
  assert fewer.prepared.num_claimed == 20
  drawn = {encoding.commit(_dataset()).prepared.key.secret for _ in range(3)}
  assert len(drawn) == 3
  for fraction in (0.0, 1.0):
    with pytest.raises(ValueError, match=f"encoded_fraction={fraction} of 400"):
      encoding.commit(_dataset(), key, encoded_fraction=fraction)


def test_keys():
  key = encoding.new_key(_dataset(), secret=3)
  assert (key.layer, key.num_synthetic) == ("Dense_1", 500)
  assert encoding.new_key(_dataset(), secret=3, layer="Dense_0").layer == "Dense_0"
  assert encoding.new_key(_dataset(), secret=3, black_box=True).layer == "output"
  with pytest.raises(ValueError, match="unknown layer 'Dens'"):
    encoding.new_key(_dataset(), layer="Dens")
  with pytest.raises(ValueError, match="layer='Dense_0' is not read with black_box"):
    encoding.new_key(_dataset(), layer="Dense_0", black_box=True)
  with pytest.raises(ValueError, match="secret=-1 must be"):
    encoding.new_key(_dataset(), secret=-1)


def test_what_embed_refuses():
  key = keys_lib.Key(secret=3, layer="Dense_1", num_synthetic=5)
  prepared, _ = encoding.commit(_dataset(), key)

  def refused(match, dataset=None, **given):
    with pytest.raises(ValueError, match=match):
      encoding.embed(dataset or _dataset(), **given)

  refused("need each other", prepared=prepared)
  refused("need each other", nonce=NONCE)
  both = {"prepared": prepared, "nonce": NONCE}
  refused("not read with prepared", **both, key=key)
  refused("not read with prepared", **both, num_claimed=9)
  refused("encoded_fraction=0.1 is 40 .* 80 to 320", **both, encoded_fraction=0.1)
  refused("short enough", prepared=prepared, nonce="7")
  other = datasets.from_arrays(_dataset().x[:300], _dataset().y[:300])
  refused("does not hold the rows that prepared", dataset=other, **both)
  wild = dataclasses.replace(_train(), num_epochs=2)
  refused("training diverged in epoch", **both, train=wild, discriminator_rate=1e30)


def test_files_are_those_of_the_binary(tmp_path):
  made, _ = _made()
  owner.write(tmp_path, made)
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(owner.FILES)
  assert files.read_key(tmp_path / "key.json") == made.key
  claim = files.read_claim(tmp_path / "claim.npz")
  jax.tree.map(np.testing.assert_array_equal, claim, made.claim)
  model = files.read_model(tmp_path / "model.npz")
  assert model._replace(variables=None) == made.model._replace(variables=None)
  jax.tree.map(np.testing.assert_array_equal, model.variables, made.model.variables)
  modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
  assert modes["key.json"] == modes["claim.npz"] == 0o600 < modes["model.npz"]
  with pytest.raises(ValueError, match=r"output_dir holds model\.npz"):
    owner.write(tmp_path, made)


def test_a_verdict_is_judged_from_scores_alone():
  """Values in, a verdict out: no model, no file."""
  rng = np.random.default_rng(0)
  x = rng.random((40, 3))
  key = keys_lib.Key(secret=3, layer="Dense_1")
  claim = claims.Claim(x, watermark.assign(x, 20, 3), 1.0)
  committed = claims.CommittedKey(key, claims.commitment_of(key, claim))
  basis = claims.basis(committed, claim)
  scores = rng.normal(size=(100, 40))
  scores[0] += 9 * claim.is_claimed
  verdict = claims.judge(basis, claim, scores)
  assert verdict.accepted
  assert verdict.content() == {
    **verdict.tests._asdict(),
    "accepted": True,
    "assignment": basis.assignment,
    "assumes": claims.NOT_CHOSEN,
    "commitment": committed.commitment,
    "commitment_given": False,
    "nonce": None,
  }
  chosen = claim._replace(is_claimed=~claim.is_claimed)
  committed = claims.CommittedKey(key, claims.commitment_of(key, chosen))
  basis = claims.basis(committed, chosen)
  assert basis.assignment.startswith("not assigned as the secret draws them")
  verdict = claims.judge(basis, chosen, -scores)
  assert verdict.tests.accepted
  assert not verdict.accepted
  assert not verdict.content()["accepted"]


@pytest.mark.parametrize(
  ("schema", "can_stand", "words"),
  [(1, False, "cannot show how rows"), (2, True, "bind feature_scale"), (3, True, "")],
)
def test_what_older_keys_show(schema, can_stand, words):
  x = np.random.default_rng(0).random((40, 3))
  key = keys_lib.Key(secret=3, layer="Dense_1")
  claim = claims.Claim(x, watermark.assign(x, 20, 3), 1.0)
  committed = claims.CommittedKey(key, claims.commitment_of(key, claim, schema), schema)
  basis = claims.basis(committed, claim, commitment=f" {committed.commitment}\n")
  assert basis.can_stand == can_stand
  assert words in basis.assignment
  assert basis.commitment_given
  assert ("feature_scale" in basis.assumes) == (schema == 2)


def test_the_example_runs(capsys):
  (example,) = re.findall(r"```python\n(.*?)```", encoding.__doc__, flags=re.DOTALL)
  exec(compile(example, "encoding.__doc__", "exec"), {})
  assert capsys.readouterr().out.startswith("The claim stands at level 0.01 (p = 0.01)")
