"""The settings of Hu et al.'s evaluation, and those chosen for other datasets.

Source: Hu et al., *Membership Inference via Backdooring*, section 5 and appendix A.2.
They say nothing of batches, of mirroring CIFAR-10 and of dropout, which are those of
the public code (github.com/HongshengHu/membership-inference-via-backdooring).
"""

from collections.abc import Mapping
import dataclasses
import types

from jmia import _validate
from jmia import types as types_lib
from jmia.backdoor import triggers
from jmia.defenses import registry
from jmia.training import config as config_lib
from jmia.training import optimizers

# Each trial its own rows, or the rows that the authors' public code draws, in each.
DRAWS = ("random", "authors")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How models are marked, trained and questioned.

  Attributes:
    train: of every model.
    defenses: that every model carries.
    trigger: the default one.
    marked_share: share of a model's rows that an owner marks by default.
    target_label: the default label of marked rows.
    flip: whether images are mirrored at random in training.
    test_share: share of the rows held out, where the publisher made no test split.
    draw: of `DRAWS`. Of the authors', see `plan.split`; random patterns are then
      Bernoulli(0.6), and trials differ in initial weights, batches and such patterns.
    num_members: rows each model trains on; None for all that are not held out.
    sizes: of the trigger, in the study of sizes.
    ratios: of marked rows among a model's, in the study of ratios.
    num_random: random patterns, and random labels, in each trial.
    num_owners: in the study of owners.
    num_accusers: owners whose claims are tried on each clean model, of `false_claims`.
    num_queries: of an owner, `m`.
    confidence: of the claim, tau.
  """

  train: config_lib.TrainConfig
  defenses: tuple[registry.DefenseConfig, ...] = ()
  trigger: triggers.TriggerConfig
  marked_share: float = 0.001
  target_label: int = 1
  flip: bool = False
  test_share: float = 0.2
  draw: str = "random"
  num_members: int | None = None
  sizes: tuple[int, ...]
  ratios: tuple[float, ...] = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01)
  num_random: int = 5
  num_owners: int = 10
  num_accusers: int = 100
  num_queries: int = 30
  confidence: float = 0.95

  def __post_init__(self) -> None:
    _validate.known("draw", self.draw, DRAWS)
    if self.num_members is not None:
      _validate.positive("num_members", self.num_members)
    for name in ("num_random", "num_owners", "num_accusers", "num_queries"):
      _validate.positive(name, getattr(self, name))
    for name in ("marked_share", "test_share", "confidence"):
      _validate.probability(name, getattr(self, name), open_interval=True)


def preset(dataset: types_lib.Dataset) -> Settings:
  """Returns the paper's settings of a dataset, or like ones where it has none.

  The trigger's value is the dataset's white.
  """
  settings = _PRESETS.get(dataset.name)
  if settings is None:
    settings = _OTHER_IMAGES if dataset.x.ndim > 2 else _OTHER_TABLES
    train = config_lib.preset(dataset.name)
    settings = dataclasses.replace(settings, train=train)
  value = triggers.white(dataset.x, dataset.feature_scale)
  trigger = dataclasses.replace(settings.trigger, value=value)
  return dataclasses.replace(settings, trigger=trigger)


def _paper(model: str, rate: float, boundaries: tuple[int, int], batch_size: int):
  """The paper's training: 150 epochs of SGD, its rate divided by 10 twice."""
  optimizer = optimizers.OptimizerConfig(
    learning_rate=rate, weight_decay=5e-4, schedule="piecewise", boundaries=boundaries
  )
  return config_lib.TrainConfig(
    model=model, optimizer=optimizer, batch_size=batch_size, num_epochs=150
  )


_PATCH, _BITS = triggers.PAPER["patch"], triggers.PAPER["bits"]
_PATCH_SIZES = (2, 4, 6, 8, 10, 12)
_BIT_SIZES = (1, 5, 10, 15, 20, 25)

_LOCATION = Settings(
  train=_paper("mlp_mib", 0.1, (50, 80), 64),
  trigger=_BITS,
  marked_share=0.002,  # 8 of 4,008
  sizes=_BIT_SIZES,
)
_PURCHASE = Settings(
  train=_paper("mlp_mib", 0.01, (100, 120), 128),
  trigger=_BITS,
  sizes=_BIT_SIZES,
)
_CIFAR = Settings(
  train=_paper("resnet18", 0.1, (80, 120), 128),
  trigger=_PATCH,
  flip=True,
  sizes=_PATCH_SIZES,
)
_MNIST = Settings(train=config_lib.preset("mnist"), trigger=_PATCH, sizes=_PATCH_SIZES)
# More, since a thousandth of the small sets that come this way is a row or two.
_SMALL = (0.0025, 0.005, 0.01, 0.02, 0.05)
_OTHER_IMAGES = Settings(
  train=config_lib.TrainConfig(),
  trigger=_PATCH,
  marked_share=0.02,
  sizes=_PATCH_SIZES,
  ratios=_SMALL,
)
_OTHER_TABLES = dataclasses.replace(_OTHER_IMAGES, trigger=_BITS, sizes=_BIT_SIZES)
_PRESETS: Mapping[str, Settings] = types.MappingProxyType(
  {
    "location30": _LOCATION,
    "purchase100": _PURCHASE,
    "purchase100_synthetic": _PURCHASE,
    "texas100": _PURCHASE,
    "cifar10": _CIFAR,
    "mnist": _MNIST,
  }
)
