"""How many other models held a sample must not tell whether the target held it.

Where each row is trained on by just half of all models, the target among them, as in
LiRA's cohorts and in Privacy Meter's pairs, a member is held by one fewer of the others
than a row that the target was not trained on. Whatever a score makes of a number of
models (a variance estimated from them, the tail of a Student's t, the least p-value
that they allow) then hangs on membership, without any leakage: of models that leak
nothing BaVarIA had an AUC of .436 with six of them, and Attack R found .03 % of the
members at 1 % FPR.
"""

import numpy as np

NOTE = (
  "every row was trained on by as many of all models, so that how many of the others"
  " held it would tell members from the rest: of each row as many are left out, drawn"
  " at random, as leave all rows with equal numbers"
)


def are_balanced(held: np.ndarray, members: np.ndarray) -> bool:
  """Whether rows were given out to models in equal numbers, the target's included.

  Args:
    held: `[R, N]` bool, by the models that the target is compared with.
    members: `[N]` bool, by the target.

  Returns:
    Whether the numbers differ by one at most, as where a model of such a design was
    lost, and both kinds of models are left to every row where numbers are made equal.
  """
  total = held.sum(axis=0) + members
  others = held.sum(axis=0)
  both = len(held) > 2 and others.min() > 0 and others.max() < len(held)
  return bool(both and total.max() - total.min() <= 1)


def equal(
  held: np.ndarray, members: np.ndarray, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns who held a row and who did not, of as many models for each row.

  Which models are left out is drawn whatever their answers.

  Args:
    held: `[R, N]` bool.
    members: `[N]` bool, of the target.
    seed: of the draw.

  Returns:
    `held` and `out`, `[R, N]` bool, both false of models that are left out; `held` and
    its opposite where numbers tell nothing (`are_balanced`).
  """
  if not are_balanced(held, members):
    return held, ~held
  order = np.random.default_rng(seed).random(held.shape, dtype=np.float32)
  return _fewest(held, order), _fewest(~held, order)


def _fewest(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
  """As many of each column as the column with the fewest has, the first in `order`."""
  number = int(mask.sum(axis=0).min())
  ranked = np.argsort(np.where(mask, order, np.inf), axis=0)[:number]
  kept = np.zeros_like(mask)
  np.put_along_axis(kept, ranked, True, axis=0)
  return kept
