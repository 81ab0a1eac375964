"""The list of attacks: what is said of each, what they need, how options are set."""

import dataclasses

import numpy as np
import pytest

from jmia import attacks
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry


def _attack(**changes):
  fields = {
    "name": "mine", "title": "Mine", "attacker": "who tries", "explanation": "Tries.",
    "source": "nobody", "needs": attacks.Needs(signals=("loss",)),
    "score": lambda evidence, *, power=1.0, flip=False: -evidence.signals["loss"],
  }  # fmt: skip
  return attacks.Attack(**{**fields, **changes})


@pytest.fixture
def mine():
  yield attacks.register(_attack())
  attacks.unregister("mine")


@pytest.mark.parametrize("name", attacks.names())
def test_every_attack_says_what_a_reader_must_know(name):
  attack = attacks.get(name)
  assert attack.title
  assert attack.attacker.split()[0] in ("who", "with")
  assert attack.explanation.endswith(".")
  assert attack.source
  for needs in attack.all_needs(decides=True):
    assert isinstance(needs, attacks.Needs)


def test_a_registered_attack_is_known_until_it_is_forgotten(mine):
  assert "mine" in attacks.names()
  assert attacks.describe()["mine"] == "power=1.0:flip=False"
  assert attacks.get("mine").options == {"power": 1.0, "flip": False}
  with pytest.raises(ValueError, match="attack 'mine' is registered already"):
    attacks.register(_attack())


def test_options_are_read_as_their_defaults_kind(mine):
  assert attacks.get("mine:power=2:flip").options == {"power": 2.0, "flip": True}
  assert attacks.get("mine:flip=False").options["flip"] is False
  given = attacks.get("mine:power=3", power=5.0, flip=True, estimator="linear")
  assert given.options == {"power": 3.0, "flip": True}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("min", r"unknown attack 'min'; did you mean 'mine'"),
    ("mine:powr=2", r"unknown option of attack 'mine' 'powr'; did you mean 'power'"),
    ("mine:power=two", "mine:power=two, expected float"),
    ("mine:flip=yes", "unknown value of mine:flip 'yes'"),
    ("classifier:top_k=3.5", "classifier:top_k=3.5, expected int"),
    ("mine:power=1:power=2", "attack 'mine:power=1:power=2': option power is given tw"),
  ],
)
def test_what_is_no_attack_is_refused(mine, text, message):
  with pytest.raises(ValueError, match=message):
    attacks.get(text)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("base:alpha=5", r"alpha=5.0 must lie in \[0, 1\]"),
    ("base:online:alpha=0.5", "alpha=0.5 is not read with online"),
    ("rmia_offline:a=7", r"a=7.0 must lie in \[0, 1\]"),
    ("rmia_offline:by_share:gamma=-3", "gamma=-3.0 must be a finite number above 0"),
    ("rmia_offline:gamma=3", "gamma=3.0 is read with by_share alone"),
    ("rmia_online:by_share:gamma=nan", "gamma=nan must be a finite number above 0"),
    ("lira_online:variance=foo", "unknown variance 'foo'"),
    ("lira_offline:variance=foo", "unknown variance 'foo'"),
    ("classifier:top_k=-3", "top_k=-3 must be at least 1, or 0 for the whole answer"),
    ("quantile_regression:head=foo", "unknown head 'foo'"),
    *(
      (f"{name}:estimator=foo", "unknown estimator 'foo'")
      for name in ("population", "shadow", "reference", "distillation", "leave_one_out")
    ),
  ],
)
def test_a_value_that_an_attack_does_not_take_is_refused_with_its_name(text, message):
  said = f"attack '{text}': {message}"
  with pytest.raises(ValueError, match=said):
    attacks.get(text)
  with pytest.raises(ValueError, match=said):
    attacks.check(["random", text])


def test_values_that_an_attack_takes_pass():
  attacks.check(
    [
      "base:alpha=0", "base:online", "rmia_offline:a=tuned", "rmia_offline:a=1",
      "rmia_online:by_share:gamma=1.5", "lira_online:variance=own",
      "classifier:top_k=3", "population:estimator=gaussian",
      "quantile_regression:head=gaussian",
    ]
  )  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "my attack"}, "attack name='my attack' must be of letters, digits"),
    ({"name": "a:b"}, "attack name='a:b' must be"),
    ({"score": lambda evidence, power: 0}, "option power has no default"),
  ],
)
def test_attacks_that_could_not_be_named_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    attacks.register(_attack(**changes))
  assert "mine" not in attacks.names()


@pytest.mark.parametrize(
  ("needs", "message"),
  [
    (lambda: attacks.Needs(signals=("los",)), "unknown signal 'los'; did you mean"),
    (lambda: attacks.Needs(groups={"refs": attacks.GroupNeeds()}), "unknown group"),
  ],
)
def test_needs_that_nobody_can_meet_are_refused(needs, message):
  with pytest.raises(ValueError, match=message):
    needs()


def test_lists_of_attacks_are_checked():
  attacks.check(["metric_loss", "metric_loss:by_class"])
  with pytest.raises(ValueError, match="attacks is empty, expected some of"):
    attacks.check([])
  with pytest.raises(ValueError, match="attack 'shadow' is named twice"):
    attacks.check(["shadow", "shadow"])


def test_the_union_of_needs_serves_each():
  one = attacks.Needs(
    signals=("loss",),
    groups={"reference": attacks.GroupNeeds(signals=("loss",), out=2)},
  )
  other = attacks.Needs(
    signals=("loss", "entropy"),
    population=("loss",),
    groups={
      "reference": attacks.GroupNeeds(
        signals=("scaled_logit",), out=1, held=3, population=("loss",),
        population_held=True,
      ),
      "distilled": attacks.GroupNeeds(signals=("loss",)),
    },
  )  # fmt: skip
  union = attacks.union([one, other])
  assert union.signals == ("loss", "entropy")
  assert union.population == ("loss",)
  assert union.groups["reference"] == attacks.GroupNeeds(
    signals=("loss", "scaled_logit"), out=2, held=3, population=("loss",),
    population_held=True,
  )  # fmt: skip
  assert list(union.groups) == ["reference", "distilled"]


def _evidence(num=6):
  """Evidence whose references number r held the first r samples."""
  held = np.arange(num) < np.arange(4)[:, None]
  losses = np.ones((4, num), np.float32)
  group = attacks.Group(
    held=held, out=~held, signals={"loss": losses},
    **evidence_lib.no_population(4),
  )  # fmt: skip
  return attacks.Evidence(
    index=np.arange(num), labels=np.zeros(num, np.int32), members=np.arange(num) < 3,
    num_classes=2, signals={"loss": losses[0]}, population_labels=np.zeros(0, np.int32),
    population={}, groups={"reference": group},
  )  # fmt: skip


def test_samples_are_covered_where_they_have_the_models():
  needs = attacks.Needs(
    groups={"reference": attacks.GroupNeeds(signals=("loss",), out=2, held=1)}
  )
  attack = _attack(needs=needs, score=lambda evidence: evidence.signals["loss"])
  # Sample n was held by the models after n: 3, 2, 1 and then nobody.
  np.testing.assert_array_equal(
    attacks.covered(_evidence(), attack), [False, True, True, False, False, False]
  )
  assert attacks.lacking(_evidence(), attack) is None
  more = dataclasses.replace(needs.groups["reference"], held=4)
  attack = dataclasses.replace(attack, needs=attacks.Needs(groups={"reference": more}))
  assert attacks.lacking(_evidence(), attack) == (
    "needs reference_logits and reference_members with 4 true and 2 false for a sample"
  )


def test_needs_may_follow_from_options():
  plain, by_class = attacks.get("metric_loss"), attacks.get("metric_loss:by_class")
  assert registry.union(plain.all_needs()).groups == {}
  assert set(registry.union(by_class.all_needs()).groups) == {"reference"}
  assert set(registry.union(plain.all_needs(decides=True)).groups) == {"reference"}


def test_evidence_cut_to_samples_and_rows_is_of_those_alone():
  evidence = _evidence()
  part = evidence.at(np.array([4, 1]))
  np.testing.assert_array_equal(part.index, [4, 1])
  group = part.groups["reference"]
  np.testing.assert_array_equal(
    group.held, evidence.groups["reference"].held[:, [4, 1]]
  )
  assert group.signals["loss"].shape == (4, 2)
  assert evidence.groups["reference"].first(2).signals["loss"].shape == (2, 6)


def test_signals_of_logits_are_computed_once_and_only_when_asked_for(monkeypatch):
  asked = []
  compute = evidence_lib._compute

  def watch(logits, labels, names):
    asked.append(names)
    return compute(logits, labels, names)

  monkeypatch.setattr(evidence_lib, "_compute", watch)
  logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
  found = evidence_lib.of_logits(logits, np.zeros(5, int))
  assert "divergence" not in found
  assert asked == []
  assert found["loss"] is found["loss"]
  assert asked == [("loss",)]  # of all three models at once
  with pytest.raises(KeyError):
    found["los"]
