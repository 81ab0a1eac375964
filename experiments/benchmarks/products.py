"""The machine's own limit: the matrix products of training, and nothing else."""

from collections.abc import Callable
import itertools

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
  for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
    products += [(batch_size, inputs, outputs), (inputs, batch_size, outputs)]
    if layer:
      products.append((batch_size, outputs, inputs))
  return products


def runner(shapes: list[Shape], width: int) -> Callable[[], None]:
  """Returns a function that runs the products of `width` models, and waits for them."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=(width, *shape)), jnp.float32)

  pairs = [(draw(m, k), draw(k, n)) for m, k, n in shapes]

  @jax.jit
  def multiply(pairs):
    return [jnp.matmul(left, right) for left, right in pairs]

  def call() -> None:
    jax.block_until_ready(multiply(pairs))

  return call
