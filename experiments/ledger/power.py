"""Chances of a claim by sub-marks: one table for each kind of data and network.

Runs of `mib --study=submarks` that differ in the number of marked rows alone stand in
one table; each line is a number of rows and of sub-marks.
"""

from collections.abc import Iterator, Mapping
import re

import numpy as np

from .run_files import Run

TESTS = ("randomization", "binomial", "t")
_LEVELS = ("0.05", "0.01")
_ASKED = (("_each", "30 a sub-mark"), ("", "30 in all"))
_NAME = re.compile(r"submarks/(\d) sub-marks?/num_marked")
_SHARE = re.compile(r" --marked_share=\S+")


def is_one(run: Run) -> bool:
  """Whether a run is of sub-marks, and of nothing else."""
  return run["study"] == "mib" and run["config"].get("studies") == ["submarks"]


def tables(runs: Mapping[str, Run]) -> str:
  """Returns all tables, each under the command that its runs share.

  Args:
    runs: by id.
  """
  groups: dict[str, list[tuple[int, int, str]]] = {}
  for run in filter(is_one, runs.values()):
    lines = groups.setdefault(_SHARE.sub("", run["command"]), [])
    lines += _lines(run)
  columns = [f"{test}, {asked}" for _, asked in _ASKED for test in TESTS]
  head = [
    f"| rows | sub-marks | ASR (range) | {' | '.join(columns)} | run |",
    f"|---|---|---|{'---|' * len(columns)}---|",
  ]
  return "\n\n".join(
    "\n".join(
      [
        f"`{command}`, claims in % of trials at 5 % (1 %):",
        "",
        *head,
        *(line for _, _, line in sorted(lines)),
      ]
    )
    for command, lines in groups.items()
  )


def _lines(run: Run) -> Iterator[tuple[int, int, str]]:
  """A line for each number of sub-marks, behind its rows and that number."""
  for name, marked in run["figures"].items():
    if not (found := _NAME.fullmatch(name)):
      continue
    number, variant = int(found[1]), name.removesuffix("/num_marked")
    rates = 100 * np.array(run["figures"][f"{variant}/asr_all"])
    claims = [
      _claims(run, f"{variant}/claims/{test}{asked}")
      for asked, _ in _ASKED
      for test in TESTS
    ]
    rows = round(number * float(np.mean(marked)))
    yield (
      rows,
      number,
      (
        f"| {rows} | {number}"
        f" | {rates.mean():.1f} ({rates.min():.0f}–{rates.max():.0f})"
        f" | {' | '.join(claims)} | [{run['id']}](runs/{run['id']}.json) |"
      ),
    )


def _claims(run: Run, name: str) -> str:
  at_5, at_1 = (100 * run["figures"][f"{name} at {level}"][0] for level in _LEVELS)
  return f"{at_5:.0f} ({at_1:.0f})"
