"""Sums of clipped gradients of single examples, where it can be without making each.

What clipping needs of an example is the norm of its gradient. A dense layer's, of one
example with input `a` and derivative `d` by its output, is `a d^T`, of squared norm
`|a|^2 |d|^2`: two vectors say it, and no matrix is made. So each example goes backward
once for its norm, and then once more, all together, with its loss times `min(1, C /
norm)`: an ordinary gradient of a sum, one product a layer for the whole batch. Where
each gradient is made (2 MB for a network of 485,000 parameters), memory is all that
counts.

**The norm is never too small.** Layers are found as they are called, with their
parameters held fixed. What flows to parameters by any other way (a loss that reads
one) is made for each example, and its norm is added: exact where an example has one or
the other, an upper bound where it has both, by the triangle inequality.

**Where it is not used.** The second pass puts the weight into a product, which in
bfloat16 or TF32 is rounded after clipping; a loop may hide how often a layer is called;
and convolutions see so many positions that to make a gradient is as cheap (1.4 times as
slow with a second pass). There each gradient is made and clipped by `jax_privacy`.

Source: Goodfellow, "Efficient Per-Example Gradient Computations" (2015); Lee & Kifer,
"Scaling up Differentially Private Deep Learning with Fast Per-Example Gradient
Clipping" (2021), for the second pass.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import lax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

PyTree = Any
# (params, examples [1, ...]) -> (loss [], aux)
Loss = Callable[[PyTree, PyTree], tuple[jax.Array, PyTree]]

_LOOPS = ("scan", "while", "cond")
_PRECISION = "jax_default_matmul_precision"
_EXACT = ("float32", "highest")
_LEAST = 1e-30  # a norm that nothing is divided by


class Clipped(NamedTuple):
  """What came of the valid examples of a batch.

  Attributes:
    total: the sum of their clipped gradients; one that is not finite counts as zeros.
    value: the sum of their losses.
    aux: `[B, ...]` of each, in the order of the batch; zeros where it is not valid.
  """

  total: PyTree
  value: jax.Array
  aux: PyTree


def clipped_sum(
  loss: Loss,
  params: PyTree,
  examples: PyTree,
  valid: jax.Array,
  max_norm: float,
  chunk: int,
) -> Clipped:
  """Sums the clipped gradients of a batch.

  Args:
    loss: of one example: it is called with batches of one.
    params: of the model.
    examples: `[B, ...]`, the valid ones first.
    valid: `[B]` bool.
    max_norm: L2 norm that each gradient is clipped to.
    chunk: examples at a time, a divisor of B; chunks without a valid one are left out.

  Raises:
    ImportError: jax-privacy is not installed.
  """
  ones = jax.tree.map(lambda leaf: leaf[:, None], examples)
  can = can_measure(loss, params, jax.tree.map(lambda leaf: leaf[0], ones))
  way = _by_norms if can else _by_gradients
  return way(loss, params, ones, valid, max_norm, chunk)


def can_measure(loss: Loss, params: PyTree, example: PyTree) -> bool:
  """Returns whether clipping by norms is exact here, and cheap; see the module.

  Args:
    loss: of one example.
    params: of the model, or their shapes.
    example: `[1, ...]`, or its shapes.
  """
  precision = getattr(jax.config, _PRECISION)
  if jax.default_backend() != "cpu" and precision not in _EXACT:
    return False
  calls = _calls(loss, params, example)
  in_layers = {(*path, name) for path in calls for name in ("kernel", "bias")}
  leaves = {
    tuple(getattr(key, "key", key) for key in path)
    for path, _ in jax.tree.leaves_with_path(params)
  }
  if len(calls) > len(set(calls)) or not calls or not leaves <= in_layers:
    return False
  closed = jax.make_jaxpr(lambda *of: loss(*of))(params, example)
  return all(
    equation.primitive.name not in _LOOPS
    and all(_is_single(var.aval) for var in equation.outvars)
    for equation in _equations(closed.jaxpr)
  )


def norms(loss: Loss, params: PyTree, examples: PyTree) -> jax.Array:
  """Returns `[B]` float32, the norm of each example's gradient, or more.

  Args:
    loss: of one example, that `can_measure` is true of.
    params: of the model.
    examples: `[B, 1, ...]`.
  """
  calls = _calls(loss, params, jax.tree.map(lambda leaf: leaf[0], examples))

  def tapped(params: PyTree, taps: list[jax.Array], example: PyTree) -> jax.Array:
    with nn.intercept_methods(_tapping(iter(taps))):
      return loss(params, example)[0]

  def norm(example: PyTree) -> jax.Array:
    taps = [jnp.zeros(()) for _ in calls]
    rest, squares = jax.grad(tapped, (0, 1))(params, taps, example)
    rest_squares = (jnp.sum(leaf**2) for leaf in jax.tree.leaves(rest))
    return jnp.sqrt(sum(squares)) + jnp.sqrt(sum(rest_squares))

  return jax.vmap(norm)(examples)


def _calls(loss: Loss, params: PyTree, example: PyTree) -> list[tuple[str, ...]]:
  """The dense layers that are called with one row, each as often as it is."""
  found = []

  def intercept(call, args, kwargs, context):
    if _is_dense(context, args):
      found.append(context.module.path)
    return call(*args, **kwargs)

  with nn.intercept_methods(intercept):
    jax.eval_shape(lambda *of: loss(*of), params, example)  # never one traced before
  return found


def _is_dense(context: Any, args: tuple[Any, ...]) -> bool:
  return (
    type(context.module) is nn.Dense
    and context.method_name == "__call__"
    and len(args) == 1
    and args[0].size == args[0].shape[-1]
  )


def _tapping(taps: Iterator[jax.Array]):
  """Calls dense layers with fixed parameters, and a tap each, for `_probe`."""
  is_inside = False

  def intercept(call, args, kwargs, context):
    nonlocal is_inside
    if is_inside or not _is_dense(context, args):
      return call(*args, **kwargs)
    layer, (x,) = context.module, args
    own = jax.tree.map(lax.stop_gradient, layer.variables["params"])
    is_inside = True
    y = layer.clone(parent=None).apply({"params": own}, x)
    is_inside = False
    return _probe(y, lax.stop_gradient(x), jnp.float32("bias" in own), next(taps))

  return intercept


@jax.custom_vjp
def _probe(y: jax.Array, x: jax.Array, num_biases: jax.Array, tap: jax.Array):
  """`y = x @ kernel + bias`; by `tap` comes the squared norm of what its own get."""
  del x, num_biases, tap
  return y


def _probe_forward(y, x, num_biases, tap):
  del tap
  return y, (x, num_biases)


def _probe_backward(saved, cotangent):
  x, num_biases = saved
  squared = (jnp.sum(x**2) + num_biases) * jnp.sum(cotangent**2)
  return cotangent, jnp.zeros_like(x), jnp.zeros_like(num_biases), squared


_probe.defvjp(_probe_forward, _probe_backward)


def _by_norms(loss, params, ones, valid, max_norm, chunk) -> Clipped:
  """`clipped_sum`, where `can_measure`; `ones` are `[B, 1, ...]`."""
  parts = jax.tree.map(
    lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), (ones, valid)
  )

  def body(number, carry: Clipped) -> Clipped:
    some, are_valid = jax.tree.map(lambda leaf: leaf[number], parts)
    size = norms(loss, params, some)
    is_in = are_valid & jnp.isfinite(size)
    weight = jnp.where(is_in, jnp.minimum(1.0, max_norm / jnp.maximum(size, _LEAST)), 0)
    # Nothing times infinity is NaN: an example without a part is zeros, not large.
    finite = _only(is_in, some)

    def weighted(params):
      values, aux = jax.vmap(loss, (None, 0))(params, finite)
      return jnp.vdot(weight, values), (values, aux)

    grads, (values, aux) = jax.grad(weighted, has_aux=True)(params)
    return Clipped(
      jax.tree.map(jnp.add, carry.total, grads),
      carry.value + jnp.sum(values, where=are_valid),
      jax.tree.map(
        lambda of, own: of.at[number].set(own), carry.aux, _only(are_valid, aux)
      ),
    )

  first = jax.tree.map(lambda leaf: leaf[0], ones)
  _, aux = jax.eval_shape(loss, params, first)
  start = Clipped(
    jax.tree.map(jnp.zeros_like, params),
    jnp.zeros(()),
    jax.tree.map(lambda of: jnp.zeros((*parts[1].shape, *of.shape), of.dtype), aux),
  )
  found = lax.fori_loop(0, -(-valid.sum() // chunk), body, start)
  each = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found.aux)
  return found._replace(aux=each)


def _by_gradients(loss, params, ones, valid, max_norm, chunk) -> Clipped:
  """`clipped_sum`, with each gradient made; `ones` are `[B, 1, ...]`."""
  from jax_privacy import clipping

  # optax cuts chunks with a stride: laid out so, the first is full first.
  order = np.arange(len(valid)).reshape(-1, chunk).T.ravel()
  examples = jax.tree.map(lambda leaf: leaf[order, 0], ones)
  total, each = clipping.clipped_grad(
    loss,
    has_aux=True,
    return_values=True,
    l2_clip_norm=max_norm,
    microbatch_size=chunk,
  )(params, examples, is_padding_example=~valid[order])
  aux = jax.tree.map(lambda leaf: leaf[np.argsort(order)], each.aux)
  return Clipped(total, each.values.sum(), aux)


def _only(keep: jax.Array, tree: PyTree) -> PyTree:
  """The tree `[B, ...]`, with zeros where `keep [B]` is false."""

  def one(leaf):
    mask = keep.reshape(keep.shape + (1,) * (leaf.ndim - 1))
    return jnp.where(mask, leaf, jnp.zeros_like(leaf))

  return jax.tree.map(one, tree)


def _equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
  """All equations, those of functions that are called too."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(
      tuple(equation.params.values()),
      is_leaf=lambda leaf: isinstance(leaf, core.Jaxpr | core.ClosedJaxpr),
    ):
      if isinstance(inner, core.ClosedJaxpr):
        inner = inner.jaxpr
      if isinstance(inner, core.Jaxpr):
        yield from _equations(inner)


def _is_single(aval: Any) -> bool:
  """Whether a value is no floating point number of less than 32 bits."""
  dtype = getattr(aval, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
    return True
  return jnp.finfo(dtype).bits >= 32
