"""Models of other packages as the black box that an audit asks.

Each adapter returns `predict`, features `[B, ...]` -> logits or probabilities `[B, C]`,
for `audit.run(dataset, predict=predict, split=split)`:

| adapter | of |
|---|---|
| `from_sklearn(estimator, dataset)` | scikit-learn: an estimator or pipeline |
| `from_torch(module)` | PyTorch, and what gives tensors or an object with `logits` |
| `from_flax(module, variables)` | Flax's linen, or any `apply(variables, x)` |
| `from_keras(model)` | Keras |
| `from_onnx(path, dataset)` | an ONNX file, by onnxruntime |
| `from_pipeline(pipeline, dataset)` | Hugging Face: text or image classification |

`fit_sklearn(estimator, dataset)` makes models of an estimator's kind to compare with:
`audit.run(..., references=fit_sklearn(...))`.

A model is given rows as the dataset was: `dataset.given` if it is there, else
`dataset.x`. Where it takes them otherwise, `prepare` turns the ones into the others.
Each package is imported when a model of it is asked, and installed by the extra of its
name (`pip install jmia[onnx]`).
"""

from jmia.adapters.estimators import fit_sklearn as fit_sklearn
from jmia.adapters.estimators import from_sklearn as from_sklearn
from jmia.adapters.networks import from_flax as from_flax
from jmia.adapters.networks import from_keras as from_keras
from jmia.adapters.networks import from_torch as from_torch
from jmia.adapters.onnx_file import from_onnx as from_onnx
from jmia.adapters.pipelines import from_pipeline as from_pipeline
