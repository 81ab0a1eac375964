"""One target's view of a panel: the evidence that its attacker is given."""

from collections.abc import Mapping

import numpy as np

from jmia import signals
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import DIVERGENCE, FEATURES, LOGITS, Evidence, Group
from jmia.audit import panel as panel_lib
from jmia.audit.design import EVERY
from jmia.audit.panel import Panel

# Groups of which the other targets are part: they are trained as references are, and
# hold some of the samples.
WITH_TARGETS = ("reference", "in_out")
Masks = tuple[np.ndarray, np.ndarray]  # `[R, N]` bool: trained on, never seen


def evidence(
  panel: Panel,
  target: int,
  *,
  at: np.ndarray | None = None,
  others: Panel | None = None,
) -> Evidence | None:
  """Returns what the attacks are given of one target.

  A model that was trained on a sample is no part of that sample's null, and a model
  that diverged of none. A row that only chose the epoch of a model is neither in nor
  out of it, and no sample of that target.

  Args:
    panel: of `training.train`.
    target: its number.
    at: `[N]` evaluated positions. Default: the target's samples.
    others: the panel whose models it is compared with, of the same design. Default: its
      own.

  Returns:
    None if the target diverged, or, where each model was asked about rows of its own,
    all that it is compared with.
  """
  if panel.design.own is not None:
    return _of_own_rows(panel, target, others or panel)
  design, found = panel.design, panel.targets[target]
  assert found is not None, "a target that diverges ends the training"
  calibrates = None
  if at is None:
    at = np.arange(design.num_evaluated)
    at = at if design.samples is None else design.samples[target]
    if design.calibration is not None:
      rows = design.calibration[target]
      calibrates = np.repeat([False, True], [len(at), len(rows)])
      at = np.append(at, rows)
  model = design.models("target")[target]
  if panel.chose is not None:
    counts = ~panel.chose[model, at]
    at, calibrates = at[counts], None if calibrates is None else calibrates[counts]
  trained = panel.trained()
  whole = Evidence(
    index=design.rows[: design.num_evaluated],
    labels=panel.y[: design.num_evaluated],
    members=trained[model, : design.num_evaluated],
    num_classes=panel.num_classes,
    signals=_with_features(found.signals, panel, slice(design.num_evaluated)),
    population_labels=panel.y[design.population],
    population=_with_features(found.population, panel, design.population),
    groups=_groups(panel, target, (trained, panel.unseen())),
    seed=panel.seed,
  )
  return whole.at(at)._replace(calibrates=calibrates)


def _with_features(
  of: Mapping[str, np.ndarray], panel: Panel, rows: slice
) -> Mapping[str, np.ndarray]:
  if panel.x is None:
    return of
  return evidence_lib.joined({FEATURES: panel.x[rows]}, of)


def _groups(panel: Panel, target: int, masks: Masks) -> dict[str, Group]:
  """The groups that a target is compared with."""
  design, groups = panel.design, {}
  converged = [block.models[block.converged] for block in panel.blocks]
  is_other = np.isin(np.arange(len(design.role)), np.concatenate([[], *converged]))
  is_other &= np.isin(design.target, (EVERY, target))
  for name in ("reference", "in_out", "distilled", "left_out"):
    models = np.flatnonzero(is_other & (design.role == name))
    mates = [t for t in range(len(panel.targets)) if t != target]
    if name not in WITH_TARGETS or (name == "in_out" and not len(models)):
      mates = []
    if len(models) or mates:
      groups[name] = _group(panel, target, models, mates, masks)
  found = {name: group for name, group in groups.items() if group is not None}
  if "in_out" not in found and "reference" in found and found["reference"].held.any():
    found["in_out"] = found["reference"]  # they hold some samples, as in a cohort
  return found


def _group(
  panel: Panel, target: int, models: np.ndarray, mates: list[int], masks: Masks
) -> Group | None:
  """Other targets, and then other models; None if nothing was kept of their answers."""
  design = panel.design
  on_samples = _joined(panel, "signals", target, models, mates)
  population = _joined(panel, "population", target, models, mates)
  if not on_samples and not population:
    return None
  targets = design.models("target")
  rows = np.concatenate([targets[mates], models]).astype(int)
  trained, unseen = (mask[rows] for mask in masks)
  is_in, out = (mask[:, : design.num_evaluated] for mask in (trained, unseen))
  if design.serves is not None and not design.serves[rows].all():
    on_samples, is_in, out = _columns(on_samples, (is_in, out), design.serves[rows])
    nobody = evidence_lib.no_population(len(is_in))
    return Group(held=is_in, out=out, signals=on_samples, **nobody)
  return Group(
    held=is_in,
    out=out,
    signals=on_samples,
    population_held=trained[:, design.population],
    population_out=unseen[:, design.population],
    population=population,
    population_labels=panel.y[design.population],
  )


def _joined(
  panel: Panel, which: str, target: int, models: np.ndarray, mates: list[int]
) -> Mapping[str, np.ndarray]:
  """Signals of other targets and of other models, one after another."""
  parts = [_of_mate(panel, mate, which, target) for mate in mates]
  if len(models):
    parts.append(_of_others(panel, models, which, target))
  names = set.intersection(*map(set, parts))

  def compute(name: str) -> np.ndarray:
    found = [part[name] for part in parts]
    return found[0] if len(found) == 1 else np.concatenate(found)

  return evidence_lib.Lazy(sorted(names), compute)


def _of_mate(
  panel: Panel, mate: int, which: str, target: int
) -> Mapping[str, np.ndarray]:
  """Another target's signals, `[1, N, ...]`, with its divergence from this one."""
  answers, own = _of_target(panel, mate, which), _of_target(panel, target, which)

  def compute(name: str) -> np.ndarray:
    if name == DIVERGENCE:
      return np.asarray(signals.divergence(own[LOGITS], answers[LOGITS]))[None]
    return answers[name][None]

  extra = {DIVERGENCE} if LOGITS in answers and LOGITS in own else set()
  return evidence_lib.Lazy({*answers, *extra}, compute)


def _of_others(
  panel: Panel, models: np.ndarray, which: str, target: int
) -> Mapping[str, np.ndarray]:
  """Other models' signals, `[R, N, ...]`; all of them, where logits were kept."""
  (block,) = [b for b in panel.blocks if models[0] in b.models]  # of one role, one run
  kept, at = getattr(block, which), np.searchsorted(block.models, models)

  def compute(name: str) -> np.ndarray:
    values = kept[name][at, target] if name == DIVERGENCE else kept[name][at]
    if which == "population" or values.shape[1] == panel.design.num_evaluated:
      return values
    # What they were not asked about they do not serve.
    unasked = panel.design.num_evaluated - values.shape[1]
    return np.pad(values, [(0, 0), (0, unasked), *[(0, 0)] * (values.ndim - 2)])

  found = evidence_lib.Lazy(kept, compute)
  if LOGITS not in kept:
    return found
  rows = slice(panel.design.num_evaluated)
  rows = rows if which == "signals" else panel.design.population
  own = _of_target(panel, target, which).get(LOGITS)
  of_logits = evidence_lib.of_logits(kept[LOGITS][at], panel.y[rows], own)
  return evidence_lib.joined(of_logits, found)


def _of_target(panel: Panel, target: int, which: str) -> Mapping[str, np.ndarray]:
  found = panel.targets[target]
  assert found is not None
  return getattr(found, which)


def _columns(
  answers: Mapping[str, np.ndarray], masks: Masks, serves: np.ndarray
) -> tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]:
  """Puts each sample's own models on top of its column; 0 where it has fewer."""
  num_rows = max(int(serves.sum(axis=0).max()), 1)
  order = np.argsort(~serves, axis=0, kind="stable")[:num_rows]
  counts = np.take_along_axis(serves, order, axis=0)
  is_in, out = (np.take_along_axis(mask, order, axis=0) for mask in masks)

  def cut(name: str) -> np.ndarray:
    array = answers[name]
    shape = (*order.shape, *(1,) * (array.ndim - 2))
    picked = np.take_along_axis(array, order.reshape(shape), axis=0)
    return np.where(counts.reshape(shape), picked, 0)

  return evidence_lib.Lazy(answers, cut), is_in & counts, out & counts


def _of_own_rows(panel: Panel, target: int, others: Panel) -> Evidence | None:
  """The view where each model was asked about its own members and others."""
  design, found = panel.design, panel.targets[target]
  (of_others,) = others.blocks
  assert design.own is not None
  assert others.design.own is not None
  compared = (others.design.role != "target") & (others.design.target == target)
  models = np.flatnonzero(compared & of_others.converged)
  if found is None or not models.size:
    return None
  model = design.models("target")[target]
  rows = design.own[model]
  size = design.members.num_members[model]
  counts = _counts(others, models)
  sizes = others.design.members.num_members[models, None]
  is_member = np.arange(counts.shape[1]) < sizes
  on_samples = of_others.signals if others is panel else {}
  shape = (len(models), len(rows))
  group = Group(
    held=np.zeros(shape, bool),
    out=np.ones(shape, bool),
    signals={name: array[models] for name, array in on_samples.items()},
    population_held=is_member & counts,
    population_out=~is_member & counts,
    population=panel_lib.own_signals(others, models),
    population_labels=others.y[others.design.own[models]],
  )
  whole = Evidence(
    index=design.rows[rows],
    labels=panel.y[rows],
    members=np.arange(len(rows)) < size,
    num_classes=panel.num_classes,
    signals=found.signals,
    population_labels=np.zeros(0, np.int32),
    population={},
    groups={"reference": group},
    seed=panel.seed,
  )
  return whole.at(_counts(panel, np.array([model]))[0])


def _counts(panel: Panel, models: np.ndarray) -> np.ndarray:
  """Returns `[R, N]` bool, of models' own rows, those that chose no epoch."""
  assert panel.design.own is not None
  own = panel.design.own[models]
  if panel.chose is None:
    return np.ones(own.shape, bool)
  return ~np.take_along_axis(panel.chose[models], own, axis=1)
