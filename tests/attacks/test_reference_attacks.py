"""What all attacks that compare with reference models have in common."""

import numpy as np
import pytest
import reference_example

from jmia import attacks
from jmia.attacks import base, bavaria, calibrated_loss, lira, rmia
from jmia.stats import roc

OFFLINE = {
  "lira": (lira.score_offline, False),
  "bavaria": (bavaria.score_offline, False),
  "rmia": (rmia.log_ratio_offline, True),
  "base": (base.score_offline, True),
  "calibrated_loss": (calibrated_loss.score, True),
}
ONLINE = {
  "lira": (lira.score_online, False),
  "bavaria": (bavaria.score_online, False),
  "rmia": (rmia.log_ratio_online, True),
}
REGISTERED = (
  "lira_online", "lira_offline", "bavaria", "bavaria_offline", "rmia_online",
  "rmia_offline", "base", "base:online", "calibrated_loss",
)  # fmt: skip


def _run(function, of_losses, phi, references, *masks):
  if of_losses:
    phi, references = map(reference_example.losses_of, (phi, references))
  return function(phi, references, *masks)


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_a_higher_confidence_never_lowers_the_score(name):
  phi, references, held, _ = reference_example.draw(0, (60,), num_models=7)
  scores = [
    _run(*OFFLINE[name], phi + step, references, ~held) for step in range(-40, 41, 4)
  ]
  assert (np.diff(scores, axis=0) >= 0).all()
  assert (scores[-1] > scores[0]).all()


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_models_with_the_sample_do_not_count(name):
  phi, references, held, _ = reference_example.draw(1, (50,), num_models=8)
  poisoned = np.where(held, np.nan, references)
  np.testing.assert_array_equal(
    _run(*OFFLINE[name], phi, poisoned, ~held),
    _run(*OFFLINE[name], phi, references, ~held),
  )


@pytest.mark.parametrize("name", ONLINE)
def test_online_models_of_neither_kind_do_not_count(name):
  phi, references, held, _ = reference_example.draw(2, (50,), num_models=8)
  out = ~held
  more = np.vstack([references, np.full((3, 50), np.nan)])
  none = np.zeros((3, 50), bool)
  np.testing.assert_allclose(
    _run(*ONLINE[name], phi, more, np.vstack([held, none]), np.vstack([out, none])),
    _run(*ONLINE[name], phi, references, held, out),
    rtol=1e-13,
  )


@pytest.mark.parametrize("attack", REGISTERED)
@pytest.mark.parametrize(
  ("num_models", "max_phi"), [(4, np.inf), (8, 2.0), (64, np.inf)]
)
def test_without_an_effect_nothing_is_found(attack, num_models, max_phi):
  # 120 simulations of 200 samples; a mean AUC's standard error is
  # sqrt((200 + 1) / (12 * 100 * 100) / 120) at most, ties make it smaller.
  areas = []
  num, at_once = 200, 120
  drawn = reference_example.draw(
    num_models, (num * at_once,), num_models=num_models, effect=0.0, max_phi=max_phi
  )
  given = reference_example.evidence_of(*drawn, num * at_once)
  attack = attacks.get(attack)
  scores = attack.score(given, **attack.options).reshape(at_once, num)
  members = given.members.reshape(at_once, num)
  areas = roc.auc(scores, members)
  error = np.sqrt((num + 1) / (3 * num**2))
  assert abs(areas.mean() - 0.5) < 4 * error / np.sqrt(at_once)
  # Each in its 95 % band but for 5 %: Binomial(120, .05) exceeds 15 once in 1,000.
  assert (np.abs(areas - 0.5) > 1.96 * error).sum() <= 15


@pytest.mark.parametrize("attack", REGISTERED)
def test_members_that_stand_out_are_found(attack):
  drawn = reference_example.draw(3, (900,), num_models=16, effect=3.0)
  given = reference_example.evidence_of(*drawn, 600)
  attack = attacks.get(attack)
  assert attacks.lacking(given, attack) is None
  scores = attack.score(given, **attack.options)
  assert scores.shape == (600,)
  assert np.isfinite(scores).all()
  assert roc.auc(scores, given.members) > 0.7


@pytest.mark.parametrize("attack", ["rmia_offline", "base", "calibrated_loss"])
def test_one_reference_is_enough(attack):
  phi, references, _, members = reference_example.draw(4, (80,), num_models=1)
  none = np.zeros((1, 80), bool)
  given = reference_example.evidence_of(phi, references, none, members, 80)
  attack = attacks.get(attack)
  assert attacks.lacking(given, attack) is None
  assert np.isfinite(attack.score(given, **attack.options)).all()


@pytest.mark.parametrize("attack", REGISTERED)
def test_a_sample_alone_scores_as_among_others_where_nothing_is_pooled(attack):
  drawn = reference_example.draw(5, (40,), num_models=80)
  given = reference_example.evidence_of(*drawn, 40)
  attack = attacks.get(attack)
  if attack.name.startswith("bavaria"):
    pytest.skip("its prior is of all samples")
  alone = attack.score(given.at(np.array([7])), **attack.options)
  np.testing.assert_allclose(alone, attack.score(given, **attack.options)[7:8])


@pytest.mark.parametrize("name", [*OFFLINE, *ONLINE])
def test_queries_alike_are_one_query_summed_or_averaged(name):
  function, of_losses = (OFFLINE | ONLINE)[name]
  phi, references, held, _ = reference_example.draw(6, (30,), num_models=8)
  masks = (~held,) if name in OFFLINE and name not in ONLINE else (held, ~held)
  one = _run(function, of_losses, phi, references, *masks)
  three = _run(
    function,
    of_losses,
    np.repeat(phi[:, None], 3, 1),
    np.repeat(references[..., None], 3, 2),
    *masks,
  )
  np.testing.assert_allclose(three, one * (1 if of_losses else 3), rtol=1e-12)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"phi": np.zeros((5, 2, 2))}, r"phi has shape .*expected \(N,\) or"),
    ({"phi": np.full(5, np.nan)}, "phi holds 5 NaN"),
    ({"reference_phi": np.zeros((3, 4))}, "reference_phi has shape"),
    ({"reference_phi": np.full((3, 5), np.inf)}, "reference_phi holds 15 NaN or inf"),
    ({"out": np.zeros((3, 5), bool)}, "out is false of every model for 5 .*sample 0"),
    ({"out": np.ones((3, 4), bool)}, "out has shape"),
    ({"out": np.ones((3, 5))}, "out has dtype float64"),
  ],
)
def test_bad_arrays_are_named(change, message):
  arguments = {
    "phi": np.zeros(5),
    "reference_phi": np.arange(15.0).reshape(3, 5),
    "out": np.ones((3, 5), bool),
  }
  with pytest.raises(ValueError, match=message):
    lira.score_offline(**{**arguments, **change})


def test_few_numbers_at_a_time_give_the_same(monkeypatch):
  phi, references, held, _ = reference_example.draw(7, (31, 2), num_models=8)
  whole = [_run(*attack, phi, references, held, ~held) for attack in ONLINE.values()]
  monkeypatch.setattr("jmia.attacks._references._BLOCK_SIZE", 40)
  for attack, expected in zip(ONLINE.values(), whole, strict=True):
    np.testing.assert_allclose(
      _run(*attack, phi, references, held, ~held), expected, rtol=1e-13
    )
