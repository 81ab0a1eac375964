import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import types
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

STRENGTH = {
  "top_k": 2, "rounding": 2, "noise": 0.1, "temperature": 2, "l2": 1e-3, "dropout": 0.5,
  "crop": 1, "cutout": 2, "rand_augment": 0.5, "bit_flip": 0.1, "early_stopping": 0.2,
  "label_smoothing": 0.1, "mixup": 0.2, "stacking": 3, "dp_sgd": 8,
}  # fmt: skip
TRAIN = config_lib.TrainConfig(
  model="mlp", model_options=(("features", (4,)),), batch_size=8, num_epochs=2
)
RNG = np.random.default_rng(0)
IMAGES = types.Dataset(
  "images", RNG.integers(17, size=(24, 4, 4, 1), dtype=np.uint8),
  RNG.integers(3, size=24, dtype=np.int32), 3, 24, 1 / 16, True, "Noise.",
)  # fmt: skip
BITS = IMAGES._replace(
  x=RNG.integers(2, size=(24, 12), dtype=np.uint8), feature_scale=1.0
)


def _defense(name):
  delta = {"delta": 1e-2} if name == "dp_sgd" else {}
  return registry.DefenseConfig(name=name, strength=STRENGTH.get(name), **delta)


def _plan(*names, dataset=IMAGES):
  defenses = [_defense(name) for name in names]
  return registry.plan(defenses, TRAIN, dataset, num_members=24)


# Traced and not compiled: their own tests run them.
@pytest.mark.parametrize("name", registry.names())
def test_every_defence_trains_and_predicts(name):
  dataset = BITS if name == "bit_flip" else IMAGES
  trainable = registry.build(_plan(name, dataset=dataset), dataset)
  job = recipe_lib.Job(jnp.arange(24), jnp.int32(24))
  data = recipe_lib.Data(jnp.asarray(dataset.x), jnp.asarray(dataset.y))

  def train(key):
    state = trainable.recipe.init(key, job)
    state, metrics = trainable.recipe.update(state, job, data)
    answer = trainable.predict(recipe_lib.model_variables(state), data.x[:5])
    return answer, metrics["loss"], metrics["accuracy"]

  shapes = jax.eval_shape(train, jax.random.key(0))
  assert [shape.shape for shape in shapes] == [(5, 3), (), ()]


def test_several_go_together():
  plan = _plan("flip", "l2", "mixup", "temperature", "top_k", "label_smoothing")
  assert len(plan.transforms) == 2
  assert plan.train.optimizer.weight_decay == 1e-3
  logits = np.array([[4.0, 0.0, -2.0]])
  np.testing.assert_allclose(plan.output(logits), [[2, 0, -1]])  # of three, two given
  assert plan.mechanism is None


def test_settings_are_changed_and_the_rest_kept():
  plan = _plan("dropout")
  assert dict(plan.train.model_options) == {"features": (4,), "dropout_rate": 0.5}
  assert _plan().train is TRAIN


def test_the_guarantee_comes_with_the_plan():
  run = _plan("dp_sgd").mechanism
  assert run.delta == 1e-2
  assert run.epsilon <= 8
  assert run.num_steps == 6
  assert registry.parse("dp_sgd:inf").strength == math.inf


@pytest.mark.parametrize("text", ["top_k:3", "label_only", "noise:0.05", "dp_sgd:inf"])
def test_what_is_parsed_reads_as_it_was_written(text):
  assert str(registry.parse(text)) == text


def test_every_defence_with_a_strength_says_what_it_is():
  assert set(registry.describe()) == set(registry.names())
  with_strength = {name for name, meaning in registry.describe().items() if meaning}
  assert with_strength == set(STRENGTH)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: registry.parse("topk:1"), "unknown defense 'topk'; did you mean 'top_k'"),
    (lambda: registry.parse("top_k:one"), "strength 'one', expected a number"),
    (lambda: registry.parse("top_k"), "strength None, expected a strength, the number"),
    (lambda: registry.parse("flip:1"), "strength 1.0, expected none"),
    (lambda: _plan("flip", "flip"), "'flip' is named 2 times"),
    (lambda: _plan("mixup", "dp_sgd"), "'dp_sgd' cannot go with 'mixup'"),
    # Of pixels it would turn the lowest bit alone.
    (lambda: _plan("bit_flip"), "'bit_flip': images holds uint8 values up to 16"),
    (
      lambda: _plan("bit_flip", dataset=BITS._replace(x=BITS.x.astype(np.float32))),
      "holds float32 values up to 1, expected bits",
    ),
    (
      lambda: _plan(
        "rand_augment", dataset=IMAGES._replace(x=IMAGES.x.astype(np.float32) - 8)
      ),
      "'rand_augment': images holds values from -8 to 8, expected from black, 0, to",
    ),
    (
      lambda: _plan("rand_augment", dataset=IMAGES._replace(feature_scale=0.1)),
      "values from 0 to 16, expected from black, 0, to white, 10",
    ),
    *(
      (
        lambda name=name: _plan(name, dataset=IMAGES._replace(x=IMAGES.x[..., 0])),
        rf"'{name}': images holds rows of shape \(4, 4\), expected \[H, W, channels",
      )
      for name in ("flip", "crop", "cutout", "rand_augment")
    ),
    (
      lambda: registry.plan(
        [registry.parse("stacking:10")], TRAIN, IMAGES, num_members=9
      ),
      "num_parts=10 is above num_members=9",
    ),
    (lambda: _plan("dp_sgd", "early_stopping"), "'dp_sgd' cannot go with 'early"),
    (
      lambda: registry.plan(
        [registry.parse("top_k:1.5")], TRAIN, IMAGES, num_members=9
      ),
      "k=1.5 must be a whole number",
    ),
    *(
      (
        lambda name=name, strength=strength: registry.plan(
          [registry.parse(f"{name}:{strength}")], TRAIN, IMAGES, num_members=9
        ),
        f"{counted}=\\S+ must be {said}",
      )
      for name, counted in (
        ("top_k", "k"),
        ("rounding", "decimals"),
        ("crop", "padding"),
        ("cutout", "side"),
        ("stacking", "num_parts"),
      )
      for strength, said in (
        ("inf", "a whole number"),
        ("nan", "a whole number"),
        ("1e+30", "at most 2,147,483,647"),
      )
    ),
    *(
      (
        lambda field=field, value=value: registry.DefenseConfig(
          name="l2", strength=1e-3, **{field: value}
        ),
        f"defense 'l2' has {field}={value}, which is of 'dp_sgd'",
      )
      for field, value in (("delta", 0.01), ("clip_norm", 2.0), ("microbatch_size", 8))
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_what_is_of_dp_sgd_is_given_to_no_other():
  assert registry.parse("dp_sgd:2", delta=1e-3).delta == 1e-3
  assert registry.parse("flip", delta=1e-3) == registry.DefenseConfig(name="flip")


@pytest.mark.parametrize(
  ("text", "note"),
  [
    ("l2:0.0001", "l2:0.0001 weakens the .* the weight decay is 0.0005"),
    ("dropout:0.1", "dropout:0.1 weakens the .* the share dropped is 0.5"),
    ("l2:0.0005", None),
    ("dropout:0.6", None),
    ("flip", None),
  ],
)
def test_a_defence_that_weakens_training_is_said(text, note):
  notes = registry.notes([registry.parse(text)], config_lib.preset("location30"))
  assert len(notes) == (note is not None)
  assert all(re.match(note, said) for said in notes)
