"""Does DP-SGD keep its promise? The largest epsilon that canaries prove, at 95 %.

    python -m experiments.dp_audit --output_dir=DIR             # digits, epsilon 4
    python -m experiments.dp_audit --output_dir=DIR --mode=one_run
    python -m experiments.dp_audit --output_dir=DIR --claimed_epsilon=1,4,inf
    python -m experiments.dp_audit --output_dir=DIR --control=noise_tenth
    python -m experiments.dp_audit --output_dir=DIR --scores=FILE --coins=coins.npz

Canaries are planted in some private models and not in others, and an attacker guesses
which. What the guesses prove stands beside what the accountant claims. Modes:

    many_runs  one canary, in half of 2 --num_runs models: the sharper
    one_run    --num_canaries in every model, each by a coin of its own; --num_runs
               models show the spread, and each is a proof by itself

Canaries (--canary): gradient, the largest gradient that clipping allows, in a direction
of its own; mislabelled, feature, noise: rows that stand out; natural: rows as they are.
Two attackers are shown: of the final model, and of all models on the way. --control
breaks the mechanism on purpose, to see whether the audit notices. DIR/results.json
holds a row for each mechanism, attacker and run, and DIR/proof.html is a page of them.
A run that was interrupted goes on where it was when it is started again.

--scores is of your own training, in any framework, on data that experiments.dp_plant
has planted canaries in. FILE is a .npy or .csv: the model's probabilities or logits [m,
C] for all canaries in their order, or scores [m], higher where it seems to have seen
one; of several models, each on coins of its own, with commas. Or an .npz of scores [m]
and is_in [m], canaries of your own that were each in by a fair coin; or of with_canary
[n] and without_canary [n], scores of one canary by models that had it, and had it not.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import pathlib
import time
from typing import Any

from absl import flags
import numpy as np

from jmia import datasets, types
from jmia.defenses import dp_sgd
from jmia.dp import audit, controls, engine, given, proofs, score_files
from jmia.report import claim_page, results
from jmia.training import config as config_lib
from jmia.training import optimizers

from . import (
  bars,
  claim_pages,
  common_flags,
  dp_flags,
  dp_pages,
  launch,
  run_folder,
  training_flags,
)

flags.adopt_module_key_flags(common_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(dp_flags)
_SCORES = flags.DEFINE_list(
  "scores", None, "Scores of canaries by models of your own; nothing is trained."
)
_COINS = flags.DEFINE_list(
  "coins", None, "coins.npz of experiments.dp_plant, one for each of --scores."
)
_MODE = flags.DEFINE_enum("mode", "many_runs", engine.MODES, "See the description.")
_NUM_RUNS = flags.DEFINE_integer(
  "num_runs",
  None,
  "Models in one_run; models with, and as many without, in many_runs. Default: 4 and"
  " 500.",
  lower_bound=1,
)
_CLAIMED = flags.DEFINE_list(
  "claimed_epsilon",
  None,
  "The guarantees that are tried, each a mechanism; inf too. Default: 4; with --scores,"
  " which takes one, none.",
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
# What only a training that is done here reads.
_OF_TRAINING = (
  *("dataset", "data_dir", "num_examples", "width", "mode", "canary", "num_canaries"),
  *("num_runs", "clip_norm", "start", "control", "seed"),
)
# A small network: what is tried is the mechanism, and bounds are no sharper with more.
_HIDDEN = (32,)


def main() -> None:
  """Trains, guesses, and writes what is proved."""
  started = time.monotonic()
  if _SCORES.value is not None:
    if not any(_SCORES.value):
      raise ValueError("--scores must have a value: a file, or several")
    _refuse_of_training()
    _prove(started)
    return
  common_flags.refuse(["coins"], "is of --scores")
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
    notes = [dataset.description, proofs.PROVED[_MODE.value], proofs.GAUSSIAN]
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
    page = dp_pages.of_rows(rows, _facts(dataset, rows), (), ())
    _write(output_dir, content, page)
  _say(_table(rows), rows, notes[1:], output_dir)


def _refuse_of_training() -> None:
  """Raises ValueError where a flag is given that nothing reads with --scores."""
  modules = flags.FLAGS.flags_by_module_dict()
  of_training = [flag.name for flag in modules[training_flags.__name__]]
  common_flags.refuse(
    [*of_training, *_OF_TRAINING],
    "is not read with --scores: nothing is trained or drawn, so leave it out",
  )
  claimed = _CLAIMED.value or []
  if len(claimed) > 1:
    raise ValueError(
      f"--claimed_epsilon={','.join(claimed)}: one claim is made of models of --scores"
    )


def _prove(started: float) -> None:
  """Says what given scores prove."""
  claimed = _number((_CLAIMED.value or ["inf"])[0])
  delta = dp_flags.delta()
  with run_folder.run_dir(common_flags.OUTPUT_DIR.value) as output_dir:
    arrays = _arrays(_SCORES.value or [], _COINS.value or [])
    rows = given.prove(**arrays, claimed_epsilon=claimed, delta=delta)
    mode = rows[0]["mode"]
    proved, beyond = proofs.PROVED[mode], given.beyond(rows)
    notes = [proved, given.ASSUMED[mode], proofs.GAUSSIAN]
    notes += [beyond] if beyond else []
    content = results.document(
      rows,
      config={
        "scores": _SCORES.value,
        "coins": _COINS.value,
        "claimed_epsilon": str(claimed),
        "delta": delta,
      },
      seed=common_flags.SEED.value,
      seconds={"total": time.monotonic() - started},
      notes=notes,
    )
    facts = [("Models", f"{rows[0]['num_runs']:,}"), ("Trained", "elsewhere")]
    page = dp_pages.of_rows(rows, facts, _hashes(), [beyond] if beyond else [])
    _write(output_dir, content, page)
  _say(_table_of_given(rows), rows, notes, output_dir)


def _write(
  output_dir: pathlib.Path, content: Mapping[str, Any], page: claim_page.Claim
) -> None:
  """Writes the page, and then the rows."""
  claim_page.write(output_dir / "proof.html", page)
  results.write(output_dir / "results.json", content)


def _say(
  table: Sequence[Sequence[str]],
  rows: Sequence[Mapping[str, Any]],
  notes: Sequence[str],
  output_dir: pathlib.Path,
) -> None:
  """Prints what is proved, and where it is written."""
  print(results.table(table))
  print("\n" + "\n".join(proofs.sentences(rows)))
  print("\n" + "\n".join(notes))
  print(f"\nThe page to hand on is {output_dir / 'proof.html'}.")


def _hashes() -> list[tuple[str, str, str]]:
  """Of the files that were given."""
  named = [
    *((path, "scores") for path in _SCORES.value or []),
    *((path, "coins") for path in _COINS.value or []),
  ]
  return [(f"{path} ({what})", claim_pages.sha256(path), "") for path, what in named]


def _facts(
  dataset: types.Dataset, rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
  """What was trained here."""
  first = rows[0]
  models = first["num_runs"] * (2 if first["mode"] == "many_runs" else 1)
  return [
    ("Data", dataset.name),
    ("Canary", first["canary"]),
    ("Models of a mechanism", f"{models:,}"),
    ("Steps", f"{first['num_steps']:,}"),
    ("Sampling rate", f"{first['sampling_rate']:.3g}"),
  ]


def _arrays(paths: Sequence[str], coins: Sequence[str]) -> dict[str, np.ndarray]:
  """What `given.prove` takes, of one file or of several models' together."""
  if len(coins) not in (0, len(paths)):
    raise ValueError(
      f"--scores holds {len(paths)} and --coins {len(coins)} files, expected one coins"
      " file for each"
    )
  found = [
    score_files.read(path, of) for path, of in itertools.zip_longest(paths, coins)
  ]
  if len(found) == 1:
    return found[0]
  shapes = [arrays["scores"].shape if "scores" in arrays else None for arrays in found]
  if len(set(shapes)) > 1 or shapes[0] is None or len(shapes[0]) > 1:
    raise ValueError(
      f"--scores={','.join(paths)}: of several models each file holds one's scores, of"
      " as many canaries as the others"
    )
  return {name: np.stack([arrays[name] for arrays in found]) for name in found[0]}


def _table_of_given(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """A line for each run."""
  header = ["run", "claimed", "proved", "at most", "if Gaussian", "p", "contradicted"]
  return [
    header,
    *(
      [
        str(row["run"]),
        "–" if row["claimed_epsilon"] is None else f"{row['claimed_epsilon']:.2f}",
        f"{row['epsilon_lower']:.2f}",
        f"{row['epsilon_most']:.2f}",
        dp_pages.or_dash(row["epsilon_lower_gaussian"], ".2f"),
        dp_pages.or_dash(row["p_value"], ".2g"),
        {None: "–", True: "yes", False: "no"}[row["contradicted"]],
      ]
      for row in rows
    ),
  ]


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
      canary=dp_flags.CANARY.value or "gradient",
      num_canaries=dp_flags.NUM_CANARIES.value,
      num_runs=_NUM_RUNS.value or (4 if is_one else 500),
      num_members=training_flags.NUM_MEMBERS.value or 400,
      train=train,
      private=dp_sgd.DPConfig(
        epsilon=_number(claimed),
        delta=dp_flags.delta(),
        clip_norm=_CLIP_NORM.value,
      ),
      start=_START.value,
      control=None if control == "none" else control,
      seed=common_flags.SEED.value,
    )
    for claimed in _CLAIMED.value or ["4"]
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
