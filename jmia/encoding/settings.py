"""The setups of Song and Shokri's evaluation, and a small one that anyone can run."""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any

from jmia import _validate
from jmia.defenses import registry
from jmia.encoding import encode
from jmia.encoding import keys as keys_lib
from jmia.training import config as config_lib
from jmia.training import optimizers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """One dataset and model of the evaluation.

  Attributes:
    dataset: its name.
    train: the classifier and its training.
    num_members: rows D_C.
    num_test: rows that members are told from, and that accuracy is measured on.
    num_clusters: classes to make by k-means; None keeps the dataset's labels.
    encoded_share: share of the members that is encoded, at random.
    discriminator_rate: eta_d.
    discriminator_steps: k, which the paper leaves open.
    num_synthetic: rows of D_A-m, and as many of D_A-nm.
    amounts: shares of the members encoded by the study of amounts.
    capacities: what varies in the study of capacity: value -> options of the model.
    transfer_to: dataset that models are tuned on in the study of transfer.
    defenses: that the classifier's steps carry, with an encoding and without.
  """

  dataset: str
  train: config_lib.TrainConfig
  num_members: int
  num_test: int
  num_clusters: int | None = None
  encoded_share: float = 0.2
  discriminator_rate: float = 0.01
  discriminator_steps: int = 1
  num_synthetic: int = 500
  amounts: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
  capacities: tuple[tuple[int, tuple[tuple[str, Any], ...]], ...] = ()
  transfer_to: str | None = None
  defenses: tuple[registry.DefenseConfig, ...] = ()

  def __post_init__(self) -> None:
    for name in ("num_members", "num_test", "num_synthetic", "discriminator_steps"):
      _validate.positive(name, getattr(self, name))
    for name, shares in (
      ("encoded_share", (self.encoded_share,)),
      ("amounts", self.amounts),
    ):
      for share in shares:
        if not 0 < share < 1:
          raise ValueError(f"{name}={share} must lie between 0 and 1")

  def encode_config(self, layer: str) -> encode.EncodeConfig:
    """Returns the settings of an encoding read at `layer`."""
    return encode.EncodeConfig(
      train=self.train,
      layer=layer,
      discriminator_rate=self.discriminator_rate,
      discriminator_steps=self.discriminator_steps,
      defenses=self.defenses,
    )

  def key(self, model: Any, secret: int, *, black_box: bool) -> keys_lib.Key:
    """Returns the paper's key for this setup's model."""
    key = keys_lib.default(model, secret, black_box=black_box)
    return dataclasses.replace(key, num_synthetic=self.num_synthetic)


def _train(model: str, num_epochs: int, boundaries: tuple[int, ...], **options: Any):
  """The paper's SGD with momentum at 0.02; it states no batch size, nor how much."""
  return config_lib.TrainConfig(
    model=model,
    model_options=tuple(options.items()),
    optimizer=optimizers.OptimizerConfig(
      learning_rate=0.02, schedule="piecewise", boundaries=boundaries
    ),
    batch_size=128,
    num_epochs=num_epochs,
  )


def _features(*widths: tuple[int, int], at: int):
  return tuple((pair[at], (("features", pair),)) for pair in widths)


_CIFAR: dict[str, Any] = {
  "dataset": "cifar10",
  "num_members": 50_000,
  "num_test": 10_000,
  "transfer_to": "stl10",
}
_MNIST: dict[str, Any] = {
  "dataset": "mnist",
  "num_members": 50_000,
  "num_test": 20_000,
  "discriminator_rate": 0.02,
  "transfer_to": "digits",
}
SETUPS: Mapping[str, Setup] = types.MappingProxyType(
  {
    # Few rows, and so few steps: rates and epochs are higher than the paper's.
    "digits": Setup(
      dataset="digits",
      train=dataclasses.replace(_train("mlp_256_128", 300, (225,)), batch_size=64),
      num_members=1000,
      num_test=797,
      discriminator_rate=0.1,
      num_synthetic=100,
      capacities=_features((64, 128), (256, 128), (512, 128), at=0),
      transfer_to="mnist",
    ),
    "purchase5": Setup(
      dataset="purchase100_synthetic",
      train=_train("mlp_256_128", 80, (60,)),
      num_members=150_000,
      num_test=30_000,
      num_clusters=5,
      amounts=tuple(n / 150 for n in (30, 35, 40, 45, 50, 55)),
      capacities=_features((128, 128), (256, 128), (384, 128), (512, 128), at=0),
    ),
    "texas10": Setup(
      dataset="texas100",
      train=_train("mlp_1024_256", 80, (60,)),
      num_members=50_000,
      num_test=10_000,
      num_clusters=10,
    ),
    "mnist_mlp": Setup(train=_train("mlp_512_128", 100, (80,)), **_MNIST),
    "mnist_cnn": Setup(
      train=_train("cnn_5x5_64_128", 100, (80,), hidden=(256,)),
      capacities=_features((64, 32), (64, 64), (64, 96), (64, 128), at=1),
      **_MNIST,
    ),
    "cifar10_vgg": Setup(train=_train("vgg_9", 80, (40, 60)), **_CIFAR),
    "cifar10_resnet": Setup(train=_train("resnet32", 80, (40, 60)), **_CIFAR),
  }
)
