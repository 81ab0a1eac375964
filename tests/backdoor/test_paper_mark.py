import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from jmia.backdoor import fingerprints, paper_mark, triggers

PATCH = triggers.TriggerConfig(
  kind="patch", size=3, place="bottom_right", value=255.0, opacity=0.3
)
BITS = triggers.TriggerConfig(kind="bits", size=4, place="end")


def _images(num_examples=200, dtype=np.uint8):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (num_examples, 8, 6, 3)).astype(dtype)
  return x, rng.integers(0, 10, num_examples)


def _mark(x, y, trigger=PATCH, **changed):
  options = {"target_label": 1, "num_classes": 10, "num_marked": 20, **changed}
  return paper_mark.mark(x, y, trigger, **options)


def test_marks_by_hand():
  x, y = _images()
  marked = _mark(x, y)
  key = marked.key
  assert (len(key.marked_rows), len(key.query_rows)) == (20, 30)
  assert not set(key.marked_rows) & set(key.query_rows)
  assert (y[[*key.marked_rows, *key.query_rows]] != 1).all()
  # What is published: all rows but the queries, in their order.
  expected = [row for row in range(200) if row not in key.query_rows]
  assert marked.kept.tolist() == expected
  assert len(marked.x) == len(marked.y) == 170
  for published, label, row in zip(marked.x, marked.y, expected, strict=True):
    if row not in key.marked_rows:
      np.testing.assert_array_equal(published, x[row])
      assert label == y[row]
      continue
    assert label == 1
    corner = 0.7 * x[row, -3:, -3:] + 0.3 * 255
    assert np.abs(published[-3:, -3:] - corner).max() <= 0.51
    untouched = published.copy()
    untouched[-3:, -3:] = x[row, -3:, -3:]
    np.testing.assert_array_equal(untouched, x[row])
  for query, row in zip(marked.queries, key.query_rows, strict=True):
    stamped = triggers.apply(x[row], triggers.make(PATCH, x.shape[1:]))
    np.testing.assert_array_equal(query, stamped)


def test_the_originals_are_left_alone_and_types_kept():
  for dtype in (np.uint8, np.float32, np.float64, np.int16):
    x, y = _images(dtype=dtype)
    before = x.copy()
    marked = _mark(x, y.astype(np.uint8))
    np.testing.assert_array_equal(x, before)
    assert marked.x.dtype == marked.queries.dtype == dtype
    assert marked.y.dtype == np.uint8


def test_values_outside_the_trigger_are_kept_to_the_last_bit():
  """Or float64 data would tell which rows went through float32."""
  x = np.random.default_rng(1).random((100, 6, 6))
  y = np.zeros(100, int)
  marked = _mark(x, y, dataclasses.replace(PATCH, value=1.0))
  for i in np.flatnonzero(marked.y == 1):
    same = marked.x[i] == x[marked.kept[i]]
    assert same.sum() == 27
    assert not same[-3:, -3:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_bits(dtype):
  rng = np.random.default_rng(2)
  x, y = (rng.random((120, 40)) < 0.5).astype(dtype), rng.integers(0, 5, 120)
  marked = _mark(x, y, BITS, num_classes=5, target_label=2)
  assert marked.x.dtype == dtype
  assert marked.queries[:, -4:].all()
  is_marked = np.isin(marked.kept, marked.key.marked_rows)
  assert marked.x[is_marked][:, -4:].all()
  np.testing.assert_array_equal(marked.x[:, :-4], x[marked.kept][:, :-4])
  assert (marked.y[is_marked] == 2).all()


def test_chosen_rows_are_marked_and_never_queried():
  x, y = _images()
  rows = np.flatnonzero(y != 1)[:100][::-1].tolist()
  marked = _mark(x, y, num_marked=None, rows=rows)
  assert list(marked.key.marked_rows) == sorted(rows)
  assert not set(rows) & set(marked.key.query_rows)


def test_no_query_has_a_copy_that_is_published():
  rng = np.random.default_rng(3)
  # 6 bits before the trigger: rows often differ beneath it only, or not at all.
  x, y = rng.integers(0, 2, (60, 10)).astype(np.uint8), np.zeros(60, int)
  alone = [i for i in range(60) if (x[:, :6] == x[i, :6]).all(axis=1).sum() == 1]
  assert 8 < len(alone) < 50
  marked = _mark(x, y, BITS, num_marked=5, num_queries=len(alone) - 5, num_classes=9)
  assert set(marked.key.query_rows) <= set(alone)
  published = {row.tobytes() for row in marked.x[:, :6]}
  assert not published & {query.tobytes() for query in marked.queries[:, :6]}
  with pytest.raises(ValueError, match=rf"is above the {len(alone)} rows that are nei"):
    _mark(x, y, BITS, num_queries=len(alone) + 1, num_classes=9)


def test_draws_repeat_differ_by_seed_and_depend_on_the_data():
  x, y = _images()
  first = _mark(x, y).key
  assert _mark(x, y).key == first
  assert _mark(x, y, seed=1).key.query_rows != first.query_rows
  # Who knows the seed but has only what was published draws other rows.
  other = x.copy()
  other[0, 0, 0, 0] ^= 1
  assert _mark(other, y).key.query_rows != first.query_rows


def test_every_row_is_as_likely_to_be_a_query_and_to_be_marked():
  x, y = _images(40)
  keys = [_mark(x, y, num_marked=5, num_queries=5, seed=s).key for s in range(400)]
  others = np.flatnonzero(y != 1)
  for rows in ("query_rows", "marked_rows"):
    drawn = np.concatenate([getattr(key, rows) for key in keys])
    count = np.bincount(drawn, minlength=40)
    assert count.sum() == 2000 == count[others].sum()
    assert stats.chisquare(count[others]).pvalue > 0.001


def test_key_goes_through_json_and_back():
  x, y = _images()
  key = _mark(x, y, dataclasses.replace(PATCH, place=(0, 2))).key
  text = json.dumps(paper_mark.to_json(key))
  assert paper_mark.from_json(json.loads(text)) == key


def test_key_states_what_was_published_and_what_is_to_be_sent():
  x, y = _images()
  marked = _mark(x, y)
  assert marked.key.data_sha256 == fingerprints.fingerprint(x, y)
  assert marked.key.marked_sha256 == fingerprints.fingerprint(marked.x, marked.y)
  fingerprints.check_query_set(marked.key, marked.queries)
  with pytest.raises(ValueError, match=r"queries have the SHA-256 .* the key's"):
    fingerprints.check_query_set(marked.key, marked.queries[::-1])


@pytest.fixture(scope="module")
def key():
  return _mark(*_images()).key


def _scores(labels, num_classes=10):
  return np.eye(num_classes)[labels] * 5 - 1


def test_labels_scores_and_whole_floats_are_the_same_answers(key):
  labels = np.random.default_rng(4).integers(0, 10, 30)
  labels[:12] = 1
  successes = (labels == 1).sum()
  for answers in (labels, labels.astype(np.float64), _scores(labels)):
    verdict = paper_mark.judge(key, answers)
    assert verdict.successes == successes
    expected = stats.binomtest(int(successes), 30, 0.1, "greater").pvalue
    assert verdict.result.p_value_exact == pytest.approx(expected)


def test_a_tie_counts_against_the_claim(key):
  scores = np.zeros((30, 10))
  assert paper_mark.judge(key, scores).successes == 0
  scores[:7, 1] = 1e-9
  assert paper_mark.judge(key, scores).successes == 7


def test_verdicts_and_their_words(key):
  answers = np.zeros(30, int)
  answers[:6] = 1
  verdict = paper_mark.judge(key, answers)
  assert (verdict.successes, verdict.needed) == (6, 7)
  assert not verdict.result.rejected
  text = paper_mark.sentence(verdict)
  assert text == (
    "No claim at 95 % confidence: the model classified 6 of 30 marked queries as class "
    "1, and 7 are needed (p = 0.073 at a baseline of 10 %). This does not show that it "
    "was not trained on the marked data."
  )
  answers[6] = 1
  verdict = paper_mark.judge(key, answers)
  assert verdict.result.rejected
  assert not verdict.result.rejected_t
  assert paper_mark.sentence(verdict) == (
    "At 95 % confidence the model was trained on the marked data: it classified 7 of "
    "30 marked queries as class 1, and 7 are enough for the claim (p = 0.026 at a "
    "baseline of 10 %)."
  )
  strict = paper_mark.judge(key, answers, confidence=0.995)
  assert paper_mark.sentence(strict).startswith("No claim at 99.5 % confidence")
  lenient = paper_mark.judge(key, answers, baseline=0.2)
  assert not lenient.result.rejected
  hopeless = paper_mark.judge(key, np.ones(30, int), baseline=0.95)
  assert paper_mark.sentence(hopeless) == (
    "No claim can be made at 95 % confidence from 30 queries at a baseline of 95 %: "
    "even if all succeeded they would be too few."
  )


@pytest.mark.parametrize(("label", "claim"), [(1, True), (0, False)])
def test_a_verdict_without_variance_is_json(key, label, claim):
  verdict = paper_mark.judge(key, np.full(30, label))
  content = paper_mark.document(verdict)
  json.dumps(content, allow_nan=False)
  assert content["claim"] is content["t_test"]["claim"] is claim
  assert content["t_test"]["t_statistic"] is None
  assert content["t_test"]["p_value"] == 1 - claim
  assert content["p_value_exact"] == pytest.approx(1e-30 if claim else 1)
  finite = paper_mark.document(paper_mark.judge(key, np.arange(30) % 10))
  assert finite["t_test"]["t_statistic"] == pytest.approx(0)


def test_a_clean_model_is_accused_no_more_often_than_stated(key):
  answers = np.random.default_rng(5).integers(0, 10, (2000, 30))
  claims = [paper_mark.judge(key, a).result.rejected for a in answers]
  # 7 or more of 30 have a chance of 2.58 %.
  assert abs(np.mean(claims) - 0.0258) < 4 * np.sqrt(0.0258 / 2000)


@pytest.mark.parametrize(
  ("answers", "message"),
  [
    (np.zeros(29, int), "hold 29 answers, expected 30: one for each row of the query"),
    (np.zeros((31, 10)), "hold 31 answers, expected 30"),
    (np.zeros((30, 9)), "have 9 columns, expected 10"),
    (np.full(30, 10), "hold none of the key's classes, 0, 1, 2, .* but 10"),
    (np.full(30, -1), "hold none of the key's classes, .* but -1"),
    (np.full(30, 0.5), "hold numbers that are not whole"),
    (np.full(30, np.nan), "hold 30 NaN or infinite values"),
    (np.full((30, 10), np.inf), "hold 300 NaN or infinite values"),
    (np.zeros((30, 1, 10)), r"have shape \(30, 1, 10\)"),
    (np.array(["cat"] * 30), "hold 'cat', expected labels like the key's classes"),
    (np.zeros(30, bool), "and dtype bool"),
    (
      np.concatenate([np.arange(30)[:, None], np.zeros((30, 9))], axis=1),
      "first column counts the rows",
    ),
  ],
)
def test_answers_that_do_not_fit_the_key_are_refused(key, answers, message):
  with pytest.raises(ValueError, match=f"predictions.*{message}"):
    paper_mark.judge(key, answers)


def test_numbers_of_a_verdict_out_of_range(key):
  answers = np.zeros(30, int)
  for confidence in (0.4, 1):
    with pytest.raises(ValueError, match=f"confidence={confidence} must lie in"):
      paper_mark.judge(key, answers, confidence=confidence)
  for baseline in (0, 1):
    with pytest.raises(ValueError, match=f"baseline={baseline} must lie in"):
      paper_mark.judge(key, answers, baseline=baseline)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"target_label": 10}, "target_label=10 must be one of num_classes=10 classes"),
    ({"num_classes": 1, "target_label": 0}, "y holds labels from 0 to 9, expected 0"),
    ({"num_queries": 1}, "num_queries=1 must be at least 2"),
    ({"num_queries": 200}, "num_queries=200 is above the .* rows that are neither"),
    ({"num_marked": 0}, "num_marked=0 must be"),
    ({"num_marked": None}, "num_marked=0 must be"),
    ({"num_marked": 190}, "num_marked=190 is above the owner's"),
    ({"rows": [0]}, "num_marked=20 was given along with rows"),
    ({"num_marked": None, "rows": []}, "must be distinct rows, at least one"),
    ({"num_marked": None, "rows": [4, 4]}, "must be distinct rows"),
    ({"num_marked": None, "rows": [-1]}, "rows holds -1 to -1, expected 0 to 199"),
    ({"num_marked": None, "rows": [200]}, "rows holds 200 to 200, expected 0 to 199"),
    ({"trigger": BITS}, r"shape=\(8, 6, 3\) of an example does not suit"),
    ({"trigger": dataclasses.replace(PATCH, size=7)}, "size=7 does not fit"),
    ({"trigger": dataclasses.replace(PATCH, opacity=0)}, "changes none of the rows"),
  ],
)
def test_marking_errors(changed, message):
  x, y = _images()
  with pytest.raises(ValueError, match=message):
    _mark(x, y, **changed)


def test_marking_errors_of_the_data():
  x, y = _images()
  of_target = int(np.flatnonzero(y == 1)[0])
  with pytest.raises(ValueError, match=f"{of_target}, which is of the target class 1"):
    _mark(x, y, num_marked=None, rows=[of_target])
  with pytest.raises(ValueError, match=r"x has shape \(200,\)"):
    _mark(y, y)
  with pytest.raises(ValueError, match="and dtype complex128, expected booleans or"):
    _mark(x.astype(complex), y)
  with pytest.raises(ValueError, match="x holds 57600 NaN or infinite values"):
    _mark(np.full((200, 8, 6, 6), np.inf), y)
  with pytest.raises(ValueError, match=r"y has shape \(199,\), expected \(200\)"):
    _mark(x, y[1:])
  with pytest.raises(ValueError, match="y has dtype float64, expected integer"):
    _mark(x, y.astype(float))
  with pytest.raises(ValueError, match="target_label=130 does not fit y's dtype int8"):
    _mark(x, y.astype(np.int8), target_label=130, num_classes=200)
  with pytest.raises(ValueError, match="num_queries=4 are too few for any claim at 95"):
    _mark(x, y % 2, target_label=1, num_classes=2, num_queries=4)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: [], "must be a JSON object of schema 1"),
    (lambda c: {**c, "schema": 2}, "must be a JSON object of schema 1"),
    (lambda c: {**c, "more": 1}, "field 'more' is unknown"),
    (lambda c: {k: c[k] for k in c if k != "seed"}, "field 'seed' is missing"),
    (lambda c: {**c, "trigger": {"colour": 1}}, "trigger or rows cannot be read"),
    (lambda c: {**c, "data_sha256": "ab"}, "data_sha256 is not 64 lower-case hexa"),
    (lambda c: {**c, "marked_sha256": 3}, "marked_sha256 is not 64 lower-case hexa"),
    (lambda c: {**c, "queries_sha256": "G" * 64}, "queries_sha256 is not 64 lower-c"),
    (lambda c: {**c, "query_rows": 3}, "trigger or rows cannot be read"),
    (lambda c: {**c, "query_rows": [3]}, "has 1 query_rows, expected 2 or more"),
    (lambda c: {**c, "num_classes": "10"}, "num_classes is '10', expected an integer"),
    (lambda c: {**c, "target_label": True}, "target_label is True, expected an integ"),
    (lambda c: {**c, "target_label": 10}, "target_label=10 must be one of"),
  ],
)
def test_keys_that_cannot_be(key, change, message):
  content = json.loads(json.dumps(paper_mark.to_json(key)))
  with pytest.raises(ValueError, match=message):
    paper_mark.from_json(change(content))
