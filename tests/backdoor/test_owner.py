import json
import subprocess
import sys

import numpy as np
import pytest

import jmia
from jmia import datasets
from jmia.backdoor import claims, draws, keys, submarks, triggers
from jmia.backdoor import prepared as prepared_lib

SECRET = draws.seeded_secret(0, "a test")
_RNG = np.random.default_rng(0)
Y = np.array(["cat", "dog", "emu", "fox"])[_RNG.integers(0, 4, 300)]
IMAGES = _RNG.integers(0, 200, (300, 8, 8, 1)).astype(np.uint8)
TABLE = _RNG.normal(size=(300, 12))
BITS = triggers.TriggerConfig(kind="bits", size=3, place="end")
COLUMNS = triggers.TriggerConfig(kind="columns", size=1, place=(4,), values=(0.5,))


def _learnt(key):
  """The answers of a model that has learnt every mark."""
  names = np.array(key.class_names)
  return names[key.labels[np.array(key.query_submarks)]]


@pytest.mark.parametrize("x", [IMAGES, TABLE], ids=["images", "table"])
def test_a_model_that_learnt_the_marks_is_told_from_one_that_did_not(x):
  marked = jmia.mark(x, Y, num_marked=30, secret=SECRET)
  # Labels of four classes: 4 ** -3 is the first power below the planned 0.05.
  assert len(marked.key.submarks) >= 3
  assert len(marked.x) == len(marked.y) == len(x) - len(marked.queries)
  changed = (marked.x != x[marked.kept]).reshape(len(marked.x), -1).any(1)
  assert 0 < changed.sum() <= 30
  found = jmia.verify(marked.key, _learnt(marked.key))
  assert found.claim
  assert "the model was trained on the marked data" in claims.sentence(found)
  right = np.array(marked.key.class_names)[np.array(marked.key.query_classes)]
  assert not jmia.verify(marked.key, right).claim


def test_the_secret_draws_all_of_it():
  same = [jmia.mark(TABLE, Y, num_marked=9, secret=SECRET).key for _ in range(2)]
  assert same[0] == same[1]
  others = [jmia.mark(TABLE, Y, num_marked=9).key.secret for _ in range(2)]
  assert len({SECRET, *others}) == 3


def test_probabilities_are_answers_too():
  marked = jmia.mark(TABLE, Y, rows=[3, 5, 8, 13, 21, 34], secret=SECRET)
  assert isinstance(marked.key, submarks.Key)
  labels = marked.key.labels[np.array(marked.key.query_submarks)]
  assert jmia.verify(marked.key, np.eye(4)[labels]).claim


def test_titles_of_a_frame_are_read():
  marked = jmia.mark(TABLE, Y, num_marked=30, secret=SECRET)
  labels = marked.key.labels[np.array(marked.key.query_submarks)]
  scores = {
    name: np.eye(4)[labels][:, c] for c, name in enumerate(marked.key.class_names)
  }
  assert jmia.verify(
    marked.key, {name: scores[name] for name in sorted(scores)[::-1]}
  ).claim


def test_a_title_above_names_costs_no_claim():
  marked = jmia.mark(TABLE, Y, num_marked=30, secret=SECRET)
  learnt = _learnt(marked.key).tolist()
  assert jmia.verify(marked.key, ["label", *learnt]).claim
  for first in ("label", learnt[0]):
    with pytest.raises(ValueError, match=f"the first, {first!r}, "):
      jmia.verify(marked.key, [first, *(learnt if first != "label" else learnt[:-1])])


def test_gaps_between_labels_are_told():
  told = []
  y = np.where(Y == "cat", 0, np.where(Y == "dog", 1, 5))
  jmia.mark(TABLE, y, num_marked=9, secret=SECRET, say=told.append)
  assert len(told) == 1
  with pytest.warns(UserWarning, match=told[0][:20]):
    jmia.mark(TABLE, y, num_marked=9, secret=SECRET)


@pytest.mark.parametrize("given", [{}, {"num_marked": 2, "rows": [1]}])
def test_how_many_or_which(given):
  with pytest.raises(ValueError, match="one of num_marked and rows must have a value"):
    jmia.mark(TABLE, Y, **given)


@pytest.mark.parametrize(
  ("x", "given", "message"),
  [
    (IMAGES, {"num_columns": -7}, "num_columns=-7 is not read with images"),
    (
      TABLE,
      {"num_columns": 3, "trigger": BITS},
      "num_columns=3 is not read with a tri",
    ),
    (TABLE, {"trigger": COLUMNS}, "trigger is of columns, which are drawn"),
    (TABLE, {"num_columns": -7}, "num_columns=-7 .* does not fit 12 columns of more"),
    (TABLE[:0], {}, r"x has shape \(0, 12\) .*, expected .* \[N, \.\.\.\], N > 0"),
    (TABLE, {"num_columns": 2.5}, "num_columns=2.5 .* does not fit 12 columns of more"),
  ],
)
def test_what_would_not_be_read_is_refused(x, given, message):
  with pytest.raises(ValueError, match=message):
    jmia.mark(x, Y, num_marked=9, secret=SECRET, **given)


def test_lists_are_marked_as_arrays_are():
  listed = jmia.mark(TABLE.tolist(), Y.tolist(), num_marked=9, secret=SECRET)
  marked = jmia.mark(TABLE, Y, num_marked=9, secret=SECRET)
  assert listed.key == marked.key
  np.testing.assert_array_equal(listed.x, marked.x)


@pytest.mark.parametrize("y", [Y, np.unique(Y, return_inverse=True)[1]])
def test_labels_of_a_frame_are_marked_as_arrays_are(y):
  marked = jmia.mark(TABLE, y.astype(object), num_marked=9, secret=SECRET)
  expected = jmia.mark(TABLE, y, num_marked=9, secret=SECRET)
  np.testing.assert_array_equal(marked.y, expected.y)
  assert marked.y.dtype == expected.y.dtype
  assert marked.key == expected.key
  answers = _learnt(marked.key)
  found, plain = (
    claims.document(jmia.verify(marked.key, of))
    for of in (answers.astype(object), answers)
  )
  assert found == plain


@pytest.mark.parametrize("missing", [float("nan"), None])
@pytest.mark.parametrize("kind", [list, lambda y: np.array(y, object)])
def test_a_row_without_a_label_is_named(missing, kind):
  y = Y.tolist()
  y[7] = missing
  with pytest.raises(ValueError, match="y has no label at row 7, counted from 0"):
    jmia.mark(TABLE, kind(y), num_marked=9, secret=SECRET)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_their_channels_first_are_refused(channels):
  x = IMAGES.repeat(channels, axis=3).transpose(0, 3, 1, 2)
  with pytest.raises(
    ValueError, match=r"x of shape \(300, .*, 8, 8\) looks like images"
  ):
    jmia.mark(x, Y, num_marked=9, secret=SECRET)
  marked = jmia.mark(x.transpose(0, 2, 3, 1), Y, num_marked=9, secret=SECRET)
  assert marked.x.shape[1:] == (8, 8, channels)


def test_labels_in_another_order_than_their_frame_are_refused():
  pandas = pytest.importorskip("pandas")
  x, y = pandas.DataFrame(TABLE), pandas.Series(Y)
  with pytest.raises(ValueError, match="y has the index of x in another order"):
    jmia.mark(x, y[::-1], num_marked=9, secret=SECRET)
  marked = jmia.mark(x, y, num_marked=9, secret=SECRET)
  assert marked.key == jmia.mark(TABLE, Y, num_marked=9, secret=SECRET).key


@pytest.mark.parametrize(
  ("form", "said"),
  [
    (lambda y: y.astype(float), "y holds floats that are whole numbers."),
    (lambda y: y[:, None], None),
    (lambda y: np.eye(4)[y], "y holds one-hot rows: read as classes."),
    (lambda y: np.eye(5)[y], "y holds one-hot rows: read as classes."),
    (
      lambda y: [["0.0", "1", "2", "3"][c] if i else "0" for i, c in enumerate(y)],
      "Labels of y that write one number are one class: '0', '0.0'.",
    ),
  ],
)
def test_labels_are_taken_in_the_forms_that_an_audit_takes(form, said):
  y = np.unique(Y, return_inverse=True)[1]
  y[0] = 0
  told, given = [], form(y)
  marked = jmia.mark(TABLE, given, num_marked=9, secret=SECRET, say=told.append)
  assert told == ([said] if said else [])
  num_classes = 5 if np.shape(given)[1:] == (5,) else 4
  assert [*map(str, marked.key.class_names)] == [*map(str, range(num_classes))]
  kept = [*map(int, marked.y)]
  rows = [row for mark in marked.key.submarks for row in mark.rows]
  is_marked = np.isin(marked.kept, rows)
  np.testing.assert_array_equal(np.array(kept)[~is_marked], y[marked.kept][~is_marked])
  assert jmia.verify(marked.key, _learnt(marked.key)).claim


@pytest.mark.parametrize("key", ["mine/key.json", None, {"secret": SECRET}])
def test_what_is_no_key_is_refused(key):
  message = r"key is of type (str|NoneType|dict), expected marked\.key, or owner_files"
  with pytest.raises(TypeError, match=message):
    jmia.verify(key, Y)


def test_a_lazy_frame_is_to_be_collected_first():
  polars = pytest.importorskip("polars")
  frame = polars.DataFrame(TABLE)
  message = r"x is a LazyFrame, which has no rows yet: collect\(\) it first"
  with pytest.raises(ValueError, match=message):
    jmia.mark(frame.lazy(), Y, num_marked=9)
  with pytest.raises(ValueError, match=message):
    datasets.from_arrays(frame.lazy(), Y)
  assert len(jmia.mark(frame.lazy().collect(), Y, num_marked=9).x) < 300


def test_labels_of_several_types_are_refused():
  y = Y.astype(object)
  y[3] = 3
  with pytest.raises(ValueError, match="y holds objects of the types int, str, "):
    jmia.mark(TABLE, y, num_marked=9)


NONCE = "round 7 of a public beacon"


def _committed(**changed):
  return jmia.commit(TABLE, Y, **{"num_marked": 30, "secret": SECRET, **changed})


@pytest.mark.parametrize("x", [IMAGES, TABLE], ids=["images", "table"])
@pytest.mark.parametrize("which", [{"num_marked": 30}, {"rows": [34, *range(9)]}])
def test_labels_by_a_nonce(x, which):
  prepared, commitment = jmia.commit(x, Y, secret=SECRET, **which)
  made = [
    jmia.mark(x, Y, prepared=prepared, nonce=nonce)
    for nonce in (NONCE, f" {NONCE}\n", "round 8 of a public beacon")
  ]
  key = made[0].key
  assert key == made[1].key
  assert key.commitment == commitment == made[2].key.commitment
  # The nonce draws the labels, and nothing else that a suspect is asked.
  assert (key.labels != made[2].key.labels).any()
  np.testing.assert_array_equal(made[0].queries, made[2].queries)
  rows = [row for mark in key.submarks for row in mark.rows]
  assert len(rows) == 30 if "rows" not in which else sorted(rows) == [*range(9), 34]
  by_secret = draws.labels(SECRET, len(key.submarks), 4)
  assert any((one.key.labels != by_secret).any() for one in made)
  found = jmia.verify(key, _learnt(key), nonce=NONCE, commitment=commitment)
  assert found.claim
  assert found.basis == claims.Basis(NONCE, commitment, True)
  said = claims.assumption(found.basis)
  assert "published before the nonce was known to anybody and was the only one" in said
  assert "Valid only if" not in said
  unknown = jmia.verify(key, _learnt(key), nonce=NONCE)
  assert f"Valid only if {commitment} was pub" in claims.assumption(unknown.basis)
  # A file of it comes back.
  back = keys.from_json(json.loads(json.dumps(keys.to_json(key))))
  assert back == key
  stored = json.loads(json.dumps(keys.prepared_to_json(prepared)))
  assert prepared_lib.commitment(keys.prepared_from_json(stored)) == commitment


def test_all_that_may_be_chosen_is_committed_to():
  prepared, commitment = _committed()
  others = {
    "secret": "1" * 64,
    "class_names": prepared.class_names[::-1],
    "stamps": prepared.stamps[::-1],
    "num_marked": 29,
    "rows": (1,),
    "query_rows": prepared.query_rows[::-1],
    "query_submarks": prepared.query_submarks[::-1],
    "query_classes": prepared.query_classes[::-1],
    "data_sha256": "1" * 64,
    "queries_sha256": "1" * 64,
  }
  assert others.keys() == set(prepared._fields)
  found = {
    prepared_lib.commitment(prepared._replace(**{k: v})) for k, v in others.items()
  }
  assert len(found | {commitment}) == len(others) + 1


def test_what_a_nonce_and_a_commitment_do_not_fit():
  prepared, commitment = _committed()
  key = jmia.mark(TABLE, Y, prepared=prepared, nonce=NONCE).key
  plain = jmia.mark(TABLE, Y, num_marked=30, secret=SECRET).key
  relabelled = key.submarks[0]._replace(label=(key.submarks[0].label + 1) % 4)
  chosen = key._replace(submarks=(relabelled, *key.submarks[1:]))
  elsewhere = key._replace(query_classes=key.query_classes[::-1])
  for of, given, message in (
    (key, {}, f"nonce must have a value.*: the key says '{NONCE}'"),
    (key, {"nonce": "round 8 of a public beacon"}, f"its own is '{NONCE}'"),
    (key, {"nonce": "round 7"}, "nonce='round 7' is not of this key"),
    (key, {"nonce": NONCE, "commitment": "1" * 64}, f"its own is {commitment}"),
    (chosen, {"nonce": NONCE}, "labels are not those that its secret draws with nonce"),
    (
      key._replace(nonce="round 8 of a public beacon"),
      {"nonce": "round 8 of a public beacon"},
      "labels are not those that its secret draws with nonce",
    ),
    (elsewhere, {"nonce": NONCE}, "key is not what its commitment was made for"),
    (plain, {"nonce": NONCE}, "the secret alone has drawn the key's labels, so leave"),
    (plain, {"commitment": commitment}, "commitment=.*: the secret alone has drawn"),
  ):
    with pytest.raises(ValueError, match=message):
      jmia.verify(of, _learnt(of), **given)
  for given, message in (
    ({"prepared": prepared}, "prepared and nonce need each other"),
    ({"nonce": NONCE, "num_marked": 3}, "prepared and nonce need each other"),
    ({"prepared": prepared, "nonce": "short"}, "short enough to be foreseen"),
    (
      {"prepared": prepared, "nonce": NONCE, "num_marked": 30, "confidence": 0.9},
      "num_marked, confidence is not read with prepared, which says it",
    ),
    (
      {"prepared": prepared._replace(data_sha256="1" * 64), "nonce": NONCE},
      "the data are not those that were committed to",
    ),
    (
      {"prepared": prepared._replace(query_rows=(*range(29), 300)), "nonce": NONCE},
      "query_rows hold 300, expected 0 to 299",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      jmia.mark(TABLE, Y, **given)
  with pytest.raises(ValueError, match="are not those that were committed to"):
    jmia.mark(TABLE[::-1], Y, prepared=prepared, nonce=NONCE)
  for given, message in (
    ((prepared, commitment), "prepared is of type tuple, expected committed.prep"),
    (_committed(), "prepared is of type Committed, expected committed.prepared"),
  ):
    with pytest.raises(TypeError, match=message):
      jmia.mark(TABLE, Y, prepared=given, nonce=NONCE)
  for nonce in (12345678901234567, NONCE.encode()):
    with pytest.raises(TypeError, match=r"nonce is of type \w+, expected a text"):
      jmia.mark(TABLE, Y, prepared=prepared, nonce=nonce)
  with pytest.raises(ValueError, match="holds what UTF-8 cannot"):
    jmia.mark(TABLE, Y, prepared=prepared, nonce=f"{NONCE}\udcff")


def test_no_labels_make_an_owner_begin_again():
  fewest = 300 - 120 - 100  # all but queries and a class that all labels may be
  y = np.arange(300) % 3
  made = {"num_submarks": 3, "num_queries": 120, "secret": SECRET}
  with pytest.raises(
    ValueError, match=r"num_marked=170 is above \d+, the rows that are no"
  ):
    jmia.commit(TABLE, y, num_marked=170, **made)
  with pytest.raises(ValueError, match="num_marked=2 must be at least 3, one row for"):
    jmia.commit(TABLE, y, num_marked=2, **made)
  prepared, _ = jmia.commit(TABLE, y, num_marked=fewest, **made)
  drawn = set()
  for i in range(40):
    key = jmia.mark(TABLE, y, prepared=prepared, nonce=f"round {i} of a beacon").key
    assert sum(len(mark.rows) for mark in key.submarks) == fewest
    drawn.add(len({*key.labels.tolist()}))
  assert 1 in drawn


def test_a_mark_that_changes_nothing_is_refused_before_the_nonce_and_not_after():
  """Who could begin again, once he knows the labels, would choose among them."""
  x = np.stack([np.arange(200) % 2, np.arange(200)], axis=1)
  y = np.arange(200) % 4

  def prepared(column, value):
    stamp = triggers.TriggerConfig(
      kind="columns", size=1, place=(column,), values=(value,)
    )
    return submarks.prepare(
      x, y, [stamp], secret=SECRET, class_names=range(4), num_marked=1, num_queries=10
    )

  submarks.check_any_labels(x, y, prepared(0, 1))
  with pytest.raises(ValueError, match="stamps change none of the rows"):
    submarks.check_any_labels(x * [0, 1], y, prepared(0, 0))
  changed = set()
  for i in range(40):
    nonce = f"round {i} of a public beacon"
    marked = submarks.mark_prepared(x, y, prepared(0, 1), nonce)
    changed.add(bool((marked.x != x[marked.kept]).any()))
  assert changed == {True, False}


def test_they_are_among_what_there_is():
  assert {"commit", "mark", "verify", "configure"} <= {*dir(jmia)}


def test_it_is_there_without_the_binaries():
  code = (
    "import sys, jmia; jmia.commit; jmia.mark; jmia.verify;"
    "assert not {m for m in sys.modules if 'experiments' in m or '_binaries' in m}"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
  with pytest.raises(AttributeError, match="'jmia' has no attribute 'marks'"):
    jmia.marks  # noqa: B018
