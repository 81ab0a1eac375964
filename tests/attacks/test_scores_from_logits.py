"""Scores as the papers' formulas give them, from the models' logits to the end.

Written anew in float64, sample by sample, from what each model said and who had trained
on what; nothing is the library's but the evidence that is read.
"""

import functools

import numpy as np
import pytest
from scipy import special, stats

from jmia import attacks
from jmia.audit import simulated

R, A, GAMMA, ALPHA = 7, 0.33, 2.0, 0.33


@functools.cache
def _given():
  drawn = simulated.evidence(
    np.random.default_rng(5), num_models=R, num_samples=24, num_calibrating=8
  )
  rng = np.random.default_rng(6)
  groups = dict(drawn.groups)
  for name in ("distilled", "left_out"):  # of some samples there are fewer models
    out = rng.random(groups[name].out.shape) < 0.7
    out[:2] = True
    groups[name] = groups[name]._replace(out=out)
  return drawn._replace(groups=groups)


def _loss(logits, label):
  return special.logsumexp(logits.astype(np.float64)) - float(logits[label])


def _phi(logits, label):
  """The log odds of the true class."""
  return float(logits[label]) - special.logsumexp(
    np.delete(logits.astype(np.float64), label)
  )


def _of_models(given, group, which, n, signal):
  """What the group's models that `which` marks say of sample n."""
  of = given.groups[group]
  logits, label = of.signals["logits"], given.labels[n]
  return np.array(
    [
      signal(logits[r, n], label)
      for r in range(len(logits))
      if getattr(of, which)[r, n]
    ]
  )


def _rank(null, loss):
  """`-log` of the share of null losses, and of the loss itself, that are as low."""
  return -np.log((1 + (null <= loss).sum()) / (1 + len(null)))


def _against(group):
  def score(given, n, own):
    return _rank(_of_models(given, group, "out", n, _loss), own(_loss))

  return score


def _smoothed_against(group):
  """The larger of the p-values of linear quantiles and of a Gaussian of logits."""

  def score(given, n, own):
    null, loss = np.sort(_of_models(given, group, "out", n, _loss)), own(_loss)
    linear = np.interp(loss, null, np.arange(len(null))) / (len(null) - 1)
    logit = lambda values: -np.log(np.expm1(values + 1e-6))  # noqa: E731
    gaussian = stats.norm(logit(null).mean(), logit(null).std()).sf(logit(loss))
    return -np.log(max(linear, gaussian))

  return score


def _population(given, n, own):
  rows = zip(given.population["logits"], given.population_labels, strict=True)
  return _rank(np.array([_loss(*row) for row in rows]), own(_loss))


def _shadow(given, n, own):
  of, labels = given.groups["reference"], given.population_labels
  null = [
    _loss(of.population["logits"][r, p], labels[p])
    for r in range(R)
    for p in np.flatnonzero(labels == given.labels[n])
    if of.population_out[r, p]
  ]
  return _rank(np.array(null), own(_loss))


@functools.cache
def _pooled_std(which, group):
  """Of each sample's deviations from its own mean."""
  given = _given()
  each = [_of_models(given, group, which, n, _phi) for n in range(len(given.labels))]
  squares = sum(((values - values.mean()) ** 2).sum() for values in each)
  return np.sqrt(squares / sum(len(values) - 1 for values in each))


def _lira_online(given, n, own):
  densities = [
    stats.norm(
      _of_models(given, "in_out", which, n, _phi).mean(), _pooled_std(which, "in_out")
    ).logpdf(own(_phi))
    for which in ("held", "out")
  ]
  return densities[0] - densities[1]


def _lira_offline(given, n, own):
  mean = _of_models(given, "reference", "out", n, _phi).mean()
  return -stats.norm(mean, _pooled_std("out", "reference")).logsf(own(_phi))


def _belief(logits, label):
  return special.softmax(logits.astype(np.float64))[label]


def _rmia_offline(given, n, own):
  out = _of_models(given, "reference", "out", n, _belief).mean()
  return np.log(own(_belief) / (0.5 * ((1 + A) * out + 1 - A)))


def _rmia_online(given, n, own):
  held, out = (
    _of_models(given, "in_out", which, n, _belief).mean() for which in ("held", "out")
  )
  return np.log(own(_belief) / ((held + out) / 2))


def _rmia_share(given, n, own):
  """The share of rows z of which x is favoured gamma times more, for each z anew."""
  of, ratio = given.groups["reference"], np.exp(_rmia_offline(given, n, own))
  wins = []
  for z, label in enumerate(given.population_labels):
    logits = of.population["logits"][of.population_out[:, z], z]
    if len(logits):
      mean = np.mean([_belief(one, label) for one in logits])
      of_z = _belief(given.population["logits"][z], label)
      wins.append(ratio / (of_z / (0.5 * ((1 + A) * mean + 1 - A))) > GAMMA)
  return np.mean(wins)


def _base(given, n, own):
  out = _of_models(given, "reference", "out", n, _belief)
  return -own(_loss) - ALPHA * np.log(out.mean())


def _calibrated_loss(given, n, own):
  return _of_models(given, "reference", "out", n, _loss).mean() - own(_loss)


def _similarity(given, n, own):
  of, mine = given.groups["in_out"], given.signals["logits"][n].astype(np.float64)
  distance = np.array(
    [
      stats.entropy(special.softmax(mine), special.softmax(z.astype(np.float64)))
      for z in of.signals["logits"][:, n]
    ]
  )
  return distance[of.out[:, n]].mean() - distance[of.held[:, n]].mean()


_FORMULAS = {
  "reference:estimator=empirical": _against("reference"),
  "distillation:estimator=empirical": _against("distilled"),
  "leave_one_out:estimator=empirical": _against("left_out"),
  "distillation": _smoothed_against("distilled"),
  "leave_one_out": _smoothed_against("left_out"),
  "population:estimator=empirical": _population,
  "shadow:estimator=empirical": _shadow,
  "lira_online": _lira_online,
  "lira_offline": _lira_offline,
  "rmia_online": _rmia_online,
  "rmia_offline": _rmia_offline,
  "rmia_offline:by_share": _rmia_share,
  "base": _base,
  "base:online": _rmia_online,
  "calibrated_loss": _calibrated_loss,
  "similarity": _similarity,
  "metric_loss": lambda given, n, own: -own(_loss),
}


@pytest.mark.parametrize("name", _FORMULAS)
def test_scores_are_the_papers(name):
  given, attack = _given(), attacks.get(name)
  assert attacks.lacking(given, attack) is None
  assert attacks.covered(given, attack).all()
  found = attack.score(given, **attack.options)
  expected = [
    _FORMULAS[name](
      given, n, lambda signal, n=n: signal(given.signals["logits"][n], given.labels[n])
    )
    for n in range(len(given.labels))
  ]
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_thresholds_of_distilled_and_left_out_models_are_their_percentiles():
  given, levels = _given(), np.array([0.05, 0.3, 0.75])
  for name, group in (("distillation", "distilled"), ("leave_one_out", "left_out")):
    attack = attacks.get(f"{name}:estimator=linear")
    found = attack.loss_thresholds(given, levels, **attack.options)
    for n in range(len(given.labels)):
      null = _of_models(given, group, "out", n, _loss)
      expected = np.quantile(null, levels)
      np.testing.assert_allclose(found[:, n], expected, rtol=1e-4, atol=1e-6)
