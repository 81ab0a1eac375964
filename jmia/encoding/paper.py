"""What Song and Shokri report, to set beside our rows."""

from collections.abc import Mapping
import types

Figures = Mapping[str, float]


def _frozen(**rows: dict[str, float]) -> Mapping[str, Figures]:
  return types.MappingProxyType(rows)


def _white(baseline, test, precision, recall, auc) -> dict[str, float]:
  return {
    "baseline_accuracy": baseline / 100,
    "test_accuracy": test / 100,
    "precision": precision,
    "recall": recall,
    "auc": auc,
  }


def _black(test, precision, recall, auc) -> dict[str, float]:
  return {
    "test_accuracy": test / 100,
    "precision": precision,
    "recall": recall,
    "auc": auc,
  }


# Table 2.
WHITEBOX = _frozen(
  purchase5=_white(98.50, 98.12, 0.85, 0.96, 0.93),
  texas10=_white(97.85, 97.82, 0.97, 0.75, 0.98),
  mnist_mlp=_white(97.80, 97.75, 0.83, 0.88, 0.93),
  mnist_cnn=_white(99.03, 99.04, 0.87, 0.94, 0.95),
  cifar10_vgg=_white(90.16, 89.67, 0.92, 0.98, 0.98),
  cifar10_resnet=_white(92.10, 91.85, 0.83, 0.98, 0.96),
)
# Table 4.
BLACKBOX = _frozen(
  mnist_mlp=_black(95.38, 0.70, 1.00, 0.95),
  mnist_cnn=_black(97.94, 0.85, 1.00, 0.98),
  cifar10_vgg=_black(85.92, 0.93, 0.70, 0.94),
)
# Table 3: AUC by the number of encoded rows.
AMOUNT: Mapping[str, Mapping[int, float]] = types.MappingProxyType(
  {
    "purchase5": {
      30_000: 0.94, 35_000: 0.91, 40_000: 0.88, 45_000: 0.82, 50_000: 0.79, 55_000: 0.50
    },
    "cifar10_vgg": {
      10_000: 0.98, 15_000: 0.96, 20_000: 0.93, 25_000: 0.88, 30_000: 0.84, 35_000: 0.77
    },
  }
)  # fmt: skip
