"""Models that are asked about altered copies: which are asked, and about what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import audit, types
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import quantile_regression, registry
from jmia.audit import answers, copies, preparation, training, view
from jmia.audit import asked as asked_lib
from jmia.audit import config as config_lib
from jmia.training import config, recipe

N, SIDE, C = 240, 5, 3
TRAIN = config.TrainConfig(
  model="mlp", model_options=(("features", (8,)),), num_epochs=2
)


def _dataset():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (N, SIDE, SIDE, 1)).astype(np.uint8)
  y = rng.integers(0, C, N).astype(np.int32)
  return types.Dataset("own", x, y, C, N, 1 / 255, True, "Noise.")


def _panel(dataset, attacks, **changes):
  settings = audit.AuditConfig(
    attacks=attacks, num_references=3, train=TRAIN, width=3, **changes
  )
  split = config_lib.split_of(dataset, settings, None)
  trainer = preparation.trainer_of(dataset, settings, split, None, lambda *_: None)
  design = config_lib.design_of(split, settings)
  return training.train(design, trainer, settings.needs())


def test_many_models_and_a_black_box_are_asked_about_the_same_copies():
  dataset = _dataset()
  needs = registry.Needs(signals=("loss@queries", "entropy@noisy"), num_queries=5)
  kinds = copies.plan(needs, dataset.x, slice(100, 200), seed=0)
  weights = (
    np.random.default_rng(1).normal(0, 0.01, (SIDE * SIDE, C)).astype(np.float32)
  )
  predict = lambda x: jnp.asarray(x, jnp.float32).reshape(len(x), -1) @ weights  # noqa: E731
  rows, names = slice(10, 47), needs.signals
  _, told = answers.ask(predict, dataset.x, C)
  found = answers.on_copies(predict, dataset.x, dataset.y, C, rows, names, kinds, told)
  streamed = jax.jit(
    lambda x: answers.signals_of(
      predict, recipe.Data(x, dataset.y), np.arange(10, 47), names, 16, kinds
    )
  )(dataset.x)
  assert set(found) == set(streamed) == set(names)
  for name in names:
    assert found[name].shape == (37, kinds[name.split("@")[1]].number)
    np.testing.assert_allclose(found[name], streamed[name], rtol=1e-4, atol=1e-4)
  # By a loop over copies, of the rows as the copy has them.
  for q in range(5):
    altered = kinds["queries"].of(q)(dataset.x[rows], np.arange(10, 47))
    losses = evidence_lib.of_logits(np.asarray(predict(altered)), dataset.y[rows])[
      "loss"
    ]
    np.testing.assert_allclose(found["loss@queries"][:, q], losses, rtol=1e-5)


@pytest.fixture(scope="module")
def asked():
  attacks = (
    "lira_offline", "rmia_offline", "reference", "label_only_augment",
    "quantile_regression",
  )  # fmt: skip
  return _panel(_dataset(), attacks, num_queries=4)


def test_evidence_has_an_axis_of_copies_and_the_row_itself_first(asked):
  given = view.evidence(asked, 0)
  group, num = given.groups["reference"], len(given.labels)
  assert given.signals["scaled_logit@queries"].shape == (num, 4)
  assert group.signals["loss@queries"].shape == (3, num, 4)
  for of, axis in ((given, 1), (group, 2)):
    copied = of.signals["loss@queries"]
    np.testing.assert_allclose(of.signals["loss"], copied.take(0, axis), rtol=1e-5)
    assert (np.ptp(copied, axis=axis) > 0).all()
  cut = given.at(np.array([3, 1]))
  np.testing.assert_array_equal(
    evidence_lib.queried(cut.groups["reference"].signals, "loss"),
    group.signals["loss@queries"][:, [3, 1]],
  )
  # The references keep a row's own loss once: as that of its first copy.
  (block,) = asked.blocks
  assert "correctness@moved" not in block.signals
  assert given.signals["features"].shape == (num, SIDE, SIDE, 1)


def test_the_report_says_of_how_many_copies(asked):
  given = view.evidence(asked, 0)
  result = audit.from_evidence(
    given, ("lira_offline", "label_only_augment", "reference")
  )
  entries = result.report["attacks"]
  assert entries["lira_offline"]["num_queries"] == 4
  assert entries["label_only_augment"]["num_queries"] == 20
  assert "num_queries" not in entries["reference"]


def test_quantile_regression_learns_from_rows_that_neither_train_nor_calibrate(
  asked, monkeypatch
):
  given = view.evidence(asked, 0)
  learnt = []
  monkeypatch.setattr(
    quantile_regression,
    "score",
    lambda samples, population, *_, **__: learnt.append((samples, population)),
  )
  attack = registry.get("quantile_regression:head=gaussian")
  assert registry.lacking(given, attack) is None
  attack.score(given, **attack.options)
  ((samples, population),) = learnt
  x = _dataset().x
  np.testing.assert_array_equal(samples.x, x[given.index])
  np.testing.assert_array_equal(
    population.x, x[asked.design.rows[asked.design.population]]
  )
  np.testing.assert_array_equal(population.y, given.population_labels)
  assert len(population.phi) == len(population.y)
  assert not set(asked.design.rows[asked.design.population]) & set(given.index)
  with pytest.raises(ValueError, match="unknown head 'normal'"):
    registry.get("quantile_regression:head=normal").all_needs()


def test_what_follows_from_other_signals_is_not_kept():
  assert asked_lib.least(("loss", "entropy")) == ("loss", "entropy")
  assert asked_lib.least(("loss", "loss@queries")) == ("loss@queries",)
  assert asked_lib.least(("entropy", "logits", "loss@queries")) == (
    "logits",
    "loss@queries",
  )


def test_no_queries_are_no_number_of_them():
  with pytest.raises(ValueError, match="num_queries=0 must be"):
    audit.AuditConfig(num_queries=0)
