"""What the binaries share: flags, progress on stderr, and how they fail.

A flag that several binaries take is defined here, once. Each shows it in its help by
`flags.adopt_module_key_flags(common)` or `flags.declare_key_flag(name)`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import errno
import os
import pathlib
import signal
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from absl import app, flags, logging

import jmia
from jmia import atomic, datasets

from . import config_file, runs
from . import help as help_lib

flags.adopt_module_key_flags(runs)
SEED = flags.DEFINE_integer(
  "seed",
  0,
  "Seed of every random draw; the same seed repeats a run, on a GPU up to rounding.",
  lower_bound=0,
)
OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Folder for the results; made if absent."
)
DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "TFDS's data folder; original archives are found in its downloads/manual/. Default:"
  " TFDS's own, ~/tensorflow_datasets.",
)
DATASET = flags.DEFINE_string(
  "dataset",
  None,
  f"{', '.join(datasets.names())}, npz:PATH with x and y, folder:PATH of images and a"
  " CSV or a folder for each class, or table:PATH?target=NAME, a CSV or Parquet file."
  " Default: the command's own.",
)
NUM_EXAMPLES = flags.DEFINE_integer(
  "num_examples", None, "Rows to generate of a synthetic dataset. Default: its own."
)
WIDTH = flags.DEFINE_integer(
  "width", None, "Models trained at once. Default: as many as memory is good for."
)
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  "~/.cache/jmia/xla",
  "Folder of compiled programs, so that a second run compiles nothing; '' for none.",
)

_MATMUL_PRECISION = flags.DEFINE_enum(
  "matmul_precision",
  "float32",
  ["float32", "tensorfloat32", "bfloat16"],
  "Of float32 matrix products on an accelerator; a CPU's are always float32. An"
  " NVIDIA GPU is faster by tensorfloat32, which keeps 10 bits of each factor.",
)
_CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices",
  None,
  "Devices that a CPU is split into; each trains models of its own. Default: as many as"
  " it has cores, or 1 with --distributed. Fewer take less memory.",
  lower_bound=1,
)
_DISTRIBUTED = flags.DEFINE_string(
  "distributed",
  None,
  "Train on the devices of several processes, each started with the same flags: auto"
  " on a TPU pod, under SLURM, Open MPI or Kubernetes, else HOST:PORT,PROCESSES,ID of"
  " process 0's address, their number and this one's. All must see --output_dir.",
)

# What `run` itself reads, whatever the binary.
_OF_RUN = (_CACHE, _MATMUL_PRECISION, _CPU_DEVICES, _DISTRIBUTED)

# What runs of models are called in bars, for those who do not know the spine.
_STAGES = {
  "target": "training the target",
  "targets": "training further targets",
  "others": "training the models compared with",
  "fitted": "fitting the models compared with",
  "models": "training models with and without marks",
  "embed": "training the watermarked model",
  "decoders": "fitting decoders",
}
# The command that this process runs, and the stages that it resumes.
_command: runs.Command | None = None
_resumed: frozenset[str] = frozenset()
# Whether what it did is kept, where it ended before its results.
_has_kept = False
# Called with the command line before its flags are parsed.
BEFORE_PARSING: list[Callable[[list[str]], None]] = [config_file.expand]

# What a user can cause and mend. Anything else is a defect, and keeps its traceback.
_USER_ERRORS = (ValueError, OSError, ImportError)
_SIGNAL_AGAIN = 0.02  # seconds until one that was dropped comes again
# A write fails by these without a name, and then the folder for results is meant.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _TerminatedError(KeyboardInterrupt):
  """The process was asked to end; as Ctrl-C."""


def run(main: Callable[[], None]) -> None:
  """Runs a binary: exit code 2 and one line on stderr where the input is at fault.

  Arguments that are no flags become the value of the flag that the binary's module
  names as `POSITIONAL`; without one, or beside that flag, they are refused.

  Args:
    main: reads the flags and does the work.
  """
  module = sys.modules[main.__module__]
  positional = getattr(module, "POSITIONAL", None)

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1 and positional is None:
      _fail(f"unexpected argument {argv[1]!r}: flags are written --name=value")
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)
    global _command, _has_kept
    _has_kept = False
    keys = flags.FLAGS.get_key_flags_for_module(
      sys.argv[0] if module.__name__ == "__main__" else module
    )
    if stray := _stray(keys):
      _fail(f"--{stray} is no flag of this command; --help lists those it has")
    try:
      _join_processes()
      _configure_jax()
      _command = runs.asked(_name(module), keys)
      with _heeding_signals():
        main()
      sys.stdout.flush()
    except BrokenPipeError:
      _end_unread()
    except _TerminatedError:
      _fail(f"terminated{_following()}", code=143)
    except KeyboardInterrupt:
      _fail(f"interrupted{_following()}", code=130)
    except _USER_ERRORS as error:
      logging.debug("The error came about as follows.", exc_info=error)
      hint = "" if _is_expected(error) else " (--verbosity=1 shows where)"
      hint += _following() if isinstance(error, OSError) else ""
      _fail((" ".join(str(error).split()) or type(error).__name__) + hint)
    finally:
      _command = None

  def parse(argv: list[str]) -> list[str]:
    _help_if_asked(module, argv)
    given = [*argv]  # a file's flags are put in as it is parsed, and may be replaced
    rest = _parse(argv)
    if positional is not None and len(rest) > 1:
      _refuse_twice(positional, given, rest[1:])
      _set_positional(positional, rest[1:])
    return rest

  app.run(guarded, flags_parser=parse)


def refuse(names: Iterable[str], because: str) -> None:
  """Refuses flags that what was asked for would ignore.

  Args:
    names: of flags.
    because: the rest of the sentence that they begin.

  Raises:
    ValueError: one of them was given.
  """
  given = [f"--{name}" for name in names if flags.FLAGS[name].present]
  if given:
    raise ValueError(f"{', '.join(given)} {because}")


def refuse_of_others(choice: str, chosen: str, of: Mapping[str, Sequence[str]]) -> None:
  """Refuses flags that are read where another value of a flag is chosen.

  Args:
    choice: the flag's name, such as "study".
    chosen: its value.
    of: names of flags by the value that reads them.

  Raises:
    ValueError: one that the chosen value does not read was given.
  """
  read = of.get(chosen, ())
  for value, names in of.items():
    rest = [name for name in names if name not in read]
    refuse(rest, f"is for --{choice}={value} and is not read with {chosen}")


def _stray(keys: Sequence[flags.Flag]) -> str | None:
  """A flag that was given and belongs to another binary, which would be ignored."""
  known = {flag.name for flag in keys} | {flag.name for flag in _OF_RUN}
  for name in flags.FLAGS:
    module = flags.FLAGS.find_module_defining_flag(name)
    is_ours = isinstance(module, str) and module.startswith(f"{__package__}.")
    if is_ours and name not in known and flags.FLAGS[name].present:
      return name
  return None


def _following() -> str:
  """What goes on with an interrupted run, if it has kept something."""
  if not _has_kept:
    return ""
  how = " without --restart" if runs.RESTART.value else ""
  return f"; the same command{how} resumes"


@contextlib.contextmanager
def _heeding_signals() -> Iterator[None]:
  """Makes SIGTERM end the work as Ctrl-C does, and neither of them be lost.

  Python drops the error of a signal that comes where none can be raised, such as in
  what the garbage collector calls; JAX's tracing is often there. It comes again.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before, dropped = sys.unraisablehook, signal.SIGINT

  def note(unraisable: Any) -> None:
    nonlocal dropped
    is_signal = issubclass(unraisable.exc_type, KeyboardInterrupt)
    if not is_signal or not hasattr(signal, "setitimer"):
      before(unraisable)
      return
    is_terminated = issubclass(unraisable.exc_type, _TerminatedError)
    dropped = signal.SIGTERM if is_terminated else signal.SIGINT
    signal.setitimer(signal.ITIMER_REAL, _SIGNAL_AGAIN)

  signal.signal(signal.SIGTERM, _terminate)
  if hasattr(signal, "setitimer"):
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(dropped))
  sys.unraisablehook = note
  try:
    yield
  finally:
    sys.unraisablehook = before
    if hasattr(signal, "setitimer"):
      signal.setitimer(signal.ITIMER_REAL, 0)


def _terminate(number: int, frame: types.FrameType | None) -> NoReturn:
  del number, frame
  raise _TerminatedError


@contextlib.contextmanager
def run_dir(path: str | None, show: runs.Show | None = None) -> Iterator[pathlib.Path]:
  """Yields the folder of a run that can be resumed: one command's, and locked.

  Where it holds the finished results of the same command the process ends
  (`runs.claimed`). Its checkpoints are removed when the work is done.

  Args:
    path: of the folder.
    show: prints finished results.

  Raises:
    ValueError: no path is given, or the folder is in use or another command's.
    OSError: the folder cannot be made, or written.
  """
  with results_dir(path) as folder, _claimed(folder, show):
    yield folder


@contextlib.contextmanager
def results_dir(path: str | None) -> Iterator[pathlib.Path]:
  """Yields the folder for results, made if absent; an OSError where it cannot be.

  Made before the work, since hours may lie between it and the first file. Folders made
  here go again if the work fails and has left nothing in them.
  """
  if not path:
    raise ValueError("--output_dir must have a value: the folder for the results")
  folder = pathlib.Path(path).expanduser()
  made = [p for p in (folder, *folder.parents) if not p.exists()]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError("it is not writable")
  except OSError as error:
    raise OSError(f"output_dir={path} cannot be used: {error}") from error
  atomic.remove_left(folder)
  global _has_kept
  try:
    yield folder
  except BaseException as error:
    _has_kept = runs.is_resumed(folder)
    with contextlib.suppress(OSError):  # not empty
      for new in made:
        new.rmdir()
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
      raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error
    raise


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, show: runs.Show | None) -> Iterator[None]:
  """Holds the folder, if this is a command, and the process that writes."""
  global _resumed
  is_first = True
  if _DISTRIBUTED.value is not None:
    import jax

    is_first = jax.process_index() == 0
  if _command is None or not is_first:
    yield
    runs.remove_checkpoints(folder)
    return
  with runs.claimed(folder, _command, show) as stages:
    _resumed = stages
    try:
      yield
    finally:
      _resumed = frozenset()


def leave_files_to_first_process() -> None:
  """Ends this process, successfully, if it is one of several and not the first."""
  import jax

  if jax.process_index() > 0:
    sys.exit(0)


@contextlib.contextmanager
def progress_bars(
  unit: str = "model-epoch",
  doing: str = "training",
) -> Iterator[Callable[[str, int, int], None]]:
  """Yields `progress(what, done, total)`, which draws a bar for each `what`.

  Of a run of training that takes long it also says how long, and in what memory.
  """
  import tqdm

  from . import forecast

  bars: dict[str, Any] = {}
  # A line now and then where it is a log that is written; its environment may say.
  often = 0.1 if sys.stderr.isatty() else 10.0
  often = float(os.environ.get("TQDM_MININTERVAL", often))

  def say(line: str) -> None:
    tqdm.tqdm.write(line, file=sys.stderr)

  try:
    with forecast.listening(say) as foretell:

      def progress(what: str, done: int, total: int) -> None:
        title = stage(what, doing)
        if what not in bars:
          for bar in bars.values():
            bar.close()
          if done < total and _resumed & {what, ""}:
            say(f"resuming {title} at {done:,} of {total:,} {unit}s")
          bars[what] = tqdm.tqdm(total=total, desc=title, unit=unit, mininterval=often)
        bars[what].update(done - bars[what].n)
        foretell(title, done, total)

      yield progress
  finally:
    for bar in bars.values():
      bar.close()


def stage(what: str, doing: str = "training") -> str:
  """What a bar is called: of several runs of one kind, with its number."""
  name, _, number = what.rpartition("_")
  if number.isdecimal() and name in _STAGES:
    return f"{_STAGES[name]}, part {int(number) + 1}"
  return _STAGES.get(what, f"{doing}: {what.replace('_', ' ')}")


def _help_if_asked(module: types.ModuleType, argv: Sequence[str]) -> None:
  """Prints the binary's help and ends the process, where a flag asks for it."""
  asked = {argument.lstrip("-") for argument in argv[1:] if argument.startswith("-")}
  if not asked & {"help", "helpshort", "h", "?"}:
    return
  try:
    for prepare in BEFORE_PARSING:
      prepare(list(argv))
  except ValueError as error:
    _fail(" ".join(str(error).split()))
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
    _end_unread()
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
    _fail(f"{said} and the {bare} {shown} both say it: leave one out")


def _set_positional(name: str, values: Sequence[str]) -> None:
  """Gives a flag the arguments that are no flags: one, or a list of them."""
  flag = flags.FLAGS[name]
  try:
    flag.parse(
      ",".join(values) if isinstance(flag.parser, flags.ListParser) else values[0]
    )
  except flags.Error as error:
    _fail(str(error))
  if len(values) > 1 and not isinstance(flag.parser, flags.ListParser):
    _fail(f"unexpected argument {values[1]!r}: flags are written --name=value")


def _parse(argv: list[str]) -> list[str]:
  flags.FLAGS.set_gnu_getopt(True)
  try:
    for prepare in BEFORE_PARSING:
      prepare(argv)
    return flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:
    _fail(" ".join(str(error).split()))
    raise


def _is_expected(error: BaseException) -> bool:
  """Whether it was raised on purpose: by this code, or by the operating system."""
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  source = frames[-1].f_globals["__name__"].split(".")[0]
  return not isinstance(error, ValueError) or source in (
    "jmia",
    "experiments",
    "__main__",
  )


def _join_processes() -> None:
  """Makes this one of several processes, before JAX looks for devices."""
  text = _DISTRIBUTED.value
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

  jax.config.update("jax_default_matmul_precision", _MATMUL_PRECISION.value)
  # Small models are trained faster by a core each than by all cores one after another.
  num_cpus = _CPU_DEVICES.value
  if num_cpus is None and _DISTRIBUTED.value and not jmia.is_cpu_split():
    num_cpus = 1
  jmia.configure(cpu_devices=num_cpus, compilation_cache=_CACHE.value)


def _end_unread() -> NoReturn:
  """Ends the process where whoever read its output, such as `head`, has gone."""
  # What is still buffered would fail again as the interpreter ends.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(128 + signal.SIGPIPE)


def _fail(message: str, code: int = 2) -> None:
  print(f"{pathlib.Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
  sys.exit(code)
