"""Does DP-SGD keep its promise? The largest epsilon that canaries prove, at 95 %.

    python -m experiments.dp_audit --output_dir=DIR             # digits, epsilon 4
    python -m experiments.dp_audit --output_dir=DIR --mode=one_run
    python -m experiments.dp_audit --output_dir=DIR --claimed_epsilon=1,4,inf
    python -m experiments.dp_audit --output_dir=DIR --control=noise_tenth

Canaries are planted in some private models and not in others, and an attacker guesses
which. What the guesses prove stands beside what the accountant claims. Modes:

    many_runs  one canary, in half of 2 --num_runs models: the sharper
    one_run    --num_canaries in every model, each by a coin of its own; --num_runs
               models show the spread, and each is a proof by itself

Canaries (--canary): gradient, the largest gradient that clipping allows, in a direction
of its own; mislabelled, feature, noise: rows that stand out; natural: rows as they are.
Two attackers are shown: of the final model, and of all models on the way. --control
breaks the mechanism on purpose, to see whether the audit notices. DIR/results.json
holds a row for each mechanism, attacker and run. A run that was interrupted goes on
where it was when it is started again.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
import time
from typing import Any

from absl import flags
import numpy as np

from jmia import datasets, types
from jmia.defenses import dp_sgd
from jmia.dp import audit, canaries, controls, engine
from jmia.report import results
from jmia.training import config as config_lib
from jmia.training import optimizers

from . import bars, common_flags, launch, run_folder, shared_flags, training_flags

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(training_flags)
flags.declare_key_flag("delta")
_MODE = flags.DEFINE_enum("mode", "many_runs", engine.MODES, "See the description.")
_CANARY = flags.DEFINE_enum("canary", "gradient", canaries.KINDS, "What is planted.")
_NUM_CANARIES = flags.DEFINE_integer(
  "num_canaries", 1000, "Of every model in one_run.", lower_bound=1
)
_NUM_RUNS = flags.DEFINE_integer(
  "num_runs",
  None,
  "Models in one_run; models with, and as many without, in many_runs. Default: 4 and"
  " 500.",
  lower_bound=1,
)
_CLAIMED = flags.DEFINE_list(
  "claimed_epsilon", ["4"], "The guarantees that are tried, each a mechanism; inf too."
)
_CLIP_NORM = flags.DEFINE_float("clip_norm", 1.0, "Of an example's gradient.")
_START = flags.DEFINE_enum(
  "start", "blank", engine.STARTS, "Where models start: at random, or trained already."
)
_CONTROL = flags.DEFINE_list(
  "control",
  None,
  "Mechanisms broken on purpose, tried one after another, none for the sound one: "
  + ", ".join(controls.CONTROLS),
)
# A small network: what is tried is the mechanism, and bounds are no sharper with more.
_HIDDEN = (32,)


def main() -> None:
  """Trains, guesses, and writes what is proved."""
  started = time.monotonic()
  common_flags.refuse_of_others("mode", _MODE.value, {"one_run": ("num_canaries",)})
  common_flags.refuse(
    ["momentum", "weight_decay"],
    "is not read here: the audited mechanism is plain SGD at a constant rate",
  )
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    dataset = datasets.load(
      common_flags.DATASET.value or "digits",
      data_dir=common_flags.DATA_DIR.value,
      num_examples=common_flags.NUM_EXAMPLES.value,
      seed=common_flags.SEED.value,
    )
    settings = _settings()
    for setting in settings:
      audit.check(dataset, setting)
    rows, seconds = _run(dataset, settings, output_dir / "checkpoints")
    seconds["total"] = time.monotonic() - started
    notes = [dataset.description, audit.PROVED[_MODE.value], audit.GAUSSIAN]
    content = results.document(
      rows,
      config={
        "dataset": dataset.name,
        "settings": [_config(setting) for setting in settings],
      },
      seed=common_flags.SEED.value,
      seconds=seconds,
      notes=notes,
    )
    results.write(output_dir / "results.json", content)
  print(results.table(_table(rows)))
  print("\n" + "\n".join(audit.sentences(rows)))
  print("\n" + "\n".join(notes[1:]))
  print(f"\nThe rows are in {output_dir / 'results.json'}")


def _run(
  dataset: types.Dataset, settings: Sequence[engine.Setting], checkpoints: pathlib.Path
) -> tuple[list[dict[str, Any]], dict[str, float]]:
  """Each setting's rows, and how long it took."""
  rows: list[dict[str, Any]] = []
  seconds: dict[str, float] = {}
  with bars.shown() as progress:
    for number, setting in enumerate(settings):
      begun = time.monotonic()
      name = _name(setting)
      scored = engine.run(
        dataset,
        setting,
        width=common_flags.WIDTH.value,
        checkpoint_dir=checkpoints / str(number),
        progress=functools.partial(progress, name),
      )
      rows += audit.rows(scored, setting)
      seconds[name] = time.monotonic() - begun
  return rows, seconds


def _settings() -> list[engine.Setting]:
  """A setting for each guarantee and control."""
  preset = config_lib.TrainConfig(
    model="mlp",
    model_options=(("features", _HIDDEN),),
    num_epochs=10,
    batch_size=64,
    optimizer=optimizers.OptimizerConfig(learning_rate=0.5, momentum=0.0),
  )
  train = training_flags.override(preset, with_recipe=False)
  if train.model != preset.model:
    options = [option for option in train.model_options if option[0] != "features"]
    train = dataclasses.replace(train, model_options=tuple(options))
  is_one = _MODE.value == "one_run"
  return [
    engine.Setting(
      mode=_MODE.value,
      canary=_CANARY.value,
      num_canaries=_NUM_CANARIES.value,
      num_runs=_NUM_RUNS.value or (4 if is_one else 500),
      num_members=training_flags.NUM_MEMBERS.value or 400,
      train=train,
      private=dp_sgd.DPConfig(
        epsilon=_number(claimed),
        delta=1e-5 if shared_flags.DELTA.value is None else shared_flags.DELTA.value,
        clip_norm=_CLIP_NORM.value,
      ),
      start=_START.value,
      control=None if control == "none" else control,
      seed=common_flags.SEED.value,
    )
    for claimed in _CLAIMED.value
    for control in _CONTROL.value or ["none"]
  ]


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise ValueError(f"claimed_epsilon={text}, expected a number or inf") from None


def _name(setting: engine.Setting) -> str:
  broken = f", {setting.control}" if setting.control else ""
  return f"epsilon {setting.private.epsilon:g}{broken}"


def _config(setting: engine.Setting) -> dict[str, Any]:
  """As JSON values: an epsilon may be infinite."""
  config = dataclasses.asdict(setting)
  config["private"]["epsilon"] = str(setting.private.epsilon)
  return config


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """A line for each mechanism and attacker.

  Of several runs: median and range of the bounds, and the p-value of all together.
  """
  header = [
    "canary, start", "control", "attacker sees", "claimed", "proved", "range",
    "if Gaussian", "p", "contradicted",
  ]  # fmt: skip
  groups: dict[Any, list[Mapping[str, Any]]] = {}
  for row in rows:
    groups.setdefault(
      (row["claimed_epsilon"], row["control"], row["threat"]), []
    ).append(row)
  lines = [header]
  for (claimed, control, threat), of_group in groups.items():
    proved = [row["epsilon_lower"] for row in of_group]
    gaussian = [row["epsilon_lower_gaussian"] for row in of_group]
    first = of_group[0]
    lines.append(
      [
        f"{first['canary']}, {first['start']}",
        control or "–",
        {"final": "the final model", "steps": "every step"}[threat],
        "inf" if claimed is None else f"{claimed:.2f}",
        f"{np.median(proved):.2f}",
        f"{min(proved):.2f}–{max(proved):.2f}" if len(proved) > 1 else "–",
        f"{np.median(gaussian):.2f}",
        _p_value(of_group),
        _contradicted(of_group),
      ]
    )
  return lines


def _p_value(rows: Sequence[Mapping[str, Any]]) -> str:
  found = [row["p_value"] for row in rows]
  if None in found:
    return "–"
  return f"{min(1.0, len(found) * min(found)):.2g}"  # Bonferroni


def _contradicted(rows: Sequence[Mapping[str, Any]]) -> str:
  found = [row["contradicted"] for row in rows]
  if None in found:
    return "–"
  return (
    ("yes" if found[0] else "no") if len(found) == 1 else f"{sum(found)}/{len(found)}"
  )


if __name__ == "__main__":
  launch.run(main)
