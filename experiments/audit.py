"""Audits a classifier for membership inference and writes a report.

    python -m experiments.audit --output_dir=DIR                        # digits
    python -m experiments.audit --output_dir=DIR --dataset=location30
    python -m experiments.audit --output_dir=DIR --signals=FILE.npz

The first two train a target and the models it is compared with; the last takes the
answers of a model from any framework and trains nothing. DIR/report.html is the page to
read. A run that was interrupted goes on where it was when it is started again.
"""

import shutil

from absl import flags

from experiments import attack_flags, common, defense_flags, training_flags
from jmia import audit, datasets
from jmia.audit import signals_file
from jmia.datasets import groups
from jmia.report import tables
from jmia.training import config as config_lib

flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(defense_flags)
_SIGNALS = flags.DEFINE_string(
  "signals", None, "An .npz of logits to audit instead of training; see the README."
)
_ESTIMATOR = flags.DEFINE_string(
  "estimator",
  None,
  "Threshold estimator of all attacks that have one. Default: each attack's own.",
)
_DELTA = flags.DEFINE_float(
  "delta",
  0.0,
  "At which an epsilon is shown that the attacks refute; DP-SGD's own, where the models"
  " carry it.",
)
_TITLE = flags.DEFINE_string(
  "title", None, "What the report calls the model. Default: its name and its data's."
)
_GROUPS = flags.DEFINE_list(
  "groups",
  None,
  "Columns whose groups' exposure is told beside that of classes: of a table; arrays of"
  " an .npz, [N]; or further columns of a folder's CSV.",
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
_REFERENCES = flags.DEFINE_enum(
  "references",
  "population",
  ["population", "in_out"],
  "What reference models are trained on: rows of the population, or each on half of the"
  " evaluated rows, which the online attacks need.",
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


def main() -> None:
  """Audits, and writes the report's files."""
  with common.results_dir(common.OUTPUT_DIR.value) as output_dir:
    if _SIGNALS.value is not None:
      result = _audit_signals()
    else:
      result = _audit_dataset(output_dir / "checkpoints")
    common.leave_files_to_first_process()
    audit.write(result, output_dir)
    if _SIGNALS.value is None:
      shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
  print(tables.text(result.report))
  print(f"\nThe report is {output_dir / 'report.html'}")


def _audit_signals() -> audit.Result:
  return audit.from_evidence(
    signals_file.load(str(_SIGNALS.value)),
    attack_flags.chosen(audit.DEFAULT_ATTACKS),
    _ESTIMATOR.value,
    {"signals": _SIGNALS.value, "seed": common.SEED.value, "title": _TITLE.value},
    delta=_DELTA.value,
  )


def _audit_dataset(checkpoint_dir) -> audit.Result:
  dataset_name = common.DATASET.value or "digits"
  config = audit.AuditConfig(
    attacks=attack_flags.chosen(
      audit.default_attacks(_REFERENCES.value, attack_flags.NUM_TARGETS.value or 1)
    ),
    num_targets=attack_flags.NUM_TARGETS.value or 1,
    references=_REFERENCES.value,
    num_members=training_flags.NUM_MEMBERS.value,
    num_nonmembers=_NUM_NONMEMBERS.value,
    num_population=_NUM_POPULATION.value,
    num_calibration=_NUM_CALIBRATION.value,
    num_references=_NUM_REFERENCES.value,
    num_distilled=_NUM_DISTILLED.value,
    num_left_out=_NUM_LEFT_OUT.value,
    num_retrained=_NUM_RETRAINED.value,
    estimator=_ESTIMATOR.value,
    delta=_DELTA.value,
    train=training_flags.override(config_lib.preset(dataset_name)),
    defenses=defense_flags.chosen(),
    title=_TITLE.value,
    seed=common.SEED.value,
    width=common.WIDTH.value,
  )
  dataset = datasets.load(
    dataset_name,
    data_dir=common.DATA_DIR.value,
    num_examples=common.NUM_EXAMPLES.value,
    seed=common.SEED.value,
  )
  with common.progress_bars() as progress:
    return audit.run(
      dataset,
      config,
      groups=groups.load(dataset, tuple(_GROUPS.value or ())),
      columns=groups.files(dataset),
      checkpoint_dir=checkpoint_dir,
      progress=progress,
    )


if __name__ == "__main__":
  common.run(main)
