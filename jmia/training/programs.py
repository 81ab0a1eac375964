"""The programs of a run: one chunk of models made, trained an epoch, and collected.

They are lowered at a width, from what is to be trained, and compiled; what they need of
a device's memory is read off them.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jmia.models import layers
from jmia.training import choice
from jmia.training import recipe as recipe_lib

PyTree = Any
Collect = Callable[[PyTree, PyTree, PyTree], PyTree]
Spec = jax.sharding.PartitionSpec
AXIS = "model"


class Source(NamedTuple):
  """What the programs of a run are lowered from, at whatever width.

  Attributes:
    recipe: how one model is trained.
    collect: (state, job, data) -> what is kept of it.
    mesh: devices, with one axis named `AXIS`.
    key: of all models, on all devices.
    jobs: `[M, ...]` on the host.
    data: that all models share, on all devices.
    is_hashed: whether programs are told from others by their text, for checkpoints.
  """

  recipe: recipe_lib.Recipe
  collect: Collect
  mesh: jax.sharding.Mesh
  key: jax.Array
  jobs: PyTree
  data: PyTree
  is_hashed: bool = False

  @property
  def num_models(self) -> int:
    """How many models are trained, `M`."""
    return len(jax.tree.leaves(self.jobs)[0])


class Programs(NamedTuple):
  """A run's programs over one chunk of models: lowered (`Any`), and then compiled.

  Attributes:
    init: (key, model_id [W], jobs [W]) -> states [W]
    update: (states, jobs, data) -> (states, metrics [W], is finite [W])
    collect: (states, jobs, data) -> collected [W]
    digest: SHA-256 of what was lowered; '' where it was not asked for.
  """

  init: Any
  update: Any
  collect: Any
  digest: str = ""


def lower(source: Source, width: int, lowering: str | None = None) -> Programs:
  """Returns the programs of `width` models, traced but not compiled.

  Args:
    source: what they are of; every array has its sharding already.
    width: models at once.
    lowering: of convolutions, as `layers.on_accelerator`.

  Raises:
    ValueError: `collect` returns a random key.
  """
  with layers.on_accelerator(lowering):
    programs = _lower(source, width)
  if not source.is_hashed:
    return programs
  texts = [program.as_text() for program in programs[:3]]
  return programs._replace(digest=choice.digest(texts))


def _lower(source: Source, width: int) -> Programs:
  """Traces the programs at a width."""
  recipe, collect, mesh, key, jobs, data, _ = source
  models = jax.sharding.NamedSharding(mesh, Spec(AXIS))

  def batched(f, *in_axes):
    # shard_map and not jit's partitioner: models share nothing, so each device runs
    # its own, and no collective can enter the program.
    specs = tuple(Spec() if axis is None else Spec(AXIS) for axis in in_axes)
    return jax.shard_map(
      jax.vmap(f, in_axes), mesh=mesh, in_specs=specs, out_specs=Spec(AXIS),
      check_vma=False,
    )  # fmt: skip

  def init(key, model_id, job):
    return recipe.init(jax.random.fold_in(key, model_id), job)

  def update(state, job, data):
    state, metrics = recipe.update(state, job, data)
    return state, metrics, recipe_lib.all_finite((state, metrics))

  def stacked(shape, dtype):
    dtype = jax.dtypes.canonicalize_dtype(dtype, allow_extended_dtype=True)
    return jax.ShapeDtypeStruct((width, *shape), dtype, sharding=models)

  chunk_jobs = jax.tree.map(lambda a: stacked(a.shape[1:], a.dtype), jobs)
  model_id = stacked((), jnp.int32)
  lowered_init = jax.jit(batched(init, None, 0, 0)).lower(key, model_id, chunk_jobs)
  state = jax.tree.map(lambda a: stacked(a.shape[1:], a.dtype), lowered_init.out_info)
  lowered_collect = jax.jit(batched(collect, 0, 0, None)).lower(state, chunk_jobs, data)
  _check_collected(lowered_collect.out_info)
  return Programs(
    lowered_init,
    jax.jit(batched(update, 0, 0, None), donate_argnums=0).lower(
      state, chunk_jobs, data
    ),
    lowered_collect,
  )


def _check_collected(collected: PyTree) -> None:
  """Raises ValueError, with its name, for a key among what is to be NumPy arrays."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(collected):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      raise ValueError(
        f"collect returns a random key, collected{jax.tree_util.keystr(path)}:"
        " expected none, or its words (jax.random.key_data)"
      )


def compiled(lowered: Programs) -> Programs:
  """Returns lowered programs, compiled."""
  return Programs(
    # Initialisers are many small random draws: optimised in full they take up to
    # eight times as long to compile as at level 1, and run no faster; at level 0
    # they compile little sooner, and run four to nine times slower.
    lowered.init.compile({"xla_backend_optimization_level": 1}),
    lowered.update.compile(),
    lowered.collect.compile(),
    lowered.digest,
  )


def own_bytes(program: Any) -> int:
  """Returns one device's bytes of a program's results and of what it makes for them."""
  memory = program.memory_analysis()
  return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)


def job_bytes(programs: Programs, num_devices: int) -> int:
  """Returns one device's bytes of a chunk's jobs, which lie there while it trains."""
  (_, _, jobs), _ = programs.init.args_info
  sizes = [math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(jobs)]
  return sum(sizes) // num_devices


def bytes_needed(programs: Programs, num_devices: int) -> int:
  """Returns one device's bytes while the hungriest program runs, shared data apart."""
  # An epoch's output is its input's memory; the states are beside what is collected.
  states = programs.update.memory_analysis().output_size_in_bytes
  needed = (
    own_bytes(programs.init),
    own_bytes(programs.update),
    states + own_bytes(programs.collect),
  )
  return int(max(needed)) + job_bytes(programs, num_devices)
