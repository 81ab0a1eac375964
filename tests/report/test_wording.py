import pytest
import report_example

from jmia.report import model_card, page, tables, wording


def _report(*attacks, num=2000, tpr=None):
  """A report of attacks given as (auc, low, high)."""
  names = ("reference", "population", "shadow")
  rates = {"0.1": tpr[0]} if tpr else {}
  intervals = {"0.1": tpr[1]} if tpr else {}
  return {
    "target": {"num_members": num, "num_nonmembers": num},
    "attacks": {
      name: {
        "auc": auc,
        "auc_ci": [low, high],
        "accuracy": 0.5,
        "tpr_at_fpr": rates,
        "tpr_at_fpr_ci": intervals,
      }
      for name, (auc, low, high) in zip(names, attacks, strict=False)
    },
  }


def test_one_attack_that_finds_a_leak():
  verdict = wording.verdict(_report((0.84, 0.82, 0.86)))
  assert verdict.kind == "leak"
  assert verdict.headline == (
    "An attacker with reference models picks the member out of a member/non-member "
    "pair 84.0% of the time (95% interval 82.0–86.0%; 50% is guessing)."
  )
  assert not any("strongest" in sentence for sentence in verdict.details)


def test_the_strongest_of_several_is_called_that():
  verdict = wording.verdict(_report((0.6, 0.58, 0.62), (0.84, 0.82, 0.86)))
  assert verdict.kind == "leak"
  assert verdict.headline.startswith("An attacker with samples of the population")
  assert "the strongest of 2 attacks" in verdict.details[0]
  assert "its interval is 82.0–86.0%" in verdict.details[0]  # as wide as for all
  report = _report((0.6, 0.58, 0.62), (0.84, 0.82, 0.86))
  report["attacks"]["population"]["at_once"] = {"auc_ci": [0.8, 0.88]}
  assert "its interval is 80.0–88.0%" in wording.verdict(report).details[0]


def test_a_leak_is_told_with_its_tpr_at_one_percent():
  verdict = wording.verdict(report_example.report())
  assert verdict.details[-1] == (
    "If it may wrongly accuse 1 in 100 non-members, the best attack there (R · "
    "reference) identifies 8.8% of the members (6.2–12.0% by an interval widened for "
    "the choice)."
  )


def test_a_larger_tpr_that_is_less_sure_is_told_beside_the_best():
  """Else the table contradicts the verdict."""
  report = report_example.report()
  report["attacks"]["population"]["tpr_at_fpr"]["0.01"] = 0.123
  report["attacks"]["population"]["tpr_at_fpr_ci"]["0.01"] = [0.004, 0.3]
  *_, best, other = wording.verdict(report).details
  assert "the best attack there (R · reference) identifies 8.8% of the members" in best
  own = report["attacks"]["reference"]["tpr_at_fpr_ci"]["0.01"]
  assert other == (
    "P · population identifies 12.3%, but less surely: by itself its interval is "
    f"0.4–30.0%, that of the best {wording.percent_interval(own, 0.01)}."
  )


def test_an_interval_around_a_half_is_no_leak_and_no_proof():
  verdict = wording.verdict(_report((0.51, 0.49, 0.53)))
  assert verdict.kind == "none"
  assert "No leakage was detected at this sample size" in verdict.headline
  assert "not proof" in verdict.headline
  assert "51.0% of the time (95% interval 49.0–53.0%" in verdict.details[0]


def test_picking_among_all_figures_is_paid_for():
  alone = _report((0.521, 0.501, 0.541))
  assert wording.verdict(alone).kind == "leak"
  alone["attacks"]["reference"]["at_once"] = {
    "auc_ci": [0.495, 0.55], "tpr_at_fpr_ci": {},
  }  # fmt: skip
  verdict = wording.verdict(alone)
  assert verdict.kind == "none"
  assert "reaches 50% once it is widened" in verdict.details[-1]


def test_a_few_exposed_records_are_not_called_no_leak():
  def verdict(low):
    report = _report((0.51, 0.49, 0.53), tpr=(0.13, [0.12, 0.146]))
    report["attacks"]["reference"]["at_once"] = {
      "auc_ci": [0.48, 0.54], "tpr_at_fpr_ci": {"0.1": [low, 0.16]},
    }  # fmt: skip
    return wording.verdict(report)

  above, within = verdict(0.101), verdict(0.1)
  assert above.kind == "hint"
  assert "identifies 13.0% of the members (10.1–16.0% by" in above.details[-1]
  assert within.kind == "none"


def test_worse_than_guessing_points_at_the_input():
  verdict = wording.verdict(_report((0.3, 0.28, 0.32)))
  assert verdict.kind == "none"
  assert "members and non-members exchanged" in verdict.details[-1]


def test_no_attack_at_all():
  verdict = wording.verdict(_report())
  assert verdict.kind == "none"
  assert "nothing was measured" in verdict.headline
  assert wording.strongest(_report()) is None


def test_the_strongest_is_the_one_that_is_surely_strong():
  # 0.75 from 20 samples has an interval down to a half; 0.70 from 2,000 does not.
  report = _report((0.75, 0.5, 0.9), (0.7, 0.68, 0.72))
  assert wording.strongest(report) == "population"
  verdict = wording.verdict(report)
  assert verdict.kind == "leak"
  assert "picks the member out of a member/non-member pair 70.0%" in verdict.headline
  assert (
    "R · reference is right 75.0% of the time, but its interval, 50.0–90.0%, reaches "
    "lower."
  ) in verdict.details


def test_of_equally_sure_attacks_the_larger_auc_is_the_strongest():
  report = _report((0.7, 0.6, 0.8), (0.75, 0.6, 0.9), (0.75, 0.6, 0.85))
  assert wording.strongest(report) == "population"


def test_a_verdict_from_few_samples_says_so():
  report = _report((0.9, 0.8, 0.96))
  assert not any("It was run on" in text for text in wording.verdict(report).details)
  report["attacks"]["reference"] |= {"num_samples": 60, "num_nonmembers": 30}
  assert "It was run on 60 of the 4,000 samples." in wording.verdict(report).details


def test_rates_are_judged_by_the_nonmembers_that_were_attacked():
  report = _report((0.51, 0.4, 0.6), tpr=(0.25, [0.2, 0.3]))
  assert wording.verdict(report).kind == "hint"
  report["attacks"]["reference"] |= {"num_samples": 40, "num_nonmembers": 9}
  assert wording.tpr(report, "reference", "0.1") is None
  assert wording.verdict(report).kind == "none"


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (0.0, "0.0%"),
    (0.0004, "<0.1%"),
    (0.0005, "0.1%"),
    (0.8423, "84.2%"),
    (0.9996, ">99.9%"),
    (1.0, "100.0%"),
  ],
)
def test_percent_never_rounds_to_certainty(value, text):
  assert wording.percent(value) == text


@pytest.mark.parametrize(
  ("p", "text"),
  [
    (1.0, "1.000"),
    (0.25, "0.250"),
    (0.001, "0.001"),
    (3.2e-4, "0.0003"),
    (3.2e-5, "<0.0001"),
  ],
)
def test_p_values_without_exponents(p, text):
  assert wording.p_value(p) == text


def test_what_is_found_at_a_false_discovery_rate_is_said():
  report = report_example.report()
  assert wording.discoveries(report, "population") == ""
  entry = report["attacks"]["reference"]
  entry["found_at_fdr"] = {"0.1": {"num_found": 0, "num_members": 0}}
  assert "finds no single record" in wording.discoveries(report, "reference")
  entry["found_at_fdr"] = {"0.1": {"num_found": 1234, "num_members": 1230}}
  assert wording.discoveries(report, "reference") == (
    "R · reference finds 1,234 records to be members at a false discovery rate of 10%:"
    " of records found so, at most one in 10 is expected not to be one (4 of these"
    " 1,234 are not)."
  )


@pytest.mark.parametrize(
  ("counts", "text"),
  [
    ((1, 1), "finds 1 record to be a member at a false discovery rate of 10%: of"
     " records found so, at most one in 10 is expected not to be one (it is one)."),
    ((1, 0), "expected not to be one (it is not one)."),
    ((20, 19), "(1 of these 20 is not)."),
    ((20, 20), "(0 of these 20 are not)."),
  ],
)  # fmt: skip
def test_one_record_is_no_records(counts, text):
  report = report_example.report()
  found = dict(zip(("num_found", "num_members"), counts, strict=True))
  report["attacks"]["reference"]["found_at_fdr"] = {"0.1": found}
  assert wording.discoveries(report, "reference").endswith(text)


@pytest.mark.parametrize(
  ("num_called", "text"),
  [(104, "up to chance"), (150, "accuses more"), (60, "accuses fewer")],
)
def test_calibration_of_the_threshold(num_called, text):
  assert text in wording.calibration(num_called, 1000)


def test_the_best_attack_is_named_at_each_rate():
  """As on Location-30: the largest AUC, 21.9 %, and another's 34.5 % at 1 % FPR."""
  report = report_example.report()
  report["attacks"]["reference"] |= {"auc": 0.7, "auc_ci": [0.68, 0.72]}
  report["attacks"]["population"] |= {"auc": 0.9, "auc_ci": [0.88, 0.92]}
  report["attacks"]["reference"]["at_once"] = {
    "auc_ci": [0.66, 0.74],
    "tpr_at_fpr_ci": {"0.1": [0.3, 0.5], "0.01": [0.05, 0.15], "0.001": [0, 1]},
  }
  verdict = wording.verdict(report)
  assert "with samples of the population" in verdict.headline
  assert wording.best_at(report, "0.01") == "reference"
  assert (
    "the best attack there (R · reference) identifies 8.8% of the members (5.0–15.0% by"
  ) in verdict.details[-1]
  report["found"] = {
    "rate": 0.1, "attack": "reference", "at_q": 0.05, "num_found": 12,
    "num_members": 11,
  }  # fmt: skip
  (*_, last) = wording.verdict(report).details
  assert last.startswith("12 records can be named as members (R · reference)")
  report["found"]["num_found"] = 1
  (*_, last) = wording.verdict(report).details
  assert last.startswith("1 record can be named as a member (R · reference)")
  report["found"]["num_found"] = 0
  assert "can be named" not in " ".join(wording.verdict(report).details)


@pytest.mark.parametrize(
  ("bounds", "text"),
  [
    ((0.821, 0.863), "82.1–86.3%"),
    ((0.0, 1.0), "0.0–100.0%"),
    ((0.0004, 0.9997), "0.04–99.97%"),
    ((0.50004, 0.53), "50.004–53.0%"),
    ((0.41, 0.49996), "41.0–49.996%"),
    ((0.5, 0.5), "50.0–50.0%"),
    ((1e-12, 1 - 1e-12), ">0.0–<100.0%"),
    ((0.5 + 1e-12, 0.6), ">50.0–60.0%"),
  ],
)
def test_a_bound_stays_on_its_side_of_what_decides(bounds, text):
  assert wording.percent_interval(bounds) == text


def test_bounds_of_other_figures_stay_on_their_side_too():
  assert wording.percent_interval((0.01004, 0.02)) == "1.0–2.0%"
  assert wording.percent_interval((0.01004, 0.02), 0.01) == "1.004–2.0%"
  assert wording.auc_interval((0.50004, 0.99996)) == "0.50004–0.99996"
  assert wording.auc_interval((0.5, 1.0)) == "0.500–1.000"
  assert wording.difference_interval((-0.0001, 0.02)) == "-0.0001 to +0.020"


def test_a_leak_by_a_hair_is_told_alike_everywhere():
  report = report_example.report()
  report["attacks"] = {"reference": dict(report["attacks"]["reference"])}
  report["attacks"]["reference"] |= {"auc": 0.515, "auc_ci": [0.50004, 0.53]}
  verdict = wording.verdict(report)
  assert verdict.kind == "leak"
  assert "50.004–53.0%" in verdict.headline
  assert "50.004–53.0%" in model_card.content(report)
  assert "0.50004–0.530" in model_card.content(report)
  assert "0.50004–0.530" in tables.text(report)
  assert "0.50004–0.530" in page.render(report, report_example.samples())


def _uneven():
  """A report of two targets with 301 and 517 members, 99 and 683 non-members."""
  report = report_example.report()
  sizes = [(301, 99), (517, 683)]
  report["targets"] = [
    {**report["target"], "num_members": m, "num_nonmembers": n} for m, n in sizes
  ]
  report["target"] = report["targets"][0]
  entry = report["attacks"]["reference"]
  summaries = [{**entry, "num_samples": m + n, "num_nonmembers": n} for m, n in sizes]
  report["attacks"] = {"reference": {**summaries[0], "by_target": summaries}}
  return report


def test_sizes_of_targets_that_differ_are_a_range():
  report = _uneven()
  assert wording.size(report, "num_members") == "301 to 517"
  assert wording.coverage(report, "reference") == ""
  assert wording.tpr(report, "reference", "0.01") is None
  said = "301 to 517 members, 99 to 683 non-members"
  assert said in tables.summary(report)
  assert said.replace(",", " and") in model_card.content(report)
  shown = page.render(report, report_example.samples())
  assert "301 to 517" in shown
  assert "99 to 683" in shown
  report["attacks"]["reference"]["by_target"][1]["num_samples"] = 20
  said = "20 to 400 of the 400 to 1,200 samples"
  assert wording.coverage(report, "reference") == said
  report = report_example.report()
  assert wording.size(report, "num_members") == "400"


@pytest.mark.parametrize(
  ("seconds", "text"),
  [(0.2, "1 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (7380, "2 h 3 min")],
)
def test_durations(seconds, text):
  assert wording.duration(seconds) == text
