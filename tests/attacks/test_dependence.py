"""What each threshold depends on: Ye et al., Table 1, and section 4.5 of Attack L."""

import numpy as np
import pytest

from jmia.attacks import distillation, leave_one_out, population, reference, shadow

_LABELS = np.repeat([0, 1, 2], 4)  # 12 samples of 3 classes
_ALPHA = [0.1]


def _losses(seed: int, rows: int, columns: int) -> np.ndarray:
  return np.random.default_rng(seed).exponential(size=(rows, columns)).astype("float32")


def _thresholds(attack: str, target: int, others: int) -> np.ndarray:
  """`[12]` thresholds for one target, given models that do not depend on it.

  The losses that an attack takes of the target, or of models made from it, are drawn
  from `target`; those of models trained without it from `others`.
  """
  labels = np.arange(300) % 3
  calls = {
    "population": lambda: population.thresholds(_losses(target, 1, 300)[0], _ALPHA),
    "population per class": lambda: population.thresholds(
      _losses(target, 1, 300)[0],
      _ALPHA,
      population_labels=labels,
      labels=_LABELS,
      num_classes=3,
    ),
    "shadow": lambda: shadow.thresholds(
      _losses(others, 8, 300), labels, _LABELS, 3, _ALPHA
    ),
    "reference": lambda: reference.thresholds(_losses(others, 8, 12), _ALPHA),
    "distillation": lambda: distillation.thresholds(_losses(target, 8, 12), _ALPHA),
    "leave_one_out": lambda: leave_one_out.thresholds(_losses(target, 8, 12), _ALPHA),
  }
  return np.broadcast_to(calls[attack]()[0], _LABELS.shape)


@pytest.mark.parametrize(
  ("attack", "num_distinct", "moves_with_target"),
  [
    ("population", 1, True),  # c(θ)
    ("population per class", 3, True),  # c(θ, y)
    ("shadow", 3, False),  # c(y)
    ("reference", 12, False),  # c(x, y)
    ("distillation", 12, True),  # c(θ, x, y)
    ("leave_one_out", 12, True),  # c(D \ z, x, y)
  ],
)
def test_threshold_depends_on_what_table_1_says(
  attack, num_distinct, moves_with_target
):
  base = _thresholds(attack, target=1, others=2)
  assert len(np.unique(base)) == num_distinct
  if num_distinct == 3:  # one for each class
    assert all(len(np.unique(base[c == _LABELS])) == 1 for c in range(3))
  other_target = _thresholds(attack, target=3, others=2)
  assert (not np.array_equal(base, other_target)) == moves_with_target
  other_models = _thresholds(attack, target=1, others=4)
  assert (not np.array_equal(base, other_models)) == (not moves_with_target)
