import numpy as np
import report_example

from jmia.report import tables


def test_text_by_hand():
  lines = tables.text(report_example.report()).split("\n")
  assert lines[:10] == [
    "Audit of mlp trained on purchase_synthetic; 400 members, 400 non-members; "
    "train accuracy 99.3%; test accuracy 61.2%",
    "The data is synthetic: generated, not collected.",
    "",
    "Attack                    AUC  Accuracy  TPR at 10% FPR  TPR at 1% FPR"
    "  TPR at 0.1% FPR",
    "-" * 87,
    "P · population          0.641     60.6%           21.5%           3.0%"
    "                –",
    "  95% interval  [0.603–0.679]              [17.6–25.9%]     [1.6–5.2%]",
    "R · reference           0.842     76.1%           39.5%           8.8%"
    "                –",
    "  95% interval  [0.821–0.863]              [34.7–44.5%]    [6.2–12.0%]",
    "",
  ]
  assert lines[10:13] == [
    "– A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
    "there are 400.",
    "Not run: D · distillation. The file has no array distilled_logits.",
    "Model 3 diverged at epoch 7 and was left out.",
  ]
  assert lines[14].startswith("An attacker with reference models picks")


def test_text_of_the_least_report():
  """A report from a file of signals: no dataset, nothing missing, no attack either."""
  text = tables.text(
    {
      "target": {"num_members": 5, "num_nonmembers": 1200, "train_accuracy": None},
      "attacks": {},
    }
  )
  assert text == (
    "Audit of a model known by its outputs alone; 5 members, 1,200 non-members\n\n"
    "No attack could be run, so nothing was measured."
  )


def test_a_level_that_one_attack_lacks_names_it():
  report = report_example.report()
  report["target"]["num_nonmembers"] = 5000
  report["attacks"]["reference"]["tpr_at_fpr"]["0.001"] = 0.02
  report["attacks"]["reference"]["tpr_at_fpr_ci"]["0.001"] = [0.01, 0.03]
  (note,) = [n for n in tables.footnotes(report) if "0.1%" in n]
  assert note == "– A false positive rate of 0.1% was not measured (P · population)."


def test_a_rate_below_one_nonmember_is_a_dash_even_if_given():
  report = report_example.report()
  for num, value in ((999, "–"), (1000, "2.0%")):
    report["target"]["num_nonmembers"] = num
    report["attacks"]["reference"]["tpr_at_fpr"]["0.001"] = 0.02
    report["attacks"]["reference"]["tpr_at_fpr_ci"]["0.001"] = [0.01, 0.03]
    assert tables.results(report)[1].cells[-1].value == value


def test_exposed_rows_are_the_members_with_the_highest_scores():
  report, samples = report_example.report(), report_example.samples()
  rows = tables.exposed(report, samples)
  score = np.where(samples.members, samples.scores["reference"], -np.inf)
  order = np.argsort(-score, kind="stable")[:20]
  assert [row.sample for row in rows] == samples.index[order].tolist()
  for row, n in zip(rows, order, strict=True):
    assert samples.members[n]
    others = samples.scores["reference"][~samples.members]
    assert row.num_as_high == (others >= samples.scores["reference"][n]).sum()
    assert row.called == tuple(
      bool(samples.p_values[name][n] <= 0.1) for name in report["attacks"]
    )
    assert row.loss == samples.loss[n]
    assert row.label == samples.labels[n]


def test_exposed_counts_ties_against_the_member_and_keeps_their_order():
  samples = report_example.samples(num=6)
  scores = np.array([3.0, 3.0, 5.0, 1.0, 3.0, 3.0], np.float32)  # members: 0, 2, 4
  p = np.array([0.1, 0.2, 0.0067, 1.0, 0.1, 0.3])
  tied = samples._replace(
    scores={"population": scores, "reference": scores},
    p_values={"population": p, "reference": p},
  )
  rows = tables.exposed(report_example.report(), tied, limit=3)
  assert [row.sample for row in rows] == samples.index[[2, 0, 4]].tolist()
  assert [row.num_as_high for row in rows] == [0, 2, 2]
  assert rows[0].p_values == ("0.007", "0.007")
  assert rows[0].called == rows[1].called == (True, True)
  without = tied._replace(p_values={})
  rows = tables.exposed(report_example.report(), without, limit=1)
  assert (rows[0].p_values, rows[0].called) == (("–", "–"), (None, None))


def test_exposed_has_at_most_the_members_there_are():
  samples = report_example.samples(num=6)
  assert len(tables.exposed(report_example.report(), samples)) == 3
  assert tables.exposed(report_example.report(attacks={}), samples) == []


def test_an_attack_on_few_samples_has_dashes_for_the_others():
  report, samples = report_example.with_leave_one_out()
  row = tables.results(report)[2]
  assert [cell.value for cell in row.cells] == ["0.860", "80.0%", "40.0%", "–", "–"]
  assert tables.footnotes(report)[:4] == [
    "– A false positive rate of 1% takes at least 100 non-members to measure; there "
    "are 10 (L · leave-one-out).",
    "– A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
    "there are 400 (P · population, R · reference).",
    "– A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
    "there are 10 (L · leave-one-out).",
    "L · leave-one-out attacked 20 of the 800 samples.",
  ]
  rows = tables.exposed(report, samples, limit=400)
  assert len(rows) == 400  # by the strongest attack, which was run on all
  few = [row for row in rows if row.sample in samples.index[:20]]
  assert len(few) == 10
  for row in rows:
    p_value, called = row.p_values[2], row.called[2]
    attacked = row in few
    assert p_value == (row.p_values[1] if attacked else "–")
    assert called is (row.called[1] if attacked else None)


def test_exposed_by_an_attack_on_few_samples_are_among_those():
  report, samples = report_example.with_leave_one_out()
  report["attacks"]["leave_one_out"]["auc_ci"] = [0.9, 0.99]
  rows = tables.exposed(report, samples)
  score = samples.scores["leave_one_out"][:20]
  order = np.flatnonzero(samples.members[:20])
  order = order[np.argsort(-score[order])]
  assert [row.sample for row in rows] == samples.index[order].tolist()
  others = score[~samples.members[:20]]
  assert [row.num_as_high for row in rows] == [
    (others >= score[n]).sum() for n in order
  ]
