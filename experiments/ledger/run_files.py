"""Runs of our studies, cut to their figures: `runs/ID.json`, one for each.

A run's file holds the command, its settings, seed, versions and time, and the figures
of each setting as values, one for each seed or target. It is made from the folder that
the study wrote, and never by hand.
"""

from collections.abc import Iterator, Mapping
import json
import pathlib
import re
from typing import Any

from jmia.report import results

from .. import runs as folders
from . import cells, studies

HERE = cells.HERE / "runs"
_FIELDS = (
  "id", "study", "command", "config", "seed", "versions", "device", "seconds", "notes",
  "figures",
)  # fmt: skip
# Flags that say where something is on a machine, as a reader would write them.
_PLACES = {"data_dir": "TFDS", "models_dir": "MODELS"}
# Binaries whose results are a file, and a setting that only theirs have.
_FILES = {"benchmark": "suite", "gpu_day": "steps"}
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]*")

Run = Mapping[str, Any]


def add(source: pathlib.Path, name: str) -> pathlib.Path:
  """Cuts a study's results to a run's file, and returns where it is.

  Args:
    source: a folder that a study wrote and finished, or a file of `benchmark` or
      `gpu_day`.
    name: of the run, its id.

  Raises:
    ValueError: the source holds no finished study, one that the ledger does not keep,
      or results with paths; or the id is not lower-case letters, digits, ._-.
    OSError: a file cannot be read or written.
  """
  if not _ID.fullmatch(name):
    raise ValueError(f"--id={name}: expected lower-case letters, digits and . _ -")
  study, binary, flags, document = (
    _of_folder(source) if source.is_dir() else _of_benchmark(source)
  )
  flags = {flag: _PLACES.get(flag, value) for flag, value in flags.items()}
  content = {
    "id": name,
    "study": study,
    "command": " ".join(
      [f"python -m experiments.{binary}", *(f"--{f}={v}" for f, v in flags.items())]
    ),
    "config": {**document["config"], "flags": flags},
    "seed": document["seed"],
    "versions": document["versions"],
    "device": document["device"],
    "seconds": {k: round(v, 1) for k, v in document["seconds"].items()},
    "notes": document["notes"],
    "figures": studies.figures(studies.STUDIES[study], document),
  }
  path = HERE / f"{name}.json"
  text = json.dumps(content, ensure_ascii=False)
  if found := re.search(r'"/[\w.-]+/[^"]*"', text):
    raise ValueError(f"{source}: its results hold {found[0]}, a path of this machine")
  results.write(path, content)
  return path


def _of_folder(folder: pathlib.Path) -> tuple[str, str, Run, Run]:
  """A study's name, its binary, the flags it was given, and its results."""
  record = _json(folder / folders.RECORD)
  if not record.get("finished"):
    raise ValueError(f"{folder} holds no finished run: {folders.RECORD} says so")
  _check_known(record["name"])
  document = _json(folder / "results.json")
  return record["name"], record["name"], record["flags"], document


def _of_benchmark(path: pathlib.Path) -> tuple[str, str, Run, Run]:
  """The same of a file, whose settings are all of its command's flags."""
  document = _json(path)
  config = document.get("config", {})
  binary = next((b for b, flag in _FILES.items() if flag in config), None)
  if binary is None:
    raise ValueError(f"{path} is of none of {', '.join(_FILES)}")
  flags = {
    flag: ",".join(value) if isinstance(value, list) else value
    for flag, value in config.items()
    if value is not False
  }
  return "benchmark", binary, flags, document


def load() -> dict[str, Run]:
  """Returns every run on record, by id.

  Raises:
    ValueError: a file is not as `add` makes it.
  """
  return {run["id"]: run for run in map(_read, sorted(HERE.glob("*.json")))}


def figures_of(run: Run) -> Iterator[tuple[cells.Key, cells.Figure]]:
  """Yields (paper, table, row, column) of each cell that a run has, and its figure."""
  study = studies.STUDIES[run["study"]]
  if study.cells is None:
    return
  config = {**run["config"], "notes": run["notes"]}
  training = study.beside(config)
  for (table, row, column), names in study.cells(config, run["figures"]):
    values = tuple(v for name in names for v in run["figures"].get(name, ()))
    if values:
      is_settled = all(name.rpartition("/")[2] in study.settled for name in names)
      beside = studies.Beside() if is_settled else training
      figure = cells.Figure(run["id"], values, beside.condition, beside.is_comparable)
      yield (str(study.paper), table, row, column), figure


def _read(path: pathlib.Path) -> Run:
  run = _json(path)
  if set(run) != set(_FIELDS) or run["id"] != path.stem:
    raise ValueError(
      f"{path.name}: expected the fields {', '.join(_FIELDS)} and the file's own id"
    )
  _check_known(run["study"])
  return run


def _check_known(study: str) -> None:
  if study not in studies.STUDIES:
    raise ValueError(
      f"unknown study {study!r}, expected one of {', '.join(studies.STUDIES)}"
    )


def _json(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise ValueError(f"{path} is not there") from None
  except ValueError as error:
    raise ValueError(f"{path} is no JSON: {error}") from None
  if not isinstance(content, dict):
    raise ValueError(f"{path}: expected an object")
  return content
