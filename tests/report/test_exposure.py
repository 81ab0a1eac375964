"""The page's part on whom a model exposes, and the file of all samples."""

import csv
import io

import numpy as np
import pytest
import report_example

from jmia.report import exposed_file, exposure, wording


def test_records_are_the_members_with_the_highest_scores():
  report, samples = report_example.report(), report_example.samples()
  rows = exposure.records(report, samples)
  score = np.where(samples.members, samples.scores["reference"], -np.inf)
  order = np.argsort(-score, kind="stable")[: exposure.LIMIT]
  assert [row.sample for row in rows] == samples.index[order].tolist()
  everyone = samples.scores["reference"]
  for row, n in zip(rows, order, strict=True):
    assert samples.members[n]
    assert row.rank == 1 + (everyone > everyone[n]).sum()
    assert row.num_as_high == (everyone[~samples.members] >= everyone[n]).sum()
    both = [samples.p_values[name][n] <= 0.1 for name in report["attacks"]]
    assert row.num_agree == (sum(both), 2)
    assert row.p_value == wording.p_value(samples.p_values["reference"][n])
    assert row.label == str(samples.labels[n])
    assert row.is_named is None  # there are no q-values


def test_records_follow_the_attack_that_is_best_where_accusations_are_few():
  """Though another has the larger AUC."""
  report, samples = report_example.report(), report_example.samples()
  report["attacks"]["population"]["tpr_at_fpr"]["0.01"] = 0.2
  report["attacks"]["population"]["tpr_at_fpr_ci"]["0.01"] = [0.15, 0.3]
  assert wording.strongest(report) == "reference"
  assert wording.sharpest(report) == "population"
  first = exposure.records(report, samples)[0]
  at = np.where(samples.members, samples.scores["population"], -np.inf).argmax()
  assert first.sample == samples.index[at]


def test_ties_count_against_the_member_and_keep_their_order():
  samples = report_example.samples(num=6)
  scores = np.array([3.0, 3.0, 5.0, 1.0, 3.0, 3.0], np.float32)  # members: 0, 2, 4
  p = np.array([0.1, 0.2, 0.0067, 1.0, 0.1, 0.3])
  report = report_example.report()
  tied = samples._replace(
    scores={"population": scores, "reference": scores},
    p_values={"population": p, "reference": p},
    q_values={"population": p, "reference": np.array([0.1, 1, 0.05, 1, 1, 1])},
  )
  report["found"] = {"attack": "reference", "rate": 0.1, "at_q": 0.05}
  report["found"] |= {"num_found": 1, "num_members": 1}
  rows = exposure.records(report, tied, limit=3)
  assert [row.sample for row in rows] == samples.index[[2, 0, 4]].tolist()
  assert [row.rank for row in rows] == [1, 2, 2]
  assert [row.num_as_high for row in rows] == [0, 2, 2]
  assert [row.num_agree for row in rows] == [(2, 2)] * 3  # p = 0.1 is at most 0.1
  assert [row.is_named for row in rows] == [True, False, False]
  (row,) = exposure.records(report, tied._replace(p_values={}, q_values={}), limit=1)
  assert (row.p_value, row.q_value, row.is_named) == ("–", "–", None)


def test_at_most_the_members_there_are():
  samples = report_example.samples(num=6)
  assert len(exposure.records(report_example.report(), samples)) == 3
  assert exposure.records(report_example.report(attacks={}), samples) == []


def test_records_of_an_attack_on_few_samples_are_among_those():
  report, samples = report_example.with_leave_one_out()
  for name in ("population", "reference"):
    for fpr in ("0.1", "0.01"):
      report["attacks"][name]["tpr_at_fpr"][fpr] = None
  rows = exposure.records(report, samples)
  score = samples.scores["leave_one_out"][:20]
  order = np.flatnonzero(samples.members[:20])
  order = order[np.argsort(-score[order])]
  assert [row.sample for row in rows] == samples.index[order].tolist()
  others = score[~samples.members[:20]]
  assert [row.num_as_high for row in rows] == [
    (others >= score[n]).sum() for n in order
  ]


def _group(name, low, high):
  return {"group": name, "auc": (low + high) / 2, "auc_ci": [low, high]}


def test_groups_differ_only_where_intervals_do_not_overlap():
  apart = [_group("8", 0.7, 0.9), _group("3", 0.6, 0.95), _group("1", 0.4, 0.65)]
  text = exposure.comparison("class", apart)
  assert "8 is more exposed (AUC 0.800, 0.700–0.900) than 1 (0.525," in text
  near = [_group("8", 0.6, 0.9), _group("1", 0.4, 0.65)]
  assert exposure.comparison("class", near).startswith("No difference by class")


@pytest.mark.parametrize(("num_of_3", "said"), [(12, True), (4, False)])
def test_a_class_that_crowds_the_top_is_named(num_of_3, said):
  samples = report_example.samples()
  labels = samples.labels.copy()
  order = np.argsort(-np.where(samples.members, samples.scores["reference"], -np.inf))
  labels[order[:num_of_3]] = 3
  labels[order[num_of_3:20]] = np.arange(20 - num_of_3) % 3 + 5
  samples = samples._replace(labels=labels)
  rows = exposure.records(report_example.report(), samples)
  text = exposure.crowd(rows, samples)
  num = (labels[samples.members] == 3).sum()
  if said:
    assert text == (
      f"12 of the 20 most exposed members are of class 3, which {num} of the 400 "
      "members are of."
    )
  else:
    assert "class 3" not in text


def test_the_file_has_every_sample_members_first():
  report, samples = report_example.with_leave_one_out()
  q = samples.p_values["reference"] * 2
  samples = samples._replace(
    q_values={"reference": q},
    correct=samples.loss < 1,
    columns={"file": np.array([f"{n}.png" for n in range(800)])},
    groups={"region": np.arange(800) % 4},
  )
  report["found"] = {"attack": "reference", "rate": 0.1, "at_q": 0.1}
  rows = list(csv.DictReader(io.StringIO(exposed_file.content(report, samples))))
  assert len(rows) == 800
  assert [row["member"] for row in rows] == ["1"] * 400 + ["0"] * 400
  for part in (rows[:400], rows[400:]):
    ranks = [int(row["rank"]) for row in part]
    assert ranks == sorted(ranks)
  where = {index: n for n, index in enumerate(samples.index)}
  scores = samples.scores["reference"]
  for row in rows:
    n = where[int(row["index"])]
    assert int(row["rank"]) == 1 + (scores > scores[n]).sum()
    assert row["class"] == str(samples.labels[n])
    assert row["file"] == f"{n}.png"
    assert row["region"] == str(n % 4)
    assert row["found"] == str(int(q[n] <= 0.1))
    assert row["correct"] == str(int(samples.loss[n] < 1))
    np.testing.assert_allclose(float(row["score"]), scores[n], rtol=1e-5)
    np.testing.assert_allclose(float(row["q_value"]), q[n], rtol=1e-5)
    left_out = np.isnan(samples.scores["leave_one_out"][n])
    assert (row["score_leave_one_out"] == "") == left_out
  exposed = exposure.records(report, samples)
  assert [int(row["index"]) for row in rows[: len(exposed)]] == [
    row.sample for row in exposed
  ]


@pytest.mark.parametrize(
  ("found", "said"),
  [
    ((1, 1), "names 1 record as a member at a false discovery rate of 10%, the"
             " choice among attacks paid (it is one)."),
    ((70, 69), "names 70 records as members at a false discovery rate of 10%, the"
               " choice among attacks paid (1 of these 70 is not)."),
  ],
)  # fmt: skip
def test_how_many_are_named_is_said_of_one_and_of_more(found, said):
  report = report_example.report()
  report["found"] = {"attack": "reference", "rate": 0.1, "at_q": 0.05}
  report["found"] |= dict(zip(("num_found", "num_members"), found, strict=True))
  shown = exposure.content(report, report_example.samples())
  assert said in shown["named"]
  # The table has 50 members at most, and none of the others that are named.
  assert "are marked" not in shown["named"]
