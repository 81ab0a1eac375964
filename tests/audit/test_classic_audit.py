"""The classic attacks as part of an audit: trained, from a file, and in the report."""

import numpy as np
import pytest

from jmia import attacks, audit, signals, types
from jmia.attacks import classifier, similarity
from jmia.audit import auditing, signals_file, trainer
from jmia.audit import outcome as outcome_lib
from jmia.defenses import registry
from jmia.report import exposure, page, tables
from jmia.training import config as config_lib
from jmia.training import optimizers

K = 40
# They take more than models' answers on rows: features, answers on altered copies.
ASKING = ("label_only_augment", "label_only_noise", "quantile_regression")
RANKINGS = tuple(
  name
  for name in attacks.names()
  if attacks.get(name).only_ranks and name not in ("random", *ASKING)
)
TRAIN = config_lib.TrainConfig(
  model="mlp", model_options=(("features", (32,)),), batch_size=16, num_epochs=40,
  optimizer=optimizers.OptimizerConfig(learning_rate=0.2),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _small_classifier():
  """One width and few epochs."""
  with pytest.MonkeyPatch.context() as patch:
    full = classifier.ClassifierConfig
    patch.setattr(
      classifier,
      "ClassifierConfig",
      lambda **options: full(
        **options, hidden_sizes=(8,), num_epochs=10, learning_rate=1e-2
      ),
    )
    yield


def _dataset():
  """Labels that are noise, so that a model knows only what it has learnt by heart."""
  rng = np.random.default_rng(0)
  x = rng.normal(0, 1, (240, 8)).astype(np.float32)
  y = rng.integers(3, size=240).astype(np.int32)
  return types.Dataset("noise", x, y, 3, 240, 1.0, True, "Noise.")


@pytest.fixture(scope="module")
def result():
  config = audit.AuditConfig(
    attacks=("population", *RANKINGS), num_members=K, num_nonmembers=K,
    num_references=8, train=TRAIN, defenses=(registry.parse("temperature:2"),),
  )  # fmt: skip
  return audit.run(_dataset(), config)


def test_every_attack_finds_what_was_learnt_by_heart(result):
  report = result.report
  assert list(report["attacks"]) == ["population", *RANKINGS]
  assert report["missing"] == {}
  for name in ("metric_loss", "metric_modified_entropy", "correctness", "classifier",
               "similarity"):  # fmt: skip
    assert report["attacks"][name]["auc_ci"][0] > 0.6, name
  assert "estimator" not in report["attacks"]["metric_loss"]
  models = {name: entry["num_models"] for name, entry in report["attacks"].items()}
  assert models["metric_loss"] == models["correctness"] == 0
  assert models["classifier"] == models["similarity"] == 8


def test_defences_are_recorded(result):
  assert result.report["config"]["defenses"] == ["temperature:2"]


def test_the_page_says_that_they_only_rank(result):
  html = page.render(result.report, result.samples)
  assert html.count("has no threshold of its own") == len(RANKINGS)
  assert "Modified entropy" in html
  assert "Similarity" in tables.text(result.report)
  row = exposure.records(result.report, result.samples)[0]
  # But ranks among rows that calibrate are p-values, whatever the attack.
  assert "–" not in (row.p_value, row.q_value)
  assert row.num_agree[1] == len(result.report["attacks"])


def _arrays(seed=0):
  rng = np.random.default_rng(seed)
  logits = lambda *shape: rng.normal(0, 3, (*shape, 3)).astype(np.float32)  # noqa: E731
  return {
    "target_logits": logits(20),
    "labels": rng.integers(0, 3, 20),
    "members": np.arange(20) % 2 == 0,
    "population_labels": rng.integers(0, 3, 40),
    "reference_logits": logits(4, 20),
    "reference_members": np.arange(4)[:, None] % 2 == np.arange(20) % 2,
    "reference_population_logits": logits(4, 40),
    "reference_population_members": rng.random((4, 40)) < 0.5,
  }


def test_a_file_gives_what_each_attack_needs():
  arrays = _arrays()
  found = signals_file.from_arrays(arrays)
  assert outcome_lib.lacking(found, RANKINGS) == {}
  assert list(outcome_lib.lacking(found, ASKING)) == list(ASKING)
  expected = similarity.score(
    np.asarray(signals.divergence(arrays["target_logits"], arrays["reference_logits"])),
    arrays["reference_members"],
  )
  outcome = outcome_lib.evaluate(found, "similarity")
  np.testing.assert_allclose(outcome.scores, expected, rtol=1e-5)
  assert np.isnan(outcome.thresholds).all()
  loss = outcome_lib.evaluate(found, "metric_loss").scores
  np.testing.assert_array_equal(loss, -found.signals["loss"])
  correct = outcome_lib.evaluate(found, "correctness").scores
  np.testing.assert_array_equal(correct, found.signals["correctness"])


@pytest.mark.parametrize(
  ("changes", "attack", "message"),
  [
    ({"reference_members": None}, "similarity", "reference_members with 1 true"),
    (
      {"reference_members": np.zeros((4, 20), bool)},
      "similarity",
      "true and 1 false for a sample",
    ),
    ({"reference_population_members": None}, "classifier", "population_members"),
    (
      {"reference_population_members": np.zeros((4, 40), bool)},
      "classifier",
      "with both true and false",
    ),
  ],
)
def test_what_a_file_lacks_is_named(changes, attack, message):
  arrays = {k: v for k, v in {**_arrays(), **changes}.items() if v is not None}
  missing = outcome_lib.lacking(signals_file.from_arrays(arrays), attacks.names())
  assert message in missing[attack]
  assert "metric_loss" not in missing


def test_private_training_is_noted():
  one = trainer.Trainer(
    dataset=_dataset(), train=TRAIN, num_members=K,
    defenses=(registry.parse("dp_sgd:8", delta=1e-3),),
  )  # fmt: skip
  mechanism = one.defended().mechanism
  assert auditing._guarantee(None, {}) == []
  (note,) = auditing._guarantee(mechanism, {})
  assert 7.9 < mechanism.epsilon <= 8
  assert f"epsilon={mechanism.epsilon:.3g} at delta=0.001" in note
  for shown, word in ((9.0, "Contradicted at 95 %"), (1.0, "Consistent")):
    _, verdict = auditing._guarantee(
      mechanism, {"epsilon_lower": {"add_remove": shown}}
    )
    assert verdict.startswith(word)
    assert verdict.endswith("though they share a model.")
