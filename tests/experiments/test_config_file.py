import sys

from absl import flags
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
    path.write_text(text, "utf-8")
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
    ("[train]\nseed = 3", "has the table 'train'; expected keys"),
    ("[seed]\nx = 3", "has the table 'seed'; expected keys"),
    ("seed = ", "audit.toml cannot be read: Invalid value"),
    ("only_check_args = true", "holds 'only_check_args', which is for the command"),
    ("seed = [1, 2]", "seed is a list, expected one value"),
    ("dry_run = [true]", "dry_run is a list, expected one value"),
    ("seed = []", "seed is a list, expected one value"),
    ("seed = 1.5", "seed is '1.5': expected a whole number"),
    ("seed = true", "seed is true: write a value"),
    ("dataset = false", "dataset is false: write a value"),
    ("dry_run = 'maybe'", "dry_run is 'maybe': expected true or false"),
    ("learning_rate = 'fast'", "learning_rate is 'fast': expected a number"),
    ("seed = -1", "seed is '-1': -1 is not an integer in the range"),
    ("references = 'x'", "references is 'x': expected one of population, in_out"),
    ("seed = 2020-01-01", "seed is 2020-01-01: write it in quotes"),
    ("title = 2020-01-01T07:00:00", "title is 2020-01-01 07:00:00: write it in quotes"),
    ("attacks = [['reference']]", "attacks holds a table or a list, expected values"),
    ("[[attacks]]\nname = 'x'", "attacks holds a table or a list, expected values"),
    ("title = {a = 1}", "has the table 'title'; expected keys"),
  ],
)
def test_what_is_wrong_is_named(expand, text, message):
  with pytest.raises(ValueError, match=r"config=.*audit\.toml") as error:
    expand(text, "--config=FILE")
  assert message in str(error.value)


def test_help_in_a_file_is_no_setting(monkeypatch, capsys, tmp_path):
  (tmp_path / "w.toml").write_text("help = true", "utf-8")
  argv = ["tool", "--compilation_cache=", f"--config={tmp_path}/w.toml"]
  monkeypatch.setattr(sys, "argv", argv)
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
    launch.run(watermark.main)
  assert stopped.value.code == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert err.endswith("w.toml holds 'help', which is for the command line\n")


def test_an_entry_with_a_comma_stays_one(expand):
  (argument,) = expand("""groups = ["a,b", 'say "c"', "d"]""", "--config=FILE")[1:]
  name, _, value = argument.partition("=")
  assert name == "--groups"
  assert flags.FLAGS["groups"].parser.parse(value) == ["a,b", 'say "c"', "d"]


def test_a_file_of_windows_is_read(expand):
  assert expand("\ufeffseed = 3", "--config=FILE")[1:] == ["--seed=3"]


def test_there_is_one_file(expand):
  with pytest.raises(ValueError, match=r"absent.toml cannot be read: .*No such file"):
    expand("", "--config=absent.toml")
  with pytest.raises(ValueError, match="--config is given 2 times"):
    expand("", "--config=a.toml", "--config=b.toml")
