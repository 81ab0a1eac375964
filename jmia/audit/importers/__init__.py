"""Evidence from files and folders of other tools, told apart by what they hold."""

from collections.abc import Callable
import os
import pathlib

from jmia.attacks.evidence import Evidence
from jmia.audit import calibration, counts, signals_file
from jmia.audit.importers import leakpro, lira, privacy_meter
from jmia.audit.importers.cohort import Cohort

# Layout -> whether a folder has it, and its reader.
_LAYOUTS: dict[
  str, tuple[Callable[[pathlib.Path], bool], Callable[[pathlib.Path], Cohort]]
] = {
  lira.LAYOUT: (lira.is_it, lira.load),
  privacy_meter.LAYOUT: (privacy_meter.is_it, privacy_meter.load),
  leakpro.LAYOUT: (leakpro.is_it, leakpro.load),
}


def load(
  path: str | os.PathLike[str],
  target: str | None = None,
  *,
  seed: int = 0,
  outputs: str = "auto",
) -> tuple[list[Evidence], list[str]]:
  """Reads what a tool stored of the answers of its models.

  Args:
    path: a signals file (`signals_file.load`), or a folder of many models' answers:
      `lira.load`, `privacy_meter.load`.
    target: of a folder, the model under audit, by name or number; it is compared with
      all others. Default: each in turn.
    seed: of the rows that are set apart to calibrate p-values.
    outputs: what answers are, as `signals_file.load` takes it.

  Returns:
    The evidence of each target, and notes for the reader of the report.

  Raises:
    ValueError: says what is missing or misshapen, or that the layout is not known.
    FileNotFoundError: there is no such file or folder.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_dir():
    if target is not None:
      raise ValueError(f"target={target}, but {path} is a file, of one target")
    whole = signals_file.load(path, outputs=outputs)
    evidence, notes = calibration.set_apart(whole, seed=seed)
    return [evidence], notes
  if outputs != "auto":
    raise ValueError(f"outputs={outputs}, but {path} is a folder, whose layout says it")
  for is_it, read in _LAYOUTS.values():
    if is_it(path):
      cohort = read(path)
      try:
        of_targets = cohort.evidence(target, seed=seed)
        held = cohort.held
        of_counts = [counts.NOTE] if counts.are_balanced(held[1:], held[0]) else []
        return of_targets, [*cohort.notes, *of_counts]
      except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
  known = "; ".join(_LAYOUTS)
  raise ValueError(f"{path} is a folder of no known layout, expected one of: {known}")
