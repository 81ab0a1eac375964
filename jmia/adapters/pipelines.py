"""A classification pipeline of Hugging Face as a black box."""

from collections.abc import Callable
import re
from typing import Any

import numpy as np

from jmia import types
from jmia.adapters import _classes

_UNNAMED = re.compile(r"LABEL_(\d+)")
# Of how many labels scores are asked for: all. An image pipeline takes None for 5.
_ALL = 1_000_000


def from_pipeline(
  pipeline: Any, dataset: types.Dataset, *, batch_size: int = 32
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns `predict` of a text or image classification pipeline.

  Texts are no features that the models compared with learn from: make the dataset of
  features computed before (embeddings), and give the texts as what was given:
  `datasets.from_arrays(embeddings, y)._replace(given=np.array(texts))`.

  Args:
    pipeline: inputs -> for each a list of `{"label", "score"}`, as
      `transformers.pipeline("text-classification", ...)` is. Labels are the dataset's
      class names, numbers, or `LABEL_0` and so on. Of two classes there may be one
      label, scored by a sigmoid: that of the class of its name, or of class 1.
    dataset: what is audited. Its images go in as Pillow's.
    batch_size: inputs asked at once.

  Raises:
    ValueError: when asked, if a label is no class, scores of some are missing, or the
      only score of a row is no probability of one of two classes.
  """

  def predict(x: np.ndarray) -> np.ndarray:
    found = pipeline(_inputs(x), top_k=_ALL, batch_size=batch_size)
    rows = [{_label(one["label"]): one["score"] for one in row} for row in found]
    classes = list(rows[0])
    if any(row.keys() != rows[0].keys() for row in rows):
      raise ValueError("the pipeline scores other labels for other inputs, not all")
    values = np.array([[row[one] for one in classes] for row in rows])
    if len(classes) == 1:
      return _two_columns(pipeline, values, classes[0], dataset)
    values = values.astype(np.float32)
    at = _classes.columns(classes, dataset)
    return _classes.spread(values, at, dataset.num_classes)

  return predict


def _two_columns(
  pipeline: Any, scores: np.ndarray, label: str | int, dataset: types.Dataset
) -> np.ndarray:
  """Probabilities `[B, 2]` of the one score of each row, `[B, 1]`."""
  if dataset.num_classes != 2 or not _is_sigmoid(pipeline):
    raise ValueError(
      f"the pipeline scores one label, {label!r}: expected all {dataset.num_classes}"
      " classes, or one of two by a sigmoid"
    )
  # The one output of a network is of class 1, though transformers numbers it 0.
  at = 1 if isinstance(label, int) else int(_classes.columns([label], dataset)[0])
  columns = [1 - scores, scores] if at == 1 else [scores, 1 - scores]
  return np.concatenate(columns, axis=1).astype(np.float32)


def _is_sigmoid(pipeline: Any) -> bool:
  """Whether the score of one output is a probability.

  As transformers' pipelines choose: what they were told, and else a sigmoid, unless
  the model is one of regression.
  """
  asked = getattr(pipeline, "_postprocess_params", {}).get("function_to_apply")
  if asked is not None:
    return getattr(asked, "value", asked) == "sigmoid"
  config = getattr(getattr(pipeline, "model", None), "config", None)
  problem = getattr(config, "problem_type", None)
  return config is not None and problem != "regression"


def _inputs(x: np.ndarray) -> list[Any]:
  """Texts, or images as Pillow's."""
  if x.dtype.kind in "UO":
    return x.tolist()
  if x.dtype != np.uint8 or x.ndim != 4:
    raise ValueError(
      f"rows are of dtype {x.dtype} and shape {x.shape[1:]}, expected texts or uint8 "
      "images [H, W, C]; give what the pipeline takes as the dataset's `given`"
    )
  from PIL import Image

  return [Image.fromarray(image.squeeze()) for image in x]


def _label(text: str) -> str | int:
  unnamed = _UNNAMED.fullmatch(text)
  return int(unnamed[1]) if unnamed else text
