"""The machine's other limit: the bytes that a step of training cannot avoid moving.

Many small models at once do few operations with each weight, so on an accelerator it is
memory that bounds them, not the products (`products`).
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from . import measure

# SGD with momentum: a weight is read forward and again for the gradient of the input;
# its gradient is written and read; momentum and weight are each read and written.
_PASSES = 8


def of_step(num_parameters: int, width: int) -> int:
  """Returns the bytes that one step of `width` models must move.

  Args:
    num_parameters: of one model, float32. Activations are not counted.
    width: models trained at once.
  """
  return _PASSES * 4 * num_parameters * width


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
