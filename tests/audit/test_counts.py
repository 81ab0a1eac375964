"""How many models held a row tells nothing of whether the target did."""

import numpy as np
import pytest

from jmia import audit
from jmia.attacks import registry
from jmia.audit import counts, signals_file, true_class
from jmia.audit.importers.cohort import Cohort
from jmia.stats import intervals

N = 6000


def _balanced(num_models, seed=0, num_rows=N):
  """Each row in just half of the models."""
  order = np.random.default_rng(seed).random((num_models, num_rows)).argsort(axis=0)
  return order < num_models // 2


@pytest.mark.parametrize("num_models", [4, 6, 9, 16])
@pytest.mark.parametrize("lost", [0, 1])
def test_every_row_has_as_many_models(num_models, lost):
  held = _balanced(num_models)[lost:]
  given, members = held[1:], held[0]
  if lost and num_models == 4:
    return  # no model is left for some rows
  assert counts.are_balanced(given, members)
  is_in, out = counts.equal(given, members, (0,))
  assert not (is_in & ~given).any()
  assert not (out & given).any()
  for mask, of in ((is_in, given), (out, ~given)):
    assert set(mask.sum(axis=0)) == {of.sum(axis=0).min()}
  # Which are left out is chance, and the same chance again.
  again = counts.equal(given, members, (0,))
  np.testing.assert_array_equal(again[0], is_in)
  assert (counts.equal(given, members, (1,))[1] != out).any()


@pytest.mark.parametrize("num_models", [2, 3, 8, 64])
def test_rows_given_out_independently_are_left_alone(num_models):
  held = np.random.default_rng(0).random((num_models, N)) < 0.5
  is_in, out = counts.equal(held[1:], held[0], (0,))
  np.testing.assert_array_equal(is_in, held[1:])
  np.testing.assert_array_equal(out, ~held[1:])


def test_models_that_leak_nothing_are_not_below_guessing():
  held = _balanced(6)
  rng = np.random.default_rng(0)
  spread = np.exp(rng.normal(0, 0.5, N))
  phi = (rng.normal(2, 3, N) + spread * rng.normal(size=(6, N))).astype(np.float32)
  cohort = Cohort(
    names=tuple("abcdef"),
    held=held,
    labels=np.zeros(N, np.int32),
    num_classes=1,
    signals=true_class.signals("phi", phi, "scaled_logits", 2),
  )
  (evidence,) = cohort.evidence("a")
  group = evidence.groups["in_out"]
  uneven = evidence._replace(
    groups={"in_out": group._replace(held=held[1:], out=~held[1:])}
  )
  attack = registry.get("bavaria")
  found = [
    intervals.auc(attack.score(each), each.members, confidence=0.999)
    for each in (evidence, uneven)
  ]
  assert found[0].low < 0.5 < found[0].high
  assert found[1].high < 0.5


def test_it_is_said():
  held = _balanced(6, num_rows=200)
  phi = np.random.default_rng(0).normal(size=held.shape)
  arrays = {
    "target_scaled_logits": phi[0],
    "members": held[0],
    "labels": np.zeros(200, int),
    "reference_scaled_logits": phi[1:],
    "reference_members": held[1:],
  }
  evidence = signals_file.from_arrays(arrays)
  assert evidence.notes == (counts.NOTE,)
  assert counts.NOTE in audit.from_evidence(evidence, ["lira_online"]).report["notes"]
  arrays["reference_members"] = ~held[1:]
  assert not signals_file.from_arrays(arrays).notes
