"""What a reader is told of answers that are coarse."""

from collections.abc import Sequence

from jmia.outputs import coarse as coarse_lib
from jmia.outputs.coarse import Coarse


def of(
  found: Sequence[tuple[str, Coarse]],
  of_zeros: str = "the 0s of a row share what that may have hidden",
) -> list[str]:
  """Returns what is said of coarse answers, a sentence for each way they are.

  Args:
    found: arrays' names, and how coarsely each is given.
    of_zeros: what becomes of a 0 that rounding may have made.
  """
  coarse = coarse_lib.coarsest([c for _, c in found])
  said = []

  def say(field: str, words: str) -> None:
    has = [name for name, c in found if getattr(c, field) is not None]
    said.append(f"{', '.join(dict.fromkeys(has))} {words}")

  if coarse.top_k == 1:
    alone = dict.fromkeys(name for name, c in found if c.top_k == 1)
    said.append(
      f"{', '.join(alone)} give a class alone, no probabilities: all models' are cut"
      " alike"
    )
  elif coarse.top_k is not None:
    rest = "0" if coarse.sums_to_one else "an even share of the rest"
    say(
      "top_k",
      f"give the {coarse.top_k} largest probabilities of a row: all models' are"
      f" cut alike, and the others count as {rest}",
    )
  if coarse.decimals is not None:
    say(
      "decimals",
      f"are probabilities rounded to {coarse.decimals} decimals: all models' are"
      f" rounded alike, and {of_zeros}, at most {0.5 * 10.0**-coarse.decimals:g}",
    )
  if coarse.votes is not None:
    say(
      "votes",
      f"are multiples of 1/{coarse.votes}, as of {coarse.votes} votes: all models'"
      f" are rounded alike, and {of_zeros}, at most half a vote",
    )
  if coarse.dtype is not None:
    say("dtype", f"are probabilities of {coarse.dtype}: all models' are taken so")
  if coarse.least is not None:
    say(
      "least",
      "give one class as 1 less the other, in which nothing is left of a small"
      f" difference: in all models a probability of less counts as {coarse.least:.1e}",
    )
  return said
