"""Clopper and Pearson's one-sided bounds of a rate, also of fractional successes."""

import numpy as np


def lower(
  successes: np.ndarray, trials: np.ndarray, tail: np.ndarray | float
) -> np.ndarray:
  """The rate at which so many successes or more have a chance of `tail`."""
  from scipy import special

  some = successes > 0
  # Where the bound is 0 its beta has a zero parameter: 1 stands in.
  found = special.betaincinv(np.where(some, successes, 1), trials - successes + 1, tail)
  return np.where(some, found, 0.0)


def upper(
  successes: np.ndarray, trials: np.ndarray, tail: np.ndarray | float
) -> np.ndarray:
  """The rate at which so many successes or fewer have a chance of `tail`."""
  return 1 - lower(trials - successes, trials, tail)
