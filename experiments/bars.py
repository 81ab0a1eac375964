"""Progress on stderr: a bar for each stage of the work, or lines now and then.

A bar is for a terminal, where it is drawn over and over. A log gets whole lines: when
a stage begins, at most one in ten seconds, and when it ends.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import sys
import time
from typing import Any

from . import run_folder

# What runs of models are called in bars, for those who do not know the spine.
_STAGES = {
  "target": "training the target",
  "targets": "training the targets",
  "others": "training the models compared with",
  "fitted": "fitting the models compared with",
  "models": "training models with and without marks",
  "embed": "training the watermarked model",
  "decoders": "fitting decoders",
}


@contextlib.contextmanager
def shown(
  unit: str = "model-epoch",
  doing: str = "training",
) -> Iterator[Callable[[str, int, int], None]]:
  """Yields `progress(what, done, total)`, which draws a bar for each `what`.

  Of a run of training that takes long it also says how long, and in what memory.
  """
  import tqdm

  from . import forecast

  bars: dict[str, Any] = {}
  # A dumb terminal cannot draw over what it shows.
  has_bars = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
  make = tqdm.tqdm if has_bars else _Lines
  # The environment may say, as of every bar of tqdm's.
  often = 0.1 if has_bars else 10.0
  often = float(os.environ.get("TQDM_MININTERVAL", often))

  def say(line: str) -> None:
    make.write(line, file=sys.stderr)

  try:
    with forecast.listening(say) as foretell:

      def progress(what: str, done: int, total: int) -> None:
        title = stage(what, doing)
        if what not in bars:
          for bar in bars.values():
            bar.close()
          if done < total and run_folder.is_resumed(what):
            say(f"resuming {title} at {done:,} of {total:,} {unit}s")
          bars[what] = make(total=total, desc=title, unit=unit, mininterval=often)
        bars[what].update(done - bars[what].n)
        foretell(title, done, total)

      yield progress
  finally:
    for bar in bars.values():
      bar.close()


class _Lines:
  """What of tqdm's bar is used here, in lines for a log."""

  def __init__(self, *, total: int, desc: str, unit: str, mininterval: float):
    self.n = 0
    self._total, self._desc, self._unit = total, desc, unit
    self._often = mininterval
    self._told, self._at = -1, time.monotonic()

  def update(self, step: int) -> None:
    """Tells of so much more, where the last line is long ago or all is done."""
    self.n += step
    is_due = time.monotonic() - self._at >= self._often
    if self._told < 0 or is_due or self.n >= self._total:
      self._tell()

  def close(self) -> None:
    """Tells how far it came, if that is not told."""
    self._tell()

  def _tell(self) -> None:
    if self._told == self.n:
      return
    self._told, self._at = self.n, time.monotonic()
    share = 100 * self.n // self._total if self._total else 100
    done = f"{self.n:,} of {self._total:,} {self._unit}s"
    self.write(f"{self._desc}: {share:3d}% ({done})", file=sys.stderr)

  @staticmethod
  def write(line: str, *, file: Any) -> None:
    """A line among them."""
    print(line, file=file, flush=True)


def stage(what: str, doing: str = "training") -> str:
  """What a bar is called: of several runs of one kind, with its number."""
  name, _, number = what.rpartition("_")
  if number.isdecimal() and name in _STAGES:
    return f"{_STAGES[name]}, part {int(number) + 1}"
  return _STAGES.get(what, f"{doing}: {what.replace('_', ' ')}")
