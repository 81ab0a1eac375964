import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jmia import signals

ALL = tuple(signals.SIGNALS)
_compute = jax.jit(signals.compute, static_argnums=2)


def _oracle(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
  """All signals in float64, straight from their definitions, one example at a time."""
  rows: dict[str, list[float]] = {name: [] for name in ALL}
  for z, y in zip(logits.astype(np.float64), labels, strict=True):
    log_p = special.log_softmax(z)
    p = np.exp(log_p)
    # log(1 - p_i), by summing the other classes: 1 - p_i itself would cancel.
    log_rest = np.array([special.logsumexp(np.delete(log_p, i)) for i in range(len(z))])
    log_rest = np.where(p < 0.5, np.log1p(-np.minimum(p, 0.5)), log_rest)
    # -log p_i = log(1 + (1 - p_i) / p_i), for the same reason.
    surprise = np.logaddexp(0, log_rest - log_p)
    others = np.arange(len(z)) != y
    rows["loss"].append(surprise[y])
    rows["confidence"].append(p.max())
    rows["top_log_odds"].append((log_p - log_rest)[np.argmax(z)])
    rows["true_class_probability"].append(p[y])
    rows["entropy"].append(np.sum(p * surprise))
    rows["modified_entropy"].append(
      np.exp(log_rest[y]) * surprise[y] - np.sum((p * log_rest)[others])
    )
    rows["scaled_logit"].append(log_p[y] - log_rest[y])
    rows["correctness"].append(float(np.argmax(z) == y))
  return {name: np.array(values) for name, values in rows.items()}


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 1e3, 1e4])
def test_signals_match_float64_definitions_at_every_scale(scale):
  rng = np.random.default_rng(0)
  logits = np.clip(rng.normal(0, scale, (200, 7)), -1e4, 1e4).astype(np.float32)
  labels = rng.integers(0, 7, 200).astype(np.int32)
  actual = _compute(logits, labels, ALL)
  for name, expected in _oracle(logits, labels).items():
    assert actual[name].dtype == jnp.float32
    # p = exp(d) inherits d's rounding, a relative |d| * 6e-8 with |d| < 88 before
    # float32 underflows; what is smaller than its smallest normal number may be 0.
    # Log odds cross 0, where only its absolute error is small.
    atol = 1e-6 if name in ("scaled_logit", "top_log_odds") else 1e-35
    np.testing.assert_allclose(
      actual[name], expected, rtol=2e-5, atol=atol, err_msg=name
    )


@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_signals_stay_finite_at_extreme_logits(z):
  logits = jnp.array([z, 0.0, 0.0])
  for label in range(3):
    values = _compute(logits, jnp.array(label), ALL)
    assert all(np.isfinite(v) for v in values.values()), (label, values)
  surely_wrong = _compute(jnp.array([1e4, 0.0]), jnp.array(1), ALL)
  assert surely_wrong["loss"] == 1e4
  assert surely_wrong["scaled_logit"] == -1e4
  assert surely_wrong["modified_entropy"] == 2e4


def test_signals_by_hand():
  # p = (1/2, 1/4, 1/4), label 0.
  logits = jnp.log(jnp.array([2.0, 1.0, 1.0]))
  actual = _compute(logits, jnp.array(0), ALL)
  log2 = np.log(2)
  expected = {
    "loss": log2,
    "confidence": 0.5,
    "top_log_odds": 0.0,
    "true_class_probability": 0.5,
    "entropy": 0.5 * log2 + 0.5 * 2 * log2,
    "modified_entropy": 0.5 * log2 - 0.5 * np.log(0.75),
    "scaled_logit": 0.0,
    "correctness": 1.0,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(actual[name], value, rtol=1e-6, atol=1e-7)
  assert signals.correctness(logits, jnp.array(1)) == 0.0


def test_confident_losses_do_not_tie():
  logits = jnp.array([[20.0, 0.0], [30.0, 0.0], [80.0, 0.0]])
  losses = _compute(logits, jnp.zeros(3, int), ("loss",))["loss"]
  np.testing.assert_allclose(losses, np.exp([-20.0, -30.0, -80.0]), rtol=1e-5)


def test_log_odds_tell_apart_what_confidence_rounds_to_one():
  logits = jnp.array([[18.0, 0.0, 0.0], [25.0, 0.0, 0.0], [90.0, 0.0, 0.0]])
  found = _compute(logits, jnp.ones(3, int), ("confidence", "top_log_odds"))
  np.testing.assert_array_equal(found["confidence"], 1)
  expected = np.array([18.0, 25.0, 90.0]) - np.log(2)
  np.testing.assert_allclose(found["top_log_odds"], expected, rtol=1e-6)


def test_masked_class_has_no_effect_on_any_signal():
  # An output defence may remove classes by setting their logit to -inf.
  with_masked = jnp.array([0.3, -jnp.inf, 1.1])
  without = jnp.array([0.3, 1.1])
  actual = _compute(with_masked, jnp.array(2), ALL)
  expected = _compute(without, jnp.array(1), ALL)
  for name in ALL:
    np.testing.assert_allclose(actual[name], expected[name], rtol=1e-6, err_msg=name)


def test_compute_equals_one_by_one_and_jit():
  rng = np.random.default_rng(1)
  logits = jnp.asarray(rng.normal(0, 4, (2, 3, 5)), jnp.float32)
  labels = jnp.asarray(rng.integers(0, 5, (2, 3)))
  batched = jax.device_get(_compute(logits, labels, ALL))
  one = jax.jit(lambda z, y: {name: signals.SIGNALS[name](z, y) for name in ALL})
  for m in range(2):
    for n in range(3):
      expected = one(logits[m, n], labels[m, n])
      for name in ALL:
        np.testing.assert_allclose(batched[name][m, n], expected[name], rtol=1e-6)
  eager = signals.compute(logits, labels, ["loss"])["loss"]
  np.testing.assert_allclose(eager, batched["loss"], rtol=1e-6)


def test_half_precision_logits_are_computed_in_float32():
  logits = jnp.array([[12.0, 0.0, 0.0]], jnp.bfloat16)
  actual = _compute(logits, jnp.array([0]), ("loss",))["loss"]
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, np.log1p(2 * np.exp(-12.0)), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_stream_equals_compute_whatever_the_batch_size(batch_size):
  rng = np.random.default_rng(2)
  x = rng.integers(0, 2, (10, 6)).astype(np.uint8)
  y = rng.integers(0, 3, 10).astype(np.int32)
  w = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)

  names = ("loss", "correctness")

  def logits_fn(x):
    assert len(x) == min(batch_size, 10)
    return x.astype(jnp.float32) @ w

  @jax.jit
  def stream(x, y):
    return signals.stream(logits_fn, x, y, names=names, batch_size=batch_size)

  streamed = stream(x, y)
  whole = _compute(jnp.asarray(x, jnp.float32) @ w, y, names)
  for name in names:
    assert streamed[name].shape == (10,)
    np.testing.assert_allclose(streamed[name], whole[name], rtol=1e-5, atol=1e-6)


def test_stream_of_many_models_is_models_by_examples():
  rng = np.random.default_rng(3)
  x = jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)
  y = jnp.asarray(rng.integers(0, 3, 7))
  ws = jnp.asarray(rng.normal(size=(5, 4, 3)), jnp.float32)

  def of_model(w):
    return signals.stream(lambda x: x @ w, x, y, names=["loss"], batch_size=3)

  many = jax.jit(jax.vmap(of_model))(ws)["loss"]
  assert many.shape == (5, 7)
  one_by_one = [jax.jit(of_model)(w)["loss"] for w in ws]
  np.testing.assert_allclose(many, np.array(one_by_one), rtol=1e-5)


def test_gradient_of_loss_is_softmax_minus_one_hot():
  logits = jnp.array([0.5, -1.0, 2.0])
  gradient = jax.jit(jax.grad(signals.loss))(logits, jnp.array(1))
  expected = jax.nn.softmax(logits) - jnp.array([0.0, 1.0, 0.0])
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_errors():
  logits, labels = jnp.zeros((4, 3)), jnp.zeros(4, int)
  with pytest.raises(ValueError, match="unknown signal 'los'; did you mean 'loss'"):
    signals.compute(logits, labels, ["los"])
  with pytest.raises(ValueError, match=r"logits has shape \(4, 1\)"):
    signals.compute(jnp.zeros((4, 1)), labels, ["loss"])
  with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(4,\)"):
    signals.compute(logits, labels[:3], ["loss"])
  with pytest.raises(ValueError, match="labels has dtype float32"):
    signals.compute(logits, jnp.zeros(4), ["loss"])

  def stream(x, y, batch_size):
    return signals.stream(lambda x: x, x, y, names=["loss"], batch_size=batch_size)

  with pytest.raises(ValueError, match="batch_size=0 must be"):
    stream(logits, labels, 0)
  with pytest.raises(ValueError, match="x holds no examples"):
    stream(logits[:0], labels[:0], 2)
  with pytest.raises(ValueError, match=r"y has shape \(3,\), expected \(4,\)"):
    stream(logits, labels[:3], 2)
