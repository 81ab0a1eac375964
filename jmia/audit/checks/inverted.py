"""Whether references seem to have held the rows that they are marked as not holding.

A file of signals says by `reference_members` who held what. Where true and false are
exchanged, attacks that compare models with a row to models without say the reverse, and
attacks that leave out models which held a row leave out the others.
"""

import itertools
import math

import numpy as np

from jmia.attacks.evidence import Evidence, Group

LEVEL = 0.01  # of saying so where marks are right, or have nothing to do with losses
_MOST_ROWS = 4000  # what these do not show, more would hardly
_MOST_ORDERS = 5040  # as many as 7 models have: all of them, else so many drawn


def notes(evidence: Evidence) -> list[str]:
  """Says so where references' losses are higher on rows that they are said to hold.

  Args:
    evidence: whose references' marks somebody else made.
  """
  group = evidence.groups.get("reference")
  if group is None or "loss" not in group.signals or not group.held.any():
    return []
  p = p_value(group, evidence.seed)
  if p > LEVEL:
    return []
  return [
    "the marks of which references held which rows (reference_members) seem inverted:"
    " losses are higher on rows marked as held than on others (permutation test,"
    f" p = {p:.1g}). True must mark the rows that a reference was trained on; if it"
    " marks the others, attacks that compare with references tell the reverse, or"
    " nothing"
  ]


def p_value(group: Group, seed: int = 0) -> float:
  """Returns the p-value of losses that are higher on rows held than on others.

  Of each row the models' losses are ranked, and the mean rank of each model is taken
  off, so that neither hard rows nor poor models count. The statistic is the mean rank
  of a row's models that held it less that of the others, summed over rows. It is set
  against the same with the models' marks in every other order (or 5,039 drawn), which
  is exact if marks have nothing to do with losses and models are trained alike: with at
  most 4 models no p-value is at or under `LEVEL`. Where marks are right, and models
  learn, it is larger still.

  Args:
    group: with `loss` on samples; at most 4,000 of them are looked at.
    seed: of the samples and orders that are drawn.
  """
  rng = np.random.default_rng([seed, 0x1F11])
  rows = np.flatnonzero(group.held.any(axis=0) & group.out.any(axis=0))
  if len(rows) > _MOST_ROWS:
    rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
  if not len(rows):
    return 1.0
  held, out = group.held[:, rows], group.out[:, rows]
  weights = held / held.sum(axis=0) - out / out.sum(axis=0)  # [R, n]
  # [R, R]: what the losses of one model would add with the marks of another.
  added = _centred_ranks(group.signals["loss"][:, rows]) @ weights.T
  models = np.arange(len(added))
  found = added[models, _orders(len(added), rng)].sum(axis=1)
  return float((found >= np.trace(added) - 1e-9 * np.abs(added).sum()).mean())


def _centred_ranks(losses: np.ndarray) -> np.ndarray:
  """`[R, n]` ranks of a row's models in [0, 1], equal ones alike, by model around 0."""
  from scipy import stats

  ranks = stats.rankdata(losses, axis=0) / len(losses)
  return ranks - ranks.mean(axis=1, keepdims=True)


def _orders(num_models: int, rng: np.random.Generator) -> np.ndarray:
  """`[orders, R]`, all of them or the given one and some that are drawn."""
  if math.factorial(num_models) <= _MOST_ORDERS:
    return np.array(list(itertools.permutations(range(num_models))))
  given = np.tile(np.arange(num_models), (_MOST_ORDERS, 1))
  return np.concatenate([given[:1], rng.permuted(given[1:], axis=1)])
