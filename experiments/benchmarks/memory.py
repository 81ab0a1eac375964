"""The machine's other limit: the bytes that a step of training has to move.

Many small models at once do few operations with each weight, so on an accelerator it is
memory that bounds them, not the products (`products`).
"""

from collections.abc import Callable, Iterator
import functools
import math
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from . import measure

_PRODUCTS = ("dot_general", "conv_general_dilated")
# SGD with momentum reads the gradient, and reads and writes momentum and weight.
_UPDATE_PASSES = 5


def of_step(epoch: core.Jaxpr, num_parameters: int) -> int:
  """Returns the bytes that a step of one model has to move.

  What each product and convolution reads and writes, once, and the update of float32
  weights; all else could be done on the way. Caches may spare some of it, if few models
  are trained at once.

  Args:
    epoch: of a recipe; its products are those of the loop over steps, seen once.
    num_parameters: of one model.
  """
  moved = sum(
    math.prod(of.aval.shape) * of.aval.dtype.itemsize
    for product in _products(epoch)
    for of in (*product.invars, *product.outvars)
  )
  return moved + _UPDATE_PASSES * 4 * num_parameters


def _products(jaxpr: core.Jaxpr) -> Iterator[Any]:
  for equation in jaxpr.eqns:
    if equation.primitive.name in _PRODUCTS:
      yield equation
    for inner in core.jaxprs_in_params(equation.params):
      yield from _products(inner)


@functools.cache
def bandwidth(num_bytes: int = 2**31) -> float:
  """Returns the bytes per second that the device reads and writes, as measured once.

  Args:
    num_bytes: of the array that is copied: far above what caches hold.
  """
  call = copier(num_bytes)
  (cost,) = measure.alternate(call, seconds=0.5, least=5)
  return 2 * num_bytes / cost.wall


def copier(num_bytes: int) -> Callable[[], None]:
  """Returns a function that reads so many bytes and writes as many, and waits."""
  array = jnp.arange(num_bytes // 4, dtype=jnp.float32)
  copy = jax.jit(lambda a: a + 1)

  def call() -> None:
    jax.block_until_ready(copy(array))

  return call
