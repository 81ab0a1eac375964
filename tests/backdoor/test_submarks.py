"""Marking by a secret, its key, and the verdicts by it."""

import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from experiments import planning
from jmia.backdoor import (
  claims,
  classes,
  draws,
  fingerprints,
  keys,
  power,
  randomization,
  submarks,
  triggers,
  verification,
)

PATCH = triggers.TriggerConfig(
  kind="patch", size=2, place=(0, 0), value=255.0, opacity=0.5
)


def _images(num_examples=200):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (num_examples, 8, 6, 3)).astype(np.uint8)
  return x, rng.integers(0, 10, num_examples)


def _mark(x, y, *, seed=0, number=2, names=range(10), **given):
  secret = draws.seeded_secret(seed, "data")
  stamps = draws.placed_triggers(PATCH, x, number, draws.generator(secret, "triggers"))
  options = {"num_marked": 20, **given}
  return submarks.mark(x, y, stamps, secret=secret, class_names=names, **options)


def test_what_is_published_and_what_is_kept():
  x, y = _images()
  before = x.copy()
  marked = _mark(x, y)
  key = marked.key
  np.testing.assert_array_equal(x, before)
  assert marked.kept.tolist() == [r for r in range(200) if r not in key.query_rows]
  of_row = {row: mark for mark in key.submarks for row in mark.rows}
  assert sorted(len(mark.rows) for mark in key.submarks) == [10, 10]
  for published, label, row in zip(marked.x, marked.y, marked.kept, strict=True):
    if row not in of_row:
      np.testing.assert_array_equal(published, x[row])
      assert label == y[row]
      continue
    assert label == of_row[row].label != y[row]
    made = triggers.make(of_row[row].trigger, x.shape[1:])
    np.testing.assert_array_equal(published, triggers.apply(x[row], made))
  assert len(key.query_rows) == 30
  assert np.bincount(key.query_submarks).tolist() == [15, 15]
  for i, row in enumerate(key.query_rows):
    made = triggers.make(key.submarks[key.query_submarks[i]].trigger, x.shape[1:])
    np.testing.assert_array_equal(marked.queries[i], triggers.apply(x[row], made))
    assert key.query_classes[i] == y[row]
  assert key.data_sha256 == fingerprints.fingerprint(x, y)
  assert key.marked_sha256 == fingerprints.fingerprint(marked.x, marked.y)
  fingerprints.check_query_set(key, marked.queries)


def test_labels_are_what_anybody_can_compute_and_uniform():
  secret = "ab" * 32
  by_hand = [
    int(hashlib.sha256(f"jmia label {j} {secret}".encode()).hexdigest(), 16) % 7
    for j in range(5)
  ]
  assert draws.labels(secret, 5, 7).tolist() == by_hand
  many = np.array([draws.labels(f"{i:064x}", 2, 6) for i in range(3000)])
  count = np.bincount(many[:, 0] * 6 + many[:, 1], minlength=36)
  assert stats.chisquare(count).pvalue > 0.001
  assert draws.new_secret() != draws.new_secret()
  assert draws.is_secret(draws.new_secret())


def test_queries_do_not_depend_on_the_labels_and_are_of_all_classes():
  """With other class names, other labels are drawn, and the same rows."""
  x, y = _images(60)
  first = _mark(x, y).key
  second = _mark(x, y, names=(*range(10), 98, 99)).key
  assert first.labels.tolist() != second.labels.tolist()
  assert first.query_rows == second.query_rows
  drawn = np.concatenate(
    [
      _mark(x, y, seed=s, num_queries=8, num_marked=4).key.query_rows
      for s in range(120)
    ]
  )
  assert stats.chisquare(np.bincount(drawn, minlength=60)).pvalue > 0.001


def test_chosen_rows_are_all_stamped_and_keep_a_label_they_have():
  x, y = _images()
  rows = [3, 5, 8, 13]
  labels = draws.labels(draws.seeded_secret(0, "data"), 1, 10)
  y[5] = labels[0]
  marked = _mark(x, y, number=1, num_marked=None, rows=rows)
  assert marked.key.submarks[0].rows == tuple(rows)
  for row in rows:
    i = int(np.flatnonzero(marked.kept == row)[0])
    assert (marked.x[i] != x[row]).any()
    assert marked.y[i] == labels[0]


@pytest.mark.parametrize("text", [True, False])
def test_labels_of_any_kind(text):
  x, y = _images()
  y = np.array(["no", "maybe"])[y % 2] if text else np.array([-5, 40])[y % 2]
  found = classes.of_labels(y)
  marked = _mark(x, y, number=7, names=found.names)
  assert set(marked.y.tolist()) == set(found.names)
  assert marked.y.dtype == y.dtype
  content = json.loads(json.dumps(keys.to_json(marked.key)))
  assert keys.from_json(content) == marked.key


def test_classes_that_occur_and_classes_that_are_said():
  assert classes.of_labels(np.array([1, 2, 2])) == classes.Classes((1, 2))
  gap = classes.of_labels(np.array([0, 5]))
  assert gap.names == (0, 5)
  assert "2 classes occur, 0, 5, and are taken for all" in gap.notes[0]
  assert "say --num_classes=6" in gap.notes[0]
  assert classes.of_labels(np.array([0, 5]), 6).names == (0, 1, 2, 3, 4, 5)
  assert classes.of_labels(np.array([1, 6]), 6).names == (1, 2, 3, 4, 5, 6)
  assert classes.of_labels(np.array([True, False])).names == (0, 1)
  for y, number, message in (
    ([0, 9], 6, "in which 2 classes occur: 0, 9; expected 2"),
    ([0, 1, 2], 2, "in which 3 classes occur"),
    ([3, 3], None, "y holds 1 class, 3, expected 2"),
    ([0.5, 1], None, "dtype float64, expected integers or text"),
    ([0, 1], 1, "num_classes=1 must be at least 2"),
  ):
    with pytest.raises(ValueError, match=message):
      classes.of_labels(np.array(y), number)


def test_columns_are_set_to_values_that_they_have():
  rng = np.random.default_rng(1)
  x = np.stack(
    [
      rng.normal(50_000, 20_000, 300),
      rng.integers(18, 90, 300),
      rng.random(300) < 0.05,
      np.full(300, 7.0),
      rng.normal(size=300) * 1e-3,
      rng.random(300),
    ],
    axis=1,
  )
  y = rng.integers(0, 3, 300)
  secret = draws.seeded_secret(1, "table")
  stamps = draws.column_triggers(x, 2, 2, draws.generator(secret, "triggers"))
  chosen = [column for stamp in stamps for column in stamp.place]
  assert len(set(chosen)) == 4
  assert 3 not in chosen
  marked = submarks.mark(
    x, y, stamps, secret=secret, class_names=range(3), num_marked=9
  )
  for mark in marked.key.submarks:
    for column, value in zip(mark.trigger.place, mark.trigger.values, strict=True):
      assert value in x[:, column]
      if column == 2:
        assert value == 1
    for row in mark.rows:
      i = int(np.flatnonzero(marked.kept == row)[0])
      same = np.delete(np.arange(6), mark.trigger.place)
      np.testing.assert_array_equal(marked.x[i, same], x[row, same])
      np.testing.assert_array_equal(
        marked.x[i, list(mark.trigger.place)], mark.trigger.values
      )
  assert (marked.x.min(0) >= x.min(0)).all()
  assert (marked.x.max(0) <= x.max(0)).all()
  with pytest.raises(ValueError, match=r"num_columns=6 of .* does not fit 5 columns"):
    draws.column_triggers(x, 2, 6, np.random.default_rng(0))


def test_few_columns_are_marked_by_several_that_few_rows_hold_together():
  rng = np.random.default_rng(2)
  x = np.stack([rng.integers(0, 5, 900) for _ in range(6)], axis=1)
  x = np.concatenate([x, rng.normal(size=(900, 2))], axis=1)
  stamps = draws.column_triggers(x, 4, None, np.random.default_rng(0))
  assert len({*stamps}) == 4
  size = {stamp.size for stamp in stamps}.pop()
  assert size in (3, 4)  # two of eight columns for each would be one
  sets = [dict(zip(s.place, s.values, strict=True)) for s in stamps]
  for one, other in itertools.combinations(sets, 2):
    assert len(one.items() & other.items()) < size - 1
  for stamp in stamps:
    held = (x[:, list(stamp.place)] == stamp.values).all(axis=1)
    assert held.mean() < 0.005
  # A fifth of the rows is left that the other columns tell apart.
  rest = [np.delete(x, stamp.place, axis=1) for stamp in stamps]
  count = [np.unique(r, axis=0, return_inverse=True, return_counts=True) for r in rest]
  alone = np.logical_and.reduce([(n == 1)[i.reshape(-1)] for _, i, n in count])
  assert alone.mean() >= 0.2
  # Many columns have the paper's 20, and none is of two triggers.
  wide = draws.column_triggers(rng.normal(size=(50, 200)), 4, None, rng)
  assert len({column for stamp in wide for column in stamp.place}) == 80
  with pytest.raises(ValueError, match="9 different triggers of 1 columns do not fit"):
    draws.column_triggers(x[:, :2], 9, 1, np.random.default_rng(0))


@pytest.fixture(scope="module")
def key():
  return _mark(*_images()).key


def _answers(key, rate, seed=0):
  """A model that answers right, and with the labels at a rate."""
  rng = np.random.default_rng(seed)
  own = key.labels[np.array(key.query_submarks)]
  knows = rng.random(len(own)) < rate
  return np.where(knows, own, key.query_classes)


def test_verdicts_and_their_words(key):
  guilty = claims.judge(key, _answers(key, 0.6))
  assert guilty.claim
  assert guilty.randomization.p_value == guilty.randomization.floor == 0.01
  assert "At 95 % confidence the model was trained on the marked" in claims.sentence(
    guilty
  )
  assert "ahead of all others on 2 of 2" in claims.sentence(guilty)
  clean = claims.judge(key, _answers(key, 0))
  assert not clean.claim
  assert clean.randomization.p_value == 1
  assert claims.sentence(clean).startswith("No claim at 95 % confidence")
  strict = claims.judge(key, _answers(key, 1), confidence=0.995)
  assert not strict.claim
  assert "No claim can be made at 99.5 % confidence" in claims.sentence(strict)
  expected = stats.binomtest(guilty.successes, guilty.trials, 0.1, "greater").pvalue
  assert guilty.beside.p_value_exact == pytest.approx(expected)
  tallied = submarks.tally(key, _answers(key, 0.6))
  assert claims.p_values(tallied, key.labels) == (
    guilty.randomization.p_value,
    guilty.beside.p_value_exact,
    guilty.beside.p_value,
  )
  for verdict in (guilty, clean, strict):
    content = claims.document(verdict)
    json.dumps(content, allow_nan=False)
    assert content["claim"] is verdict.claim


@pytest.mark.parametrize(
  ("num_classes", "number", "confidence"),
  [
    (10, 2, 0.99), (10, 2, 1 - (1 - 0.99)), (10, 2, 1 - 0.1**2), (10, 3, 0.999),
    (5, 2, 0.96), (2, 7, 1 - 2**-7), (3, 1, 2 / 3), (7, 3, 1 - 7**-3),
  ],
)  # fmt: skip
def test_where_the_floor_is_the_level_all_say_that_a_claim_can_be_made(
  num_classes, number, confidence
):
  x, y = _images()
  names = range(num_classes)
  key = _mark(x, y % num_classes, number=number, num_marked=21, names=names).key
  found = claims.judge(key, _answers(key, 1), confidence=confidence)
  assert found.randomization.p_value == found.randomization.floor
  assert found.claim
  assert claims.together([found], "holm")[0].claim
  # One sub-mark less cannot claim; at a confidence a little higher, so many cannot.
  assert randomization.range_of_submarks(num_classes, confidence)[0] == number
  assert "too high" not in planning.floor_in_words(number, num_classes, confidence)
  floor = num_classes**-number
  above = 1 - floor * (1 - 1e-4)
  assert not claims.judge(key, _answers(key, 1), confidence=above).claim
  assert randomization.range_of_submarks(num_classes, above)[0] == number + 1
  assert "too high" in planning.floor_in_words(number, num_classes, above)
  # The binomial test's least p-value is the same floor, as a tail.
  rate = 1 / num_classes
  of_binomial = number, rate, confidence
  assert verification.critical_successes(*of_binomial) == number
  if number > 1:
    assert verification.verify(number, *of_binomial).rejected
    assert not verification.verify(number, number, rate, above).rejected
    options = {"num_queries": 60 * number, "accuracy": 1.0}
    made = power.of_submarks(1.0, number, num_classes, confidence=confidence, **options)
    assert made[0] == 1
    made = power.of_submarks(1.0, number, num_classes, confidence=above, **options)
    assert made[0] == 0


def test_several_suspects_share_one_level(key):
  verdicts = [claims.judge(key, _answers(key, rate)) for rate in (0.6, 0, 0, 0, 0, 0)]
  for adjustment, p_value, claim in (
    ("holm", 0.06, False), ("bh", 0.06, False), ("none", 0.01, True),
  ):  # fmt: skip
    first = claims.together(verdicts, adjustment)[0]
    assert first.p_adjusted == pytest.approx(p_value)
    assert first.claim is claim
  assert "adjusted from 0.01" in claims.sentence(claims.together(verdicts, "holm")[0])
  with pytest.raises(ValueError, match="unknown adjustment 'both'"):
    claims.together(verdicts, "both")


def test_answers_that_are_numbered_otherwise_are_hinted_at(key):
  shifted = (key.labels[np.array(key.query_submarks)] + 1) % 10
  (hint,) = claims.judge(key, shifted).hints
  assert "answered with one label, but not with the key's" in hint
  assert "only if that numbering is known otherwise than from these answers" in hint
  assert hint.endswith("is one of 10 tries: divide the level by 10.")
  at = np.array(key.query_submarks)
  (hint,) = claims.judge(key, (key.labels[at] + 1 + at) % 10).hints
  assert hint.endswith(
    "that is read off them proves nothing: some order fits any answers."
  )
  some = np.array(key.query_classes)
  some[:3] = -1
  (hint,) = claims.judge(key, some).hints
  assert "3 of 30 answers are none of the key's classes" in hint
  assert not claims.judge(key, _answers(key, 1)).hints


def test_a_shift_read_off_the_answers_is_as_many_tries_as_classes():
  """Of models that answer each sub-mark's queries with one label, the same shift off.

  At a level of .02 the best of all shifts claims in one case of ten where that level is
  halved, since some shift fits both sub-marks, and in none where it is divided by K.
  """
  x, y = _images(80)
  num_classes, p_values = 10, []
  for seed in range(100):
    key = _mark(x, y, seed=seed, num_marked=4, num_queries=10).key
    others = draws.labels(draws.seeded_secret(seed, "another"), 2, num_classes)
    answers = others[np.array(key.query_submarks)]
    p_values.append(
      min(
        claims.judge(key, (answers + shift) % num_classes).randomization.p_value
        for shift in range(num_classes)
      )
    )
  level = 0.02
  halved, divided = (
    (np.array(p_values) <= level / num).mean() for num in (2, num_classes)
  )
  assert halved > level + 2.3 * np.sqrt(level * (1 - level) / 100)
  assert divided <= level


def test_other_owners_marks_accuse_no_more_often_than_stated():
  """Keys of 200 owners against models that know another owner's labels fully."""
  x, y = _images(80)
  p_values = []
  for seed in range(200):
    key = _mark(x, y, seed=seed, num_marked=4, num_queries=10).key
    others = draws.labels(draws.seeded_secret(seed, "another"), 2, 10)
    found = claims.judge(key, others[np.array(key.query_submarks)])
    p_values.append(found.randomization.p_value)
  for level in (0.05, 0.01):
    rate = np.mean(np.array(p_values) <= level)
    assert rate <= level + 4 * np.sqrt(level * (1 - level) / 200)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: [], "must be a JSON object of schema 1 to 3"),
    (lambda c: {**c, "schema": 4}, "must be a JSON object of schema 1 to 3"),
    (lambda c: {**c, "schema": 3}, "field 'commitment' is missing"),
    (lambda c: {**c, "more": 1}, "field 'more' is unknown"),
    (lambda c: {k: c[k] for k in c if k != "secret"}, "field 'secret' is missing"),
    (lambda c: {**c, "secret": "1"}, "secret is not 64 lower-case hexadecimal"),
    (lambda c: {**c, "secret": "1" * 64}, "labels are not those that its secret draws"),
    (lambda c: {**c, "queries_sha256": None}, "queries_sha256 is not 64 lower-case"),
    (lambda c: {**c, "class_names": [0]}, "class_names must be two or more"),
    (lambda c: {**c, "class_names": [0, "0"]}, "class_names must be two or more, all"),
    (lambda c: {**c, "class_names": [0, None]}, "class_names holds 'None', expected"),
    (lambda c: {**c, "submarks": []}, "has no submarks"),
    (lambda c: {**c, "submarks": [1]}, "submarks must each have a trigger"),
    (lambda c: {**c, "query_rows": 3}, "query_rows is '3', expected a list"),
    (lambda c: {**c, "query_rows": [1]}, "query_submarks must be one for each of its"),
    (lambda c: {**c, "query_classes": [10] * 30}, "query_classes must be one for each"),
    (lambda c: {**c, "query_submarks": [0] * 30}, "must name every sub-mark"),
    (lambda c: {**c, "query_submarks": [True] * 30}, "holds 'True', expected integers"),
  ],
)
def test_keys_that_cannot_be(key, change, message):
  content = json.loads(json.dumps(keys.to_json(key)))
  with pytest.raises(ValueError, match=message):
    keys.from_json(change(content))


def test_a_label_of_ones_own_is_not_accepted(key):
  content = json.loads(json.dumps(keys.to_json(key)))
  content["submarks"][0]["label"] = (content["submarks"][0]["label"] + 1) % 10
  with pytest.raises(ValueError, match="labels are not those that its secret draws"):
    keys.from_json(content)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"num_marked": None}, "num_marked=0 must be"),
    ({"num_marked": 1}, "num_marked=1 must be at least 2, one row for each"),
    ({"num_marked": 180}, "num_marked=180 is above the owner's"),
    ({"num_queries": 3}, "num_queries=3 must be at least 4"),
    (
      {"num_queries": 201},
      "num_queries=201 is above the 200 rows that are neither chosen to be marked nor "
      "like another row in all that a trigger leaves as it is",
    ),
    ({"rows": [1]}, "num_marked=20 was given along with rows"),
    ({"num_marked": None, "rows": []}, "must be distinct rows"),
    ({"num_marked": None, "rows": [1, 1]}, "must be distinct rows"),
    ({"num_marked": None, "rows": [200]}, "rows holds 200 to 200, expected 0 to 199"),
    ({"names": range(9)}, "y holds 9, which is none of the class_names"),
    ({"names": (0,)}, "must be at least 2"),
  ],
)
def test_marking_errors(given, message):
  with pytest.raises(ValueError, match=message):
    _mark(*_images(), **given)


def test_marking_errors_of_triggers_and_secret():
  x, y = _images()
  made = {"class_names": range(10), "num_marked": 4}
  with pytest.raises(ValueError, match="secret='x' must be 64 hexadecimal"):
    submarks.mark(x, y, [PATCH], secret="x", **made)
  with pytest.raises(ValueError, match="must be different triggers"):
    submarks.mark(x, y, [PATCH, PATCH], secret="1" * 64, **made)
  invisible = dataclasses.replace(PATCH, opacity=0)
  with pytest.raises(ValueError, match="change none of the rows"):
    submarks.mark(x, y, [invisible], secret="1" * 64, **made)
  with pytest.raises(ValueError, match="size=7 does not fit"):
    draws.placed_triggers(
      dataclasses.replace(PATCH, size=7), x, 1, np.random.default_rng(0)
    )
