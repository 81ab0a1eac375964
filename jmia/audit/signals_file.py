"""Evidence from a file: the answers of models from any framework."""

from collections.abc import Mapping
import os
from typing import Any
import zipfile
import zlib

import numpy as np

from jmia import _validate
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import Evidence, Group
from jmia.audit.answers import as_logits

_REQUIRED = ("target_logits", "labels", "members")
# Optional arrays of a signals file: name -> shape, in the letters of its docstring.
_OPTIONAL = {
  "population_logits": "PC",
  "population_labels": "P",
  "reference_logits": "RNC",
  "reference_members": "RN",
  "reference_population_logits": "RPC",
  "reference_population_members": "RP",
  "distilled_logits": "DNC",
}
ARRAYS = (*_REQUIRED, *_OPTIONAL)  # what a file of signals may hold


def load(path: str | os.PathLike[str]) -> Evidence:
  """Reads the answers of a model from any framework.

  Args:
    path: an `.npz` of `target_logits [N, C]`, `labels [N]`, `members [N]` bool and,
      for the attacks that need them: `population_logits [P, C]`, `population_labels
      [P]`, `reference_logits [R, N, C]`, `reference_members [R, N]` bool (true where a
      reference was trained on the row; absent if never), `reference_population_logits
      [R, P, C]`, `reference_population_members [R, P]` bool (likewise), and
      `distilled_logits [D, N, C]`. Where models were asked about Q copies of each row,
      of which the first is the row itself, `target_logits` is `[N, Q, C]` and
      `reference_logits` `[R, N, Q, C]`.

  Raises:
    ValueError: names the array that is missing, misshapen, not finite or out of range.
    FileNotFoundError: if there is no such file.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f"{path}: no such file")
  try:
    with np.load(path, allow_pickle=False) as file:  # TypeError: a bare .npy
      arrays = {name: file[name] for name in file.files}
  except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"{path} is not a readable .npz file: {error}") from error
  try:
    return from_arrays(arrays)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Evidence:
  """As `load`, from a mapping of arrays, lists, frames or tensors in host memory."""
  arrays = {name: _plain(name, array) for name, array in arrays.items()}
  _check(arrays)
  labels = arrays["labels"].astype(np.int32)
  target = as_logits(arrays["target_logits"])
  on_copies = target.ndim == 3
  plain = target[:, 0] if on_copies else target
  population_labels = arrays.get("population_labels", np.zeros(0)).astype(np.int32)
  population: Mapping[str, np.ndarray] = {}
  if "population_logits" in arrays:
    logits = as_logits(arrays["population_logits"])
    population = evidence_lib.of_logits(logits, population_labels)
  return Evidence(
    index=np.arange(len(labels)),
    labels=labels,
    members=arrays["members"],
    num_classes=target.shape[-1],
    signals=_signals(target, labels, on_copies=on_copies),
    population_labels=population_labels,
    population=population,
    groups=_groups(arrays, plain, labels, population_labels),
  )


def _plain(name: str, array: Any) -> np.ndarray:
  """An array: membership as booleans where 0 and 1 say it, classes as integers."""
  array = np.asarray(array)
  if name.endswith("members") and array.dtype.kind in "iuf":
    if not ((array == 0) | (array == 1)).all():
      raise ValueError(
        f"{name} holds {array.dtype} other than 0 and 1, expected a mask, not rows"
      )
    return array.astype(bool)
  is_labels = name.endswith("labels")
  if is_labels and array.dtype.kind == "f" and (array == np.rint(array)).all():
    return array.astype(np.int64)
  if is_labels and array.dtype.kind in "OSU":
    raise ValueError(
      f"{name} holds text, expected class numbers: the column of the logits that is"
      " each one's"
    )
  return array


def _signals(logits, labels, target=None, *, on_copies):
  """Signals of logits, with an axis of copies or without."""
  of = evidence_lib.of_queries if on_copies else evidence_lib.of_logits
  return of(logits, labels, target)


def _groups(
  arrays: Mapping[str, np.ndarray],
  target: np.ndarray,
  labels: np.ndarray,
  population_labels: np.ndarray,
) -> dict[str, Group]:
  """The groups of models that a file holds."""
  groups = {}
  for name in ("reference", "distilled"):
    on_samples = _answers(arrays, f"{name}_logits", f"{name}_members", labels, target)
    on_population = _answers(
      *(arrays, f"{name}_population_logits", f"{name}_population_members"),
      population_labels,
    )
    if on_samples is None and on_population is None:
      continue
    fields: dict[str, Any] = {}
    if on_samples is None:
      assert on_population is not None
      fields |= evidence_lib.no_samples(len(on_population[1]), len(labels))
    else:
      fields |= {
        "signals": on_samples[0], "held": on_samples[1], "out": ~on_samples[1]
      }  # fmt: skip
    if on_population is None:
      assert on_samples is not None
      fields |= evidence_lib.no_population(len(on_samples[1]))
    else:
      fields |= {
        "population": on_population[0],
        "population_held": on_population[1],
        "population_out": ~on_population[1],
        "population_labels": population_labels,
      }
    groups[name] = Group(**fields)
  if "reference_members" in arrays and "reference" in groups:
    groups["in_out"] = groups["reference"]
  return groups


def _answers(arrays, logits_name, held_name, labels, target=None):
  """Signals of a group's models and what they held; None if they were not asked."""
  if logits_name not in arrays:
    return None
  # One model at a time: some may be given as probabilities, and others not.
  logits = arrays[logits_name]
  found = np.stack([as_logits(of_model) for of_model in logits])
  held = arrays.get(held_name, np.zeros(logits.shape[:2], bool))
  return _signals(found, labels, target, on_copies=found.ndim == 4), held


def _check(arrays: Mapping[str, np.ndarray]) -> None:
  """Refuses arrays that are unknown, missing or do not fit one another."""
  for name in arrays:
    _validate.known("array", name, (*_REQUIRED, *_OPTIONAL))
  for name in _REQUIRED:
    if name not in arrays:
      raise ValueError(f"array {name} is missing")
  target, letters_of = arrays["target_logits"], dict(_OPTIONAL)
  if target.ndim not in (2, 3) or target.shape[-1] < 2:
    raise ValueError(
      f"target_logits has shape {target.shape}, expected (N, C) or (N, Q, C) with C"
      " at least 2"
    )
  if target.ndim == 3:
    letters_of["reference_logits"] = "RNQC"
  num_samples, num_classes = len(target), target.shape[-1]
  sizes: dict[str, int] = {"N": num_samples, "C": num_classes, "Q": target.shape[1]}
  for name in ("labels", "members"):
    _validate.shape(name, arrays[name], (num_samples,))
  for name in _OPTIONAL:
    if name in arrays:
      letters = letters_of[name]
      expected = tuple(sizes.get(letter) for letter in letters)
      _validate.shape(name, arrays[name], expected)
      sizes.update(zip(letters, arrays[name].shape, strict=True))
  for name, array in arrays.items():
    if not array.size:
      raise ValueError(f"{name} has shape {array.shape}: it is empty")
  evidence_lib.check_members(arrays["members"])
  for name, array in arrays.items():
    if name.endswith("logits"):
      if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
      with np.errstate(over="ignore"):  # what float64 holds may overflow float32
        _validate.finite(name, np.asarray(array, np.float32))
    elif name.endswith("labels"):
      _validate.labels(name, array, num_classes)
    elif array.dtype != bool:
      raise ValueError(f"{name} has dtype {array.dtype}, expected bool")
  for name in ("population_logits", "reference_population_logits"):
    if name in arrays and "population_labels" not in arrays:
      raise ValueError(f"{name} needs population_labels, which is missing")
