"""Audits beside one another: what is said, and whether it holds."""

import json

import numpy as np
import pytest
from scipy import stats

from jmia.audit import compare
from jmia.report import compare_page, plots, wording
from jmia.stats import intervals, levels, over_targets, paired, roc


def _audit(rng, name, shifts, *, num=400, common=None, seed_rows=0, has_tpr=True):
  """An audit of one attack for each shift, members' scores higher by it."""
  members, rho = np.arange(num) < num // 2, 0.7
  common = rng.normal(size=num) if common is None else common
  scores = {
    f"attack_{k}": np.sqrt(rho) * common
    + np.sqrt(1 - rho) * rng.normal(size=num)
    + shift * members
    for k, shift in enumerate(shifts)
  }
  entries = {}
  for attack, score in scores.items():
    auc = intervals.auc(score, members)
    levels = np.array([0.1, 0.01])
    tpr = intervals.Interval(np.zeros(2), np.ones(2))
    if has_tpr:
      tpr = intervals.tpr_at_fpr(score, members, levels)
    entries[attack] = {
      "auc": float(auc.auc),
      "auc_ci": [float(auc.low), float(auc.high)],
      "tpr_at_fpr": {"0.1": float(tpr.low[0]), "0.01": float(tpr.low[1])},
      "tpr_at_fpr_ci": {
        "0.1": [float(tpr.low[0]), float(tpr.high[0])],
        "0.01": [float(tpr.low[1]), float(tpr.high[1])],
      },
    }
  report = {
    "attacks": entries,
    "config": {"seed": 0, "defenses": [name]},
    "target": {
      "train_accuracy": 1.0,
      "test_accuracy": 0.9,
      "num_members": num // 2,
      "num_nonmembers": num - num // 2,
    },
  }
  index = np.arange(num) + seed_rows
  return compare.Audit(name, report, index, members, index % 3, scores, {})


def test_attacks_that_differ_where_the_best_does_not_are_named():
  rng = np.random.default_rng(0)
  common = rng.normal(size=1000)
  a = _audit(rng, "plain", (0.8, 0.8), num=1000, common=common)
  b = _audit(rng, "top_k", (0.8, 0.0), num=1000, common=common)
  (of,) = compare.compare([a, b])["comparisons"]
  assert of["kind"] == "none"
  title = wording.attack("attack_1").title
  assert f"Single attacks do differ ({title}), but" in of["verdict"]
  (same,) = compare.compare([a, a._replace(name="again")])["comparisons"]
  assert "cannot be told" in same["verdict"]
  assert "Single attacks" not in same["verdict"]


def test_less_leakage_is_told():
  rng = np.random.default_rng(0)
  common = rng.normal(size=1000)
  a = _audit(rng, "plain", (1.5, 0.1), num=1000, common=common)
  b = _audit(rng, "l2", (0.1, 0.5), num=1000, common=common)
  found = compare.compare([a, b])
  (of,) = found["comparisons"]
  assert of["kind"] == "less"
  assert of["verdict"].startswith(
    "l2 leaks less than plain: the largest AUC of any attack"
  )
  assert found["same_samples"] == [True]
  assert found["num_figures"] == 1 * 2 * 3 * 3
  # Each difference is the paired one, at the confidence that all need.
  confidence = intervals.each_of(found["num_figures"])
  pair = (a.scores["attack_0"], b.scores["attack_0"], a.members)
  expected = paired.auc(*pair, confidence=confidence)
  shown = of["by_attack"]["attack_0"]["auc"]
  np.testing.assert_allclose(
    [shown["difference"], *shown["ci"]], [float(x) for x in expected]
  )
  strongest = of["strongest"]["auc"]
  assert strongest["a"] == of["by_attack"]["attack_0"]["auc"]["a"]
  assert strongest["b"] == of["by_attack"]["attack_1"]["auc"]["b"]
  (back,) = compare.compare([b, a])["comparisons"]
  assert back["kind"] == "more"
  np.testing.assert_allclose(
    back["strongest"]["auc"]["ci"], [-x for x in reversed(strongest["ci"])]
  )
  json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
  ("shifts_a", "shifts_b"),
  [((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((1.0, 0.9, 0.2), (0.3, 0.95, 1.0))],
)
def test_the_difference_of_the_strongest_is_covered(shifts_a, shifts_b, monkeypatch):
  """Though the strongest is picked on either side: 100 pairs, 5 % and 2.3 errors."""
  monkeypatch.setattr(levels, "COARSE_FPRS", ())  # their bounds take most of the time
  monkeypatch.setattr(compare, "_FIGURES", ("auc",))
  rng = np.random.default_rng(3)
  truth = stats.norm.cdf(max(shifts_b) / np.sqrt(2)) - stats.norm.cdf(
    max(shifts_a) / np.sqrt(2)
  )
  missed = 0
  for _ in range(100):
    common = rng.normal(size=300)
    pair = [
      _audit(rng, name, shifts, num=300, common=common, has_tpr=False)
      for name, shifts in (("a", shifts_a), ("b", shifts_b))
    ]
    (of,) = compare.compare(pair)["comparisons"]
    low, high = of["strongest"]["auc"]["ci"]
    missed += not low <= truth <= high
  assert missed <= 10


def test_other_samples_are_compared_by_their_own_intervals():
  rng = np.random.default_rng(0)
  a, b = _audit(rng, "a", (0.5,)), _audit(rng, "b", (0.4,), seed_rows=50)
  found = compare.compare([a, b])
  assert found["same_samples"] == [False]
  of = found["comparisons"][0]["by_attack"]["attack_0"]["auc"]
  np.testing.assert_allclose(
    of["ci"], [of["b_ci"][0] - of["a_ci"][1], of["b_ci"][1] - of["a_ci"][0]]
  )
  ranks = compare.changes([a, b], "attack_0")
  assert ranks["index"].tolist() == list(range(50, 400))
  at = a.scores["attack_0"]
  assert ranks["rank_a"][0] == 1 + (at > at[50]).sum()
  at = b.scores["attack_0"]
  assert ranks["rank_b"][0] == 1 + (at > at[0]).sum()


def test_means_over_targets():
  rng = np.random.default_rng(0)
  pair = []
  for name, shift in (("a", 1.2), ("b", 0.4)):
    audit = _audit(rng, name, (shift,))
    members = np.tile(audit.members, (6, 1))
    scores = rng.normal(size=members.shape) + shift * members
    audit.report["targets"] = [{}] * 6
    audit.report["attacks"]["attack_0"] |= {
      "auc": np.mean([roc.auc(*of) for of in zip(scores, members, strict=True)]),
      "tpr_at_fpr": {"0.1": 0.2, "0.01": 0.1},
    }
    pair.append(
      audit._replace(target_members=members, target_scores={"attack_0": scores})
    )
  (of,) = compare.compare(pair)["comparisons"]
  assert of["kind"] == "less"
  assert of["accuracy"]["ci"] is None
  expected = over_targets.of_scores(
    pair[0].target_scores["attack_0"],
    pair[0].target_members,
    np.array([0.1, 0.01]),
    confidence=intervals.each_of(9),
  )
  shown = of["by_attack"]["attack_0"]
  np.testing.assert_allclose(shown["auc"]["a_ci"], expected.auc)
  np.testing.assert_allclose(
    shown["0.01"]["a_ci"], [expected.tpr.low[1], expected.tpr.high[1]]
  )
  more = pair[1]
  more.report["attacks"]["other"] = more.report["attacks"]["attack_0"] | {"auc": 0.5}
  others = {**more.target_scores, "other": rng.normal(size=(6, 400))}
  (of,) = compare.compare([pair[0], more._replace(target_scores=others)])["comparisons"]
  (left_out,) = of["left_out"]
  own = over_targets.of_scores(
    others["other"],
    more.target_members,
    np.array([0.1, 0.01]),
    confidence=intervals.each_of(10),
  )
  np.testing.assert_allclose(left_out["ci"], own.auc)
  assert (of["kind"], left_out["may_reach"]) == ("less", False)
  del more.report["attacks"]["other"]
  pair[0].report.pop("targets")
  with pytest.raises(ValueError, match="some audits are of one target"):
    compare.compare(pair)


def _more_attacks(audit, extra):
  """The audit with the attacks of another beside its own, under other names."""
  for name in extra.scores:
    audit.report["attacks"][f"only_{name}"] = extra.report["attacks"][name]
  return audit._replace(
    scores=audit.scores | {f"only_{n}": score for n, score in extra.scores.items()}
  )


@pytest.mark.parametrize("side", [0, 1])
def test_an_attack_that_one_audit_alone_ran_may_reach_higher(side):
  """By the attack in common a leaks more; the other's AUC there is not known."""
  rng = np.random.default_rng(0)
  pair = [_audit(rng, n, (shift,), num=1000) for n, shift in (("a", 0.8), ("b", 0.2))]
  assert compare.compare(pair)["comparisons"][0]["kind"] == "less"
  pair[side] = _more_attacks(pair[side], _audit(rng, "x", (1.0,), num=1000))
  found = compare.compare(pair)
  (of,) = found["comparisons"]
  assert of["kind"] == "none"
  assert of["strongest"]["auc"]["ci"][1] < 0
  assert "cannot be told while attacks are left out: the largest AUC" in of["verdict"]
  assert f"only in {'ab'[side]}), which may find as much or more" in of["verdict"]
  assert found["num_figures"] == 9 + 1  # the bound of that attack's AUC is paid
  confidence = intervals.each_of(10)
  own = intervals.auc(
    pair[side].scores["only_attack_0"], pair[side].members, confidence=confidence
  )
  (left_out,) = of["left_out"]
  np.testing.assert_allclose(left_out["ci"], [own.low, own.high])
  title = wording.attack("only_attack_0").title
  assert f"{title} in {'ab'[side]}" in " ".join(
    compare_page._notes(found, [audit.report for audit in pair])
  )


def test_an_attack_that_is_surely_weaker_leaves_the_verdict():
  rng = np.random.default_rng(0)
  a, b = (_audit(rng, n, (s,), num=1000) for n, s in (("a", 1.5), ("b", 0.2)))
  b = _more_attacks(b, _audit(rng, "x", (0.3,), num=1000))
  (of,) = compare.compare([a, b])["comparisons"]
  assert of["kind"] == "less"
  assert "the largest AUC of the attacks in common is" in of["verdict"]
  assert not of["left_out"][0]["may_reach"]


def test_rows_of_one_name_with_other_labels_are_other_data():
  rng = np.random.default_rng(0)
  a, b = _audit(rng, "a", (0.5,)), _audit(rng, "b", (0.4,))
  other = b._replace(labels=np.where(b.index < 7, b.labels + 1, b.labels))
  # Without a name they are rows of two files: none is taken for the other's.
  found = compare.compare([a, other])
  assert found["same_samples"] == [False]
  assert not len(compare.changes([a, other], "attack_0")["index"])
  for audit in (a, other):
    audit.report["dataset"] = {"name": "npz"}
  with pytest.raises(ValueError, match=r"under one name: 7 rows that a and b both"):
    compare.compare([a, other])


def test_the_level_of_the_accuracies_interval_is_said():
  rng = np.random.default_rng(0)
  pair = [_audit(rng, "a", (0.5,)), _audit(rng, "b", (0.4,))]
  verdict = compare.compare(pair)["comparisons"][0]["verdict"]
  assert verdict.endswith(" points, 95% interval).")


def test_what_cannot_be_compared():
  rng = np.random.default_rng(0)
  a, b = _audit(rng, "a", (0.5,)), _audit(rng, "b", (0.4,))
  with pytest.raises(ValueError, match="1 audits were given"):
    compare.compare([a])
  with pytest.raises(ValueError, match="names=a,a are not all different"):
    compare.compare([a, a])
  a.report["dataset"], b.report["dataset"] = {"name": "digits"}, {"name": "mnist"}
  with pytest.raises(ValueError, match=r"of different datasets: (digits|mnist)"):
    compare.compare([a, b])
  b.report["dataset"] = {"name": "digits"}
  b.report["attacks"]["other"] = b.report["attacks"].pop("attack_0")
  with pytest.raises(ValueError, match="no attack in common"):
    compare.compare([a, b])


def test_folders_that_are_no_audits(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"holds no report\.json"):
    compare.load(tmp_path)
  (tmp_path / "report.json").write_text("{}")
  np.savez(tmp_path / "scores.npz", index=np.arange(3))
  with pytest.raises(ValueError, match="holds no whole audit"):
    compare.load(tmp_path)


def test_the_members_that_moved_most():
  changes = {
    "index": np.array([4, 5, 6, 7]),
    "label": np.array([0, 1, 0, 1]),
    "member_a": np.array([True, True, True, False]),
    "member_b": np.array([True, True, False, False]),
    "rank_a": np.array([1.0, 50.0, 2.0, 3.0]),
    "rank_b": np.array([3.0, 10.0, 90.0, 80.0]),
  }
  assert compare_page.moved("a", "b", changes) == [
    (5, 1, "50", "10", "-40"),
    (4, 0, "1", "3", "+2"),
  ]


def test_ranks_are_drawn_in_the_colours_of_the_page():
  """Of few samples; a raster of many would stay as dark as on the light page."""
  members = np.arange(40) < 20
  changes = {"member_a": members, "member_b": members}
  changes |= {"rank_a": np.arange(40.0), "rank_b": np.arange(40.0)}
  svg = plots.svg(compare_page.ranks_figure("a", "b", changes), "ranks", "Ranks.")
  assert "<image" not in svg
  assert "var(--member)" in svg
  assert "var(--nonmember)" in svg
  many = {name: np.resize(of, 6000) for name, of in changes.items()}
  svg = plots.svg(compare_page.ranks_figure("a", "b", many), "ranks", "Ranks.")
  assert "<image" in svg


def test_a_line_is_spoken_of_where_there_is_one():
  def audit(accuracy, auc):
    return {"test_accuracy": accuracy, "auc": auc}

  assert len(compare_page._front([audit(0.9, 0.8), audit(0.8, 0.6)])) == 2
  assert len(compare_page._front([audit(0.9, 0.6), audit(0.8, 0.8)])) == 1
  assert compare_page._front([audit(None, 0.6)]) == []
