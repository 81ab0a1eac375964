"""Membership inference via backdooring: the studies of Hu et al.

    python -m experiments.mib --output_dir=DIR                              # digits
    python -m experiments.mib --output_dir=DIR --dataset=location30 --study=sizes

An owner stamps a trigger on a few rows and gives them one label, and later asks a model
for the labels of marked rows that nobody trained on. Studies:

    single        the paper's default trigger and label (table 4)
    patterns      random patterns (table 2)
    labels        random target labels (table 2)
    locations     where the trigger is (table 3)
    sizes         how large it is (table 3)
    ratio         how many rows are marked (figure 2a)
    owners        ten owners at once, each with a trigger and a label (figure 2b)
    baseline      clean or marked, with or without the owner's rows (table 5)
    false_claims  a hundred owners accuse each clean model
    submarks      the same rows in one to four marks, whose labels a secret draws
    all           all but false_claims and submarks

All models of all studies asked for are trained in one run. DIR/results.json holds a row
for each variant, trial and owner, and a summary; DIR/STUDY.png is the plot of a study,
and DIR/marked_images.png shows marked images. A run that was interrupted goes on where
it was when it is started again.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import Any

from absl import flags
import numpy as np

from jmia import datasets, types
from jmia.backdoor import claims, outcomes, study, triggers, variants
from jmia.backdoor import settings as settings_lib
from jmia.defenses import registry
from jmia.report import asr_plots, plots, results

from . import (
  bars,
  common_flags,
  defense_flags,
  launch,
  run_folder,
  study_flags,
  training_flags,
)

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(study_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(defense_flags)
_MARKED_SHARE = flags.DEFINE_float(
  "marked_share",
  None,
  "Share of a model's rows that an owner marks. Default: the paper's, about 0.001.",
)
_DRAW = flags.DEFINE_enum(
  "draw",
  "random",
  settings_lib.DRAWS,
  "Rows held out and marked: drawn anew in each trial, or in each those that the"
  " authors' public code draws.",
)

_APART = ("false_claims", variants.SUBMARKS)
_ALL = tuple(name for name in variants.STUDIES if name not in _APART)
_OPACITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)


def main() -> None:
  """Runs the studies, and writes their rows and plots."""
  started = time.perf_counter()
  studies = _studies(study_flags.STUDY.value or "single")
  num_trials = study_flags.NUM_TRIALS.value or 10
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    dataset = datasets.load(
      common_flags.DATASET.value or "digits",
      data_dir=common_flags.DATA_DIR.value,
      num_examples=common_flags.NUM_EXAMPLES.value,
      seed=common_flags.SEED.value,
      order="publisher" if _DRAW.value == "authors" else "prepared",
    )
    settings = _settings(dataset)
    with bars.shown() as progress:
      found = study.run(
        dataset,
        settings,
        studies,
        num_trials=num_trials,
        seed=common_flags.SEED.value,
        width=common_flags.WIDTH.value,
        checkpoint_dir=output_dir / "checkpoints",
        progress=lambda done, total: progress("models", done, total),
      )
    trained = time.perf_counter()
    notes = [*registry.notes(settings.defenses, settings.train), *found.notes]
    summary = outcomes.summary(found.rows)
    _plot(output_dir, dataset, settings, found.rows, summary)
    config = {
      **dataclasses.asdict(settings),
      "defenses": [str(defense) for defense in settings.defenses],
      "dataset": dataset.name,
      "studies": studies,
      "num_trials": num_trials,
      "num_models": found.num_models,
    }
    content = results.document(
      found.rows,
      config=config,
      seed=common_flags.SEED.value,
      seconds={"train": trained - started, "total": time.perf_counter() - started},
      notes=notes,
    )
    results.write(output_dir / "results.json", {**content, "summary": summary})
  _tell(summary, settings, notes)
  print(f"\nThe rows are in {output_dir / 'results.json'}")


def _tell(
  summary: Sequence[Mapping[str, Any]],
  settings: settings_lib.Settings,
  notes: Sequence[str],
) -> None:
  """Prints what was found."""
  print(results.table(_table(summary)))
  if together := _together(summary, settings):
    print(f"\n{results.table(together)}")
  for note in (*_false_claims(summary), *notes):
    print(f"\n{note}")


def _studies(names: str) -> tuple[str, ...]:
  """The studies that were asked for, in their order."""
  asked = _ALL if names == "all" else tuple(names.split(","))
  for name in asked:
    if name not in variants.STUDIES:
      raise ValueError(
        f"study={names} holds {name!r}, expected all, or some of "
        f"{','.join(variants.STUDIES)}"
      )
  return tuple(name for name in variants.STUDIES if name in asked)


def _settings(dataset: types.Dataset) -> settings_lib.Settings:
  """The dataset's settings, with those that were given as flags."""
  preset = settings_lib.preset(dataset)
  return dataclasses.replace(
    preset,
    train=training_flags.override(preset.train),
    defenses=defense_flags.chosen(),
    num_members=training_flags.NUM_MEMBERS.value,
    draw=_DRAW.value,
    marked_share=preset.marked_share
    if _MARKED_SHARE.value is None
    else _MARKED_SHARE.value,
  )


def _table(summary: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """The summary's cells, with their header."""
  cells = [
    [
      "study, variant", "marked", "trials", "ASR", "95% interval", "range", "without",
      "claims", "by t", "paper", "in range", "test acc.",
    ]
  ]  # fmt: skip
  for line in summary:
    inside = {None: "", True: "inside", False: "outside"}[line["paper_inside"]]
    cells.append(
      [
        f"{line['study']}, {line['variant']}",
        str(line["num_marked"]),
        str(line["num_trials"]),
        _percent(line["asr_all"]),
        _range(line["asr_all_ci"]),
        _range(line["asr_all_range"]),
        _percent(line["asr_without"]),
        _percent(line["claims"]),
        _percent(line["claims_t"]),
        _percent(line["paper_asr"]),
        inside,
        _percent(line["test_accuracy"]),
      ]
    )
  return cells


def _together(
  summary: Sequence[Mapping[str, Any]], settings: settings_lib.Settings
) -> list[list[str]]:
  """Claims by all sub-marks of an owner at once, with their header; [] without any."""
  cells = []
  for line in summary:
    for test, shares in (line["together"] or {}).items():
      name, _, each = test.partition("_")
      queries = f"{settings.num_queries} {'a sub-mark' if each else 'in all'}"
      claimed = [_percent(shares[f"{level:g}"]) for level in claims.LEVELS]
      cells.append([line["variant"], queries, name, *claimed])
  at = [f"claims at {100 * level:g} %" for level in claims.LEVELS]
  return [["together", "queries", "test", *at], *cells] if cells else []


def _false_claims(summary: Sequence[Mapping[str, Any]]) -> list[str]:
  """What came of the owners who accused clean models, in a sentence."""
  return [
    f"Of {line['num_trials']:,} claims against clean models, {_percent(line['claims'])}"
    f"% ({_range(line['claims_ci'])}) are made by the exact test and"
    f" {_percent(line['claims_t'])}% ({_range(line['claims_t_ci'])}) by the t-test."
    for line in summary
    if line["study"] == "false_claims"
  ]


def _percent(share: float | None) -> str:
  return "–" if share is None else f"{100 * share:.1f}"


def _range(bounds: Sequence[float] | None) -> str:
  return "–" if bounds is None else "–".join(map(_percent, bounds))


def _plot(
  output_dir: pathlib.Path,
  dataset: types.Dataset,
  settings: settings_lib.Settings,
  rows: Sequence[Mapping[str, Any]],
  summary: Sequence[Mapping[str, Any]],
) -> None:
  """Writes the plot of each study that has variants, and of marked images."""
  if settings.trigger.kind == "patch":
    drawing = asr_plots.images_figure(_marked_images(dataset, settings), _OPACITIES)
    plots.write_png(output_dir / "marked_images.png", drawing)
  for name in dict.fromkeys(line["study"] for line in summary):
    lines = [line for line in summary if line["study"] == name]
    if len(lines) == 1:
      continue
    shown = [
      asr_plots.Variant(
        line["variant"], line["rates"], line["asr_all_ci"], line["paper_asr"]
      )
      for line in lines
    ]
    threshold = rows[0]["asr_threshold"]
    if name == "ratio":
      num_train = next(row["num_train"] for row in rows if row["study"] == "ratio")
      ratios = [line["num_marked"] / num_train for line in lines]
      drawing = asr_plots.ratio_figure(shown, ratios, threshold)
    else:
      drawing = asr_plots.variants_figure(shown, threshold, name)
    plots.write_png(output_dir / f"{name}.png", drawing)


def _marked_images(
  dataset: types.Dataset, settings: settings_lib.Settings
) -> dict[str, list[np.ndarray]]:
  """Two images with the default trigger, and one with what the studies make of it."""
  default = settings.trigger
  larger = max(2, min(dataset.x.shape[1:3]) // 3)
  cases = {
    "default": (0, default),
    "another image": (1, default),
    "random pattern": (0, dataclasses.replace(default, pattern="random")),
    "top left": (0, dataclasses.replace(default, place="top_left")),
    f"{larger}×{larger}": (0, dataclasses.replace(default, size=larger)),
  }
  return {
    name: [
      _stamped(dataset.x[row], config, opacity) / default.value
      for opacity in _OPACITIES
    ]
    for name, (row, config) in cases.items()
  }


def _stamped(
  image: np.ndarray, config: triggers.TriggerConfig, opacity: float
) -> np.ndarray:
  config = dataclasses.replace(config, opacity=opacity)
  return triggers.apply(image, triggers.make(config, image.shape))


if __name__ == "__main__":
  launch.run(main)
