"""Repeats one configuration of Ye et al., "Enhanced Membership Inference Attacks".

    python -m experiments.enhanced_mia --config=purchase100_2 --output_dir=DIR
    python -m experiments.enhanced_mia --config=purchase100_2 --output_dir=DIR
        --dataset=purchase100_synthetic --num_models=64 --num_targets=3
    python -m experiments.enhanced_mia --config=mnist_1 --output_dir=DIR --data_dir=TFDS
        --agreement_points=20      # Attack L, which retrains models for each sample

The configurations are those of `jmia.enhanced.configs`. All models are trained on
random subsets of a pool; the first ones are targets, and for each target all others are
its shadow and reference models, on whose rows its students are distilled
(`jmia.enhanced.cohort` says whose rows are whose). The paper's ROC comes from
thresholds at levels alpha; here samples are ranked by their scores, -log p, as in an
audit. DIR gets

    results.json        a row for each attack, the paper's figure beside ours; agreement
                        of the attacks (Table 3); the most exposed samples
    roc.png             Figures 2 and 5: ROC, the mean of the targets
    null_losses.png     Figure 1: two samples, two targets, alpha = 0.1
    auc_by_size.png     Figure 3: AUC by number of models and of population rows
    differences.png     Figure 4: loss minus threshold, S against P and R against D
    sample_auc.png      the AUC of each sample over all models

A run that was interrupted goes on where it was when it is started again.
"""

import dataclasses
import pathlib
import time
from typing import Any

from absl import flags
import jax

from jmia import atomic, datasets
from jmia.enhanced import cohort as cohort_lib
from jmia.enhanced import configs, figures, rows
from jmia.report import plots, results

from . import attack_flags, bars, common_flags, launch, run_folder, training_flags

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(training_flags)
_CONFIG = flags.DEFINE_string(
  "config", None, f"One of {', '.join(configs.CONFIGS)}: the paper's names."
)
_NUM_MODELS = flags.DEFINE_integer(
  "num_models", None, "Models trained in all. Default: the configuration's."
)
_NUM_STUDENTS = flags.DEFINE_integer(
  "num_students",
  None,
  "Models distilled from each distilled target, 0 for none. Default: as many as it has"
  " references.",
)
_AGREEMENT_POINTS = flags.DEFINE_integer(
  "agreement_points",
  None,
  "Samples of the first target that Attack L retrains models without, for Table 3; the"
  " paper has 1000. Default: none, or 20 where --attacks names leave_one_out.",
  lower_bound=0,
)
_MODELS_PER_POINT = flags.DEFINE_integer(
  "models_per_point", 8, "Models that Attack L retrains for each such sample."
)


def main() -> None:
  """Trains, attacks, and writes the files."""
  start = time.monotonic()
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    config = _config()
    dataset = datasets.load(
      common_flags.DATASET.value or config.dataset,
      data_dir=common_flags.DATA_DIR.value,
      num_examples=common_flags.NUM_EXAMPLES.value,
      seed=common_flags.SEED.value,
    )
    checkpoints = output_dir / "checkpoints"
    settings = _cohort_config(config, dataset.num_classes)
    if not settings.num_left_out:
      common_flags.refuse(
        ["models_per_point"], "is of --agreement_points, and none are asked"
      )
    with bars.shown() as progress:
      panel = cohort_lib.train(
        dataset, settings, checkpoint_dir=checkpoints, progress=progress
      )
    trained = time.monotonic()
    found = rows.find(settings, panel)
    content = results.document(
      rows.rows(config, str(_CONFIG.value), dataset.name, found),
      config={
        "config": _CONFIG.value,
        "dataset": dataset.name,
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        **dataclasses.asdict(settings),
      },
      seed=common_flags.SEED.value,
      seconds={
        **panel.seconds,
        "attacks": time.monotonic() - trained,
        "total": time.monotonic() - start,
      },
      notes=[dataset.description, *panel.notes],
    )
    content["accuracy_by_target"] = rows.accuracy_by_target(found)
    content["agreement"] = rows.agreement(panel)
    content["exposed_samples"] = rows.exposed(found)
    _write(output_dir, content, figures.draw(found))
  print(rows.text(content))
  print(f"\nThe results are in {output_dir / 'results.json'}")


def _config() -> configs.Config:
  name = _CONFIG.value
  if name not in configs.CONFIGS:
    raise ValueError(f"--config={name}: expected one of {', '.join(configs.CONFIGS)}")
  return configs.CONFIGS[name]


def _cohort_config(config: configs.Config, num_classes: int) -> cohort_lib.CohortConfig:
  """The configuration as the flags scale it."""
  num_targets = _given(attack_flags.NUM_TARGETS.value, config.num_targets)
  num_distilled = min(num_targets, config.num_distilled_targets)
  num_models = _given(_NUM_MODELS.value, config.num_models)
  attacks = attack_flags.chosen(cohort_lib.ATTACKS)
  # Retraining costs more than all else: it is done where it is asked for.
  is_asked = flags.FLAGS["attacks"].present and "leave_one_out" in attacks
  return cohort_lib.CohortConfig(
    attacks=attacks,
    num_models=num_models,
    num_targets=num_targets,
    num_members=_given(training_flags.NUM_MEMBERS.value, config.num_members),
    num_population=config.population_per_class * num_classes,
    num_distilled_targets=0 if _NUM_STUDENTS.value == 0 else num_distilled,
    num_students=_NUM_STUDENTS.value or num_models - 1,
    num_left_out=_given(_AGREEMENT_POINTS.value, 20 if is_asked else 0),
    num_retrained=_MODELS_PER_POINT.value,
    train=training_flags.override(config.train),
    seed=common_flags.SEED.value,
    width=common_flags.WIDTH.value,
  )


def _given(value: int | None, default: int) -> int:
  return default if value is None else value


def _write(output_dir: pathlib.Path, content: dict[str, Any], drawn) -> None:
  """Writes all files, or none: made in a folder beside, `results.json` moved last."""
  with atomic.folder(output_dir) as folder:
    results.write(folder / "results.json", content)
    for file, figure in drawn.items():
      plots.write_png(folder / file, figure)
    atomic.move(folder, output_dir, (*drawn, "results.json"))


if __name__ == "__main__":
  launch.run(main)
