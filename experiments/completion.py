"""Prints what makes a shell complete `jmia`: commands, flags and their choices.

    jmia completion bash > ~/.local/share/bash-completion/completions/jmia
    jmia completion zsh > ~/.zfunc/_jmia    # a folder of $fpath

shtab writes the script from a parser of argparse, which is made of the flags here.
"""

import argparse
from collections.abc import Mapping
import importlib

from absl import flags
import shtab

from . import command_table

SHELLS = ("bash", "zsh", "tcsh")


def script(shell: str) -> str:
  """Returns the script of a shell.

  Raises:
    ValueError: it is none of `SHELLS`.
  """
  if shell not in SHELLS:
    raise ValueError(f"shell={shell}, expected one of {', '.join(SHELLS)}")
  parser = argparse.ArgumentParser("jmia", add_help=False)
  commands = parser.add_subparsers()
  _add(commands, command_table.COMMANDS)
  studies = commands.add_parser("study", add_help=False, help="The papers' studies")
  _add(studies.add_subparsers(), {**command_table.STUDIES, **command_table.RECORDS})
  shells = commands.add_parser("completion", add_help=False, help="Of this shell")
  shells.add_argument("shell", choices=SHELLS)
  return str(shtab.complete(parser, shell=shell))


def _add(subparsers, commands: Mapping[str, command_table.Command]) -> None:
  for name, of in commands.items():
    parser = subparsers.add_parser(name, add_help=False, help=of.question)
    module = importlib.import_module(f".{of.module}", __package__)
    for flag in flags.FLAGS.get_key_flags_for_module(module):
      _add_flag(parser, flag)
    if getattr(module, "POSITIONAL", None):
      parser.add_argument("files", nargs="*").complete = shtab.FILE


def _add_flag(parser: argparse.ArgumentParser, flag: flags.Flag) -> None:
  text = " ".join(str(flag.help).split()).partition(". ")[0].replace("%", "%%")
  if flag.boolean:
    parser.add_argument(f"--{flag.name}", action="store_true", help=text)
    return
  choices = getattr(flag.parser, "enum_values", None)
  added = parser.add_argument(f"--{flag.name}", choices=choices, help=text)
  if choices is None:
    # Where it is no path, nothing is lost.
    added.complete = shtab.FILE  # type: ignore[attr-defined]
