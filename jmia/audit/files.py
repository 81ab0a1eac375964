"""The files of an audit: `report.json`, `scores.npz`, `roc.png` and `report.html`."""

import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from jmia.audit.auditing import Result


def write(result: Result, output_dir: str | os.PathLike[str]) -> None:
  """Writes `report.json`, `scores.npz`, `roc.png` and `report.html`, all or none.

  They are made in a folder beside and moved into place, `report.json` last.

  Args:
    result: an audit's.
    output_dir: made if absent; files of those names in it are replaced.

  Raises:
    OSError: if the folder cannot be written.
  """
  from jmia.report import page, plots  # matplotlib and jinja2 are slow to import

  report, samples = result.report, result.samples
  output_dir = pathlib.Path(output_dir)
  output_dir.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=output_dir, prefix=".incomplete-") as name:
    folder = pathlib.Path(name)
    content = json.dumps(report, indent=2, allow_nan=False)
    (folder / "report.json").write_text(content + "\n")
    np.savez(folder / "scores.npz", **arrays(result))
    plots.write_roc(folder / "roc.png", report, samples)
    page.write(folder / "report.html", report, samples)
    for file in ("scores.npz", "roc.png", "report.html", "report.json"):
      os.replace(folder / file, output_dir / file)


def arrays(result: Result) -> dict[str, Any]:
  """Returns the arrays of `scores.npz`.

  They are the first target's; with `T` targets, which are attacked on the same samples,
  `target_members` and `target_score_NAME` `[T, N]` hold all of them.
  """
  samples = result.samples
  found: dict[str, Any] = {
    "index": samples.index,
    "members": samples.members,
    "labels": samples.labels,
    "loss": samples.loss,
  }
  found |= {f"score_{attack}": score for attack, score in samples.scores.items()}
  if len(result.targets) > 1:
    found["target_members"] = np.stack([each.members for each in result.targets])
    for attack in samples.scores:
      scores = [each.scores[attack] for each in result.targets]
      found[f"target_score_{attack}"] = np.stack(scores)
  return found
