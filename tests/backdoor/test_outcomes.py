"""The summary of rows, worked by hand. (Rows are tested with the binary.)"""

import numpy as np
import pytest

from jmia.backdoor import outcomes


def _row(study, variant, rate, trial=0, owner=0, paper=None, claim=True):
  return {
    "study": study,
    "variant": variant,
    "trial": trial,
    "owner": owner,
    "num_marked": 8,
    "trigger_distance": 2.0 + trial,
    "asr_all": rate,
    "asr_without": 0.01,
    "test_accuracy": 0.5,
    "rejected": claim,
    "rejected_t": False,
    "paper_asr": paper,
  }


def test_a_variant_of_three_trials():
  rates = (0.3, 0.5, 0.4)
  rows = [_row("sizes", "20", r, t, 0, 0.45, t > 0) for t, r in enumerate(rates)]
  (line,) = outcomes.summary(rows)
  assert (line["study"], line["variant"], line["num_trials"]) == ("sizes", "20", 3)
  assert line["asr_all"] == pytest.approx(0.4)
  # t of 2 degrees of freedom at 97.5 % is 4.3027; the standard error 0.1 / sqrt(3).
  half = 4.302653 * 0.1 / np.sqrt(3)
  assert line["asr_all_ci"] == pytest.approx([0.4 - half, 0.4 + half], rel=1e-6)
  assert line["asr_all_range"] == [0.3, 0.5]
  assert line["trigger_distance"] == 3
  assert line["claims"] == pytest.approx(2 / 3)
  assert line["claims_t"] == 0
  assert line["claims_t_ci"] == pytest.approx([0, 1 - 0.025 ** (1 / 3)])
  assert line["paper_inside"] is True


def test_one_trial_has_neither_an_interval_nor_a_range_to_be_in():
  (line,) = outcomes.summary([_row("single", "default", 0.3, paper=0.6)])
  assert line["asr_all_ci"] is None
  assert line["paper_asr"] == 0.6
  assert line["paper_inside"] is None


@pytest.mark.parametrize(
  ("paper", "inside"), [(0.29, False), (0.3, True), (0.6, False)]
)
def test_the_papers_figure_is_inside_or_outside_the_range(paper, inside):
  rows = [_row("single", "default", r, t, 0, paper) for t, r in enumerate((0.3, 0.5))]
  (line,) = outcomes.summary(rows)
  assert line["paper_inside"] is inside


def test_an_interval_stays_within_0_and_1():
  rows = [_row("single", "default", rate, t) for t, rate in enumerate((0.0, 1.0))]
  (line,) = outcomes.summary(rows)
  assert line["asr_all_ci"] == [0, 1]
  assert line["paper_inside"] is None


def test_owners_have_a_line_each_and_accusers_one_together():
  rows = [
    _row(study, "all", 0.1, trial, owner)
    for study in ("owners", "false_claims")
    for trial in range(2)
    for owner in range(3)
  ]
  lines = outcomes.summary(rows)
  assert [(line["variant"], line["num_trials"]) for line in lines] == [
    ("owner 1", 2),
    ("owner 2", 2),
    ("owner 3", 2),
    ("all", 6),
  ]
