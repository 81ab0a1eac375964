"""A black-box model's answers, as log-probabilities whatever they come as.

What they are is told as in an audit (`outputs.kinds`). Two things are other than there,
since all keys read the same answers, and no reading can make a false claim stand, while
one in wrong units hides an encoding that is there:

- how coarsely they are given is left as it is, and a 0 counts as half of the least that
  is above 0: nothing is compared with answers of another model;
- rows of exact probabilities may miss a sum of one by 5 %, where an audit asks what
  they are: here nobody is asked, and the rows are scaled to one.
"""

import numpy as np

from jmia import _validate
from jmia.outputs import coarseness, kinds, units

_NEAR = 0.05  # of one, what probabilities of few votes that were cut may sum to
_EXPECTED = "expected logits, log-probabilities or probabilities"


def log_probabilities(name: str, answers: np.ndarray) -> np.ndarray:
  """Returns a model's answers as log-probabilities.

  Args:
    name: of the answers, in errors.
    answers: `[Q, C]` logits, log-probabilities, probabilities or percentages. Values
      from 0 to 1, of which at least half of the rows sum to one to within rounding and
      the others to .5 to 1.5, are probabilities; so are those of which each row gives
      the k largest alone, of which the others share what is left. Of probabilities a 0
      counts as half of the least that is above 0; a logit of -inf as in an audit.

  Returns:
    `[Q, C]` float32.

  Raises:
    ValueError: there are none, they are no numbers of two axes, hold a NaN or plus
      infinity, lie between 0 and 1 and are no probabilities, or are so in some rows
      alone.
  """
  kind, _ = _kind(name, answers)
  values = np.asarray(answers).astype(np.float64)
  if kind in ("probabilities", kinds.PERCENTAGES):
    values = _logarithms(np.clip(values / kinds.total(kind), 0, 1))
  else:
    values = units.finite_logits(values)
  top = values.max(-1, keepdims=True)
  total = top + np.log(np.exp(values - top).sum(-1, keepdims=True))
  return (values - total).astype(np.float32)


def notes(name: str, answers: np.ndarray) -> list[str]:
  """Returns what is to be said of how answers are taken; as `log_probabilities`."""
  _, said = _kind(name, answers)
  return [*said, *kinds.said_of_masked(name, np.asarray(answers))]


def _kind(name: str, answers: np.ndarray) -> tuple[str, list[str]]:
  """One of `kinds.OUTPUTS` but `auto`, or percentages, and what is to be said of it."""
  answers = np.asarray(answers)
  _validate.shape(name, answers, (None, None))
  if not answers.size:
    raise ValueError(f"{name} has shape {answers.shape}, expected some numbers")
  kinds.check(name, answers)
  return kinds.of(name, np.asarray(answers, np.float32), _NEAR, _EXPECTED)


def _logarithms(p: np.ndarray) -> np.ndarray:
  """Logarithms of probabilities `[Q, C]`, where 0 is half of the least above it."""
  coarse = coarseness.of(np.asarray(p, np.float32))
  if coarse.top_k is not None and not coarse.sums_to_one:
    p = _filled(p)
  return np.log(np.where(p > 0, p, p[p > 0].min() / 2))


def _filled(p: np.ndarray) -> np.ndarray:
  """The k largest probabilities, and the others an even share of what they leave."""
  is_given = p > 0
  least = np.where(is_given, p, 1).min(-1, keepdims=True)
  rest = 1 - p.sum(-1, keepdims=True)
  share = rest / (~is_given).sum(-1, keepdims=True)
  return np.where(is_given, p, np.clip(share, 0, least))
