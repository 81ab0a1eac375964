"""Limits for pipelines."""

import re

import numpy as np
import pytest

from jmia import types
from jmia.audit import config as config_lib
from jmia.audit import limits, outcome


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


def _perfect_report(members, others, num_attacks=1):
  """Of attacks that tell all members from all others, by the audit's own intervals."""
  is_member = np.arange(members + others) < members
  found = outcome.Outcome(
    is_member.astype(np.float32), is_member, np.zeros(0), None, {}, []
  )
  about = {"num_samples": members + others, "num_nonmembers": others}
  attack = about | {"at_once": outcome.at_once([found], num_attacks)}
  return {
    "target": {"num_members": members, "num_nonmembers": others},
    "attacks": dict.fromkeys(
      ["population", "reference", *"abcd"][:num_attacks], attack
    ),
  }


@pytest.mark.parametrize(
  ("text", "num_attacks"),
  [
    ("tpr@0.1:0.2", 1),
    ("tpr@0.01:0.05", 1),
    ("tpr@0.01:0.05", 6),
    ("auc:0.6", 1),
    ("auc:0.95", 6),
  ],
)
def test_a_limit_that_perfect_scores_would_not_exceed_is_untested(text, num_attacks):
  """The number that is said is the first with which the same limit is exceeded."""
  asked = [limits.parse(text)]

  def said(others):
    report = _perfect_report(450, others, num_attacks)
    untested = limits.untested(report, asked)
    assert bool(untested) != bool(limits.exceeded(report, asked))
    return untested

  (sentence,) = said(2)
  shared = f"with {num_attacks} attack" + "s" * (num_attacks > 1)
  found = re.search(rf"with so few non-members; {shared} it takes ([\d,]+)$", sentence)
  assert found
  least = int(found[1].replace(",", ""))
  assert said(least) == []
  assert said(least - 1) == [sentence]


@pytest.mark.parametrize("num_targets", [1, 3])
def test_what_would_be_untested_is_refused_by_its_design(num_targets):
  """The sizes are those that the report of such an audit has."""
  rows = np.arange(60 + 300 + 200)
  split = types.AuditSplit(*np.split(rows, [60, 360]))
  config = config_lib.AuditConfig(
    attacks=("population", "metric_loss"), num_targets=num_targets, num_calibration=50
  )
  design = config_lib.design_of(split, config)
  report = _perfect_report(60, 300, 2)
  report["targets"] = [{"num_members": 60, "num_nonmembers": 300}] * num_targets
  for figure in ("auc", "tpr@0.1"):
    most = limits._most(report, limits.parse(f"{figure}:0").figure)
    limits.check(design, config.attacks, [limits.parse(f"{figure}:{most - 1e-6}")])
    with pytest.raises(ValueError, match=r"^fail_above: .* is not tested: even"):
      limits.check(design, config.attacks, [limits.parse(f"{figure}:{most}")])
  limits.check(design, config.attacks, [])


def test_the_default_audit_of_digits_does_not_test_a_tpr_at_one_percent():
  """As README and the flag's help say."""
  (said,) = limits.untested(
    _perfect_report(449, 449, 6), [limits.parse("tpr@0.01:0.05")]
  )
  assert said.endswith("with 6 attacks it takes 750")


def test_a_limit_that_takes_more_members_is_untested():
  for report, text in (
    (_perfect_report(4, 10_000), "auc:0.6"),
    (_perfect_report(900, 900), "auc:1"),
  ):
    (said,) = limits.untested(report, [limits.parse(text)])
    assert "with however many non-members; it takes more members" in said


def test_a_limit_of_the_best_attack_is_tested_and_one_of_several_targets():
  report = _perfect_report(450, 2000, 2)
  few = report["attacks"]["population"] = {
    "num_samples": 30,
    "num_nonmembers": 20,
    "at_once": {"auc_ci": [0.5, 1.0], "tpr_at_fpr_ci": {}},
  }
  report["attacks"]["reference"]["at_once"] = few["at_once"]
  asked = [limits.parse("tpr@0.01:0.99")]
  assert limits.untested(report, [limits.parse("tpr@0.01:0.05")]) == []
  assert len(limits.untested(report, asked)) == 1
  del report["attacks"]["reference"]
  assert len(limits.untested(report, [limits.parse("tpr@0.01:0.05")])) == 1
  # The first report's sizes are the least of any target: each target has its own.
  report["targets"] = [{"num_members": 450, "num_nonmembers": 2000}] * 2
  own = {"num_samples": 2450, "num_nonmembers": 2000}
  few["by_target"] = [own, own]
  assert limits.untested(report, [limits.parse("tpr@0.01:0.05")]) == []


def test_a_limit_that_was_exceeded_or_has_no_attack():
  report = _perfect_report(4, 100)
  report["attacks"]["population"] = {
    "num_samples": 104,
    "num_nonmembers": 100,
    "at_once": {"auc_ci": [0.97, 1.0], "tpr_at_fpr_ci": {}},
  }
  asked = [limits.parse("auc:0.96")]
  assert limits.exceeded(report, asked)
  assert limits.untested(report, asked) == []
  assert len(limits.untested(report | {"attacks": {}}, asked)) == 1
