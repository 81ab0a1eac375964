"""Attacks by number of models, from flags to settings."""

import sys

from absl.testing import flagsaver
import pytest

from experiments import attack_power as binary
from experiments import launch
from jmia.audit import power


class _EnoughError(Exception):
  """What the test looks at is there."""


@pytest.fixture
def run(monkeypatch, tmp_path):
  """Runs the binary with flags up to its training; returns what would be trained."""
  asked = []

  def train(dataset, config, **kwargs):
    asked.append(config)
    raise _EnoughError

  def run(*arguments):
    argv = ["tool", "--compilation_cache=", f"--output_dir={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", [*argv, "--num_members=50", *arguments])
    monkeypatch.setattr(power, "train", train)
    with flagsaver.flagsaver(), pytest.raises((SystemExit, _EnoughError)):
      launch.run(binary.main)
    return asked

  return run


def test_as_many_of_each_kind_are_trained_as_the_largest_size_asks(run):
  flags = "--references=population", "--attacks=distillation,leave_one_out"
  (config,) = run(*flags, "--sizes=2,24")
  assert (config.num_references, config.num_distilled, config.num_retrained) == (
    24,
  ) * 3


def test_an_attack_without_a_row_is_one_line_before_training(run, capsys):
  flags = "--references=population", "--attacks=random,lira_online"
  assert not run(*flags, "--sizes=1,2")
  err = capsys.readouterr().err
  assert err.count("\n") == 1
  assert "attack 'lira_online' can have no row: a sample needs 2 models" in err
