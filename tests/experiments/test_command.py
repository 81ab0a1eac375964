"""The `jmia` command: what it lists, finds and runs, and the help of the binaries."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest
import setuptools

from experiments import command, command_table, launch

_ROOT = pathlib.Path(__file__).parents[2]
_BINARIES = [
  path
  for path in (_ROOT / "experiments").glob("*.py")
  if "launch.run(main)" in path.read_text()
]


def _run(monkeypatch, capsys, *args):
  monkeypatch.setattr(sys, "argv", ["jmia", *args])
  code = 0
  try:
    command.main()
  except SystemExit as stopped:
    code = stopped.code
  return code, *capsys.readouterr()


def test_it_is_a_module_too():
  done = subprocess.run(
    [sys.executable, "-m", "jmia"], capture_output=True, text=True, check=True
  )
  assert "  jmia audit " in done.stdout


def test_alone_it_lists_the_questions(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys)
  assert (code, err) == (0, "")
  for name in ("audit", "compare", "mark", "verify", "watermark", "data", "benchmark"):
    assert re.search(rf"^  jmia {name} +[A-Z].*\?$", out, flags=re.MULTILINE), name
  assert "jmia study NAME" in out
  assert max(map(len, out.splitlines())) <= 88


def test_studies_are_listed_apart_from_what_is_made_of_their_runs(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys, "study")
  assert (code, err) == (0, "")
  parts = out.split("And, of their runs and of speed:")
  for part, commands in zip(
    parts, (command_table.STUDIES, command_table.RECORDS), strict=True
  ):
    assert re.findall(r"jmia study (\w+)", part) == [*commands]
  lines = [line for line in out.splitlines() if "jmia study" in line]
  assert len({re.match(r" +jmia study \w+ +", line).end() for line in lines}) == 1


@pytest.mark.parametrize(
  ("args", "line"),
  [
    (["mib"], "jmia: unknown command 'mib'; did you mean 'study mib'?"),
    (["adit"], "jmia: unknown command 'adit'; did you mean 'audit'?"),
    (["study", "enhanced"], "jmia study: unknown command 'enhanced'; did you mean"),
    (["study", "xyzzy"], "jmia study: unknown command 'xyzzy'; expected enhanced_mia,"),
  ],
)
def test_unknown_commands_get_the_nearest(monkeypatch, capsys, args, line):
  code, out, err = _run(monkeypatch, capsys, *args)
  assert (code, out) == (2, "")
  assert err.startswith(line)


def test_a_shell_completes_commands_flags_and_choices():
  from experiments import completion

  words = {
    "jmia au": "audit",
    "jmia audit --num_ref": "--num_references",
    "jmia study classic_mia --st": "--study",
    "jmia audit --references po": "population",
  }
  lines = [
    f"COMP_WORDS=({line}); COMP_CWORD={line.count(' ')}; _shtab_jmia;"
    ' echo "${COMPREPLY[*]}"'
    for line in words
  ]
  done = subprocess.run(
    ["bash", "-c", "\n".join([completion.script("bash"), *lines])],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == [*words.values()]


def test_completion_says_how_it_is_used(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys, "completion", "--help")
  assert (code, err) == (0, "")
  assert "source <(jmia completion bash)" in out
  assert "Shells: bash, zsh, tcsh." in out


def test_help_of_a_command_is_the_commands(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys, "help", "verify")
  assert (code, err) == (0, "")
  assert out == _run(monkeypatch, capsys, "verify", "--help")[1]
  assert _run(monkeypatch, capsys, "help") == _run(monkeypatch, capsys)
  _, out, _ = _run(monkeypatch, capsys, "help", "study", "mib")
  assert "    jmia study mib --output_dir=DIR" in out


def test_a_shell_that_is_not_known(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys, "completion", "dos")
  assert (code, out) == (2, "")
  assert err == "jmia completion: expected bash or zsh or tcsh\n"


def test_every_binary_is_a_command():
  lists = (command_table.COMMANDS, command_table.STUDIES, command_table.RECORDS)
  known = {of.module for commands in lists for of in commands.values()}
  assert {path.stem for path in _BINARIES} <= known


@pytest.mark.parametrize("path", _BINARIES, ids=lambda path: path.stem)
def test_help_has_two_examples_and_names_flags_that_there_are(path):
  source = path.read_text()
  doc = ast.get_docstring(ast.parse(source))
  assert len(re.findall(rf"python -m experiments\.{path.stem}\b", doc)) >= 2
  given = re.findall(r"--(\w+)", doc.split("\n\n")[1])
  assert given
  first = command_table.FIRST.get(path.stem, ())
  assert len(first) <= 5


def test_help_shows_what_matters_first(monkeypatch, capsys):
  code, out, err = _run(monkeypatch, capsys, "study", "mib", "--helpshort")
  assert (code, err) == (0, "")
  named = re.findall(r"^  --(?:\[no\])?(\w+)$", out, flags=re.MULTILINE)
  assert named[:5] == list(command_table.FIRST["mib"])
  assert named[5:] == sorted(named[5:])
  assert "mlp_256_128" in out  # --model lists its names
  assert "python -m" not in out
  code, _, err = _run(monkeypatch, capsys, "study", "mib", "-h", "--config=absent.toml")
  assert (code, err.count("\n")) == (2, 1)
  _, out, _ = _run(monkeypatch, capsys, "study", "mib", "--help")
  assert "    jmia study mib --output_dir=DIR" in out


@pytest.mark.parametrize("name", command_table.MEANS)
def test_a_flag_that_means_something_else_here_says_so(monkeypatch, capsys, name):
  studies = ("study",) if name in command_table.STUDIES else ()
  _, out, _ = _run(monkeypatch, capsys, *studies, name, "--help")
  said = " ".join(out.split())
  for flag, means in command_table.MEANS[name].items():
    assert f" --{flag} {means}" in said
  assert "LiRA" not in said or name != "mark"


def test_what_a_wheel_holds_is_one_package():
  """`experiments` would hide a user's own folder of that name."""
  assert (_ROOT / "jmia" / "_binaries").resolve() == _ROOT / "experiments"
  found = setuptools.find_packages(str(_ROOT), include=["jmia*"])
  assert {"jmia._binaries", "jmia._binaries.benchmarks"} <= set(found)
  assert {name.split(".")[0] for name in found} == {"jmia"}
  for path in (_ROOT / "experiments").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        assert not any(alias.name.startswith("experiments") for alias in node.names)
      if isinstance(node, ast.ImportFrom) and not node.level:
        assert (node.module or "").split(".")[0] != "experiments", path


def test_it_runs_beside_a_folder_of_the_users(tmp_path):
  own = tmp_path / "experiments"
  own.mkdir()
  (own / "__init__.py").write_text("raise RuntimeError('the own one was imported')")
  (tmp_path / "jmia").symlink_to(_ROOT / "jmia")
  code = (
    "import sys; from jmia._binaries import command;"
    " sys.argv = ['jmia', 'data', '--dataset=digits']; command.main()"
  )
  environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
  done = subprocess.run(
    [sys.executable, "-P", "-c", code],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "digits: 1,797 handwritten" in done.stdout
  assert re.search(r"shape of a row +8 x 8 x 1", done.stdout)


@pytest.mark.parametrize(
  ("values", "expected"), [(["embed"], "embed"), (["queries"], "queries")]
)
def test_arguments_that_are_no_flags(values, expected):
  from absl.testing import flagsaver

  from experiments import watermark

  with flagsaver.flagsaver():
    launch._set_positional(watermark.POSITIONAL, values)
    assert watermark._COMMAND.value == expected
