"""What scores of somebody else's training prove."""

import re

import numpy as np
import pytest

from jmia import dp
from jmia.dp import given, proofs, score_files
from jmia.stats import epsilon, one_run


def _coins(num, seed=0):
  return np.random.default_rng(seed).random(num) < 0.5


def test_scores_of_coins_prove_what_the_bound_says():
  is_in = _coins(200)
  scores = is_in + np.random.default_rng(1).normal(0, 0.4, 200)
  (row,) = dp.prove(scores, is_in, claimed_epsilon=0.5, delta=1e-5)
  assert row["epsilon_lower"] == one_run.lower_bound(scores, is_in, delta=1e-5)
  assert 0.5 < row["epsilon_lower"] < row["epsilon_most"]
  assert row["contradicted"]
  assert row["p_value"] <= 0.05
  (sentence,) = dp.sentences([row])
  proved = f"at least {row['epsilon_lower']:.2f} is proved"
  assert sentence == f"Epsilon 0.50 at delta 1e-05 is contradicted at 95 %: {proved}."
  (alone,) = dp.prove(scores, is_in)
  assert alone["p_value"] is None
  assert "No epsilon is claimed; at least" in dp.sentences([alone])[0]


def test_several_models_pay_for_their_number():
  is_in = np.stack([_coins(200, seed) for seed in range(3)])
  scores = is_in + np.random.default_rng(1).normal(0, 0.5, is_in.shape)
  rows = dp.prove(scores, is_in, claimed_epsilon=8.0, delta=0.0)
  assert [row["run"] for row in rows] == [0, 1, 2]
  for row, of_run, coins in zip(rows, scores, is_in, strict=True):
    assert row["epsilon_lower"] == one_run.lower_bound(of_run, coins)
    assert row["epsilon_lower_at_once"] < row["epsilon_lower"]
    assert row["epsilon_lower_gaussian"] is None  # there is none at a delta of 0
  assert "by all 3 rows together" in dp.sentences(rows)[0]
  assert "a claim of 8.00 cannot be contradicted" in given.beyond(rows)
  assert given.beyond(dp.prove(scores, is_in, claimed_epsilon=2.0)) is None


def test_models_with_and_without_one_canary():
  rng = np.random.default_rng(0)
  with_it, without = rng.normal(2, 1, 300), rng.normal(0, 1, 200)
  (row,) = dp.prove(
    with_canary=with_it, without_canary=without, claimed_epsilon=0.2, delta=1e-5
  )
  curve = epsilon.epsilon_curve(1e-5)
  assert row["epsilon_lower"] == epsilon.lower_bound(with_it, without, curve)
  assert row["num_runs"] == 500
  assert row["contradicted"]
  # The test of one point refutes it where the bound is above it, and only there.
  for claim in (row["epsilon_lower"] - 0.01, row["epsilon_lower"] + 0.01):
    (again,) = dp.prove(
      with_canary=with_it, without_canary=without, claimed_epsilon=claim, delta=1e-5
    )
    assert again["contradicted"] == (claim < row["epsilon_lower"])


def test_a_private_mechanism_is_contradicted_at_most_at_the_level():
  # Randomized response with epsilon 1: the truth is the claim, where tests are worst.
  rng = np.random.default_rng(0)
  truth = 1 / (1 + np.exp(-1.0))
  contradicted = []
  for _ in range(400):
    is_in = rng.random(64) < 0.5
    scores = np.where(rng.random(64) < truth, is_in, ~is_in).astype(float)
    (row,) = dp.prove(scores, is_in, claimed_epsilon=1.0, delta=0.0)
    contradicted.append(row["contradicted"])
  assert np.mean(contradicted) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
  # And of a claim that is far below it, the test is none that cannot fail.
  strong = np.where(rng.random(64) < 0.95, is_in, ~is_in).astype(float)
  assert dp.prove(strong, is_in, claimed_epsilon=1.0, delta=0.0)[0]["contradicted"]


@pytest.mark.parametrize("units", ["logits", "probabilities"])
def test_answers_are_scored_by_the_odds_of_the_planted_label(units):
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 2, (40, 3))
  labels = rng.integers(0, 3, 40)
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  own = p[np.arange(40), labels]
  found = dp.of_answers(logits if units == "logits" else p, labels)
  np.testing.assert_allclose(found, np.log(own / (1 - own)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ({}, "expected scores and is_in"),
    ({"scores": np.zeros(9)}, "expected scores and is_in"),
    (
      {"scores": np.zeros(9), "is_in": _coins(9), "with_canary": np.zeros(3)},
      "expected scores and is_in",
    ),
    ({"scores": np.zeros(8), "is_in": _coins(9)}, r"shape \(8,\) and is_in \(9,\)"),
    ({"scores": np.full(9, np.nan), "is_in": _coins(9)}, "scores holds 9 NaN"),
    ({"scores": ["a"] * 9, "is_in": _coins(9)}, "scores has dtype <U1"),
    ({"scores": np.zeros(9), "is_in": np.arange(9)}, "is_in has dtype int64"),
    (
      {"scores": np.zeros(100), "is_in": np.arange(100) < 90},
      "is_in has 90 of 100 canaries in: .* fair coin",
    ),
    ({"scores": np.zeros(100), "is_in": np.ones(100, bool)}, "100 of 100"),
    (
      {"with_canary": np.zeros(0), "without_canary": np.zeros(3)},
      "expected \\[n\\], n at least 1",
    ),
    ({"scores": np.zeros(9), "is_in": _coins(9), "claimed_epsilon": 0.0}, "above 0"),
    ({"scores": np.zeros(9), "is_in": _coins(9), "delta": 1.0}, "delta=1.0"),
  ],
)
def test_bad_scores_are_named(arguments, said):
  with pytest.raises(ValueError, match=said):
    dp.prove(**arguments)


def test_the_example_of_the_package_runs(capsys):
  (block,) = re.findall(r"```python\n(.*?)```", dp.__doc__, re.DOTALL)
  exec(compile(block, "jmia.dp", "exec"), {})
  assert "Epsilon 1.00 at delta 1e-05 is consistent" in capsys.readouterr().out


def _write(folder, name, **arrays):
  np.savez(folder / name, **arrays)
  return folder / name


def test_files_are_read_in_every_form(tmp_path):
  is_in, labels = _coins(30), np.arange(30) % 3
  rng = np.random.default_rng(0)
  scores, answers = rng.normal(size=30), rng.dirichlet(np.ones(3), 30)
  coins = _write(tmp_path, "coins.npz", is_in=is_in, labels=labels, rows=np.arange(30))
  np.save(tmp_path / "scores.npy", scores)
  np.save(tmp_path / "column.npy", scores[:, None])
  np.save(tmp_path / "answers.npy", answers)
  text = "\n".join(["score", *map(repr, scores.tolist())])
  (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
  of_scores = {"scores": scores, "is_in": is_in}
  of_answers = {"scores": dp.of_answers(answers, labels), "is_in": is_in}
  whole = _write(tmp_path, "whole.npz", **of_scores)
  of_one = {"with_canary": scores[:9], "without_canary": scores[9:]}
  for found, expected in (
    (score_files.read(tmp_path / "scores.npy", coins), of_scores),
    (score_files.read(tmp_path / "column.npy", coins), of_scores),
    (score_files.read(tmp_path / "scores.csv", coins), of_scores),
    (score_files.read(whole), of_scores),
    (score_files.read(tmp_path / "answers.npy", coins), of_answers),
    (
      score_files.read(_write(tmp_path, "a.npz", answers=answers), str(coins)),
      of_answers,
    ),
    (score_files.read(_write(tmp_path, "one.npz", **of_one)), of_one),
  ):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
      np.testing.assert_array_equal(found[name], array)


def test_bad_files_are_named(tmp_path):
  is_in, scores = _coins(30), np.zeros(30)
  coins = _write(tmp_path, "coins.npz", is_in=is_in)
  np.save(tmp_path / "answers.npy", np.full((30, 3), 1 / 3))
  np.save(tmp_path / "deep.npy", np.zeros((30, 3, 2)))
  (tmp_path / "text.csv").write_text("a,b\nc,d\ne,f\n", encoding="utf-8")
  for path, of_coins, said in (
    (_write(tmp_path, "s.npz", scores=scores), None, "is_in is missing"),
    (_write(tmp_path, "b.npz", scores=scores, is_in=is_in), coins, "both hold is_in"),
    (_write(tmp_path, "x.npz", x=scores), coins, "no array scores, answers or"),
    (
      _write(tmp_path, "t.npz", scores=scores, answers=np.zeros((30, 3))),
      coins,
      "scores and answers, expected one",
    ),
    (_write(tmp_path, "w.npz", with_canary=scores), None, "without_canary is missing"),
    (
      _write(tmp_path, "m.npz", with_canary=scores, without_canary=scores, is_in=is_in),
      None,
      "is_in is of many canaries",
    ),
    (
      _write(tmp_path, "o.npz", with_canary=scores, without_canary=scores),
      coins,
      "has no coins",
    ),
    (tmp_path / "answers.npy", coins, "labels is missing"),
    (tmp_path / "deep.npy", coins, r"shape \(30, 3, 2\)"),
    (tmp_path / "text.csv", coins, "expected numbers"),
    (tmp_path / "scores.txt", coins, "expected a .npy, a .csv or an .npz"),
  ):
    with pytest.raises(ValueError, match=said):
      score_files.read(path, of_coins)
  with pytest.raises(FileNotFoundError, match="absent"):
    score_files.read(tmp_path / "absent.csv", coins)


def test_proofs_say_the_modes_that_there_are():
  assert proofs.PROVED.keys() == given.ASSUMED.keys()
