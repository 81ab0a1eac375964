import adapter_example
import numpy as np
import pytest
from sklearn import (
  compose,
  ensemble,
  linear_model,
  pipeline,
  preprocessing,
  svm,
)

from jmia import adapters, datasets
from jmia.adapters import estimators

_X, _Y = adapter_example.X, adapter_example.Y


@pytest.mark.parametrize(
  ("names", "called"),
  [
    (None, lambda y: y),
    (None, lambda y: y.astype(float)),
    (None, lambda y: y.astype(str)),
    (["b", "c", "a"], lambda y: np.array(["b", "c", "a"])[y]),
    (["b", "c", "a"], lambda y: np.array([1, 2, 0])[y]),  # by the dataset's numbers
    ([1, 2, 3], lambda y: y + 1),
    ([1, 2, 3], lambda y: y + 1.0),
    ([1, 2, 3], lambda y: y),
    ([10, 9, 8], lambda y: np.array([10, 9, 8])[y]),
  ],
)
def test_columns_are_in_the_datasets_order_of_classes(names, called):
  dataset = adapter_example.dataset(names)
  model = linear_model.LogisticRegression().fit(_X, called(_Y))
  found = adapters.from_sklearn(model, dataset)(_X)
  assert found.shape == (90, 3)
  np.testing.assert_array_equal(found.argmax(1), dataset.y)
  np.testing.assert_allclose(np.sort(found), np.sort(model.predict_proba(_X)))


def test_a_class_that_was_never_seen_has_no_probability():
  model = linear_model.LogisticRegression().fit(_X[_Y > 0], _Y[_Y > 0])
  found = adapters.from_sklearn(model, adapter_example.dataset())(_X)
  np.testing.assert_array_equal(found[:, 0], 0)
  np.testing.assert_allclose(found[:, 1:], model.predict_proba(_X))


def test_numbers_that_the_dataset_has_in_another_order():
  """A model of the dataset's own numbers was right on a third of the rows so."""
  names = ["2", "1", "0"]
  dataset = datasets.from_arrays(_X, np.array(names)[_Y], classes=names)
  assert dataset.class_names == ("2", "1", "0")
  for called in (dataset.y, dataset.y.astype(float), 2 - dataset.y):
    model = linear_model.LogisticRegression().fit(_X, called)
    message = r"are 0, 1, 2: numbers from 0, or .* order 2, 1, 0\? .* as text"
    with pytest.raises(ValueError, match=message):
      adapters.from_sklearn(model, dataset)
  model = linear_model.LogisticRegression().fit(_X, np.array(names)[_Y])
  found = adapters.from_sklearn(model, dataset)(_X)
  np.testing.assert_array_equal(found.argmax(1), dataset.y)


def test_text_is_a_name_though_it_may_be_a_number():
  dataset = adapter_example.dataset(["1", "2", "3"])
  at = _Y > 0
  model = linear_model.LogisticRegression().fit(_X[at], (_Y[at] + 1).astype(str))
  found = adapters.from_sklearn(model, dataset)(_X)
  np.testing.assert_array_equal(found[:, 0], 0)


def test_images_are_flattened():
  images = _X.reshape(90, 3, 1, 1)
  model = linear_model.LogisticRegression().fit(_X, _Y)
  found = adapters.from_sklearn(model, adapter_example.dataset())(images)
  np.testing.assert_array_equal(found, model.predict_proba(_X))


@pytest.mark.parametrize(
  ("classes", "names", "message"),
  [
    (["x", "y", "z"], None, "classes are x, y, z, expected some .* 0, 1, 2"),
    ([0, 1, 7], None, "classes are 0, 1, 7"),
    ([1, 2, 3], None, "classes are 1, 2, 3"),
    (
      [1, 2],
      [1, 2, 3],
      r"1, 2: numbers from 0, or classes that .* order 1, 2, 3\? Fit",
    ),
    ([0.5, 1.0], None, "expected some of the dataset's"),
  ],
)
def test_classes_that_are_not_the_datasets(classes, names, message):
  model = linear_model.LogisticRegression()
  model.classes_ = np.array(classes)
  with pytest.raises(ValueError, match=message):
    adapters.from_sklearn(model, adapter_example.dataset(names))


@pytest.mark.parametrize("adapter", [adapters.from_sklearn, adapters.fit_sklearn])
def test_without_probabilities(adapter):
  model = svm.LinearSVC().fit(_X, _Y)
  with pytest.raises(ValueError, match="LinearSVC has no predict_proba"):
    adapter(model, adapter_example.dataset())


def test_a_family_differs_by_seed_and_learns_nothing_from_the_model_given():
  forest = ensemble.RandomForestClassifier(5, random_state=0).fit(_X, _Y)
  fit = adapters.fit_sklearn(forest, adapter_example.dataset())
  assert fit.name == "RandomForestClassifier"
  first, again, other = (fit(_X[:60], _Y[:60], seed)(_X) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)
  alone = ensemble.RandomForestClassifier(5, random_state=1).fit(_X[:60], _Y[:60])
  np.testing.assert_array_equal(first, alone.predict_proba(_X))
  two = fit(_X[_Y > 0], _Y[_Y > 0], 0)(_X)
  assert two.shape == (90, 3)
  assert (two[:, 0] == 0).all()


class _NoGaps(linear_model.LogisticRegression):
  """As XGBoost: its classes are 0 to k - 1, or it does not fit."""

  def fit(self, x, y):
    seen = np.unique(y)
    if not np.array_equal(seen, np.arange(len(seen))):
      raise ValueError(f"Expected: {np.arange(len(seen))}, got {seen}")
    return super().fit(x, y)


@pytest.mark.parametrize("absent", [0, 1])
def test_a_family_that_takes_no_gaps_between_classes(absent):
  fit = adapters.fit_sklearn(_NoGaps(), adapter_example.dataset())
  at = np.isin(_Y, absent, invert=True)
  found = fit(_X[at], _Y[at], 0)(_X)
  assert (found[:, absent] == 0).all()
  plain = linear_model.LogisticRegression(random_state=0).fit(_X[at], _Y[at])
  np.testing.assert_allclose(np.delete(found, absent, 1), plain.predict_proba(_X))
  last = fit(_X[_Y < 2], _Y[_Y < 2], 0)(_X)
  assert (last[:, 2] == 0).all()


def test_what_a_family_does_not_fit_is_its_own_error():
  fit = adapters.fit_sklearn(
    linear_model.LogisticRegression(C=-1.0), adapter_example.dataset()
  )
  for at in (_Y >= 0, _Y != 1):
    with pytest.raises(ValueError, match="'C' parameter"):
      fit(_X[at], _Y[at], 0)


def test_a_pipeline_on_a_frame():
  pandas = pytest.importorskip("pandas")
  frame = pandas.DataFrame(
    {"n": _X[:, 0].astype(float), "c": np.array(["u", "v", None])[_Y]}
  )
  dataset = datasets.from_arrays(frame, _Y)
  steps = compose.make_column_transformer(
    (preprocessing.StandardScaler(), ["n"]),
    (preprocessing.OneHotEncoder(), ["c"]),
  )
  model = pipeline.make_pipeline(
    steps, ensemble.RandomForestClassifier(5, random_state=0)
  )
  model.fit(frame, _Y)
  found = adapters.from_sklearn(model, dataset)(dataset.given)
  adapter_example.check_probabilities(found, model.predict_proba(frame))
  fit = adapters.fit_sklearn(model, dataset)
  assert fit.name == "RandomForestClassifier"
  adapter_example.check_probabilities(fit(dataset.given, dataset.y, 3)(dataset.given))


def test_a_frame_of_numbers_needs_no_pandas(monkeypatch):
  import sys

  monkeypatch.setitem(sys.modules, "pandas", None)
  numbers = np.array([(1.0, 2.0), (3.0, 4.0)], [("a", float), ("b", float)])
  np.testing.assert_array_equal(estimators.as_rows(numbers), [[1, 2], [3, 4]])
  text = np.array([(1.0, "x")], [("a", float), ("b", "U1")])
  with pytest.raises(ValueError, match="needs pandas"):
    estimators.as_rows(text)
