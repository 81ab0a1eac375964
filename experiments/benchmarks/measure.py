"""Timing side by side, and the rows that come of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import resource
import time
from typing import Any, NamedTuple

import jax
import numpy as np


class Cost(NamedTuple):
  """What one call takes: wall time, and CPU time of all threads, in seconds."""

  wall: float
  cpu: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One measurement beside what it is compared with.

  Attributes:
    suite: the suite it is of.
    name: what is measured.
    width: models trained at once, 1 where none are.
    ours: cost of a unit of work, which `name` says; None where memory is meant.
    peer: what it is compared with; says so where it is not installed.
    theirs: the peer's cost of the same unit, None where it is not installed.
    limit_share: share of the machine's own limit that is reached, None if not asked.
    compile_s: seconds of compilation, not part of the costs.
    target: least `ratio` (the peer's wall time over ours), least `limit_share`, or
      most of another key of `more`.
    more: further figures, as JSON values; `said`, if there, is for the table.
  """

  suite: str
  name: str
  width: int
  ours: Cost | None
  peer: str = ""
  theirs: Cost | None = None
  limit_share: float | None = None
  compile_s: float | None = None
  target: Mapping[str, float] = dataclasses.field(default_factory=dict)
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def content(self) -> dict[str, Any]:
    """Returns the row as JSON values; `met` is None where a peer is missing."""
    ratio = self.theirs.wall / self.ours.wall if self.theirs and self.ours else None
    found = {**self.more, "ratio": ratio, "limit_share": self.limit_share}
    met = [_is_met(key, found[key], bound) for key, bound in self.target.items()]
    return {
      "suite": self.suite,
      "name": self.name,
      "width": self.width,
      "ours_s": self.ours.wall if self.ours else None,
      "ours_cpu_s": self.ours.cpu if self.ours else None,
      "peer": self.peer,
      "peer_s": self.theirs.wall if self.theirs else None,
      "peer_cpu_s": self.theirs.cpu if self.theirs else None,
      "compile_s": self.compile_s,
      **found,
      "target": ", ".join(_bound(*item) for item in self.target.items()),
      "met": False if False in met else None if None in met or not met else True,
      "missed": ", ".join(
        f"{key} {found[key]:.3g}"
        for key, is_met in zip(self.target, met, strict=True)
        if is_met is False
      ),
    }


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """Returns `Row.content`s as cells of a table, the header first."""
  header = ["name", "width", "ours s", "peer", "peer s", "ratio", "of limit", "target"]
  return [
    [*header, ""],
    *(
      [
        "; ".join([f"{row['suite']}: {row['name']}", *_said(row)]),
        str(row["width"]),
        _number(row["ours_s"]),
        row["peer"],
        _number(row["peer_s"]),
        _number(row["ratio"]),
        _number(row["limit_share"]),
        row["target"],
        _verdict(row),
      ]
      for row in rows
    ),
  ]


def now() -> Cost:
  """Returns the clocks of this process and its ended children."""
  used = [
    resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  ]
  return Cost(time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used))


def since(start: Cost, units: float = 1) -> Cost:
  """Returns the cost of one of the `units` of work done since `start`."""
  end = now()
  return Cost((end.wall - start.wall) / units, (end.cpu - start.cpu) / units)


def alternate(
  *calls: Callable[[], Any], seconds: float = 3.0, least: int = 3
) -> list[Cost]:
  """Returns the median cost of each call; they take turns, so noise falls on all.

  Args:
    *calls: what to time; each returns when its work is done, and is called once
      before, so that compilation and first allocations are not counted.
    seconds: how long to go on.
    least: least number of turns.
  """
  costs: list[list[Cost]] = [[] for _ in calls]
  for call in calls:
    call()
  start = time.perf_counter()
  while len(costs[-1]) < least or time.perf_counter() - start < seconds:
    for call, taken in zip(calls, costs, strict=True):
      begun = now()
      call()
      taken.append(since(begun))
  return [median(taken) for taken in costs]


def bandwidth(num_bytes: int = 2**28) -> float:
  """Returns the bytes a second that one core moves when it copies an array.

  Args:
    num_bytes: of the array; well above what caches hold.
  """
  source = np.ones(num_bytes, np.uint8)
  copy = np.empty_like(source)
  (cost,) = alternate(lambda: np.copyto(copy, source), seconds=1, least=3)
  return 2 * num_bytes / cost.wall  # each byte is read and written


@contextlib.contextmanager
def compilation() -> Iterator[list[float]]:
  """Yields the seconds of each compilation that JAX makes inside, in order."""
  seconds: list[float] = []

  def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    del kwargs
    if event == "/jax/core/compile/backend_compile_duration":
      seconds.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield seconds
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def matmul_precision() -> str:
  """Returns the precision of float32 products that JAX was set to."""
  config: Any = jax.config  # its settings are attributes that no type checker knows
  return str(config.jax_default_matmul_precision)


def median(costs: Sequence[Cost]) -> Cost:
  """Returns the median of each clock."""
  return Cost(*np.median(np.array(costs), axis=0).tolist())


def _is_met(key: str, value: float | None, bound: float) -> bool | None:
  if value is None:
    return None
  return value >= bound if _is_least(key) else value <= bound


def _bound(key: str, bound: float) -> str:
  return f"{key} {'≥' if _is_least(key) else '≤'} {bound:g}"


def _is_least(key: str) -> bool:
  return key in ("ratio", "limit_share")


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.3g}"


def _said(row: Mapping[str, Any]) -> list[str]:
  """What a row of no peer and no cost has to tell."""
  return [row["said"]] if "said" in row else []


def _verdict(row: Mapping[str, Any]) -> str:
  if row["met"] is None:
    return ""
  return "met" if row["met"] else f"missed: {row['missed']}"
