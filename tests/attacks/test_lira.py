import numpy as np
import pytest
import reference_example
from scipy import stats

from jmia.attacks import lira


def _variance(references, mask, n, own):
  """As the docstring has it, by loops."""
  if own:
    return np.var(references[mask[:, n], n], ddof=1)
  squares = freedom = 0
  for i in range(references.shape[1]):
    values = references[mask[:, i], i]
    squares += sum((value - values.mean()) ** 2 for value in values)
    freedom += len(values) - 1
  return squares / freedom


@pytest.mark.parametrize("variance", ["own", "pooled"])
@pytest.mark.parametrize("num_models", [6, 40])
def test_both_forms_match_the_paper_by_loops(variance, num_models):
  phi, references, held, _ = reference_example.draw(0, (9,), num_models=num_models)
  online = lira.score_online(phi, references, held, ~held, variance=variance)
  offline = lira.score_offline(phi, references, ~held, variance=variance)
  assert online.dtype == offline.dtype == np.float64
  for n in range(9):
    fitted = [
      stats.norm(
        references[mask[:, n], n].mean(),
        np.sqrt(_variance(references, mask, n, variance == "own")),
      )
      for mask in (held, ~held)
    ]
    log_in, log_out = (normal.logpdf(phi[n]) for normal in fitted)
    np.testing.assert_allclose(online[n], log_in - log_out, rtol=1e-9)
    np.testing.assert_allclose(offline[n], -fitted[1].logsf(phi[n]), rtol=1e-9)


def test_queries_are_pooled_each_by_itself_and_summed():
  phi, references, held, _ = reference_example.draw(1, (20, 3), num_models=8)
  each = [
    lira.score_online(phi[:, q], references[..., q], held, ~held) for q in range(3)
  ]
  together = lira.score_online(phi, references, held, ~held)
  np.testing.assert_allclose(together, np.sum(each, axis=0), rtol=1e-12)


def test_hand_worked_scores():
  # in: mean 4, variance 2; out: mean 0, variance 2. phi = 3:
  # -(3 - 4)^2 / 4 + (3 - 0)^2 / 4 = 2. Offline z = 3 / sqrt(2) = 2.12, p = .0169.
  references = np.array([[3.0], [5.0], [-1.0], [1.0]])
  held = np.array([[True], [True], [False], [False]])
  phi = np.array([3.0])
  np.testing.assert_allclose(lira.score_online(phi, references, held, ~held), [2.0])
  offline = lira.score_offline(phi, references, ~held)
  np.testing.assert_allclose(np.exp(-offline), [0.016947], rtol=1e-4)


def test_a_variance_is_the_samples_own_from_30_models_of_each_kind():
  held = np.zeros((64, 3), bool)
  held[:30, 0] = held[:29, 1] = held[:35, 2] = True
  assert lira.own_variance(held, ~held).tolist() == [True, False, False]
  assert lira.own_variance(~held).tolist() == [True, True, False]
  assert lira.own_variance(held, variance="own").all()
  assert not lira.own_variance(held, variance="pooled").any()


def test_of_64_models_the_target_decides_no_variance():
  # Every row is in 32 of 64 models; the target is the first.
  held = np.argsort(np.random.default_rng(0).random((64, 500)), axis=0) < 32
  assert lira.own_variance(held[1:], ~held[1:]).all()
  assert lira.own_variance(~held[1:]).all()


def test_far_tails_do_not_tie():
  references = np.array([[-1.0, -1.0], [1.0, 1.0]])
  scores = lira.score_offline(
    np.array([1e4, 1e4 + 1]), references, np.ones((2, 2), bool)
  )
  assert np.isfinite(scores).all()
  assert scores[1] > scores[0]


def test_models_that_answer_alike_are_no_error():
  references = np.full((4, 3), 2.0)
  held = np.array([[True], [True], [False], [False]]) & np.ones((4, 3), bool)
  phi = np.array([1.0, 2.0, 3.0])
  offline = lira.score_offline(phi, references, ~held)
  assert offline[0] < offline[1] < offline[2] < np.inf
  np.testing.assert_array_equal(
    lira.score_online(phi, references, held, ~held), np.zeros(3)
  )


@pytest.mark.parametrize(
  ("variance", "num_models", "message"),
  [
    ("own", 1, "out marks one model for 2 samples, first sample 0; .* own needs 2"),
    ("pooled", 1, "out marks one model for every sample; to pool"),
    ("pooled_", 2, "unknown variance 'pooled_'; did you mean 'pooled'"),
  ],
)
def test_what_a_variance_needs_is_said(variance, num_models, message):
  references = np.zeros((num_models, 2))
  with pytest.raises(ValueError, match=message):
    lira.score_offline(
      np.zeros(2), references, np.ones((num_models, 2), bool), variance=variance
    )
