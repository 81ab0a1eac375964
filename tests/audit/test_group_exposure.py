"""Whom an audit exposes: groups of records, and how many can be named."""

import json

import numpy as np
import pytest

from jmia import datasets, types
from jmia.audit import auditing, group_exposure, signals_file
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
  found = group_exposure.exposures(report, samples)
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
  found = group_exposure.exposures(report, samples._replace(labels=labels))
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
    rows = group_exposure.exposures(report, samples)["by"]["class"]
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
    found = group_exposure.discoveries(report, samples)
    assert (found["attack"], found["at_q"]) == (most, 0.1 / 5)
    num, true = found["num_found"], found["num_members"]
    assert num == (samples.q_values[most] <= 0.02).sum()
    wrong.append((num - true) / max(num, 1))
  error = np.std(wrong) / np.sqrt(len(wrong))
  assert np.mean(wrong) <= 0.1 + 2.3 * error


def test_without_rows_that_calibrate_nobody_is_named():
  report, samples = _audit(np.random.default_rng(0))
  assert group_exposure.discoveries(report, samples._replace(q_values={})) is None


def test_values_of_groups():
  masks = group_exposure.group_masks(np.array(["b", "a", "b"]))
  assert {name: mask.tolist() for name, mask in masks.items()} == {
    "a": [False, True, False],
    "b": [True, False, True],
  }
  ages = np.arange(100)
  masks = group_exposure.group_masks(ages)
  assert [mask.sum() for mask in masks.values()] == [25, 25, 25, 25]
  assert next(iter(masks)) == "0 to 24"
  assert (
    len(group_exposure.group_masks(np.arange(200).astype(str)))
    == group_exposure.MOST_GROUPS
  )


_RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
  "values",
  [
    1_700_000_000 + _RNG.integers(0, 86_400 * 3, 1_000),
    1_700_000_000.0 + _RNG.integers(0, 86_400 * 3, 1_000),
    10**18 + _RNG.integers(0, 60, 1_000),  # more than a float64 tells apart
    100_000 + _RNG.integers(0, 60, 1_000),
    100_000 + _RNG.random(1_000),
    _RNG.normal(size=1_000).astype(np.float32),
    1 + 1e-15 * _RNG.integers(0, 60, 1_000),
    -(10.0 ** _RNG.uniform(-9, 9, 1_000)),
    np.where(_RNG.random(1_000) < 0.9, 0, _RNG.integers(1, 100, 1_000)),
    np.where(_RNG.random(1_000) < 0.9, 0.1, -_RNG.random(1_000)),
    np.where(_RNG.random(1_000) < 0.4, 0.123456789, _RNG.random(1_000)),
    np.where(_RNG.random(1_000) < 0.3, np.inf, _RNG.random(1_000)),
  ],
)
def test_every_row_is_in_one_group_of_numbers_whose_name_holds_it(values):
  masks = group_exposure.group_masks(values)
  assert len(masks) in (2, 3, 4)
  np.testing.assert_array_equal(np.sum([*masks.values()], axis=0), 1)
  ends = []
  for name, mask in masks.items():
    low, _, high = name.partition(" to ")
    number = int if values.dtype.kind == "i" else float
    low, high = number(low), number(high or low)
    ends += [low, high]
    at = [number(str(value)) for value in values[mask]]
    assert low <= min(at) <= max(at) <= high
    room = 0 if number is int else 1e-3 * max(abs(low), abs(high))
    if np.isfinite(high):
      assert min(at) - low <= room
      assert high - max(at) <= room
  assert ends == sorted(ends)
  assert len({*ends[1:-1:2]} & {*ends[2::2]}) == 0


def test_rows_without_a_value_are_a_group():
  for values in (np.arange(100.0), np.arange(100.0) % 3):
    values[::4] = np.nan
    masks = group_exposure.group_masks(values)
    np.testing.assert_array_equal(masks["no value"], np.isnan(values))
    np.testing.assert_array_equal(np.sum([*masks.values()], axis=0), 1)


def test_a_grouping_that_is_not_told_of_is_named():
  report, samples = _audit(np.random.default_rng(0))
  rare = np.arange(400) % 4
  rare[:3] = 9
  groups = {
    "one": np.ones(400),
    "names": [f"n{i}" for i in range(400)],
    "rare": rare,
    "half": np.arange(400) % 2,
    "time": 1_700_000_000 + np.arange(400) * 7 % 400,
  }
  told, _ = group_exposure.with_exposure(report, samples, groups=groups)
  assert set(told["groups"]["by"]) == {"class", "rare", "half", "time"}
  rows = told["groups"]["by"]["time"]
  assert sum(row["num_members"] + row["num_nonmembers"] for row in rows) == 400
  assert told["notes"] == [
    "Groups by one are not told of: all samples have one value, 1.0.",
    "Of the values of names the 60 most frequent are told of; 340 of 400 samples have "
    "another.",
    "Groups by names are not told of: fewer than 2 of 60 have 5 members and 5 "
    "non-members.",
    "1 of 5 groups by rare are left out: they have fewer than 5 members or "
    "non-members.",
  ]
  told, _ = group_exposure.with_exposure(
    {**report, "attacks": {}}, samples, groups={"half": rare}
  )
  assert told["notes"] == ["Groups by half are not told of: no attack ran."]


def test_classes_beyond_the_most_frequent_are_named():
  report, samples = _audit(np.random.default_rng(0), num=1_600)
  samples = samples._replace(labels=np.arange(1_600) % 80)
  told, samples = group_exposure.with_exposure(report, samples)
  assert len(told["groups"]["by"]["class"]) == 60
  assert told["notes"] == [
    "Of the values of class the 60 most frequent are told of; 400 of 1,600 samples "
    "have another."
  ]
  said = exposure.content(told, samples)["left_out"]
  assert said.startswith("20 classes have rows enough and are left out too")


def test_columns_have_the_rows_that_the_index_counts():
  report, samples = _audit(np.random.default_rng(0), num=40)
  samples = samples._replace(index=np.arange(40) + 10)
  group_exposure.with_exposure(
    report, samples, groups={"g": np.arange(50) % 2}, num_rows=50
  )
  group_exposure.with_exposure(report, samples, groups={"g": np.arange(60) % 2})
  for groups, num_rows, message in (
    ({"g": np.arange(60)}, 50, r"groups\['g'\] has shape \(60,\), expected \(50\)"),
    ({"g": np.arange(49)}, None, "has 49 rows, but the audited rows go up to 49"),
    ({"g": np.arange(50)}, 70, r"has shape \(50,\), expected \(70\)"),
    ({"g": np.ones((50, 2))}, None, r"has shape \(50, 2\), expected \(any\)"),
    ({"g": np.ones(50), "h": np.ones(51)}, None, "groups have different numbers of"),
  ):
    with pytest.raises(ValueError, match=message):
      group_exposure.with_exposure(report, samples, groups=groups, num_rows=num_rows)


def test_groups_of_evidence_have_its_rows():
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 2
  evidence = signals_file.from_arrays({
    "target_logits": rng.normal(size=(200, 2)), "labels": labels,
    "members": np.arange(200) < 100,
    "population_logits": rng.normal(size=(120, 2)),  # rows that calibrate
    "population_labels": np.arange(120) % 2,
  })  # fmt: skip
  x = rng.normal(size=(200, 3))

  def audit(num, **options):
    groups = {"g": np.arange(num) // 2 % 2}
    return auditing.from_evidence(evidence, ["metric_loss"], groups=groups, **options)

  for result in (audit(200, x=x), audit(200), audit(240)):
    assert {row["group"] for row in result.report["groups"]["by"]["g"]} == {"0", "1"}
  with pytest.raises(ValueError, match=r"g'\] has shape \(240,\), expected \(200\)"):
    audit(240, x=x)
  with pytest.raises(ValueError, match="has 199 rows, but the audited rows go up to"):
    audit(199)
  with pytest.raises(ValueError, match="x has 199 rows, but the audited rows go up to"):
    audit(199, x=x[1:])


def test_groups_of_another_length_are_refused_before_training(monkeypatch):
  monkeypatch.setattr(auditing.training_lib, "train", None)
  dataset = datasets.load("digits")
  for kind in ("groups", "columns"):
    with pytest.raises(ValueError, match=kind + r"\['g'\] has shape \(5,\), expected"):
      auditing.run(dataset, **{kind: {"g": np.ones(5)}})


def test_what_a_dataset_says_of_its_rows():
  report, samples = _audit(np.random.default_rng(0), num=40)
  samples = samples._replace(index=np.arange(40)[::-1])
  x = np.random.default_rng(0).integers(0, 17, (50, 4, 4, 1)).astype(np.uint8)
  dataset = types.Dataset("a", x, np.zeros(50, np.int32), 10, 50, 1 / 16, False, "")
  region = np.arange(50) % 2
  _, told = group_exposure.with_exposure(report, samples, dataset, {"region": region})
  np.testing.assert_array_equal(told.groups["region"], region[samples.index])
  assert told.images.dtype == np.uint8
  np.testing.assert_array_equal(
    told.images, np.round(x[samples.index].astype(np.float32) / 16 * 255)
  )
  with pytest.raises(ValueError, match=r"groups\['region'\] has shape \(49,\)"):
    group_exposure.with_exposure(report, samples, dataset, {"region": region[1:]})


def _told_of(labels):
  report, samples = _audit(np.random.default_rng(0), num=len(labels))
  samples = samples._replace(
    members=np.arange(len(labels)) % 2 == 0, labels=np.asarray(labels)
  )
  report = {**report, "groups": group_exposure.exposures(report, samples)}
  by = report["groups"]["by"]
  return len(by.get("class", ())), exposure.content(report, samples)["left_out"]


def test_what_is_left_out_of_classes_is_said_with_its_reason():
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


def test_what_is_left_out_is_counted_in_the_report():
  report, samples = _audit(np.random.default_rng(0), num=100)
  labels = np.array([*np.repeat(np.arange(4), 20), *np.repeat([7, 8], 4), *[9] * 12])
  samples = samples._replace(members=np.arange(100) % 2 == 0, labels=labels)
  groups = group_exposure.exposures(report, samples)
  left_out = json.loads(json.dumps(groups))["left_out"]["class"]
  assert left_out == {
    "min_rows": 5, "most_groups": 60, "num_small": 2, "num_rare": 0, "alone": None
  }  # fmt: skip
  # A report of before that was counted has its page still.
  del groups["left_out"]
  content = exposure.content({**report, "groups": groups}, samples)
  assert content["left_out"] == ""
  assert [group["name"] for group in content["groups"]] == ["class"]


def test_a_group_of_empty_cells_has_a_name():
  masks = group_exposure.group_masks(np.array(["m", "f", "", "m", " ", "f", "m"]))
  assert {name: int(mask.sum()) for name, mask in masks.items()} == {
    "f": 2, "m": 3, "no value": 2,
  }  # fmt: skip
