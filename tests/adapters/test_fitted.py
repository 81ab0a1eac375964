import numpy as np
import pytest

from jmia import splits
from jmia.adapters import fitted

_X = np.arange(50.0)[:, None]
_Y = (np.arange(50) % 3).astype(np.int32)


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_each_model_is_fitted_on_its_own_rows(num_jobs):
  def fit(x, y, seed):  # within, so that processes need not import this file
    return lambda asked: np.stack(
      [asked[:, 0] + x.sum(), asked[:, 0] * y.sum() + seed], 1
    )

  rows = [np.arange(5), np.arange(3, 30), np.arange(40, 42)]
  asked = np.array([7, 0, 49])
  found = fitted.answers(
    fit, splits.ragged(rows), _X, _Y, asked, seeds=[5, 6, 7], num_jobs=num_jobs
  )
  for m, answer in enumerate(found):
    expected = fit(_X[rows[m]], _Y[rows[m]], 5 + m)(_X[asked])
    np.testing.assert_array_equal(answer, expected)
  assert m == 2


def test_models_are_asked_in_batches():
  sizes = []

  def fit(x, y, seed):
    return lambda asked: sizes.append(len(asked)) or np.zeros((len(asked), 2))

  asked = np.zeros(2_500, int)
  (answer,) = fitted.answers(
    fit, splits.ragged([np.arange(2)]), _X, _Y, asked, seeds=[0], num_jobs=1
  )
  assert answer.shape == (2_500, 2)
  assert sizes == [1_024, 1_024, 452]


def test_seeds_are_of_the_models_number_alone():
  some = fitted.seeds(3, np.array([4, 9]))
  assert some == [fitted.seeds(3, np.arange(12))[m] for m in (4, 9)]
  assert len({*fitted.seeds(3, np.arange(50)), *fitted.seeds(4, np.arange(50))}) > 98


def test_names():
  def forest(x, y, seed):
    raise NotImplementedError

  assert fitted.name(forest) == "forest"
  forest.name = "forest of 20"
  assert fitted.name(forest) == "forest of 20"
