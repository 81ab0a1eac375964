"""Defences by name and strength: `plan` says what they change, `build` trains so."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import math
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jmia import _validate, models
from jmia import types as types_lib
from jmia.defenses import dp_sgd, early_stopping, softening, stacking
from jmia.defenses import output as output_lib
from jmia.training import augment
from jmia.training import config as config_lib
from jmia.training import recipe as recipe_lib

_OF_DP_SGD = ("delta", "clip_norm", "microbatch_size")
_LARGEST_COUNT = 2**31 - 1  # an array's axis takes no more


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefenseConfig:
  """One defence.

  Attributes:
    name: one of `names()`.
    strength: what it means depends on the defence (`describe`); None for those that
      have none.
    delta: of DP-SGD, whose strength is epsilon; as are those that follow.
    clip_norm: L2 norm that each example's gradient is clipped to.
    microbatch_size: examples whose gradients are held at once.
  """

  name: str
  strength: float | None = None
  delta: float = 1e-5
  clip_norm: float = 1.0
  microbatch_size: int = 16

  def __post_init__(self) -> None:
    _validate.known("defense", self.name, _DEFENSES)
    meaning = _DEFENSES[self.name].meaning
    if (self.strength is None) != (meaning is None):
      expected = "none" if meaning is None else f"a strength, {meaning}"
      raise ValueError(
        f"defense {self.name!r} has strength {self.strength}, expected {expected}"
      )
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name in _OF_DP_SGD and self.name != "dp_sgd" and value != field.default:
        raise ValueError(
          f"defense {self.name!r} has {field.name}={value}, which is of 'dp_sgd'"
        )

  def __str__(self) -> str:
    """As `parse` takes it, without DP-SGD's settings."""
    if self.strength is None:
      return self.name
    short = f"{self.strength:g}"
    is_whole = float(short) == self.strength
    return f"{self.name}:{short if is_whole else float(self.strength)}"


class Plan(NamedTuple):
  """What defences change.

  Attributes:
    train: settings: weight decay, dropout.
    transforms: data seams, in order, before features are scaled.
    loss: loss seam.
    gradient: gradient seam.
    batches: which rows each step sees; None for all members, shuffled.
    wrap: makes another recipe of the recipe.
    output: output seam.
    mechanism: of DP-SGD, with the guarantee; None without it.
  """

  train: config_lib.TrainConfig
  transforms: tuple[recipe_lib.Transform, ...] = ()
  loss: Callable[[recipe_lib.Loss], recipe_lib.Loss] = lambda loss: loss
  gradient: recipe_lib.Gradient = recipe_lib.value_and_grad
  batches: recipe_lib.Batches | None = None
  wrap: Callable[[config_lib.Trainable], config_lib.Trainable] = lambda t: t
  output: output_lib.Output = lambda logits: logits
  mechanism: dp_sgd.Mechanism | None = None


class _Problem(NamedTuple):
  """What a defence may have to know."""

  dataset: types_lib.Dataset
  num_members: int


class _Defense(NamedTuple):
  """How a defence changes a plan.

  Attributes:
    apply: (plan, config, problem) -> plan.
    meaning: of its strength; None if it has none.
    is_output: whether it acts on predictions alone, and training is as without it.
    is_of_run: whether it says which rows a step sees or wraps the recipe, so that only
      `build`'s recipe can carry it.
    mixes_examples: whether an example's gradient depends on other examples, or they
      are used outside of gradients: what DP-SGD does not allow.
    unsuited: dataset -> what it holds that the defence is not made for, or "".
  """

  apply: Callable[[Plan, DefenseConfig, _Problem], Plan]
  meaning: str | None
  is_output: bool = False
  is_of_run: bool = False
  mixes_examples: bool = False
  unsuited: Callable[[types_lib.Dataset], str] = lambda dataset: ""


def names() -> tuple[str, ...]:
  """Returns the names of the defences."""
  return tuple(_DEFENSES)


def describe() -> dict[str, str | None]:
  """Returns what each defence's strength means; None for those without."""
  return {name: defense.meaning for name, defense in _DEFENSES.items()}


def acts_on_output(name: str) -> bool:
  """Whether a defence changes predictions alone: its models are those without it."""
  _validate.known("defense", name, _DEFENSES)
  return _DEFENSES[name].is_output


def suits(name: str, dataset: types_lib.Dataset) -> bool:
  """Whether a defence is made for what the dataset's rows hold."""
  _validate.known("defense", name, _DEFENSES)
  return not _DEFENSES[name].unsuited(dataset)


def acts_on_step(name: str) -> bool:
  """Whether a defence changes settings, data, loss or gradient of a step, no more."""
  return not acts_on_output(name) and not _DEFENSES[name].is_of_run


def parse(text: str, **options: Any) -> DefenseConfig:
  """Returns the defence written as `NAME` or `NAME:STRENGTH`, such as `dp_sgd:2`.

  Args:
    text: as said; a strength may be `inf`.
    **options: further fields of DP-SGD's configuration; left out of others, for those
      that are given to many defences at once.

  Raises:
    ValueError: if it is no such text, the name is unknown, or a strength is missing or
      too many.
  """
  name, colon, written = text.strip().partition(":")
  strength = None
  if colon:
    try:
      strength = float(written)
    except ValueError:
      raise ValueError(
        f"defense {text!r} has the strength {written!r}, expected a number"
      ) from None
  return DefenseConfig(
    name=name, strength=strength, **(options if name == "dp_sgd" else {})
  )


def notes(
  defenses: Sequence[DefenseConfig], train: config_lib.TrainConfig
) -> list[str]:
  """Says so where training has more of what a defence is than the defence.

  Args:
    defenses: of the models.
    train: the settings without them.
  """
  model = models.make(train.model, 2, **dict(train.model_options))
  own = {
    "l2": train.optimizer.weight_decay,
    "dropout": getattr(model, "dropout_rate", 0.0),
  }
  return [
    f"{defense} weakens the training that it is meant to defend: without it"
    f" {_DEFENSES[defense.name].meaning} is {own[defense.name]:g}"
    for defense in defenses
    if (defense.strength or 0.0) < own.get(defense.name, 0.0)
  ]


def plan(
  defenses: Sequence[DefenseConfig],
  train: config_lib.TrainConfig,
  dataset: types_lib.Dataset,
  *,
  num_members: int,
) -> Plan:
  """Returns what defences change in the training of models of a dataset.

  Args:
    defenses: applied together, in order; none leaves training as it is.
    train: the settings without them.
    dataset: gives shapes and scale.
    num_members: of the models, for which DP-SGD's sampling rate is chosen.

  Raises:
    ValueError: a strength is out of range, a defence is named twice or is not for such
      rows, or DP-SGD is asked for with one that its guarantee does not hold for.
    ImportError: DP-SGD's packages are not installed.
  """
  used = [defense.name for defense in defenses]
  twice = sorted({name for name in used if used.count(name) > 1})
  if twice:
    raise ValueError(f"defense {twice[0]!r} is named {used.count(twice[0])} times")
  mixing = [name for name in used if _DEFENSES[name].mixes_examples]
  if "dp_sgd" in used and mixing:
    raise ValueError(
      f"defense 'dp_sgd' cannot go with {mixing[0]!r}, which uses an example outside"
      " of its own clipped gradient: the guarantee would not hold"
    )
  changed = Plan(train)
  for defense in defenses:
    apply, unsuited = _DEFENSES[defense.name].apply, _DEFENSES[defense.name].unsuited
    if found := unsuited(dataset):
      raise ValueError(f"defense {defense.name!r}: {dataset.name} holds {found}")
    changed = apply(changed, defense, _Problem(dataset, num_members))
  return changed


def build(
  plan: Plan,
  dataset: types_lib.Dataset,
  *,
  transforms: tuple[recipe_lib.Transform, ...] = (),
) -> config_lib.Trainable:
  """Returns the defended recipe and predictor, as `training.config.build`.

  Args:
    plan: of `plan`.
    dataset: what it was made for.
    transforms: data seams that go before the defences', such as a mark.

  Raises:
    ValueError: as `training.config.build`.
  """
  plain = config_lib.build(
    plan.train,
    dataset,
    transforms=(*transforms, *plan.transforms),
    loss=plan.loss,
    gradient=plan.gradient,
    batches=plan.batches,
  )
  recipe, predict = plan.wrap(plain)

  def predict_defended(variables: Any, x: jax.Array) -> jax.Array:
    return plan.output(predict(variables, x))

  return config_lib.Trainable(recipe, predict_defended)


def chose_epoch(defenses: Sequence[DefenseConfig], state: Any, job: Any) -> jax.Array:
  """Returns `[K]` bool: members that chose an epoch and got no gradient; traceable.

  Args:
    defenses: those that the model was trained with.
    state: of the trained model, by `build`'s recipe.
    job: the model's, with `member_idx` and `num_members`.
  """
  strengths = {defense.name: defense.strength for defense in defenses}
  share = strengths.get("early_stopping")
  num_slots = job.member_idx.shape[0]
  if share is None:
    return jnp.zeros(num_slots, bool)
  if isinstance(state, early_stopping.State):
    return early_stopping.is_validation(state.inner.key, job, share)
  # Each of the stacked models stopped by members of its own part.
  assert isinstance(state, stacking.State)
  slots = job._replace(member_idx=jnp.arange(num_slots))
  num_parts = _whole("num_parts", strengths["stacking"])
  jobs = stacking.base_jobs(state.key, slots, num_parts)
  chose = jax.vmap(early_stopping.is_validation, (0, 0, None))(
    state.bases.inner.key, jobs, share
  )
  return jnp.zeros(num_slots, bool).at[jobs.member_idx].max(chose)


def _output(make: Callable[..., output_lib.Output]):
  def apply(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
    del problem
    before = plan.output
    after = make() if config.strength is None else make(config.strength)
    return plan._replace(output=lambda logits: after(before(logits)))

  return apply


def _transform(make: Callable[[float], recipe_lib.Transform]):
  def apply(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
    del problem
    added = make(config.strength or 0)
    return plan._replace(transforms=(*plan.transforms, added))

  return apply


def _rand_augment(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  white = 1 / problem.dataset.feature_scale
  added = augment.rand_augment(config.strength or 0, white)
  return plan._replace(transforms=(*plan.transforms, added))


def _no_images(dataset: types_lib.Dataset) -> str:
  shape = dataset.x.shape[1:]
  # Of a sequence [T, F] the columns would be mirrored or moved, for want of a width.
  return "" if len(shape) == 3 else f"rows of shape {shape}, expected [H, W, channels]"


def _beyond_white(dataset: types_lib.Dataset) -> str:
  if found := _no_images(dataset):
    return found
  # What lies outside would be cut off in training, and not when the model is asked.
  low, high = float(dataset.x.min()), float(dataset.x.max())
  white = 1 / dataset.feature_scale
  if low >= 0 and high <= white * (1 + 1e-6):
    return ""
  return f"values from {low:g} to {high:g}, expected from black, 0, to white, {white:g}"


def _not_bits(dataset: types_lib.Dataset) -> str:
  if dataset.holds_bits:
    return ""
  return f"{dataset.x.dtype} values up to {dataset.x.max():g}, expected bits as uint8"


def _l2(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  del problem
  decay = config.strength or 0.0
  optimizer = dataclasses.replace(plan.train.optimizer, weight_decay=decay)
  return plan._replace(train=dataclasses.replace(plan.train, optimizer=optimizer))


def _dropout(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  del problem
  options = {**dict(plan.train.model_options), "dropout_rate": config.strength}
  train = dataclasses.replace(plan.train, model_options=tuple(options.items()))
  return plan._replace(train=train)


def _label_smoothing(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  del problem
  before, smooth = plan.loss, softening.label_smoothing(config.strength or 0)
  return plan._replace(loss=lambda loss: smooth(before(loss)))


def _early_stopping(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  del problem
  before, share = plan.wrap, config.strength or 0
  return plan._replace(wrap=lambda t: early_stopping.wrap(before(t), share))


def _stacking(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  before, num_parts = plan.wrap, _whole("num_parts", config.strength)
  if num_parts > problem.num_members:
    raise ValueError(
      f"num_parts={num_parts} is above num_members={problem.num_members}: a part would"
      " be empty"
    )
  stack = functools.partial(
    stacking.wrap,
    num_parts=num_parts,
    num_classes=problem.dataset.num_classes,
    batch_size=plan.train.batch_size,
  )
  return plan._replace(wrap=lambda t: stack(before(t)))


def _dp_sgd(plan: Plan, config: DefenseConfig, problem: _Problem) -> Plan:
  private = dp_sgd.DPConfig(
    epsilon=config.strength or 0,
    delta=config.delta,
    clip_norm=config.clip_norm,
    microbatch_size=config.microbatch_size,
  )
  train = plan.train
  run = dp_sgd.mechanism(
    private,
    num_members=problem.num_members,
    batch_size=train.batch_size,
    num_epochs=train.num_epochs,
  )
  return plan._replace(
    gradient=dp_sgd.noisy_gradient(
      private.clip_norm,
      run.noise_multiplier,
      train.batch_size,
      private.microbatch_size,
    ),
    batches=dp_sgd.poisson(run, run.num_steps // train.num_epochs),
    mechanism=run,
  )


def _whole(name: str, value: float | None) -> int:
  """Returns a strength that counts something; raises ValueError if it is none."""
  if value is None or not math.isfinite(value) or value != int(value):
    raise ValueError(f"{name}={value} must be a whole number")
  if abs(value) > _LARGEST_COUNT:
    raise ValueError(f"{name}={value:g} must be at most {_LARGEST_COUNT:,}")
  return int(value)


def _counted(name: str, make: Callable[[int], Any]) -> Callable[[float], Any]:
  return lambda strength: make(_whole(name, strength))


_DEFENSES: Mapping[str, _Defense] = types.MappingProxyType(
  {
    "top_k": _Defense(
      _output(_counted("k", output_lib.top_k)),
      "the number of probabilities given",
      is_output=True,
    ),
    "rounding": _Defense(
      _output(_counted("decimals", output_lib.rounding)),
      "the decimals given",
      is_output=True,
    ),
    "noise": _Defense(
      _output(output_lib.noise),
      "the standard deviation on a probability",
      is_output=True,
    ),
    "temperature": _Defense(
      _output(output_lib.temperature), "what logits are divided by", is_output=True
    ),
    "label_only": _Defense(_output(output_lib.label_only), None, is_output=True),
    "l2": _Defense(_l2, "the weight decay"),
    "dropout": _Defense(_dropout, "the share dropped"),
    "flip": _Defense(
      _transform(lambda _: augment.random_flip), None, unsuited=_no_images
    ),
    "crop": _Defense(
      _transform(_counted("padding", augment.random_crop)),
      "pixels of padding",
      unsuited=_no_images,
    ),
    "cutout": _Defense(
      _transform(_counted("side", augment.cutout)),
      "the side in pixels",
      unsuited=_no_images,
    ),
    "rand_augment": _Defense(
      _rand_augment, "the magnitude, up to 1", unsuited=_beyond_white
    ),
    "bit_flip": _Defense(
      _transform(augment.bit_flip), "the share of bits turned", unsuited=_not_bits
    ),
    "early_stopping": _Defense(
      _early_stopping,
      "the share of members that validate",
      is_of_run=True,
      mixes_examples=True,
    ),
    "label_smoothing": _Defense(_label_smoothing, "the share spread over classes"),
    "mixup": _Defense(
      _transform(softening.mixup), "alpha of Beta(alpha, alpha)", mixes_examples=True
    ),
    "stacking": _Defense(
      _stacking, "the number of parts", is_of_run=True, mixes_examples=True
    ),
    "dp_sgd": _Defense(_dp_sgd, "epsilon", is_of_run=True),
  }
)
