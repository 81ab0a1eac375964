import dataclasses
import json
import os
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmia import audit, datasets, locks, splits, types
from jmia.audit import auditing, others, signals_file, trainer, training, view
from jmia.audit import config as audit_config
from jmia.report import page, tables
from jmia.stats import epsilon, levels
from jmia.training import config as config_lib
from jmia.training import distillation, optimizers, parallel

K, P, R, D, Q = 60, 140, 4, 4, 9
ATTACKS = ("population", "shadow", "reference", "distillation", "leave_one_out")
TRAIN = config_lib.TrainConfig(
  model="mlp",
  model_options=(("features", (32,)),),
  optimizer=optimizers.OptimizerConfig(learning_rate=0.2),
  batch_size=32,
  num_epochs=40,
)
ONE_EPOCH = dataclasses.replace(TRAIN, num_epochs=1)
CONFIG = audit.AuditConfig(
  attacks=ATTACKS,
  num_members=K,
  num_nonmembers=K + 20,
  num_population=P,
  num_references=R,
  num_distilled=D,
  num_left_out=Q,
  num_retrained=3,
  train=TRAIN,
  seed=3,
)
WITHOUT_TRAINING = dataclasses.replace(CONFIG, attacks=("population",))
DIGITS = datasets.load("digits")
# Half of the labels are noise: what a model learns of them it has learnt by heart.
_NOISE = np.random.default_rng(0).integers(0, 20, len(DIGITS.y))
DATASET = DIGITS._replace(y=np.where(_NOISE < 10, _NOISE, DIGITS.y).astype(np.int32))
SPLIT = splits.audit(
  DATASET.num_examples, num_members=K, num_nonmembers=K, num_population=P, seed=0
)
WEIGHTS = np.random.default_rng(1).normal(0, 0.05, (64, 10)).astype(np.float32)


def _linear(x):
  """A black box in NumPy."""
  return x.reshape(len(x), -1) @ WEIGHTS


def _run_watched(config, **kwargs):
  """As `audit.run`; also gives the evidence that the attacks were given."""
  kept = []
  with pytest.MonkeyPatch.context() as patch:
    attack = auditing._of_targets

    def watch(targets, *args):
      kept.extend(targets)
      return attack(targets, *args)

    patch.setattr(auditing, "_of_targets", watch)
    result = audit.run(DATASET, config, **kwargs)
  return result, kept[0].evaluated()


@pytest.fixture(scope="module")
def trained():
  return _run_watched(CONFIG)


@pytest.fixture(scope="module")
def result(trained):
  return trained[0]


@pytest.fixture(scope="module")
def found(trained):
  return trained[1]


def test_report_has_the_contracts_keys_and_is_json(result):
  report = result.report
  assert json.loads(json.dumps(report, allow_nan=False)) == report
  assert set(report) == {
    *("schema", "config", "versions", "device", "seed", "target", "attacks"),
    *("missing", "notes", "seconds", "dataset", "epsilon_lower", "found", "groups"),
    "blind",
  }
  assert (report["schema"], report["seed"]) == (1, 3)
  assert report["device"] == jax.devices()[0].device_kind
  assert list(report["attacks"]) == list(ATTACKS)
  assert (report["missing"], report["notes"]) == ({}, [])
  assert report["config"]["train"]["num_epochs"] == 40
  assert report["config"]["num_members"] == K
  assert report["target"]["num_members"] == K
  assert report["target"]["num_nonmembers"] == K + 20
  assert report["dataset"]["num_examples"] == 1797
  seconds = report["seconds"]
  parts = seconds["train"] + seconds["signals"] + seconds["attacks"]
  # However busy the machine is: what is timed is most of it.
  assert 0 < parts <= seconds["total"] < 2 * parts


def test_an_overfit_model_leaks(result):
  assert result.report["target"]["train_accuracy"] > 0.95
  assert result.report["target"]["test_accuracy"] < 0.7
  members = result.samples.members
  for attack in ("population", "shadow", "reference", "distillation"):
    assert result.report["attacks"][attack]["auc_ci"][0] > 0.6
    scores = result.samples.scores[attack]
    assert np.median(scores[members]) > np.median(scores[~members])
  assert result.report["attacks"]["leave_one_out"]["auc"] > 0.5


def test_samples_are_rows_of_the_dataset(result):
  samples = result.samples
  assert len(np.unique(samples.index)) == len(samples.index) == 2 * K + 20
  np.testing.assert_array_equal(samples.labels, DATASET.y[samples.index])
  assert samples.members.sum() == K


def test_leave_one_out_attacks_as_many_samples_as_it_was_told(result):
  attacked = result.samples.attacked("leave_one_out")
  assert attacked.sum() == Q
  assert (attacked & result.samples.members).sum() == Q // 2
  summary = result.report["attacks"]["leave_one_out"]
  assert (summary["num_samples"], summary["num_nonmembers"]) == (Q, Q - Q // 2)
  assert summary["num_models"] == 3


def test_no_row_that_calibrates_is_evaluated(monkeypatch):
  """Nor does a model that an attack compares with train on an evaluated row."""
  designs, runs = [], []
  train, run = training.train, trainer.parallel.run

  class EnoughError(Exception):
    pass

  def watch_train(design, *args, **kwargs):
    designs.append(design)
    return train(design, *args, **kwargs)

  def watch_run(recipe, key, jobs, data, **kwargs):
    runs.append(jobs)
    if len(runs) == 2:
      raise EnoughError
    return run(recipe, key, jobs, data, **kwargs)

  monkeypatch.setattr(training, "train", watch_train)
  monkeypatch.setattr(trainer.parallel, "run", watch_run)
  with pytest.raises(EnoughError):
    audit.run(DATASET, CONFIG)
  (design,) = designs
  target, others = runs
  n = 2 * K + 20
  evaluated, calibrating = design.rows[:n], design.rows[n:]
  assert not set(evaluated) & set(calibrating)
  assert len(set(calibrating)) == P
  np.testing.assert_array_equal(np.sort(target.member_idx[0]), np.arange(K))
  mask = splits.member_mask(
    types.Splits(others.member_idx, others.num_members), len(design.rows)
  )
  assert not mask[: R + D, : n + P // 4].any()  # nor on one that calibrates p-values
  np.testing.assert_array_equal(mask[: R + D].sum(axis=1), K)
  is_student = np.arange(len(mask)) // R == 1
  np.testing.assert_array_equal(others.teacher, np.where(is_student, 0, -1))
  # Leave-one-out: 4 members times 3 models, then 3 with all members.
  left_out = mask[R + D :]
  assert not left_out[:, K:].any()
  np.testing.assert_array_equal(left_out.sum(axis=1), [K - 1] * 12 + [K] * 3)
  assert len(np.unique(left_out[:12].argmin(axis=1))) == 4


def test_held_rows_are_those_that_the_references_trained_on(found):
  group = found.groups["reference"]
  assert not group.held.any()
  assert group.out.all()
  np.testing.assert_array_equal(group.population_held.sum(axis=1), K)
  loss, held = group.population["loss"], group.population_held
  assert np.median(loss[held]) < np.median(loss[~held])


def _logits(losses, labels):
  """Logits with these losses: `log p` of the label, the rest shared by the others."""
  log_p = -losses.astype(np.float64)
  rest = np.log(np.maximum(-np.expm1(log_p), 1e-300) / 9)
  logits = np.repeat(rest[..., None], 10, axis=-1)
  label = np.broadcast_to(labels, losses.shape)[..., None]
  np.put_along_axis(logits, label, log_p[..., None], axis=-1)
  return logits.astype(np.float32)


def test_a_file_of_signals_gives_the_same_scores(result, found, tmp_path):
  y, population_y = found.labels, found.population_labels
  reference, distilled = found.groups["reference"], found.groups["distilled"]
  np.savez(
    tmp_path / "signals.npz",
    target_logits=_logits(found.signals["loss"], y),
    labels=y,
    members=found.members,
    population_logits=_logits(found.population["loss"], population_y),
    population_labels=population_y,
    reference_logits=_logits(reference.signals["loss"], y),
    reference_members=reference.held,
    reference_population_logits=_logits(reference.population["loss"], population_y),
    reference_population_members=reference.population_held,
    distilled_logits=_logits(distilled.signals["loss"], y),
  )
  other = audit.from_evidence(signals_file.load(tmp_path / "signals.npz"), ATTACKS)
  assert list(other.report["missing"]) == ["leave_one_out"]
  for attack, scores in other.samples.scores.items():
    np.testing.assert_allclose(
      scores, result.samples.scores[attack], rtol=0.01, atol=0.01
    )
    assert other.report["attacks"][attack]["auc"] == pytest.approx(
      result.report["attacks"][attack]["auc"], abs=0.01
    )


def test_evidence_that_lacks_something_names_the_attack(found):
  def without(group, **fields):
    changed = found.groups[group]._replace(**fields)
    return found._replace(groups={**found.groups, group: changed})

  for changed, attack in (
    (found._replace(population={}), "population"),
    (without("reference", population={}), "shadow"),
    (without("reference", signals={}), "reference"),
    (without("distilled", signals={}), "distillation"),
    (without("left_out", signals={}), "leave_one_out"),
  ):
    report = audit.from_evidence(changed, ATTACKS).report
    assert list(report["missing"]) == [attack]
    assert attack not in report["attacks"]
    assert len(report["attacks"]) == 4


def test_a_result_shows_itself_as_the_command_prints_it(found):
  result = audit.from_evidence(found, ["population"])
  assert str(result) == repr(result) == tables.text(result.report)


def test_no_attack_at_all_is_refused(found):
  bare = found._replace(population={})
  with pytest.raises(
    ValueError, match="no attack can run: population needs popul"
  ) as e:
    audit.from_evidence(bare, ["population"])
  can = str(e.value).partition("; attacks that can: ")[2].split(", ")
  assert {"metric_loss", "reference"} <= {*can}
  assert not {"population", "random"} & {*can}
  assert audit.from_evidence(bare, can).report["missing"] == {}
  with pytest.raises(ValueError, match="attacks is empty"):
    audit.from_evidence(found, [])


def test_settings_are_recorded_as_json(found, tmp_path):
  settings = {"signals": tmp_path, "seed": 5, "pairs": (("a", 1),)}
  before = jax.config.values["jax_default_matmul_precision"]
  jax.config.update("jax_default_matmul_precision", "tensorfloat32")
  try:
    report = audit.from_evidence(found, ["population"], "gaussian", settings).report
  finally:
    jax.config.update("jax_default_matmul_precision", before)
  assert report["seed"] == 5
  assert report["config"] == {
    "attacks": ["population"],
    "estimator": "gaussian",
    "matmul_precision": "tensorfloat32",
    "signals": str(tmp_path),
    "seed": 5,
    "pairs": [["a", 1]],
  }


def _black_box(predict, **changes):
  config = dataclasses.replace(WITHOUT_TRAINING, **changes)
  return audit.run(DATASET, config, predict=predict, split=SPLIT)


def test_a_black_box_in_numpy_is_asked_for_its_losses():
  asked = []

  def predict(x):
    asked.append(x)
    return _linear(x)

  result = _black_box(predict)
  rows = np.concatenate(SPLIT)
  asked_rows, again = np.split(np.concatenate(asked), [len(rows)])
  np.testing.assert_array_equal(again, DATASET.x[rows[:32]])  # does it say the same?
  np.testing.assert_array_equal(asked_rows[: 2 * K], DATASET.x[rows[: 2 * K]])
  # The population in another order, for some of it is drawn to calibrate.
  as_sets = [np.unique(a.reshape(len(rows), -1), axis=0) for a in
             (asked_rows, DATASET.x[rows])]  # fmt: skip
  np.testing.assert_array_equal(*as_sets)
  assert asked[0].dtype == DATASET.x.dtype
  assert result.report["config"]["model"] == "black box"
  evaluated = rows[: 2 * K]
  np.testing.assert_array_equal(result.samples.index, evaluated)
  logits = _linear(DATASET.x[evaluated]).astype(np.float64)
  label = DATASET.y[evaluated]
  loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(2 * K), label]
  np.testing.assert_allclose(result.samples.loss, loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "answer",
  [
    lambda logits: np.asarray(jax.nn.softmax(logits)),
    lambda logits: jnp.asarray(logits),
    lambda logits: logits.astype(np.float64) + 3.0,
    lambda logits: jnp.asarray(logits, jnp.bfloat16),
  ],
  ids=["probabilities", "jax", "float64", "bfloat16"],
)
def test_answers_of_other_kinds_give_the_same_losses(answer):
  expected = _black_box(_linear).samples.loss
  loss = _black_box(lambda x: answer(_linear(x))).samples.loss
  assert loss.dtype == np.float32
  coarse = 0.2 if answer(np.ones((1, 10))).dtype == jnp.bfloat16 else 1e-3
  np.testing.assert_allclose(loss, expected, atol=coarse)


def test_a_black_box_in_pytorch():
  torch = pytest.importorskip("torch")
  layer = torch.nn.Linear(64, 10, bias=False)
  layer.weight.data = torch.tensor(WEIGHTS.T.copy())

  def predict(x):
    with torch.no_grad():
      return layer(torch.tensor(x).float().flatten(1)).softmax(-1)

  np.testing.assert_allclose(
    _black_box(predict).samples.loss, _black_box(_linear).samples.loss, atol=1e-3
  )


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (lambda logits: logits[:, :9], r"predict\(x\) has shape \(260, 9\), expected"),
    (lambda logits: logits[:-1], r"predict\(x\) has shape \(259, 10\), .*\(260, 10\)"),
    (lambda logits: logits.max(1), r"predict\(x\) has shape \(260,\)"),
    (lambda logits: logits.T, r"predict\(x\) has shape \(10, 260\)"),
    (lambda logits: logits * np.nan, r"predict\(x\) holds 2600 NaN or inf"),
    (lambda logits: logits.astype(float) * 1e39, r"predict\(x\) holds \d+ NaN or inf"),
  ],
)
def test_answers_that_are_no_predictions_are_refused(answer, message):
  with pytest.raises(ValueError, match=message):
    _black_box(lambda x: answer(_linear(x)))


def _rows(**changes):
  return SPLIT._replace(**changes)


@pytest.mark.parametrize(
  ("split", "message"),
  [
    (_rows(population=SPLIT.members), "population overlaps .* in 60 rows"),
    (_rows(nonmembers=SPLIT.members[:3]), "nonmembers overlaps .* in 3 rows"),
    (_rows(members=SPLIT.members[:0]), r"members has shape \(0,\)"),
    (_rows(nonmembers=SPLIT.nonmembers[:0]), r"nonmembers has shape \(0,\)"),
    (_rows(population=np.array([1797])), "population holds rows 1797 to 1797"),
  ],
)
def test_splits_that_would_mislead_are_refused(split, message):
  with pytest.raises(ValueError, match=message):
    audit.run(DATASET, CONFIG, predict=_linear, split=split)


def test_a_model_in_place_of_a_function_is_told_of_adapters():
  with pytest.raises(ValueError, match=r"predict is a dict, .* jmia\.adapters makes"):
    audit.run(DATASET, CONFIG, predict={})


def test_a_black_box_without_its_split_is_refused():
  with pytest.raises(ValueError, match="predict needs split"):
    audit.run(DATASET, CONFIG, predict=_linear)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"x": np.full((1797, 4), np.nan, np.float32)}, "features holds .* NaN"),
    ({"y": DATASET.y + 1}, "labels holds labels from 1 to 10, expected 0 to 9"),
    ({"y": DATASET.y + 0.5}, "labels has dtype float64, expected integer"),
  ],
)
def test_datasets_that_are_none_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    audit.run(DATASET._replace(**changes), CONFIG)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_members": 2000}, r"num_members=2000 .* exceed the 1797 examples"),
    ({"num_population": 1700}, r"num_population=1700 exceed the 1797 examples"),
    ({"num_population": K - 1}, "num_members=60 is above the population's 59 rows"),
    ({"num_members": -1}, "num_members=-1 must be a finite number above 0"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    audit.run(DATASET, dataclasses.replace(CONFIG, **changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"attacks": ()}, "attacks is empty"),
    ({"attacks": "reference"}, "attacks='reference' is a text, expected a sequence"),
    ({"attacks": ("shadows",)}, "unknown attack 'shadows'; did you mean 'shadow'"),
    ({"estimator": "linea"}, "unknown estimator 'linea'; did you mean 'linear'"),
    ({"num_references": 1}, "num_references=1 must be at least 2"),
    ({"num_distilled": 0}, "num_distilled=0 must be at least 2"),
    ({"num_left_out": 1}, "num_left_out=1 must be at least 2"),
    ({"num_retrained": 1}, "num_retrained=1 must be at least 2"),
    ({"width": 0}, "width=0 must be a finite number above 0"),
    ({"seed": -1}, "seed=-1 must be an integer from 0"),
    # To JAX it is seed 5.
    ({"seed": 2**32 + 5}, "seed=4294967301 must be an integer from 0"),
    ({"delta": 1.0}, "delta=1.0 must be in"),
    ({"num_targets": 0}, "num_targets=0 must be a finite number above 0"),
    ({"attacks": ("shadow", "shadow")}, "attack 'shadow' is named twice"),
    ({"attacks": ("base:alpha=5",)}, r"attack 'base:alpha=5': alpha=5.0 must lie"),
    ({"num_members": 0}, "num_members=0 must be a finite number above 0"),
    ({"num_nonmembers": 0}, "num_nonmembers=0 must be a finite number above 0"),
    ({"num_population": -1}, "num_population=-1 must be a finite number above 0"),
    ({"near_copies": -1.0}, "near_copies=-1.0 must be a finite number above 0"),
  ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    audit.AuditConfig(**changes)


@pytest.mark.parametrize(
  ("attack", "num_population", "message"),
  [
    ("quantile_regression", 25, "'quantile_regression' needs 20 rows .* of 19 that"),
    ("population", 1, "'population' needs 2 rows of the population, of 1 that do not"),
  ],
)
def test_a_population_too_small_for_an_attack_is_refused_before_training(
  monkeypatch, attack, num_population, message
):
  monkeypatch.setattr(training, "train", None)
  config = dataclasses.replace(
    CONFIG, attacks=("metric_loss", attack), num_population=num_population
  )
  with pytest.raises(ValueError, match=message):
    audit.run(DATASET, config)


def test_near_copies_of_a_table_are_refused_before_training(monkeypatch):
  monkeypatch.setattr(training, "train", lambda *args, **kwargs: pytest.fail("trained"))
  table = DATASET._replace(x=DATASET.x.reshape(len(DATASET.x), -1))
  with pytest.raises(ValueError, match=r"near_copies=0.1, but rows have shape \(64,"):
    audit.run(table, dataclasses.replace(CONFIG, near_copies=0.1))


def test_a_class_without_a_null_is_left_out_and_said():
  is_nine = DATASET.y[SPLIT.population] == 9
  split = _rows(population=SPLIT.population[~is_nine])
  config = dataclasses.replace(CONFIG, attacks=("shadow",), train=ONE_EPOCH)
  result = audit.run(DATASET, config, predict=_linear, split=split)
  left_out = ~result.samples.attacked("shadow")
  np.testing.assert_array_equal(left_out, result.samples.labels == 9)
  assert f"shadow leaves {left_out.sum()} of 120" in result.report["notes"][-1]


def test_a_population_smaller_than_the_members_is_noted():
  """With a split it is a fact, not a choice; shadow keeps rows that none trains on."""
  split = _rows(population=SPLIT.population[:50])

  def sizes(config):
    design = audit_config.design_of(split, config)
    return design.members.num_members[design.role == "reference"]

  (note,) = audit_config.notes_of(split, CONFIG)
  assert "trained on 40 where the target has 60" in note
  np.testing.assert_array_equal(sizes(CONFIG), 40)
  without = dataclasses.replace(CONFIG, attacks=("reference",))
  np.testing.assert_array_equal(sizes(without), 50)
  assert audit_config.notes_of(split, WITHOUT_TRAINING) == []


@pytest.fixture
def poison(monkeypatch):
  """Makes models with this first member train on NaN."""

  def poisoned(rows):
    plain, rows = distillation.soft_labels, jnp.asarray(rows)

    def transform(key, batch, job, data):
      if hasattr(job, "teacher"):
        batch = plain(key, batch, job, data)
      bad = (job.member_idx[0] == rows).any()
      return batch._replace(targets=jnp.where(bad, jnp.nan, batch.targets))

    # Whether or not there are students beside the models that it is for.
    monkeypatch.setattr(distillation, "soft_labels", transform)
    build = trainer.Trainer.build
    monkeypatch.setattr(
      trainer.Trainer, "build", lambda self, *given: build(self, *given or (transform,))
    )

  return poisoned


def _first_rows(role):
  """The first member of each model of a role."""
  split = audit_config.split_of(DATASET, CONFIG, None)
  design = audit_config.design_of(split, CONFIG)
  return design.members.member_idx[design.role == role, 0]


def test_models_that_diverge_are_named_and_do_not_spoil_the_rest(poison, result, found):
  first = {role: _first_rows(role) for role in ("reference", "distilled")}
  assert (first["reference"] == first["reference"][1]).sum() == 1
  assert first["reference"][1] not in first["distilled"]
  poison(first["reference"][1:2])
  other, evidence = _run_watched(CONFIG)
  assert other.report["notes"] == ["reference model 1 diverged at epoch 0: left out"]
  assert other.report["attacks"]["reference"]["num_models"] == R - 1
  np.testing.assert_allclose(
    evidence.groups["reference"].signals["loss"],
    found.groups["reference"].signals["loss"][[0, 2, 3]],
    rtol=1e-4,
    atol=1e-5,
  )
  for attack in ("population", "distillation", "leave_one_out"):
    np.testing.assert_allclose(
      other.samples.scores[attack], result.samples.scores[attack], rtol=0.02, atol=5e-3
    )


def test_losses_beyond_float32_are_a_divergence_at_the_last_epoch():
  losses = np.array([[1, 2], [1, np.inf], [np.nan, 2], [3, 4]], np.float32)
  result = parallel.Result({"loss": losses}, {}, np.array([-1, -1, 2, 0]), 4)
  np.testing.assert_array_equal(others.diverged_epoch(result, 10), [-1, 9, 2, 0])


def test_too_many_models_that_diverge_are_an_error(poison, tmp_path):
  poison(_first_rows("reference")[:3])
  (tmp_path / "checkpoints" / "others").mkdir(parents=True)
  config = dataclasses.replace(CONFIG, attacks=("reference",), train=ONE_EPOCH)
  with pytest.raises(ValueError, match="diverged") as raised:
    audit.run(DATASET, config, checkpoint_dir=tmp_path / "checkpoints")
  assert str(raised.value) == (
    "3 of 4 reference models diverged (0 at epoch 0, 1 at epoch 0, 2 at epoch 0): "
    "lower learning_rate=0.2"
  )
  # Or the same command with a lower learning rate would be refused.
  assert list(tmp_path.iterdir()) == []


FILES = [
  "exposed.csv", "model_card.md", "report.html", "report.json", "roc.png", "scores.npz",
]  # fmt: skip


def test_write_leaves_the_contracts_files(result, tmp_path):
  audit.write(result, tmp_path / "new" / "report")
  folder = tmp_path / "new" / "report"
  assert sorted(os.listdir(folder)) == FILES
  assert json.loads((folder / "report.json").read_text()) == result.report
  with np.load(folder / "scores.npz") as arrays:
    assert set(arrays) == {
      *("index", "members", "labels", "loss"),
      *(f"{what}_{attack}" for attack in ATTACKS for what in ("score", "p", "q")),
    }
    assert arrays["members"].dtype == bool
    assert np.issubdtype(arrays["index"].dtype, np.integer)
    for attack, scores in result.samples.scores.items():
      assert arrays[f"score_{attack}"].dtype == np.float32
      np.testing.assert_array_equal(arrays[f"score_{attack}"], scores)


def test_a_folder_that_another_writes_to_is_refused(result, tmp_path):
  held, done = threading.Event(), threading.Event()

  def hold():
    with locks.held(tmp_path):
      held.set()
      done.wait()

  other = threading.Thread(target=hold)
  other.start()
  held.wait()
  try:
    with pytest.raises(ValueError, match="is in use by another run"):
      audit.write(result, tmp_path)
    assert os.listdir(tmp_path) == [locks.NAME]
  finally:
    done.set()
    other.join()
  audit.write(result, tmp_path)


def test_a_frame_without_pandas_says_what_to_install(result, monkeypatch):
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(ImportError, match=r"frame\(\) needs pandas: pip install pandas"):
    result.frame()


def test_a_write_that_fails_leaves_the_numbers_and_nothing_half_written(
  result, tmp_path, monkeypatch
):
  def fail(*args):
    raise OSError("disk full")

  (tmp_path / "report.html").write_text("an earlier audit's")
  monkeypatch.setattr(page, "write", fail)
  with pytest.raises(OSError, match="disk full"):
    audit.write(result, tmp_path)
  assert sorted(os.listdir(tmp_path)) == [f for f in FILES if f != "report.html"]
  assert json.loads((tmp_path / "report.json").read_text()) == result.report


def test_progress_counts_model_epochs():
  seen = []
  config = dataclasses.replace(WITHOUT_TRAINING, train=ONE_EPOCH)
  audit.run(DATASET, config, progress=lambda *told: seen.append(told))
  assert seen == [("target", 1, 1)]


@pytest.fixture(scope="module")
def of_three():
  attacks = ("population", "reference", "similarity", "leave_one_out")
  config = dataclasses.replace(
    CONFIG, attacks=attacks, num_targets=3, num_nonmembers=K, num_left_out=4
  )
  return _run_watched_targets(config)


def _run_watched_targets(config):
  panels = []
  with pytest.MonkeyPatch.context() as patch:
    train = training.train

    def watch(*args, **kwargs):
      panels.append(train(*args, **kwargs))
      return panels[-1]

    patch.setattr(training, "train", watch)
    result = audit.run(DATASET, config)
  return result, panels[0]


def test_several_targets_are_each_compared_with_all_other_models(of_three):
  result, made = of_three
  for entry in result.report["attacks"].values():
    assert set(entry["per_sample_fpr"]) <= set(levels.FPRS)
  design = made.design
  assert (design.role == "target").sum() == 3
  masks = splits.member_mask(design.members, len(design.rows))
  for target in range(3):
    evidence = view.evidence(made, target)
    samples, calibration = design.samples[target], design.calibration[target]
    at = np.append(samples, calibration)
    # Samples and the rows that calibrate are all that is evaluated, each once.
    np.testing.assert_array_equal(np.sort(at), np.arange(2 * K + P // 4))
    np.testing.assert_array_equal(evidence.members, masks[target, at])
    np.testing.assert_array_equal(evidence.calibrates, np.arange(len(at)) >= 2 * K)
    assert not evidence.members[evidence.calibrates].any()
    assert evidence.members.sum() == K
    mates = np.delete(np.arange(3), target)
    for name in ("reference", "in_out"):
      group = evidence.groups[name]
      assert group.num_models == 2 + R
      np.testing.assert_array_equal(group.held[:2], masks[mates][:, at])
    losses = [made.targets[mate].signals["loss"][at] for mate in mates]
    np.testing.assert_array_equal(
      evidence.groups["reference"].signals["loss"][:2], losses
    )
    divergence = evidence.groups["in_out"].signals["divergence"]
    assert divergence.shape == (2 + R, len(at))
    own, mate = (made.targets[t].signals["logits"][at] for t in (target, mates[0]))
    p = np.exp(own - np.logaddexp.reduce(own, -1, keepdims=True))
    q = np.exp(mate - np.logaddexp.reduce(mate, -1, keepdims=True))
    expected = (p * (np.log(p) - np.log(q))).sum(-1)
    np.testing.assert_allclose(divergence[0], expected, rtol=1e-3, atol=1e-4)
    left_out = evidence.groups["left_out"].out.all(axis=0)
    assert left_out[evidence.calibrates].all()
    left_out &= ~evidence.calibrates
    assert left_out.sum() == 4
    assert evidence.members[left_out].sum() == 2
  assert not np.array_equal(masks[0], masks[1])


def test_the_report_of_several_targets_is_of_their_mean(of_three, tmp_path):
  result, _ = of_three
  report = result.report
  assert json.loads(json.dumps(report, allow_nan=False)) == report
  for attack, entry in report["attacks"].items():
    each = [one["auc"] for one in entry["by_target"]]
    assert len(each) == 3
    np.testing.assert_allclose(entry["auc"], np.mean(each))
    assert entry["ci_of"] == "the mean over 3 targets"
    assert 0 <= entry["auc_ci"][0] <= entry["auc"] <= entry["auc_ci"][1] <= 1, attack
  assert len(report["targets"]) == 3
  assert "epsilon_lower" not in report
  np.testing.assert_allclose(
    report["target"]["test_accuracy"],
    np.mean([one["test_accuracy"] for one in report["targets"]]),
  )
  audit.write(result, tmp_path)
  with np.load(tmp_path / "scores.npz") as arrays:
    scores, members = arrays["target_score_reference"], arrays["target_members"]
    assert scores.shape == members.shape == (3, 2 * K)
    np.testing.assert_array_equal(scores[0], arrays["score_reference"])
    np.testing.assert_array_equal(members[0], arrays["members"])
    index = arrays["target_index"]
    np.testing.assert_array_equal(index[0], arrays["index"])
    assert all(len(set(of_target)) == 2 * K for of_target in index)
  page_text = (tmp_path / "report.html").read_text()
  assert "Target by target" in page_text
  assert "the mean over 3 targets, models trained alike" in page_text
  assert len(result.targets) == 3


def test_a_black_box_is_one_target():
  with pytest.raises(ValueError, match="num_targets=2, but predict is one target"):
    _black_box(_linear, num_targets=2)


def test_no_more_is_collected_than_the_attacks_need(monkeypatch):
  kept = []

  def collected(recipe, key, jobs, data, *, collect, **options):
    """As `parallel.run` would return it, of models that are never trained."""

    def one(key, job, data):
      state, metrics = recipe.update(recipe.init(key, job), job, data)
      return collect(state, job, data), metrics

    shapes = jax.eval_shape(one, key, jax.tree.map(lambda a: a[0], jobs), data)
    num = len(jax.tree.leaves(jobs)[0])
    kept.append(jax.tree.map(lambda a: np.zeros((num, *a.shape), a.dtype), shapes[0]))
    losses = jax.tree.map(lambda a: np.zeros((num, recipe.num_epochs)), shapes[1])
    return parallel.Result(kept[-1], losses, np.full(num, -1), num)

  monkeypatch.setattr(trainer.parallel, "run", collected)
  signals = {
    ("population",): None,
    ("reference",): (["loss"], []),
    ("shadow",): ([], ["loss"]),
    ("similarity",): (["divergence"], []),
    ("classifier", "shadow"): ([], ["logits"]),
  }
  for attacks, expected in signals.items():
    kept.clear()
    config = dataclasses.replace(CONFIG, attacks=attacks, train=ONE_EPOCH)
    audit.run(DATASET, config)
    # The classifier attack trains networks of its own.
    assert len(kept) == (1 if expected is None else 2 + ("classifier" in attacks))
    if expected is not None:
      assert tuple(sorted(part) for part in kept[1][:2]) == expected


def test_p_values_are_ranks_among_rows_that_nobody_evaluates(result, trained):
  samples = result.samples
  for attack in ATTACKS:
    entry = result.report["attacks"][attack]
    assert entry["num_calibration"] == P // 4
    p, q = samples.p_values[attack], samples.q_values[attack]
    attacked = samples.attacked(attack)
    np.testing.assert_array_equal(np.isnan(p), ~attacked)
    ranks = p[attacked] * (P // 4 + 1)
    np.testing.assert_allclose(ranks, np.round(ranks), atol=1e-9)
    assert (q[attacked] >= p[attacked] - 1e-12).all()
    counts = entry["found_at_fdr"]["0.1"]
    assert counts["num_found"] == (q[attacked] <= 0.1).sum()
    others = p[attacked & ~samples.members]
    assert entry["accused_at_p"]["0.1"] == (others <= 0.1).mean()
  # Members whose labels are noise are learnt by heart, and stand out.
  p = samples.p_values["distillation"]
  assert np.median(p[samples.members]) < 0.1 < np.median(p[~samples.members])


def test_without_rows_to_calibrate_there_are_no_p_values_and_it_is_said():
  config = dataclasses.replace(WITHOUT_TRAINING, num_calibration=0, train=ONE_EPOCH)
  result = audit.run(DATASET, config)
  assert "num_calibration" not in result.report["attacks"]["population"]
  assert (result.samples.p_values, result.samples.q_values) == ({}, {})
  assert "There are no p-values" in page.render(result.report, result.samples)
  with pytest.raises(ValueError, match="num_calibration=139 leaves fewer than 2 of"):
    audit.run(DATASET, dataclasses.replace(config, num_calibration=139))


def test_references_in_and_out_hold_half_of_the_samples_and_nothing_else():
  attacks = (
    "reference", "lira_online", "rmia_online", "bavaria", "base:online", "similarity",
  )  # fmt: skip
  config = dataclasses.replace(
    CONFIG, attacks=attacks, references="in_out", num_references=8, num_nonmembers=K
  )
  result, made = _run_watched_targets(config)
  assert result.report["missing"] == {}
  assert list(result.report["attacks"]) == list(attacks)
  design = made.design
  assert set(design.role) == {"target", "reference"}
  evidence = view.evidence(made, 0)
  group = evidence.groups["reference"]
  np.testing.assert_array_equal(evidence.groups["in_out"].held, group.held)
  # Pairs of disjoint halves, as large as the target: a row is in one of each at most.
  np.testing.assert_array_equal(group.held.sum(axis=1), K)
  assert (group.held[::2].astype(int) + group.held[1::2]).max() == 1
  assert not splits.member_mask(design.members, len(design.rows))[
    1:, design.population
  ].any()
  for attack in attacks[1:]:
    assert result.report["attacks"][attack]["auc"] > 0.6, attack
  assert audit.default_attacks("in_out", 1)[-2:] == ("lira_online", "rmia_online")
  assert audit.default_attacks("population", 1) == audit.DEFAULT_ATTACKS


def test_an_epsilon_is_shown_of_each_attack_and_of_all_together(result):
  report, members = result.report, result.samples.members
  for attack, entry in report["attacks"].items():
    at = result.samples.attacked(attack)
    found = epsilon.epsilon_lower(result.samples.scores[attack][at], members[at])
    assert entry["epsilon_lower"] == found._asdict()
  # The best of five attacks, each at a fifth of the level.
  shown = report["epsilon_lower"]
  expected = max(
    epsilon.epsilon_lower(
      result.samples.scores[attack][result.samples.attacked(attack)],
      members[result.samples.attacked(attack)],
      confidence=0.99,
    ).exchange
    for attack in report["attacks"]
  )
  assert shown["exchange"] == pytest.approx(expected)
  assert 0 < shown["add_remove"] <= shown["exchange"]
  assert (shown["delta"], shown["confidence"]) == (0.0, 0.95)
  html = page.render(report, result.samples)
  assert f"at least {shown['exchange']:.2f} for one record exchanged" in html
  assert "An estimate, not a proof" in html
