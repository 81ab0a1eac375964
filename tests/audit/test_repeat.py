"""An audit's settings come back whole from its report, a defence's own among them."""

import dataclasses
import json
import math

import numpy as np

from jmia import audit, datasets, splits
from jmia.audit import repeat
from jmia.defenses import registry
from jmia.training import config as config_lib

DEFENSES = (
  registry.DefenseConfig(name="l2", strength=0.12345678),
  registry.DefenseConfig(name="flip"),
  registry.DefenseConfig(
    name="dp_sgd", strength=math.inf, delta=1e-7, clip_norm=0.3, microbatch_size=4
  ),
)


def test_every_setting_of_a_defence_comes_back():
  config = audit.AuditConfig(defenses=DEFENSES, train=config_lib.TrainConfig())
  content = {
    **dataclasses.asdict(config),
    "defenses": [str(defense) for defense in DEFENSES],
    "defense_settings": [repeat.written(defense) for defense in DEFENSES],
  }
  report = json.loads(json.dumps({"config": content}, allow_nan=False))
  assert repeat.settings_of(report).defenses == DEFENSES
  assert report["config"]["defenses"] == ["l2:0.12345678", "flip", "dp_sgd:inf"]
  # A report of before has their names and strengths.
  del report["config"]["defense_settings"]
  assert repeat.settings_of(report).defenses[:2] == DEFENSES[:2]


def test_a_networks_own_recipe_comes_back():
  train = config_lib.of_network("resnet9", config_lib.TrainConfig())
  config = dataclasses.asdict(audit.AuditConfig(train=train))
  report = json.loads(json.dumps({"config": config}))
  assert repeat.settings_of(report).train == train
  # A report of before knows nothing of it.
  config = dataclasses.asdict(audit.AuditConfig(train=config_lib.TrainConfig()))
  del config["train"]["augmentation"]
  report = json.loads(json.dumps({"config": config}))
  assert repeat.settings_of(report).train == config_lib.TrainConfig()


def test_of_a_black_box_no_guarantee_is_tried():
  dataset = datasets.load("digits")
  split = splits.audit(
    dataset.num_examples, num_members=200, num_nonmembers=200, seed=0
  )
  is_member = {dataset.x[row].tobytes() for row in split.members}

  def predict(x):
    sure = np.array([row.tobytes() in is_member for row in np.asarray(x)])
    return np.where(sure[:, None], [[9.0] + [0.0] * 9], 0.0).astype(np.float32)

  config = audit.AuditConfig(
    attacks=("metric_confidence",),
    num_members=200,
    delta=1e-3,
    defenses=(registry.DefenseConfig(name="dp_sgd", strength=1.0),),
  )
  report = audit.run(dataset, config, predict=predict, split=split).report
  assert report["epsilon_lower"]["add_remove"] > 1
  assert report["epsilon_lower"]["delta"] == 1e-3
  assert not [note for note in report["notes"] if "ontradicted" in note]
  (note,) = [note for note in report["notes"] if "black box" in note]
  assert note.startswith("the models compared with carry dp_sgd:1; whether the black")
