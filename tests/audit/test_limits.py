"""Limits for pipelines."""

import numpy as np
import pytest

from jmia.audit import limits


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("auc:0.6", ("auc", 0.6)),
    ("tpr@0.01:0.05", ("0.01", 0.05)),
    ("tpr@1e-1:1", ("0.1", 1.0)),
  ],
)
def test_limits_are_read(text, expected):
  assert limits.parse(text) == expected


@pytest.mark.parametrize(
  "text",
  [
    "auc",
    "auc:",
    "auc:x",
    "tpr:0.1",
    "auc@0.1:0.5",
    "tpr@0.02:0.1",
    "acc:1",
    "auc:1.5",
  ],
)
def test_what_is_no_limit_is_refused(text):
  with pytest.raises(ValueError, match="fail_above="):
    limits.parse(text)


def test_the_lower_end_of_the_widened_interval_decides():
  wide = {"auc_ci": [0.55, 0.7], "tpr_at_fpr_ci": {"0.01": [0.02, 0.1], "0.1": [0, 1]}}
  report = {
    "target": {"num_nonmembers": 1000},
    "attacks": {
      "reference": {"auc": 0.62, "auc_ci": [0.59, 0.65], "at_once": wide},
      "population": {"auc_ci": [0.5, 0.6], "tpr_at_fpr_ci": {"0.01": [0.01, 0.1]}},
    },
  }

  def exceeded(*texts):
    return limits.exceeded(report, [limits.parse(text) for text in texts])

  assert exceeded("auc:0.55", "tpr@0.01:0.02", "tpr@0.001:0") == []
  (sentence,) = exceeded("auc:0.54", "tpr@0.1:0.1")
  assert sentence.startswith("R · reference: AUC is above 0.54 (at least 0.550")
  assert len(exceeded("auc:0.5", "tpr@0.01:0.01")) == 2
  assert limits.exceeded({"attacks": {}}, [limits.parse("auc:0")]) == []
  assert np.isfinite(limits._low(report, "population", "0.1"))


def test_a_limit_that_too_few_samples_measure_is_said():
  attack = {
    "tpr_at_fpr": {"0.1": 0.2, "0.01": 0.1, "0.001": 0.1},
    "tpr_at_fpr_ci": {"0.1": [0.1, 0.3], "0.01": [0, 0.2], "0.001": [0, 0.2]},
  }
  report = {
    "target": {"num_nonmembers": 999},
    "attacks": {"reference": attack, "shadow": {**attack, "num_nonmembers": 99}},
  }
  asked = [limits.parse(t) for t in ("auc:0.5", "tpr@0.01:0.5", "tpr@0.001:0.05")]
  assert limits.untested(report, asked) == [
    "TPR at 0.1% FPR: no attack measured it, which takes 1,000 non-members, so the"
    " limit of 0.05 is not tested"
  ]
  report["target"]["num_nonmembers"] = 1000
  assert limits.untested(report, asked) == []
