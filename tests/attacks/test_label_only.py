import numpy as np
import pytest

from jmia import attacks
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import label_only
from jmia.stats import roc

N, P, R, Q, C = 60, 50, 3, 8, 4
KINDS = {"label_only_augment": "moved", "label_only_noise": "noisy"}


def _evidence(kind, change=lambda logits: logits, seed=0, effect=1.0):
  """Of logits on copies, which members' models get right more often."""
  rng = np.random.default_rng(seed)
  members, held = rng.random(N) < 0.5, rng.random((R, P)) < 0.5
  labels, population_labels = (rng.integers(0, C, size) for size in (N, P))
  name = f"correctness@{kind}"

  def correct(labels, members):
    logits = rng.normal(size=(*members.shape, Q, C)).astype(np.float32)
    lift = (1 + effect * members)[..., None, None]
    logits += lift * np.eye(C, dtype=np.float32)[labels][..., None, :]
    return (change(logits).argmax(-1) == labels[..., None]).astype(np.float32)

  on_samples = correct(labels, members)
  each = np.broadcast_to(population_labels, (R, P))
  group = attacks.Group(
    **evidence_lib.no_samples(R, N),
    population_held=held,
    population_out=~held,
    population={name: correct(each, held)},
    population_labels=population_labels,
  )
  return attacks.Evidence(
    index=np.arange(N), labels=labels, members=members, num_classes=C,
    signals={name: on_samples}, population_labels=population_labels, population={},
    groups={"reference": group},
  )  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_score_counts_copies_labelled_rightly(name):
  given, attack = _evidence(KINDS[name]), attacks.get(name)
  correct = given.signals[f"correctness@{KINDS[name]}"]
  expected = [sum(1 for q in range(Q) if correct[n, q] == 1) for n in range(N)]
  scores = attack.score(given)
  np.testing.assert_array_equal(scores, expected)
  assert roc.auc(scores, given.members) > 0.6
  assert attacks.lacking(given, attack) is None


@pytest.mark.parametrize("name", KINDS)
def test_labels_alone_are_seen(name):
  plain = _evidence(KINDS[name])
  monotone = _evidence(KINDS[name], lambda logits: np.exp(3 * logits) - 1)
  attack = attacks.get(name)
  np.testing.assert_array_equal(attack.score(plain), attack.score(monotone))
  assert attack.score_threshold(plain) == attack.score_threshold(monotone)
  names = {n for needs in attack.all_needs(decides=True) for n in needs.signals}
  assert names <= {f"correctness@{KINDS[name]}"}


def test_the_threshold_is_the_references_best_by_trying_all():
  given = _evidence("noisy", effect=2.0)
  group = given.groups["reference"]
  counts = label_only.score(group.population["correctness@noisy"])
  held = group.population_held
  gains = [
    (counts[held] >= cut).mean() - (counts[~held] >= cut).mean() for cut in range(Q + 2)
  ]
  found = attacks.get("label_only_noise").score_threshold(given)
  assert gains[int(found)] == pytest.approx(max(gains))


def test_exchangeable_samples_are_told_apart_by_chance_alone():
  areas = []
  for seed in range(200):
    given = _evidence("moved", seed=seed, effect=0.0)
    scores = attacks.get("label_only_augment").score(given)
    areas.append(roc.auc(scores, given.members))
  # An AUC of 30 and 30 has a standard deviation of at most .075.
  assert abs(np.mean(areas) - 0.5) < 4 * 0.075 / np.sqrt(200)


@pytest.mark.parametrize(
  ("correct", "message"),
  [
    (np.ones(3), r"correct has shape \(3,\), expected \(..., N, Q\)"),
    (np.ones((3, 0)), r"correct has shape \(3, 0\)"),
    (np.full((3, 2), 0.5), "correct holds values other than 0 and 1"),
  ],
)
def test_bad_input_is_named(correct, message):
  with pytest.raises(ValueError, match=message):
    label_only.score(correct)


def test_what_has_no_copies_is_said():
  given = _evidence("moved")._replace(signals={"correctness": np.ones(N)})
  said = attacks.lacking(given, attacks.get("label_only_augment"))
  assert said == "needs a model to ask, and images, or rows of bits, to alter"
