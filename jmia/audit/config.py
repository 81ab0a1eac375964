"""The settings of an audit, and which models it trains for the attacks chosen."""

import dataclasses
import math

import numpy as np

from jmia import _validate, splits, types
from jmia.attacks import registry as attacks_lib
from jmia.audit import calibration
from jmia.audit import design as design_lib
from jmia.audit.design import Design, Part
from jmia.defenses import registry
from jmia.outputs import kinds
from jmia.stats import epsilon, nulls
from jmia.training import config as config_lib

DEFAULT_ATTACKS = (
  "population", "shadow", "reference", "distillation", "lira_offline", "rmia_offline",
)  # fmt: skip
# Where some models held a sample and some did not, these cost no further model.
_ONLINE = ("lira_online", "rmia_online")
REFERENCES = ("population", "in_out")
# Streams of the seed: each part of an audit draws from its own. Numbers are part of the
# results: add, never change.
_SPLIT, _REFERENCE, _STUDENT, _LEFT_OUT = range(4)
_IN_OUT, _TARGETS, _CALIBRATION, _SAMPLES = 6, 7, 8, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
  """Settings of an audit that trains models; sizes are rows.

  Attributes:
    attacks: names, with options if need be (`attacks.get`).
    num_targets: models trained alike and attacked, each compared with all others; the
      report gives the mean over them, with its interval.
    references: what the reference models are trained on. "population": none of the
      evaluated rows. "in_out": each on half of them, so that every sample is held by
      about half of the models, for attacks that need models with a sample and without.
    num_members: the target's training set. Default: a quarter of the dataset, at
      most 2,500.
    num_nonmembers: evaluated beside them. Default: as many as members.
    num_population: rows that calibrate attacks and train the models compared with.
      Default: the rest, at most four times the members.
    num_calibration: rows of the population, set apart, that calibrate the p-values: no
      model learns from them unless it learns from non-members too. Default: a quarter
      of it, or what the models compared with do not need. 0: there are no p-values.
    num_references: reference models, which are also the shadow models; and, to the next
      even number, models trained on halves of the evaluated rows, for attacks that need
      models with a sample and without it.
    num_distilled: models distilled from each target.
    num_left_out: samples attacked by leave-one-out, half of them members.
    num_retrained: models retrained for each of them.
    num_queries: copies of each image that models are asked about, the image itself, its
      mirror image and shifted ones, by the attacks that take them: LiRA sums over them,
      RMIA averages. Rows that are no images are asked about once.
    outputs: what a black box answers, one of `kinds.OUTPUTS`. Default: told from its
      answers, and those of models that the caller fits.
    estimator: one of `nulls.METHODS` for all attacks. Default: each attack's own.
    delta: at which the epsilon is shown that the attacks refute; DP-SGD's own, where
      the models carry it.
    train: how every model is trained. Default: the dataset's preset.
    defenses: that every model carries, the target too if it is trained here.
    near_copies: of images, how far thumbnails of a member and a non-member may differ
      that count as copies (`checks.split.near_copies`). Default: exact copies only.
    title: what the report calls the model. Default: its name and its data's.
    seed: of splits, training and the attacks' own draws.
    width: models trained at once, one target apart. Default: chosen from memory
      (`parallel.run`).
  """

  attacks: tuple[str, ...] = DEFAULT_ATTACKS
  num_targets: int = 1
  references: str = "population"
  num_members: int | None = None
  num_nonmembers: int | None = None
  num_population: int | None = None
  num_calibration: int | None = None
  num_references: int = 16
  num_distilled: int = 16
  num_left_out: int = 20
  num_retrained: int = 8
  num_queries: int = 1
  outputs: str = "auto"
  estimator: str | None = None
  delta: float = 0.0
  train: config_lib.TrainConfig | None = None
  defenses: tuple[registry.DefenseConfig, ...] = ()
  near_copies: float | None = None
  title: str | None = None
  seed: int = 0
  width: int | None = None

  def __post_init__(self) -> None:
    attacks_lib.check(self.attacks)
    if self.estimator is not None:
      _validate.known("estimator", self.estimator, nulls.METHODS)
    _validate.positive("num_targets", self.num_targets)
    _validate.positive("num_queries", self.num_queries)
    _validate.known("references", self.references, REFERENCES)
    _validate.known("outputs", self.outputs, kinds.OUTPUTS)
    epsilon.check_delta(self.delta)
    for name in ("num_references", "num_distilled", "num_left_out", "num_retrained"):
      if getattr(self, name) < 2:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 2")
    sizes = ("num_members", "num_nonmembers", "num_population", "width")
    for name in (*sizes, "near_copies"):
      if getattr(self, name) is not None:
        _validate.positive(name, getattr(self, name))
    if self.num_calibration is not None and self.num_calibration < 0:
      raise ValueError(f"num_calibration={self.num_calibration} must be at least 0")
    _validate.key_seed("seed", self.seed)

  def options(self) -> dict[str, str]:
    """Options that are given to every attack that has them."""
    return {} if self.estimator is None else {"estimator": self.estimator}

  def needs(self) -> attacks_lib.Needs:
    """What the attacks take, together."""
    chosen = [attacks_lib.get(name, **self.options()) for name in self.attacks]
    needs = attacks_lib.union([need for one in chosen for need in one.all_needs()])
    return dataclasses.replace(needs, num_queries=self.num_queries)


def split_of(
  dataset: types.Dataset, config: AuditConfig, split: types.AuditSplit | None
) -> types.AuditSplit:
  """Returns a split that was given, once it is checked, or draws one.

  Args:
    dataset: whose rows are split.
    config: sizes and seed of a draw.
    split: that was given, if one was.

  Raises:
    ValueError: if sizes do not fit the dataset, or parts of a split overlap.
  """
  if split is not None:
    return splits.check_disjoint(split, dataset.num_examples)
  num_members = config.num_members or min(dataset.num_examples // 4, 2500)
  num_nonmembers = config.num_nonmembers or num_members
  rest = dataset.num_examples - num_members - num_nonmembers
  split = splits.audit(
    dataset.num_examples,
    num_members=num_members,
    num_nonmembers=num_nonmembers,
    num_population=config.num_population or max(1, min(rest, 4 * num_members)),
    seed=(config.seed, _SPLIT),
  )
  if len(split.population) < num_members and _from_population(config):
    raise ValueError(
      f"num_members={num_members} is above the population's "
      f"{len(split.population)} rows, on which the models compared with are trained: "
      "lower num_members or num_nonmembers, or raise num_population"
    )
  return split


def design_of(split: types.AuditSplit, config: AuditConfig) -> Design:
  """Returns the models that the attacks need.

  The first target is trained on the split's members, further ones on as many of the
  evaluated and the calibration rows, drawn for each. References, and students of each
  target, are trained on draws of the population; models in and out on halves of the
  evaluated and the calibration rows together.

  Raises:
    ValueError: the population has fewer rows than an attack needs.
  """
  num_calibration = num_calibration_of(split, config)
  design = design_lib.of_split(split, num_calibration, seed=(config.seed, _CALIBRATION))
  needs, size = config.needs(), train_size(split, config)
  _check_population(design.num_population, config)
  population = np.arange(len(design.rows), dtype=np.int32)[design.population]
  evaluated = np.arange(design.num_evaluated, dtype=np.int32)
  targets = list(design.parts)
  if config.num_targets > 1:
    more = splits.draw(
      evaluated,
      len(split.members),
      config.num_targets - 1,
      seed=(config.seed, _TARGETS),
    )
    targets.append(Part("target", more))
    design = _with_samples(design, config, more.member_idx)
  everyone = np.concatenate([part.members.member_idx for part in targets])
  parts = []
  if config.references == "in_out" and {"reference", "in_out"} & needs.groups.keys():
    parts.append(Part("reference", _halves(config, evaluated, len(split.members))))
  elif "reference" in needs.groups:
    drawn = splits.draw(
      population, size, config.num_references, seed=(config.seed, _REFERENCE)
    )
    parts.append(Part("reference", drawn))
  if "distilled" in needs.groups:
    for target in range(config.num_targets):
      seed = _of_target(config.seed, _STUDENT, target)
      drawn = splits.draw(population, size, config.num_distilled, seed=seed)
      parts.append(Part("distilled", drawn, target=target, teacher=target))
  if "in_out" in needs.groups and config.references == "population":
    parts.append(Part("in_out", _halves(config, evaluated, len(split.members))))
  if "left_out" in needs.groups:
    parts += [
      _left_out(config, design, members, target)
      for target, members in enumerate(everyone)
    ]
  return design._replace(parts=(*targets, *parts))


def _check_population(num: int, config: AuditConfig) -> None:
  """Raises ValueError where an attack needs more rows of the population than `num`."""
  for name in config.attacks:
    for needs in attacks_lib.get(name, **config.options()).all_needs():
      if num < needs.num_population:
        raise ValueError(
          f"attack {name!r} needs {needs.num_population} rows of the population, of"
          f" {num} that do not calibrate: raise num_population, lower num_calibration,"
          " or leave it out"
        )


def _of_target(seed: int, stream: int, target: int) -> tuple[int, ...]:
  return (seed, stream, target) if target else (seed, stream)


def default_attacks(references: str, num_targets: int) -> tuple[str, ...]:
  """Returns the attacks that models compared with by default allow."""
  if references == "in_out" or num_targets > 1:
    return (*DEFAULT_ATTACKS, *_ONLINE)
  return DEFAULT_ATTACKS


def _halves(config: AuditConfig, evaluated: np.ndarray, most: int) -> types.Splits:
  """Halves of the rows, or of a half as many as the target has.

  A half is larger where rows calibrate too.
  """
  num_pairs = (config.num_references + 1) // 2
  halves = splits.paired(evaluated, num_pairs, seed=(config.seed, _IN_OUT))
  return halves._replace(num_members=np.minimum(halves.num_members, most))


def _with_samples(design: Design, config: AuditConfig, more: np.ndarray) -> Design:
  """Further targets' samples and calibration rows: members, and draws of the rest."""
  assert design.samples is not None
  num_calibration = design.num_evaluated - design.samples.shape[1]
  samples, calibration = [design.samples[0]], [np.arange(design.num_evaluated)]
  calibration[0] = calibration[0][len(samples[0]) :]
  for target, members in enumerate(more):
    generator = np.random.default_rng((config.seed, _SAMPLES, target))
    others = np.setdiff1d(np.arange(design.num_evaluated), members)
    others = generator.permutation(others)
    samples.append(np.append(members, others[num_calibration:]))
    calibration.append(others[:num_calibration])
  return design._replace(
    samples=np.stack(samples),
    calibration=np.stack(calibration) if num_calibration else None,
  )


def _left_out(config, design: Design, members, target) -> Part:
  """Models without each of some members, drawn as the non-members beside them are."""
  assert design.samples is not None
  none = np.zeros(0, int)
  calibrating = none if design.calibration is None else design.calibration[target]
  seed = _of_target(config.seed, _LEFT_OUT, target)
  generator = np.random.default_rng(seed)
  samples = generator.permutation(members)
  nonmembers = generator.permutation(np.setdiff1d(design.samples[target], members))
  num_members = config.num_left_out // 2
  return design_lib.left_out(
    members,
    samples[:num_members],
    np.append(nonmembers[: config.num_left_out - num_members], calibrating),
    config.num_retrained,
    design.num_evaluated,
    target=target,
  )


def num_calibration_of(split: types.AuditSplit, config: AuditConfig) -> int:
  """Returns how many rows of the population calibrate.

  Raises:
    ValueError: if `num_calibration` leaves fewer than 2 of its rows to the attacks.
  """
  available = len(split.population)
  if config.num_calibration is not None:
    if config.num_calibration > available - 2:
      raise ValueError(
        f"num_calibration={config.num_calibration} leaves fewer than 2 of the"
        f" population's {available} rows to the attacks"
      )
    return config.num_calibration
  needs, needed = config.needs(), 0
  if _from_population(config):
    num_members = len(split.members)
    needed = math.ceil(num_members * 5 / 4) if _holds_out(needs) else num_members
  return max(0, min(int(calibration.SHARE * available), available - needed))


def train_size(split: types.AuditSplit, config: AuditConfig) -> int:
  """Returns on how many rows models train: the target's, if the population has them.

  Where an attack takes references' answers on the population, a fifth of it is kept
  from each.
  """
  available = len(split.population) - num_calibration_of(split, config)
  if _holds_out(config.needs()):
    available -= math.ceil(available / 5)
  return min(len(split.members), available)


def _holds_out(needs: attacks_lib.Needs) -> bool:
  """Whether some of the population must be held out of each reference."""
  of_references = needs.groups.get("reference")
  return of_references is not None and bool(of_references.population)


def notes_of(split: types.AuditSplit, config: AuditConfig) -> list[str]:
  """Says so where the models compared with had to be trained on fewer rows."""
  size, wanted = train_size(split, config), len(split.members)
  if size == wanted or not _from_population(config):
    return []
  return [
    f"the population has {len(split.population)} rows, so the models compared with "
    f"are trained on {size} where the target has {wanted}: they fit less "
    "well, which makes every sample look more like a member"
  ]


def _from_population(config: AuditConfig) -> bool:
  """Whether models are trained on the population."""
  groups = {"distilled"}
  if config.references == "population":
    groups.add("reference")
  return bool(groups & config.needs().groups.keys())
