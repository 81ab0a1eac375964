import dataclasses
import os
import subprocess
import sys

import encoding_example as example
import jax
import numpy as np
import pytest
from sklearn import metrics

from jmia.encoding import activations, decode, settings, trials
from jmia.encoding import keys as keys_lib


def _chance(num_members, num_others):
  """By how much an AUC of scores drawn at random leaves 1/2, once in ten million."""
  u = np.random.default_rng(0).random((20_000, num_members + num_others))
  ranks = u.argsort(axis=1).argsort(axis=1)[:, :num_members]
  won = ranks.sum(1) - num_members * (num_members - 1) / 2
  return 5.3 * (won / (num_members * num_others)).std()


def _decoded(encoded, m, keys):
  """Scores `[M, N]` of model m's encoded rows and rows it never saw; who is which."""
  decoders = decode.fit(
    encoded.model, encoded.variables[m], keys, encoded.dataset.x.shape[1:]
  )
  members, others = encoded.members(m), encoded.others(m)
  x = encoded.dataset.x[np.concatenate([members, others])]
  scores = decode.scores(
    encoded.model, encoded.variables[m], decoders, x, encoded.dataset.feature_scale
  )
  return scores, np.arange(len(x)) < len(members)


def test_members_are_decoded_by_the_key_and_by_no_other():
  encoded = example.encoded()  # the black-box form: tests/experiments/test_watermark
  wrong = [dataclasses.replace(encoded.keys[0], secret=s) for s in range(9)]
  chance = _chance(example.NUM_ENCODED, len(encoded.others(0)))
  for m, key in enumerate(encoded.keys):
    scores, is_member = _decoded(encoded, m, [key, *wrong])
    found = decode.measure(scores, is_member)
    assert found.auc[0] > 0.5 + 2 * chance
    # Not each of them: a wrong decoder reads some direction of the model, in which the
    # members' activations may lie apart either way. On average they do not.
    assert abs(found.auc[1:].mean() - 0.5) < chance
    assert found.auc[1:].max() < found.auc[0]


def test_the_encoding_costs_little():
  encoded = example.encoded()
  assert encoded.metrics["accuracy"][:, -1].min() > 0.99
  assert encoded.metrics["encoding_accuracy"][:, -1].min() > 0.99
  for m, variables in enumerate(encoded.variables):
    others = encoded.others(m)
    x = encoded.dataset.x[others] * np.float32(encoded.dataset.feature_scale)
    predicted = encoded.model.apply(variables, x).argmax(-1)
    assert (predicted == encoded.dataset.y[others]).mean() > 0.93


def test_a_decoder_depends_on_model_and_key_alone():
  encoded = example.encoded()
  keys = [dataclasses.replace(encoded.keys[0], secret=s) for s in range(10)]
  together, _ = _decoded(encoded, 0, keys)
  some, _ = _decoded(encoded, 0, keys[8:0:-1])
  np.testing.assert_allclose(some, together[8:0:-1], atol=1e-3)


# Prints the sum of each decoder's weights.
_MANY = """
import jax, numpy as np
from jmia import models
from jmia.encoding import decode, keys

model = models.make("mlp_256_128", 3)
variables = model.init(jax.random.key(0), np.zeros((1, 5)))
many = [keys.Key(secret=s, layer="Dense_1", num_synthetic=9) for s in range(19)]
config = decode.DecodeConfig(num_epochs=2)
found = decode.fit(model, variables, many, (5,), config)
sums = found.variables["params"]["Dense_0"]["kernel"].sum((1, 2))
print(jax.local_device_count(), *sums)
"""


def test_groups_of_keys_go_to_all_devices_and_come_back_in_order():
  found = []
  for count in ("1", "2"):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": count}
    done = subprocess.run(
      [sys.executable, "-c", _MANY],
      env=environment,
      capture_output=True,
      text=True,
      check=True,
    )
    devices, *sums = done.stdout.split()
    assert devices == count
    assert len(sums) == len(set(sums)) == 19
    found.append([float(one) for one in sums])
  np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_rows_are_scored_one_by_one():
  encoded = example.encoded()
  decoders = decode.fit(
    encoded.model, encoded.variables[0], encoded.keys, encoded.dataset.x.shape[1:]
  )
  x = encoded.dataset.x[:1203]  # more than are read at once
  scores = decode.scores(encoded.model, encoded.variables[0], decoders, x, 1 / 16)
  assert scores.shape == (2, 1203)
  params = jax.tree.map(lambda a: np.float64(a[1]), decoders.variables["params"])
  p = jax.tree.map(np.float64, encoded.variables[0]["params"])
  for row in (0, 999, 1000, 1202):
    h = x[row].ravel() / 16
    h = np.maximum(h @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 0)
    h = np.tanh(h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"])[decoders.units[1]]
    h = np.maximum(h @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    logits = h @ params["logits"]["kernel"] + params["logits"]["bias"]
    np.testing.assert_allclose(scores[1, row], logits[1] - logits[0], atol=1e-3)


def test_measure_by_hand():
  scores = np.array([[2.0, -1.0, 1.0, 0.5, -3.0, -2.0], [-1, -1, -1, -1, -1, -1]])
  is_member = np.array([True, True, True, False, False, False])
  found = decode.measure(scores, is_member)
  np.testing.assert_allclose(found.recall, [2 / 3, 0])
  np.testing.assert_allclose(found.fpr, [1 / 3, 0])
  np.testing.assert_allclose(found.precision, [2 / 3, 0])
  np.testing.assert_allclose(found.auc, [8 / 9, 0.5])
  called = scores[0] > 0
  assert found.precision[0] == metrics.precision_score(is_member, called)
  # With more others than members, precision is that of equal numbers all the same.
  double = np.concatenate([scores[0], scores[0, 3:]])
  again = decode.measure(double, np.append(is_member, [False] * 3))
  np.testing.assert_allclose(again.precision, 2 / 3)


def test_errors():
  encoded = example.encoded()
  model, variables, shape = encoded.model, encoded.variables[0], (8, 8, 1)
  with pytest.raises(ValueError, match="keys is empty"):
    decode.fit(model, variables, [], shape)
  key = encoded.keys[0]
  other = dataclasses.replace(key, unit_share=0.25)
  with pytest.raises(ValueError, match="must differ in nothing but the secret"):
    decode.fit(model, variables, [key, other], shape)
  with pytest.raises(ValueError, match="unknown layer 'Dense_7'"):
    decode.fit(model, variables, [dataclasses.replace(key, layer="Dense_7")], shape)
  decoders = decode.Decoders("Dense_1", np.zeros((1, 64), np.int32), None)
  with pytest.raises(ValueError, match="x holds no rows"):
    decode.scores(model, variables, decoders, encoded.dataset.x[:0], 1.0)
  with pytest.raises(ValueError, match="holds 2 members of 2 rows"):
    decode.measure(np.zeros((1, 2)), np.array([True, True]))
  for name in ("hidden", "num_epochs", "learning_rate", "batch_size"):
    with pytest.raises(ValueError, match=f"{name}=0"):
      decode.DecodeConfig(**{name: 0})
  with pytest.raises(ValueError, match="momentum=2"):
    decode.DecodeConfig(momentum=2)


def test_bad_keys_are_refused():
  with pytest.raises(ValueError, match="secret=-1"):
    keys_lib.Key(secret=-1, layer="Dense_1")
  with pytest.raises(ValueError, match="unit_share=0"):
    keys_lib.Key(secret=1, layer="Dense_1", unit_share=0)
  with pytest.raises(ValueError, match=r"unit_share=0\.5 with layer='output'"):
    keys_lib.Key(secret=1, layer=activations.OUTPUT)
  with pytest.raises(ValueError, match="num_synthetic=0"):
    keys_lib.Key(secret=1, layer="Dense_1", num_synthetic=0)
  for low, high in ((1, 1), (0, float("inf")), (float("nan"), 1)):
    with pytest.raises(ValueError, match="must be below high"):
      keys_lib.Key(secret=1, layer="Dense_1", low=low, high=high)


def test_what_a_key_stands_for():
  encoded = example.encoded()
  material = keys_lib.expand(encoded.keys, encoded.model, (8, 8, 1))
  assert material.synthetic.shape == (2, 200, 8, 8, 1)
  assert material.units.shape == (2, 64)
  for units, mask in zip(material.units, material.unit_mask, strict=True):
    np.testing.assert_array_equal(np.flatnonzero(mask), units)
  big = dataclasses.replace(encoded.keys[0], secret=2**40 + 7)
  words = keys_lib.expand([big], encoded.model, (8, 8, 1)).words
  np.testing.assert_array_equal(words, [[2**8, 7]])
  assert keys_lib.default(encoded.model, 3) == keys_lib.Key(secret=3, layer="Dense_1")
  black = keys_lib.default(encoded.model, 3, black_box=True)
  assert (black.layer, black.unit_share) == (activations.OUTPUT, 1.0)


def test_a_model_that_diverged_has_no_figures():
  encoded = example.encoded()
  context = trials.Context(
    "digits", settings.SETUPS["digits"], encoded.dataset, False, 1, 0, lambda name: {}
  )
  trial = trials.Trial(
    encoded.jobs.member_idx[0], encoded.members(0), encoded.others(0), encoded.keys[0]
  )
  broken = jax.tree.map(lambda a: a * np.float32("nan"), encoded.variables[0])
  assert set(trials.decoded(context, broken, trial).values()) == {None}
  assert trials.accuracy(context, broken, trial.test) is None
  assert trials.accuracy(context, encoded.variables[0], trial.test) > 0.5
  found = trials.decoded(context, encoded.variables[0], trial)
  assert found["auc_low"] < found["auc"] < found["auc_high"]
  # What was done to the rows is done to members and others alike.
  black = trials.decoded(context, encoded.variables[0], trial, np.zeros_like)
  assert black["auc"] == 0.5


def test_members_that_are_not_encoded_stay_in_random_order():
  rows = np.array([5, 1, 4, 2, 0, 3])
  trial = trials.Trial(rows, rows[:2], rows[:0], keys_lib.Key(secret=0, layer="x"))
  assert trial.others.tolist() == [4, 2, 0, 3]
