"""What a model's answers are: logits, probabilities, and how coarsely they are given.

Answers come as logits, probabilities, percentages or log-probabilities, whole or cut:
rounded to a few decimals, shares of n votes, in a 16-bit type, or the k largest alone.
Which it is, is decided from every row of every model at once, since a target in other
units than the models that it is compared with tells nothing; and coarse answers are
compared with equally coarse ones (`coarse`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import _validate
from jmia.outputs import coarse as coarse_lib
from jmia.outputs import coarseness, kinds, words
from jmia.outputs.coarse import EXACT, TINY, Coarse


class Units(NamedTuple):
  """What answers are.

  Attributes:
    kinds: array's name -> one of `kinds.OUTPUTS` but `auto`, percentages or counts; of
      several models one of each.
    coarse: how coarsely all are to be taken.
    notes: what a reader of the results must know.
  """

  kinds: Mapping[str, Sequence[str]]
  coarse: Coarse
  notes: tuple[str, ...]

  def logits(self, name: str, values: np.ndarray, model: int = 0) -> np.ndarray:
    """Returns one model's answers as logits, float32.

    Args:
      name: of the array.
      values: `[..., C]`, some or all rows of it.
      model: which of its models.
    """
    kind = self.kinds[name][model]
    with np.errstate(over="ignore"):  # what float64 holds may overflow float32
      values = np.asarray(values, np.float32)
    if kind in ("logits", "log_probabilities"):
      values = finite_logits(values)
      if self.coarse.is_exact:
        return values
      return np.asarray(self.coarsened(values))
    p = kinds.shares(kind, values)
    return np.asarray(self.coarse.logits(jnp.clip(p, 0, 1)))

  def coarsened(self, logits: jax.typing.ArrayLike) -> jax.Array:
    """Returns another model's logits, made as coarse; traceable."""
    logits = jnp.asarray(logits)
    if self.coarse.is_exact:
      return logits
    return self.coarse.logits(jax.nn.softmax(logits.astype(jnp.float32)))


def recognise(
  arrays: Mapping[str, np.ndarray],
  outputs: str = "auto",
  several: Sequence[str] = (),
  coarse: Coarse = EXACT,
) -> Units:
  """Tells what answers are, of all models together.

  Args:
    arrays: name -> `[..., C]` of real numbers.
    outputs: one of `kinds.OUTPUTS`, to say it instead.
    several: names of arrays `[R, ..., C]`, of which each model may be of its own kind.
    coarse: how coarsely other models answer, which are not among the arrays.

  Raises:
    ValueError: a value is NaN or plus infinity, values do not fit `outputs`, or rows
      are neither all of one kind nor nearly.
  """
  _validate.known("outputs", outputs, kinds.OUTPUTS)
  kinds_of: dict[str, Sequence[str]] = {}
  notes: list[str] = []
  found: list[tuple[str, Coarse]] = []
  for name, array in arrays.items():
    kinds.check(name, array)
    models = array if name in several else array[None]
    each = []
    for values in models:
      rows = values.reshape(-1, values.shape[-1])
      kind, of_one, said = _of_one(name, rows, outputs)
      each.append(kind)
      notes += said
      found.append((name, of_one))
    kinds_of[name] = each
  return Units(
    kinds_of,
    coarse_lib.coarsest([coarse, *(of_one for _, of_one in found)]),
    tuple(dict.fromkeys([*notes, *words.of(found), *_mixed(kinds_of)])),
  )


def _mixed(kinds_of: Mapping[str, Sequence[str]]) -> list[str]:
  """What is said where models answer in other units than others, or seem to."""
  if len({kind for each in kinds_of.values() for kind in each}) < 2:
    return []
  each = [
    f"{name} for {' and '.join(sorted(set(of))).replace('_', '-')}"
    for name, of in kinds_of.items()
  ]
  return [f"answers are taken for different things: {', '.join(each)}"]


def _of_one(name: str, rows: np.ndarray, outputs: str) -> tuple[str, Coarse, list[str]]:
  """The kind of one model's answers, how coarse they are, and what is to be said."""
  as_given = rows
  with np.errstate(over="ignore"):
    rows = np.asarray(rows, np.float32)
  if not len(rows):
    return "logits" if outputs == "auto" else outputs, EXACT, []
  if outputs == "auto":
    kind, said = kinds.of(name, rows)
    if kind == "logits" and as_given.dtype.kind in "iu":
      kind, said = kinds.of_integers(name, rows)
  else:
    kind, said = outputs, []
    kinds.check_are(name, rows, kind)
  said = [*said, *kinds.said_of_masked(name, rows)]
  if kind not in ("probabilities", kinds.PERCENTAGES, kinds.COUNTS):
    return kind, EXACT, said
  coarse = _coarse_of(as_given, kinds.shares(kind, rows))
  return kind, coarse, [*said, *_said_of_absent(name, rows)]


def _coarse_of(as_given: np.ndarray, p: np.ndarray) -> Coarse:
  """How coarsely one model's probabilities are given."""
  narrow = coarseness.narrow_dtype(as_given)
  coarse = coarseness.of(p, narrow)
  if coarse.is_exact or coarse == Coarse(dtype=narrow):
    coarse = dataclasses.replace(coarse, least=coarseness.least_complement(as_given))
  return coarse


def _said_of_absent(name: str, p: np.ndarray) -> list[str]:
  """What is said of classes that a model never saw."""
  never = coarseness.never_given(p)
  if not len(never):
    return []
  which = ", ".join(map(str, never[:8])) + (", ..." if len(never) > 8 else "")
  return [
    f"{name}: {len(never):,} of {p.shape[-1]:,} classes ({which}, counted from"
    " 0) have a probability of 0 on every row, as from a model that never saw them:"
    " there a row's loss is the largest that such answers can give. It is no cut"
    " to the largest, and no other model's answers are cut for it"
  ]


def finite_logits(logits: np.ndarray) -> np.ndarray:
  """Returns logits `[..., C]` whose -inf are the least normal float32 of p."""
  if not np.isneginf(logits).any():
    return logits
  total = np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return np.where(np.isneginf(logits), total + np.float32(np.log(TINY)), logits)
