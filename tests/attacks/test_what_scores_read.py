"""Which rows' answers a score depends on, found by changing them.

Nothing may be calibrated, chosen or trained on what is evaluated: of the target's
answers a sample's score reads the sample's own and the population's, and who is a
member is read by nobody.
"""

import functools

import numpy as np
import pytest

from jmia import attacks
from jmia.attacks import classifier, evidence, quantile_regression
from jmia.audit import simulated

# Attacks whose population plays no part; of all others it does.
_OF_SAMPLES_ALONE = {
  "base", "base:online", "bavaria", "bavaria_offline", "calibrated_loss", "correctness",
  "distillation", "label_only_augment", "label_only_noise", "leave_one_out",
  "lira_offline", "lira_online", "metric_confidence", "metric_entropy", "metric_loss",
  "metric_modified_entropy", "random", "reference", "rmia_offline", "rmia_online",
  "similarity",
}  # fmt: skip
_VARIANTS = (
  "base:online", "classifier:by_class", "metric_loss:by_class", "population:by_class",
  "rmia_offline:a=tuned", "rmia_offline:by_share", "rmia_online:by_share",
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
  """One small network of one epoch: what it is given is what is asked here."""
  for module, name, settings in (
    (classifier, "ClassifierConfig", {"hidden_sizes": (2,)}),
    (quantile_regression, "QuantileConfig", {"num_networks": 1}),
  ):
    small = functools.partial(getattr(module, name), num_epochs=1, **settings)
    monkeypatch.setattr(module, name, small)


@functools.cache
def _drawn():
  drawn = simulated.evidence(
    np.random.default_rng(0),
    num_models=6,
    num_samples=30,
    num_calibrating=10,
    num_population=60,
    features=True,
  )
  at_hand = lambda of: {name: np.array(of[name]) for name in of}  # noqa: E731
  return drawn._replace(
    signals=at_hand(drawn.signals),
    population=at_hand(drawn.population),
    groups={
      name: group._replace(
        signals=at_hand(group.signals), population=at_hand(group.population)
      )
      for name, group in drawn.groups.items()
    },
  )


def _exchanged(signals, rows):
  """Signals whose rows have each other's answers; rows stay what they are."""
  changed = {name: array.copy() for name, array in signals.items()}
  for name, array in changed.items():
    if name != evidence.FEATURES:
      array[rows] = array[rows][::-1]
  return changed


def _scores(name, given):
  attack = attacks.get(name)
  assert attacks.lacking(given, attack) is None
  attack = attack.tuned(given)
  return np.asarray(attack.score(given, **attack.options))


@pytest.mark.parametrize("name", [*attacks.names(), *_VARIANTS])
def test_a_score_reads_no_other_samples_answer_and_no_membership(name):
  given = _drawn()
  changed = np.arange(40) % 2 == 0
  # What the target says of every other sample, and who is said to be a member.
  others = given._replace(
    signals=_exchanged(given.signals, changed), members=~given.members
  )
  before, after = _scores(name, given), _scores(name, others)
  np.testing.assert_array_equal(after[~changed], before[~changed])
  if name not in ("random", "similarity"):  # a divergence is between the models
    assert not np.array_equal(after[changed], before[changed])


@pytest.mark.parametrize("name", [*attacks.names(), *_VARIANTS])
def test_what_calibrates_an_attack_are_rows_of_the_population(name):
  given = _drawn()
  fewer = given.with_first_rows(30)
  is_alike = np.array_equal(_scores(name, fewer), _scores(name, given))
  if name != "rmia_offline:a=tuned":  # half of the rows may lead to the same
    assert is_alike == (name in _OF_SAMPLES_ALONE)
