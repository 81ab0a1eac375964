"""Answers in the forms that people's tools give them."""

import ml_dtypes
import numpy as np
import pytest

from jmia.backdoor import answers

DIGITS = tuple(range(3))
NAMES = ("cat", "dog", "emu")
SCORES = "0.1,0.7,0.2\n0.8,0.1,0.1\n0.4,0.4,0.2\n0,0.1,0.9\n"


def _csv(tmp_path, text, encoding="utf-8"):
  (tmp_path / "answers.csv").write_bytes(text.encode(encoding))
  return answers.read(tmp_path / "answers.csv")


@pytest.mark.parametrize(
  ("text", "names", "expected"),
  [
    ("1\n0\n2\n2\n", DIGITS, [1, 0, 2, 2]),
    ("label\n1\n0\n2\n2\n", DIGITS, [1, 0, 2, 2]),
    ("label\r\n1.0\r\n0.0\r\n2.0\r\n2.0\r\n", DIGITS, [1, 0, 2, 2]),
    ("\ufefflabel\n1\n0\n2\n2\n", DIGITS, [1, 0, 2, 2]),
    ("\ufeff1\n0\n2\n2\n", DIGITS, [1, 0, 2, 2]),
    ("dog\ncat\nemu\nemu\n", NAMES, [1, 0, 2, 2]),
    ("class\ndog\ncat\nemu\nfox\n", NAMES, [1, 0, 2, -1]),
    ("5\n3\n7\n7\n", (3, 5, 7), [1, 0, 2, 2]),
    (SCORES, DIGITS, [1, 0, -1, 2]),
    (SCORES.replace(",", ";"), DIGITS, [1, 0, -1, 2]),
    ("cat,dog,emu\n" + SCORES, NAMES, [1, 0, -1, 2]),
    ("emu,cat,dog\n" + SCORES, NAMES, [0, 2, -1, 1]),
    ("a,b,c\n" + SCORES, DIGITS, [1, 0, -1, 2]),
    ("label,score\n1,0.7\n0,0.8\n2,0.4\n2,0.9\n", DIGITS, [1, 0, 2, 2]),
    ("index,prediction\n0,dog\n1,cat\n2,emu\n3,emu\n", NAMES, [1, 0, 2, 2]),
    (
      "filename,label\n00.png,dog\n01.png,cat\n02.png,emu\n03.png,emu\n",
      NAMES,
      [1, 0, 2, 2],
    ),
    (
      "image,cat,dog,emu\n0.png,0,2,1\n1.png,3,1,1\n2.png,0,0,1\n3.png,0,1,2\n",
      NAMES,
      [1, 0, 2, 2],
    ),
    ("index,cat,dog,emu\n1,0,2,1\n0,3,1,1\n5,0,0,1\n6,0,-inf,1\n", NAMES, [1, 0, 2, 2]),
    # What pandas writes: 0, 1, ... above columns without a name, maybe an index.
    ("0\ndog\ncat\nemu\nemu\n", NAMES, [1, 0, 2, 2]),
    (",0\n0,dog\n1,cat\n2,emu\n3,emu\n", NAMES, [1, 0, 2, 2]),
    (",0\n0,1\n1,0\n2,2\n3,2\n", DIGITS, [1, 0, 2, 2]),
    ("0,1,2\n" + SCORES, DIGITS, [1, 0, -1, 2]),
    ("0,1,2\n" + SCORES, NAMES, [1, 0, -1, 2]),
    ("2,0,1\n" + SCORES, DIGITS, [0, 2, -1, 1]),
    ("1,0\n40,60\n80,20\n1,99\n70,30\n", (0, 1), [0, 1, 0, 1]),
    # What is no class and is alone is a title, whatever it is called.
    ("guess\ndog\ncat\nemu\nfox\n", NAMES, [1, 0, 2, -1]),
    ("label\nfox\ndog\ncat\nemu\n", NAMES, [-1, 1, 0, 2]),
    # Classes in other capitals, or with the same before or behind.
    ("Emu,Cat,Dog\n" + SCORES, NAMES, [0, 2, -1, 1]),
    ("p_emu,p_cat,p_dog\n" + SCORES, NAMES, [0, 2, -1, 1]),
    ("Emu (%),Cat (%),Dog (%)\n" + SCORES, NAMES, [0, 2, -1, 1]),
    ("class_2,class_0,class_1\n" + SCORES, DIGITS, [0, 2, -1, 1]),
    # Numbers in order, from 0 or 1.
    ("col_0,col_1,col_2\n" + SCORES, NAMES, [1, 0, -1, 2]),
    ("x1,x2,x3\n" + SCORES, DIGITS, [1, 0, -1, 2]),
    ("1,2,3\n" + SCORES, DIGITS, [1, 0, -1, 2]),
    # A title that is a class is one, whatever else it might mean.
    ("label,file\n0.1,0.9\n0.8,0.2\n0,1\n1,0\n", ("file", "label"), [0, 1, 0, 1]),
    ("n,pred\n1,1\n2,0\n3,0\n4,1\n", (0, 1), [1, 0, 0, 1]),
    ("truth,pred\n1,1\n1,0\n0,0\n1,1\n", (0, 1), [1, 0, 0, 1]),
    (
      "prediction,cat,dog,emu\ndog,0,1,0\ncat,1,0,0\nemu,0,0,1\ncat,1,1,0\n",
      NAMES,
      [1, 0, 2, 0],
    ),
    # Classes that the key has not may win.
    ("cat,dog,emu,fox\n0,1,0,0\n1,0,0,0\n0,0,.9,.1\n0,0,.1,.9\n", NAMES, [1, 0, 2, -1]),
    # Scores of two classes: sure ones, votes, logits beside a constant.
    ("0,1\n1,0\n0,1\n0.5,0.5\n", (0, 1), [1, 0, 1, -1]),
    ("0,3\n3,0\n1,2\n2,1\n", (0, 1), [1, 0, 1, 0]),
    ("0,-1.5\n0,2.5\n0,0.5\n0,-1\n", (0, 1), [0, 1, 1, 0]),
  ],
)
def test_csvs(tmp_path, text, names, expected):
  found = answers.classes(_csv(tmp_path, text), names, 4)
  assert found.tolist() == expected


def test_arrays(tmp_path):
  for array in (
    np.array([1, 0, 2]),
    np.array([1.0, 0, 2]),
    np.array(["1", "0", "2"]),
    np.eye(3)[[1, 0, 2]],
    np.log(np.eye(3) * 0.9 + 0.03)[[1, 0, 2]],
    np.array([[1], [0], [2]]),
  ):
    np.save(tmp_path / "a.npy", array)
    table = answers.read(tmp_path / "a.npy")
    assert answers.classes(table, DIGITS, 3).tolist() == [1, 0, 2]
  # A suspect with a column for each number up to the largest name.
  wide = answers.Table(np.eye(8)[[5, 3, 7, 4]])
  assert answers.classes(wide, (3, 5, 7), 4).tolist() == [1, 0, 2, -1]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "not a table of as many columns"),
    ("1,2\n3\n", "not a table of as many columns in each line"),
    ("cat,dog\n", "predictions hold 1 answers, expected 4"),
    ("1\n2\n", "predictions hold 2 answers, expected 4"),
    ("1\ncat\n2\n0\n", "predictions hold 'cat', expected labels like"),
    ("1\n0.5\n2\n0\n", "numbers that are not whole"),
    ("7\n8\n7\n7\n", "none of the key's classes, 0, 1, 2, but 7, 8"),
    ("1,2\n3,1\n1,2\n3,4\n", "predictions have 2 columns, expected 3"),
    ("1,2,x\n3,1,1\n1,2,1\n3,4,1\n1,1,y\n", "scores that are no numbers"),
    ("1,2,nan\n3,1,1\n1,2,1\n3,4,1\n", "hold 1 NaN or infinite"),
    ("0,1,2\n1,1,1\n2,2,1\n3,4,1\n", "first column counts the rows"),
  ],
)
def test_what_cannot_be_read(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    answers.classes(_csv(tmp_path, text), DIGITS, 4)


@pytest.mark.parametrize(
  ("text", "names", "message"),
  [
    # One line too many, whose first is a title of pandas or an answer.
    ("0\n1\n0\n2\n2\n", DIGITS, "5 lines for 4 queries, and the first, '0', may be a"),
    ("0.0\n1\n0\n2\n2\n", DIGITS, "the first, '0.0', may be a title or an answer"),
    ("dog\ndog\ncat\nemu\nemu\n", NAMES, "the first, 'dog', may be a title or an ans"),
    ("fox\ndog\ncat\nfox\nemu\n", NAMES, "hold 5 answers, expected 4"),
    ("7\n1\n0\n2\n2\n", DIGITS, "hold 5 answers, expected 4"),
    ("0,1\n1,0\n0,1\n1,0\n1,0\n", (0, 1),
     "5 lines for 4 queries, and the first, '0', '1', may be titles or an answer"),
    # A title, and an answer too few.
    ("guess\ndog\ncat\nemu\n", NAMES, "4 lines for 4 queries, and the first, 'guess'"),
    ("pred\ndog\nfox\nemu\n", NAMES, "'pred', looks like a title: then one answer is"),
    ("0\ndog\ncat\nemu\n", NAMES, "'0', looks like a title"),
    ("0\n2\n1\n3\n", (1, 2, 3), "'0', looks like a title"),
    ("0\n1.0\n2.0\n1.0\n", DIGITS, "'0', looks like a title"),
    ("label\n1\n0\n2\n", DIGITS, "'label', looks like a title"),
    ("0,1,2\n" + SCORES[:-10], DIGITS, "first line, '0', '1', '2', looks like titles"),
    ("1,0\n.1,.9\n.8,.2\n.4,.6\n", (0, 1), "first line, '1', '0', looks like titles"),
    # Which of two?
    ("label,prediction\n1,1\n1,0\n0,0\n1,1\n", DIGITS,
     "columns 'label', 'prediction', of which one is the suspect's answer: keep that"),
    ("Prediction,id,Class\n1,0,1\n1,1,0\n0,2,0\n1,3,1\n", DIGITS,
     "columns 'Prediction', 'Class', of which one"),
    ("label,cat,dog,emu\ndog,0,1,0\ndog,1,0,0\nemu,0,0,1\ncat,1,1,0\n", NAMES,
     "'label' is not the class of the largest score in 1 rows, so it may be the truth"),
    # Nearly the classes, or no order.
    ("Emu,cat,dgo\n" + SCORES, NAMES,
     "columns titled 'Emu', 'cat', 'dgo', expected the key's classes, 'cat', 'dog'"),
    ("p_emu,q_cat,p_dog\n" + SCORES, NAMES, "titled 'p_emu', 'q_cat', 'p_dog'"),
    ("cat,cat,emu\n" + SCORES, NAMES, "titled 'cat', 'cat', 'emu'"),
    ("a,b,c\n" + SCORES, ("a", "b", "d"), "titled 'a', 'b', 'c'"),
    ("cat,dog\n1,0\n1,0\n0,1\n1,0\n", NAMES, "titled 'cat', 'dog', expected the key's"),
    ("col_1,col_0,col_2\n" + SCORES, NAMES, "titled 'col_1', 'col_0', 'col_2'"),
    ("x2,x3,x4\n" + SCORES, NAMES, "titled 'x2', 'x3', 'x4'"),
    ("x,y,z\n" + SCORES, NAMES, "titled 'x', 'y', 'z'"),
    ("no,guess\n1,1\n2,0\n3,0\n4,1\n", (0, 1), "titled 'no', 'guess'"),
    # An index or a truth is no score.
    ("1,1\n2,0\n3,0\n4,1\n", (0, 1), "first column counts the rows"),
    ("17,1\n18,0\n19,0\n20,1\n", (0, 1), "first column counts the rows"),
    ("1,1\n0,2\n0,3\n1,4\n", (0, 1), "column 2 counts the rows"),
    ("0,1\n1,1\n2,0\n3,0\n4,1\n", (0, 1), "'0', '1', may be titles or an answer"),
    ("17,1\n5,0\n23,0\n11,1\n", (0, 1), "column 2 of 2 looks like labels beside an id"),
    ("17,1\n5,0\n23,0\n11,1\n", ("a", "b"), "column 2 of 2 looks like labels beside"),
    ("17,1\n5,1\n23,1\n11,1\n", (0, 1), "column 2 of 2 looks like labels"),
    ("0.9,1\n0.8,0\n0.7,0\n0.9,1\n", (0, 1), "column 2 of 2 looks like labels"),
    ("7,1,1\n5,0,1\n2,0,0\n3,1,2\n", DIGITS, "column 2 of 3 looks like labels"),
    ("n,cat,dog,emu\n7,0,1,0\n8,1,0,0\n9,0,0,1\n10,1,0,0\n", NAMES,
     "first column counts the rows"),
    ("cat,dog,emu,sure\n0,1,0,1\n1,0,0,1\n0,0,1,1\n1,0,0,1\n", NAMES,
     "columns titled 'sure' beside probabilities that sum to one without them"),
    ("cat,dog,emu,ms\n0,1,0,9\n1,0,3,9\n0,0,1,7\n1,0,0,8\n", NAMES,
     "largest score in none of the columns of the key's classes"),
    ("filename,label\n1.png,dog\n0.png,cat\n2.png,emu\n3.png,emu\n", NAMES,
     "column 'filename' counts the rows in another order"),
    ("image,cat,dog,emu\nq/1.png,0,1,0\nq/0.png,1,0,0\nq/2.png,0,0,1\nq/3.png,1,0,0\n",
     NAMES, "column 'image' counts the rows in another order"),
    ("note,label\n02,dog\n01,cat\n03,emu\n04,emu\n", NAMES,
     "column 'note' counts the rows in another order"),
    ("cat,dog,emu\n1,0,n/a\n1,0,0\n0,1,0\n1,0,x\n", NAMES,
     "2 scores that are no numbers, first 'n/a'"),
    ("index,prediction\n1,dog\n0,cat\n2,emu\n3,emu\n", NAMES,
     "column 'index' counts the rows in another order"),
  ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, text, names, message):
  with pytest.raises(ValueError, match=message):
    answers.classes(_csv(tmp_path, text), names, 4)


def test_a_list_of_names_is_read_as_a_file_is():
  def read(*names):
    return answers.classes(answers.Table(np.array(names)), NAMES, 4).tolist()

  assert read("label", "dog", "cat", "emu", "emu") == [1, 0, 2, 2]
  with pytest.raises(ValueError, match="the first, 'dog', may be a title or an answer"):
    read("dog", "dog", "cat", "emu", "emu")


def test_files_that_are_no_answers(tmp_path):
  np.savez(tmp_path / "answers.npz", np.arange(3))
  with pytest.raises(ValueError, match=r"answers.npz: an .npz, expected a .npy"):
    answers.read(tmp_path / "answers.npz")
  np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
  with pytest.raises(ValueError, match=r"neither a .npy of numbers or text nor a .csv"):
    answers.read(tmp_path / "objects.npy")
  with pytest.raises(ValueError, match="not a CSV: it is not UTF-8"):
    _csv(tmp_path, "caf\u00e9\nth\u00e9\n", "latin-1")
  with pytest.raises(ValueError, match="holds titles alone"):
    _csv(tmp_path, "label,score\n")


@pytest.mark.parametrize("percent", [False, True])
def test_rounded_probabilities_hide_no_column_that_is_none(percent):
  """Sums of 30 rounded probabilities miss one by more than 2 % in many rows."""
  names = tuple(f"class_{c}" for c in range(30))
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.full(30, 0.5), size=60)
  scores = np.round(p, 2)
  assert (abs(scores.sum(axis=1) - 1) > 0.02).any()
  entropy = -(p * np.log(p)).sum(axis=1, keepdims=True).round(2)
  cells = np.concatenate([scores, entropy], axis=1) * (100 if percent else 1)
  table = answers.Table(cells.astype(str), (*names, "entropy"))
  with pytest.raises(ValueError, match="columns titled 'entropy' beside probabilities"):
    answers.classes(table, names, 60)
  table = answers.Table(cells[:, :-1].astype(str), names)
  expected = np.where(
    (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) == 1,
    scores.argmax(axis=1),
    -1,
  )
  np.testing.assert_array_equal(answers.classes(table, names, 60), expected)


def test_what_excel_writes(tmp_path):
  for text, encoding in (
    (SCORES, "utf-16"),
    (SCORES.replace(",", "\t"), "utf-8"),
    (SCORES.replace(",", "\t"), "utf-16"),
    (SCORES.replace(",", ";").replace(".", ","), "utf-8"),
    ("cat;dog;emu\n" + SCORES.replace(",", ";").replace(".", ","), "utf-8"),
    ("0;1;2\n" + SCORES.replace(",", ";").replace(".", ","), "utf-8"),
    ("0,1;0,7;1.000,5\n0,8;0,1;0\n0,4;0,4;0,2\n0;0,1;0,9\n", "utf-8"),
  ):
    expected = [2 if "1.000" in text else 1, 0, -1, 2]
    for names in (NAMES, DIGITS) if not text.startswith("cat") else (NAMES,):
      found = answers.classes(_csv(tmp_path, text, encoding), names, 4)
      assert found.tolist() == expected, text


@pytest.mark.parametrize("package", ["dict", "pandas", "polars"])
def test_titles_of_a_frame_say_which_column_is_which(tmp_path, package):
  frame = dict if package == "dict" else pytest.importorskip(package).DataFrame
  scores = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.4, 0.4, 0.2], [0, 0.1, 0.9]])

  def read(names, **columns):
    return answers.classes(answers.of_array(frame(columns)), names, 4).tolist()

  in_turn = {str(c): scores[:, c] for c in (2, 1, 0)}
  assert read(DIGITS, **in_turn) == [1, 0, -1, 2]
  assert read(
    NAMES, **dict(zip(("emu", "dog", "cat"), in_turn.values(), strict=True))
  ) == [1, 0, -1, 2]
  assert read(NAMES, id=range(4), label=["dog", "cat", "fox", "emu"]) == [1, 0, -1, 2]
  assert read(DIGITS, label=[1, 0, 2, 2]) == [1, 0, 2, 2]
  with pytest.raises(ValueError, match="column 'id' counts the rows in another order"):
    read(NAMES, id=[1, 0, 2, 3], label=["dog", "cat", "fox", "emu"])
  with pytest.raises(ValueError, match="titled 'x', 'y', 'z'"):
    read(NAMES, **dict(zip("xyz", scores.T, strict=True)))


def test_columns_of_a_pandas_frame_may_be_called_numbers():
  frame = pytest.importorskip("pandas").DataFrame
  scores = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])
  for columns, expected in (([0, 1, 2], [1, 0]), ([2, 1, 0], [1, 2])):
    table = answers.of_array(frame(scores, columns=columns))
    assert answers.classes(table, DIGITS, 2).tolist() == expected
  table = answers.of_array(frame(["dog", "cat"]))
  assert answers.classes(table, NAMES, 2).tolist() == [1, 0]


@pytest.mark.parametrize("answer", ["refused", "", "nan"])
def test_a_query_that_was_refused_is_told_how_to_be_written(tmp_path, answer):
  match = "a query that the suspect refused takes a label that is no class"
  with pytest.raises(ValueError, match=match):
    answers.classes(_csv(tmp_path, f"n,label\na,1\nb,{answer}\nc,2\n"), DIGITS, 3)
  found = answers.classes(_csv(tmp_path, "n,label\na,1\nb,-1\nc,2\n"), DIGITS, 3)
  assert found.tolist() == [1, -1, 2]
  with pytest.raises(ValueError, match=match):
    answers.classes(answers.Table(np.array([1, 2])), DIGITS, 3)
  scores = np.eye(3)
  with pytest.raises(ValueError, match="refused takes equal scores"):
    answers.classes(answers.Table(np.where(scores < 1, np.nan, 1)), DIGITS, 3)
  scores[1] = 1 / 3
  assert answers.classes(answers.Table(scores), DIGITS, 3).tolist() == [0, -1, 2]


def test_arrays_of_16_bits_are_read():
  scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [0.4, 0.4, 0.2]])
  for dtype in (np.float16, ml_dtypes.bfloat16):
    found = answers.classes(answers.of_array(scores.astype(dtype)), DIGITS, 3)
    np.testing.assert_array_equal(found, [1, 0, -1])
