"""The loop over models that a PyTorch user would write, as fast as plain PyTorch goes.

Data lies on the device as stored, a minibatch is taken by `index_select`, and nothing
but the loss is computed. On a GPU convolutions are channels-last, chosen by timing and
compiled, float32 products are TF32 if they are in JAX, and a network that computes in
bfloat16 here does so there by autocast. PyTorch may be absent: `is_installed` says.
"""

from collections.abc import Callable
import importlib.util
from typing import Any

import numpy as np

from jmia import types
from jmia.training import config as config_lib

from . import measure


def is_installed() -> bool:
  """Whether PyTorch is there to compare with."""
  return importlib.util.find_spec("torch") is not None


def name() -> str:
  """Returns what to call this peer in a row."""
  if not is_installed():
    return "PyTorch loop (not installed)"
  import torch

  return f"PyTorch {torch.__version__} loop"


def trainer(
  dataset: types.Dataset, config: config_lib.TrainConfig, members: np.ndarray
) -> Callable[[], None]:
  """Returns a function that trains one model for one epoch, and on at the next call.

  Args:
    dataset: what to train on, placed on the device once.
    config: SGD's settings, the batch size and the model, one of `mlp_*`, `cnn_*` and
      `resnet18`.
    members: `[K]` rows to train on.
  """
  import torch

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
    measure.matmul_precision() == "tensorfloat32"
  )
  torch.backends.cudnn.benchmark = True
  is_half = config.compute_dtype == "bfloat16"
  x, y = torch.tensor(dataset.x), torch.tensor(dataset.y).long()
  is_image = x.ndim == 4
  x = x.permute(0, 3, 1, 2).contiguous() if is_image else x
  x, y, rows = x.to(device), y.to(device), torch.tensor(members).long().to(device)
  network = model(config, dataset).to(device)
  if is_image:
    network = network.to(memory_format=torch.channels_last)
  forward = torch.compile(network) if is_image and device == "cuda" else network
  optimizer = torch.optim.SGD(
    network.parameters(),
    lr=config.optimizer.learning_rate,
    momentum=config.optimizer.momentum,
    weight_decay=config.optimizer.weight_decay,
  )
  loss_of = torch.nn.CrossEntropyLoss()

  def epoch() -> None:
    order = rows[torch.randperm(len(rows), device=device)]
    for batch in order.split(config.batch_size):
      images = x.index_select(0, batch).float()
      if dataset.feature_scale != 1:
        images = images * dataset.feature_scale
      if is_image:
        images = images.contiguous(memory_format=torch.channels_last)
      optimizer.zero_grad(set_to_none=True)
      with torch.autocast(device, torch.bfloat16, enabled=is_half):
        loss = loss_of(forward(images), y.index_select(0, batch))
      loss.backward()
      optimizer.step()
    if device == "cuda":
      torch.cuda.synchronize()

  return epoch


def model(config: config_lib.TrainConfig, dataset: types.Dataset) -> Any:
  """Returns the network that `config.model` names, in PyTorch."""
  from jmia import models

  module = models.make(config.model, dataset.num_classes, **dict(config.model_options))
  if config.model.startswith("mlp"):
    return _mlp(dataset.x[0].size, module)
  if config.model.startswith("cnn"):
    return _cnn(dataset.x.shape[1:], module)
  return _resnet(dataset.x.shape[-1], module)


def _mlp(num_features: int, module: Any) -> Any:
  from torch import nn

  layers: list[Any] = []
  for width in module.features:
    layers += [nn.Linear(num_features, width), nn.ReLU()]
    num_features = width
  if module.dropout_rate:
    layers.append(nn.Dropout(module.dropout_rate))
  return nn.Sequential(*layers, nn.Linear(num_features, module.num_classes))


def _cnn(shape: tuple[int, ...], module: Any) -> Any:
  from torch import nn

  side, _, channels = shape
  layers: list[Any] = []
  for width in module.features:
    layers += [
      nn.Conv2d(channels, width, module.kernel_size, padding="same"),
      nn.MaxPool2d(2),
      nn.ReLU(),
    ]
    side, channels = side // 2, width
  output = nn.Linear(side * side * channels, module.num_classes)
  return nn.Sequential(*layers, nn.Flatten(), output)


def _resnet(channels: int, module: Any) -> Any:
  import torch
  from torch import nn

  def conv_norm(inputs, outputs, side, stride):
    conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))

  class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
      super().__init__()
      self.first = conv_norm(inputs, outputs, 3, stride)
      self.second = conv_norm(outputs, outputs, 3, 1)
      same = stride == 1 and inputs == outputs
      self.short = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x):
      return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))

  widths = module.widths
  layers: list[Any] = [conv_norm(channels, widths[0], 3, 1), nn.ReLU()]
  inputs = widths[0]
  for stage, (count, width) in enumerate(zip(module.stage_sizes, widths, strict=True)):
    for block in range(count):
      layers.append(Block(inputs, width, 2 if stage > 0 and block == 0 else 1))
      inputs = width
  output = nn.Linear(inputs, module.num_classes)
  return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), output)
