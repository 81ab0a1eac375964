import numpy as np
import pytest

from jmia import types
from jmia.attacks import population
from jmia.audit import design as design_lib
from jmia.audit import exposure
from jmia.audit import outcome as outcome_lib
from jmia.audit import panel as panel_lib
from jmia.enhanced import metrics
from jmia.stats import intervals, roc

M, T, K, P, C, U = 9, 2, 30, 60, 3, 80
ATTACKS = ("population", "shadow", "reference", "distillation")


def _splits(held):
  """Training sets of rows; a row that nobody asks about where one holds none."""
  rows = [np.flatnonzero(h) for h in held]
  size = max(map(len, rows))
  padded = [np.pad(r, (0, size - len(r)), constant_values=r[0]) for r in rows]
  return types.Splits(np.stack(padded), np.array([len(r) for r in rows], np.int32))


@pytest.fixture(scope="module")
def made():
  """A cohort of made-up losses: where a model holds a sample, its loss is a third."""
  rng = np.random.default_rng(0)
  samples = np.stack([rng.permutation(U)[: 2 * K] for _ in range(T)])
  held = rng.random((M, U)) < 0.2
  for target, at in enumerate(samples):
    held[target] = False
    held[target, at[:K]] = True
  # Sample 0 is held by nobody, and the last model diverged.
  held[:, 0] = False
  hardness = rng.normal(size=U)
  plain = np.exp(hardness + 0.7 * rng.normal(size=(M, U))).astype(np.float32)
  losses = np.where(held, plain / 3, plain)
  of_population = rng.exponential(size=(M, P)).astype(np.float32)
  design = design_lib.Design(
    rows=np.arange(U + P) + 1000,
    num_evaluated=U,
    num_population=P,
    parts=(
      design_lib.Part("target", _splits(held[:T])),
      design_lib.Part("reference", _splits(held[T:])),
      design_lib.Part("distilled", _splits(held[T:]), target=0, teacher=0),
    ),
    samples=samples,
  )
  ones = np.ones(U, np.float32)
  return panel_lib.Panel(
    design=design,
    y=(np.arange(U + P) % C).astype(np.int32),
    num_classes=C,
    seed=0,
    targets=[
      panel_lib.Target(
        {"loss": losses[t], "correctness": ones}, {"loss": of_population[t]}
      )
      for t in range(T)
    ],
    blocks=(
      panel_lib.Block(
        models=np.arange(T, M),
        signals={"loss": losses[T:]},
        population={"loss": of_population[T:]},
        converged=np.arange(T, M) != M - 1,
      ),
      panel_lib.Block(
        models=np.arange(M, 2 * M - T),
        signals={"loss": plain[T:]},
        population={},
        converged=np.ones(M - T, bool),
      ),
    ),
    notes=[],
    seconds={},
  )


def test_by_target_runs_what_can_run(made):
  outcomes = metrics.by_target(made, (*ATTACKS, "leave_one_out"))
  assert list(outcomes) == list(ATTACKS)
  assert [len(of_attack) for of_attack in outcomes.values()] == [T, T, T, 1]
  for attack, of_attack in outcomes.items():
    expected = outcome_lib.evaluate(metrics.of_target(made, 0), attack)
    np.testing.assert_array_equal(of_attack[0].scores, expected.scores)


def test_by_sample_compares_holders_with_the_others(made, monkeypatch):
  monkeypatch.setattr(exposure, "_BLOCK_SIZE", 7 * M)  # more blocks than one
  models = metrics.Models(made)
  assert models.losses.shape == models.held.shape == (M - 1, U)
  for attack in ("reference", "population"):
    found = metrics.by_sample(models, attack)
    assert found.auc.shape == (U,)
    for i in range(U):
      score = -models.losses[:, i]
      if attack == "population":
        score = [
          population.score(losses[[i]], of_population)[0]
          for losses, of_population in zip(
            models.losses, models.population, strict=True
          )
        ]
      expected = roc.auc(np.array(score), models.held[:, i])
      np.testing.assert_allclose(found.auc[i], expected, rtol=1e-6)
    assert np.isnan(found.auc[0])


def test_by_sample_knows_two_attacks(made):
  with pytest.raises(ValueError, match="attack='shadow', expected 'population' or"):
    metrics.by_sample(metrics.Models(made), "shadow")


def test_by_num_models_takes_the_first_ones(made):
  sizes = (2, 5, 7, 100)
  found = metrics.by_num_models(made, ATTACKS[1:], sizes)
  assert list(found) == ["shadow", "reference", "distillation"]
  evidence = metrics.of_target(made, 0)
  first = {name: evidence.groups[name].first(7) for name in ("reference", "distilled")}
  first = evidence._replace(groups=first)
  for attack, auc in found.items():
    assert auc.shape == (T, len(sizes))
    expected = outcome_lib.evaluate(first, attack).summary["auc"]
    np.testing.assert_allclose(auc[0, 2], expected, rtol=1e-6)
    assert np.isnan(auc[:, 3]).all()
  # Of two references some sample was held by one at least, and has no null.
  assert np.isnan(found["reference"][0, 0])
  assert np.isnan(found["distillation"][1]).all()


def test_by_population_takes_the_first_rows(made):
  found = metrics.by_population(made, ATTACKS[:2], (2, 30, P))
  assert list(found) == ["population", "shadow"]
  evidence = metrics.of_target(made, 1)
  for attack, auc in found.items():
    expected = outcome_lib.evaluate(evidence, attack).summary["auc"]
    np.testing.assert_allclose(auc[1, 2], expected, rtol=1e-6)
  assert np.isnan(found["shadow"][:, 0]).all()  # two rows, three classes
  losses, null = evidence.signals["loss"], evidence.population["loss"]
  np.testing.assert_allclose(
    found["population"][1, 1],
    roc.auc(population.score(losses, null[:30]), evidence.members),
    rtol=1e-6,
  )


def test_agreement_is_the_share_of_like_decisions(made):
  evidence = metrics.of_target(made, 0)
  names, share = metrics.agreement(evidence, 0.3)
  assert names == ["ground truth", "shadow", "population", "reference", "distillation"]
  calls = [evidence.members] + [
    evidence.signals["loss"]
    <= outcome_lib.evaluate(evidence, name, alpha=0.3).thresholds
    for name in names[1:]
  ]
  for i, one in enumerate(calls):
    for j, other in enumerate(calls):
      assert share[i, j] == np.mean(one == other)
  _, of_members = metrics.agreement(evidence, 0.3, of=evidence.members)
  _, of_others = metrics.agreement(evidence, 0.3, of=~evidence.members)
  np.testing.assert_allclose((of_members + of_others) / 2, share)  # as many of each
  called = calls[1]
  assert of_members[0, 1] == np.mean(called[evidence.members])


def test_agreement_is_on_the_left_out_samples_where_there_are_any(made):
  evidence = metrics.of_target(made, 0)
  at = np.array([0, 3, K, K + 4])
  out = np.zeros((3, 2 * K), bool)
  out[:, at] = True
  losses = np.random.default_rng(1).exponential(size=out.shape).astype(np.float32)
  group = evidence.groups["distilled"]._replace(
    held=np.zeros_like(out), out=out, signals={"loss": losses}
  )
  evidence = evidence._replace(groups={**evidence.groups, "left_out": group})
  np.testing.assert_array_equal(metrics.agreement_samples(evidence), at)
  names, share = metrics.agreement(evidence, 0.3)
  assert names[:2] == ["ground truth", "leave_one_out"]
  np.testing.assert_array_equal(share * 4, np.round(share * 4))


def test_without_leakage_no_sample_of_many_is_shown_to_be_exposed():
  # 20 cohorts of 16 models and 300 samples, of scores that know nothing.
  num_samples, single, together = 300, 0, 0
  for seed in range(20):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(16, num_samples))
    held = generator.random((16, num_samples)) < 0.5
    each = exposure.by_sample(scores, held)
    of_all = exposure.by_sample(scores, held, confidence=intervals.each_of(num_samples))
    single += int(np.nanmax(each.low) > 0.5)
    together += int(np.nanmax(of_all.low) > 0.5)
  assert together <= 3  # at 5 %: more has p < .02
  assert single >= 4  # what choosing one of 300 does to an interval of its own
