"""The loop of every simulation: numbered draws, each with randomness of its own."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Progress = Callable[[int, int], None]  # told how many are done, and of how many


def silent(done: int, total: int) -> None:
  """Says nothing."""


def draws(
  num: int,
  seed: int,
  progress: Progress = silent,
  *,
  entropy: Sequence[int] = (),
  at_once: int = 1,
) -> Iterator[tuple[int, np.random.Generator]]:
  """Yields the number of each draw and its generator.

  A draw depends on its own number and not on how many there are, so that more of them
  begin with the same ones.

  Args:
    num: of simulations.
    seed: of all of them.
    progress: told after each, of simulations.
    entropy: what else the generators are seeded with, after the seed and the number.
    at_once: simulations that share a generator; the number is that of the first.
  """
  for number in range(0, num, at_once):
    yield number, np.random.default_rng([seed, number, *entropy])
    progress(min(number + at_once, num), num)
