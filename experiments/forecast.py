"""What a run trains, for how long and in what memory: one line, once it is measured."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import resource
import sys
import time
from typing import Any

import jax

from jmia.report import wording
from jmia.training import parallel

_MEASURED_SECONDS = 1.0  # of epochs, before their rate is believed
_WORTH_TELLING = 5.0  # seconds to go, below which nobody waits


@contextlib.contextmanager
def listening(say: Callable[[str], None]) -> Iterator[Callable[[str, int, int], None]]:
  """Yields `progress(title, done, total)`, which says one line of each training run.

  Args:
    say: told the line, once the first epochs have been timed.
  """
  forecast = _Forecast(say)
  jax.monitoring.register_scalar_listener(forecast.started)
  try:
    yield forecast.progress
  finally:
    jax.monitoring.unregister_scalar_listener(forecast.started)


def memory(num_bytes: float) -> str:
  """What models in training take on each device, to read.

  On a CPU, whose devices share their memory: of the whole process, what it has taken
  already, to compile for instance, included.
  """
  if jax.default_backend() != "cpu":
    return f"{_size(num_bytes)} of each device's memory"
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak *= 1 if sys.platform == "darwin" else 1024
  return f"{_size(peak + num_bytes * jax.local_device_count())} of memory"


class _Forecast:
  """The run that started last, and since when its rate is measured."""

  def __init__(self, say: Callable[[str], None]):
    self._say = say
    self._run: dict[str, Any] | None = None  # None once it is told
    self._since: tuple[float, int] | None = None  # a time, and what was done then
    self._done = 0

  def started(self, event: str, value: float, **run: Any) -> None:
    """Told by JAX of every scalar that is recorded."""
    if event == parallel.MEMORY_EVENT:
      self._run, self._since, self._done = {**run, "num_bytes": value}, None, 0

  def progress(self, title: str, done: int, total: int) -> None:
    """Told of model-epochs."""
    if self._run is None:
      return
    step, self._done = done - self._done, done
    if self._since is None or step > self._run["width"]:  # what a checkpoint held
      self._since = time.monotonic(), done
      return
    seconds = time.monotonic() - self._since[0]
    if done <= self._since[1] or seconds < _MEASURED_SECONDS:
      return
    to_go = (total - done) * seconds / (done - self._since[1])
    if to_go >= _WORTH_TELLING:
      self._say(_line(title, self._run, to_go))
    self._run = None


def _line(title: str, run: Mapping[str, Any], seconds: float) -> str:
  num, width, epochs = run["num_models"], run["width"], run["num_epochs"]
  parts = [f"{num:,} model{'s' if num > 1 else ''}"]
  if width < num:
    parts.append(f"{width} at a time")
  rows = f" of up to {run['num_rows']:,} rows" if run["num_rows"] else ""
  parts.append(f"{epochs:,} epoch{'s' if epochs > 1 else ''}{rows}")
  return (
    f"{title}: {', '.join(parts)}; about {wording.duration(seconds)} to go, in about"
    f" {memory(run['num_bytes'])}"
  )


def _size(num_bytes: float) -> str:
  return (
    f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
  )
