
import pytest
import report_example
from scipy import special, stats

from jmia.report import wording


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
  # By hand on the logit scale, 1.6582 and its bounds stretched by 2.2414 / 1.9600.
  assert "81.7–86.3%" in verdict.details[0]


def test_a_leak_is_told_with_its_tpr_at_one_percent():
  verdict = wording.verdict(report_example.report())
  assert verdict.details[-1] == (
    "If it may wrongly accuse 1 in 100 non-members, it identifies 8.8% of the members "
    "(95% interval 6.2–12.0%)."
  )


def test_an_interval_around_a_half_is_no_leak_and_no_proof():
  verdict = wording.verdict(_report((0.51, 0.49, 0.53)))
  assert verdict.kind == "none"
  assert "No leakage was detected at this sample size" in verdict.headline
  assert "not proof" in verdict.headline
  assert "51.0% of the time (95% interval 49.0–53.0%" in verdict.details[0]


def test_picking_the_best_of_three_is_paid_for():
  # Alone 0.501 > 0.5; times 2.3940 / 1.9600 the lower half reaches below 0.5.
  alone = wording.verdict(_report((0.521, 0.501, 0.541)))
  chosen = wording.verdict(_report((0.521, 0.501, 0.541), *[(0.5, 0.48, 0.52)] * 2))
  assert alone.kind == "leak"
  assert chosen.kind == "hint"
  assert "hint" in chosen.headline


def test_a_few_exposed_records_are_not_called_no_leak():
  # 200 of 2,000 accusations: exact interval up to 0.1140. A TPR surely above is a hint.
  above = wording.verdict(_report((0.51, 0.49, 0.53), tpr=(0.13, [0.115, 0.146])))
  within = wording.verdict(_report((0.51, 0.49, 0.53), tpr=(0.12, [0.106, 0.135])))
  assert above.kind == "hint"
  assert "identifies 13.0% of the members" in above.details[-1]
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
  # Of 20 non-members 2 may be accused: up to 0.3170. Of all 2,000 200: up to 0.1140.
  report = _report((0.51, 0.4, 0.6), tpr=(0.25, [0.2, 0.3]))
  assert wording.verdict(report).kind == "hint"
  report["attacks"]["reference"] |= {"num_samples": 40, "num_nonmembers": 20}
  assert wording.verdict(report).kind == "none"
  assert wording.tpr(report, "reference", "0.1") is not None
  report["attacks"]["reference"] |= {"num_nonmembers": 9}
  assert wording.tpr(report, "reference", "0.1") is None


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
  [(1.0, "1.000"), (0.25, "0.250"), (0.001, "0.001"), (3.2e-5, "3.2e-05")],
)
def test_p_value_to_two_digits(p, text):
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


def test_widened_interval_is_that_of_the_higher_confidence():
  """Of a Wald interval on the logit scale at 95%, at 99% (Bonferroni for five)."""
  centre, error = special.logit(0.7), 0.2
  bounds = [
    special.expit(centre + stats.norm.ppf([(1 - c) / 2, (1 + c) / 2]) * error)
    for c in (0.95, 0.99)
  ]
  assert wording.widened(0.7, bounds[0], 5) == pytest.approx(bounds[1])
  assert wording.widened(0.7, bounds[0], 1) == pytest.approx(bounds[0])


def test_widened_interval_of_perfect_separation_is_exact():
  low, lower = (
    stats.binomtest(30, 30).proportion_ci(confidence_level=c, method="exact").low
    for c in (0.95, 0.99)
  )
  assert wording.widened(1.0, [low, 1.0], 5) == pytest.approx((lower, 1.0))


def test_widening_keeps_to_what_an_auc_can_be():
  low, high = wording.widened(0.99, [0.9, 0.999], 5)
  assert 0.5 < low < 0.9
  assert 0.999 < high < 1


@pytest.mark.parametrize(
  ("num_called", "text"),
  [(104, "up to chance"), (150, "accuses more"), (60, "accuses fewer")],
)
def test_calibration_of_the_threshold(num_called, text):
  assert text in wording.calibration(num_called, 1000)
