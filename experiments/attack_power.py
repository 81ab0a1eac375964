"""How many models does each attack need?

    python -m experiments.attack_power --output_dir=DIR --dataset=location30
    python -m experiments.attack_power --output_dir=DIR --sizes=1,2,4,8,16,64,256
    python -m experiments.attack_power --output_dir=DIR --references=population
    python -m experiments.attack_power --output_dir=DIR --dataset=mnist --num_queries=9

Targets and reference models are trained once, and every attack is run with the first
reference models alone, fewer and more of them; distilled and retrained models likewise.
With --references=in_out each is trained on half of the evaluated rows, so that of N
models N / 2 held a sample; with population none did. DIR gets

    results.json   a row for each attack and number of models: AUC and TPR at 10, 1 and
                   0.1 % FPR, means over targets with intervals over targets
    power.png      AUC and TPR at 1 % FPR against the number of models

A run that was interrupted goes on where it was when it is started again.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import time
from typing import Any

from absl import flags
import jax

from jmia import atomic, audit, datasets
from jmia.audit import power
from jmia.audit.panel import Panel
from jmia.report import plots, results, study_plots, wording
from jmia.stats import levels
from jmia.training import config as config_lib

from . import (
  attack_flags,
  bars,
  common_flags,
  launch,
  run_folder,
  shared_flags,
  training_flags,
)

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(attack_flags)
flags.adopt_module_key_flags(training_flags)
flags.declare_key_flag("num_queries")
flags.declare_key_flag("references")
flags.declare_key_flag("sizes")
_SIZES = ("1", "2", "4", "8", "16", "64")
_OFFLINE = (
  *("population", "shadow", "reference", "calibrated_loss"),
  *("lira_offline", "rmia_offline", "base", "bavaria_offline"),
)
_ONLINE = ("lira_online", "rmia_online", "base:online", "bavaria")


def main() -> None:
  """Trains, attacks, and writes the files."""
  start = time.monotonic()
  sizes = _sizes()
  name = common_flags.DATASET.value or "digits"
  config = _config(name, sizes)
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    dataset = datasets.load(
      name,
      data_dir=common_flags.DATA_DIR.value,
      num_examples=common_flags.NUM_EXAMPLES.value,
      seed=common_flags.SEED.value,
    )
    power.check(dataset, config, sizes)
    checkpoints = output_dir / "checkpoints"
    with bars.shown() as progress:
      panel = power.train(
        dataset, config, checkpoint_dir=checkpoints, progress=progress
      )
    trained = time.monotonic()
    rows = power.rows(panel, config.attacks, sizes)
    content = results.document(
      rows,
      config=_described(dataset.name, sizes, config, panel),
      seed=config.seed,
      seconds={
        **panel.seconds,
        "attacks": time.monotonic() - trained,
        "total": time.monotonic() - start,
      },
      notes=[dataset.description, *panel.notes],
    )
    _write(output_dir, content)
  print(_text(rows))
  print(f"\nThe results are in {output_dir / 'results.json'}")


def _config(name: str, sizes: Sequence[int]) -> audit.AuditConfig:
  """The audit of the flags, with as many models as the largest size."""
  return audit.AuditConfig(
    attacks=attack_flags.chosen(
      _OFFLINE + _ONLINE if _references() == "in_out" else _OFFLINE
    ),
    num_targets=attack_flags.NUM_TARGETS.value or 4,
    references=_references(),
    num_members=training_flags.NUM_MEMBERS.value,
    num_calibration=0,
    # Models in and out come in pairs, whose halves are each other's complement.
    num_references=max(sizes[-1], 2),
    num_distilled=max(sizes[-1], 2),
    num_retrained=max(sizes[-1], 2),
    train=training_flags.override(config_lib.preset(name)),
    num_queries=shared_flags.NUM_QUERIES.value or 1,
    seed=common_flags.SEED.value,
    width=common_flags.WIDTH.value,
  )


def _described(
  name: str, sizes: Sequence[int], config: audit.AuditConfig, panel: Panel
) -> dict[str, Any]:
  """The configuration as it is recorded."""
  return {
    "dataset": name,
    "sizes": sizes,
    "references": config.references,
    "num_targets": config.num_targets,
    "num_queries": config.num_queries,
    "num_members": int(panel.design.members.num_members[0]),
    "train": config.train,
    "matmul_precision": jax.config.values["jax_default_matmul_precision"],
  }


def _references() -> str:
  return shared_flags.REFERENCES.value or "in_out"


def _sizes() -> list[int]:
  """The numbers of models, ascending.

  Raises:
    ValueError: if one is no whole number above 0.
  """
  texts = _SIZES if shared_flags.SIZES.value is None else shared_flags.SIZES.value
  for text in texts:
    if not text.isdecimal() or int(text) < 1:
      raise ValueError(f"--sizes: {text!r} is no whole number above 0")
  if not texts:
    raise ValueError("--sizes is empty")
  return sorted({int(text) for text in texts})


def _text(rows) -> str:
  """A table for each figure: attacks down, numbers of models across."""
  parts, sizes = [], sorted({0} | {row["num_references"] for row in rows})
  for title, figure in _FIGURES.items():
    lines = [[title, *map(str, sizes)]]
    for attack, queries in dict.fromkeys(map(_curve, rows)):
      of_curve = [row for row in rows if _curve(row) == (attack, queries)]
      cells = {row["num_references"]: figure(row) for row in of_curve}
      at = [f"{cells[n]:.3f}" if n in cells else "–" for n in sizes]
      title = wording.attack(attack).title
      lines.append([title if queries == 1 else f"{title}, {queries} queries", *at])
    parts.append(results.table(lines))
  return "\n\n".join(parts)


def _curve(row) -> tuple[str, int]:
  return row["attack"], row["num_queries"]


def _tpr(fpr: str) -> Callable[[Mapping[str, Any]], float]:
  return lambda row: row["tpr_at_fpr"][fpr]


_FIGURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
  "AUC": lambda row: row["auc"],
  **{levels.tpr_title(fpr): _tpr(fpr) for fpr in levels.FPRS[1:]},
}


def _write(output_dir: pathlib.Path, content) -> None:
  """Writes both files, or none: `results.json` is moved last."""
  with atomic.folder(output_dir) as folder:
    results.write(folder / "results.json", content)
    plots.write_png(folder / "power.png", study_plots.power_figure(content["rows"]))
    atomic.move(folder, output_dir, ("power.png", "results.json"))


if __name__ == "__main__":
  launch.run(main)
