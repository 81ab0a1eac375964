"""scikit-learn: a fitted estimator as a black box, and a family of its kind."""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from jmia import types
from jmia.adapters import _classes

Predict = Callable[[np.ndarray], np.ndarray]


def from_sklearn(estimator: Any, dataset: types.Dataset) -> Predict:
  """Returns `predict` of a fitted estimator.

  Args:
    estimator: with `predict_proba` and `classes_`: a classifier, a pipeline that ends
      in one, or of another package in scikit-learn's manner (XGBoost, LightGBM).
      Its classes are the dataset's names of them, or numbers, in any order; one that it
      never saw has probability 0.
    dataset: what is audited. Rows of more than one axis are flattened; a table goes in
      as a pandas frame of the columns as they came.

  Raises:
    ValueError: it gives no probabilities, or its classes are not the dataset's.
  """
  _check(estimator)
  at = _classes.columns(list(estimator.classes_), dataset)
  return _predictor(estimator, at, dataset.num_classes)


@dataclasses.dataclass(frozen=True)
class FitEstimator:
  """Fits estimators alike; see `fit_sklearn`.

  Attributes:
    estimator: not fitted.
    num_classes: of the dataset.
  """

  estimator: Any
  num_classes: int

  @property
  def name(self) -> str:
    """What reports call models fitted so: of a pipeline its last step."""
    steps = getattr(self.estimator, "steps", None)
    return type(steps[-1][1] if steps else self.estimator).__name__

  def __call__(self, x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Fits a copy on rows `x` and classes `y [K]`; returns its `predict`."""
    from sklearn import base

    model = base.clone(self.estimator)
    seeds = [key for key in model.get_params() if key.split("__")[-1] == "random_state"]
    model.set_params(**dict.fromkeys(seeds, seed))
    at = _fit(model, as_rows(x), np.asarray(y))
    return _predictor(model, at, self.num_classes)


def fit_sklearn(estimator: Any, dataset: types.Dataset) -> FitEstimator:
  """Returns `fit` for `audit.run(references=)`: models of an estimator's kind.

  Args:
    estimator: as the audited one was before it was fitted; a fitted one is copied
      without what it learnt. Each copy gets a `random_state` of its own. Where the rows
      of a copy lack a class and it takes no gaps in the numbers of classes (XGBoost),
      it is given numbers without.
    dataset: what is audited.

  Raises:
    ValueError: it gives no probabilities.
  """
  _check(estimator)
  return FitEstimator(estimator, dataset.num_classes)


def _fit(model: Any, rows: Any, y: np.ndarray) -> np.ndarray:
  """Fits a model; returns `[K]` the class of each of its columns."""
  seen, codes = np.unique(y, return_inverse=True)
  try:
    model.fit(rows, y)
  except ValueError:
    if seen[-1] == len(seen) - 1:
      raise  # there is no gap, so that is not why
    model.fit(rows, codes)
    return seen[np.asarray(model.classes_, int)]
  return np.asarray(model.classes_, int)


def as_rows(x: np.ndarray) -> Any:
  """Rows as scikit-learn takes them: `[B, F]`, or a pandas frame of named columns.

  Raises:
    ValueError: columns hold text and pandas is not installed.
  """
  if x.dtype.names is None:
    return x.reshape(len(x), -1)
  try:
    import pandas
  except ImportError as error:
    if all(x.dtype[name].kind == "f" for name in x.dtype.names):
      return np.stack([x[name] for name in x.dtype.names], axis=1)
    raise ValueError("a table of text needs pandas: pip install pandas") from error
  frame = pandas.DataFrame({name: x[name] for name in x.dtype.names})
  texts = [name for name in x.dtype.names if x.dtype[name].kind == "U"]
  # As pandas reads an empty cell.
  frame[texts] = frame[texts].astype(object).replace({"": np.nan})
  return frame


def _check(estimator: Any) -> None:
  if not hasattr(estimator, "predict_proba"):
    raise ValueError(
      f"{type(estimator).__name__} has no predict_proba: attacks need probabilities; "
      "of a support vector machine, for instance, those of CalibratedClassifierCV"
    )


def _predictor(estimator: Any, at: np.ndarray, num_classes: int) -> Predict:
  def predict(x: np.ndarray) -> np.ndarray:
    found = np.asarray(estimator.predict_proba(as_rows(x)))
    return _classes.spread(found, at, num_classes)

  return predict
