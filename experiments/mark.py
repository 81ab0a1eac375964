r"""Marks your data, so that you can tell later whether a model was trained on it.

    python -m experiments.mark --data=FILE.npz --num_marked=50 --output_dir=DIR
    python -m experiments.mark --data=FOLDER --rows=3,17,42 --output_dir=DIR
    python -m experiments.mark --data='table:FILE.csv?target=NAME' --num_marked=50 ...
    python -m experiments.mark --plan --num_marked=20 --num_classes=10 --asr=0.5
    python -m experiments.mark --data=... --num_marked=50 --output_dir=DIR --commit
    python -m experiments.mark --data=... --output_dir=DIR \
        --prepared=DIR/secret.json --nonce=NONCE

FILE.npz holds x [N, ...] and y [N], labels integers or text; FOLDER images and a CSV of
filename,label, or a folder of images for each class; FILE.csv a table, or Parquet,
which keeps its schema, in which marked rows get cells that others have
(&ignore=NAME,NAME leaves columns as they are). PNG and JPEG stay what they are, a JPEG
at its quality, but all are encoded anew: what else the files held (EXIF, dates) is
gone, and in folders of classes so are their names. A few sub-marks are made, each with
a trigger and a label that a secret draws; the secret is the operating system's entropy.
--plan marks nothing: it says what a number of marked rows is good for. Audio and text
cannot be marked.

DIR/marked.npz (or .csv, .parquet, or marked/) is what to publish in place of the data.
The query set, DIR/queries.npz (or likewise), and DIR/key.json are for
experiments.verify: keep them to yourself. The queries are rows of your data that the
published data no longer hold.

Nothing shows then that the secret was not chosen among many that were tried: the one
whose labels models of one's own give to its marks accuses other people's models many
times as often as the level says. --commit closes that. It marks nothing yet: it draws
the secret, the triggers and the queries, writes them to DIR/secret.json and prints a
commitment. Publish it with a date, and with it which text NONCE will be: one that
becomes known later and that nobody can foresee or choose, such as a round of a public
beacon, a newspaper's headline, a long number that whoever will judge draws. --prepared
with --nonce marks the same data, with labels that secret and nonce draw; the same
command writes the same files again. experiments.verify then takes --nonce and
--commitment. The level is of one commitment and one nonce: who has several makes as
many tries. --paper_mark has no nonce: its label is chosen, not drawn.
"""

import dataclasses
import hashlib
import pathlib
import sys
from typing import Any

from absl import flags
import numpy as np

from jmia.backdoor import classes as classes_lib
from jmia.backdoor import (
  draws,
  owner,
  owner_files,
  paper_mark,
  randomization,
  submarks,
  triggers,
)

from . import (
  claim_flags,
  common_flags,
  launch,
  mark_summary,
  nonce_flags,
  planning,
  run_folder,
  shared_flags,
)

flags.declare_key_flag("seed")
flags.declare_key_flag("output_dir")
flags.declare_key_flag("num_queries")
flags.adopt_module_key_flags(claim_flags)
flags.declare_key_flag("prepared")
flags.declare_key_flag("nonce")
_DATA = flags.DEFINE_string(
  "data",
  None,
  "An .npz of x and y, a folder of images with their labels, or"
  " table:PATH?target=NAME, a CSV or Parquet file.",
)
_NUM_MARKED = flags.DEFINE_integer(
  "num_marked", None, "Rows to mark, drawn at random.", lower_bound=1
)
_ROWS = flags.DEFINE_list(
  "rows", None, "Rows to mark, counted from 0, instead of drawing --num_marked."
)
_NUM_SUBMARKS = flags.DEFINE_integer(
  "num_submarks",
  None,
  "Triggers with a label each. No p-value is below 1 / classes ^ this. Default: as few"
  " as bring that to a fifth of 1 - confidence, or fewer where rows are.",
  lower_bound=1,
)
_NUM_CLASSES = flags.DEFINE_integer(
  "num_classes",
  None,
  "Classes of the task that a suspect learns. Default: those that occur.",
)
_PAPER_MARK = flags.DEFINE_bool(
  "paper_mark",
  False,
  "One mark at a fixed place with --target_label, as in the paper. Its verdict rests on"
  " an assumption about the suspect.",
)
_TARGET_LABEL = flags.DEFINE_integer(
  "target_label",
  None,
  "With --paper_mark: what marked rows are relabelled as. Default: 1, the paper's.",
  lower_bound=0,
)
_PLAN = flags.DEFINE_bool(
  "plan", False, "Say what --num_marked rows are good for, and mark nothing."
)
_COMMIT = flags.DEFINE_bool(
  "commit",
  False,
  "Write what will be marked but the labels, and print a commitment to publish before"
  " --nonce is known; mark nothing yet.",
)
_ASR = flags.DEFINE_float(
  "asr",
  None,
  "With --plan: share of marked queries that a model trained on the data answers with"
  " the label. Default: a few, to choose from.",
)
_TRIGGER = flags.DEFINE_enum(
  "trigger",
  None,
  triggers.KINDS,
  "A square on an image, a run of features, or columns of a table, each set to a value"
  " that it has. Default: columns where rows are vectors.",
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
  " a run; or where it begins: row,column or feature. With --paper_mark, by default"
  " the paper's, bottom_right or end; else places are drawn.",
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

# What a commitment binds, so --prepared says it.
_OF_PREPARED = (
  *("num_marked", "rows", "num_submarks", "num_queries", "num_classes", "paper_mark"),
  *("target_label", "trigger", "trigger_size", "trigger_place", "trigger_pattern"),
  *("trigger_value", "trigger_opacity", "seed", "commit"),
)
# How a trigger of one value or pattern looks; a column has values of its own.
_OF_LOOK = ("trigger_pattern", "trigger_value", "trigger_opacity")
_OF_MARKING = (
  *("data", "rows", "output_dir", "seed", "paper_mark", "target_label", "trigger"),
  *("trigger_size", "trigger_place", *_OF_LOOK, "commit", "prepared", "nonce"),
)


def main() -> None:
  """Marks the data and writes the three files, or plans, or commits."""
  if _PLAN.value:
    common_flags.refuse(_OF_MARKING, "is not read with --plan, which marks nothing")
    print(_planned())
    return
  path = _checked_data()
  with run_folder.owner_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    if nonce_flags.PREPARED.value is None:
      owner_files.check_unused(output_dir)
    data = owner_files.read_data(path)
    for note in data.notes:
      print(f"mark: {note}", file=sys.stderr)
    said = (_commit if _COMMIT.value else _mark)(output_dir, data)
  print(said)


def _checked_data() -> str:
  """Returns where the data are, if the flags go together."""
  common_flags.refuse(["asr"], "is for --plan")
  if _DATA.value is None:
    raise ValueError(
      "--data must have a value: an .npz, a folder of images, or table:PATH?target=NAME"
    )
  is_committed = nonce_flags.PREPARED.value is not None
  if is_committed != (nonce_flags.NONCE.value is not None):
    raise ValueError("--prepared and --nonce need each other")
  if is_committed:
    common_flags.refuse(_OF_PREPARED, "is not read with --prepared, which says it")
  elif (_NUM_MARKED.value is None) == (_ROWS.value is None):
    raise ValueError("one of --num_marked and --rows must have a value")
  if common_flags.OUTPUT_DIR.value:  # before it is made there
    owner_files.check_apart(common_flags.OUTPUT_DIR.value, _DATA.value)
  if _COMMIT.value:
    common_flags.refuse(
      ["paper_mark"], "is not for --commit: its label is the owner's choice, not drawn"
    )
  return str(_DATA.value)


def _commit(output_dir: pathlib.Path, data: owner_files.Data) -> str:
  """Writes what is committed to, and returns what to tell of it."""
  committed = owner.commit(data.x, data.y, **_options(data))
  prepared = owner_files.in_files(committed.prepared, data)
  owner_files.write_prepared(output_dir, prepared)
  path, confidence = output_dir / owner_files.PREPARED, claim_flags.CONFIDENCE.value
  return mark_summary.of_commitment(prepared, data, path, confidence)


def _mark(output_dir: pathlib.Path, data: owner_files.Data) -> str:
  """Writes the marked data, the queries and the key, and returns what to tell."""
  marked = _marked(data)
  marked = marked._replace(key=owner_files.write(output_dir, marked, data))  # type: ignore[arg-type]
  key = hashlib.sha256((output_dir / "key.json").read_bytes()).hexdigest()
  return mark_summary.text(marked, data, key, claim_flags.CONFIDENCE.value)


def _marked(data: owner_files.Data) -> submarks.Marked | paper_mark.Marked:
  """The data with what was committed to, with sub-marks or with one mark."""
  if _PAPER_MARK.value:
    return _one_mark(data)
  path = nonce_flags.PREPARED.value
  if path is None:
    return owner.mark(data.x, data.y, **_options(data))
  prepared = owner_files.read_prepared(path)
  try:
    prepared = owner_files.in_arrays(prepared, data)
  except ValueError as error:
    raise ValueError(f"--data={_DATA.value} with {path}: {error}") from error
  return owner.mark(data.x, data.y, prepared=prepared, nonce=nonce_flags.NONCE.value)


def _options(data: owner_files.Data) -> dict[str, Any]:
  """What `owner.mark` and `owner.commit` are told of sub-marks."""
  common_flags.refuse(
    ["target_label", "trigger_place"],
    "is for --paper_mark: the key's secret draws labels and places",
  )
  kind = _kind(data)
  if kind == "columns" and data.x.ndim > 2:
    raise ValueError("trigger=columns is of tables: rows of vectors, not of images")
  return {
    "num_marked": _NUM_MARKED.value,
    "rows": None if _ROWS.value is None else _integers("rows", _ROWS.value),
    "trigger": None if kind == "columns" else _trigger(data.x, kind),
    "num_columns": _SIZE.value if kind == "columns" else None,
    "num_submarks": _NUM_SUBMARKS.value,
    "num_queries": shared_flags.NUM_QUERIES.value,
    "num_classes": _NUM_CLASSES.value,
    "secret": _secret(data),
    "confidence": claim_flags.CONFIDENCE.value,
    "say": lambda note: print(f"mark: {note}", file=sys.stderr),
  }


def _number(num_classes: int, num_marked: int) -> int:
  """Of sub-marks: the one asked for, or what suits the number of rows."""
  if _NUM_SUBMARKS.value is not None:
    return int(_NUM_SUBMARKS.value)
  return randomization.default_num_submarks(
    num_classes, num_marked, claim_flags.CONFIDENCE.value
  )


def _secret(data: owner_files.Data) -> str:
  """The operating system's entropy, or what a seed was asked for."""
  if not flags.FLAGS["seed"].present:
    return draws.new_secret()
  print(
    "mark: --seed repeats the marks: whoever has the seed and your data has them too."
    " Leave it out where the key must be secret.",
    file=sys.stderr,
  )
  return draws.seeded_secret(common_flags.SEED.value, data.fingerprint())


def _one_mark(data: owner_files.Data) -> paper_mark.Marked:
  """The data with the paper's mark."""
  common_flags.refuse(["num_submarks"], "is not for --paper_mark, which makes one mark")
  common_flags.refuse(
    ["confidence"], "is not read with --paper_mark, whose outlook is of 95 %"
  )
  kind = _kind(data)
  if kind == "columns":
    common_flags.refuse(
      ["trigger_place"], "is not read with columns, which are the last of the table"
    )
  print(
    "mark: --paper_mark is one mark that others may have too, with a label that you"
    " chose: its verdict assumes that a model which never saw it gives that label to"
    " one query in as many as there are classes.",
    file=sys.stderr,
  )
  return paper_mark.mark(
    data.x,
    data.y,
    _columns_at_end(data.x) if kind == "columns" else _trigger(data.x, kind),
    target_label=1 if _TARGET_LABEL.value is None else _TARGET_LABEL.value,
    num_classes=_num_classes(data.y),
    num_marked=_NUM_MARKED.value,
    rows=None if _ROWS.value is None else _integers("rows", _ROWS.value),
    num_queries=30
    if shared_flags.NUM_QUERIES.value is None
    else shared_flags.NUM_QUERIES.value,
    seed=common_flags.SEED.value,
  )


def _kind(data: owner_files.Data) -> str:
  """Of trigger: the one asked for, or what suits the data."""
  x, is_table = data.x, data.table is not None
  is_bits = not is_table and x.ndim <= 2 and bool(((x == 0) | (x == 1)).all())
  kind = "bits" if _PAPER_MARK.value and is_bits else "columns"
  kind = str(_TRIGGER.value or ("patch" if x.ndim > 2 else kind))
  if is_table and kind != "columns":
    raise ValueError(f"trigger={kind} is not of tables, whose trigger is columns")
  if kind == "columns":
    common_flags.refuse(
      _OF_LOOK, "is not read with columns, each of which is set to a value that it has"
    )
  return kind


def _columns_at_end(x: np.ndarray) -> triggers.TriggerConfig:
  """The paper's run of 20, each column at its own largest value."""
  size = triggers.PAPER["bits"].size if _SIZE.value is None else _SIZE.value
  if x.ndim != 2 or size > x.shape[1]:
    raise ValueError(f"size={size} does not fit an example of shape {x.shape[1:]}")
  place = range(x.shape[1] - size, x.shape[1])
  values = tuple(x[:, column].max().item() for column in place)
  return triggers.TriggerConfig(
    kind="columns", size=size, place=tuple(place), values=values
  )


def _trigger(x: np.ndarray, kind: str) -> triggers.TriggerConfig:
  paper = triggers.PAPER[kind]
  place, given = paper.place, _PLACE.value
  if _OPACITY.value == 0:
    raise ValueError("trigger_opacity=0 must be above 0: it would not show, and mark")
  if given and (len(given) > 1 or given[0].isdecimal()):
    place = tuple(_integers("trigger_place", given))
  elif given:
    place = given[0]
  return dataclasses.replace(
    paper,
    size=paper.size if _SIZE.value is None else _SIZE.value,
    place=place,
    pattern=_PATTERN.value,
    value=float(x.max()) if _VALUE.value is None else _VALUE.value,
    opacity=paper.opacity if _OPACITY.value is None else _OPACITY.value,
    seed=common_flags.SEED.value,
  )


def _num_classes(y: np.ndarray) -> int:
  """Of the paper's mark, whose labels are 0 to K - 1."""
  if _NUM_CLASSES.value is not None:
    return int(_NUM_CLASSES.value)
  occurring = np.unique(y).tolist()
  if occurring != [*range(len(occurring))]:
    raise ValueError(
      f"{len(occurring)} classes occur, {classes_lib.listed(occurring)}, and with gaps"
      f" there are {np.max(y) + 1 if y.dtype.kind in 'iu' else 'as many'}: say which by"
      " --num_classes with labels from 0, or leave out --paper_mark"
    )
  return len(occurring)


def _integers(name: str, values: list[str]) -> list[int]:
  for value in values:
    if not value.strip().isdecimal():
      raise ValueError(f"--{name} holds {value!r}, expected numbers from 0")
  return [int(value) for value in values]


def _planned() -> str:
  """What can be expected of so many marked rows."""
  if _NUM_MARKED.value is None or _NUM_CLASSES.value is None:
    raise ValueError("--plan needs --num_marked and --num_classes")
  num_marked, num_classes = _NUM_MARKED.value, _NUM_CLASSES.value
  number = _number(num_classes, num_marked)
  return planning.text(
    planning.Plan(
      num_marked=num_marked,
      num_classes=num_classes,
      num_submarks=number,
      num_queries=shared_flags.NUM_QUERIES.value
      or submarks.default_num_queries(number),
      confidence=claim_flags.CONFIDENCE.value,
    ),
    _ASR.value,
  )


if __name__ == "__main__":
  launch.run(main)
