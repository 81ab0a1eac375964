"""Progress on stderr: a bar for each stage of the work."""

from collections.abc import Callable, Iterator
import contextlib
import os
import sys
from typing import Any

from . import run_folder

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
          if done < total and run_folder.is_resumed(what):
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
