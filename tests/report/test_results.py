import json
import os
import pty
import sys
import termios

import pytest

from jmia.report import results


@pytest.fixture(autouse=True)
def no_width(monkeypatch):
  """Whoever runs the tests may have a terminal of any width."""
  monkeypatch.delenv("COLUMNS", raising=False)


def test_a_document_says_what_was_run_and_on_what(tmp_path):
  rows = [{"variant": "a", "asr": 0.5}]
  content = results.document(
    rows, config={"seed": 3, "path": tmp_path}, seed=3, seconds={"total": 1.0}
  )
  results.write(tmp_path / "results.json", content)
  read = json.loads((tmp_path / "results.json").read_text())
  assert read["schema"] == 1
  assert read["rows"] == rows
  assert read["config"] == {"seed": 3, "path": str(tmp_path)}
  assert {"jax", "numpy", "jmia", "python"} <= set(read["versions"])
  assert read["device"]
  assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_number_that_json_lacks_leaves_no_file(tmp_path):
  with pytest.raises(ValueError, match="JSON"):
    results.write(tmp_path / "results.json", {"rows": [{"auc": float("nan")}]})
  assert not list(tmp_path.iterdir())


def test_columns_are_aligned():
  text = results.table([("attack", "AUC"), ("P", "0.5"), ("Random", "10.25")])
  assert text.splitlines() == [
    "attack    AUC",
    "-------------",
    "P         0.5",
    "Random  10.25",
  ]


_WIDE = [("attack", "AUC", "TPR", "p"), ("P", "0.5", "1 %", "0.3"), ("R", "", "2", "4")]
_IN_PARTS = [
  *("attack  AUC  TPR", "----------------", "P       0.5  1 %", "R              2", ""),
  *("attack    p", "-----------", "P       0.3", "R         4"),
]


def test_columns_that_do_not_fit_stand_below_with_the_rows_names():
  assert results.table(_WIDE, 20).splitlines() == _IN_PARTS
  assert results.table(_WIDE, 16).splitlines() == _IN_PARTS
  assert len(results.table(_WIDE, 1).split("\n\n")) == 3  # one at least
  assert results.table(_WIDE, 21) == results.table(_WIDE)
  assert results.table([("name",), ("a long one",)], 3).count("\n") == 2


@pytest.mark.parametrize(("columns", "is_cut"), [("20", True), ("0", False), ("x", 0)])
def test_the_terminals_width_is_asked(monkeypatch, columns, is_cut):
  whole = results.table(_WIDE, 99)
  assert results.table(_WIDE) == whole  # no terminal
  monkeypatch.setenv("COLUMNS", columns)
  assert (results.table(_WIDE) != whole) == is_cut
  monkeypatch.delenv("COLUMNS")
  main, other = pty.openpty()
  termios.tcsetwinsize(other, (24, 20))
  with os.fdopen(other, "w", encoding="utf-8") as terminal:
    monkeypatch.setattr(sys, "stdout", terminal)
    assert results.table(_WIDE).splitlines() == _IN_PARTS
  os.close(main)


def test_ragged_rows_are_refused():
  with pytest.raises(ValueError, match="shorter"):
    results.table([("a", "b"), ("c",)])
