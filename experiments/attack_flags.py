"""The flags of the binaries that run attacks: which, and files with more of them."""

from collections.abc import Sequence
import importlib.util
import pathlib
import sys

from absl import flags

from jmia import attacks

from . import launch

_FILE = flags.DEFINE_multi_string(
  "attack_file",
  None,
  "A Python file that registers attacks of your own (help(jmia.attacks) has one); may"
  " be given repeatedly.",
)
_ATTACKS = flags.DEFINE_list("attacks", None, "Some of the attacks.")
NUM_TARGETS = flags.DEFINE_integer(
  "num_targets",
  None,
  "Models trained alike and attacked, each compared with all others too; the results"
  " are means over them, with intervals. Default: audit's is 1, enhanced_mia's the"
  " configuration's, which also says how many of them are distilled at most.",
  lower_bound=1,
)


def describe() -> None:
  """Lists all attacks that are registered in the help of --attacks."""
  known = [f"{name}:{o}" if o else name for name, o in attacks.describe().items()]
  flags.FLAGS["attacks"].help = (
    f"Some of {', '.join(known)}; what follows a colon are options and their defaults,"
    " of which any can be given. Default: the command's own."
  )


def load_files(argv: Sequence[str]) -> None:
  """Runs the files that a command line names with --attack_file.

  Before the flags are parsed, since their attacks belong into the help.

  Raises:
    ValueError: if a file cannot be read, raises an error or ends the process, or
      registers no attack.
  """
  for number, argument in enumerate(argv):
    flag, sign, path = argument.lstrip("-").partition("=")
    if flag == "attack_file" and argument.startswith("-"):
      _run(path if sign else "".join(argv[number + 1 : number + 2]))
  describe()


def chosen(default: Sequence[str]) -> tuple[str, ...]:
  """Returns the attacks asked for.

  Raises:
    ValueError: if there are none, or one is unknown.
  """
  names = tuple(default if _ATTACKS.value is None else _ATTACKS.value)
  attacks.check(names)
  return names


def _registered() -> dict[str, attacks.Attack]:
  return {name: attacks.get(name) for name in attacks.names()}


def _run(path: str) -> None:
  if not pathlib.Path(path).is_file():
    raise ValueError(f"attack_file={path}: no such file")
  name = f"jmia_attack_file_{abs(hash(pathlib.Path(path).resolve()))}"
  if name in sys.modules:
    return
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ValueError(f"attack_file={path}: expected a Python file")
  module = importlib.util.module_from_spec(spec)
  before = _registered()
  try:
    spec.loader.exec_module(module)
  except (Exception, SystemExit) as error:
    raise ValueError(f"attack_file={path}: {type(error).__name__}: {error}") from error
  if _registered() == before:
    raise ValueError(
      f"attack_file={path} registers no attack: it must call attacks.register, as"
      " help(jmia.attacks) shows"
    )
  sys.modules[name] = module


describe()
launch.BEFORE_PARSING.append(load_files)
