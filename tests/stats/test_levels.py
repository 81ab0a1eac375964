import numpy as np
import pytest

from jmia.stats import levels


@pytest.mark.parametrize(
  ("fpr", "num", "expected"),
  [
    ("0.1", 10, True), ("0.1", 9, False), ("0.01", 100, True), ("0.01", 99, False),
    ("0.001", 1000, True), ("0.001", 999, False),
  ],
)  # fmt: skip
def test_a_rate_takes_as_many_non_members_as_one_in_it(fpr, num, expected):
  assert levels.can_measure(fpr, num) is expected


def test_rates_are_called_alike_as_numbers_and_as_text():
  np.testing.assert_array_equal(levels.numbers(), [0.1, 0.01, 0.001])
  assert [levels.percent(fpr) for fpr in levels.FPRS] == ["10%", "1%", "0.1%"]
  assert levels.percent(0.1) == levels.percent("0.1")
  assert levels.tpr_title("0.01") == "TPR at 1% FPR"
  assert levels.by_fpr(np.eye(3)[0]) == {"0.1": 1.0, "0.01": 0.0, "0.001": 0.0}


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.999, 0.9999])
def test_an_equal_that_is_computed_in_another_way_reaches_the_level(confidence):
  level = levels.of_confidence(confidence)
  for equal in (level, 1 - confidence, 1 / round(1 / level), level / 3 * 3):
    assert levels.reaches(equal, level)
    assert levels.reaches(equal, 1 - confidence)
    assert not levels.reaches(equal * (1 + 1e-6), level)


def test_each_p_value_is_judged_by_itself():
  found = levels.reaches([[0.01, 0.011], [0.1**2, 0.009]], 0.01)
  np.testing.assert_array_equal(found, [[True, False], [True, True]])
