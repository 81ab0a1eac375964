"""The report's networks and training for each dataset, and the figures it gives.

Source: Yang, "Membership Inference Attack on Classification Models", section 4 and
Table 1; its public code (github.com/Yasgant/4010project) for what it does not say.
"""

from collections.abc import Mapping
import types

from jmia import types as types_lib
from jmia.training import config as config_lib
from jmia.training import optimizers

# Table 1: AUC of the loss, the confidence and the entropy.
_PAPER_AUC: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
  "cifar10": {
    "cnn": (0.7422, 0.6927, 0.6886),
    "mlp": (0.8147, 0.7260, 0.7280),
    "resnet": (0.7281, 0.7124, 0.7121),
    "alexnet": (0.7612, 0.7008, 0.7054),
  },
  "mnist": {"cnn": (0.5147, 0.5123, 0.5119), "mlp": (0.5299, 0.5279, 0.5273)},
  "cifar100": {
    "cnn": (0.8947, 0.7979, 0.7972),
    "mlp": (0.9243, 0.7994, 0.7977),
    "resnet": (0.5952, 0.6287, 0.6102),
    "alexnet": (0.8418, 0.6977, 0.6936),
  },
  "a1-kaggle": {
    "cnn": (0.9998, 0.9474, 0.9480),
    "mlp": (0.9999, 0.7989, 0.7963),
    "resnet": (1.0, 0.9962, 0.9974),
  },
}
_METRICS = ("metric_loss", "metric_confidence", "metric_entropy")
_A1_CLASSES = 1000


def paper_auc(dataset: types_lib.Dataset, model: str, attack: str) -> float | None:
  """Returns the report's AUC of an attack; None where it gives none.

  Args:
    dataset: a folder of images of 1,000 classes is taken for the report's A1-Kaggle.
    model: one of `networks(dataset)`.
    attack: its name.
  """
  is_a1 = dataset.name.startswith("folder:") and dataset.num_classes == _A1_CLASSES
  given = _PAPER_AUC.get("a1-kaggle" if is_a1 else dataset.name, {}).get(model)
  if given is None or attack not in _METRICS:
    return None
  return given[_METRICS.index(attack)]


def report_training(model: str, **options) -> config_lib.TrainConfig:
  """Returns the report's training: Adam 1e-3, batch 128, 50 epochs (section 4).

  From epoch 40 the rate is a tenth, as in its code; the report names no schedule.
  """
  return config_lib.TrainConfig(
    model=model,
    model_options=tuple(options.items()),
    optimizer=optimizers.OptimizerConfig(
      name="adam", learning_rate=1e-3, schedule="piecewise", boundaries=(40,)
    ),
    batch_size=128,
    num_epochs=50,
  )


def networks(dataset: types_lib.Dataset) -> dict[str, config_lib.TrainConfig]:
  """Returns the report's networks for a dataset, by its names, the first the default.

  The report does not say which ResNet it trains, nor any width: ResNet-18 and the
  widths are its code's. For A1-Kaggle they are CIFAR-10's, where the code has another
  mlp (2048-2048-1024) and, as its cnn, EfficientNetV2-S. For other datasets they are
  networks of their size: two for images, two for tables.
  """
  if dataset.name in _NETWORKS:
    return dict(_NETWORKS[dataset.name])
  if dataset.x.ndim < 3:
    return dict(_TABLES)
  is_small = min(dataset.x.shape[1:3]) < _SMALLEST_OF_THE_REPORT
  return dict(_SMALL_IMAGES if is_small else _IMAGES)


_SMALLEST_OF_THE_REPORT = 32
_IMAGES = types.MappingProxyType(
  {
    "cnn": report_training("cnn_report"),
    "mlp": report_training("mlp_report"),
    "resnet": report_training("resnet18"),
    "alexnet": report_training("alexnet"),
  }
)
_CIFAR100 = types.MappingProxyType(
  {
    **_IMAGES,
    "mlp": report_training("mlp_report", features=(2048, 2048, 1024, 512, 256)),
  }
)
_MNIST = types.MappingProxyType(
  {
    "cnn": report_training("cnn_report", features=(16, 32, 64)),
    "mlp": report_training("mlp_purchase"),
  }
)
_SMALL_IMAGES = types.MappingProxyType(
  {
    "cnn": report_training("cnn", features=(16, 32)),
    "mlp": report_training("mlp_256_128"),
  }
)
_TABLES = types.MappingProxyType(
  {
    "mlp": report_training("mlp_256_128"),
    "wide_mlp": report_training("mlp_1024_256"),
  }
)
_NETWORKS = {
  "mnist": _MNIST,
  "cifar10": _IMAGES,
  "cifar100": _CIFAR100,
  "purchase100_synthetic": {
    "mlp": report_training("mlp_purchase"),
    "small_mlp": report_training("mlp_256_128"),
  },
}
