"""`jmia`: one command for every question, `python -m experiments` in a checkout.

    jmia                        what one asks, and what one runs
    jmia audit --help           a command, with examples
    jmia study mib --study=sizes --output_dir=DIR

Each command is a binary of this folder, with the same flags.
"""

from collections.abc import Mapping, Sequence
import difflib
import importlib
import sys

import jmia

from . import command_table, failures


def main() -> None:
  """Runs the command that the command line names."""
  failures.print_anything()
  args = sys.argv[1:]
  if args[:1] == ["help"] and args[1:]:
    args = [*args[1:], "--help"]
  if not args or args[0] in ("help", "-h", "--help", "--helpshort"):
    print(overview())
    return
  if args[0] == "--version":
    print(f"jmia {jmia.__version__}")
    return
  if args[0] == "completion":
    _complete(args[1:])
    return
  if args[0] == "study":
    if not args[1:] or args[1] in ("-h", "--help", "--helpshort"):
      print(studies())
      return
    _run({**command_table.STUDIES, **command_table.RECORDS}, args[1:], "jmia study")
  else:
    _run(command_table.COMMANDS, args, "jmia")


def overview() -> str:
  """What one asks and what one runs."""
  return (
    "jmia tells what a trained classifier gives away about its training data.\n\n"
    f"{_table('jmia', command_table.COMMANDS, len('jmia study NAME'))}\n"
    "  jmia study NAME  What do the papers' studies give here? (jmia study: a list)\n"
    "\nStart with: jmia audit --output_dir=DIR\n"
    "Each command: jmia COMMAND --help\n"
    "Completion in a shell: jmia completion bash|zsh|tcsh"
  )


def studies() -> str:
  """What `jmia study` runs."""
  width = len("jmia study ") + max(map(len, command_table.STUDIES))
  lists = (command_table.STUDIES, command_table.RECORDS)
  papers, records = (_table("jmia study", each, width) for each in lists)
  return f"{papers}\n\nAnd, of their runs and of speed:\n\n{records}"


def _table(
  program: str, commands: Mapping[str, command_table.Command], width: int
) -> str:
  """Commands with their questions, which begin in one column."""
  return "\n".join(
    f"  {f'{program} {name}'.ljust(width)}  {of.question}"
    for name, of in commands.items()
  )


def _run(
  commands: Mapping[str, command_table.Command], args: Sequence[str], program: str
) -> None:
  name = args[0]
  if name.replace("_", "-") in commands:
    name = name.replace("_", "-")
  if name not in commands:
    near = difflib.get_close_matches(name, commands, n=1, cutoff=0.5)
    if commands is command_table.COMMANDS and name in (
      *command_table.STUDIES,
      *command_table.RECORDS,
    ):
      near = [f"study {name}"]
    hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(commands)}"
    print(f"{program}: unknown command {name!r}; {hint}", file=sys.stderr)
    sys.exit(2)
  sys.argv = [f"{program} {name}", *args[1:]]
  module = importlib.import_module(f".{commands[name].module}", __package__)
  launch = importlib.import_module(".launch", __package__)
  launch.run(module.main)


def _complete(args: Sequence[str]) -> None:
  """Prints the script that makes a shell complete all of this."""
  from . import completion

  if args[:1] in (["-h"], ["--help"], ["--helpshort"]):
    print(
      "Prints the script that completes commands, flags and choices in a shell.\n\n"
      "    jmia completion bash > ~/.local/share/bash-completion/completions/jmia\n"
      "    source <(jmia completion bash)                     # in this shell alone\n\n"
      f"Shells: {', '.join(completion.SHELLS)}."
    )
    return
  if len(args) != 1 or args[0] not in completion.SHELLS:
    print(
      f"jmia completion: expected {' or '.join(completion.SHELLS)}", file=sys.stderr
    )
    sys.exit(2)
  print(completion.script(args[0]))
