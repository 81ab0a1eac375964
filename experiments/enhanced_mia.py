"""Repeats one configuration of Ye et al., "Enhanced Membership Inference Attacks".

    python -m experiments.enhanced_mia --config=purchase100_2 --output_dir=DIR
    python -m experiments.enhanced_mia --config=purchase100_2 --output_dir=DIR
        --dataset=purchase100_synthetic --num_models=64 --num_targets=3
    python -m experiments.enhanced_mia --config=mnist_1 --output_dir=DIR --data_dir=TFDS

The configurations are those of `enhanced_mia_configs`. All models are trained on random
subsets of a pool; the first ones are targets, and for each target all others are its
shadow and reference models, on whose rows its students are distilled (`jmia.cohort`
says whose rows are whose). The paper's ROC comes from thresholds at levels alpha; here
samples are ranked by their scores, -log p, as in an audit. DIR gets

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
import shutil
import tempfile
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from experiments import common
from experiments import enhanced_mia_configs as configs
from jmia import cohort as cohort_lib
from jmia import cohort_metrics, datasets, evaluation
from jmia.report import plots, results, study_plots, wording
from jmia.stats import intervals, roc

flags.adopt_module_key_flags(common)
_CONFIG = flags.DEFINE_string(
  "config", None, f"One of {', '.join(configs.CONFIGS)}: the paper's names."
)
_NUM_MODELS = flags.DEFINE_integer(
  "num_models", None, "Models trained in all. Default: the configuration's."
)
_NUM_TARGETS = flags.DEFINE_integer(
  "num_targets",
  None,
  "Targets among them; as many are distilled, up to the configuration's. Default: the"
  " configuration's.",
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
  "Samples of the first target that Attack L retrains models without, for Table 3; 0"
  " for none. Default: the paper's 1000 on an accelerator, 20 on a CPU.",
  lower_bound=0,
)
_MODELS_PER_POINT = flags.DEFINE_integer(
  "models_per_point", 8, "Models that Attack L retrains for each such sample."
)

_ALPHA = 0.1  # of the figures
_ALPHA_OF_TABLE = 0.3
_NUM_MODELS_SHOWN = (10, 20, 50, 100, 200)
_POPULATION_SHOWN = (100, 200, 500, 1000)  # rows per class
_FPR = np.unique(np.concatenate([np.linspace(0, 1, 201), np.geomspace(1e-3, 1, 121)]))
_NUM_EXPOSED = 20
_LEAST_HELD = 3  # models that held a sample, for its AUC over models to be shown


def main() -> None:
  """Trains, attacks, and writes the files."""
  start = time.monotonic()
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    config = _config()
    dataset = datasets.load(
      common.DATASET.value or config.dataset,
      data_dir=common.DATA_DIR.value,
      num_examples=common.NUM_EXAMPLES.value,
      seed=common.SEED.value,
    )
    checkpoints = output_dir / "checkpoints"
    with common.progress_bars() as progress:
      cohort = cohort_lib.gather(
        dataset,
        _cohort_config(config, dataset.num_classes),
        checkpoint_dir=checkpoints,
        progress=progress,
      )
    attacked = time.monotonic()
    outcomes = cohort_metrics.by_target(cohort)
    exposure = {a: cohort_metrics.by_sample(cohort, a) for a in _PER_SAMPLE}
    content = results.document(
      _rows(config, dataset.name, cohort, outcomes),
      config={
        "config": _CONFIG.value,
        "dataset": dataset.name,
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        **dataclasses.asdict(cohort.config),
      },
      seed=common.SEED.value,
      seconds={
        **cohort.seconds,
        "attacks": time.monotonic() - attacked,
        "total": time.monotonic() - start,
      },
      notes=[dataset.description, *cohort.notes],
    )
    content["agreement"] = _agreement(cohort)
    content["exposed_samples"] = _exposed(cohort, exposure)
    _write(output_dir, content, _figures(cohort, outcomes, exposure))
    shutil.rmtree(checkpoints, ignore_errors=True)
  print(_text(content))
  print(f"\nThe results are in {output_dir / 'results.json'}")


_PER_SAMPLE = ("population", "reference")


def _config() -> configs.Config:
  name = _CONFIG.value
  if name not in configs.CONFIGS:
    raise ValueError(f"--config={name}: expected one of {', '.join(configs.CONFIGS)}")
  return configs.CONFIGS[name]


def _cohort_config(config: configs.Config, num_classes: int) -> cohort_lib.CohortConfig:
  """The configuration as the flags scale it."""
  num_targets = _given(_NUM_TARGETS.value, config.num_targets)
  num_distilled = min(num_targets, config.num_distilled_targets)
  points = 20 if jax.default_backend() == "cpu" else 1000
  return cohort_lib.CohortConfig(
    num_models=_given(_NUM_MODELS.value, config.num_models),
    num_targets=num_targets,
    num_members=config.num_members,
    num_population=config.population_per_class * num_classes,
    num_distilled_targets=0 if _NUM_STUDENTS.value == 0 else num_distilled,
    num_students=_NUM_STUDENTS.value or None,
    num_left_out=_given(_AGREEMENT_POINTS.value, points),
    num_retrained=_MODELS_PER_POINT.value,
    train=config.train,
    seed=common.SEED.value,
    width=common.WIDTH.value,
  )


def _given(value: int | None, default: int) -> int:
  return default if value is None else value


def _rows(
  config: configs.Config,
  dataset_name: str,
  cohort: cohort_lib.Cohort,
  outcomes: dict[str, list[evaluation.Outcome]],
) -> list[dict[str, Any]]:
  """A row for each attack: means over its targets, with the paper's beside them."""
  num_members = cohort.config.num_members
  accuracy = [
    np.mean([correct[at[part]] for correct, at in _per_target(cohort)])
    for part in (slice(num_members), slice(num_members, None))
  ]
  paper = [figure / 100 for figure in config.paper_accuracy]
  rows = []
  for attack, of_targets in outcomes.items():
    summaries = [outcome.summary for outcome in of_targets]
    auc = np.array([summary["auc"] for summary in summaries])
    if len(auc) > 1:
      low, high = np.clip(intervals.mean(auc), 0, 1).tolist()
    else:
      low, high = summaries[0]["auc_ci"]
    paper_auc = config.paper_auc.get(attack)
    rows.append(
      {
        "config": _CONFIG.value,
        "dataset": dataset_name,
        "attack": attack,
        "auc": float(auc.mean()),
        "auc_ci": [low, high],
        "auc_ci_of": "the mean, over targets" if len(auc) > 1 else "this target's AUC",
        "auc_by_target": auc.tolist(),
        "paper_auc": paper_auc and paper_auc.mean,
        "paper_auc_deviation": paper_auc and paper_auc.deviation,
        "tpr_at_fpr": {
          level: float(np.mean([s["tpr_at_fpr"][level] for s in summaries]))
          for level in summaries[0]["tpr_at_fpr"]
        },
        "num_models": cohort.config.num_models,
        "num_null_models": summaries[0]["num_models"],
        "num_targets": len(auc),
        "num_members": num_members,
        "num_samples": summaries[0]["num_samples"],
        "estimator": summaries[0]["estimator"],
        "train_accuracy": float(accuracy[0]),
        "test_accuracy": float(accuracy[1]),
        "paper_train_accuracy": paper[0],
        "paper_test_accuracy": paper[1],
      }
    )
  return rows


def _per_target(cohort: cohort_lib.Cohort):
  return zip(cohort.correct, cohort.samples, strict=True)


def _agreement(cohort: cohort_lib.Cohort) -> dict[str, Any]:
  """Table 3, of the first target."""
  evidence = cohort_lib.evidence(cohort, 0)
  names, share = cohort_metrics.agreement(evidence, _ALPHA_OF_TABLE)
  at = evidence.left_out
  return {
    "alpha": _ALPHA_OF_TABLE,
    "num_samples": len(evidence.members if at is None else at),
    "attacks": names,
    "share": share.tolist(),
  }


def _exposed(
  cohort: cohort_lib.Cohort, exposure: dict[str, intervals.AucInterval]
) -> list[dict[str, Any]]:
  """The samples with the highest AUC over models, by the lower end of its interval."""
  num_held = cohort.held[cohort.converged].sum(axis=0)
  auc = exposure["reference"]
  order = np.argsort(np.where(num_held >= _LEAST_HELD, -auc.low, np.inf), kind="stable")
  shown = [i for i in order[:_NUM_EXPOSED] if num_held[i] >= _LEAST_HELD]
  return [
    {
      "index": int(cohort.rows[i]),
      "label": int(cohort.labels[i]),
      "num_holding": int(num_held[i]),
      "auc": float(auc.auc[i]),
      "auc_ci": [float(auc.low[i]), float(auc.high[i])],
      "auc_population": float(exposure["population"].auc[i]),
    }
    for i in shown
  ]


def _figures(cohort, outcomes, exposure) -> dict[str, Any]:
  """File name -> figure."""
  evidence = cohort_lib.evidence(cohort, 0)
  distilled = cohort.config.num_distilled_targets > 0
  names = ("population", "shadow", "reference", "distillation")[: 4 if distilled else 3]
  curves = {
    a: np.mean(
      [
        roc.tpr_at_fpr(o.scores, np.arange(len(o.scores)) < len(o.scores) // 2, _FPR)
        for o in outcomes[a]
      ],
      axis=0,
    )
    for a in names
  }
  auc = {a: np.mean([o.summary["auc"] for o in outcomes[a]]) for a in names}
  pairs = [("shadow", "population"), ("reference", "distillation")][: 1 + distilled]
  num_held = cohort.held[cohort.converged].sum(axis=0)
  figures = {
    "roc.png": study_plots.mean_roc_figure(
      _FPR, curves, auc, cohort.config.num_members
    ),
    "null_losses.png": study_plots.null_figure(
      _null_panels(cohort, outcomes, names), _ALPHA
    ),
    "auc_by_size.png": study_plots.auc_by_size_figure(_sizes(cohort)),
    "differences.png": study_plots.difference_figure(
      pairs,
      {a: evidence.losses - outcomes[a][0].thresholds for pair in pairs for a in pair},
      evidence.members,
      _ALPHA,
    ),
  }
  enough = num_held >= _LEAST_HELD
  if enough.any():
    figures["sample_auc.png"] = study_plots.sample_auc_figure(
      {a: exposure[a].auc[enough] for a in exposure}, least=_LEAST_HELD
    )
  return figures


def _null_panels(cohort, outcomes, names) -> list[list[study_plots.NullPanel]]:
  """Figure 1: an easy and a hard member of one target, there and on a second target."""
  targets = range(min(2, len(outcomes[names[-1]])))
  members = cohort.samples[0][: cohort.config.num_members]
  if len(targets) > 1:
    members = members[~cohort.held[targets[1], members]]
  hardness = np.where(cohort.held, np.nan, cohort.losses)[cohort.converged][:, members]
  order = members[np.argsort(np.nanmean(hardness, axis=0))]
  samples = [order[len(order) // 4], order[9 * len(order) // 10]]
  rows = []
  for target in targets:
    evidence = cohort_lib.evidence(cohort, target, np.array(samples))
    thresholds = {a: evaluation.evaluate(evidence, a).thresholds for a in names}
    for i, sample in enumerate(samples):
      kind = "member" if evidence.members[i] else "non-member"
      place = f"target {target + 1}, sample {cohort.rows[sample]}: {kind}"
      rows.append(
        [
          study_plots.NullPanel(
            f"{place}\n{wording.attack(a).title}" if not k else wording.attack(a).title,
            _null_losses(evidence, a, i),
            float(thresholds[a][i]),
            float(evidence.losses[i]),
          )
          for k, a in enumerate(names)
        ]
      )
  return rows


def _null_losses(evidence, attack: str, i: int) -> np.ndarray:
  """The losses that make the null of sample `i`."""
  if attack == "population":
    return evidence.population_losses
  if attack == "shadow":
    same = evidence.population_labels == evidence.labels[i]
    return evidence.reference_population_losses[:, same].ravel()
  if attack == "reference":
    return evidence.reference_losses[~evidence.reference_held[:, i], i]
  return evidence.distilled_losses[~evidence.distilled_held[:, i], i]


def _sizes(cohort: cohort_lib.Cohort) -> dict[str, Any]:
  """Figure 3's two panels."""
  most = cohort.config.num_models - 1
  models = sorted({size for size in _NUM_MODELS_SHOWN if size < most} | {most})
  per_class = cohort.config.num_population // cohort.num_classes
  rows = sorted({size for size in _POPULATION_SHOWN if size < per_class} | {per_class})
  return {
    "shadow, reference or distilled models": (
      models,
      cohort_metrics.by_num_models(cohort, models),
    ),
    "population rows per class": (
      rows,
      cohort_metrics.by_population(cohort, [cohort.num_classes * row for row in rows]),
    ),
  }


def _write(output_dir: pathlib.Path, content: dict[str, Any], figures) -> None:
  """Writes all files, or none: made in a folder beside, `results.json` moved last."""
  with tempfile.TemporaryDirectory(dir=output_dir, prefix=".incomplete-") as name:
    folder = pathlib.Path(name)
    results.write(folder / "results.json", content)
    for file, figure in figures.items():
      plots.write_png(folder / file, figure)
    for file in (*figures, "results.json"):
      (folder / file).replace(output_dir / file)


def _text(content: dict[str, Any]) -> str:
  """What a person reads on the terminal."""
  first = content["rows"][0]
  accuracy = [
    f"{part} {100 * first[f'{part}_accuracy']:.1f} % (paper"
    f" {100 * first[f'paper_{part}_accuracy']:.1f} %)"
    for part in ("train", "test")
  ]
  header = ("attack", "AUC", "95 % interval", "paper", "TPR at 1 % FPR", "targets")
  rows = [
    (
      wording.attack(row["attack"]).title,
      f"{row['auc']:.3f}",
      f"{row['auc_ci'][0]:.3f}-{row['auc_ci'][1]:.3f}",
      f"{row['paper_auc']:.3f}" if row["paper_auc"] else "",
      f"{100 * row['tpr_at_fpr']['0.01']:.1f} %",
      str(row["num_targets"]),
    )
    for row in content["rows"]
  ]
  agreement = content["agreement"]
  short = [name.split("_")[0][:12] for name in agreement["attacks"]]
  shares = [
    (name, *(f"{share:.2f}" for share in of_name))
    for name, of_name in zip(short, agreement["share"], strict=True)
  ]
  return "\n".join(
    [
      f"{first['config']} on {first['dataset']}: {first['num_models']} models of"
      f" {first['num_members']} rows; accuracy {', '.join(accuracy)}",
      "",
      results.table([header, *rows]),
      "",
      f"Decisions alike at alpha = {agreement['alpha']:g}, on"
      f" {agreement['num_samples']} samples of the first target:",
      results.table([("", *short), *shares]),
      *_exposed_text(content["exposed_samples"]),
    ]
  )


def _exposed_text(samples: list[dict[str, Any]]) -> list[str]:
  if not samples:
    return []
  header = ("most exposed sample", "class", "models holding it", "AUC", "95 % interval")
  rows = [
    (
      str(sample["index"]),
      str(sample["label"]),
      str(sample["num_holding"]),
      f"{sample['auc']:.3f}",
      f"{sample['auc_ci'][0]:.3f}-{sample['auc_ci'][1]:.3f}",
    )
    for sample in samples[:5]
  ]
  return ["", results.table([header, *rows])]


if __name__ == "__main__":
  common.run(main)
