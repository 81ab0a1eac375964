"""A dataset and a setting so small that hundreds of private models train in seconds."""

import numpy as np

from jmia import types
from jmia.defenses import dp_sgd
from jmia.dp import engine
from jmia.training import config as config_lib
from jmia.training import optimizers

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 120, 6, 3
TRAIN = config_lib.TrainConfig(
  model="mlp",
  model_options=(("features", (4,)),),
  num_epochs=2,
  batch_size=8,
  optimizer=optimizers.OptimizerConfig(learning_rate=0.5, momentum=0.0),
)


def dataset():
  generator = np.random.default_rng(0)
  x = generator.integers(0, 9, (NUM_ROWS, NUM_FEATURES)).astype(np.uint8)
  x[:, 2] = 1  # the feature that tells nothing
  y = generator.integers(0, NUM_CLASSES, NUM_ROWS).astype(np.int32)
  return types.Dataset("tiny", x, y, NUM_CLASSES, NUM_ROWS, 1 / 8, True, "Tiny.")


def setting(epsilon=4.0, **changes):
  private = dp_sgd.DPConfig(epsilon=epsilon, delta=1e-3, microbatch_size=8)
  given = {"num_members": 32, "num_runs": 60, "num_canaries": 20, "train": TRAIN}
  return engine.Setting(private=private, **{**given, **changes})
