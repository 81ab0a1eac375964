"""The other way to train many models in PyTorch: `torch.func.vmap` over stacked ones.

On a GPU a step is captured as a CUDA graph and replayed, so that launches cost nothing.
"""

from collections.abc import Callable
import copy

import numpy as np

from jmia import types
from jmia.training import config as config_lib

from . import measure, torch_loop


def trainer(
  dataset: types.Dataset, config: config_lib.TrainConfig, members: np.ndarray
) -> Callable[[], None]:
  """Returns a function that trains all models for one epoch, and on at the next call.

  Args:
    dataset: what to train on, placed on the device once; no images.
    config: SGD's settings, the batch size and the model, one of `mlp_*`.
    members: `[M, K]` rows that each trains on.
  """
  import torch
  from torch import func

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cuda.matmul.allow_tf32 = measure.matmul_precision() == "tensorfloat32"
  x = torch.tensor(dataset.x).to(device)
  y = torch.tensor(dataset.y).long().to(device)
  rows = torch.tensor(members).long().to(device)
  models = [torch_loop.model(config, dataset).to(device) for _ in members]
  parameters, _ = func.stack_module_state(models)
  skeleton = copy.deepcopy(models[0]).to("meta")
  optimizer = torch.optim.SGD(
    parameters.values(),
    lr=config.optimizer.learning_rate,
    momentum=config.optimizer.momentum,
    weight_decay=config.optimizer.weight_decay,
  )

  def loss(parameters, features, labels):
    logits = func.functional_call(skeleton, parameters, (features,))
    return torch.nn.functional.cross_entropy(logits, labels)

  gradients = func.vmap(func.grad(loss), randomness="different")

  def step(batch) -> None:
    features = x[batch].float()
    found = gradients(dict(parameters), features, y[batch])
    for name, parameter in parameters.items():
      parameter.grad = found[name]
    optimizer.step()

  if device == "cuda":
    step = _replayed(step, torch)

  def epoch() -> None:
    order = torch.argsort(torch.rand(rows.shape, device=device), dim=1)
    shuffled = torch.take_along_dim(rows, order, dim=1)
    for batch in shuffled.split(config.batch_size, dim=1):
      step(batch)
    if device == "cuda":
      torch.cuda.synchronize()

  return epoch


def _replayed(step: Callable, torch) -> Callable:
  """The step as a CUDA graph, one for each size of a batch."""
  graphs: dict = {}

  def replay(batch) -> None:
    if batch.shape not in graphs:
      held = batch.clone()
      side = torch.cuda.Stream()
      side.wait_stream(torch.cuda.current_stream())
      with torch.cuda.stream(side):  # what capturing needs: a step was run before
        step(held)
      torch.cuda.current_stream().wait_stream(side)
      graph = torch.cuda.CUDAGraph()
      with torch.cuda.graph(graph):
        step(held)
      graphs[batch.shape] = graph, held
    graph, held = graphs[batch.shape]
    held.copy_(batch)
    graph.replay()

  return replay
