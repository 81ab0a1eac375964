"""Measures what jmia does in bulk, beside what a user would otherwise run.

    python -m experiments.benchmark --suite=training --output=training.json
    python -m experiments.benchmark --suite=training/cnn --output=cnn.json

A suite's calls and its peers' take turns in one process, and medians are compared. The
table comes last. Targets are those of the device: two CPU cores, or one data-centre GPU
(`--matmul_precision=tensorfloat32`, which holds for PyTorch too). A peer that is not
installed leaves its columns empty; jmia's need jax, flax, optax and NumPy alone.
"""

from collections.abc import Callable, Iterable, Mapping
import pathlib
import time
from typing import Any

from absl import flags
import jax

from jmia.report import results

from . import common_flags, launch
from .benchmarks import (
  agreement,
  cifar10,
  compiled,
  measure,
  rate_tests,
  scaling,
  scoring,
  startup,
  studies,
  training,
)

_SECONDS = flags.DEFINE_float(
  "seconds",
  600.0,
  "What `cifar10` may train for; the rest is extrapolated. No other reads it.",
  lower_bound=1.0,
)
_SUITES: Mapping[str, Callable[[], Iterable[measure.Row]]] = {
  **training.SUITES,
  "scoring": scoring.rows,
  "scoring/attacks": scoring.attack_rows,
  "tests": rate_tests.rows,
  "scaling": scaling.rows,
  "startup": startup.rows,
  "agreement": agreement.rows,
  "references": studies.references,
  "private": studies.private,
  "mib": studies.mib,
  "cifar10": lambda: cifar10.rows(
    data_dir=common_flags.DATA_DIR.value, seconds=_SECONDS.value
  ),
  "compiled": compiled.rows,
}

# What shows that a suite runs, in seconds, on any machine.
_TINY_SUITES: Mapping[str, Callable[[], Iterable[measure.Row]]] = {
  "training/fc": lambda: [training.beside_vmap(training.FC, 2, target={}, num_turns=1)],
  "scoring": lambda: scoring.rows((8, 200, 4)),
  "scoring/attacks": lambda: scoring.attack_rows((4, 200, 100)),
  "tests": lambda: rate_tests.rows(1_000),
  "agreement": lambda: agreement.rows(2, batch_size=8),
  "references": lambda: studies.references(4),
  "private": lambda: studies.private(2),
  "mib": lambda: studies.mib(1),
  "cifar10": lambda: cifar10.rows(2, cifar10.tiny()),
}

flags.declare_key_flag("matmul_precision")
flags.declare_key_flag("data_dir")
_SUITE = flags.DEFINE_string(
  "suite",
  "training",
  f"What to measure: {', '.join(_SUITES)}, or `training` for all of its parts.",
)
OUTPUT = flags.DEFINE_string("output", None, "File of the results, JSON.")
TINY = flags.DEFINE_boolean(
  "tiny", False, f"A few models, of {', '.join(_TINY_SUITES)} alone: a try."
)


def has_tiny(suite: str) -> bool:
  """Returns whether `--tiny` knows a suite."""
  return suite in _TINY_SUITES


def main() -> None:
  """Measures a suite, writes its rows, and prints them."""
  suites = _TINY_SUITES if TINY.value else _SUITES
  names = [n for n in suites if n == _SUITE.value or n.startswith(f"{_SUITE.value}/")]
  if not names:
    raise ValueError(f"suite={_SUITE.value}, expected training or {', '.join(suites)}")
  if not OUTPUT.value:
    raise ValueError("--output must have a value: the file for the results")
  output = pathlib.Path(OUTPUT.value).expanduser()
  output.parent.mkdir(parents=True, exist_ok=True)
  # Compilation is measured, so it must not come from a folder.
  jax.config.update("jax_enable_compilation_cache", False)
  rows: list[dict[str, Any]] = []
  seconds: dict[str, float] = {}
  config = {
    "suite": _SUITE.value,
    "matmul_precision": measure.matmul_precision(),
    **(
      {"data_dir": common_flags.DATA_DIR.value} if common_flags.DATA_DIR.value else {}
    ),
    **({"seconds": _SECONDS.value} if flags.FLAGS["seconds"].present else {}),
  }
  for name in names:
    start = time.perf_counter()
    for row in suites[name]():
      rows.append(row.content())
      seconds[name] = time.perf_counter() - start
      seconds["total"] = sum(v for k, v in seconds.items() if k != "total")
      # After each row: a run that is cut off keeps what it has.
      results.write(
        output,
        results.document(
          rows, config=config, seed=common_flags.SEED.value, seconds=seconds
        ),
      )
  print(results.table(measure.cells(rows)))


if __name__ == "__main__":
  launch.run(main)
