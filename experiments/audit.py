"""Audits a classifier for membership inference and writes a report.

    python -m experiments.audit --output_dir=DIR                        # digits
    python -m experiments.audit --output_dir=DIR --dataset=location30
    python -m experiments.audit --output_dir=DIR --signals=FILE.npz
    python -m experiments.audit --output_dir=DIR --signals=FOLDER --target=3

The first two train a target and the models it is compared with; the others take the
answers of models from any framework and train nothing. DIR/report.html is the page to
read. A run that was interrupted goes on where it was when it is started again.

FILE.npz of --signals holds, of N rows, C classes, P rows of a population that nobody
trained on, R reference and D distilled models:

    target_logits, labels, members  [N, C], [N], [N] bool; required
    population_logits, population_labels            [P, C], [P]: Attack P
    reference_logits                                [R, N, C]: Attack R
    reference_members                               [R, N] bool: which references held a
                                                    row in training; absent: none
    reference_population_logits                     [R, P, C]: Attack S
    reference_population_members                    [R, P] bool, likewise
    distilled_logits                                [D, N, C]: Attack D
    calibrates                                      [N] bool: non-members that only
                                                    calibrate p-values
    group_NAME                                      [N] numbers or text, for
                                                    --groups=NAME

Logits, or probabilities, may be of Q copies of each row, [N, Q, C] and [R, N, Q, C],
the row itself first. In place of any logits one number a row will do: *_losses,
*_scaled_logits or *_true_class_probabilities. FOLDER is what another tool left: LiRA's
(*/keep.npy with scores.npy or logits.npy; TF Privacy's experiment-*), Privacy Meter 2's
(memberships.npy, signals/*_signals.npy). Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
import shlex
import sys
from typing import Any

from absl import flags
import numpy as np

from jmia import attacks, audit, datasets, types
from jmia.attacks import evidence
from jmia.audit import config as config_lib
from jmia.audit import estimate, limits, repeat
from jmia.datasets import groups
from jmia.outputs import kinds
from jmia.report import advice, tables, wording
from jmia.stats import nulls
from jmia.training import config as training_config

from . import (
  attack_flags,
  bars,
  common_flags,
  defense_flags,
  forecast,
  launch,
  run_folder,
  shared_flags,
  training_flags,
)

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(defense_flags)
flags.declare_key_flag("num_queries")
flags.declare_key_flag("references")
_SIGNALS = flags.DEFINE_string(
  "signals",
  None,
  "Answers to audit instead of training: an .npz of logits, losses, scaled logits or"
  " true-class probabilities, or a folder of LiRA's (lira-pytorch, TF Privacy) or"
  " Privacy Meter's: see above, or --help.",
)
_OUTPUTS = flags.DEFINE_enum(
  "outputs",
  "auto",
  kinds.OUTPUTS,
  "What the answers in the file of --signals are. Default: told from them.",
)
_TARGET = flags.DEFINE_string(
  "target",
  None,
  "Of a folder of --signals, the model under audit, by name or number. Default: each in"
  " turn.",
)
_ESTIMATOR = flags.DEFINE_string(
  "estimator",
  None,
  "Threshold estimator of all attacks that have one, of "
  f"{', '.join(nulls.METHODS)}. Default: each attack's own.",
)
_NEAR_COPIES = flags.DEFINE_float(
  "near_copies",
  None,
  "Of images: non-members whose thumbnail is within this of a member's are counted as"
  " near copies, in standard deviations of all thumbnails' values; .1 is near. Default:"
  " exact copies alone are counted.",
)
_TITLE = flags.DEFINE_string(
  "title", None, "What the report calls the model. Default: its name and its data's."
)
_GROUPS = flags.DEFINE_list(
  "groups",
  None,
  "Columns whose groups' exposure is told beside that of classes: of a table; arrays of"
  " an .npz, [N]; further columns of a folder's CSV; or, of a file of --signals, its"
  " arrays group_NAME.",
)
_FAIL_ABOVE = flags.DEFINE_list(
  "fail_above",
  None,
  "Exit with code 3, once the files are written, where the lower end of an interval is"
  " above: auc:VALUE or tpr@FPR:VALUE, such as auc:0.6,tpr@0.01:0.05. The intervals are"
  " widened for all attacks at once. Refused, before anything is trained, where so few"
  " samples could not be above, whatever the model leaks: tpr@0.01 takes 750"
  " non-members with 6 attacks.",
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run",
  False,
  "Say what would be trained, how long that takes here and in what memory, and stop.",
)
_REPEAT = flags.DEFINE_string(
  "repeat",
  None,
  "A report.json, or its folder, whose settings are taken; --defense and --title, if"
  " given, replace its own, and no other setting may be given.",
)
_NUM_NONMEMBERS = flags.DEFINE_integer(
  "num_nonmembers",
  None,
  "Rows that false positives are evaluated on. Default: as many as members.",
  lower_bound=1,
)
_NUM_POPULATION = flags.DEFINE_integer(
  "num_population",
  None,
  "Rows that calibrate the attacks and train the models compared with. Default: the"
  " rest, at most four times the members.",
  lower_bound=1,
)
_NUM_CALIBRATION = flags.DEFINE_integer(
  "num_calibration",
  None,
  "Rows of the population set apart to calibrate p-values. Default: a quarter of it, or"
  " what the models compared with do not need; 0 for no p-values.",
  lower_bound=0,
)
_NUM_REFERENCES = flags.DEFINE_integer(
  "num_references", 16, "Reference models, which are the shadow models too."
)
_NUM_DISTILLED = flags.DEFINE_integer(
  "num_distilled", 16, "Models distilled from the target."
)
_NUM_LEFT_OUT = flags.DEFINE_integer(
  "num_left_out", 20, "Samples attacked by leave_one_out, half of them members."
)
_NUM_RETRAINED = flags.DEFINE_integer(
  "num_retrained", 8, "Models retrained for each sample that leave_one_out attacks."
)


# Beside those of training and defences, what a file of answers has no use for.
_OF_TRAINING = (
  *("dataset", "num_examples", "width", "num_queries", "num_targets", "references"),
  *("num_nonmembers", "num_population", "num_calibration", "num_references"),
  *("num_distilled", "num_left_out", "num_retrained", "repeat"),
)
# What of an attack's needs makes it read a flag.
_OF_GROUPS = {
  "references": {"reference", "in_out"},
  "num_references": {"reference", "in_out"},
  "num_distilled": {"distilled"},
  "num_left_out": {"left_out"},
  "num_retrained": {"left_out"},
}


def main() -> None:
  """Audits, and writes the report's files."""
  allowed = [limits.parse(text) for text in _FAIL_ABOVE.value or ()]
  _refuse_useless()
  if _DRY_RUN.value:
    _say_plan(allowed)
    return

  def show(output_dir: pathlib.Path) -> None:
    path = output_dir / "report.json"
    _show(json.loads(path.read_text("utf-8")), output_dir, allowed)

  with run_folder.run_dir(common_flags.OUTPUT_DIR.value, show) as output_dir:
    if _SIGNALS.value is not None:
      result = _audit_signals()
    else:
      result = _audit_dataset(output_dir / "checkpoints", allowed)
    launch.leave_files_to_first_process()
    audit.write(result, output_dir)
  _show(result.report, output_dir, allowed)


def _show(
  report: Mapping[str, Any], output_dir: pathlib.Path, allowed: Sequence[limits.Limit]
) -> None:
  """Prints a report; exit code 3 where it is above a limit, 2 where one is untested."""
  print(tables.text(report))
  print(f"\nThe report is {output_dir / 'report.html'}")
  for following in _next(report, output_dir):
    print(following)
  above, untested = limits.exceeded(report, allowed), limits.untested(report, allowed)
  for sentence in (*above, *untested):
    print(f"audit: {sentence}", file=sys.stderr)
  if above or untested:
    sys.exit(3 if above else 2)


def _refuse_useless() -> None:
  """Raises ValueError where a flag is given that another makes useless."""
  modules = flags.FLAGS.flags_by_module_dict()
  of_training = [flag.name for flag in modules[training_flags.__name__]]
  if _SIGNALS.value is not None:
    common_flags.refuse(
      [*of_training, "defense", *_OF_TRAINING, "near_copies", "data_dir"],
      "with --signals: nothing is trained, so leave it out",
    )
    return
  common_flags.refuse(["outputs", "target"], "is of --signals")
  if _REPEAT.value is not None:
    if not flags.FLAGS["defense"].present:
      common_flags.refuse(["delta"], "with --repeat is for --defense: leave it out")
    common_flags.refuse(
      [*of_training, *_OF_TRAINING[:-1], "attacks", "seed", "estimator", "near_copies"],
      "with --repeat: the report's own is taken, so leave it out",
    )


def _refuse_unread(names: Sequence[str], needs: attacks.Needs) -> None:
  """Raises ValueError where a flag is given that none of the attacks reads."""
  unread = [flag for flag, of in _OF_GROUPS.items() if not of & needs.groups.keys()]
  signals = map(evidence.parse, needs.signals)
  if evidence.QUERIES not in [copies for _, copies in signals]:
    unread.append("num_queries")
  common_flags.refuse(unread, "is read by none of the attacks, so leave it out")
  _refuse_idle_estimator(names)


def _refuse_idle_estimator(names: Sequence[str]) -> None:
  if not any("estimator" in attacks.get(name).options for name in names):
    common_flags.refuse(
      ["estimator"], "is read by none of the attacks, so leave it out"
    )


def _next(report, output_dir) -> list[str]:
  """The one thing to do next: try what helped elsewhere, and compare."""
  found, _ = advice.of(report)
  config = report["config"]
  if not found or config.get("defenses") or "train" not in config:
    return []  # nor of answers that somebody else trained for
  folder, path = (shlex.quote(str(p)) for p in (output_dir, output_dir / "report.json"))
  return [
    "Next, a defence beside it (jmia, or python -m experiments):",
    f"  jmia audit --repeat={path} --defense={found[0].defense} --output_dir=DIR",
    f"  jmia compare {folder} DIR --output_dir=comparison",
  ]


def _say_plan(allowed: Sequence[limits.Limit]) -> None:
  if _SIGNALS.value is not None:
    raise ValueError("dry_run: with --signals nothing is trained")
  if common_flags.OUTPUT_DIR.value is not None:
    run_folder.check(common_flags.OUTPUT_DIR.value)
  dataset, config = _dataset_and_config()
  by, columns = _of_rows(dataset)
  plan = estimate.plan(dataset, config, by, columns)
  _check_limits(dataset, config, allowed)
  cost = estimate.cost(dataset, plan, width=config.width)
  print(
    f"Would train {plan}, in about {wording.duration(cost.seconds)} and"
    f" {forecast.memory(cost.num_bytes)}."
  )


def _audit_signals() -> audit.Result:
  if not _SIGNALS.value:
    raise ValueError("--signals must have a value: a file or a folder")
  chosen = attack_flags.chosen(audit.DEFAULT_ATTACKS)
  _refuse_idle_estimator(chosen)
  return audit.from_signals(
    _SIGNALS.value,
    chosen,
    target=_TARGET.value,
    outputs=_OUTPUTS.value,
    groups=_GROUPS.value or (),
    estimator=_ESTIMATOR.value,
    delta=shared_flags.DELTA.value or 0.0,
    seed=common_flags.SEED.value,
    title=_TITLE.value,
  )


def _audit_dataset(checkpoint_dir, allowed: Sequence[limits.Limit]) -> audit.Result:
  dataset, config = _dataset_and_config()
  _check_limits(dataset, config, allowed)
  by, columns = _of_rows(dataset)
  told: list[str] = []
  with bars.shown() as show:

    def progress(what: str, done: int, total: int) -> None:
      if not told:  # not before: bad input is told in one line
        told.append(f"Training {estimate.plan(dataset, config)}.")
        print(told[0], file=sys.stderr)
      show(what, done, total)

    return audit.run(
      dataset,
      config,
      groups=by,
      columns=columns,
      checkpoint_dir=checkpoint_dir,
      progress=progress,
    )


def _check_limits(
  dataset: types.Dataset, config: audit.AuditConfig, allowed: Sequence[limits.Limit]
) -> None:
  """Raises ValueError where a limit could not be exceeded, before the training."""
  if allowed:
    split = config_lib.split_of(dataset, config, None)
    design = config_lib.design_of(split, config)
    limits.check(design, config.attacks, allowed)


def _of_rows(
  dataset: types.Dataset,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """What the user's data say of each row: to tell groups by, and to show beside it."""
  return groups.load(dataset, tuple(_GROUPS.value or ())), groups.files(dataset)


def _dataset_and_config() -> tuple[types.Dataset, audit.AuditConfig]:
  """What the flags say, or the report that is to be repeated."""
  dataset_name = common_flags.DATASET.value or "digits"
  num_examples, seed = common_flags.NUM_EXAMPLES.value, common_flags.SEED.value
  if _REPEAT.value is not None:
    report, config = _repeated(pathlib.Path(_REPEAT.value).expanduser())
    seed = report["seed"]
    launch.repeat_precision(report["config"].get("matmul_precision"))
    config = dataclasses.replace(
      config,
      defenses=defense_flags.chosen() or config.defenses,
      title=_TITLE.value or config.title,
    )
    dataset_name = report["config"]["dataset"]
    if dataset_name == "purchase100_synthetic":
      num_examples = report["dataset"]["num_examples"]
  dataset = datasets.load(
    dataset_name,
    data_dir=common_flags.DATA_DIR.value,
    num_examples=num_examples,
    seed=seed,
  )
  if _REPEAT.value is None:
    config = _config(dataset_name, dataset)
  return dataset, config


def _repeated(path: pathlib.Path) -> tuple[Mapping[str, Any], audit.AuditConfig]:
  """A report, given by itself or by its folder, and its settings."""
  if path.is_dir():
    path /= "report.json"
  try:
    report = json.loads(path.read_text("utf-8"))
    config = repeat.settings_of(report)
    if "seed" not in report or "dataset" not in report["config"]:
      raise ValueError("the report's seed or dataset is missing")
    return report, config
  except ValueError as error:
    raise ValueError(f"--repeat={path}: {error}") from error
  except OSError as error:
    raise OSError(f"--repeat={path}: {error.strerror}") from error


def _config(dataset_name: str, dataset: types.Dataset) -> audit.AuditConfig:
  references = shared_flags.REFERENCES.value or "population"
  config = audit.AuditConfig(
    attacks=attack_flags.chosen(
      audit.default_attacks(references, attack_flags.NUM_TARGETS.value or 1)
    ),
    num_targets=attack_flags.NUM_TARGETS.value or 1,
    references=references,
    num_members=training_flags.NUM_MEMBERS.value,
    num_nonmembers=_NUM_NONMEMBERS.value,
    num_population=_NUM_POPULATION.value,
    num_calibration=_NUM_CALIBRATION.value,
    num_references=_NUM_REFERENCES.value,
    num_distilled=_NUM_DISTILLED.value,
    num_left_out=_NUM_LEFT_OUT.value,
    num_retrained=_NUM_RETRAINED.value,
    num_queries=shared_flags.NUM_QUERIES.value or 1,
    estimator=_ESTIMATOR.value,
    delta=shared_flags.DELTA.value or 0.0,
    train=training_flags.override(
      training_config.preset(dataset_name, dataset.x.shape[1:])
    ),
    defenses=defense_flags.chosen(reads_delta=True),
    near_copies=_NEAR_COPIES.value,
    title=_TITLE.value,
    seed=common_flags.SEED.value,
    width=common_flags.WIDTH.value,
  )
  _refuse_unread(config.attacks, config.needs())
  return config


if __name__ == "__main__":
  launch.run(main)
