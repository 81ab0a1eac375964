"""Answers in the forms that people's tools give them."""

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
    ("index,cat,dog,emu\n1,0,2,1\n0,3,1,1\n5,0,0,1\n6,0,-inf,1\n", NAMES, [1, 0, 2, 2]),
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


def test_files_that_are_no_answers(tmp_path):
  np.savez(tmp_path / "answers.npz", np.arange(3))
  with pytest.raises(ValueError, match=r"answers.npz: an .npz, expected a .npy"):
    answers.read(tmp_path / "answers.npz")
  np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
  with pytest.raises(ValueError, match=r"neither a .npy of numbers or text nor a .csv"):
    answers.read(tmp_path / "objects.npy")
  with pytest.raises(ValueError, match="not a CSV in UTF-8"):
    _csv(tmp_path, "1\n2\n", "utf-16")
  with pytest.raises(ValueError, match="holds titles alone"):
    _csv(tmp_path, "label,score\n")
