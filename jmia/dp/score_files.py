"""Files of scores of canaries, and of the coins that they were in by."""

import os
import pathlib
from typing import Any

import numpy as np

from jmia.datasets import delimited, npz
from jmia.dp import given

_Path = str | os.PathLike[str]
_OF_ONE = ("with_canary", "without_canary")
_OF_MANY = ("scores", "is_in", "answers", "labels")


def read(path: _Path, coins: _Path | None = None) -> dict[str, np.ndarray]:
  """Reads what `given.prove` takes.

  Args:
    path: a `.npy` or a `.csv` of `[m]` scores, higher = in, or of `[m, C]` answers to
      the canaries, probabilities or logits; or an `.npz` with either, `scores` or
      `answers`, or with `with_canary [n]` and `without_canary [n']`.
    coins: an `.npz` of `is_in [m]` and, where there are answers, `labels [m]`, which
      column of them each canary's label is. Default: they are in the `.npz` of scores.

  Raises:
    ValueError: it is none of these, or says what is missing or there twice.
    FileNotFoundError: there is no such file.
  """
  arrays = _scores(pathlib.Path(path).expanduser())
  if set(arrays) & set(_OF_ONE):
    _check_names(path, arrays, _OF_ONE)
    if coins is not None:
      raise ValueError(f"{path} is of one canary, for which {coins} has no coins")
    return arrays
  if coins is not None:
    of_coins = npz.read(coins, ("is_in", "labels"))
    twice = sorted(set(of_coins) & set(arrays))
    if twice:
      raise ValueError(f"{path} and {coins} both hold {', '.join(twice)}")
    arrays |= of_coins
  where = path if coins is None else coins
  if "is_in" not in arrays:
    raise ValueError(f"{where}: is_in is missing, the coins that canaries were in by")
  if "answers" in arrays:
    if "labels" not in arrays:
      raise ValueError(
        f"{where}: labels is missing, which column of answers each canary's label is"
      )
    try:
      arrays["scores"] = given.of_answers(arrays["answers"], arrays["labels"])
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error
  return {name: arrays[name] for name in ("scores", "is_in")}


def _scores(path: pathlib.Path) -> dict[str, Any]:
  """The arrays of a file; of one without names, scores or answers."""
  kind = path.suffix.lower()
  if kind == ".npz":
    arrays = npz.read(path)
    if not set(arrays) & {*_OF_ONE, "scores", "answers"}:
      raise ValueError(
        f"{path} has no array scores, answers or with_canary (has:"
        f" {', '.join(arrays) or 'none'})"
      )
    if {"scores", "answers"} <= set(arrays):
      raise ValueError(f"{path} has scores and answers, expected one of them")
    return {n: a for n, a in arrays.items() if n in (*_OF_ONE, *_OF_MANY)}
  if kind not in (".npy", ".csv"):
    raise ValueError(f"{path}: expected a .npy, a .csv or an .npz of scores")
  array = npz.read_array(path) if kind == ".npy" else _of_csv(path)
  if array.ndim == 2 and array.shape[1] == 1:
    array = array[:, 0]
  if array.ndim not in (1, 2):
    raise ValueError(
      f"{path} has shape {array.shape}, expected [m] scores or [m, C] answers"
    )
  return {"scores" if array.ndim == 1 else "answers": array}


def _of_csv(path: pathlib.Path) -> np.ndarray:
  """`[m, C]` numbers of a CSV, which may have a line of titles."""
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file")
  lines = delimited.read_lines(path)
  for first in (0, 1):  # the line of titles is no numbers
    try:
      return np.array([[float(cell) for cell in line] for line in lines[first:]])
    except ValueError:
      pass
  raise ValueError(f"{path}: expected numbers, as many in each line")


def _check_names(path: _Path, arrays: dict[str, Any], names: tuple[str, ...]) -> None:
  missing = [name for name in names if name not in arrays]
  others = sorted(set(arrays) - set(names))
  if missing or others:
    what = f"{missing[0]} is missing" if missing else f"{others[0]} is of many canaries"
    raise ValueError(f"{path}: {what}, expected {' and '.join(names)} alone")
