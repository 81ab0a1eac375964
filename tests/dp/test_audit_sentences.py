"""What is said of several rows together holds for all of them at once."""

import types

import numpy as np

from jmia.dp import audit, proofs

RUN = types.SimpleNamespace(
  epsilon=np.inf, delta=1e-5, noise_multiplier=0.0, sampling_rate=1.0, num_steps=1
)
SETTING = types.SimpleNamespace(
  mode="one_run", canary="gradient", start="blank", control=None, num_tested=100,
  num_runs=8,
)  # fmt: skip


def _scored(rng):
  """Eight runs whose scores know nothing of the coins."""
  shape = 8, 100
  return types.SimpleNamespace(
    run=RUN,
    final=rng.random(shape),
    steps=rng.random(shape),
    is_in=rng.random(shape) < 0.5,
    accuracy=np.ones(8),
    num_diverged=0,
  )


def test_the_best_of_all_rows_pays_for_their_number():
  rng = np.random.default_rng(0)
  alone = together = 0
  for _ in range(30):
    rows = audit.rows(_scored(rng), SETTING)
    assert len(rows) == 16
    alone += max(row["epsilon_lower"] for row in rows) > 0
    together += max(row["epsilon_lower_at_once"] for row in rows) > 0
  # 5 % of 30 and four standard errors; each by itself is above 0 more often.
  assert together <= 6
  assert alone > together
  (sentence,) = proofs.sentences(rows)
  assert sentence.startswith("No epsilon is claimed; at least 0.0")
  assert sentence.endswith("is proved at 95 % by all 16 rows together.")


def test_a_claim_that_falls_by_less_than_it_is_said_why():
  row = {
    "claimed_epsilon": 4.0, "control": None, "delta": 1e-5, "p_value": 1e-6,
    "contradicted": True, "epsilon_lower_at_once": 3.2,
  }  # fmt: skip
  (sentence,) = proofs.sentences([row])
  assert "Epsilon 4.00 at delta 1e-05 is contradicted at 95 %" in sentence
  assert "That 3.20 alone is proved is no contradiction" in sentence
  (sentence,) = proofs.sentences([{**row, "epsilon_lower_at_once": 4.5}])
  assert sentence.endswith("is contradicted at 95 %: at least 4.50 is proved.")
  two = [{**row, "epsilon_lower_at_once": 4.5}] * 2
  assert proofs.sentences(two)[0].endswith(
    "at 95 %, all 2 rows taken together: at least 4.50 is proved."
  )
