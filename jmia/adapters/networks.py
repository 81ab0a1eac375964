"""Networks of PyTorch, Flax and Keras as black boxes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
Prepare = Callable[[np.ndarray], Any]


def from_torch(
  module: Any, *, prepare: Prepare | None = None, batch_size: int = 256
) -> Predict:
  """Returns `predict` of a PyTorch module, asked in evaluation mode.

  Args:
    module: rows `[B, ...]` -> logits or probabilities `[B, C]`, or an object or a
      mapping with such `logits`, or a tuple that begins with them. It is asked where it
      lies, and left in the mode it was in; answers in half precision become float32.
    prepare: rows as the audit has them -> a tensor, or arrays that become one. Default:
      the values as they are, in the type of the module's parameters.
    batch_size: rows asked at once.

  Raises:
    ValueError: when asked, if rows are no numbers and there is no `prepare`, or answers
      are a mapping without `logits`.
  """

  def predict(x: np.ndarray) -> np.ndarray:
    import torch

    parameter = next(module.parameters(), torch.zeros(()))
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    found = []
    try:
      with torch.inference_mode():
        for start in range(0, len(x), batch_size):
          rows = _prepared(x[start : start + batch_size], prepare)
          if not isinstance(rows, torch.Tensor):
            rows = torch.from_numpy(np.array(rows))
          if prepare is None:
            rows = rows.to(parameter.dtype)
          found.append(_first(module(rows.to(parameter.device))))
    finally:
      for part, mode in modes:
        part.training = mode
    answers = torch.cat(found).cpu()
    is_half = answers.dtype in (torch.float16, torch.bfloat16)  # NumPy lacks the latter
    return (answers.float() if is_half else answers).numpy()

  return predict


def from_flax(
  module: Any, variables: Any, *, prepare: Prepare | None = None, **options: Any
) -> Predict:
  """Returns `predict` of a Flax module and its variables, compiled.

  Args:
    module: one of linen, or a function `apply(variables, x, **options)`.
    variables: its parameters and what else it keeps.
    prepare: rows as the audit has them -> an array. Default: the values as they are, as
      float32.
    **options: given at each call, such as `train=False`: what they are called differs
      from module to module.
  """
  import jax

  apply = getattr(module, "apply", module)
  run = jax.jit(lambda variables, x: _first(apply(variables, x, **options)))

  def predict(x: np.ndarray) -> np.ndarray:
    return np.asarray(run(variables, _as_float(x, prepare)))

  return predict


def from_keras(model: Any, *, prepare: Prepare | None = None) -> Predict:
  """Returns `predict` of a Keras model, asked without dropout.

  Args:
    model: rows `[B, ...]` -> logits or probabilities `[B, C]`.
    prepare: rows as the audit has them -> an array. Default: the values as they are, as
      float32.
  """

  def predict(x: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_on_batch(_as_float(x, prepare)))

  return predict


def _prepared(x: np.ndarray, prepare: Prepare | None) -> Any:
  if prepare is not None:
    return prepare(x)
  if x.dtype.names is not None or x.dtype.kind not in "biuf":
    raise ValueError(
      f"rows are of dtype {x.dtype}, which no network takes: give `prepare`, a "
      "function of them to numbers"
    )
  return x


def _as_float(x: np.ndarray, prepare: Prepare | None) -> Any:
  rows = _prepared(x, prepare)
  return rows.astype(np.float32) if prepare is None else rows


def _first(answer: Any) -> Any:
  """The logits of what a model returns: it, its `logits`, or the first of a tuple."""
  answer = getattr(answer, "logits", answer)
  if isinstance(answer, Mapping):
    if "logits" not in answer:
      raise ValueError(f"the model returns a mapping of {[*answer]}, expected `logits`")
    answer = answer["logits"]
  return answer[0] if isinstance(answer, tuple | list) else answer
