import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import neural_network

from jmia.attacks import classifier
from jmia.audit import outcome, simulated
from jmia.stats import roc

SMALL = classifier.ClassifierConfig(
  hidden_sizes=(4, 8), num_epochs=25, batch_size=64, learning_rate=1e-2
)


def _answers(seed, num, num_classes=3, flip=None):
  """Members are surer; in class `flip` it is the others who are."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(num_classes, size=num)
  members = rng.random(num) < 0.5
  is_sure = members if flip is None else members ^ (labels == flip)
  gain = np.where(is_sure, 4.0, 1.0) + rng.normal(0, 0.7, num)
  logits = rng.normal(0, 0.5, (num, num_classes))
  logits[np.arange(num), labels] += gain
  return classifier.Shadow(logits.astype(np.float32), labels, members)


def test_each_class_can_have_a_network_of_its_own():
  config = classifier.ClassifierConfig(**{**vars(SMALL), "per_class": True})
  shadow, target = _answers(0, 900), _answers(1, 400)
  found = classifier.score(target.logits, target.labels, shadow, config)
  assert found.scores.dtype == np.float32
  assert roc.auc(found.scores, target.members) > 0.9
  assert found.hidden_sizes.shape == (3,)


def test_each_groups_width_is_the_best_on_held_out_answers():
  members = np.arange(4) < 2
  right, wrong = np.array([2.0, 1, 0, -1]), np.array([-1.0, 0, 1, 2])
  # Networks in the order of jobs: both widths of one class, then of the other.
  on_validation = np.stack([wrong, right, right, wrong])
  on_queries = np.repeat(np.arange(4.0)[:, None], 2, axis=1)
  queries = (np.array([0, 2]), np.array([1, 3]))
  groups = [(np.arange(4), rows, "class") for rows in queries]
  parts = [(np.arange(4), np.arange(4))] * 2

  def choose(diverged_epoch):
    found = SimpleNamespace(
      collected=(on_validation, on_queries), diverged_epoch=np.array(diverged_epoch)
    )
    return classifier._choose(found, groups, parts, members, SMALL, 4)

  chosen = choose([-1, -1, -1, -1])
  assert chosen.hidden_sizes.tolist() == [8, 4]
  assert chosen.scores.tolist() == [1, 2, 1, 2]
  # A network that diverged is not chosen, however good its answers were.
  assert choose([-1, 3, -1, -1]).hidden_sizes.tolist() == [4, 4]


def test_with_the_label_it_can_learn_a_rule_for_each_class():
  # Sorted probabilities cannot: where class 0 is the other way round, they mislead.
  shadow, target = _answers(0, 900, flip=0), _answers(1, 400, flip=0)
  in_class = target.labels == 0
  area = {}
  for name, top_k in (("label", None), ("sorted", 3)):
    config = classifier.ClassifierConfig(
      hidden_sizes=(16,), num_epochs=40, batch_size=64, learning_rate=1e-2, top_k=top_k
    )
    found = classifier.score(target.logits, target.labels, shadow, config)
    area[name] = roc.auc(found.scores[in_class], target.members[in_class])
  assert area["label"] > 0.9
  assert area["sorted"] < 0.3


def test_a_masked_network_is_the_narrow_one():
  network = classifier._Network(8)
  job = classifier._Job(jnp.arange(3), 3, jnp.arange(2), jnp.arange(2), jnp.int32(3))
  recipe = classifier._recipe(network, SMALL, 5)
  state = jax.jit(recipe.init)(jax.random.key(0), job)
  data = classifier._Data(
    jax.random.normal(jax.random.key(1), (3, 5)), jnp.arange(3) % 2, jnp.zeros((1, 5))
  )
  trained, _ = jax.jit(recipe.update)(state, job, data)
  for params in (state.params, trained.params):
    narrow = {
      "hidden": {
        "kernel": params["hidden"]["kernel"][:, :3],
        "bias": params["hidden"]["bias"][:3],
      },
      "out": {"kernel": params["out"]["kernel"][:3], "bias": params["out"]["bias"]},
    }  # fmt: skip
    np.testing.assert_allclose(
      network.apply({"params": params}, data.x, 3),
      classifier._Network(3).apply({"params": narrow}, data.x),
      rtol=1e-5,
      atol=1e-6,
    )
  # What is masked is not trained.
  np.testing.assert_array_equal(
    trained.params["hidden"]["kernel"][:, 3:], state.params["hidden"]["kernel"][:, 3:]
  )


def test_more_answers_than_wanted_are_cut_down():
  shadow = _answers(0, 100)
  cut = classifier._at_most(shadow, 40, np.random.default_rng(0))
  assert len(cut.labels) == len(cut.logits) == 40
  assert classifier._at_most(shadow, 100, None) is shadow


def test_held_out_answers_are_of_both_kinds_and_not_trained_on():
  shadow = _answers(0, 100)
  train, held_out = classifier._hold_out(
    np.arange(100), shadow.members, SMALL, np.random.default_rng(0)
  )
  assert sorted([*train, *held_out]) == list(range(100))
  for kind in (True, False):
    num = (shadow.members == kind).sum()
    assert (shadow.members[held_out] == kind).sum() == round(0.2 * num)


def test_shadow_answers_are_those_of_models_that_did_or_did_not_train_on_a_row():
  given = simulated.evidence(np.random.default_rng(2), num_models=6, num_population=20)
  group = given.groups["reference"]
  # Of some rows a model is neither in nor out: they chose its epoch.
  out = group.population_out & (np.arange(20) % 3 > 0)
  group = group._replace(population_out=out)
  given = given._replace(groups={"reference": group})
  expected = [
    (group.population["logits"][r, p], given.population_labels[p], held)
    for r in range(6)
    for p in range(20)
    for held, mask in ((True, group.population_held), (False, out))
    if mask[r, p]
  ]
  shadow = classifier.shadow_of(given)
  for found, of in zip(shadow, zip(*expected, strict=True), strict=True):
    np.testing.assert_array_equal(found, np.stack(of))


def test_a_class_without_two_answers_of_each_kind_is_left_out(monkeypatch):
  small = functools.partial(
    classifier.ClassifierConfig, hidden_sizes=(2,), num_epochs=1, max_examples=200
  )
  monkeypatch.setattr(classifier, "ClassifierConfig", small)
  given = simulated.evidence(np.random.default_rng(3), num_models=6, num_population=60)
  # Class 2 is on one row of the population alone, which one model held.
  labels = np.where(given.population_labels == 2, 0, given.population_labels)
  labels[0] = 2
  group = given.groups["reference"]
  held, out = group.population_held.copy(), group.population_out.copy()
  held[:, 0], out[:, 0] = np.arange(6) == 0, np.arange(6) > 0
  group = group._replace(
    population_labels=labels, population_held=held, population_out=out
  )
  given = given._replace(population_labels=labels, groups={"reference": group})
  found = outcome.evaluate(given, "classifier:by_class")
  is_rare = given.evaluated().labels == 2
  np.testing.assert_array_equal(np.isnan(found.scores), is_rare)
  assert found.summary["num_samples"] == (~is_rare).sum()
  assert any("samples out: too few models, or rows" in note for note in found.notes)
  # One network for all has enough of both kinds.
  assert np.isfinite(outcome.evaluate(given, "classifier").scores).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_tells_as_much_as_scikit_learns_network_of_probabilities_and_labels():
  shadow, target = _answers(0, 900, flip=0), _answers(1, 600, flip=0)

  def inputs(answers):
    probabilities = special.softmax(answers.logits.astype(np.float64), axis=1)
    return np.hstack([probabilities, np.eye(3)[answers.labels]])

  peer = neural_network.MLPClassifier((8,), learning_rate_init=1e-2, random_state=0)
  peer.fit(inputs(shadow), shadow.members)
  theirs = roc.auc(peer.predict_proba(inputs(target))[:, 1], target.members)
  found = classifier.score(target.logits, target.labels, shadow, SMALL).scores
  # Two networks on the same 600 answers differ by less than the AUC's error, .01.
  assert abs(roc.auc(found, target.members) - theirs) < 0.03
  assert theirs > 0.85


def _scored(**changes):
  shadow = _answers(0, 30)
  arrays = {**shadow._asdict(), **changes}
  return classifier.score(shadow.logits, shadow.labels, classifier.Shadow(**arrays))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: _scored(logits=np.zeros((30, 4))), "shadow.logits has shape"),
    (lambda: _scored(labels=np.full(30, 3)), "shadow.labels holds labels"),
    (lambda: _scored(members=np.zeros(30)), "shadow.members has dtype"),
    (lambda: _scored(members=np.zeros(30, bool)), "hold 0 members to learn from"),
    (lambda: _scored(logits=np.full((30, 3), np.nan)), "shadow.logits holds 90 NaN"),
    (lambda: classifier.ClassifierConfig(hidden_sizes=()), "hidden_sizes is empty"),
    (lambda: classifier.ClassifierConfig(top_k=0), "top_k=0"),
    (lambda: classifier.ClassifierConfig(validation_share=1), "validation_share=1"),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
