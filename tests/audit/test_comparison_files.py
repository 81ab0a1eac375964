"""Audits of this process compared as their folders are."""

import json

import numpy as np
import pytest

from jmia import audit
from jmia.audit import compare, comparison_files, signals_file


def _result(seed, num_targets=1):
  """An audit of drawn answers, of one target or several."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, 80)
  members = np.arange(80) % 2 == 0

  def logits(*shape):
    return (rng.normal(0, 1, (*shape, 80, 3)) + 2 * np.eye(3)[labels]).astype("f4")

  targets = [
    signals_file.from_arrays(
      {
        "target_logits": logits(),
        "labels": labels,
        "members": members,
        "reference_logits": logits(4),
      }
    )
    for _ in range(num_targets)
  ]
  return audit.from_evidence(targets, ("metric_loss", "reference"))


def _assert_same(a, b):
  for name, mine, theirs in zip(a._fields, a, b, strict=True):
    if name == "report":
      assert json.loads(json.dumps(mine)) == theirs
    elif isinstance(theirs, dict):
      assert mine.keys() == theirs.keys()
      for key, array in theirs.items():
        np.testing.assert_array_equal(mine[key], array)
    else:
      np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("num_targets", [1, 3])
def test_a_result_is_what_its_folder_says(tmp_path, num_targets):
  result = _result(0, num_targets)
  audit.write(result, tmp_path / "plain")
  _assert_same(compare.of("plain", result), compare.load(tmp_path / "plain"))


def test_results_are_compared_and_written(tmp_path):
  audits = [compare.of("plain", _result(0)), compare.of("other", _result(1))]
  found = comparison_files.write(audits, tmp_path / "new" / "comparison")
  folder = tmp_path / "new" / "comparison"
  assert {path.name for path in folder.iterdir()} == {*comparison_files.FILES}
  written = json.loads((folder / "comparison.json").read_text("utf-8"))
  assert written == json.loads(json.dumps(found))
  assert found["comparisons"][0]["name"] == "other"
  assert found == compare.compare(audits)


def test_what_cannot_be_compared_leaves_nothing(tmp_path):
  one = compare.of("plain", _result(0))
  with pytest.raises(ValueError, match="two"):
    comparison_files.write([one], tmp_path / "comparison")
  assert not (tmp_path / "comparison").exists()
