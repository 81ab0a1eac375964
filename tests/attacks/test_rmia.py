import mpmath
import numpy as np
import pytest
import reference_example

from jmia import attacks
from jmia.attacks import base, calibrated_loss, rmia
from jmia.audit import outcome

mpmath.mp.dps = 50

# Sure answers, whose probabilities are 1 in floating point, and hopeless ones.
EXTREME = np.array([1e-30, 3e-20, 1e-12, 0.3, 2.0, 60.0, 800.0, 3000.0])


def _losses(seed=0, num_models=6, shape=(8,)):
  phi, references, held, members = reference_example.draw(
    seed, shape, num_models=num_models
  )
  losses = map(reference_example.losses_of, (phi, references))
  return *losses, held, members


def _mean_p(losses, mask):
  """`mean exp(-loss)` in 50 digits, by a loop."""
  counted = [mpmath.exp(-mpmath.mpf(float(loss))) for loss in losses[mask]]
  return sum(counted) / len(counted)


def _extreme():
  """Losses of 8 samples and 5 models, each sample's of one size."""
  rng = np.random.default_rng(1)
  losses = EXTREME * rng.uniform(0.5, 2, (6, 8))
  return losses[0], losses[1:], np.arange(5)[:, None] < np.full(8, 2)


@pytest.mark.parametrize("a", [0.0, 0.33, 1.0])
def test_offline_matches_50_digits(a):
  losses, references, held = _extreme()
  scores = rmia.log_ratio_offline(losses, references, ~held, a=a)
  for n in range(8):
    p_out = _mean_p(references[:, n], ~held[:, n])
    p_x = ((1 + mpmath.mpf(a)) * p_out + (1 - mpmath.mpf(a))) / 2
    expected = -mpmath.mpf(float(losses[n])) - mpmath.log(p_x)
    np.testing.assert_allclose(scores[n], float(expected), rtol=1e-12)


def test_online_matches_50_digits():
  losses, references, held = _extreme()
  scores = rmia.log_ratio_online(losses, references, held, ~held)
  for n in range(8):
    of_kinds = [_mean_p(references[:, n], mask[:, n]) for mask in (held, ~held)]
    expected = -mpmath.mpf(float(losses[n])) - mpmath.log(sum(of_kinds) / 2)
    np.testing.assert_allclose(scores[n], float(expected), rtol=1e-12)


def test_a_base_matches_50_digits():
  losses, references, held = _extreme()
  scores = base.score_offline(losses, references, ~held, alpha=0.33)
  for n in range(8):
    log_mean = mpmath.log(_mean_p(references[:, n], ~held[:, n]))
    expected = -mpmath.mpf(float(losses[n])) - mpmath.mpf(0.33) * log_mean
    np.testing.assert_allclose(scores[n], float(expected), rtol=1e-12)


def test_a_calibrated_loss_by_loops():
  losses, references, held, _ = _losses(2)
  scores = calibrated_loss.score(losses, references, ~held)
  for n in range(8):
    out = [references[r, n] for r in range(6) if not held[r, n]]
    np.testing.assert_allclose(scores[n], sum(out) / len(out) - losses[n], rtol=1e-12)


def test_hand_worked_scores():
  # p = .8; in .9 and .7, out .2: p(x) = (.8 + .2) / 2 = .5, and offline with a = .5
  # (1.5 * .2 + .5) / 2 = .4.
  losses, references = -np.log([0.8]), -np.log([[0.9], [0.7], [0.2]])
  held = np.array([[True], [True], [False]])
  online = rmia.log_ratio_online(losses, references, held, ~held)
  offline = rmia.log_ratio_offline(losses, references, ~held, a=0.5)
  np.testing.assert_allclose(np.exp([online[0], offline[0]]), [1.6, 2.0])
  np.testing.assert_allclose(
    calibrated_loss.score(losses, references, ~held), [np.log(4)]
  )
  np.testing.assert_allclose(
    np.exp(base.score_offline(losses, references, ~held, alpha=0.5)), [0.8 / 0.2**0.5]
  )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_share_by_loops_with_ties(gamma):
  rng = np.random.default_rng(3)
  # Whole multiples of log 2, so that ratios of exactly gamma occur; in floating point
  # by the very expression, which decides on which side an exact tie falls.
  x, z = (np.log(2) * rng.integers(-3, 4, size) for size in (30, 20))
  expected = [sum(b < a - np.log(gamma) for b in z) / 20 for a in x]
  np.testing.assert_allclose(rmia.share(x, z, gamma=gamma), expected)


def test_the_share_ranks_as_the_ratio_does_but_for_ties():
  rng = np.random.default_rng(4)
  x, z = rng.normal(1, 1, 200), rng.normal(0, 1, 50)
  for gamma in (1.0, 2.0):
    assert (np.diff(rmia.share(np.sort(x), z, gamma=gamma)) >= 0).all()
  assert (
    rmia.share(x, z, gamma=1.0) == 1
  ).sum() > 1  # what the ratio still tells apart


@pytest.mark.parametrize("name", ["rmia_offline", "rmia_online"])
def test_by_share_compares_with_the_population_by_the_papers_loops(name):
  drawn = reference_example.draw(5, (50,), num_models=6)
  given = reference_example.evidence_of(*drawn, 30)
  attack = attacks.get(f"{name}:by_share:gamma=1.5")
  assert attacks.lacking(given, attack) is None
  p, references = (np.exp(-reference_example.losses_of(a)) for a in drawn[:2])
  held = drawn[2]
  mean_in, mean_out = (
    np.mean(references, axis=0, where=mask) for mask in (held, ~held)
  )
  p_x = (1.33 * mean_out + 0.67) / 2 if "offline" in name else (mean_in + mean_out) / 2
  ratio = p / p_x
  expected = [
    sum(ratio[x] / ratio[z] > 1.5 for z in range(30, 50)) / 20 for x in range(30)
  ]
  scores = attack.score(given, **attack.options)
  np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_by_share_needs_a_population_and_the_ratio_does_not():
  drawn = reference_example.draw(6, (30,), num_models=6)
  given = reference_example.evidence_of(*drawn, 30)._replace(population={})
  assert attacks.lacking(given, attacks.get("rmia_offline")) is None
  lacking = attacks.lacking(given, attacks.get("rmia_offline:by_share"))
  assert "population" in lacking


def test_bases_online_form_is_rmias():
  drawn = reference_example.draw(7, (30,), num_models=6)
  given = reference_example.evidence_of(*drawn, 30)
  scores = [
    attack.score(given, **attack.options)
    for attack in map(attacks.get, ("base:online", "rmia_online"))
  ]
  np.testing.assert_array_equal(*scores)


def test_how_many_models_held_a_sample_does_not_count():
  # 9 models with it that answer alike are as good as 1.
  losses, references = np.array([0.1]), np.array([[0.2]] * 9 + [[1.5]])
  held = np.arange(10)[:, None] < 9
  np.testing.assert_allclose(
    rmia.log_ratio_online(losses, references, held, ~held),
    rmia.log_ratio_online(losses, references[8:], held[8:], ~held[8:]),
  )


def test_a_is_chosen_on_references_attacked_in_turn():
  # Models with a sample have p = 1 - (1 - p_out) / 2 where those without have p_out:
  # a = .5 makes p(x) their mean.
  rng = np.random.default_rng(8)
  held = np.argsort(rng.random((12, 400)), axis=0) < 6
  p_out = rng.uniform(0.05, 0.95, 400) * np.exp(rng.normal(0, 0.02, (12, 400)))
  p = np.where(held, 1 - (1 - p_out) / 2, p_out)
  best, areas = rmia.best_a(
    -np.log(p), held, ~held, candidates=(0.0, 0.25, 0.5, 0.75, 1.0)
  )
  by_loops = []
  for r in range(12):
    others = np.arange(12) != r
    score = p[r] / (1.5 * np.mean(p, axis=0, where=~held & others[:, None]) + 0.5)
    members = score[held[r]][:, None], score[~held[r]][None]
    by_loops.append((members[0] > members[1]).mean())
  np.testing.assert_allclose(areas[2], np.mean(by_loops), rtol=1e-12)
  assert best == (0.0, 0.25, 0.5, 0.75, 1.0)[areas.argmax()]
  assert areas.max() > areas[0]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: rmia.log_ratio_offline(*_one(), a=1.5), "a=1.5 must lie in"),
    (lambda: base.score_offline(*_one(), alpha=-1), "alpha=-1 must lie in"),
    (lambda: rmia.share(np.zeros(2), np.zeros(2), gamma=0), "gamma=0 must be"),
    (lambda: rmia.share(np.zeros(2), np.zeros(0)), "population_log_ratio holds no"),
    (lambda: rmia.share(np.array([np.inf]), np.zeros(1)), "log_ratio holds 1 NaN"),
    (lambda: rmia.best_a(*_one()[1:], _one()[2]), "leave no model with both"),
    (
      lambda: rmia.best_a(*_one()[1:], _one()[2], candidates=(2.0,)),
      "candidates=2.0 must lie",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def _one():
  return np.ones(2), np.ones((3, 2)), np.ones((3, 2), bool)


def test_by_share_refuses_rows_of_each_models_own():
  drawn = reference_example.draw(9, (30,), num_models=4)
  given = reference_example.evidence_of(*drawn, 20)
  group = given.groups["reference"]._replace(population_labels=np.zeros((4, 10), int))
  attack = attacks.get("rmia_offline:by_share")
  with pytest.raises(ValueError, match="each model's own"):
    attack.score(given._replace(groups={"reference": group}), **attack.options)


@pytest.mark.parametrize("where", ["samples", "population"])
def test_a_is_tuned_on_references_and_never_on_the_target(where):
  drawn = reference_example.draw(10, (300,), num_models=6)
  given = reference_example.evidence_of(*drawn, 200)
  group = given.groups["reference"]
  if where == "samples":
    nobody = np.zeros_like(group.population_held)
    group = group._replace(population_held=nobody, population_out=~nobody)
    held, losses = group.held, group.signals["loss"]
  else:
    nobody = np.zeros_like(group.held)
    group = group._replace(held=nobody, out=~nobody)
    held, losses = group.population_held, group.population["loss"]
  given = given._replace(groups={"reference": group})
  attack = attacks.get("rmia_offline:a=tuned")
  assert attacks.lacking(given, attack) is None
  some = held.any(axis=0)
  best, _ = rmia.best_a(losses[:, some], held[:, some], ~held[:, some])
  assert attack.tuned(given).options == {**attack.options, "a": best}
  # Another target, with other members, on the same models.
  other = given._replace(
    members=~given.members,
    signals={name: -array for name, array in given.signals.items()},
    population={name: -array for name, array in given.population.items()},
  )
  assert attack.tuned(other).options["a"] == best
  found = outcome.evaluate(given, "rmia_offline:a=tuned")
  assert found.summary["a"] == best
  plain = outcome.evaluate(given, f"rmia_offline:a={best}")
  np.testing.assert_array_equal(found.scores, plain.scores)


def test_what_tuning_lacks_is_said():
  drawn = reference_example.draw(11, (40,), num_models=4)
  given = reference_example.evidence_of(*drawn, 30)
  group = given.groups["reference"]
  nobody = {
    "held": group.held & False,
    "population_held": group.population_held & False,
  }
  given = given._replace(groups={"reference": group._replace(**nobody)})
  assert attacks.lacking(given, attacks.get("rmia_offline")) is None
  said = attacks.lacking(given, attacks.get("rmia_offline:a=tuned"))
  assert said.endswith("or reference_population_members with some true")
  with pytest.raises(ValueError, match="rmia_offline:gamma=tuned, expected float"):
    attacks.get("rmia_offline:gamma=tuned")
