"""Pruning: weights set to zero, and the encoding written again into those left.

Magnitude pruning removes, in every layer, the kernel's weights nearest to zero (the
paper: the p % smallest parameters). Adversarial pruning is what training code does that
prunes a model and wants its encoding to survive: Algorithm 1 goes on from the pruned
model with a new discriminator, while pruned weights are held at zero.

Source: Song and Shokri, section 6 and Figure 7.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jmia import types
from jmia.encoding import encode, published
from jmia.training import recipe as recipe_lib

PyTree = Any


class PruneJob(NamedTuple):
  """As `encode.Job`, with the pruned model and which of its parameters are kept."""

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  is_encoded: recipe_lib.Stored
  synthetic: recipe_lib.Stored
  unit_mask: recipe_lib.Stored
  variables: PyTree
  kept: PyTree


def magnitude_mask(params: PyTree, share: float) -> PyTree:
  """Returns which parameters are kept when each kernel loses its smallest weights.

  Biases, and the scales and shifts of normalisation, are all kept.

  Args:
    params: of one model.
    share: of each kernel's weights that is pruned, in [0, 1); exactly
      `round(share * size)` of them, the first of equals.

  Returns:
    A tree as `params`, of bool arrays.

  Raises:
    ValueError: if `share` is not in [0, 1).
  """
  if not 0 <= share < 1:
    raise ValueError(f"share={share} must lie in [0, 1)")

  def kept(path, leaf):
    mask = np.ones(leaf.size, bool)
    if path[-1].key == "kernel":
      order = np.argsort(np.abs(np.asarray(leaf)).ravel(), kind="stable")
      mask[order[: round(share * leaf.size)]] = False
    return mask.reshape(leaf.shape)

  return jax.tree_util.tree_map_with_path(kept, params)


def prune(variables: PyTree, kept: PyTree) -> PyTree:
  """Returns variables with the parameters that are not kept set to zero."""
  params = jax.tree.map(lambda p, k: p * k, variables["params"], kept)
  return {**variables, "params": params}


def recipe(
  config: encode.EncodeConfig, dataset: types.Dataset, *, jobs: Any = None
) -> recipe_lib.Recipe:
  """Returns the recipe of adversarial pruning, with jobs as `PruneJob`.

  Args:
    config: the paper's: 20 epochs, both rates 0.001.
    dataset: as `encode.recipe`.
    jobs: as `encode.recipe`.

  Raises:
    ValueError: as `encode.recipe`.
  """

  def hold_at_zero(params: PyTree, job: PruneJob) -> PyTree:
    return jax.tree.map(lambda p, k: p * k, params, job.kept)

  again = encode.recipe(config, dataset, jobs=jobs, constrain=hold_at_zero)
  return published.start_from(again)
