import gc
import os
import signal
import subprocess
import sys
import time

from absl import flags, logging
from absl.testing import flagsaver
import jax
import pytest

from experiments import bars, common_flags, launch, run_folder, shared_flags
from jmia import _validate

flags.adopt_module_key_flags(common_flags)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a binary with flags: its exit code, and what it wrote to stderr."""

  def run(main, *arguments):
    argv = ["tool", "--compilation_cache=", f"--output_dir={tmp_path}", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    verbosity = logging.get_verbosity()
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stopped:
      launch.run(main)
    logging.set_verbosity(verbosity)
    return stopped.value.code or 0, capsys.readouterr().err

  return run


def test_a_run_that_works_says_nothing(run):
  done = []
  assert run(lambda: done.append(common_flags.SEED.value), "--seed=7") == (0, "")
  assert done == [7]


@pytest.mark.parametrize("arguments", [("audit", "--help"), ("ledger", "--check")])
def test_output_that_nobody_reads_on_is_no_error(arguments):
  binary = [sys.executable, "-m", f"experiments.{arguments[0]}", *arguments[1:]]
  process = subprocess.Popen(
    binary, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  process.stdout.close()  # as `head` does once it has its lines
  assert process.stderr.read() == ""
  process.stderr.close()
  assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
  ("error", "line"),
  [
    (FileNotFoundError(2, "No such file", "x.npz"), "[Errno 2] No such file: 'x.npz'"),
    (PermissionError("folder is read-only"), "folder is read-only"),
    (ImportError("needs\n  tensorflow-datasets"), "needs tensorflow-datasets"),
    (OSError(), "OSError"),
  ],
)
def test_an_error_of_the_users_is_one_line(run, error, line):
  def main():
    raise error

  assert run(main) == (2, f"tool: {line}\n")


def test_a_refusal_of_the_librarys_is_one_line(run):
  code, text = run(lambda: _validate.positive("num_members", -1))
  assert (code, text) == (2, "tool: num_members=-1 must be a finite number above 0\n")


def test_a_value_error_from_elsewhere_says_how_to_see_more(run):
  code, text = run(lambda: int("abc"))
  assert code == 2
  assert text == (
    "tool: invalid literal for int() with base 10: 'abc' (--verbosity=1 shows where)\n"
  )


def test_verbosity_shows_where_an_error_came_from(run, caplog):
  def main():
    _validate.positive("num_members", -1)

  line = "tool: num_members=-1 must be a finite number above 0\n"
  assert run(main) == (2, line)
  assert caplog.text == ""
  assert run(main, "--verbosity=1") == (2, line)
  assert "Traceback" in caplog.text
  assert "in positive" in caplog.text


def test_a_defect_keeps_its_traceback(monkeypatch, tmp_path):
  monkeypatch.setattr(
    sys, "argv", ["tool", "--compilation_cache=", f"--output_dir={tmp_path}"]
  )
  with flagsaver.flagsaver(), pytest.raises(ZeroDivisionError):
    launch.run(lambda: 1 / 0)


def test_an_interruption_says_how_to_go_on(run):
  def main():
    with run_folder.results_dir(common_flags.OUTPUT_DIR.value) as folder:
      (folder / "checkpoints").mkdir()
      (folder / "checkpoints" / "chunk_00000.npz").touch()
      raise KeyboardInterrupt

  assert run(main) == (130, "tool: interrupted; the same command resumes\n")


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_that_python_drops_is_heeded_all_the_same(run, request, number, code):
  """In a garbage collector's callback, as those of JAX, no error can be raised."""
  times = []

  def raises(phase, info):
    if len(times) < 3:
      times.append(phase)
      signal.raise_signal(number)

  def main():
    gc.callbacks.append(raises)
    try:
      while len(times) < 3:
        gc.collect()
      time.sleep(5)
    finally:
      gc.callbacks.remove(raises)

  # A shell's job in the background ignores Ctrl-C, and so do these tests there.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
  hook = sys.unraisablehook
  what = "interrupted" if number == signal.SIGINT else "terminated"
  assert run(main) == (code, f"tool: {what}\n")
  assert len(times) >= 2
  assert sys.unraisablehook is hook


def test_what_else_python_drops_is_told_as_ever(run, monkeypatch):
  told = []
  monkeypatch.setattr(sys, "unraisablehook", lambda of: told.append(of.exc_type))

  class Dropped:
    def __del__(self):
      raise ZeroDivisionError

  def main():
    Dropped()

  assert run(main) == (0, "")
  assert told == [ZeroDivisionError]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_full_disk_is_named_by_its_folder(run, tmp_path, is_kept):
  def main():
    with run_folder.results_dir(common_flags.OUTPUT_DIR.value) as folder:
      (folder / "checkpoints").mkdir()
      if is_kept:
        (folder / "checkpoints" / "chunk_00000.npz").touch()
      with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"1")

  following = "; the same command resumes" if is_kept else ""
  line = f"[Errno 28] No space left on device: '{tmp_path}'{following}"
  assert run(main) == (2, f"tool: {line}\n")


@pytest.mark.parametrize(
  ("error", "said"),
  [("KeyboardInterrupt", "interrupted\n"), ("ValueError(3)", "Traceback (most recent")],
)
def test_an_interruption_while_modules_are_imported_is_one_line(error, said):
  code = f"import experiments; raise {error}"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.stderr.startswith(said)
  assert ("Traceback" in done.stderr) == (error != "KeyboardInterrupt")
  assert done.returncode == (1 if "Value" in error else -signal.SIGINT)


def test_an_interruption_of_what_keeps_nothing_promises_nothing(run):
  def main():
    raise KeyboardInterrupt

  assert run(main) == (130, "tool: interrupted\n")


@pytest.mark.parametrize(
  ("argument", "line"),
  [
    (
      "--outputdir=1",
      "Unknown command line flag 'outputdir'. Did you mean: output_dir ?",
    ),
    ("--seed=one", "flag --seed=one: expected a whole number"),
    ("--seed=-1", "flag --seed=-1: -1 is not an integer in the range [0, 4294967295]"),
    ("seed=1", "unexpected argument 'seed=1': flags are written --name=value"),
    # Another binary's, which would be ignored.
    (
      f"--{shared_flags.NUM_QUERIES.name}=3",
      "--num_queries is no flag of this command; --help lists those it has",
    ),
  ],
)
def test_malformed_flags_are_one_line(run, argument, line):
  assert run(lambda: None, argument) == (2, f"tool: {line}\n")


@pytest.mark.parametrize(
  ("text", "arguments"), [("auto", ()), ("10.0.0.1:1234,4,3", ("10.0.0.1:1234", 4, 3))]
)
def test_processes_are_joined_before_the_work(run, monkeypatch, text, arguments):
  joined = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args: joined.append(args))
  assert run(lambda: joined.append("main"), f"--distributed={text}") == (0, "")
  assert joined == [arguments, "main"]


@pytest.mark.parametrize(
  "text", ["", "host:1", "host:1,2", "host:1,two,0", "host:1,2,0,0"]
)
def test_processes_that_are_misnamed_are_refused(run, text):
  code, line = run(lambda: None, f"--distributed={text}")
  assert code == 2
  assert line == (
    f"tool: distributed={text!r}, expected auto or HOST:PORT,PROCESSES,ID\n"
  )


def test_files_are_left_to_the_first_process(run, monkeypatch):
  written = []

  def main():
    launch.leave_files_to_first_process()
    written.append(jax.process_index())

  assert run(main) == (0, "")
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  assert run(main) == (0, "")
  assert written == [0]


def test_a_second_run_compiles_nothing(run, tmp_path):
  found = []

  def listen(event, **kwargs):
    found.append(event.rsplit("/")[-1])

  def main():
    jax.clear_caches()
    jax.jit(lambda x: x * 3 + 1)(2.0)

  jax.monitoring.register_event_listener(listen)
  try:
    folder = f"--compilation_cache={tmp_path / 'compiled'}"
    assert run(main, folder) == (0, "")
    assert "cache_misses" in found
    found.clear()
    assert run(main, folder) == (0, "")
  finally:
    jax.monitoring.unregister_event_listener(listen)
  assert "cache_hits" in found
  assert "cache_misses" not in found


def test_output_dir_is_required():
  with (
    pytest.raises(ValueError, match="--output_dir must have a value"),
    run_folder.results_dir(None),
  ):
    pass


def test_results_dir_is_made_and_kept(tmp_path):
  with run_folder.results_dir(str(tmp_path / "a" / "b")) as folder:
    assert folder.is_dir()
  assert (tmp_path / "a" / "b").is_dir()


def test_results_dir_that_a_failure_left_empty_goes_again(tmp_path):
  (tmp_path / "here").mkdir()
  with (
    pytest.raises(ValueError, match="bad"),
    run_folder.results_dir(str(tmp_path / "here" / "a" / "b")),
  ):
    raise ValueError("bad")
  assert list(tmp_path.iterdir()) == [tmp_path / "here"]
  assert list((tmp_path / "here").iterdir()) == []


def test_results_dir_with_something_in_it_stays(tmp_path):
  def fail_half_way():
    with run_folder.results_dir(str(tmp_path / "a" / "b")) as folder:
      (folder / "checkpoint").write_text("half")
      raise ValueError("bad")

  with pytest.raises(ValueError, match="bad"):
    fail_half_way()
  assert (tmp_path / "a" / "b" / "checkpoint").read_text() == "half"


def test_results_dir_that_cannot_be_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  for path in (tmp_path / "file", tmp_path / "file" / "a"):
    with (
      pytest.raises(OSError, match=f"output_dir={path} cannot be used: "),
      run_folder.results_dir(str(path)),
    ):
      pass


def test_bars_of_what_trains_nothing_do_not_say_training(capsys):
  with bars.shown("simulation", "simulating") as progress:
    progress("2 references", 1, 2)
  assert "simulating: 2 references:  50%" in capsys.readouterr().err


def test_progress_bars_go_to_stderr(capsys):
  with bars.shown() as progress:
    progress("target", 3, 4)
    progress("others", 1, 8)
    progress("others", 8, 8)
  out, err = capsys.readouterr()
  assert out == ""
  assert "training the target:  75%" in err
  assert "training the models compared with: 100%" in err


def test_a_log_gets_few_whole_lines(capsys, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
  with bars.shown() as progress:
    for epoch in range(1, 1001):
      now[0] += 2.0**-5
      progress("targets", epoch, 1000)
    progress("others", 1, 8)
    progress("others", 3, 8)
  assert capsys.readouterr().err.splitlines() == [
    "training the targets:   0% (1 of 1,000 model-epochs)",
    "training the targets:  32% (321 of 1,000 model-epochs)",
    "training the targets:  64% (641 of 1,000 model-epochs)",
    "training the targets:  96% (961 of 1,000 model-epochs)",
    "training the targets: 100% (1,000 of 1,000 model-epochs)",
    "training the models compared with:  12% (1 of 8 model-epochs)",
    "training the models compared with:  37% (3 of 8 model-epochs)",
  ]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  for terminal, told in (
    ("xterm", "\rtraining the target:  75%|"),
    ("dumb", "training the target:  75% (3 of 4 model-epochs)\n"),  # draws nothing over
  ):
    monkeypatch.setenv("TERM", terminal)
    with bars.shown() as progress:
      progress("target", 3, 4)
    assert told in capsys.readouterr().err


_COUNT_DEVICES = """
from experiments import launch
import jax
import jmia
launch.run(lambda: print(len(jax.devices()), jmia._num_cores()))
"""


@pytest.mark.parametrize(
  ("arguments", "settings", "count"),
  [
    ((), {}, None),  # a device for each core
    (("--cpu_devices=3",), {}, 3),
    ((), {"JAX_NUM_CPU_DEVICES": "2"}, 2),
    ((), {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
  ],
)
def test_a_cpu_is_split_into_devices(monkeypatch, arguments, settings, count):
  monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
  done = subprocess.run(
    [sys.executable, "-c", _COUNT_DEVICES, "--compilation_cache=", *arguments],
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **settings},
    capture_output=True,
    text=True,
    check=True,
  )
  found, num_cores = map(int, done.stdout.split())
  assert found == (num_cores if count is None else count)


@pytest.mark.parametrize(
  ("what", "title"),
  [
    ("others", "training the models compared with"),
    ("others_1", "training the models compared with, part 2"),
    ("whitebox_baseline", "training: whitebox baseline"),
    ("l2:1e-2", "training: l2:1e-2"),
  ],
)
def test_bars_say_what_is_done(what, title):
  assert bars.stage(what) == title


def test_what_a_killed_command_left_half_written_goes(tmp_path):
  killed = 99_999_999  # more than processes are numbered to
  (tmp_path / f".key.json.{killed}-ab.partial").write_text("half a secret")
  (tmp_path / f".incomplete-{killed}-ab").mkdir()
  (tmp_path / ".mine.partial").write_text("")
  with run_folder.results_dir(str(tmp_path)):
    assert [path.name for path in tmp_path.iterdir()] == [".mine.partial"]


def test_a_seed_that_is_another_ones_to_jax_is_refused():
  high = jax.random.key(2**32 + 5)
  assert (jax.random.key_data(high) == jax.random.key_data(jax.random.key(5))).all()
  for seed in (2**32, 10**20):
    with pytest.raises(flags.IllegalFlagValueError, match="seed"):
      flags.FLAGS.seed = seed
  assert flags.FLAGS["seed"].value == 0
