"""A classification pipeline of Hugging Face as a black box."""

from collections.abc import Callable
import re
from typing import Any

import numpy as np

from jmia import types
from jmia.adapters import _classes

_UNNAMED = re.compile(r"LABEL_(\d+)")


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
      class names, numbers, or `LABEL_0` and so on.
    dataset: what is audited. Its images go in as Pillow's.
    batch_size: inputs asked at once.

  Raises:
    ValueError: when asked, if a label is no class, or scores of some are missing.
  """

  def predict(x: np.ndarray) -> np.ndarray:
    found = pipeline(_inputs(x), top_k=None, batch_size=batch_size)
    rows = [{_label(one["label"]): one["score"] for one in row} for row in found]
    classes = list(rows[0])
    if any(row.keys() != rows[0].keys() for row in rows):
      raise ValueError("the pipeline scores other labels for other inputs, not all")
    values = np.array([[row[one] for one in classes] for row in rows], np.float32)
    at = _classes.columns(classes, dataset)
    return _classes.spread(values, at, dataset.num_classes)

  return predict


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
