"""Signals: what a model's logits say about one labelled example.

Every signal is written for one example and works from logits, never from
probabilities, so that a float32 model that is sure of its answer is not rounded to
0 or 1: two examples at p = 1 - 1e-9 and p = 1 - 1e-12 keep different losses.

A signal is not a score: a member has a low loss, but a high confidence. Attacks turn
signals into scores.
"""

from collections.abc import Callable, Mapping, Sequence
import types

import jax
import jax.numpy as jnp

from jmia import _validate


def scaled_logit(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns the logit-scaled confidence, `log(p_y / (1 - p_y))`.

  Computed as `-logsumexp_{j != y}(z_j - z_y)`: the difference is taken first, so the
  size of the logits costs no accuracy.

  Args:
    logits: `[C]` float logits of one example, `C >= 2`.
    label: `[]` integer class `y`.

  Returns:
    `[]` float32, unbounded; higher for members.

  Source: Carlini et al., "Membership Inference Attacks From First Principles", sec. IV.
  """
  return -_log_odds_against(_as_logits(logits), label)


def loss(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns the cross-entropy `-log p_y` of one example; lower for members.

  It is `softplus(-scaled_logit)`, which keeps its relative precision down to the
  smallest float32, where `-log_softmax` rounds every loss below 6e-8 to 0.

  Args:
    logits: `[C]` float logits of one example.
    label: `[]` integer class `y`.

  Returns:
    `[]` float32, at least 0.
  """
  return jax.nn.softplus(_log_odds_against(_as_logits(logits), label))


def true_class_probability(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns `p_y` of one example, `[]` float32; higher for members."""
  return jax.nn.sigmoid(scaled_logit(logits, label))


def confidence(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns `max_i p_i` of one example, `[]` float32; the label is not used."""
  del label
  return jnp.max(jax.nn.softmax(_as_logits(logits)))


def top_log_odds(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns `log(p_i / (1 - p_i))` of the most likely class i, whatever the label.

  It orders examples as `confidence` does, which in float32 is exactly 1 from log odds
  of about 17 on; this goes on, as `scaled_logit` of that class.

  Args:
    logits: `[C]` float logits of one example.
    label: not used; a signal takes logits and a label.

  Returns:
    `[]` float32, at least `-log(C - 1)`; higher for members.
  """
  del label
  logits = _as_logits(logits)
  return -_log_odds_against(logits, jnp.argmax(logits))


def entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns the entropy `-sum_i p_i log p_i` of the prediction, in nats.

  With `m = max_i z_i` it is `log(sum_i exp(z_i - m)) + sum_i p_i (m - z_i)`: two terms
  that are never negative, so nothing cancels when the prediction is nearly certain.

  Args:
    logits: `[C]` float logits of one example.
    label: not used; a signal takes logits and a label.

  Returns:
    `[]` float32 in `[0, log C]`; lower for members.
  """
  del label
  logits = _as_logits(logits)
  top = jnp.argmax(logits)
  gap = logits[top] - logits
  mass = jnp.exp(-gap)
  rest = jnp.sum(jnp.where(_is_class(logits, top), 0.0, mass))
  # A class at -inf has no mass, and 0 * inf would be NaN.
  return jnp.log1p(rest) + jnp.sum(jnp.where(mass > 0, mass * gap, 0.0)) / (1 + rest)


def modified_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns the modified entropy: low only if the model is sure of the true class.

  `-(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i)`. A class with `p_i` near 1 takes
  `log(1 - p_i)` from its log odds; at most one class has `p_i > 1/2`.

  Args:
    logits: `[C]` float logits of one example.
    label: `[]` integer class `y`.

  Returns:
    `[]` float32, at least 0; lower for members.

  Source: Song & Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning
  Models", eq. 8.
  """
  logits = _as_logits(logits)
  top = jnp.argmax(logits)
  against = _log_odds_against(logits, label)
  of_label = jax.nn.sigmoid(against) * jax.nn.softplus(against)
  probs = jax.nn.softmax(logits)
  # Below 1/2 nothing cancels in log1p(-p); the top class may be above.
  surprise = jnp.where(
    _is_class(logits, top),
    jax.nn.softplus(-_log_odds_against(logits, top)),
    -jnp.log1p(-jnp.minimum(probs, 0.5)),
  )
  return of_label + jnp.sum(jnp.where(_is_class(logits, label), 0.0, probs * surprise))


def correctness(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Returns 1.0 if the predicted class is the label, else 0.0; `[]` float32.

  Of tied classes the first is predicted, as in `argmax`.
  """
  return (jnp.argmax(_as_logits(logits)) == label).astype(jnp.float32)


def divergence(
  target_logits: jax.typing.ArrayLike, model_logits: jax.typing.ArrayLike
) -> jax.Array:
  """Returns `KL(p || q) = sum_i p_i (log p_i - log q_i)` of two answers; traceable.

  From logits, so that a class which either model is sure against costs no accuracy.

  Args:
    target_logits: `[..., C]` finite float logits of `p`.
    model_logits: `[..., C]` of `q`, broadcastable.

  Returns:
    `[...]` float32 in nats, at least 0 up to rounding.
  """
  target_logits = jnp.asarray(target_logits, jnp.float32)
  log_p = jax.nn.log_softmax(target_logits)
  log_q = jax.nn.log_softmax(jnp.asarray(model_logits, jnp.float32))
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


SIGNALS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = (
  types.MappingProxyType(
    {
      "loss": loss,
      "confidence": confidence,
      "top_log_odds": top_log_odds,
      "true_class_probability": true_class_probability,
      "entropy": entropy,
      "modified_entropy": modified_entropy,
      "scaled_logit": scaled_logit,
      "correctness": correctness,
    }
  )
)


def compute(
  logits: jax.Array, labels: jax.Array, names: Sequence[str]
) -> dict[str, jax.Array]:
  """Returns the named signals of every example; traceable.

  Args:
    logits: `[..., C]` float logits; computed in float32 (float64 stays).
    labels: `[...]` integer labels in `[0, C)`, which traced code cannot check.
    names: which of `SIGNALS`.

  Returns:
    name -> `[...]` float32.

  Raises:
    ValueError: a name is unknown, shapes disagree, fewer than 2 classes, or labels
      are not integers.
  """
  for name in names:
    _validate.known("signal", name, SIGNALS)
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  if logits.ndim == 0 or logits.shape[-1] < 2:
    raise ValueError(f"logits has shape {logits.shape}, expected [..., C] with C >= 2")
  if labels.shape != logits.shape[:-1]:
    raise ValueError(f"labels has shape {labels.shape}, expected {logits.shape[:-1]}")
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(f"labels has dtype {labels.dtype}, expected integer labels")
  flat = logits.reshape(-1, logits.shape[-1])
  values = {name: jax.vmap(SIGNALS[name])(flat, labels.reshape(-1)) for name in names}
  return {name: value.reshape(labels.shape) for name, value in values.items()}


def stream(
  logits_fn: Callable[[jax.Array], jax.Array],
  x: jax.Array,
  y: jax.Array,
  *,
  names: Sequence[str],
  batch_size: int,
  rows: jax.typing.ArrayLike | None = None,
  alter: Callable[[jax.Array, jax.Array], jax.Array] = lambda x, rows: x,
) -> dict[str, jax.Array]:
  """Returns the named signals of all examples, never holding all logits at once.

  Traceable: `vmap` it over stacked model states for `[M, N]`. The last batch is filled
  up with copies of the last example, whose signals are dropped.

  Args:
    logits_fn: `[B, ...]` features -> `[B, C]` logits; one model, not training. Each row
      of its answer must depend on that row alone.
    x: `[N, ...]` features, as `logits_fn` takes them.
    y: `[N]` integer labels.
    names: which of `SIGNALS`.
    batch_size: examples per call of `logits_fn`.
    rows: `[n]` int, which of the examples. Default: all.
    alter: (features `[B, ...]`, their rows `[B]`) -> features asked about instead.

  Returns:
    name -> `[N]` float32, or `[n]`.

  Raises:
    ValueError: `batch_size` is not positive, there are no examples, or `x` and `y`
      disagree; and as `compute`.
  """
  _validate.positive("batch_size", batch_size)
  num_examples = len(x)
  if num_examples == 0:
    raise ValueError("x holds no examples")
  x, y = jnp.asarray(x), jnp.asarray(y)
  if y.shape != (num_examples,):
    raise ValueError(f"y has shape {y.shape}, expected ({num_examples},)")
  rows = jnp.arange(num_examples) if rows is None else jnp.asarray(rows)
  num_rows = len(rows)
  batch_size = min(batch_size, num_rows)
  num_batches = -(-num_rows // batch_size)
  rows = rows[jnp.minimum(jnp.arange(num_batches * batch_size), num_rows - 1)]

  def one_batch(idx: jax.Array) -> dict[str, jax.Array]:
    return compute(logits_fn(alter(x[idx], idx)), y[idx], names)

  batches = jax.lax.map(one_batch, rows.reshape(num_batches, batch_size))
  return {name: value.reshape(-1)[:num_rows] for name, value in batches.items()}


def _as_logits(logits: jax.Array) -> jax.Array:
  """Logits in float32 at least: half precision holds neither losses nor their sums."""
  return jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32))


def _is_class(logits: jax.Array, label: jax.Array) -> jax.Array:
  """`[C]` mask of one class; a mask, as XLA:CPU scatters element by element."""
  return jnp.arange(logits.shape[-1]) == label


def _log_odds_against(logits: jax.Array, label: jax.Array) -> jax.Array:
  """`log((1 - p_y) / p_y)`, by the log-sum-exp of the other classes' lead over y."""
  lead = jnp.where(_is_class(logits, label), -jnp.inf, logits - logits[label])
  return jax.scipy.special.logsumexp(lead)
