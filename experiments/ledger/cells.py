"""The papers' tables, and what our runs say of each of their cells.

A cell of a paper is one figure of one run of its authors, or the mean of a few. Ours
is a value for each of `n` seeds or targets; where the paper's is one more draw of the
same, it lies in the 95 % prediction interval

    mean ± t(n - 1, .975) s sqrt(1 + 1 / n)

(Student's; Hahn & Meeker, Statistical Intervals, 1991, section 4.7), to within half a
unit of the last digit that the paper prints. From fewer than three values there is no
verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
import csv
import enum
import fnmatch
import math
import pathlib
from typing import NamedTuple

import numpy as np
from scipy import special

HERE = pathlib.Path(__file__).parent
PAPERS: Mapping[str, str] = {
  "ye": "Ye et al., Enhanced Membership Inference Attacks",
  "hu": "Hu et al., Membership Inference via Backdooring",
  "yang": "Yang, Membership Inference Attack on Classification Models",
  "song": "Song and Shokri, Robust Membership Encoding",
}
LEAST = 3  # values of ours for a verdict
_CONFIDENCE = 0.95


Key = tuple[str, str, str, str]  # paper, table, row and column of a cell


class Cell(NamedTuple):
  """A figure of a paper, as it is printed there.

  Attributes:
    paper: of `PAPERS`.
    table: its number, or name.
    row: of the table.
    column: of the table.
    value: as printed; of a percentage without the sign.
    deviation: what follows the ±, as printed, or ""; of a percentage it is a share.
    unit: "%" or "".
    conditions: that the paper states.
    needs: what a run of ours needs that a CPU and a day do not give, or "".
  """

  paper: str
  table: str
  row: str
  column: str
  value: str
  deviation: str
  unit: str
  conditions: str
  needs: str

  @property
  def key(self) -> Key:
    """What a run's figures are found by."""
    return self.paper, self.table, self.row, self.column

  @property
  def number(self) -> float:
    """The value, of a percentage the share."""
    return float(self.value) / (100 if self.unit == "%" else 1)

  @property
  def slack(self) -> float:
    """Half a unit of the last digit printed."""
    digits = len(self.value.partition(".")[2])
    return 0.5 * 10.0**-digits / (100 if self.unit == "%" else 1)


class Figure(NamedTuple):
  """What a run of ours found of a cell.

  Attributes:
    run: its id.
    values: of each seed or target.
    condition: in which the run differs from the paper's conditions, or "".
    is_comparable: whether it is of the same data and settings.
  """

  run: str
  values: tuple[float, ...]
  condition: str
  is_comparable: bool

  @property
  def mean(self) -> float:
    """Over seeds or targets."""
    return float(np.mean(self.values))

  def interval(self) -> tuple[float, float] | None:
    """Where one more value lies in 95 % of cases; None from fewer than `LEAST`."""
    n = len(self.values)
    if n < LEAST:
      return None
    quantile = special.stdtrit(n - 1, (1 + _CONFIDENCE) / 2)
    half = quantile * float(np.std(self.values, ddof=1)) * math.sqrt(1 + 1 / n)
    return self.mean - half, self.mean + half

  def holds(self, cell: Cell) -> bool:
    """Whether the paper's figure may be one more value."""
    found = self.interval()
    slack = cell.slack * (1 + 1e-9)  # an end that lies on it may be rounded away
    return found is not None and bool(
      found[0] - slack <= cell.number <= found[1] + slack
    )


class Verdict(enum.StrEnum):
  """What is known of a cell."""

  INSIDE = "inside"
  EXPLAINED = "outside, explained"
  OPEN = "outside, open"
  FEW = "too few seeds"
  NOT_RUN = "not run"


class Explanation(NamedTuple):
  """Why some cells' figures differ, by experiment.

  Attributes:
    cells: patterns of a key's parts, as of `fnmatch`.
    run: in which the paper's figure is one more value.
    value: in place of the paper's, where that is misprinted or cannot be, as printed
      elsewhere or as its other figures have it; "".
    because: in words.
  """

  cells: Key
  run: str
  value: str
  because: str


class Entry(NamedTuple):
  """A cell, what our runs found of it, and the verdict.

  Attributes:
    cell: of the paper.
    figures: of our runs, first the one that decides.
    verdict: of it.
    explanation: of a figure outside, or None.
  """

  cell: Cell
  figures: tuple[Figure, ...]
  verdict: Verdict
  explanation: Explanation | None


def papers() -> list[Cell]:
  """Returns every cell of every paper, in the papers' order."""
  return [
    Cell(paper, **row)
    for paper in PAPERS
    for row in _table(HERE / "papers" / f"{paper}.csv")
  ]


def explanations() -> list[Explanation]:
  """Returns the explanations on record."""
  return [
    Explanation(
      (row["paper"], row["table"], row["row"], row["column"]),
      row["run"],
      row["value"],
      row["because"],
    )
    for row in _table(HERE / "explanations.csv")
  ]


def judge(
  cell: Cell, figures: Iterable[Figure], explained: Sequence[Explanation]
) -> Entry:
  """Sets our figures beside a paper's.

  Of the runs on the paper's data and settings that explain no other, those decide that
  differ in no condition, and of these the one with the most values. A figure outside
  its interval is explained if a run on record that is named as its explanation has the
  paper's inside.

  Args:
    cell: of the paper.
    figures: of our runs.
    explained: explanations on record.
  """
  matching = [
    reason
    for reason in explained
    if all(map(fnmatch.fnmatchcase, cell.key, reason.cells))
  ]
  explaining = {reason.run for reason in matching if not reason.value}
  ordered = tuple(
    sorted(
      figures,
      key=lambda f: (
        not f.is_comparable,
        f.run in explaining,
        bool(f.condition),
        -len(f.values),
        f.run,
      ),
    )
  )
  deciding = [f for f in ordered if f.is_comparable and f.run not in explaining]
  if not deciding:
    return Entry(cell, ordered, Verdict.NOT_RUN, None)
  if len(deciding[0].values) < LEAST:
    return Entry(cell, ordered, Verdict.FEW, None)
  if deciding[0].holds(cell):
    return Entry(cell, ordered, Verdict.INSIDE, None)
  for reason in matching:
    meant = cell._replace(value=reason.value or cell.value)
    if any(f.run == reason.run and f.holds(meant) for f in ordered):
      return Entry(cell, ordered, Verdict.EXPLAINED, reason)
  return Entry(cell, ordered, Verdict.OPEN, None)


def _table(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))
