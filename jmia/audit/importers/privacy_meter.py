"""Privacy Meter 2's folder of a run: who was trained on what, and probabilities.

  models/memberships.npy      [M, N] bool
  signals/*_signals.npy       [N, M], the probability of the true class
  signals/*_signals_pop.npy   [P, M], of rows no model was trained on; may be absent

The matrices are transposed to the memberships. Labels are not kept. A run that asks for
fewer models than an earlier one in the folder loads the first of them: then signals are
of M' < M models, and the memberships' first M' rows.

Source: get_signals.py and models/utils.py of privacytrustlab/ml_privacy_meter.
"""

from collections.abc import Mapping
import pathlib

import numpy as np

from jmia import _validate
from jmia.audit import true_class
from jmia.audit.importers.cohort import Cohort
from jmia.datasets import npz

LAYOUT = "Privacy Meter's models/memberships.npy with signals/*_signals.npy"
_SIGNALS = "signals/*_signals.npy"


def is_it(folder: pathlib.Path) -> bool:
  """Whether there are memberships."""
  return _memberships(folder) is not None


def load(folder: pathlib.Path) -> Cohort:
  """Reads the answers of all models.

  Raises:
    ValueError: names the file that is missing or does not fit the others.
  """
  path = _memberships(folder)
  assert path is not None
  held = npz.read_array(path)
  _validate.shape(str(path), held, (None, None))
  if held.dtype != bool:
    raise ValueError(f"{path} has dtype {held.dtype}, expected bool")
  # `*_ramia_signals.npy` are of ranges around rows, not of rows.
  files = [file for file in sorted(folder.glob(_SIGNALS)) if "ramia" not in file.name]
  if len(files) != 1:
    found = ", ".join(file.name for file in files) or "none"
    raise ValueError(f"{folder} needs one {_SIGNALS}, found {found}")
  (file,) = files
  array = npz.read_array(file)
  notes = [
    "labels are not known: attacks that go by class take all samples for one class"
  ]
  if array.ndim == 2 and 0 < array.shape[1] < len(held):
    notes.append(
      f"{array.shape[1]} of the folder's {len(held)} models are read, the first: of the"
      " others it has no signals"
    )
    held = held[: array.shape[1]]
  num_models, num_rows = held.shape
  on_samples = _answers(file, array, num_models, num_rows)
  of_population = file.with_name(f"{file.stem}_pop.npy")
  population: Mapping[str, np.ndarray] = {}
  if of_population.is_file():
    array = npz.read_array(of_population)
    population = _answers(of_population, array, num_models, None)
  size = population["loss"].shape[1] if population else 0
  return Cohort(
    names=tuple(str(number) for number in range(num_models)),
    held=held,
    labels=np.zeros(num_rows, np.int32),
    num_classes=1,
    signals=on_samples,
    population=population,
    population_labels=np.zeros(size, np.int32),
    notes=notes,
  )


def _memberships(folder: pathlib.Path) -> pathlib.Path | None:
  for name in ("models/memberships.npy", "memberships.npy"):
    if (folder / name).is_file():
      return folder / name
  return None


def _answers(
  path: pathlib.Path, array: np.ndarray, num_models: int, num_rows: int | None
) -> Mapping[str, np.ndarray]:
  """Signals `[M, N]` of a file's array `[N, M]`."""
  if array.ndim == 2 and num_rows is not None and len(array) != num_rows:
    raise ValueError(
      f"{path} has {len(array)} rows and the memberships {num_rows}: with data_size the"
      " tool does not keep which rows it asked about"
    )
  _validate.shape(str(path), array, (num_rows, num_models))
  if not array.size:
    raise ValueError(f"{path} has shape {array.shape}: it is empty")
  values = np.ascontiguousarray(array.T)
  return true_class.signals(str(path), values, "true_class_probabilities", 2)
