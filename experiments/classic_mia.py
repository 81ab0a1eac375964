r"""Classic attacks and defences: the studies of Yang's report, and those it left out.

    python -m experiments.classic_mia --study=metrics --output_dir=DIR      # digits
    python -m experiments.classic_mia --study=defenses --output_dir=DIR \
      --dataset=purchase100_synthetic --defenses=top_k:1,l2:1e-3,dp_sgd:2

    metrics        every attack on every network, beside the report's AUC
    gap            attack accuracy against the generalisation gap
    transfer_arch  shadow models of another network than the target's
    transfer_data  shadow models of another dataset (--shadow_dataset)
    defenses       every defence against every attack: what it costs, what it helps
    similarity     models with and without each sample (Long et al.)

A dataset is cut into equal disjoint parts: members and others of the target, and of
each shadow model. DIR/results.json holds a row for each target and attack;
DIR/STUDY.png is the plot of gap and of defenses, DIR/roc_NETWORK.png has the ROC curves
of metrics and of similarity. A run that was interrupted goes on where it was when it is
started again.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import Any

from absl import flags
import numpy as np

from jmia import datasets, types
from jmia.classic import settings as settings_lib
from jmia.classic import studies
from jmia.defenses import registry
from jmia.report import classic_plots, plots, results
from jmia.stats import intervals
from jmia.training import config as config_lib

from . import (
  attack_flags,
  bars,
  classic_table,
  common_flags,
  launch,
  run_folder,
  shared_flags,
  study_flags,
  training_flags,
)

flags.adopt_module_key_flags(common_flags)
flags.declare_key_flag("attacks")
flags.declare_key_flag("attack_file")
flags.declare_key_flag("sizes")
flags.declare_key_flag("delta")
flags.adopt_module_key_flags(study_flags)
flags.adopt_module_key_flags(training_flags)
_NETWORKS = flags.DEFINE_list(
  "networks",
  None,
  "Some of the dataset's networks, such as cnn,mlp; the first is the default one."
  " Default: all; on a CPU, those that are not for an accelerator.",
)
flags.DEFINE_alias("classic_attacks", "attacks")
_NUM_SHADOWS = flags.DEFINE_integer(
  "num_shadows", 1, "Shadow models of each target; the report has one.", lower_bound=1
)
_EPOCHS = flags.DEFINE_list(
  "epochs", None, "Study gap: epochs of training. Default: all, two fifths, a tenth."
)
_SHADOW_DATASET = flags.DEFINE_string(
  "shadow_dataset", None, "Study transfer_data: the other dataset."
)
_DEFENSES = flags.DEFINE_list(
  "defenses",
  None,
  "Study defenses: NAME or NAME:STRENGTH, joined by + where they go together: "
  + "; ".join(
    f"{name} ({meaning})" if meaning else name
    for name, meaning in registry.describe().items()
  )
  + ". Default: those that suit the dataset.",
)
_AWARE = flags.DEFINE_bool(
  "aware", True, "Study defenses: whether shadow models carry the target's defence."
)
_DP_CLIP_NORM = flags.DEFINE_float(
  "dp_clip_norm", 1.0, "L2 norm that DP-SGD clips each example's gradient to."
)
_NUM_SAMPLES = flags.DEFINE_integer(
  "num_samples", 200, "Study similarity: samples attacked, half of them members."
)
_NUM_WITH = flags.DEFINE_integer(
  "num_with", 5, "Study similarity: models with each sample, and as many without."
)

_STUDIES = (
  "metrics", "gap", "transfer_arch", "transfer_data", "defenses", "similarity",
)  # fmt: skip
# What only one study reads.
_OF_STUDY = {
  "gap": ("sizes", "epochs"),
  "transfer_data": ("shadow_dataset",),
  "defenses": ("defenses", "aware", "dp_clip_norm", "delta"),
  "similarity": ("num_samples", "num_with"),
}
_ACCELERATOR_NETWORKS = ("resnet", "alexnet")


def main() -> None:
  """Runs a study, and writes its rows and plots."""
  started = time.perf_counter()
  study = study_flags.STUDY.value or "metrics"
  if study not in _STUDIES:
    raise ValueError(f"study={study}, expected one of {','.join(_STUDIES)}")
  common_flags.refuse_of_others("study", study, _OF_STUDY)
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    dataset = _load(common_flags.DATASET.value or "digits")
    with bars.shown() as progress:
      plan = _plan(dataset, output_dir / "checkpoints", progress)
      found = _run(study, plan)
    launch.leave_files_to_first_process()
    if not found.rows:
      raise ValueError(f"no target could be attacked: {'; '.join(found.notes)}")
    _plot(study, output_dir, found)
    content = results.document(
      found.rows,
      config=_config(study, plan),
      seed=common_flags.SEED.value,
      seconds={"total": time.perf_counter() - started},
      notes=found.notes,
    )
    summary = _summary(study, found.rows)
    results.write(output_dir / "results.json", {**content, "summary": summary})
  print(classic_table.text(study, found.rows))
  for note in (*map(_told, summary.items()), *found.notes):
    print(f"\n{note}")
  print(f"\nThe rows are in {output_dir / 'results.json'}")


def _load(name: str) -> types.Dataset:
  return datasets.load(
    name,
    data_dir=common_flags.DATA_DIR.value,
    num_examples=common_flags.NUM_EXAMPLES.value
    if name == common_flags.DATASET.value
    else None,
    seed=common_flags.SEED.value,
  )


def _plan(dataset: types.Dataset, checkpoint_dir: pathlib.Path, progress):
  """What all studies share, with what was given as flags."""
  return studies.Plan(
    dataset=dataset,
    networks=_networks(dataset),
    attacks=attack_flags.chosen(studies.DEFAULT_ATTACKS),
    num_members=training_flags.NUM_MEMBERS.value,
    num_shadows=_NUM_SHADOWS.value,
    num_trials=study_flags.NUM_TRIALS.value or 1,
    seed=common_flags.SEED.value,
    width=common_flags.WIDTH.value,
    checkpoint_dir=checkpoint_dir,
    progress=progress,
  )


def _networks(dataset: types.Dataset) -> dict[str, config_lib.TrainConfig]:
  """The networks asked for, trained as the flags say."""
  known = settings_lib.networks(dataset)
  on_cpu = results.device().lower().startswith("cpu")
  default = [name for name in known if not (on_cpu and name in _ACCELERATOR_NETWORKS)]
  chosen = {}
  for name in _NETWORKS.value or default:
    if name not in known:
      raise ValueError(
        f"networks holds {name!r}, expected some of {','.join(known)} for"
        f" {dataset.name}"
      )
    chosen[name] = training_flags.override(known[name])
  return chosen


def _run(study: str, plan: studies.Plan) -> studies.Found:
  if study == "metrics":
    return studies.metrics(plan)
  if study == "gap":
    return studies.gap(plan, *_grid(plan))
  if study == "transfer_arch":
    return studies.transfer_arch(plan)
  if study == "transfer_data":
    if not _SHADOW_DATASET.value:
      raise ValueError("--shadow_dataset must name the other dataset")
    if _SHADOW_DATASET.value == plan.dataset.name:
      raise ValueError(
        f"shadow_dataset={_SHADOW_DATASET.value} is the target's own: expected another"
      )
    return studies.transfer_data(plan, _load(_SHADOW_DATASET.value))
  if study == "similarity":
    return studies.similarity(plan, _NUM_SAMPLES.value, _NUM_WITH.value)
  return studies.defenses(plan, _defenses(plan.dataset), aware=_AWARE.value)


def _defenses(dataset: types.Dataset) -> list[studies.Defenses]:
  """The defences asked for; those joined by + go together."""
  options = {"delta": _delta(), "clip_norm": _DP_CLIP_NORM.value}
  found = [
    tuple(registry.parse(one, **options) for one in text.split("+"))
    for text in _DEFENSES.value or studies.default_defenses(dataset)
  ]
  if not any(defense.name == "dp_sgd" for together in found for defense in together):
    common_flags.refuse(
      ["delta", _DP_CLIP_NORM.name], "is of dp_sgd, which is none of the defences"
    )
  return found


def _delta() -> float:
  return 1e-5 if shared_flags.DELTA.value is None else shared_flags.DELTA.value


def _grid(plan: studies.Plan) -> tuple[list[int], list[int]]:
  """Sizes and epochs of study gap."""
  num_parts = 2 * (1 + plan.num_shadows)
  most = plan.num_members or plan.dataset.num_examples // num_parts
  longest = next(iter(plan.networks.values())).num_epochs
  sizes = _whole_numbers("sizes", shared_flags.SIZES.value) or [
    most,
    most // 2,
    most // 4,
  ]
  epochs = _whole_numbers("epochs", _EPOCHS.value) or [
    longest, max(1, 2 * longest // 5), max(1, longest // 10),
  ]  # fmt: skip
  return sizes, list(dict.fromkeys(epochs))


def _whole_numbers(name: str, texts: Sequence[str] | None) -> list[int]:
  if not all(text.isdecimal() and int(text) > 0 for text in texts or ()):
    raise ValueError(f"{name}={','.join(texts or ())}, expected whole numbers above 0")
  return [int(text) for text in texts or ()]


def _config(study: str, plan: studies.Plan) -> dict[str, Any]:
  """Every setting the rows depend on."""
  given = {
    "sizes": shared_flags.SIZES.value,
    "epochs": _EPOCHS.value,
    "shadow_dataset": _SHADOW_DATASET.value,
    "defenses": _DEFENSES.value or studies.default_defenses(plan.dataset),
    "delta": _delta(),
    "dp_clip_norm": _DP_CLIP_NORM.value,
    "num_samples": _NUM_SAMPLES.value,
    "num_with": _NUM_WITH.value,
  }
  return {
    "study": study,
    "dataset": plan.dataset.name,
    "networks": {k: dataclasses.asdict(v) for k, v in plan.networks.items()},
    "attacks": plan.attacks,
    "num_members": plan.num_members,
    "num_shadows": plan.num_shadows,
    "num_trials": plan.num_trials,
    **given,
  }


def _summary(study: str, rows: Sequence[studies.Row]) -> dict[str, Any]:
  """The regression of each attack's accuracy on the gap."""
  if study != "gap":
    return {}
  found = {}
  for attack, (gaps, accuracies) in _by_attack(rows).items():
    line = classic_plots.regression(gaps, accuracies)
    if line is not None:
      found[f"accuracy of {attack} = a + b gap"] = {
        "a": line.intercept,
        "b": line.slope,
        "correlation": float(np.corrcoef(gaps, accuracies)[0, 1])
        if np.ptp(accuracies)
        else 0.0,
      }
  return found


def _by_attack(rows: Sequence[studies.Row]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Gaps and accuracies of each attack."""
  attacks = dict.fromkeys(row["attack"] for row in rows)
  pairs = {
    attack: [(r["gap"], r["accuracy"]) for r in rows if r["attack"] == attack]
    for attack in attacks
  }
  return {attack: tuple(np.array(pair).T) for attack, pair in pairs.items()}


def _plot(study: str, output_dir: pathlib.Path, found: studies.Found) -> None:
  if study == "gap":
    by_attack = _by_attack(found.rows)
    gaps = next(iter(by_attack.values()))[0]
    accuracies = {
      attack: accuracy
      for attack, (_, accuracy) in by_attack.items()
      if attack != "random"
    }
    drawing = classic_plots.gap_figure(gaps, accuracies)
    plots.write_png(output_dir / "gap.png", drawing)
  if study == "defenses":
    drawing = classic_plots.defenses_figure(
      _variants(found.rows), found.rows[0]["num_nonmembers"]
    )
    plots.write_png(output_dir / "defenses.png", drawing)
  if study in ("metrics", "similarity"):
    for target, curves in found.curves.items():
      shown = {k: v for k, v in curves.items() if k not in ("random", "correctness")}
      if shown:
        drawing = classic_plots.roc_figure(shown)
        plots.write_png(output_dir / f"roc_{target}.png", drawing)


def _told(fitted: tuple[str, Mapping[str, float]]) -> str:
  what, line = fitted
  return (
    f"{what}: a = {line['a']:.3f}, b = {line['b']:.3f}, correlation"
    f" {line['correlation']:.2f}"
  )


def _variants(rows: Sequence[studies.Row]) -> list[classic_plots.Variant]:
  """Each defence with its strongest attack, on the first trial's target and others."""
  variants = []
  for row in classic_table.strongest(rows):
    worst, *further = row["trials"]
    num = worst["num_nonmembers"]
    accuracy = intervals.clopper_pearson(round(num * worst["test_accuracy"]), num)
    variants.append(
      classic_plots.Variant(
        label=row["defense"],
        utility=worst["test_accuracy"],
        utility_ci=(float(accuracy.low), float(accuracy.high)),
        leakage=worst["auc"],
        leakage_ci=tuple(worst["auc_ci"]),
        further=[(one["test_accuracy"], one["auc"]) for one in further],
      )
    )
  return variants


if __name__ == "__main__":
  launch.run(main)
