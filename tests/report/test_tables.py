import pytest
import report_example

from jmia.report import tables


def test_text_by_hand():
  lines = tables.text(report_example.report()).split("\n")
  assert lines[:10] == [
    "Audit of mlp trained on purchase_synthetic; 400 members, 400 non-members; "
    "train accuracy 99.3%; test accuracy 61.2%",
    "The data is synthetic: generated, not collected.",
    "",
    "Attack                    AUC  Accuracy  TPR at 10% FPR  TPR at 1% FPR",
    "-" * 70,
    "P · population          0.641     60.6%           21.5%           3.0%",
    "  95% interval  [0.603–0.679]              [17.6–25.9%]     [1.6–5.2%]",
    "R · reference           0.842     76.1%           39.5%           8.8%",
    "  95% interval  [0.821–0.863]              [34.7–44.5%]    [6.2–12.0%]",
    "",
  ]
  assert lines[10:13] == [
    "A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
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
  assert note == "A false positive rate of 0.1% was not measured (P · population)."


def test_a_rate_below_one_nonmember_has_no_column_even_if_given():
  report = report_example.report()
  for num, value in ((999, "8.8%"), (1000, "2.0%")):
    report["target"]["num_nonmembers"] = num
    report["attacks"]["reference"]["tpr_at_fpr"]["0.001"] = 0.02
    report["attacks"]["reference"]["tpr_at_fpr_ci"]["0.001"] = [0.01, 0.03]
    assert tables.results(report)[1].cells[-1].value == value
    assert len(tables.results_header(report)) == (5 if num == 999 else 6)


@pytest.mark.parametrize(
  ("config", "name", "title"),
  [
    ({"model": "mlp"}, "npz:/home/me/data/shop.npz", "mlp trained on shop"),
    ({"model": "mlp"}, "folder:~/images/", "mlp trained on images"),
    ({}, "table:a/b.csv?target=y", "a model trained on b"),
    ({"model": "mlp", "title": "shop model 3"}, "digits", "shop model 3"),
    ({"title": "by hand"}, None, "by hand"),
    (
      {"model": "mlp", "defenses": ["dp_sgd:2", "rounding:1"]}, "digits",
      "mlp trained on digits, defended by dp_sgd:2, rounding:1",
    ),
  ],
)  # fmt: skip
def test_titles_carry_no_path(config, name, title):
  report = report_example.report(config=config)
  report["dataset"] = {"name": name} if name else None
  assert tables.subject(report) == title


def test_an_attack_on_few_samples_has_dashes_for_the_others():
  report, _ = report_example.with_leave_one_out()
  row = tables.results(report)[2]
  assert [cell.value for cell in row.cells] == ["0.860", "80.0%", "40.0%", "–"]
  assert tables.footnotes(report)[:4] == [
    "A false positive rate of 1% takes at least 100 non-members to measure; there "
    "are 10 (L · leave-one-out).",
    "A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
    "there are 400 (P · population, R · reference).",
    "A false positive rate of 0.1% takes at least 1,000 non-members to measure; "
    "there are 10 (L · leave-one-out).",
    "L · leave-one-out attacked 20 of the 800 samples.",
  ]


def test_one_member_is_no_members():
  report = report_example.report()
  report["target"] |= {"num_members": 1, "num_nonmembers": 1}
  assert "; 1 member, 1 non-member; " in tables.summary(report)
