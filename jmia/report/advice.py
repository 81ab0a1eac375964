"""Which defences to try next: those that helped on such data in our own measurements.

Nothing is advised that was not measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jmia.report import wording


class Measured(NamedTuple):
  """What a defence did: AUC of the strongest of the attacks, and test accuracy."""

  defense: str
  what: str
  auc: float
  accuracy: float


class Study(NamedTuple):
  """Defences measured on one dataset, with the figures without any.

  Attributes:
    data: in words.
    runs: of the ledger, whose figures these are.
    without: the figures without a defence.
    helped: those of the defences that lowered the strongest attack.
    remark: on the others.
  """

  data: str
  runs: tuple[str, ...]
  without: Measured
  helped: Sequence[Measured]
  remark: str


class Advice(NamedTuple):
  """A defence, what it did there, and the command that tries it here, or ""."""

  defense: str
  sentence: str
  command: str


TABLES = Study(
  "purchase100_synthetic (generated rows of 600 bits, an MLP, 2,500 members)",
  (
    "classic-defenses-purchase100-synthetic",
    "classic-defenses-purchase100-synthetic-dp-sgd",
  ),
  Measured("", "", 0.914, 0.583),
  (
    Measured("bit_flip:0.1", "flips a tenth of the bits in training", 0.848, 0.757),
    Measured("noise:0.05", "adds noise to the answers", 0.809, 0.583),
    Measured("label_only", "answers with the class alone", 0.719, 0.583),
    Measured("stacking:3", "trains parts on parts of the data", 0.759, 0.460),
    Measured("dp_sgd:8", "trains with a privacy guarantee", 0.542, 0.102),
  ),
  "There mixup, dropout, label smoothing, top-k masking and strong L2 did not lower "
  "the strongest attack, whatever they did for accuracy.",
)
IMAGES = Study(
  "digits (8 x 8 pixels, a small CNN, 449 members)",
  ("classic-defenses-digits",),
  Measured("", "", 0.555, 0.935),
  (
    Measured("label_only", "answers with the class alone", 0.514, 0.935),
    Measured("dp_sgd:8", "trains with a privacy guarantee", 0.517, 0.439),
  ),
  "There nothing else helped by more than chance may explain; crop:1 came nearest, and "
  "early stopping and label smoothing did not lower the strongest attack.",
)


def of(report: wording.Report) -> tuple[Sequence[Advice], str]:
  """Returns what to try, and how far it holds; nothing where nothing was found.

  Args:
    report: as `report.json`; its dataset's `shape` says whether rows are images, and
      its `holds_bits` whether bits can be turned.
  """
  if wording.verdict(report).kind == "none":
    return (), ""
  about = report.get("dataset") or {}
  study = IMAGES if len(about.get("shape", ())) == 3 else TABLES
  has_bits = about.get("holds_bits", False)
  before = study.without
  found = [
    Advice(
      one.defense,
      f"{one.what}: the strongest attack's AUC {before.auc:.3f} → {one.auc:.3f}, test "
      f"accuracy {before.accuracy:.3f} → {one.accuracy:.3f}.",
      _command(report.get("config", {}), one.defense),
    )
    for one in study.helped
    if has_bits or not one.defense.startswith("bit_flip")
  ]
  caveat = (
    f"Measured on {study.data}, with attackers who know the defence. {study.remark} "
    "Other data may answer otherwise: audit again with the defence, and compare."
  )
  if any(one.command for one in found):
    caveat += " In the commands FOLDER is this report's, and NEW another one."
  return found, caveat


def _command(config: Mapping[str, Any], defense: str) -> str:
  """As one pastes it; "" for a model that jmia did not train, and so cannot again."""
  if "train" not in config or config.get("model") == "black box":
    return ""
  return f"jmia audit --repeat=FOLDER/report.json --defense={defense} --output_dir=NEW"
