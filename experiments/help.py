"""What `--help` and `--helpshort` print: the flags that matter most first."""

from collections.abc import Iterable
import re
import shutil
import textwrap

from absl import flags

from . import command_table

_NUM_FIRST = 5
_NARROWEST = 40  # columns, below which lines hold no words
_OF_ABSL = "; repeat this option to specify a list of values"  # which ours say better
_LAST = (
  "--config=FILE.toml takes flags from a file: its keys are their names, and what the",
  "command line says wins. --helpfull lists absl's own too, such as --flagfile.",
)


def text(
  name: str, doc: str, key_flags: Iterable[flags.Flag], *, program: str, is_short: bool
) -> str:
  """Returns a binary's help.

  Args:
    name: of its module, such as "audit".
    doc: its docstring, with examples.
    key_flags: its own flags and those that it adopted.
    program: as it was called; if by `jmia`, examples are too.
    is_short: whether to leave out all of the docstring but its first line.
  """
  flags_by_name = {flag.name: flag for flag in key_flags}
  first = [n for n in command_table.FIRST.get(name, ()) if n in flags_by_name]
  first = first or list(flags_by_name)[:_NUM_FIRST]
  rest = sorted(flags_by_name.keys() - {*first})
  about = textwrap.dedent(doc).strip()
  if is_short:
    about = about.splitlines()[0]
  lines = [about, "", "The flags that matter most:", ""]
  means = command_table.MEANS.get(name, {})
  lines += [_described(flags_by_name[n], means.get(n)) for n in first]
  if rest:
    lines += ["", "All others:", ""]
    lines += [_described(flags_by_name[n], means.get(n)) for n in rest]
  said = "\n".join([*lines, "", *_LAST])
  if program.startswith("jmia"):
    said = re.sub(r"(?:python -m )?\bexperiments\.(\w+)", _as_command, said)
  return said


def _as_command(found: re.Match[str]) -> str:
  name = found.group(1)
  return (
    f"jmia study {name}"
    if name in command_table.STUDIES
    else f"jmia {name.replace('_', '-')}"
  )


def _described(flag: flags.Flag, means: str | None) -> str:
  """A flag's name, what it means (to this binary), and the default where it has one."""
  width = min(max(shutil.get_terminal_size().columns, _NARROWEST), 88)
  value = flag.default
  value = ",".join(value) if isinstance(value, list) else value
  default = "" if value in (None, "", False) else f" Default: {value}."
  said = means or " ".join(str(flag.help).split()).removesuffix(_OF_ABSL)
  if default.strip().lower() in said.lower() or "Default:" in said:
    default = ""
  name = f"  --{flag.name}" if not flag.boolean else f"  --[no]{flag.name}"
  body = textwrap.fill(
    f"{said}{default}", width, initial_indent=" " * 6, subsequent_indent=" " * 6
  )
  return f"{name}\n{body}"
