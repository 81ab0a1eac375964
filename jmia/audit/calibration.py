"""Rows of an evidence's population that are set apart to calibrate p-values."""

from collections.abc import Mapping

import numpy as np

from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import Evidence, Group

Signals = Mapping[str, np.ndarray]
SHARE = 0.25  # of the population, or of a target's non-members


def set_apart(evidence: Evidence, *, seed: int = 0) -> tuple[Evidence, list[str]]:
  """Sets a quarter of the population apart to calibrate p-values, if it can.

  Rows are drawn from those that no model compared with was trained on, whatever their
  answers, and no attack has them in its population any more. They serve where no
  model was trained on the samples either: else rows and samples are not alike.

  Args:
    evidence: of `from_arrays`.
    seed: of the draw.

  Returns:
    The evidence, whose samples are followed by those rows, and notes: what the
    p-values take for granted, or why there are none.
  """
  if evidence.calibrates is not None:
    return evidence, []
  reason, rows = _calibration(evidence, seed)
  if reason is not None:
    return evidence, [f"no p-values: {reason}"]
  number = len(rows)
  notes = [
    f"{number:,} of {len(evidence.population_labels):,} population rows are set apart"
    " to calibrate p-values, which hold if these rows are drawn as the non-members were"
  ]
  lacking = [
    name
    for name, group in evidence.groups.items()
    if not set(group.signals) <= set(group.population)
  ]
  if lacking:
    notes.append(
      f"no p-values of attacks with the models {', '.join(lacking)}: they were not"
      " asked about the population, or not for as much"
    )
  return _moved(evidence, rows), notes


def _calibration(evidence: Evidence, seed: int) -> tuple[str | None, np.ndarray]:
  """Why no rows calibrate, or those that do."""
  size, none = len(evidence.population_labels), np.zeros(0, int)
  if not size or not evidence.population:
    return (
      "they take answers on rows that no model was trained on, population_logits and"
      " reference_population_logits, or calibrates",
      none,
    )
  missing = set(evidence.signals) - set(evidence.population)
  if missing:
    return f"the population's answers do not give {sorted(missing)[0]}", none
  if any(group.held.any() for group in evidence.groups.values()):
    return (
      "models compared with were trained on samples, so that population rows are not"
      " like them; mark non-members that are to calibrate in calibrates",
      none,
    )
  free = np.ones(size, bool)
  for group in evidence.groups.values():
    if group.population_held.size:
      free &= ~group.population_held.any(axis=0)
  number = min(int(SHARE * size), int(free.sum()))
  if number == 0 or size - number < 2:
    return (
      f"{free.sum()} of {size} population rows were trained on by no model: too few",
      none,
    )
  rng = np.random.default_rng(seed)
  return None, np.sort(rng.choice(np.flatnonzero(free), number, replace=False))


def _moved(evidence: Evidence, rows: np.ndarray) -> Evidence:
  """The evidence with rows of the population behind its samples."""
  number, num_samples = len(rows), len(evidence.labels)
  labels = evidence.population_labels
  return evidence._replace(
    index=np.append(evidence.index, num_samples + rows),
    labels=np.append(evidence.labels, labels[rows]),
    members=np.append(evidence.members, np.zeros(number, bool)),
    signals=_with_rows(evidence.signals, evidence.population, rows, axis=0),
    population_labels=np.delete(labels, rows),
    population=_without_rows(evidence.population, rows, axis=0),
    groups={name: _moved_in(group, rows) for name, group in evidence.groups.items()},
    calibrates=np.repeat([False, True], [num_samples, number]),
  )


def _moved_in(group: Group, rows: np.ndarray) -> Group:
  """A group likewise; models that were not asked about the rows stand for none."""
  known = len(group.population_labels) > 0
  is_asked = known and set(group.signals) <= set(group.population)
  out = np.full((len(group.held), len(rows)), is_asked and len(group.signals) > 0)
  cut = lambda array: np.delete(array, rows, axis=-1) if known else array  # noqa: E731
  signals, population = group.signals, group.population
  return group._replace(
    held=np.append(group.held, np.zeros_like(out), axis=1),
    out=np.append(group.out, out, axis=1),
    signals=(
      _with_rows(signals, population, rows, axis=1)
      if is_asked
      else _with_zeros(signals, len(rows))
    ),
    population_held=cut(group.population_held),
    population_out=cut(group.population_out),
    population=_without_rows(population, rows, axis=1) if known else population,
    population_labels=cut(group.population_labels),
  )


def _with_rows(
  samples: Signals, population: Signals, rows: np.ndarray, axis: int
) -> Signals:
  """Signals of the samples, and of rows of the population behind them."""

  def compute(name: str) -> np.ndarray:
    parts = [samples[name], population[name].take(rows, axis=axis)]
    return np.concatenate(parts, axis=axis)

  return evidence_lib.Lazy(samples, compute)


def _without_rows(population: Signals, rows: np.ndarray, axis: int) -> Signals:
  """Signals of the other rows of the population."""
  return evidence_lib.Lazy(
    population, lambda name: np.delete(population[name], rows, axis=axis)
  )


def _with_zeros(samples: Signals, number: int) -> Signals:
  """A group's signals on the samples, and zeros for rows that were not asked about."""

  def compute(name: str) -> np.ndarray:
    values = samples[name]
    return np.pad(values, [(0, 0), (0, number), *[(0, 0)] * (values.ndim - 2)])

  return evidence_lib.Lazy(samples, compute)
