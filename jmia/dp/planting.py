"""Canaries among rows that somebody else trains on, each in by a coin of its own.

`plant` gives a training set, and the canaries that may be in it. Whoever trains on the
set, with whatever framework, scores all canaries by the model, and `given.prove` says
what the scores prove of the training. The coins must not be looked at before: they are
the operating system's entropy.

Source: Steinke, Nasr & Jagielski, "Privacy Auditing with One (1) Training Run" (2023),
algorithm 1.
"""

from typing import NamedTuple

import numpy as np

from jmia import _validate
from jmia.stats import one_run

KINDS = ("mislabelled", "natural")


class Planted(NamedTuple):
  """A training set, and the canaries of which about a half are in it.

  Attributes:
    x: `[n, ...]` features of the training set, in random order.
    y: `[n]` labels.
    canary_x: `[m, ...]` features of all canaries.
    canary_y: `[m]` labels that the training set has for them.
    is_in: `[m]` bool, the coins: which canaries are in it.
    rows: `[m]` int64, which rows of the data the canaries are.
  """

  x: np.ndarray
  y: np.ndarray
  canary_x: np.ndarray
  canary_y: np.ndarray
  is_in: np.ndarray
  rows: np.ndarray


def plant(
  x: np.ndarray,
  y: np.ndarray,
  num_canaries: int,
  *,
  kind: str = "mislabelled",
  seed: int | None = None,
) -> Planted:
  """Returns a training set in which each canary is by a fair coin of its own.

  Canaries are rows of the data, drawn at random, with a wrong label (`mislabelled`, the
  sharper ones) or as they are (`natural`); all other rows are in.

  Args:
    x: `[N, ...]` features.
    y: `[N]` labels, numbers or text.
    num_canaries: `m`, from 1 to N - 1. A half to all rows may be canaries: the more,
      the more can be proved (`most`).
    kind: one of `KINDS`.
    seed: to repeat the draws. Default: the operating system's entropy, which nobody
      knows.

  Raises:
    ValueError: shapes do not fit, there are fewer than two classes to be wrong about,
      an argument is out of range or `kind` is unknown.
  """
  x, y = np.asarray(x), np.asarray(y)
  _validate.known("canary", kind, KINDS)
  if y.ndim != 1 or x.ndim < 1 or len(x) != len(y):
    raise ValueError(
      f"x has shape {x.shape} and y {y.shape}, expected [N, ...] and [N]: a label a row"
    )
  if not 1 <= num_canaries < len(y):
    raise ValueError(
      f"num_canaries={num_canaries} must be from 1 to {len(y) - 1}, one less than rows"
    )
  rng = np.random.default_rng(seed)
  rows = rng.choice(len(y), num_canaries, replace=False)
  labels = y[rows]
  if kind == "mislabelled":
    labels = _wrong(y, rows, rng)
  is_in = rng.random(num_canaries) < 0.5
  others = np.setdiff1d(np.arange(len(y)), rows)
  order = rng.permutation(len(others) + int(is_in.sum()))
  return Planted(
    x=np.concatenate([x[others], x[rows[is_in]]])[order],
    y=np.concatenate([y[others], labels[is_in]])[order],
    canary_x=x[rows],
    canary_y=labels,
    is_in=is_in,
    rows=rows,
  )


def most(num_canaries: int, delta: float = 0.0) -> float:
  """Returns the epsilon that so many canaries prove at 95 % if every guess is right."""
  is_in = np.arange(num_canaries) < num_canaries // 2
  return one_run.lower_bound(is_in.astype(float), is_in, delta=delta)


def _wrong(y: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A label for each row, uniform among the classes that are not its own."""
  classes, number = np.unique(y, return_inverse=True)
  if len(classes) < 2:
    raise ValueError(f"y holds one class, {classes[0]}: no label of it is wrong")
  shift = rng.integers(1, len(classes), size=len(rows))
  return classes[(number[rows] + shift) % len(classes)]
