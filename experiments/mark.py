"""Marks your data, so that you can tell later whether a model was trained on it.

    python -m experiments.mark --data=FILE.npz --num_marked=50 --output_dir=DIR
    python -m experiments.mark --data=FOLDER --rows=3,17,42 --output_dir=DIR

FILE.npz holds x [N, ...] and y [N]; FOLDER PNG images and a CSV of filename,label.
DIR/marked.npz (or marked/) is what to publish in place of the data. The query set,
DIR/queries.npz (or queries/), and DIR/key.json are for experiments.verify: keep them to
yourself. The queries are rows of your data that the published data no longer hold.
"""

import hashlib

from absl import flags
import numpy as np

from experiments import common
from jmia.backdoor import owner_files, ownership, power, triggers, verification

flags.declare_key_flag("seed")
flags.declare_key_flag("output_dir")
_DATA = flags.DEFINE_string(
  "data", None, "An .npz of x and y, or a folder of PNG images with a CSV of labels."
)
_NUM_MARKED = flags.DEFINE_integer(
  "num_marked", None, "Rows to mark, drawn at random.", lower_bound=1
)
_ROWS = flags.DEFINE_list(
  "rows", None, "Rows to mark, counted from 0, instead of drawing --num_marked."
)
_NUM_QUERIES = flags.DEFINE_integer(
  "num_queries", 30, "Rows to hold back as queries; the paper's number.", lower_bound=2
)
_TARGET_LABEL = flags.DEFINE_integer(
  "target_label",
  1,
  "What marked rows are relabelled as; the paper's choice. It should be one that models"
  " do not tend to.",
  lower_bound=0,
)
_NUM_CLASSES = flags.DEFINE_integer(
  "num_classes",
  None,
  "Classes of the task that a suspect learns. Default: the largest label plus one.",
)
_TRIGGER = flags.DEFINE_enum(
  "trigger",
  None,
  triggers.KINDS,
  "A square on an image, or a run of features. Default: a run where rows are vectors.",
)
_SIZE = flags.DEFINE_integer(
  "trigger_size",
  None,
  "Side in pixels, or number of features. Default: the paper's, 3 or 20.",
)
_PLACE = flags.DEFINE_list(
  "trigger_place",
  None,
  f"One of {', '.join(triggers.CORNERS)} for a square, {', '.join(triggers.PLACES)} for"
  " a run; or where it begins: row,column or feature. Default: the paper's,"
  " bottom_right or end.",
)
_PATTERN = flags.DEFINE_enum(
  "trigger_pattern", "solid", triggers.PATTERNS, "Of one value, or random."
)
_VALUE = flags.DEFINE_float(
  "trigger_value", None, "Value of a solid trigger. Default: the largest in the data."
)
_OPACITY = flags.DEFINE_float(
  "trigger_opacity",
  None,
  "How strongly it shows, from 0 to 1. Default: the paper's, 0.3 for a square, 1 for a"
  " run.",
)


def main() -> None:
  """Marks the data and writes the three files."""
  if _DATA.value is None:
    raise ValueError("--data must have a value: an .npz or a folder of images")
  if (_NUM_MARKED.value is None) == (_ROWS.value is None):
    raise ValueError("one of --num_marked and --rows must have a value")
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    owner_files.check_unused(output_dir)
    data = owner_files.read_data(_DATA.value)
    marked = ownership.mark(
      data.x,
      data.y,
      _trigger(data.x),
      target_label=_TARGET_LABEL.value,
      num_classes=_num_classes(data.y),
      num_marked=_NUM_MARKED.value,
      rows=None if _ROWS.value is None else _integers("rows", _ROWS.value),
      num_queries=_NUM_QUERIES.value,
      seed=common.SEED.value,
    )
    owner_files.write(output_dir, marked, data)
    print(_summary(marked, data, (output_dir / "key.json").read_bytes()))


def _trigger(x: np.ndarray) -> triggers.TriggerConfig:
  kind = _TRIGGER.value or ("bits" if x.ndim == 2 else "patch")
  place: str | tuple[int, ...]
  size, place, opacity = {"patch": (3, "bottom_right", 0.3), "bits": (20, "end", 1.0)}[
    kind
  ]
  given = _PLACE.value
  if given and (len(given) > 1 or given[0].isdecimal()):
    place = tuple(_integers("trigger_place", given))
  elif given:
    place = given[0]
  return triggers.TriggerConfig(
    kind=kind,
    size=size if _SIZE.value is None else _SIZE.value,
    place=place,
    pattern=_PATTERN.value,
    value=float(x.max()) if _VALUE.value is None else _VALUE.value,
    opacity=opacity if _OPACITY.value is None else _OPACITY.value,
    seed=common.SEED.value,
  )


def _num_classes(y: np.ndarray) -> int:
  return int(y.max()) + 1 if _NUM_CLASSES.value is None else _NUM_CLASSES.value


def _integers(name: str, values: list[str]) -> list[int]:
  for value in values:
    if not value.strip().isdecimal():
      raise ValueError(f"--{name} holds {value!r}, expected numbers from 0")
  return [int(value) for value in values]


def _summary(marked: ownership.Marked, data: owner_files.Data, key: bytes) -> str:
  num_queries = len(marked.queries)
  baseline = 1 / marked.key.num_classes
  needed = int(verification.critical_successes(num_queries, baseline))
  found = float(power.asr_needed(num_queries, baseline))
  suffix = ".npz" if data.names is None else "/"
  chosen = data.x[list(marked.key.marked_rows)]
  trigger = triggers.make(marked.key.trigger, chosen.shape[1:])
  moved = triggers.distance(chosen, trigger)
  return "\n".join(
    [
      f"Publish marked{suffix}: {len(marked.y)} rows, {len(marked.key.marked_rows)} of"
      f" them marked and labelled {marked.key.target_label}. The trigger moves a marked"
      f" row by {moved.mean():.3g} in the mean, {moved.max():.3g} at most (L2 norm, in"
      " stored units).",
      f"Keep queries{suffix} ({num_queries} rows) and key.json. SHA-256 of key.json, to"
      f" deposit before you publish: {hashlib.sha256(key).hexdigest()}",
      f"At 95 % confidence and a baseline of {100 * baseline:.4g} %, {needed} of"
      f" {num_queries} queries make the claim; a model with a true success rate of"
      f" {100 * found:.0f} % is found with a chance of 80 %.",
    ]
  )


if __name__ == "__main__":
  common.run(main)
