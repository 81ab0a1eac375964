"""Audits of answers that exist already, as arrays, as a file or as a tool's folder."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import numpy as np

from jmia.attacks.evidence import Evidence
from jmia.audit import auditing, calibration, importers, signals_file
from jmia.audit import config as config_lib

Arrays = Mapping[str, Any]


def from_signals(
  signals: Arrays | str | os.PathLike[str],
  attacks: Sequence[str] = config_lib.DEFAULT_ATTACKS,
  *,
  target: str | None = None,
  outputs: str = "auto",
  groups: Sequence[str] = (),
  estimator: str | None = None,
  delta: float = 0.0,
  x: np.ndarray | None = None,
  seed: int = 0,
  title: str | None = None,
) -> auditing.Result:
  """Audits a model by answers that somebody else's models gave; trains nothing.

  The same as `jmia audit --signals`.

  Args:
    signals: the arrays of `signals_file.load` by name, in whatever holds numbers on the
      host; or the path of a file of them, or of another tool's folder
      (`importers.load`).
    attacks: names, with options if need be; those that lack something are named in the
      report's `missing`.
    target: of a folder, the model under audit, by name or number. Default: each in
      turn.
    outputs: one of `kinds.OUTPUTS`, what the answers are; told from them by default.
    groups: NAME of each array `group_NAME [N]` whose values' exposure is to be told
      beside that of each class.
    estimator: one of `nulls.METHODS` for all attacks. Default: each attack's own.
    delta: at which an epsilon is shown.
    x: `[N, ...]` features of the rows, if they are at hand: for copies of members and
      the blind baseline, which else looks at labels alone.
    seed: of the rows that are set apart to calibrate p-values.
    title: of the report.

  Raises:
    ValueError: names the array that is missing, misshapen, not finite or out of range;
      there is no such group, or a folder is asked for one; or as
      `auditing.from_evidence`.
    FileNotFoundError: there is no such file or folder.
  """
  if isinstance(signals, str | os.PathLike):
    source: Any = os.fspath(signals)
    evidence, notes = importers.load(signals, target, seed=seed, outputs=outputs)
    if groups and pathlib.Path(signals).expanduser().is_dir():
      raise ValueError(f"groups: {signals} is a folder, which has no columns")
  else:
    source = sorted(signals)
    evidence, notes = _of_arrays(signals, target, seed, outputs)
  result = auditing.from_evidence(
    evidence,
    attacks,
    estimator,
    {
      "signals": source,
      "target": target,
      "outputs": outputs,
      "seed": seed,
      "title": title,
    },
    delta=delta,
    x=x,
    groups=signals_file.groups(signals, groups) if groups else None,
  )
  result.report["notes"] = [*notes, *result.report["notes"]]
  return result


def _of_arrays(
  arrays: Arrays, target: str | None, seed: int, outputs: str
) -> tuple[list[Evidence], list[str]]:
  """As `importers.load` of a file that holds these arrays."""
  if target is not None:
    raise ValueError(f"target={target}, but arrays are of one target")
  whole = signals_file.from_arrays(arrays, outputs=outputs)
  evidence, notes = calibration.set_apart(whole, seed=seed)
  return [evidence], notes
