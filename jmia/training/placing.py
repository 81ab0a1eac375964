"""Arrays between the hosts and the devices of a mesh."""

from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

PyTree = Any


def take(tree: PyTree, index: np.ndarray) -> PyTree:
  """Returns rows `[n]` of every leaf, as host arrays of a dtype that JAX keeps."""

  def of_leaf(leaf):
    leaf = np.asarray(leaf)
    return leaf[index].astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)

  return jax.tree.map(of_leaf, tree)


def put(tree: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
  """Places host arrays on the mesh; every process holds, and cuts from, the whole."""

  def of_leaf(leaf):
    leaf = np.asarray(leaf)
    leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda i: leaf[i])

  return jax.tree.map(of_leaf, tree)


def get(tree: PyTree) -> PyTree:
  """Returns whole arrays on the host of every process."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
