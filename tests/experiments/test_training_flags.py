"""What flags of training make of a preset."""

import dataclasses

from absl import flags
from absl.testing import flagsaver

from experiments import training_flags
from jmia.training import config as config_lib
from jmia.training import optimizers


def test_a_network_brings_its_recipe_which_other_flags_change():
  preset = config_lib.preset("cifar10")
  own = config_lib.of_network("resnet9", preset)
  flags.FLAGS.mark_as_parsed()
  with flagsaver.as_parsed(model="resnet9"):
    assert training_flags.override(preset) == own
    plain = training_flags.override(preset, with_recipe=False)
    assert plain == dataclasses.replace(preset, model="resnet9")
  with flagsaver.as_parsed(model="resnet9", num_epochs="6", learning_rate="0.2"):
    train = training_flags.override(preset)
  optimizer = dataclasses.replace(own.optimizer, learning_rate=0.2)
  assert train == dataclasses.replace(own, num_epochs=6, optimizer=optimizer)
  with flagsaver.as_parsed(model="vgg_9"):
    assert training_flags.override(preset) == dataclasses.replace(preset, model="vgg_9")


def test_a_schedules_steps_move_with_the_number_of_epochs():
  optimizer = optimizers.OptimizerConfig(schedule="piecewise", boundaries=(6, 9))
  preset = config_lib.TrainConfig(num_epochs=12, optimizer=optimizer)
  flags.FLAGS.mark_as_parsed()
  with flagsaver.as_parsed(num_epochs="4"):
    train = training_flags.override(preset)
  assert (train.num_epochs, train.optimizer.boundaries) == (4, (2, 3))
