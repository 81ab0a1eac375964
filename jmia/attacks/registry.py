"""What an attack is, and the list of them.

An attack is a value in a file of its own. `register` makes it known to everybody: the
audit and the studies, their flags and help, tables, plots, pages and JSON.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import inspect
from typing import Any

import numpy as np

from jmia import _validate
from jmia.attacks.evidence import (
  COPIES,
  FEATURES,
  MOVED,
  NOISY,
  QUERIES,
  SIGNALS,
  Evidence,
  parse,
)

TUNED = "tuned"  # the value of an option that is chosen from the evidence
GROUPS = ("reference", "in_out", "distilled", "left_out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupNeeds:
  """What an attack takes of one group of models.

  Attributes:
    signals: names, on the samples.
    out: models that a sample needs which were not trained on it; one with fewer is not
      attacked.
    held: models that a sample needs which were trained on it.
    population: names, on rows that are not evaluated.
    population_held: whether some of those rows must have been trained on. Some must
      always not have been.
    some_held: whether some of those rows or of the samples must have been trained on.
  """

  signals: tuple[str, ...] = ()
  out: int = 0
  held: int = 0
  population: tuple[str, ...] = ()
  population_held: bool = False
  some_held: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
  """What an attack takes; the members are not to be had.

  A name is that of a signal, such as `loss`, or of one on altered copies of each row,
  such as `loss@queries`: where the audit asks one query of a row, `loss` serves.

  Attributes:
    signals: names, of the target on the samples.
    population: names, of the target on the population.
    num_population: rows that the population must have at least.
    groups: group -> what of its models; some of `GROUPS`.
    num_queries: altered copies of a row, itself among them, that stand for `queries`;
      the audit's choice.
  """

  signals: tuple[str, ...] = ()
  population: tuple[str, ...] = ()
  num_population: int = 0
  groups: Mapping[str, GroupNeeds] = dataclasses.field(default_factory=dict)
  num_queries: int = 1

  def __post_init__(self) -> None:
    names = [*self.signals, *self.population]
    for group, needs in self.groups.items():
      _validate.known("group", group, GROUPS)
      names += [*needs.signals, *needs.population]
    for name in names:
      plain, copies = parse(name)
      _validate.known("signal", plain, SIGNALS)
      if copies is not None:
        _validate.known("kind of copies", copies, COPIES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
  """An attack: how it is named and explained, what it needs, and what it computes.

  The functions take an `Evidence` whose every sample has what `needs` says; options are
  keyword-only arguments of `score` with a default, which the others take alike.

  Attributes:
    name: as in flags and JSON; of letters, digits and underscores.
    title: in tables and legends.
    attacker: completes "An attacker ...".
    explanation: a sentence or two: what it asks and what it takes.
    source: the paper, with section and equation.
    needs: of `score`; or options -> needs.
    score: (evidence, options) -> `[N]`; higher = member, NaN where it cannot tell.
    loss_thresholds: (evidence, alpha `[A]`, options) -> `[A, N]`, the loss at or under
      which the sample is called a member at each level; the scores are `-log p` then.
      None for an attack that only ranks.
    score_threshold: (evidence, options) -> the score from which it says "member", for
      one that has such a rule.
    threshold_needs: what `score_threshold` takes beside `needs`; or options -> needs.
    tune: option -> (evidence, options) -> its value, for options that may be given as
      "tuned": chosen from the models compared with, and never from the target.
    check: (options) -> None, or a ValueError that names the option whose value it does
      not take, or would ignore. `get` asks it, so that nothing is trained before.
    options: name -> value; as `score` has them, unless `get` was told otherwise.
  """

  name: str
  title: str
  attacker: str
  explanation: str
  source: str
  needs: Needs | Callable[..., Needs]
  score: Callable[..., np.ndarray]
  loss_thresholds: Callable[..., np.ndarray] | None = None
  score_threshold: Callable[..., float] | None = None
  threshold_needs: Needs | Callable[..., Needs] = dataclasses.field(
    default_factory=Needs
  )
  tune: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
  check: Callable[..., None] = lambda **options: None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def only_ranks(self) -> bool:
    """Whether it has no threshold on the loss; else its scores are `-log p`."""
    return self.loss_thresholds is None

  def all_needs(self, *, decides: bool = False) -> list[Needs]:
    """What it needs with its options; with `decides`, of its score's threshold too."""
    wanted = [self.needs, self.threshold_needs] if decides else [self.needs]
    return [n if isinstance(n, Needs) else n(**self.options) for n in wanted]

  def tuned(self, evidence: Evidence) -> "Attack":
    """The attack with values of its own in place of options that are to be tuned."""
    values = {
      name: self.tune[name](evidence, **self.options)
      for name, value in self.options.items()
      if value == TUNED and name in self.tune
    }
    return dataclasses.replace(self, options={**self.options, **values})


_ATTACKS: dict[str, Attack] = {}


def register(attack: Attack) -> Attack:
  """Makes an attack known, and returns it.

  Raises:
    ValueError: if the name is taken by another attack or is no plain name, or an option
      of `score` has no default.
  """
  if not attack.name.isidentifier():
    raise ValueError(f"attack name={attack.name!r} must be of letters, digits and _")
  if attack.name in _ATTACKS:
    raise ValueError(f"attack {attack.name!r} is registered already")
  _, *options = inspect.signature(attack.score).parameters.values()
  for option in options:
    if option.default is option.empty:
      raise ValueError(f"attack {attack.name!r}: option {option.name} has no default")
  _ATTACKS[attack.name] = dataclasses.replace(
    attack, options={option.name: option.default for option in options}
  )
  return _ATTACKS[attack.name]


def unregister(name: str) -> None:
  """Forgets an attack.

  Raises:
    ValueError: if there is none of that name.
  """
  _validate.known("attack", name, _ATTACKS)
  del _ATTACKS[name]


def names() -> tuple[str, ...]:
  """Returns the names of all attacks."""
  return tuple(_ATTACKS)


def describe() -> dict[str, str]:
  """Returns each attack's options as `get` takes them, such as `top_k=0`; or ""."""
  return {
    name: ":".join(f"{key}={value}" for key, value in attack.options.items())
    for name, attack in _ATTACKS.items()
  }


@functools.cache
def _parse(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
  name, *written = text.strip().split(":")
  pairs = [option.partition("=") for option in written]
  # An option alone, such as `by_class`, is switched on.
  return name, tuple((key, value if sign else "True") for key, sign, value in pairs)


def get(text: str, **options: Any) -> Attack:
  """Returns an attack by name, with options if they are given.

  Args:
    text: NAME or NAME:OPTION=VALUE:..., such as `classifier:top_k=3`; an option that is
      a switch may stand alone, as in `metric_loss:by_class`.
    **options: further options; one that the attack does not have is left out, for those
      that are given to many attacks at once, such as an estimator.

  Raises:
    ValueError: if the attack or an option is unknown or given twice, or a value is none
      of its kind or not one that the attack takes.
  """
  name, written = _parse(text)
  _validate.known("attack", name, _ATTACKS)
  attack = _ATTACKS[name]
  chosen = {k: v for k, v in options.items() if k in attack.options}
  for number, (key, value) in enumerate(written):
    _validate.known(f"option of attack {name!r}", key, attack.options)
    if key in dict(written[:number]):
      raise ValueError(f"attack {text!r}: option {key} is given twice")
    is_tuned = value == TUNED and key in attack.tune
    kind = str if is_tuned else type(attack.options[key])
    chosen[key] = _value(f"{name}:{key}", value, kind)
  options = {**attack.options, **chosen}
  try:
    attack.check(**options)
  except ValueError as error:
    raise ValueError(f"attack {text!r}: {error}") from None
  return dataclasses.replace(attack, options=options)


def _value(what: str, text: str, kind: type) -> Any:
  """An option's value, of the type of its default."""
  if kind is bool:
    _validate.known(f"value of {what}", text, ("True", "False"))
    return text == "True"
  try:
    return kind(text)
  except ValueError:
    raise ValueError(f"{what}={text}, expected {kind.__name__}") from None


def check(texts: Sequence[str]) -> None:
  """Raises ValueError if there are no attacks, or one is unknown or named twice."""
  if isinstance(texts, str):
    raise ValueError(f"attacks={texts!r} is a text, expected a sequence of names")
  if not texts:
    raise ValueError(f"attacks is empty, expected some of {', '.join(names())}")
  for number, text in enumerate(texts):
    get(text)
    if text in texts[:number]:
      raise ValueError(f"attack {text!r} is named twice")


def union(needs: Sequence[Needs]) -> Needs:
  """Returns what serves all of them: every signal, and the most models."""

  def join(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))

  groups = {}
  for name in dict.fromkeys(name for one in needs for name in one.groups):
    of_group = [one.groups[name] for one in needs if name in one.groups]
    groups[name] = GroupNeeds(
      signals=join([one.signals for one in of_group]),
      out=max(one.out for one in of_group),
      held=max(one.held for one in of_group),
      population=join([one.population for one in of_group]),
      population_held=any(one.population_held for one in of_group),
      some_held=any(one.some_held for one in of_group),
    )
  return Needs(
    signals=join([one.signals for one in needs]),
    population=join([one.population for one in needs]),
    num_population=max((one.num_population for one in needs), default=0),
    groups=groups,
    num_queries=max((one.num_queries for one in needs), default=1),
  )


def lacking(evidence: Evidence, attack: Attack) -> str | None:
  """Returns what an attack needs that the evidence does not hold; None if nothing."""
  (needs,) = attack.all_needs()
  names = [name for name in needs.signals if not _has(evidence.signals, name)]
  if names:
    return f"needs {_OF_TARGET.get(_kind(names[0]), 'target_logits')}"
  if not all(_has(evidence.population, name) for name in needs.population):
    return "needs population_logits and population_labels"
  num_population = len(evidence.population_labels)
  if num_population < needs.num_population:
    return f"needs {needs.num_population} rows of a population, of {num_population}"
  for name, of_group in needs.groups.items():
    if not _serves(evidence.groups.get(name), of_group):
      return f"needs {_in_words(name, of_group)}"
  if not covered(evidence, attack).any():
    return "needs " + " and ".join(
      _in_words(name, of_group) for name, of_group in needs.groups.items()
    )
  return None


def covered(evidence: Evidence, attack: Attack) -> np.ndarray:
  """Returns `[N]` bool: the samples that have as many models as the attack needs."""
  (needs,) = attack.all_needs()
  enough = np.ones(len(evidence.labels), bool)
  for name, of_group in needs.groups.items():
    group = evidence.groups[name]
    if of_group.out:
      enough &= group.out.sum(axis=0) >= of_group.out
    if of_group.held:
      enough &= group.held.sum(axis=0) >= of_group.held
  return enough


def _serves(group: Any, needs: GroupNeeds) -> bool:
  """Whether a group has the signals, and rows of both kinds where both are needed."""
  if group is None:
    return False
  if not all(_has(group.signals, name) for name in needs.signals):
    return False
  if needs.some_held and not (group.held.any() or group.population_held.any()):
    return False
  if not needs.population:
    return True
  is_asked = all(_has(group.population, name) for name in needs.population)
  has_held = group.population_held.any() or not needs.population_held
  return bool(is_asked and has_held and group.population_out.any())


def _has(of: Mapping[str, Any], name: str) -> bool:
  """Whether there is a signal; a row's one query is the row itself."""
  plain, copies = parse(name)
  return name in of or (copies == QUERIES and plain in of)


def _kind(name: str) -> str:
  """What a signal is of that no logits of the samples would give."""
  plain, copies = parse(name)
  return copies or plain


# What an attack needs that lacks a signal of such copies, or of another such kind.
OF_COPIES = {
  MOVED: "a model to ask, and images, or rows of bits, to alter",
  NOISY: "a model to ask, and images, or rows of reals, to alter",
}
_OF_TARGET = {
  FEATURES: "the rows' features, which no file of signals holds",
  **OF_COPIES,
}
# What a file of signals would have to hold, by group: on samples, on the population.
_ARRAYS = {
  "reference": ("reference_logits", "reference_population_logits"),
  "in_out": ("reference_logits", "reference_population_logits"),
  "distilled": ("distilled_logits", "distilled_population_logits"),
}


def _in_words(group: str, needs: GroupNeeds) -> str:
  """What a group would have to be, in the words of a file of signals."""
  if group not in _ARRAYS:
    return "models retrained without each sample, which only training gives"
  on_samples, on_population = _ARRAYS[group]
  words = []
  if needs.signals:
    words.append(on_samples)
  if needs.population:
    words += [on_population, "population_labels"]
  if needs.population_held:
    words.append("reference_population_members with both true and false")
  if needs.some_held:
    words.append("reference_members or reference_population_members with some true")
  if needs.held:
    words.append(
      f"reference_members with {needs.held} true and {needs.out} false for a sample"
    )
  elif needs.out > 1:
    words[0] += f" of at least {needs.out} models that did not hold a sample"
  return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
