"""Sentences that carry a run: links to its file, checked against it.

A claim is a Markdown link whose text is a figure and whose target is a run's file with
the figure's name behind the #, and which of its values is meant, the mean by default:

    [55.4 %](experiments/ledger/runs/ID.json#single/default/asr_all)
    [47.0–64.7](experiments/ledger/runs/ID.json#single/default/asr_all:range)

A figure's name is written as in an address (%20 for a space, %3A for a colon). The text
is a number, a percentage, or two of them for a range, and holds to its last digit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import re
from typing import NamedTuple
from urllib import parse

import numpy as np

from . import run_files

_LINK = re.compile(r"\[([^\]]+)\]\((?:[\w./-]*/)?ledger/runs/([\w.-]+)\.json#([^)]+)\)")
_NUMBER = re.compile(r"[-−]?\d*[.]?\d+")
_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
  "mean": lambda values: float(np.mean(values)),
  "median": lambda values: float(np.median(values)),
  "min": min,
  "max": max,
  "n": len,
}


class Claim(NamedTuple):
  """A figure in a text, and where it is from.

  Attributes:
    text: as the reader sees it.
    run: its id.
    figure: its name.
    statistic: of `mean`, `median`, `min`, `max`, `n` and `range`.
  """

  text: str
  run: str
  figure: str
  statistic: str


def find(text: str) -> Iterator[Claim]:
  """Yields the claims of a text."""
  for shown, run, fragment in _LINK.findall(text):
    figure, _, statistic = fragment.partition(":")
    yield Claim(shown, run, parse.unquote(figure), statistic or "mean")


def fault(claim: Claim, runs: Mapping[str, run_files.Run]) -> str | None:
  """Returns what is wrong with a claim, in a line; None where it holds."""
  where = f"[{claim.text}] ({claim.run}#{claim.figure}:{claim.statistic})"
  run = runs.get(claim.run)
  if run is None:
    return f"{where}: there is no run {claim.run!r}"
  values = run["figures"].get(claim.figure)
  if values is None:
    return f"{where}: the run has no figure {claim.figure!r}"
  names = ("min", "max") if claim.statistic == "range" else (claim.statistic,)
  if not all(name in _STATISTICS for name in names):
    return f"{where}: {claim.statistic!r} is none of {', '.join(_STATISTICS)}, range"
  numbers = _NUMBER.findall(claim.text)
  if len(numbers) != len(names):
    return f"{where}: expected {len(names)} number(s) in the text"
  scale = 100 if "%" in claim.text else 1
  for name, said in zip(names, numbers, strict=True):
    found = scale * _STATISTICS[name](values)
    said = said.replace("−", "-")
    half = 0.5 * 10.0 ** -len(said.partition(".")[2])
    if abs(found - float(said)) > half * (1 + 1e-6):
      return f"{where}: the run's {name} is {found:.6g}"
  return None
