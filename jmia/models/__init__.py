"""The classifiers of the papers, as Flax Linen modules, by name.

Every module is called `module.apply(variables, x, train=False, mask=None)` with x
`[B, ...]` float32, NHWC if images, and returns logits `[B, C]` float32. `mask` `[B]`
bool says which rows of a padded batch are real. Training needs the `dropout` key where
there is dropout, and mutable `batch_stats` where there is batch normalisation.
"""

from collections.abc import Mapping
import dataclasses
import numbers
import types
from typing import Any, NamedTuple

from flax import linen as nn

from jmia import _validate
from jmia.models import alexnet, cnn, layers, mlp, resnet, resnet9, vgg


class _Variant(NamedTuple):
  """A module and the options that make it the named network."""

  module: type[nn.Module]
  options: Mapping[str, Any] = types.MappingProxyType({})


_VARIANTS: Mapping[str, _Variant] = types.MappingProxyType(
  {
    "mlp": _Variant(mlp.MLP),
    # Ye et al., Enhanced Membership Inference Attacks: Purchase-100.
    "mlp_purchase": _Variant(mlp.MLP, {"features": (512, 256, 128, 64)}),
    # Hu et al., Membership Inference via Backdooring: Location-30 and Purchase-100; the
    # dropout is its public code's.
    "mlp_mib": _Variant(mlp.MLP, {"features": (256, 128), "dropout_rate": 0.5}),
    # Song and Shokri, Robust Membership Encoding.
    "mlp_256_128": _Variant(mlp.MLP, {"features": (256, 128)}),
    "mlp_512_128": _Variant(mlp.MLP, {"features": (512, 128)}),
    "mlp_1024_256": _Variant(mlp.MLP, {"features": (1024, 256)}),
    # Yang, Membership Inference Attack on Classification Models: CIFAR-10. Its MNIST
    # networks are mlp_purchase and cnn_report with features (16, 32, 64).
    "mlp_report": _Variant(mlp.MLP, {"features": (2048, 2048, 1024, 512, 64)}),
    "cnn": _Variant(cnn.CNN),
    "cnn_32_64": _Variant(cnn.CNN, {"features": (32, 64)}),
    "cnn_5x5_64_128": _Variant(cnn.CNN, {"features": (64, 128), "kernel_size": 5}),
    "cnn_report": _Variant(cnn.CNN, {"features": (32, 64, 128)}),
    "alexnet": _Variant(alexnet.AlexNet),
    "vgg": _Variant(vgg.VGG),
    "vgg_3block": _Variant(
      vgg.VGG, {"blocks": ((64, 64), (128, 128), (256, 256)), "hidden": (128,)}
    ),
    # Nine layers as in Song and Shokri; the widths are those usual for a VGG-9.
    "vgg_9": _Variant(
      vgg.VGG, {"blocks": ((32, 64), (128, 128), (256, 256)), "hidden": (512, 512)}
    ),
    # Page, How to train your ResNet: CIFAR-10 in few epochs.
    "resnet9": _Variant(resnet9.ResNet9),
    "resnet18": _Variant(
      resnet.ResNet, {"stage_sizes": (2, 2, 2, 2), "widths": (64, 128, 256, 512)}
    ),
    "resnet32": _Variant(
      resnet.ResNet,
      {"stage_sizes": (5, 5, 5), "widths": (16, 32, 64), "projection": False},
    ),
  }
)


def names() -> tuple[str, ...]:
  """Returns the names that `make` knows."""
  return tuple(_VARIANTS)


def make(name: str, num_classes: int, **options: Any) -> nn.Module:
  """Returns the named model.

  >>> make("mlp_purchase", 100).features
  (512, 256, 128, 64)
  >>> make("cnn", 10, features=(16, 32), lowering="native").features
  (16, 32)

  Args:
    name: one of `names()`. The bare names `mlp`, `cnn` and `vgg` are for custom sizes.
    num_classes: number of classes, at least 1.
    **options: attributes of the module that replace the variant's own, such as
      `features`, `dropout_rate`, `dtype` or `lowering`. A list is taken as a tuple.

  Raises:
    ValueError: if the name, an option's name or the lowering is unknown, if
      `num_classes`, a width or a size is not an integer of at least 1, the dropout rate
      does not lie in [0, 1], or `stage_sizes` and `widths` differ in length.
  """
  _validate.known("model", name, _VARIANTS)
  module, defaults = _VARIANTS[name]
  known = {f.name for f in dataclasses.fields(module)} - {
    "num_classes",
    "parent",
    "name",
  }
  for option in options:
    _validate.known(f"option of model {name!r}", option, known)
  options = {**defaults, **{key: _as_tuple(value) for key, value in options.items()}}
  _check(num_classes, options)
  return module(num_classes=num_classes, **options)


def _as_tuple(value: Any) -> Any:
  """Lists to tuples, inner ones too, since a module must be hashable."""
  if isinstance(value, list | tuple):
    return tuple(_as_tuple(item) for item in value)
  return value


def _check(num_classes: int, options: Mapping[str, Any]) -> None:
  """Raises ValueError unless the options of a module are sound."""
  _positive_int("num_classes", num_classes)
  if "lowering" in options:
    _validate.known("lowering", options["lowering"], layers.LOWERINGS)
  if "dropout_rate" in options:
    _validate.probability("dropout_rate", options["dropout_rate"])
  for key in ("features", "hidden", "blocks", "widths", "stage_sizes", "kernel_size"):
    for width in _flat(options.get(key, ())):
      _positive_int(key, width)
  for value in options.get("std", ()):
    _validate.positive("std", value)
  widths = options.get("widths", ())
  sizes = options.get("stage_sizes", widths)  # a ResNet-9's are not to be chosen
  if len(sizes) != len(widths):
    raise ValueError(f"stage_sizes={sizes} and widths={widths} differ in length")


def _positive_int(name: str, value: Any) -> None:
  """Raises ValueError unless `value` is an integer of at least 1."""
  if not isinstance(value, numbers.Integral) or value < 1:
    raise ValueError(f"{name}={value} must be an integer of at least 1")


def _flat(value: Any) -> list[int]:
  """The numbers of a nested tuple, or a number alone."""
  if isinstance(value, tuple):
    return [number for item in value for number in _flat(item)]
  return [value]
