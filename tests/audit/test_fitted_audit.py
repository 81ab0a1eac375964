"""Audits whose models the caller fits: scikit-learn's, against a loop over them."""

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets
from sklearn import ensemble

from jmia import adapters, audit, datasets, splits
from jmia.adapters import fitted
from jmia.audit import config as config_lib
from jmia.audit import others, view
from jmia.audit import trainer as trainer_lib
from jmia.audit import training as training_lib
from jmia.defenses import registry
from jmia.training import config as training_config

_DIGITS = datasets.load("digits")
_X, _Y = sklearn_datasets.load_digits(return_X_y=True)
_SPLIT = splits.audit(
  1_797, num_members=60, num_nonmembers=60, num_population=300, seed=1
)


def _trees(x, y, seed):
  """Three trees, grown as the seed draws."""
  model = ensemble.RandomForestClassifier(3, random_state=seed)
  model.fit(x.reshape(len(x), -1), y)
  return lambda x: _spread(model, x)


def _spread(model, x):
  found = np.full((len(x), 10), 1e-3)
  found[:, model.classes_] += model.predict_proba(x.reshape(len(x), -1))
  return found / found.sum(1, keepdims=True)


def _panel(config, **options):
  design = config_lib.design_of(_SPLIT, config)
  trainer = trainer_lib.Trainer(
    dataset=_DIGITS,
    train=training_config.TrainConfig(num_epochs=1),
    num_members=60,
    seed=7,
    width=1,
  )
  return design, training_lib.train(design, trainer, config.needs(), **options)


def test_every_model_answers_as_in_a_loop():
  """Targets, references, models in and out."""
  config = audit.AuditConfig(
    attacks=("reference", "shadow", "base:online"), num_references=3
  )
  design, panel = _panel(config, fit=_trees)
  evidence = view.evidence(panel, 0)
  seeds = fitted.seeds(7, np.arange(len(design.role)))
  members = design.members

  def losses(m, rows):
    own = design.rows[members.member_idx[m, : members.num_members[m]]]
    predict = _trees(_X[own], _Y[own], seeds[m])
    return -np.log(predict(_X[rows])[np.arange(len(rows)), _Y[rows]])

  np.testing.assert_allclose(
    evidence.signals["loss"], losses(0, evidence.index), rtol=1e-4, atol=1e-6
  )
  group = evidence.groups["reference"]
  models = design.models("reference")
  assert len(models) == len(group.signals["loss"]) == 3
  population = design.rows[design.population]
  for row, m in enumerate(models):
    np.testing.assert_allclose(
      group.signals["loss"][row], losses(m, evidence.index), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
      group.population["loss"][row], losses(m, population), rtol=1e-4, atol=1e-6
    )
  in_out = evidence.groups["in_out"]
  row = len(in_out.held) - 1
  m = design.models("in_out")[row]
  np.testing.assert_allclose(
    in_out.signals["loss"][row], losses(m, evidence.index), rtol=1e-4, atol=1e-6
  )
  assert {*evidence.groups} == {"reference", "in_out"}
  assert panel.notes == ["the models compared with are fitted as _trees"]


def test_students_stay_networks(monkeypatch):
  trained = []

  def train(panel, trainer, asked, data, teachers, told, parts, what):
    assert told.kinds == {"predict(x)": ["probabilities"]}
    trained.append(([part.role for part in parts], what))
    assert [*panel.blocks[0].models] == [1, 2]
    assert teachers.shape[2] == 10
    return panel

  monkeypatch.setattr(others, "train", train)
  config = audit.AuditConfig(
    attacks=("reference", "distillation"), num_references=2, num_distilled=2
  )
  _, panel = _panel(config, fit=_trees)
  assert trained == [(["distilled"], "others")]
  assert "distilled models are mlp_256_128, not _trees" in panel.notes[1]


def test_a_forest_on_a_table_is_compared_with_forests():
  """What the caller made is given columns as they came; what networks see is said."""
  table = {f"pixel {i}": column for i, column in enumerate(_X.T)}
  dataset = datasets.from_arrays(table, np.array([f"digit {i}" for i in _Y]))
  rows = adapters.estimators.as_rows(dataset.given[_SPLIT.members])
  forest = ensemble.RandomForestClassifier(20, random_state=1)
  forest.fit(rows, _Y[_SPLIT.members])
  report = audit.run(
    dataset,
    audit.AuditConfig(attacks=("reference",), num_references=4, width=1),
    predict=adapters.from_sklearn(forest, dataset),
    split=_SPLIT,
    references=adapters.fit_sklearn(forest, dataset),
  ).report
  assert report["target"]["train_accuracy"] == 1
  assert report["attacks"]["reference"]["auc"] > 0.75  # forests know their members
  assert report["config"]["model"] == "black box"
  assert report["config"]["reference_model"] == "RandomForestClassifier"
  note = "the models compared with are fitted as RandomForestClassifier"
  assert {note, *dataset.notes} <= {*report["notes"]}
  assert any("are numbers and standardised" in note for note in dataset.notes)
  assert report["dataset"]["class_names"] == [f"digit {i}" for i in range(10)]


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (lambda x: np.zeros((len(x), 3)), r"predict\(x\) has shape"),
    (lambda x: np.full((len(x), 10), np.nan), "NaN"),
  ],
)
def test_answers_that_are_none_are_refused(answer, message):
  config = audit.AuditConfig(attacks=("reference",), num_references=2)
  with pytest.raises(ValueError, match=message):
    _panel(config, predict=lambda x: _X[: len(x), :10], fit=lambda *_: answer)


def test_defenses_are_of_the_engine():
  config = audit.AuditConfig(defenses=(registry.parse("l2:0.01"),))
  with pytest.raises(ValueError, match="defenses change the training here"):
    audit.run(_DIGITS, config, references=_trees)
