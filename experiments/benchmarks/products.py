"""The machine's own limit: the matrix products of training, and nothing else."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, int, int]


def of_mlp(batch_size: int, sizes: tuple[int, ...]) -> list[Shape]:
  """Returns the products `[m, k] @ [k, n]` of one step, as `(m, k, n)`.

  Forward, gradient of the weights and, but for the first layer, of the input.

  Args:
    batch_size: rows of a minibatch.
    sizes: width of the input, of each hidden layer and of the output.
  """
  products = []
  for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
    products += [(batch_size, inputs, outputs), (inputs, batch_size, outputs)]
    if layer:
      products.append((batch_size, outputs, inputs))
  return products


def flops(shapes: list[Shape]) -> int:
  """Returns the floating-point operations of the products."""
  return sum(2 * m * k * n for m, k, n in shapes)


def runner(shapes: list[Shape], width: int) -> Callable[[], None]:
  """Returns a function that runs the products of `width` models, and waits for them."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=(width, *shape)), jnp.float32)

  pairs = [(draw(m, k), draw(k, n)) for m, k, n in shapes]

  @jax.jit
  def multiply(pairs):
    return [jnp.matmul(left, right) for left, right in pairs]

  multiply = functools.partial(multiply, pairs)
  return lambda: jax.block_until_ready(multiply())


def square(side: int = 2048) -> Callable[[], None]:
  """Returns a function that runs one large product, the machine's best rate."""
  return runner([(side, side, side)], 1)
