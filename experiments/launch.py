"""How a binary is started: its command line, JAX, signals, and how it fails."""

from collections.abc import Callable, Sequence
import pathlib
import sys
import types

from absl import app, flags, logging

import jmia

from . import common_flags, config_file, failures, interrupts, run_folder, runs
from . import help as help_lib

# Called with the command line before its flags are parsed.
BEFORE_PARSING: list[Callable[[list[str]], None]] = [config_file.expand]


def run(main: Callable[[], None]) -> None:
  """Runs a binary: exit code 2 and one line on stderr where the input is at fault.

  Arguments that are no flags become the value of the flag that the binary's module
  names as `POSITIONAL`; without one, or beside that flag, they are refused.

  Args:
    main: reads the flags and does the work.
  """
  failures.print_anything()
  module = sys.modules[main.__module__]
  positional = getattr(module, "POSITIONAL", None)

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1 and positional is None:
      failures.fail(f"unexpected argument {argv[1]!r}: flags are written --name=value")
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)
    run_folder.forget()
    keys = flags.FLAGS.get_key_flags_for_module(
      sys.argv[0] if module.__name__ == "__main__" else module
    )
    if stray := _stray(keys):
      failures.fail(f"--{stray} is no flag of this command; --help lists those it has")
    try:
      _join_processes()
      _configure_jax()
      asked = runs.asked(_name(module), keys)
      with run_folder.command(asked), interrupts.heeded():
        main()
      sys.stdout.flush()
    except BrokenPipeError:
      failures.end_unread()
    except interrupts.TerminatedError:
      failures.fail(f"terminated{run_folder.following()}", code=143)
    except KeyboardInterrupt:
      failures.fail(f"interrupted{run_folder.following()}", code=130)
    except failures.USER_ERRORS as error:
      logging.debug("The error came about as follows.", exc_info=error)
      hint = "" if failures.is_expected(error) else " (--verbosity=1 shows where)"
      hint += run_folder.following() if isinstance(error, OSError) else ""
      said = " ".join(str(error).split()) or type(error).__name__
      if run_folder.is_full(error):  # not the folder, which would be named
        said = f"what it prints cannot be written: {said}"
      failures.fail(said + hint)

  def parse(argv: list[str]) -> list[str]:
    _help_if_asked(module, argv)
    given = [*argv]  # a file's flags are put in as it is parsed, and may be replaced
    rest = _parse(argv)
    if positional is not None and len(rest) > 1:
      _refuse_twice(positional, given, rest[1:])
      _set_positional(positional, rest[1:])
    return rest

  app.run(guarded, flags_parser=parse)


def _stray(keys: Sequence[flags.Flag]) -> str | None:
  """A flag that was given and belongs to another binary, which would be ignored."""
  known = {flag.name for flag in keys} | {flag.name for flag in common_flags.OF_RUN}
  for name in flags.FLAGS:
    module = flags.FLAGS.find_module_defining_flag(name)
    is_ours = isinstance(module, str) and module.startswith(f"{__package__}.")
    if is_ours and name not in known and flags.FLAGS[name].present:
      return name
  return None


def _help_if_asked(module: types.ModuleType, argv: Sequence[str]) -> None:
  """Prints the binary's help and ends the process, where a flag asks for it."""
  asked = {argument.lstrip("-") for argument in argv[1:] if argument.startswith("-")}
  if not asked & {"help", "helpshort", "h", "?"}:
    return
  try:
    for prepare in BEFORE_PARSING:
      prepare(list(argv))
  except ValueError as error:
    failures.fail(" ".join(str(error).split()))
  is_main = module.__name__ == "__main__"
  key_flags = flags.FLAGS.get_key_flags_for_module(argv[0] if is_main else module)
  text = help_lib.text(
    _name(module),
    module.__doc__ or "",
    key_flags,
    program=argv[0],
    is_short="helpshort" in asked,
  )
  try:
    print(text, flush=True)
  except BrokenPipeError:
    failures.end_unread()
  sys.exit(0)


def _name(module: types.ModuleType) -> str:
  """A binary's, however it was started."""
  name = module.__spec__.name if module.__spec__ else pathlib.Path(sys.argv[0]).stem
  return name.rpartition(".")[2]


def _refuse_twice(name: str, given: Sequence[str], values: Sequence[str]) -> None:
  """Ends the process where a flag is given by its name and bare."""
  until = given.index("--") if "--" in given else len(given)
  written = (argument for argument in given[1:until] if argument.startswith("-"))
  if name in {argument.lstrip("-").partition("=")[0] for argument in written}:
    bare = f"bare argument{'s' if len(values) > 1 else ''}"
    shown = ", ".join(map(repr, values))
    said = flags.FLAGS[name].serialize()
    failures.fail(f"{said} and the {bare} {shown} both say it: leave one out")


def _set_positional(name: str, values: Sequence[str]) -> None:
  """Gives a flag the arguments that are no flags: one, or a list of them."""
  flag = flags.FLAGS[name]
  try:
    flag.parse(
      ",".join(values) if isinstance(flag.parser, flags.ListParser) else values[0]
    )
  except flags.Error as error:
    failures.fail(failures.of_value(error))
  if len(values) > 1 and not isinstance(flag.parser, flags.ListParser):
    failures.fail(f"unexpected argument {values[1]!r}: flags are written --name=value")


def _parse(argv: list[str]) -> list[str]:
  flags.FLAGS.set_gnu_getopt(True)
  try:
    for prepare in BEFORE_PARSING:
      prepare(argv)
    return flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:
    failures.fail(" ".join(failures.of_value(error).split()))
    raise


def leave_files_to_first_process() -> None:
  """Ends this process, successfully, if it is one of several and not the first."""
  import jax

  if jax.process_index() > 0:
    sys.exit(0)


def _join_processes() -> None:
  """Makes this one of several processes, before JAX looks for devices."""
  text = common_flags.DISTRIBUTED.value
  if text is None:
    return
  import jax

  if text == "auto":
    jax.distributed.initialize()
    return
  address, *numbers = text.split(",")
  if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
    raise ValueError(f"distributed={text!r}, expected auto or HOST:PORT,PROCESSES,ID")
  num_processes, process_id = map(int, numbers)
  jax.distributed.initialize(address, num_processes, process_id)


def repeat_precision(precision: str | None) -> None:
  """Takes the precision that a report was made with, where no flag says another."""
  import jax

  if precision and not flags.FLAGS["matmul_precision"].present:
    jax.config.update("jax_default_matmul_precision", precision)


def _configure_jax() -> None:
  import jax

  jax.config.update("jax_default_matmul_precision", common_flags.MATMUL_PRECISION.value)
  # Small models are trained faster by a core each than by all cores one after another.
  num_cpus = common_flags.CPU_DEVICES.value
  if num_cpus is None and common_flags.DISTRIBUTED.value and not jmia.is_cpu_split():
    num_cpus = 1
  jmia.configure(
    cpu_devices=num_cpus, compilation_cache=common_flags.COMPILATION_CACHE.value
  )
