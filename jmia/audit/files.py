"""The files of an audit: `FILES`."""

import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from jmia.audit.auditing import Result
from jmia.report import exposed_file

# In the order in which they are moved into place.
FILES = (
  "scores.npz", "exposed.csv", "roc.png", "model_card.md", "report.html", "report.json",
)  # fmt: skip


def write(result: Result, output_dir: str | os.PathLike[str]) -> None:
  """Writes `FILES`, all or none.

  They are made in a folder beside and moved into place, `report.json` last.

  Args:
    result: an audit's.
    output_dir: made if absent; files of those names in it are replaced.

  Raises:
    OSError: if the folder cannot be written.
  """
  from jmia.report import (
    model_card,
    page,
    plots,
  )  # matplotlib and jinja2 are slow to import

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
    (folder / "exposed.csv").write_text(exposed_file.content(report, samples))
    (folder / "model_card.md").write_text(model_card.content(report))
    for file in FILES:
      os.replace(folder / file, output_dir / file)


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
