import json

import pytest

from jmia.report import results


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


def test_ragged_rows_are_refused():
  with pytest.raises(ValueError, match="shorter"):
    results.table([("a", "b"), ("c",)])
