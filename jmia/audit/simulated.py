"""Audits of models that are numbers drawn at random, to see whether claims hold.

The truth is known: what a target answers on a member is what it would answer on any
other row, or is apart by a shift. Under the null an AUC's 95 % interval holds .5 in
95 % of all simulations, a p-value is at most `a` in at most a share `a` of them, and of
the records that are found at a false discovery rate no larger share is no member's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import Evidence
from jmia.audit import signals_file
from jmia.stats import conformal, intervals, monte_carlo

LEVELS = (0.001, 0.01, 0.05, 0.1)
NUM_CLASSES, NUM_COPIES = 3, 9


def evidence(
  rng: np.random.Generator,
  *,
  num_models: int,
  num_samples: int = 120,
  num_calibrating: int = 60,
  num_population: int = 40,
  num_members: int | None = None,
  shift: float = 0.0,
  ties: bool = False,
  features: bool = False,
) -> Evidence:
  """Draws one target's answers, and those of every kind of model compared with it.

  Rows differ in how hard they are, and models in their answers on a row. Models that
  held a row answer higher on it; about half of the references held each sample, and
  each population row. Of two references none held any, so that no sample has fewer
  than two that did not hold it.

  Args:
    rng: source of randomness.
    num_models: references, models distilled and models left out, of each.
    num_samples: `N` that are evaluated, the members first.
    num_calibrating: rows after them that calibrate p-values.
    num_population: `P`.
    num_members: of the samples; half by default.
    shift: of the members' true class's logit at the target alone; 0 is the null.
    ties: whether logits are whole numbers.
    features: whether rows have features, for attacks that train on them: how hard the
      row is.

  Returns:
    Evidence with logits of `NUM_CLASSES` and labels on altered copies, that every
    registered attack takes, with features those that train on them.
  """
  n, members = num_samples + num_calibrating, num_samples // 2
  members = members if num_members is None else num_members
  labels = rng.integers(NUM_CLASSES, size=n + num_population)
  true = np.eye(NUM_CLASSES)[labels]
  hard = rng.normal(2, 2, (n + num_population, 1)) * true

  def answers(num: int) -> np.ndarray:
    return hard + rng.normal(0, 1, (num, *hard.shape))

  held = np.argsort(rng.random((num_models, len(hard))), axis=0) < num_models // 2
  held &= num_models > 2
  target, references, distilled = (
    answers(1)[0],
    answers(num_models),
    answers(num_models),
  )
  references += held[..., None] * true
  target[:members] += shift * true[:members]
  if ties:
    target, references, distilled = (
      target.round(),
      references.round(),
      distilled.round(),
    )
  found = signals_file.from_arrays(
    {
      "target_logits": target[:n],
      "labels": labels[:n],
      "members": np.arange(n) < max(members, 1),  # a file must have one
      "calibrates": np.arange(n) >= num_samples,
      "population_logits": target[n:],
      "population_labels": labels[n:],
      "reference_logits": references[:, :n],
      "reference_members": held[:, :n],
      "reference_population_logits": references[:, n:],
      "reference_population_members": held[:, n:],
      "distilled_logits": distilled[:, :n],
    }
  )
  on_copies = _on_copies(rng, target[:n], labels[:n])
  found = found._replace(
    members=np.arange(n) < members,
    signals=evidence_lib.joined(found.signals, on_copies),
    groups={**found.groups, "left_out": found.groups["distilled"]},
  )
  return _with_features(found, hard.astype(np.float32)) if features else found


def _with_features(found: Evidence, rows: np.ndarray) -> Evidence:
  """The evidence with features of its samples and of the population behind them."""
  n = len(found.labels)
  of_samples, of_population = (
    {evidence_lib.FEATURES: part} for part in (rows[:n], rows[n:])
  )
  return found._replace(
    signals=evidence_lib.joined(found.signals, of_samples),
    population=evidence_lib.joined(found.population, of_population),
  )


def _on_copies(rng, logits, labels) -> Mapping[str, np.ndarray]:
  """Whether the target is right on altered copies of each row."""
  noisy = logits[:, None] + rng.normal(0, 1, (len(labels), NUM_COPIES, NUM_CLASSES))
  right = (noisy.argmax(axis=-1) == labels[:, None]).astype(np.float32)
  kinds = (evidence_lib.MOVED, evidence_lib.NOISY)
  return {evidence_lib.on_copies("correctness", kind): right for kind in kinds}


def null_rows(
  attacks: Sequence[str],
  *,
  num_models: int,
  ties: bool,
  num_simulations: int,
  num_calibrating: int = 60,
  features: bool = False,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns a row for each attack: how often its claims on nothing are wrong.

  `auc_missed` is the share of simulations whose 95 % interval lies to one side of .5;
  `p_at_most` the share of evaluated samples with a p-value at or below each of
  `LEVELS`, with its standard error over simulations.

  Args:
    attacks: names, with options if need be; those that lack models have no row.
    num_models: as in `evidence`.
    ties: as in `evidence`.
    num_simulations: at least 2.
    num_calibrating: as in `evidence`; of `n` the least p-value is 1 / (1 + n).
    features: as in `evidence`.
    seed: of the draws.
    progress: told of simulations.
  """
  scores = _scores(
    attacks,
    num_simulations,
    seed,
    progress,
    num_models=num_models,
    ties=ties,
    num_calibrating=num_calibrating,
    features=features,
  )
  found = []
  for attack, (of_samples, of_calibration, members) in scores.items():
    auc = intervals.auc(of_samples, members)
    p = _p_values(of_samples, of_calibration)
    shares = np.array([(p <= level).mean(axis=1) for level in LEVELS])
    errors = shares.std(axis=1, ddof=1) / np.sqrt(num_simulations)
    found.append(
      {
        "attack": attack,
        "num_models": num_models,
        "ties": ties,
        "num_calibrating": num_calibrating,
        "num_simulations": num_simulations,
        "auc_missed": float(((auc.low > 0.5) | (auc.high < 0.5)).mean()),
        "p_at_most": _by_level(shares.mean(axis=1)),
        "p_error": _by_level(errors),
      }
    )
  return found


def discovery_rows(
  attacks: Sequence[str],
  *,
  share: float,
  num_simulations: int,
  num_models: int = 8,
  num_samples: int = 200,
  num_calibrating: int = 400,
  level: float = 0.1,
  shift: float = 8.0,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns a row for each attack: the false discovery rate that is realised.

  Args:
    attacks: as in `null_rows`.
    share: of the samples that are members, and stand out by `shift`.
    num_simulations: at least 2.
    num_models: as in `evidence`, as are the next two.
    num_samples: those evaluated.
    num_calibrating: those that calibrate.
    level: at which members are said to be found.
    shift: of a member's logit.
    seed: of the draws.
    progress: told of simulations.
  """
  num_members = round(share * num_samples)
  scores = _scores(
    attacks,
    num_simulations,
    seed,
    progress,
    num_models=num_models,
    num_samples=num_samples,
    num_calibrating=num_calibrating,
    num_members=num_members,
    shift=shift,
  )
  found = []
  for attack, (of_samples, of_calibration, members) in scores.items():
    p = _p_values(of_samples, of_calibration)
    called = np.array([conformal.q_values(of_one) <= level for of_one in p])
    wrong = (called & ~members).sum(axis=1) / np.maximum(called.sum(axis=1), 1)
    found.append(
      {
        "attack": attack,
        "share": share,
        "level": level,
        "num_models": num_models,
        "num_simulations": num_simulations,
        "false_discovery_rate": float(wrong.mean()),
        "error": float(wrong.std(ddof=1) / np.sqrt(num_simulations)),
        "found": float(called[:, members].mean()) if num_members else None,
      }
    )
  return found


def _scores(attacks, num_simulations, seed, progress, **settings) -> dict[str, Any]:
  """Attack -> scores `[S, N]`, those that calibrate, and the members `[N]`."""
  scores: dict[str, list[np.ndarray]] = {}
  members = calibrates = np.zeros(0, bool)
  for _, rng in monte_carlo.draws(num_simulations, seed, progress):
    drawn = evidence(rng, **settings)
    assert drawn.calibrates is not None, "they are drawn"
    calibrates, members = drawn.calibrates, drawn.members
    for name in attacks:
      attack = registry.get(name)
      if registry.lacking(drawn, attack) is None:
        of_one = np.asarray(attack.score(drawn, **attack.options))
        scores.setdefault(name, []).append(of_one)
  each = {name: np.stack(of_attack) for name, of_attack in scores.items()}
  return {
    name: (s[:, ~calibrates], s[:, calibrates], members[~calibrates])
    for name, s in each.items()
  }


def _by_level(values: np.ndarray) -> dict[str, float]:
  return dict(zip(map(str, LEVELS), values.tolist(), strict=True))


def _p_values(scores: np.ndarray, of_calibration: np.ndarray) -> np.ndarray:
  pairs = zip(scores, of_calibration, strict=True)
  return np.stack([conformal.p_values(*pair) for pair in pairs])
