"""The streams of a model's key: what each kind of randomness is drawn from."""

from typing import Protocol

import jax

# Numbers are part of the results: add, never change. Recipes that use the same ones
# start from the same weights by the same key.
INIT, ORDER, DATA, DROPOUT, NOISE = range(5)
POOL, ENCODE_DROPOUT, DISCRIMINATOR = 5, 6, 7  # of `encoding.encode`
_MAX_STREAMS = 8


class State(Protocol):
  """A state of training: the model's own key `[]`, and `[]` int32 steps done."""

  @property
  def key(self) -> jax.Array: ...  # noqa: D102

  @property
  def step(self) -> jax.Array: ...  # noqa: D102


def initial(key: jax.Array, stream: int) -> jax.Array:
  """Returns the key of one purpose before the first step."""
  return jax.random.fold_in(key, stream)


def now(state: State, stream: int) -> jax.Array:
  """Returns the key of one purpose at the state's step.

  It is `fold_in(key, 8 * step + stream)`: one fold, as each takes compiling.
  """
  return jax.random.fold_in(state.key, state.step * _MAX_STREAMS + stream)
