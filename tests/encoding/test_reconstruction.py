import numpy as np
import pytest

from jmia.encoding import reconstruction

RECORD = np.array([1, 0, 1, 1, 0], np.uint8)


def test_candidates_are_all_completions():
  rows = reconstruction.candidates(RECORD, np.array([3, 0]))
  expected = [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [1, 0, 1, 0, 0], [1, 0, 1, 1, 0]]
  np.testing.assert_array_equal(rows, expected)
  assert rows.dtype == np.uint8
  many = reconstruction.candidates(RECORD, np.arange(5))
  assert len(np.unique(many, axis=0)) == 32


def test_rank_of_truth():
  def distance(rows):
    return -np.abs(rows.astype(int) - RECORD).sum(1)

  missing = np.array([0, 2, 4])
  assert reconstruction.rank_of_truth(distance, RECORD, missing) == 0
  assert reconstruction.rank_of_truth(lambda r: -distance(r), RECORD, missing) == 7
  # A score that says nothing is no success.
  constant = reconstruction.rank_of_truth(lambda r: np.zeros(len(r)), RECORD, missing)
  assert constant == 7
  assert reconstruction.chance(3) == 1 / 8


def test_errors():
  with pytest.raises(ValueError, match="record has shape"):
    reconstruction.candidates(RECORD[None], np.array([0]))
  with pytest.raises(ValueError, match="of 0 and 1"):
    reconstruction.candidates(RECORD + 1, np.array([0]))
  for missing in ([], [1, 1], [5], [-1], list(range(17))):
    with pytest.raises(ValueError, match="missing="):
      reconstruction.candidates(RECORD, np.array(missing, int))
