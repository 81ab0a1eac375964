"""What a GPU is asked in eight minutes: correctness first, then speed.

    python -m experiments.gpu_day --output=gpu.json
    python -m experiments.gpu_day --output=try.json --tiny          # on a CPU

Runs suites of `experiments.benchmark`, the most telling first, each in a process of its
own: one that fails costs the others nothing, and none but the last may take more than
half of the time that is left. PyTorch, the peer, may be absent.

The file of --output gets rows, notes and seconds as JSON, anew after each suite, so
that a run that is cut off keeps what it has; the table is printed at the end.
"""

from collections.abc import Sequence
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags

from jmia.report import results

from . import benchmark, common_flags, launch
from .benchmarks import measure

flags.declare_key_flag("data_dir")
flags.declare_key_flag("output")
flags.declare_key_flag("tiny")
_MINUTES = flags.DEFINE_float(
  "minutes", 8.0, "When to stop, whatever is left undone.", lower_bound=0.1
)
_STEPS = flags.DEFINE_list(
  "steps",
  [
    *("agreement", "training/fc", "references", "training/cnn", "training/resnet18"),
    *("cifar10", "scoring", "tests", "mib", "private"),
  ],
  "Suites of experiments.benchmark, in order.",
)
_EXACT = ("agreement",)  # in float32; the others as on an NVIDIA GPU one would
_LEAST_SECONDS = 10.0  # less is no use to any


def main() -> None:
  """Runs the steps that fit, and prints their rows."""
  if not benchmark.OUTPUT.value:
    raise ValueError("--output must have a value: the file for the results")
  output = pathlib.Path(benchmark.OUTPUT.value).expanduser()
  output.parent.mkdir(parents=True, exist_ok=True)
  end = time.monotonic() + 60 * _MINUTES.value
  rows: list[dict[str, Any]] = []
  notes: list[str] = []
  seconds: dict[str, float] = {}
  for i, suite in enumerate(_STEPS.value):
    start = time.monotonic()
    left = end - start
    if left < _LEAST_SECONDS:
      notes.append(f"{suite}: not run, no time was left")
    elif benchmark.TINY.value and not benchmark.has_tiny(suite):
      notes.append(f"{suite}: not run, it has no tiny sizes")
    else:
      is_last = i + 1 == len(_STEPS.value)
      found, note = _run(suite, left if is_last else max(_LEAST_SECONDS, left / 2))
      rows += found
      notes += [note] if note else []
      seconds[suite] = time.monotonic() - start
    results.write(
      output,
      results.document(
        rows,
        config={
          "steps": _STEPS.value,
          "tiny": benchmark.TINY.value,
          "minutes": _MINUTES.value,
        },
        seed=common_flags.SEED.value,
        seconds={**seconds, "total": sum(seconds.values())},
        notes=notes,
      ),
    )
  print("\n".join(notes))
  if rows:
    print(results.table(measure.cells(rows)))


def _run(suite: str, timeout: float) -> tuple[Sequence[dict[str, Any]], str]:
  """A suite's rows, and what kept it from having more."""
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "rows.json"
    command = [
      *(sys.executable, "-m", f"{__package__}.benchmark"),
      *(f"--suite={suite}", f"--output={file}"),
      f"--matmul_precision={'float32' if suite in _EXACT else 'tensorfloat32'}",
      f"--seconds={max(1, timeout / 3)}",  # before, programs are compiled and compared
      *(
        [f"--data_dir={common_flags.DATA_DIR.value}"]
        if common_flags.DATA_DIR.value
        else []
      ),
      *(["--tiny"] if benchmark.TINY.value else []),
    ]
    try:
      code, errors = _bounded(command, timeout)
    except subprocess.TimeoutExpired:
      note = f"{suite}: stopped after {timeout:.0f} s, its share of the time"
    else:
      lines = errors.strip().splitlines() or [f"exit code {code}"]
      note = f"{suite}: {lines[-1]}" if code else ""
    # A suite writes after each of its rows.
    return json.loads(file.read_text("utf-8"))["rows"] if file.exists() else [], note


def _bounded(command: Sequence[str], timeout: float) -> tuple[int, str]:
  """A command's exit code and errors; stopped, nothing that it started is left.

  A suite's own processes would run on beside the next one, and slow what it times.
  """
  with subprocess.Popen(
    command,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  ) as process:
    try:
      _, errors = process.communicate(timeout=timeout)
    except BaseException:  # Ctrl-C does not reach another session either
      os.killpg(process.pid, signal.SIGKILL)
      raise
  return process.returncode, errors


if __name__ == "__main__":
  launch.run(main)
