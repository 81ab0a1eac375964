"""Whom an audit exposes: groups of records, and how many can be named."""

import numpy as np
import pytest

from jmia import types
from jmia.audit import whom
from jmia.report import exposure
from jmia.report.samples import Samples
from jmia.stats import conformal, intervals


def _entry(low=0.6):
  rates = {"0.1": 0.3, "0.01": 0.1, "0.001": None}
  return {
    "auc": low + 0.05,
    "auc_ci": [low, low + 0.1],
    "tpr_at_fpr": rates,
    "tpr_at_fpr_ci": {"0.1": [low / 2, 0.9], "0.01": [low / 10, 0.9]},
  }


def _audit(rng, *, num=400, num_attacks=3, shift=0.0, num_calibration=200):
  """Attacks on scores that are normal, members' shifted: report and samples."""
  members = np.arange(num) < num // 2
  names = [f"attack_{k}" for k in range(num_attacks)]
  scores = {name: rng.normal(size=num) + shift * members for name in names}
  rows = {name: rng.normal(size=num_calibration) for name in names}
  p = {name: conformal.p_values(scores[name], rows[name]) for name in names}
  samples = Samples(
    index=np.arange(num),
    members=members,
    labels=np.arange(num) % 4,
    loss=np.ones(num, np.float32),
    scores=scores,
    thresholds={name: np.full(num, np.nan) for name in names},
    p_values=p,
    q_values={name: conformal.q_values(of) for name, of in p.items()},
    correct=np.ones(num, bool),
  )
  report = {
    "target": {"num_members": num // 2, "num_nonmembers": num // 2},
    "attacks": {name: _entry(0.6 + 0.01 * k) for k, name in enumerate(names)},
  }
  return report, samples


def test_figures_of_groups_are_those_of_their_rows():
  report, samples = _audit(np.random.default_rng(0), num=1600, shift=1.0)
  samples = samples._replace(
    groups={"region": np.array(["a", "b"])[samples.labels // 2]}
  )
  found = whom.exposures(report, samples)
  assert found["attack"] == "attack_2"
  assert set(found["by"]) == {"class", "region"}  # nobody is answered wrongly
  assert found["num_figures"] == (4 + 2) * 3 * 3
  rows = {row["group"]: row for row in found["by"]["class"]}
  assert set(rows) == {"0", "1", "2", "3"}
  at = samples.labels == 2
  expected = intervals.auc(
    samples.scores["attack_2"][at],
    samples.members[at],
    confidence=1 - 0.05 / found["num_figures"],
  )
  assert rows["2"]["auc"] == expected.auc
  assert rows["2"]["auc_ci"] == [expected.low, expected.high]
  assert rows["2"]["num_members"] == rows["2"]["num_nonmembers"] == 200
  assert rows["2"]["tpr_at_fpr"]["0.01"] is not None
  lows = [row["auc_ci"][0] for row in found["by"]["class"]]
  assert lows == sorted(lows, reverse=True)


def test_small_groups_are_not_told_of():
  report, samples = _audit(np.random.default_rng(0))
  labels = samples.labels.copy()
  labels[:4] = 7  # four members, no others
  found = whom.exposures(report, samples._replace(labels=labels))
  assert {row["group"] for row in found["by"]["class"]} == {"0", "1", "2", "3"}
  (row, *_) = found["by"]["class"]
  assert row["tpr_at_fpr"]["0.01"] is None  # 50 non-members
  assert row["tpr_at_fpr"]["0.1"] is not None


def test_intervals_of_all_groups_hold_at_once():
  """60 audits without leakage: some interval misses 0.5 in at most 5 % of them.

  That is 6 of 60, at 2.3 standard errors.
  """
  rng = np.random.default_rng(1)
  missed = 0
  for _ in range(60):
    report, samples = _audit(rng, num=160, num_attacks=1)
    rows = whom.exposures(report, samples)["by"]["class"]
    missed += any(not row["auc_ci"][0] <= 0.5 <= row["auc_ci"][1] for row in rows)
  assert missed <= 6


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_share_of_wrong_names_holds_whichever_attack_is_chosen(shift):
  """The rate is kept by the attack that names most, of five, seen afterwards."""
  rng = np.random.default_rng(2)
  wrong = []
  for _ in range(200):
    report, samples = _audit(rng, num=200, num_attacks=5, shift=shift)
    most = max(
      samples.q_values, key=lambda name: (samples.q_values[name] <= 0.02).sum()
    )
    entry = report["attacks"][most]
    entry["tpr_at_fpr_ci"]["0.01"] = [0.5, 0.9]
    found = whom.discoveries(report, samples)
    assert (found["attack"], found["at_q"]) == (most, 0.1 / 5)
    num, true = found["num_found"], found["num_members"]
    assert num == (samples.q_values[most] <= 0.02).sum()
    wrong.append((num - true) / max(num, 1))
  error = np.std(wrong) / np.sqrt(len(wrong))
  assert np.mean(wrong) <= 0.1 + 2.3 * error


def test_without_rows_that_calibrate_nobody_is_named():
  report, samples = _audit(np.random.default_rng(0))
  assert whom.discoveries(report, samples._replace(q_values={})) is None


def test_values_of_groups():
  masks = whom.group_masks(np.array(["b", "a", "b"]))
  assert {name: mask.tolist() for name, mask in masks.items()} == {
    "a": [False, True, False],
    "b": [True, False, True],
  }
  ages = np.arange(100)
  masks = whom.group_masks(ages)
  assert [mask.sum() for mask in masks.values()] == [25, 25, 25, 25]
  assert next(iter(masks)) == "0 to 24.75"
  assert len(whom.group_masks(np.arange(200).astype(str))) == whom.MOST_GROUPS


def test_what_a_dataset_says_of_its_rows():
  report, samples = _audit(np.random.default_rng(0), num=40)
  samples = samples._replace(index=np.arange(40)[::-1])
  x = np.random.default_rng(0).integers(0, 17, (50, 4, 4, 1)).astype(np.uint8)
  dataset = types.Dataset("a", x, np.zeros(50, np.int32), 10, 50, 1 / 16, False, "")
  region = np.arange(50) % 2
  _, told = whom.told(report, samples, dataset, {"region": region})
  np.testing.assert_array_equal(told.groups["region"], region[samples.index])
  assert told.images.dtype == np.uint8
  np.testing.assert_array_equal(
    told.images, np.round(x[samples.index].astype(np.float32) / 16 * 255)
  )
  with pytest.raises(ValueError, match=r"groups\['region'\] has shape \(49,\)"):
    whom.told(report, samples, dataset, {"region": region[1:]})


def _told_of(labels):
  report, samples = _audit(np.random.default_rng(0), num=len(labels))
  samples = samples._replace(
    members=np.arange(len(labels)) % 2 == 0, labels=np.asarray(labels)
  )
  report = {**report, "groups": whom.exposures(report, samples)}
  by = report["groups"]["by"]
  return len(by.get("class", ())), exposure.content(report, samples)["too_small"]


def test_what_is_left_out_of_classes_is_said_with_its_reason():
  assert (exposure.FEWEST_ROWS, exposure.MOST_CLASSES) == (
    whom.MIN_ROWS, whom.MOST_GROUPS,
  )  # fmt: skip
  assert _told_of(np.repeat(np.arange(4), 20)) == (4, "")
  num, said = _told_of(np.repeat(np.arange(100), 20))
  assert num == 60
  assert said.startswith(
    "40 classes have rows enough and are left out too: only the 60"
  )
  num, said = _told_of([*np.repeat(np.arange(3), 20), *np.repeat([3, 4], 4)])
  assert (num, said) == (
    3, "2 classes with fewer than 5 members or non-members are left out."
  )  # fmt: skip
  num, said = _told_of([*np.repeat(7, 20), *np.repeat([3, 4], 4)])
  assert num == 0
  assert said.endswith(
    "7 alone has rows enough, and there is no class to compare it with."
  )
  num, said = _told_of([*np.repeat(np.arange(61), 20), 99, 99])
  assert num == 60
  assert said.startswith("One class with fewer than 5 members or non-members is left")
  assert "1 class has rows enough and is left out too" in said
