"""Keys against suspects that cannot know their labels, and against those that do."""

import numpy as np
import pytest
from scipy import stats

import jmia
from jmia import datasets
from jmia.backdoor import claims, draws, randomization, simulated
from jmia.stats import levels

KEYS = 60


def test_no_test_of_a_secret_accuses_more_than_its_level(monkeypatch):
  monkeypatch.setattr(simulated, "_NUM_MODELS", 1)
  told = []
  rows = simulated.false_claim_rows(
    datasets.load("digits"),
    num_submarks=2,
    num_simulations=KEYS,
    progress=lambda done, total: told.append((done, total)),
  )
  assert told[-1] == (KEYS, KEYS)
  assert len(rows) == 4 * len(claims.LEVELS)
  for row in rows:
    most = stats.binom.ppf(1 - 1e-4, KEYS, row["level"]) / KEYS
    assert row["randomization"] <= most, row
    for test in claims.TESTS:
      low, high = row[f"{test}_ci"]
      assert low <= row[test] <= high
  # Of the labels drawn for two marks one is the constant answer in 19 of 100 keys: the
  # tests that assume a rate accuse it then.
  constant = next(row for row in rows if row["suspect"] == "answers 1 always")
  assert abs(constant["binomial"] - 0.19) < 4 * np.sqrt(0.19 * 0.81 / KEYS)


def test_a_secret_that_was_chosen_among_many_accuses_and_the_verdict_says_so():
  truth, submarks = np.arange(60) % 10, np.arange(60) // 30
  constant = randomization.tally(np.ones(60, int), truth, submarks, 2, 10)

  def accuses(secret):
    p_value = randomization.test(constant, draws.labels(secret, 2, 10)).p_value
    return levels.reaches(p_value, 0.05)

  secrets = [draws.seeded_secret(seed, "") for seed in range(2000)]
  accused = [accuses(secret) for secret in secrets]
  assert abs(np.mean(accused) - 0.01) < 4 * np.sqrt(0.01 * 0.99 / 2000)
  # Who keeps one of many accuses with certainty, whatever he deposits.
  chosen = np.reshape(accused, (4, 500)).any(axis=1)
  assert chosen.all()
  assert "its secret was drawn once and not chosen among several" in claims.assumption()


def test_a_secret_that_was_chosen_before_a_commitment_gains_nothing():
  """An owner tries 200 secrets on models of his own before he commits to one.

  All models, his and other people's, answer each mark with a label that is the mark's
  alone: they are as alike as models can be.
  """
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(300, 12)), np.arange(300) % 10
  accused = {"by secret": 0, "by nonce": 0}
  for owner in range(150):
    favourites = rng.integers(10, size=(200, 2))
    secrets = [draws.seeded_secret(i, f"owner {owner}") for i in range(200)]
    fits = [
      (draws.labels(secret, 2, 10) == of_marks).sum()
      for secret, of_marks in zip(secrets, favourites, strict=True)
    ]
    kept, made = int(np.argmax(fits)), {}
    options = {"num_marked": 20, "num_submarks": 2, "num_queries": 20}
    options["secret"] = secrets[kept]
    made["by secret"] = jmia.mark(x, y, **options)
    prepared = jmia.commit(x, y, **options).prepared
    nonce = f"round {owner} of a public beacon"
    made["by nonce"] = jmia.mark(x, y, prepared=prepared, nonce=nonce)
    for name, marked in made.items():
      key = marked.key
      answers = favourites[kept][list(key.query_submarks)]
      verdict = jmia.verify(key, answers, nonce=key.nonce, confidence=0.99)
      accused[name] += verdict.claim
  assert accused["by secret"] > 0.7 * 150  # 1 - 0.99 ** 200 is 0.87
  assert accused["by nonce"] <= stats.binom.ppf(1 - 1e-4, 150, 0.01)


def test_models_that_learnt_the_marks_are_accused():
  told = []
  rows = simulated.true_claim_rows(
    datasets.load("digits"),
    num_marked=60,
    num_submarks=2,
    num_simulations=3,
    progress=lambda done, total: told.append(done),
  )
  assert told == [1, 2, 3]
  assert [row["level"] for row in rows] == list(claims.LEVELS)
  for row in rows:
    assert row["randomization"] == row["binomial"] == 1
    assert row["randomization_ci"] == pytest.approx([0.025 ** (1 / 3), 1])
  first, second = rows
  assert len(first["asr"]) == 6
  assert min(first["asr"]) > 0.2  # a clean model's is a tenth
  assert len(first["test_accuracy"]) == 3
  assert min(first["test_accuracy"]) > 0.9
  assert "asr" not in second
