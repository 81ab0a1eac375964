"""`exposed.csv`: every audited sample, with what the attacks say of it."""

import csv
import io
from typing import Any

import numpy as np

from jmia.report import wording
from jmia.report.samples import Samples
from jmia.stats import roc

_ROUNDED = "%.6g"


def content(report: wording.Report, samples: Samples) -> str:
  """Returns the file: members first, and of either kind the most exposed first.

  The columns `score`, `p_value` and `q_value` are of the attack that is best at few
  false positives (`wording.sharpest`), by whose score samples are ranked; those of
  every attack follow by name. What was not measured is empty.

  Args:
    report: as `report.json`.
    samples: the evaluated samples.
  """
  attack = wording.sharpest(report)
  columns = _columns(report, samples, attack)
  rank = columns["rank"]
  order = np.lexsort((samples.index, np.nan_to_num(rank, nan=np.inf), ~samples.members))
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  for n in order.tolist():
    writer.writerow(_shown(values[n]) for values in columns.values())
  return text.getvalue()


def _columns(
  report: wording.Report, samples: Samples, attack: str | None
) -> dict[str, np.ndarray]:
  """Title -> `[N]` values, in the file's order."""
  nothing = np.full(len(samples.loss), np.nan)
  scores = samples.scores[attack] if attack else nothing
  q = samples.q_values.get(attack, nothing) if attack else nothing
  names = np.array([samples.class_name(label) for label in samples.labels])
  columns: dict[str, np.ndarray] = {
    "rank": roc.places(scores),
    "index": samples.index,
    "class": names,
    "member": samples.members,
    "score": scores,
    "p_value": samples.p_values.get(attack, nothing) if attack else nothing,
    "q_value": q,
  }
  if "found" in report:
    columns["found"] = q <= report["found"]["at_q"]
  columns["loss"] = samples.loss
  if samples.predicted is not None:
    answered = [samples.class_name(label) for label in samples.predicted]
    columns["predicted"] = np.array(answered)
  if samples.correct is not None:
    columns["correct"] = samples.correct
  for given in (samples.columns, samples.groups):
    columns |= {name: values for name, values in given.items() if name not in columns}
  for name in report["attacks"]:
    columns[f"score_{name}"] = samples.scores[name]
    for kind, of_attack in (("p", samples.p_values), ("q", samples.q_values)):
      if name in of_attack:
        columns[f"{kind}_{name}"] = of_attack[name]
  return columns


def _shown(value: Any) -> Any:
  """A cell: whole numbers as such, others to six digits, and 1 for yes."""
  if isinstance(value, (bool, np.bool_)):
    return int(value)
  if isinstance(value, (float, np.floating)):
    value = float(value)
    if np.isnan(value):
      return ""
    is_whole = abs(value) < 1e15 and value == round(value)
    return int(value) if is_whole else _ROUNDED % value
  return value
