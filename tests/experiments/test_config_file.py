import sys

from absl.testing import flagsaver
import pytest

from experiments import (
  audit,  # noqa: F401  (defines flags)
  config_file,
  launch,
  watermark,
)


@pytest.fixture
def expand(tmp_path):
  """What a command line becomes, of a file's text."""

  def expand(text, *arguments):
    path = tmp_path / "audit.toml"
    path.write_text(text)
    argv = ["audit", *(a.replace("FILE", str(path)) for a in arguments)]
    config_file.expand(argv)
    return argv

  return expand


def test_the_command_line_wins_wherever_it_stands(expand):
  text = """
  dataset = "location30"  # a comment
  attacks = ["reference", "lira_offline"]
  num_references = 64
  learning_rate = 1e-2
  dry_run = true
  attack_file = ["a.py", "b.py"]
  """
  for given in (["--seed=3", "--config=FILE"], ["--config=FILE", "--seed=3"]):
    assert expand(text, *given) == [
      "audit",
      "--dataset=location30",
      "--attacks=reference,lira_offline",
      "--num_references=64",
      "--learning_rate=0.01",
      "--dry_run=true",
      "--attack_file=a.py",
      "--attack_file=b.py",
      "--seed=3",
    ]


def test_without_a_file_nothing_changes(expand):
  assert expand("", "--config=mnist_1", "x") == ["audit", "--config=mnist_1", "x"]


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    (["verify"], "--key_file must have a value"),
    (["--command=verify"], "--key_file must have a value"),
    ([], "--data_file must have a value"),
    (["verify", "--command=queries"], "--command=queries and the bare argument"),
  ],
)
def test_a_bare_argument_wins_over_a_file_but_not_over_its_flag(
  arguments, line, monkeypatch, capsys, tmp_path
):
  (tmp_path / "w.toml").write_text('command = "embed"')
  monkeypatch.setattr(
    sys,
    "argv",
    ["tool", "--compilation_cache=", f"--config={tmp_path}/w.toml", *arguments],
  )
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(watermark.main)
  assert stopped.value.code == 2
  assert capsys.readouterr().err.startswith(f"tool: {line}")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (
      "num_reference = 3",
      "unknown key 'num_reference'; did you mean 'num_references'?",
    ),
    ("zzz = 3", "unknown key 'zzz'; expected names of flags"),
    ("[train]\nseed = 3", "unknown key 'train'"),
    ("[seed]\nx = 3", "seed is a table, expected a value or a list"),
    ("seed = ", "audit.toml cannot be read: Invalid value"),
  ],
)
def test_what_is_wrong_is_named(expand, text, message):
  with pytest.raises(ValueError, match=r"config=.*audit\.toml") as error:
    expand(text, "--config=FILE")
  assert message in str(error.value)


def test_there_is_one_file(expand):
  with pytest.raises(ValueError, match=r"absent.toml cannot be read: .*No such file"):
    expand("", "--config=absent.toml")
  with pytest.raises(ValueError, match="--config is given 2 times"):
    expand("", "--config=a.toml", "--config=b.toml")
