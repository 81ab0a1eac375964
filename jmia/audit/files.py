"""The files of an audit: `FILES`."""

import json
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np

from jmia import atomic, locks
from jmia.audit.auditing import Result
from jmia.report import exposed_file

_NUMBERS = ("scores.npz", "report.json")
_DRAWN = ("exposed.csv", "roc.png", "model_card.md", "report.html")
FILES = (*_NUMBERS, *_DRAWN)


def write(result: Result, output_dir: str | os.PathLike[str]) -> None:
  """Writes `FILES`, each whole.

  The numbers come first, and `report.json` once more last: what cannot be made is a
  note in it, and its file is absent. What killed runs left half-written is removed.

  Args:
    result: an audit's.
    output_dir: made if absent; files of those names in it are replaced.

  Raises:
    ValueError: another process, or another thread, writes there.
    OSError: if the folder cannot be written.
  """
  output_dir = pathlib.Path(output_dir)
  output_dir.mkdir(parents=True, exist_ok=True)
  with locks.held(output_dir):
    atomic.remove_left(output_dir)
    _write(result, output_dir)


def _write(result: Result, output_dir: pathlib.Path) -> None:
  """Writes into a folder that is held."""
  with atomic.folder(output_dir) as folder:
    np.savez(folder / "scores.npz", **arrays(result))
    _write_report(folder, result.report)
    for file in _DRAWN:  # an earlier audit's do not go with these numbers
      (output_dir / file).unlink(missing_ok=True)
    atomic.move(folder, output_dir, _NUMBERS)
    report = result.report
    for file in _DRAWN:
      report = _drawn(file, folder, report, result)
      if (folder / file).exists():
        atomic.move(folder, output_dir, [file])
    if report is not result.report:
      _write_report(folder, report)
      atomic.move(folder, output_dir, ["report.json"])


def _drawn(
  file: str, folder: pathlib.Path, report: dict[str, Any], result: Result
) -> dict[str, Any]:
  """Makes a file; returns the report, with a note if it could not be made."""
  # matplotlib and jinja2 are slow to import
  from jmia.report import model_card, page, plots

  samples, path = result.samples, folder / file
  make = {
    "exposed.csv": lambda: path.write_text(
      exposed_file.content(report, samples), "utf-8"
    ),
    "roc.png": lambda: plots.write_roc(path, report, samples),
    "model_card.md": lambda: path.write_text(model_card.content(report), "utf-8"),
    "report.html": lambda: page.write(path, report, samples),
  }
  try:
    make[file]()
  except OSError:
    raise  # a full disk: the numbers are written
  except Exception as error:  # whatever a plot dies of, hours of training stand
    logging.warning("%s could not be made", file, exc_info=error)
    path.unlink(missing_ok=True)
    why = f"{file} could not be made ({type(error).__name__}: {error})"
    return {**report, "notes": [*report.get("notes", []), why]}
  return report


def _write_report(folder: pathlib.Path, report: dict[str, Any]) -> None:
  content = json.dumps(report, indent=2, allow_nan=False)
  (folder / "report.json").write_text(content + "\n", "utf-8")


def arrays(result: Result) -> dict[str, Any]:
  """Returns the arrays of `scores.npz`.

  They are the first target's; with `T` targets `target_index`, `target_members` and
  `target_score_NAME` `[T, N]` hold all of them.
  """
  samples = result.samples
  found: dict[str, Any] = {
    "index": samples.index,
    "members": samples.members,
    "labels": samples.labels,
    "loss": samples.loss,
  }
  found |= {f"score_{attack}": score for attack, score in samples.scores.items()}
  found |= {f"p_{attack}": p for attack, p in samples.p_values.items()}
  found |= {f"q_{attack}": q for attack, q in samples.q_values.items()}
  if len(result.targets) > 1:
    found["target_index"] = np.stack([each.index for each in result.targets])
    found["target_members"] = np.stack([each.members for each in result.targets])
    for attack in samples.scores:
      scores = [each.scores[attack] for each in result.targets]
      found[f"target_score_{attack}"] = np.stack(scores)
  return found
