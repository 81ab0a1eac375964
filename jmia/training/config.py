"""The settings of ordinary training, and the ones chosen for each dataset."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax

from jmia import _validate, models, types
from jmia.training import augment, optimizers
from jmia.training import recipe as recipe_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """How one classifier is trained.

  Attributes:
    model: a name that `models.make` knows.
    model_options: options of that model, as (name, value) pairs.
    optimizer: optimiser and schedule.
    batch_size: examples in a minibatch.
    num_epochs: passes over the members.
    clip_norm: global L2 norm a batch's gradient is clipped to; None for no clipping.
    compute_dtype: of activations and products; parameters stay float32.
    augmentation: how images are varied.
  """

  model: str = "mlp_256_128"
  model_options: tuple[tuple[str, Any], ...] = ()
  optimizer: optimizers.OptimizerConfig = dataclasses.field(
    default_factory=optimizers.OptimizerConfig
  )
  batch_size: int = 64
  num_epochs: int = 50
  clip_norm: float | None = None
  compute_dtype: str = "float32"
  augmentation: augment.AugmentConfig = dataclasses.field(
    default_factory=augment.AugmentConfig
  )

  def __post_init__(self) -> None:
    _validate.known("model", self.model, models.names())
    _validate.positive("batch_size", self.batch_size)
    _validate.positive("num_epochs", self.num_epochs)
    _validate.known("compute_dtype", self.compute_dtype, ("float32", "bfloat16"))
    if self.clip_norm is not None:
      _validate.positive("clip_norm", self.clip_norm)


def with_epochs(config: TrainConfig, num_epochs: int) -> TrainConfig:
  """Returns the training cut, or drawn out, its schedule's steps in proportion.

  Raises:
    ValueError: if `num_epochs` is below 1.
  """
  _validate.positive("num_epochs", num_epochs)
  boundaries = tuple(
    max(1, round(boundary * num_epochs / config.num_epochs))
    for boundary in config.optimizer.boundaries
  )
  optimizer = dataclasses.replace(config.optimizer, boundaries=boundaries)
  return dataclasses.replace(config, optimizer=optimizer, num_epochs=num_epochs)


class Trainable(NamedTuple):
  """A recipe, and how its trained models predict.

  Attributes:
    recipe: of `recipe.supervised`.
    predict: of `recipe.predictor`: (variables, x as stored) -> logits.
  """

  recipe: recipe_lib.Recipe
  predict: Callable[[Any, jax.Array], jax.Array]


def make_model(config: TrainConfig, dataset: types.Dataset) -> nn.Module:
  """Returns the module that `build` trains for a dataset.

  Raises:
    ValueError: if an option is unknown to the model.
  """
  options = {"dtype": config.compute_dtype, **dict(config.model_options)}
  return models.make(config.model, dataset.num_classes, **options)


def build(
  config: TrainConfig,
  dataset: types.Dataset,
  *,
  transforms: tuple[recipe_lib.Transform, ...] = (),
  loss: Callable[[recipe_lib.Loss], recipe_lib.Loss] = lambda loss: loss,
  gradient: recipe_lib.Gradient = recipe_lib.value_and_grad,
  batches: recipe_lib.Batches | None = None,
) -> Trainable:
  """Returns the recipe that a configuration means for a dataset.

  Args:
    config: the settings.
    dataset: gives the shape, the scale and the number of classes.
    transforms: data seams, as in `data_seam`.
    loss: loss seam, of the cross-entropy.
    gradient: gradient seam; `config.clip_norm` clips what it returns.
    batches: which rows each step sees. Default: all members, shuffled.

  Raises:
    ValueError: if an option is unknown to the model.
  """
  model = make_model(config, dataset)
  if config.clip_norm is not None:
    gradient = recipe_lib.clip_gradient(config.clip_norm, gradient)
  recipe = recipe_lib.supervised(
    model,
    optimizers.transformation(config.optimizer),
    example_shape=dataset.x.shape[1:],
    num_classes=dataset.num_classes,
    batch_size=config.batch_size,
    num_epochs=config.num_epochs,
    learning_rate=optimizers.schedule(config.optimizer, config.num_epochs),
    transform=data_seam(config, dataset, transforms),
    loss=loss(recipe_lib.cross_entropy(model)),
    gradient=gradient,
    batches=batches,
  )
  return Trainable(recipe, recipe_lib.predictor(model, dataset.feature_scale))


def data_seam(
  config: TrainConfig,
  dataset: types.Dataset,
  transforms: Sequence[recipe_lib.Transform] = (),
) -> recipe_lib.Transform:
  """Returns what becomes of a batch: `transforms`, augmentation, scaling to float32."""
  own = augment.transforms(config.augmentation, 1 / dataset.feature_scale)
  scaled = recipe_lib.normalize(dataset.feature_scale)
  return recipe_lib.chain(*transforms, *own, scaled)


_SMALLEST_IMAGE = 16  # an MLP is as good below, as on digits of 8 x 8
_SGD = optimizers.OptimizerConfig
_CNN = TrainConfig(
  model="cnn_32_64",
  optimizer=_SGD(learning_rate=0.05, schedule="cosine"),
  batch_size=64,
  num_epochs=20,
)
_PURCHASE = TrainConfig(
  model="mlp_purchase",
  optimizer=_SGD(learning_rate=0.1),
  batch_size=128,
  num_epochs=20,
)
# Hu et al. train Location-30 for 150 epochs; members are learnt by heart long before.
_LOCATION = TrainConfig(
  model="mlp_mib",
  optimizer=_SGD(
    learning_rate=0.1, weight_decay=5e-4, schedule="piecewise", boundaries=(30, 45)
  ),
  batch_size=64,
  num_epochs=60,
)
_DEFAULT = TrainConfig(optimizer=_SGD(learning_rate=0.1, schedule="cosine"))
# Page, "How to train your ResNet": 94 % on CIFAR-10's test images in 24 epochs. His
# weight decay, 5e-4 times the batch, is of a loss that is summed over it. Departures:
# the rate moves at the start of an epoch, to the mean of his; the last batch is a
# partial one, which he leaves out; the scales of normalisation are trained, and
# convolutions start from He's normal draws.
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_RESNET9 = TrainConfig(
  model="resnet9",
  model_options=(("mean", _CIFAR_MEAN), ("std", _CIFAR_STD)),
  optimizer=_SGD(
    learning_rate=0.4,
    nesterov=True,
    weight_decay=5e-4,
    schedule="linear",
    warmup=5 / 24,
  ),
  batch_size=512,
  num_epochs=24,
  augmentation=augment.AugmentConfig(crop=4, flip=True, cutout=8, fill=_CIFAR_MEAN),
)
# Networks that come with the training they are known for.
_RECIPES: Mapping[str, TrainConfig] = {"resnet9": _RESNET9}
_PRESETS: Mapping[str, TrainConfig] = {
  "location30": _LOCATION,
  "purchase100": _PURCHASE,
  "purchase100_synthetic": _PURCHASE,
  "texas100": _PURCHASE,
  "mnist": _CNN,
  "cifar10": _CNN,
  "cifar100": _CNN,
}


def preset(dataset_name: str, shape: tuple[int, ...] = ()) -> TrainConfig:
  """Returns the settings chosen for a dataset, or those for data of its kind.

  Args:
    dataset_name: as `types.Dataset.name`.
    shape: of an example. Where no settings were chosen, images `[H, W, channels]` of at
      least 16 x 16 get a convolutional network, and all else a small MLP.
  """
  is_image = len(shape) == 3 and min(shape[:2]) >= _SMALLEST_IMAGE
  return _PRESETS.get(dataset_name, _CNN if is_image else _DEFAULT)


def of_network(name: str, otherwise: TrainConfig) -> TrainConfig:
  """Returns the settings that a network comes with, or `otherwise` with that network.

  Args:
    name: as `models.make` knows it.
    otherwise: such as a dataset's preset.

  Raises:
    ValueError: if the name is unknown.
  """
  return _RECIPES.get(name) or dataclasses.replace(otherwise, model=name)
