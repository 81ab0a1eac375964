"""Flags of the binaries that train: each replaces a setting of a dataset's preset."""

import dataclasses
from typing import Any

from absl import flags

from jmia import models
from jmia.training import config as config_lib

NUM_MEMBERS = flags.DEFINE_integer(
  "num_members",
  None,
  "Rows that a model trains on. Default: the command's own; audit takes a quarter of"
  " the dataset, at most 2500.",
  lower_bound=1,
)
_MODEL = flags.DEFINE_string(
  "model",
  None,
  f"One of {', '.join(models.names())}. Default: the dataset's preset. resnet9 brings"
  " Page's recipe for CIFAR-10: 24 epochs of 50,000 rows, augmented, 512 at a time.",
)
NUM_EPOCHS = flags.DEFINE_integer(
  "num_epochs", None, "Epochs of training. Default: the preset's."
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", None, "Examples in a minibatch. Default: the preset's."
)
_LEARNING_RATE = flags.DEFINE_float(
  "learning_rate", None, "Learning rate at the start. Default: the preset's."
)
_MOMENTUM = flags.DEFINE_float("momentum", None, "SGD's. Default: the preset's.")
WEIGHT_DECAY = flags.DEFINE_float(
  "weight_decay",
  None,
  "Times a weight, added to its gradient, as in PyTorch. Default: the preset's.",
)
DROPOUT_RATE = flags.DEFINE_float(
  "dropout_rate",
  None,
  "Share of the last hidden layer dropped in training. Default: the network's own.",
)
_COMPUTE_DTYPE = flags.DEFINE_enum(
  "compute_dtype",
  None,
  ["float32", "bfloat16"],
  "Of activations and products; bfloat16 is for accelerators. Default: float32.",
)


def override(
  preset: config_lib.TrainConfig, *, with_recipe: bool = True
) -> config_lib.TrainConfig:
  """Returns a preset with the settings that were given as flags.

  With another number of epochs its schedule's steps move in proportion.

  Args:
    preset: of the dataset.
    with_recipe: whether a network that comes with settings brings them.

  Raises:
    ValueError: one is not read by the preset's optimiser, or out of range.
  """
  if with_recipe and _MODEL.value is not None:
    preset = config_lib.of_network(_MODEL.value, preset)
  if _MOMENTUM.value is not None and preset.optimizer.name != "sgd":
    raise ValueError(
      f"--momentum is SGD's, and the preset trains with {preset.optimizer.name}: leave"
      " it out"
    )
  if NUM_EPOCHS.value is not None:
    preset = config_lib.with_epochs(preset, NUM_EPOCHS.value)
  given: dict[str, Any] = {
    "model": _MODEL.value,
    "batch_size": _BATCH_SIZE.value,
    "compute_dtype": _COMPUTE_DTYPE.value,
  }
  optimizer = {
    "learning_rate": _LEARNING_RATE.value,
    "momentum": _MOMENTUM.value,
    "weight_decay": WEIGHT_DECAY.value,
  }
  given["optimizer"] = dataclasses.replace(preset.optimizer, **_given(optimizer))
  if DROPOUT_RATE.value is not None:
    options = {**dict(preset.model_options), "dropout_rate": DROPOUT_RATE.value}
    given["model_options"] = tuple(options.items())
  return dataclasses.replace(preset, **_given(given))


def _given(values: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in values.items() if value is not None}
