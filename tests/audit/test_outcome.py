import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from jmia.attacks import distillation, population, reference, registry, shadow
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import Evidence, Group
from jmia.audit import auditing
from jmia.audit import outcome as outcome_lib
from jmia.stats import intervals, levels

CALIBRATED = ("population", "shadow", "reference", "distillation", "leave_one_out")

N, P, R, C = 2000, 2000, 32, 4


def _evidence(leak=0.0, seed=0, num=N):
  """Losses `exp(hardness + noise)`; the target's on members lie `leak` decibans lower.

  Without a leak a member, a non-member and every null loss are exchangeable.
  """
  rng = np.random.default_rng(seed)
  hardness, population_hardness = rng.normal(-1, 1.5, num), rng.normal(-1, 1.5, P)
  members = rng.random(num) < 0.5
  losses = lambda mean, *lead: np.exp(  # noqa: E731
    mean + rng.normal(size=(*lead, len(mean)))
  ).astype(np.float32)
  attacked = np.sort(rng.permutation(num)[: num // 2])
  left_out = np.isin(np.arange(num), attacked)
  return Evidence(
    index=np.arange(num),
    labels=rng.integers(0, C, num).astype(np.int32),
    members=members,
    num_classes=C,
    signals={"loss": losses(hardness - leak * members)},
    population_labels=rng.integers(0, C, P).astype(np.int32),
    population={"loss": losses(population_hardness)},
    groups={
      "reference": _group(
        losses(hardness, R),
        population={"loss": losses(population_hardness, R)},
        population_held=np.zeros((R, P), bool),
        population_out=np.ones((R, P), bool),
        population_labels=rng.integers(0, C, P).astype(np.int32),
      ),
      "distilled": _group(losses(hardness, R)),
      "left_out": _group(losses(hardness, R), out=np.tile(left_out, (R, 1))),
    },
  )


def _group(losses, **fields):
  """A group of models that held no sample."""
  none = np.zeros(losses.shape, bool)
  whole = {"held": none, "out": ~none, "signals": {"loss": losses}}
  return Group(**{**evidence_lib.no_population(len(losses)), **whole, **fields})


def _with(evidence, name, **fields):
  """The evidence with a group changed."""
  group = evidence.groups[name]._replace(**fields)
  return evidence._replace(groups={**evidence.groups, name: group})


def _without(evidence, name):
  groups = {key: group for key, group in evidence.groups.items() if key != name}
  return evidence._replace(groups=groups)


NULL, LEAK = _evidence(), _evidence(leak=1.5)
# How many null losses a sample's threshold comes from.
_NUM_NULL = {"population": P, "shadow": R * P // C}


@pytest.mark.parametrize("attack", CALIBRATED)
def test_without_a_leak_every_attack_keeps_its_level(attack):
  outcome = outcome_lib.evaluate(NULL, attack)
  low, high = outcome.summary["auc_ci"]
  assert low < 0.5 < high
  attacked = ~np.isnan(outcome.scores)
  num, num_null = attacked.sum(), _NUM_NULL.get(attack, R)
  # All samples follow the null, so all of them are false positives. Theirs and the
  # shared null's sampling, four standard errors.
  shared = num_null if attack in _NUM_NULL else np.inf
  tolerance = 4 * np.sqrt(0.09 * (1 / num + 1 / shared))
  called = NULL.signals["loss"][attacked] <= outcome.thresholds[attacked]
  # c_alpha rejects up to alpha + 2 / (n + 1) of the null (stats.nulls).
  assert called.mean() <= levels.ALPHA + 2 / (num_null + 1) + tolerance
  assert called.mean() > 0.01  # it is no attack that calls nobody
  p_value = np.exp(-outcome.scores[attacked].astype(np.float64))
  for level in (0.5, levels.ALPHA):
    assert (p_value <= level).mean() <= level + tolerance


@pytest.mark.parametrize("attack", ["population", "shadow", "reference"])
def test_smoothed_p_values_keep_small_levels_too(attack):
  scores = outcome_lib.evaluate(NULL, attack, estimator="linear").scores
  rate = (np.exp(-scores.astype(np.float64)) <= 0.04).mean()
  assert rate <= 0.04 + 4 * np.sqrt(0.04 * 0.96 * (1 / N + 1 / P))


def test_a_leak_is_found_and_per_sample_nulls_find_more():
  summaries = {name: outcome_lib.evaluate(LEAK, name).summary for name in CALIBRATED}
  for summary in summaries.values():
    assert summary["auc_ci"][0] > 0.5
  for strong in ("reference", "distillation", "leave_one_out"):
    for weak in ("population", "shadow"):
      assert summaries[strong]["auc_ci"][0] > summaries[weak]["auc_ci"][1]


def test_scores_and_thresholds_are_the_attacks_own():
  level = [levels.ALPHA]
  e = _evidence(leak=1.0, num=200)
  held, population_held = np.random.default_rng(1).random((2, R, P)) < 0.4
  held = held[:, :200]
  e = _with(
    e, "reference", held=held, out=~held, population_held=population_held,
    population_out=~population_held,
  )  # fmt: skip
  losses, group = e.signals["loss"], e.groups["reference"]
  null = (group.population["loss"], group.population_labels)
  distilled = e.groups["distilled"].signals["loss"]
  expected = {
    "population": (
      population.score(losses, e.population["loss"]),
      np.repeat(population.thresholds(e.population["loss"], level)[0], 200),
    ),
    "shadow": (
      shadow.score(losses, e.labels, *null, C, ~population_held),
      shadow.thresholds(*null, e.labels, C, level, ~population_held)[0],
    ),
    "reference": (
      reference.score(losses, group.signals["loss"], ~held),
      reference.thresholds(group.signals["loss"], level, ~held)[0],
    ),
    "distillation": (
      distillation.score(losses, distilled),
      distillation.thresholds(distilled, level)[0],
    ),
  }
  for name, (scores, thresholds) in expected.items():
    outcome = outcome_lib.evaluate(e, name)
    np.testing.assert_array_equal(outcome.scores, scores)
    np.testing.assert_array_equal(outcome.thresholds, thresholds)
    assert outcome.scores.dtype == outcome.thresholds.dtype == np.float32
    np.testing.assert_array_equal(outcome_lib.thresholds(e, name), thresholds)


def test_losses_of_models_that_held_a_row_have_no_influence():
  rng = np.random.default_rng(1)
  held, population_held = rng.random((R, N)) < 0.5, rng.random((R, P)) < 0.5
  masks = {
    "held": held, "out": ~held,
    "population_held": population_held, "population_out": ~population_held,
  }  # fmt: skip
  group = LEAK.groups["reference"]
  spoilt = {
    "signals": {"loss": np.where(held, 1e-9, group.signals["loss"])},
    "population": {"loss": np.where(population_held, 1e-9, group.population["loss"])},
  }
  masked = _with(LEAK, "reference", **masks)
  changed = _with(LEAK, "reference", **masks, **spoilt)
  for attack in ("shadow", "reference"):
    expected = outcome_lib.evaluate(masked, attack).scores
    actual = outcome_lib.evaluate(changed, attack).scores
    np.testing.assert_array_equal(actual, expected)
    assert (outcome_lib.evaluate(LEAK, attack).scores != expected).any()


def test_a_sample_with_too_few_models_is_left_out_and_the_rest_is_as_it_was():
  held = np.zeros((R, N), bool)
  held[:, :3] = held[1:, 3:7] = True
  few = _with(LEAK, "reference", held=held, out=~held)
  outcome = outcome_lib.evaluate(few, "reference")
  assert np.isnan(outcome.scores[:7]).all()
  assert np.isnan(outcome.thresholds[:7]).all()
  whole = outcome_lib.evaluate(LEAK, "reference")
  np.testing.assert_allclose(outcome.scores[7:], whole.scores[7:], rtol=1e-5)
  assert outcome.summary["num_samples"] == N - 7
  assert outcome.notes == [
    "R · reference leaves 7 of 2,000 samples out: too few models, or rows of their"
    " class, to compare them with"
  ]
  assert whole.notes == []


def test_a_class_without_a_null_is_left_out():
  labels = np.where(LEAK.groups["reference"].population_labels == 1, 0, 2)
  few = _with(LEAK, "reference", population_labels=labels.astype(np.int32))
  outcome = outcome_lib.evaluate(few, "shadow")
  np.testing.assert_array_equal(np.isnan(outcome.scores), LEAK.labels % 2 == 1)
  assert "shadow leaves" in outcome.notes[0]


def test_what_can_attack_members_alone_is_refused():
  out = np.zeros((R, N), bool)
  out[:, LEAK.members] = True
  one_kind = _with(LEAK, "reference", out=out)
  with pytest.raises(outcome_lib.NothingToCompareError, match="no non-members among"):
    outcome_lib.evaluate(one_kind, "reference")


def test_leave_one_out_attacks_its_samples_alone():
  outcome = outcome_lib.evaluate(LEAK, "leave_one_out")
  attacked = LEAK.groups["left_out"].out.all(axis=0)
  np.testing.assert_array_equal(~np.isnan(outcome.scores), attacked)
  np.testing.assert_array_equal(~np.isnan(outcome.thresholds), attacked)
  expected = reference.score(
    LEAK.signals["loss"][attacked],
    LEAK.groups["left_out"].signals["loss"][:, attacked],
  )
  np.testing.assert_array_equal(outcome.scores[attacked], expected)
  assert outcome.summary["num_samples"] == N // 2
  assert outcome.summary["num_nonmembers"] == (~LEAK.members[attacked]).sum()
  assert outcome.notes == []  # it is meant to


@pytest.mark.parametrize(("attack", "num_models"), [("population", 0), ("shadow", R)])
def test_summary_against_scikit_learn(attack, num_models):
  outcome = outcome_lib.evaluate(LEAK, attack)
  scores, summary = outcome.scores, outcome.summary
  fpr, tpr, _ = metrics.roc_curve(LEAK.members, scores, drop_intermediate=False)
  np.testing.assert_allclose(
    summary["auc"], metrics.roc_auc_score(LEAK.members, scores), rtol=1e-9
  )
  for level in ("0.1", "0.01", "0.001"):
    expected = tpr[fpr <= float(level)].max()
    np.testing.assert_allclose(summary["tpr_at_fpr"][level], expected)
    low, high = summary["tpr_at_fpr_ci"][level]
    assert low <= expected <= high
  share = LEAK.members.mean()
  accuracy = (share * tpr + (1 - share) * (1 - fpr)).max()
  np.testing.assert_allclose(summary["accuracy"], accuracy)
  assert summary["estimator"] == "linear"
  assert (summary["num_samples"], summary["num_models"]) == (N, num_models)
  assert set(summary) == {
    *("auc", "auc_ci", "accuracy", "tpr_at_fpr", "tpr_at_fpr_ci", "estimator"),
    *("num_samples", "num_nonmembers", "num_models"),
    *(["by_class"] if attack == "population" else []),
  }


def test_an_estimator_replaces_the_attacks_own():
  null = LEAK.groups["reference"].signals["loss"]
  expected = reference.score(LEAK.signals["loss"], null, method="gaussian")
  for outcome in (
    outcome_lib.evaluate(LEAK, "reference", estimator="gaussian"),
    outcome_lib.evaluate(LEAK, "reference:estimator=gaussian"),
  ):
    assert outcome.summary["estimator"] == "gaussian"
    np.testing.assert_array_equal(outcome.scores, expected)


@pytest.mark.parametrize(
  ("change", "attack", "lacks"),
  [
    (
      lambda e: e._replace(population={}),
      "population",
      "population_logits and population_labels",
    ),
    (
      lambda e: _with(e, "reference", signals={}), "reference", "reference_logits",
    ),
    (
      lambda e: _with(e, "reference", population={}),
      "shadow",
      "reference_population_logits and",
    ),
    (lambda e: _without(e, "distilled"), "distillation", "distilled_logits"),
    (lambda e: _without(e, "left_out"), "leave_one_out", "models retrained without"),
  ],
)  # fmt: skip
def test_what_an_attack_lacks_is_named(change, attack, lacks):
  missing = outcome_lib.lacking(change(NULL), CALIBRATED)
  assert list(missing) == [attack]
  assert missing[attack].startswith(f"needs {lacks}")
  assert outcome_lib.lacking(NULL, CALIBRATED) == {}


def test_one_model_is_too_few_and_said():
  one = {"held": np.zeros((1, N), bool), "out": np.ones((1, N), bool)}
  few = _with(
    NULL, "distilled", **one,
    signals={"loss": NULL.groups["distilled"].signals["loss"][:1]},
  )  # fmt: skip
  assert outcome_lib.lacking(few, ["distillation"]) == {
    "distillation": "needs distilled_logits of at least 2 models that did not hold a"
    " sample"
  }


@pytest.mark.parametrize(
  ("scores", "message"),
  [
    (np.zeros(3), r"'own': scores has shape \(3,\), expected \(2000\)"),
    (0.5, r"'own': scores has shape \(\), expected \(2000\)"),
    (["a"] * N, "'own' gives scores of dtype <U1, expected numbers"),
    (None, "'own' gives scores of dtype object, expected numbers"),
  ],
)
def test_scores_that_are_none_are_refused_by_name(scores, message):
  attack = dataclasses.replace(
    registry.get("correctness"),
    name="own",
    needs=registry.Needs(),
    threshold_needs=registry.Needs(),
    score=lambda evidence: scores,
  )
  with pytest.raises(ValueError, match=message):
    outcome_lib.evaluate(LEAK, attack)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"unknown attack 'refrence'; .*'reference'"):
    outcome_lib.evaluate(NULL, "refrence")
  with pytest.raises(ValueError, match=r"unknown estimator 'gauss'; .*'gaussian'"):
    outcome_lib.evaluate(NULL, "reference:estimator=gauss")


def test_distilled_models_that_held_a_sample_are_left_out_of_its_null():
  held = np.zeros((R, N), bool)
  held[0] = True
  group = LEAK.groups["distilled"]
  without = _with(
    LEAK, "distilled", held=held[1:], out=~held[1:],
    signals={"loss": group.signals["loss"][1:]},
  )  # fmt: skip
  expected = outcome_lib.evaluate(without, "distillation", alpha=0.3)
  found = outcome_lib.evaluate(
    _with(LEAK, "distilled", held=held, out=~held), "distillation", alpha=0.3
  )
  np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
  np.testing.assert_allclose(found.thresholds, expected.thresholds, rtol=1e-4)
  usual = outcome_lib.evaluate(without, "distillation")
  np.testing.assert_array_equal(usual.scores, expected.scores)
  assert (usual.thresholds < expected.thresholds).all()


def test_over_targets_gives_means_with_intervals_over_them():
  outcomes = [
    outcome_lib.evaluate(_evidence(1.0, seed, 400), "population") for seed in range(4)
  ]
  assert outcome_lib.over_targets(outcomes[:1]) == outcomes[0].summary
  found = outcome_lib.over_targets(outcomes)
  auc = np.array([outcome.summary["auc"] for outcome in outcomes])
  np.testing.assert_allclose(found["auc"], auc.mean())
  # Student's interval by hand: t at 3 degrees of freedom is 3.182.
  half = 3.182446 * auc.std(ddof=1) / 2
  np.testing.assert_allclose(found["auc_ci"], [auc.mean() - half, auc.mean() + half])
  low, high = found["tpr_at_fpr_ci"]["0.1"]
  assert low < found["tpr_at_fpr"]["0.1"] < high
  assert found["num_nonmembers"] == min(o.summary["num_nonmembers"] for o in outcomes)
  assert (found["num_targets"], found["ci_of"]) == (4, "the mean over 4 targets")
  assert [each["auc"] for each in found["by_target"]] == auc.tolist()


def test_samples_that_raise_false_alarms_in_every_target_are_told():
  targets = [_evidence(0.0, seed, 400) for seed in range(12)]
  # The losses of a half of all rows are far below the others' in every target; the last
  # target has its rows in another order.
  easy = np.where(np.arange(400) < 200, np.float32(0.1), np.float32(1))
  uneven = [t._replace(signals={"loss": t.signals["loss"] * easy}) for t in targets]
  uneven[-1] = uneven[-1].at(np.random.default_rng(0).permutation(400))
  entries = {}
  for name, of in {"even": targets, "uneven": uneven}.items():
    outcomes = [outcome_lib.evaluate(one, "population") for one in of]
    entries[name] = {"per_sample_fpr": outcome_lib.per_sample_fpr(outcomes, of)}
  found = entries["uneven"]["per_sample_fpr"]["0.1"]
  assert found["rate"] == pytest.approx(0.1, abs=0.01)
  # Were all false alarms of the easy half, its rate would be .2, the others' 0.
  assert 0.05 < found["deviation"] <= 0.11
  assert entries["even"]["per_sample_fpr"]["0.1"]["p_value"] > 0.05
  assert found["p_value"] < 0.01
  (note,) = outcome_lib.pooled(entries)
  assert "own rates is uneven " in note
  assert outcome_lib.pooled({"even": entries["even"]}) == []


def test_an_attack_that_decides_tells_its_threshold():
  (needs,) = registry.get("correctness").all_needs()
  assert needs.signals == ("correctness",)
  correct = LEAK._replace(
    signals={**LEAK.signals, "correctness": LEAK.members.astype(np.float32)}
  )
  outcome = outcome_lib.evaluate(correct, "correctness", decides=True)
  assert outcome.threshold == 1.0
  assert outcome_lib.evaluate(correct, "correctness").threshold is None
  assert np.isnan(outcome.thresholds).all()


def test_rows_that_calibrate_are_in_no_result_but_the_p_values():
  calibrates = ~LEAK.members & (np.arange(N) % 3 == 0)
  evidence = LEAK._replace(calibrates=calibrates)
  for attack in CALIBRATED:
    plain = outcome_lib.evaluate(LEAK, attack)
    outcome = outcome_lib.evaluate(evidence, attack)
    np.testing.assert_array_equal(outcome.scores, plain.scores[~calibrates])
    np.testing.assert_array_equal(outcome.thresholds, plain.thresholds[~calibrates])
    without = outcome_lib.evaluate(LEAK.at(~calibrates), attack)
    for name, value in without.summary.items():
      assert outcome.summary[name] == value
    assert (plain.p_values, without.p_values) == (None, None)
    known = plain.scores[calibrates]
    known = known[~np.isnan(known)]
    for score, p in zip(outcome.scores[:50], outcome.p_values[:50], strict=True):
      if not np.isnan(score):
        assert p == (1 + (known >= score).sum()) / (1 + len(known))


def test_p_values_hold_whatever_the_attack():
  """Of non-members that are exchangeable with the rows that calibrate."""
  at_most = {a: np.zeros(4) for a in CALIBRATED}
  tried, num = (0.01, 0.05, 0.1, 0.3), 12
  for seed in range(num):
    e = _evidence(leak=1.5, seed=100 + seed, num=600)
    calibrates = ~e.members & (np.random.default_rng(seed).random(600) < 0.4)
    evidence = e._replace(calibrates=calibrates)
    others = ~e.members[~calibrates]
    for attack in CALIBRATED:
      p = outcome_lib.evaluate(evidence, attack).p_values[others]
      p = p[~np.isnan(p)]
      at_most[attack] += [(p <= level).mean() / num for level in tried]
  for attack, rates in at_most.items():
    # Some 120 rows calibrate some 180 others (half as many in leave-one-out).
    share = 0.5 if attack == "leave_one_out" else 1.0
    error = np.sqrt(np.array(tried) / (share * num) * (1 / 120 + 1 / 180))
    assert (rates <= tried + 4 * error).all(), (attack, rates)


def test_intervals_at_once_are_those_of_the_higher_confidence():
  outcome = outcome_lib.evaluate(LEAK, "population")
  found = outcome_lib.at_once([outcome], 3)
  # Three attacks of four figures each share five per cent.
  auc = intervals.auc(outcome.scores, LEAK.members, confidence=1 - 0.05 / 12)
  np.testing.assert_allclose(found["auc_ci"], [auc.low, auc.high])
  assert found["auc_ci"][0] < outcome.summary["auc_ci"][0]
  for level, (low, high) in found["tpr_at_fpr_ci"].items():
    own = outcome.summary["tpr_at_fpr_ci"][level]
    assert low <= own[0] <= own[1] <= high
  several = [
    outcome_lib.evaluate(_evidence(1.0, seed, 400), "population") for seed in range(4)
  ]
  auc = np.array([each.summary["auc"] for each in several])
  found = outcome_lib.at_once(several, 3)
  half = stats.t.ppf(1 - 0.025 / 12, 3) * auc.std(ddof=1) / 2
  expected = np.clip([auc.mean() - half, auc.mean() + half], 0, 1)
  np.testing.assert_allclose(found["auc_ci"], expected)


def test_sizes_of_several_targets_are_the_least():
  targets = [_evidence(0.0, seed, 400) for seed in range(3)]
  rows = [np.arange(400), np.arange(0, 400, 2), np.arange(300)]
  targets = [one.at(at) for one, at in zip(targets, rows, strict=True)]
  report = auditing.from_evidence(targets, ("metric_loss",)).report
  others = [int((~one.members).sum()) for one in targets]
  members = [int(one.members.sum()) for one in targets]
  assert len(set(others)) > 1
  assert report["target"]["num_members"] == min(members)
  assert report["target"]["num_nonmembers"] == min(others)
  entry = report["attacks"]["metric_loss"]
  assert entry["num_nonmembers"] == min(others)
  assert entry["num_samples"] == 200
  assert [one["num_members"] for one in report["targets"]] == members
