r"""Robust membership encoding: the studies of Song and Shokri.

    python -m experiments.membership_encoding --output_dir=DIR               # digits
    python -m experiments.membership_encoding --output_dir=DIR --setup=mnist_mlp \
        --study=whitebox --data_dir=TFDS

Training code that encodes tells its holder of a key, from the published model alone,
which of a chosen part of the training rows were members. Studies:

    whitebox        accuracy, and the encoding in a hidden layer (table 2)
    blackbox        the same in the model's outputs (table 4)
    amount          how many rows are encoded (table 3)
    capacity        how large the model is (figure 3)
    losses          losses of each group by epoch (figures 2 and 4)
    projection      activations and outputs in the plane (figures 5 and 6)
    redaction       images with a part blacked out (tables 5 and 6)
    pruning         weights set to zero (figure 7)
    transfer        tuned on another task (figure 8)
    reconstruction  missing bits of a record (section 3.1)
    hybrid          sensitive attributes hidden in the model (section 3.1)
    watermark       how often false claims of ownership are accepted (section 3.2)

DIR/results.json holds a row for each trial and variant, with the paper's figures beside
it, and DIR/STUDY.png the plot. With --models_dir models are kept, and studies of the
same settings use them again. A run that was interrupted goes on where it was.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import TYPE_CHECKING, Any

from absl import flags
import numpy as np

from jmia import atomic, datasets, types
from jmia.datasets import clusters
from jmia.defenses import registry
from jmia.encoding import record_studies, settings, studies, trials
from jmia.report import encoding_plots, plots, results

from . import (
  bars,
  common_flags,
  defense_flags,
  encoding_flags,
  launch,
  run_folder,
  study_flags,
  training_flags,
)

if TYPE_CHECKING:
  from matplotlib import figure

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(study_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(encoding_flags)
flags.adopt_module_key_flags(defense_flags)
_SETUP = flags.DEFINE_enum(
  "setup", "digits", list(settings.SETUPS), "Dataset, model and rates of the paper."
)
_FORM = flags.DEFINE_enum(
  "form",
  None,
  ["whitebox", "blackbox"],
  "Where the encoding is. Default: whitebox, but in the study blackbox.",
)
_MODELS_DIR = flags.DEFINE_string(
  "models_dir", None, "Folder where trained models are kept for other studies."
)
_NUM_TEST = flags.DEFINE_integer(
  "num_test", None, "Rows to tell members from. Default: the paper's.", lower_bound=2
)
_NUM_SYNTHETIC = flags.DEFINE_integer(
  "num_synthetic", None, "Synthetic rows of each kind. Default: 500.", lower_bound=1
)
_DISCRIMINATOR_STEPS = flags.DEFINE_integer(
  "discriminator_steps",
  None,
  "Steps of the encoding for each of the classifier's: the paper's k, of which it says"
  " nothing; more is stronger. Default: 1.",
  lower_bound=1,
)
_ENCODED_SHARE = flags.DEFINE_float(
  "encoded_share", None, "Share of the members to encode. Default: the paper's, 0.2."
)
_AMOUNTS = flags.DEFINE_list(
  "amounts", None, "Shares to encode in the study amount. Default: the paper's."
)
_TRANSFER_TO = flags.DEFINE_string(
  "transfer_to", None, "Images to tune on. Default: stl10 for cifar10."
)
_NUM_CLAIMS = flags.DEFINE_integer(
  "num_claims", 1000, "False claims of each kind on each model.", lower_bound=99
)

_STUDIES: Mapping[str, Callable[[trials.Context], list[studies.Row]]] = {
  **studies.STUDIES,
  "reconstruction": record_studies.reconstructed,
  "hybrid": record_studies.hybrids,
  "watermark": lambda context: record_studies.calibrated(context, _NUM_CLAIMS.value),
  "transfer": lambda context: studies.transferred(context, _target(context)),
}
# What only one study reads.
_OF_STUDY = {
  "amount": ("amounts",), "transfer": ("transfer_to",), "watermark": ("num_claims",)
}  # fmt: skip
_OF_ONE_TRIAL = ("projection", "watermark")
_NAMES = (*_STUDIES, "projection")
# What is plotted of a study: horizontal axis, quantities, what tells lines apart.
_CURVES: Mapping[str, tuple[str, Sequence[str], str]] = {
  "amount": ("num_encoded", ("auc", "test_accuracy"), "form"),
  "capacity": ("width", ("auc", "test_accuracy"), "form"),
  "losses": ("epoch", ("encoded_loss", "other_loss", "test_loss", "encoding_loss"), ""),
  "pruning": ("share", ("auc", "test_accuracy"), "method"),
  "transfer": ("epoch", ("auc", "target_accuracy"), "form"),
  "reconstruction": ("num_missing", ("top1",), "records"),
  "hybrid": ("hash_bits", ("recovered", "false_recoveries"), "way"),
  "redaction": ("share_removed", ("auc",), "part"),
}
# Of a study that varies nothing: what is shown of each trial.
_FIGURES = ("baseline_accuracy", "test_accuracy", "precision", "recall", "auc")
# Columns of the terminal's table, of those that a study has.
_COLUMNS = (
  "num_encoded", "width", "mask", "method", "share", "epoch", "records", "num_missing",
  "hash_bits", "way", "model", "claim", "baseline_accuracy", "test_accuracy",
  "target_accuracy", "precision", "recall", "auc", "top1", "chance", "recovered",
  "wrongly_recovered", "false_recoveries", "mean_share", "p_value_at_0.01",
  "p_value_at_0.05",
)  # fmt: skip
_VARIED = _COLUMNS[:12]


def main() -> None:
  """Runs a study, and writes its rows and plots."""
  started = time.perf_counter()
  study = study_flags.STUDY.value or "whitebox"
  if study not in _NAMES:
    raise ValueError(f"study={study} is unknown, expected one of {', '.join(_NAMES)}")
  common_flags.refuse_of_others("study", study, _OF_STUDY)
  if study in _OF_ONE_TRIAL:
    common_flags.refuse(
      ["num_trials"], f"is not read with --study={study}, of one trial"
    )
  if study == "amount":
    common_flags.refuse(
      ["encoded_share"], "is not read with --study=amount: give --amounts"
    )
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    setup = _setup()
    with bars.shown() as progress:
      context = _context(study, setup, output_dir, progress)
      loaded = time.perf_counter()
      if study == "projection":
        rows = _project(output_dir, context)
      else:
        rows = _STUDIES[study](context)
    shown = _trained(rows)
    if study != "projection":
      plots.write_png(output_dir / f"{study}.png", _drawn(study, shown))
    notes = [*registry.notes(setup.defenses, setup.train), *_notes(rows)]
    content = results.document(
      rows,
      config={
        "setup": _SETUP.value,
        **dataclasses.asdict(setup),
        "data": context.dataset.description,
        "study": study,
        "form": context.form,
        "num_trials": context.num_trials,
      },
      seed=common_flags.SEED.value,
      seconds={
        "load": loaded - started,
        "study": time.perf_counter() - loaded,
        "total": time.perf_counter() - started,
      },
      notes=notes,
    )
    results.write(output_dir / "results.json", content)
  print("\n".join([results.table(_table(shown)), *notes]))
  print(f"\nThe rows are in {output_dir / 'results.json'}")


def _setup() -> settings.Setup:
  """The setup that was asked for, with the settings that were given as flags."""
  setup = settings.SETUPS[_SETUP.value]
  given: dict[str, Any] = {
    "train": training_flags.override(setup.train),
    "dataset": common_flags.DATASET.value,
    "num_members": training_flags.NUM_MEMBERS.value,
    "num_test": _NUM_TEST.value,
    "num_synthetic": _NUM_SYNTHETIC.value,
    "encoded_share": _ENCODED_SHARE.value,
    "discriminator_rate": encoding_flags.DISCRIMINATOR_RATE.value,
    "discriminator_steps": _DISCRIMINATOR_STEPS.value,
    "amounts": None if _AMOUNTS.value is None else _numbers("amounts", _AMOUNTS.value),
    "transfer_to": _TRANSFER_TO.value,
    "defenses": defense_flags.chosen(),
  }
  return dataclasses.replace(
    setup, **{name: value for name, value in given.items() if value is not None}
  )


def _numbers(flag: str, texts: Sequence[str]) -> tuple[float, ...]:
  try:
    return tuple(float(text) for text in texts)
  except ValueError:
    raise ValueError(f"{flag}={','.join(texts)} must be numbers") from None


def _context(study, setup, output_dir, progress) -> trials.Context:
  root = pathlib.Path(_MODELS_DIR.value or output_dir / "checkpoints").expanduser()

  def options(name: str) -> dict[str, Any]:
    return {
      "width": common_flags.WIDTH.value,
      "checkpoint_dir": root / f"{_SETUP.value}_{common_flags.SEED.value}_{name}",
      "progress": lambda done, total: progress(name, done, total),
    }

  form = _FORM.value or ("blackbox" if study == "blackbox" else "whitebox")
  if study in ("whitebox", "blackbox") and form != study:
    raise ValueError(f"form={form} with study={study}: expected the same")
  return trials.Context(
    name=_SETUP.value,
    setup=setup,
    dataset=_load(setup),
    black_box=form == "blackbox",
    num_trials=1 if study in _OF_ONE_TRIAL else study_flags.NUM_TRIALS.value or 3,
    seed=common_flags.SEED.value,
    options=options,
  )


def _load(setup: settings.Setup) -> types.Dataset:
  """The setup's rows; a generated dataset has as many as are needed."""
  num_examples = common_flags.NUM_EXAMPLES.value
  if setup.dataset == "purchase100_synthetic" and num_examples is None:
    num_examples = setup.num_members + setup.num_test
  dataset = datasets.load(
    setup.dataset,
    data_dir=common_flags.DATA_DIR.value,
    num_examples=num_examples,
    seed=common_flags.SEED.value,
  )
  if setup.num_clusters is not None:
    dataset = clusters.relabel(
      dataset, setup.num_clusters, seed=common_flags.SEED.value
    )
  return dataset


def _target(context: trials.Context) -> types.Dataset:
  """The task that models are tuned on."""
  if context.setup.transfer_to is None:
    raise ValueError(
      f"study=transfer: setup={context.name} has no task to tune on; name a dataset by"
      " --transfer_to"
    )
  return datasets.load(context.setup.transfer_to, data_dir=common_flags.DATA_DIR.value)


def _project(output_dir: pathlib.Path, context: trials.Context) -> list[dict[str, Any]]:
  """Writes the points and their plot; returns what can be said in numbers."""
  found = list(studies.projected(context))
  panels = {f"{p.what}, {p.method}": (p.points, p.group) for p in found}
  drawing = encoding_plots.projection_figure(panels, studies.GROUPS)
  plots.write_png(output_dir / "projection.png", drawing)
  points: dict[str, Any] = {f"{p.what}_{p.method}": p.points for p in found}
  with atomic.opened(output_dir / "projection.npz") as file:
    np.savez(file, **points, group=found[0].group)
  return [
    {
      "study": "projection",
      "setup": context.name,
      "form": context.form,
      "what": p.what,
      "method": p.method,
      "group": name,
      "mean": p.points[p.group == number].mean(0).tolist(),
      "spread": p.points[p.group == number].std(0).tolist(),
    }
    for p in found
    for number, name in enumerate(studies.GROUPS)
  ]


def _drawn(study: str, rows: Sequence[Mapping[str, Any]]) -> "figure.Figure":
  """The plot of a study."""
  if study == "watermark":
    return encoding_plots.accepted_figure([_accepted(row) for row in rows])
  if study not in _CURVES:
    papers = rows[0]["paper"] or {}
    return encoding_plots.figures_figure(
      [
        encoding_plots.Figure(
          _title(name), [row[name] for row in rows], papers.get(name)
        )
        for name in _FIGURES
      ]
    )
  x, quantities, by = _CURVES[study]
  if study == "redaction":
    rows = _by_part(rows)
  panels: dict[str, list[encoding_plots.Curve]] = {}
  if not by:  # one panel, a line for each quantity
    panels["mean loss"] = [_curve(rows, x, q, _title(q)) for q in quantities]
  for quantity in quantities if by else ():
    lines = dict.fromkeys(row[by] for row in rows)
    panels[_title(quantity)] = [
      _curve([row for row in rows if row[by] == line], x, quantity, str(line))
      for line in lines
    ]
  return encoding_plots.curves_figure(panels, _title(x))


def _title(name: str) -> str:
  return name.replace("_", " ").replace("auc", "AUC")


def _by_part(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Rows of redaction with the part that was blacked out; whole images of each."""
  parts = dict.fromkeys(row["mask"].split()[0] for row in rows)
  parts.pop("none")
  return [
    {**row, "part": part, "share_removed": row["removed"]}
    for part in parts
    for row in rows
    if row["mask"].split()[0] in ("none", part)
  ]


def _accepted(row: Mapping[str, Any]) -> encoding_plots.Accepted:
  return encoding_plots.Accepted(
    f"{row['model']}, {row['claim']} ({row['num_claims']:,})",
    {
      level: (row[f"p_value_at_{level}"], *row[f"p_value_at_{level}_ci"])
      for level in (0.01, 0.05)
    },
  )


def _curve(rows, x: str, quantity: str, label: str) -> encoding_plots.Curve:
  at = sorted({row[x] for row in rows if row.get(quantity) is not None})
  values: list[list[float]] = [
    [row[quantity] for row in rows if row[x] == one and row[quantity] is not None]
    for one in at
  ]
  most = max(map(len, values), default=0)
  y = np.array([of_x + [np.nan] * (most - len(of_x)) for of_x in values])
  return encoding_plots.Curve(label, np.array(at, float), y)


def _trained(rows: Sequence[studies.Row]) -> Sequence[studies.Row]:
  """Rows of models that did not diverge: of the others no mean or curve is made."""
  return [row for row in rows if not row.get("diverged")] or rows


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  diverged = sum(bool(row.get("diverged")) for row in rows)
  return [f"{diverged} rows are of models that diverged."] if diverged else []


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """Means over trials, with the paper's figures, and their header."""
  if rows[0]["study"] == "projection":
    header = ["what", "method", "group", "mean"]
    return [header] + [[_cell(row[name]) for name in header] for row in rows]
  if rows[0]["study"] == "losses":
    last = max(row["epoch"] for row in rows)
    rows = [row for row in rows if row["epoch"] == last]
    shown = ["encoded_loss", "other_loss", "test_loss", "encoding_loss"]
  else:
    shown = [name for name in _COLUMNS if name in rows[0]]
  variants: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
  for row in rows:
    variants.setdefault(tuple(row.get(name) for name in _VARIED), []).append(row)
  lines = [["study", "trials", *(name.replace("_", " ") for name in shown)]]
  for same in variants.values():
    lines.append([same[0]["study"], str(len(same)), *(_mean(same, n) for n in shown)])
    figures = same[0].get("paper")
    if figures:
      lines.append(["  the paper", "", *(_cell(figures.get(name)) for name in shown)])
  return lines


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
  values = [row[name] for row in rows]
  if name in _VARIED:
    return _cell(values[0])
  known = [value for value in values if value is not None]
  return _cell(float(np.mean(known)) if known else None)


def _cell(value: Any) -> str:
  if value is None:
    return ""
  if isinstance(value, list):
    return ", ".join(map(_cell, value))
  return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
  launch.run(main)
