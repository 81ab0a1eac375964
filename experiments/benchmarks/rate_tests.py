"""Suite `tests`: a million t-tests and exact binomial tests of attack success rates."""

import jax
import numpy as np
from scipy import stats

from jmia.stats import rate_tests

from . import measure

NUM_TESTS, NUM_QUERIES, RATE = 1_000_000, 50, 0.1


def rows(num_tests: int | None = None) -> list[measure.Row]:
  """Both tests beside SciPy's distributions on the whole array.

  Args:
    num_tests: of either kind; `NUM_TESTS` by default.
  """
  num_tests = num_tests or NUM_TESTS
  successes = np.random.default_rng(0).integers(NUM_QUERIES + 1, size=num_tests)

  def student():
    n, k = NUM_QUERIES, successes
    with np.errstate(divide="ignore"):
      t = np.sqrt(n - 1) * (k - n * RATE) / np.sqrt(k * (n - k))
    return stats.t.sf(t, n - 1)

  pairs = {
    "t-tests": (
      lambda: rate_tests.student(successes, NUM_QUERIES, RATE),
      student,
    ),
    "exact binomial tests": (
      lambda: rate_tests.binomial(successes, NUM_QUERIES, RATE),
      lambda: stats.binom.sf(successes - 1, NUM_QUERIES, RATE),
    ),
  }
  target = {"ratio": 20 if jax.default_backend() == "cpu" else 100}
  found = []
  for name, (ours, theirs) in pairs.items():
    costs = measure.alternate(ours, theirs)
    found.append(
      measure.Row(
        suite="tests",
        name=f"{num_tests} {name} of {NUM_QUERIES} queries",
        width=1,
        ours=costs[0],
        peer="scipy.stats, vectorised",
        theirs=costs[1],
        target=target,
      )
    )
  return found
