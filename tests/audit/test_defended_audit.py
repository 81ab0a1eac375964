"""Models that carry defences are audited by every attack, to the last file.

`JMIA_FULL=1` runs every defence at two strengths by every attack, with few and with
many models, in half an hour; else two of them by the default attacks.
"""

import os

import numpy as np
import pytest

from jmia import attacks, audit, types
from jmia.audit import config as audit_config
from jmia.audit import files, training, view
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import optimizers

# Of each defence a weak and a strong one.
DEFENSES = {
  "top_k": ("top_k:2", "top_k:1"),
  "rounding": ("rounding:3", "rounding:1"),
  "noise": ("noise:0.01", "noise:0.5"),
  "temperature": ("temperature:2", "temperature:100"),
  "label_only": ("label_only", "label_only"),
  "l2": ("l2:0.001", "l2:1"),
  "dropout": ("dropout:0.2", "dropout:0.9"),
  "flip": ("flip", "flip"),
  "crop": ("crop:1", "crop:2"),
  "cutout": ("cutout:2", "cutout:6"),
  "rand_augment": ("rand_augment:0.2", "rand_augment:1"),
  "bit_flip": ("bit_flip:0.01", "bit_flip:0.4"),
  "early_stopping": ("early_stopping:0.2", "early_stopping:0.5"),
  "label_smoothing": ("label_smoothing:0.1", "label_smoothing:0.9"),
  "mixup": ("mixup:0.2", "mixup:2"),
  "stacking": ("stacking:2", "stacking:3"),
  "dp_sgd": ("dp_sgd:100", "dp_sgd:0.5"),
}
# Those whose answers are unlike any others: nothing but ties, and nothing but noise.
_SHORT = [("label_only", 2), ("dp_sgd:0.5", 2)]
_FULL = [
  (text, number)
  for texts in DEFENSES.values()
  for text in dict.fromkeys(texts)
  for number in (2, 8)
]
_IS_FULL = bool(os.environ.get("JMIA_FULL"))
C = 3


def test_every_defence_has_its_strengths():
  assert set(DEFENSES) == set(registry.names())


def _dataset(bits):
  rng = np.random.default_rng(0)
  y = rng.integers(0, C, 260).astype(np.int32)
  if bits:
    x = (rng.random((260, 24)) < 0.2 + 0.2 * y[:, None]).astype(np.uint8)
    return types.Dataset("bits", x, y, C, 260, 1.0, True, "Bits.")
  x = np.clip(rng.normal(size=(260, 8, 8, 1)) + y[:, None, None, None], 0, 4)
  return types.Dataset(
    "images", x.astype(np.float32), y, C, 260, 1 / 4, True, "Images."
  )


@pytest.mark.parametrize(("text", "num_models"), _FULL if _IS_FULL else _SHORT)
def test_a_defended_model_is_audited_to_the_last_file(tmp_path, text, num_models):
  names = attacks.names() if _IS_FULL else audit.DEFAULT_ATTACKS
  config = audit.AuditConfig(
    attacks=names,
    references="in_out" if _IS_FULL else "population",
    num_members=40,
    num_population=120,
    num_references=num_models,
    num_distilled=num_models,
    num_left_out=2,
    num_retrained=2,
    train=config_lib.TrainConfig(model="mlp", num_epochs=3, batch_size=20),
    defenses=(registry.parse(text, delta=1e-3),),
  )
  result = audit.run(_dataset(text.startswith("bit_flip")), config)
  audit.write(result, tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == set(files.FILES)
  assert not any("could not be made" in note for note in result.report["notes"])
  told = {**result.report["attacks"], **result.report["missing"]}
  assert set(told) == set(names)
  for name, entry in result.report["attacks"].items():
    assert 0 <= entry["auc_ci"][0] <= entry["auc"] <= entry["auc_ci"][1] <= 1, name
  assert f"defended by {text}" in (tmp_path / "report.html").read_text()


def test_a_defence_below_what_training_has_is_noted():
  optimizer = optimizers.OptimizerConfig(weight_decay=0.5)
  config = audit.AuditConfig(
    attacks=("metric_loss",),
    num_members=40,
    train=config_lib.TrainConfig(
      model="mlp", num_epochs=1, batch_size=20, optimizer=optimizer
    ),
    defenses=(registry.parse("l2:0.1"),),
  )
  notes = audit.run(_dataset(bits=True), config).report["notes"]
  assert any(note.startswith("l2:0.1 weakens the training") for note in notes)


@pytest.mark.parametrize("references", ["population", "in_out"])
def test_rows_that_only_chose_the_epoch_are_in_nobody_s_favour(references, monkeypatch):
  config = audit.AuditConfig(
    attacks=("metric_loss", "reference", "lira_offline", "leave_one_out"),
    references=references,
    num_members=40,
    num_population=120,
    num_references=4,
    num_left_out=10,
    num_retrained=2,
    train=config_lib.TrainConfig(model="mlp", num_epochs=2, batch_size=20),
    defenses=(registry.parse("early_stopping:0.75"),),
  )
  dataset = _dataset(bits=True)
  train, panels = training.train, []

  def watch(*arguments, **options):
    panels.append(train(*arguments, **options))
    return panels[-1]

  monkeypatch.setattr(training, "train", watch)
  report, (samples,) = audit.run(dataset, config)
  assert report["target"]["num_members"] == samples.members.sum() == 10
  assert report["target"]["num_nonmembers"] == 40
  assert len(samples.index) == 50
  assert any(
    note.startswith("30 of the target's 40 members only chose the epoch")
    for note in report["notes"]
  )
  assert report["attacks"]["metric_loss"]["num_samples"] == 50
  split = audit_config.split_of(dataset, config, None)
  assert np.isin(samples.index[samples.members], split.members).all()
  assert np.isin(samples.index[~samples.members], split.nonmembers).all()

  (trained,) = panels
  design = trained.design
  evidence = view.evidence(trained, 0)
  group = evidence.groups["reference"]
  models = design.models("reference")
  sizes = design.members.num_members[models]
  seen = {"held": group.held, "out": group.out}
  if references == "population":
    seen = {"held": group.population_held, "out": group.population_out}
    num_rows = design.num_population
    np.testing.assert_array_equal(seen["held"].sum(axis=1), sizes // 4)
    np.testing.assert_array_equal(seen["out"].sum(axis=1), num_rows - sizes)
  assert not (seen["held"] & seen["out"]).any()
  assert not (seen["held"] | seen["out"]).all()


def test_every_target_leaves_out_its_own_rows_that_chose():
  config = audit.AuditConfig(
    attacks=("metric_loss",),
    num_targets=2,
    num_members=40,
    train=config_lib.TrainConfig(model="mlp", num_epochs=1, batch_size=20),
    defenses=(registry.parse("early_stopping:0.5"),),
  )
  result = audit.run(_dataset(bits=True), config)
  for target, samples in zip(result.report["targets"], result.targets, strict=True):
    assert target["num_members"] == samples.members.sum() == 20
