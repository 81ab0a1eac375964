"""How MANY models are trained at once.

`run` knows nothing about learning. It stacks jobs, vmaps a recipe's `init` and
`update` over `width` models, shards the model axis over a mesh, and keeps what
`collect` returns of each model. Model m's random stream depends on the key and on m
alone. At a fixed width the results are bitwise reproducible on one CPU, also after an
interruption; across widths and meshes they agree up to floating-point reassociation,
and so do runs on a GPU, where tuning may pick other kernels each time
(`XLA_FLAGS=--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0` asks for none).
"""

from collections.abc import Callable, Mapping
import math
import os
import pathlib
from typing import Any, NamedTuple

from absl import logging
import jax
import numpy as np

from jmia.training import checkpoint, placing, widths
from jmia.training import programs as programs_lib
from jmia.training import recipe as recipe_lib
from jmia.training.programs import AXIS, Collect, Programs, Source, Spec

PyTree = Any
Progress = Callable[[int, int], None]  # told how much is done, and of how much
_KEYS = "threefry2x32"  # under vmap each key's draws are those it has alone
# Recorded by `jax.monitoring.record_scalar` when a run starts: bytes on each device of
# the models in training and the shared data, with num_models, width, num_epochs, and
# num_rows: of a job that has `num_members`, the most of them, else 0.
MEMORY_EVENT = "/jmia/training/bytes"


class Result(NamedTuple):
  """What is kept of `M` models.

  Attributes:
    collected: pytree of host arrays `[M, ...]`: `collect` of each trained model.
    metrics: pytree of host arrays `[M, E]`: each epoch's metrics.
    diverged_epoch: `[M]` int32: the first epoch (from 0) after which a model's state
      or metrics held a NaN or an infinity, -1 for none. Leave such models out.
    width: models trained at once.
  """

  collected: PyTree
  metrics: PyTree
  diverged_epoch: np.ndarray
  width: int


def run(
  recipe: recipe_lib.Recipe,
  key: jax.Array,
  jobs: PyTree,
  data: PyTree,
  *,
  collect: Collect = lambda state, job, data: (),
  width: int | None = None,
  mesh: jax.sharding.Mesh | None = None,
  memory_budget: int | None = None,
  checkpoint_dir: str | os.PathLike[str] | None = None,
  checkpoint_seconds: float = 60.0,
  config: Mapping[str, Any] | None = None,
  progress: Progress = lambda done, total: None,
) -> Result:
  """Trains one model per job and returns what `collect` keeps of each.

  Args:
    recipe: how one model is trained.
    key: key `[]` of `threefry2x32`; model m starts from `fold_in(key, m)`.
    jobs: pytree of arrays `[M, ...]`, what differs between models.
    data: pytree of arrays that all models share; put on every device once.
    collect: (state, job, data) -> pytree kept of one trained model. Default: the
      metrics alone.
    width: models trained at once, a multiple of the number of devices. Default: from
      the compiled program's memory figures and the device's memory, or as it was in
      the run that `checkpoint_dir` resumes. One process on an accelerator times a
      narrower width and the other lowering of convolutions too, where the run takes
      much longer than compiling them, and keeps the choice (`choice`).
    mesh: devices, with one axis named `AXIS`. Default: all; of one process's those
      that shorten the run, as many as divide a given `width`.
    memory_budget: bytes on each device for the models in training, the shared data
      not counted; it bounds the width where none is given. Default: 80 % of what an
      accelerator has free, 64 MiB on a CPU.
    checkpoint_dir: where to save and resume. Default: nothing is saved.
    checkpoint_seconds: at most this much training is lost to a kill; 0 saves after
      every epoch.
    config: what else a refusal shall name (the recipe's settings), as JSON values;
      a checkpoint of another configuration is refused. Key, jobs, data, width, models
      on each device, the precision of matrix products, the kind of device, the shapes
      of a model's state and of what is collected, and a hash of the programs, which
      hold whatever a recipe depends on, are always part of it.
    progress: called as `progress(done, total)` in model-epochs.

  Returns:
    The results, on the host (on every host, where there are several).

  Raises:
    ValueError: if the key is of another kind, the jobs' leading sizes differ or are 0,
      the mesh has other axes, `width` does not fit it, `collect` returns a random key,
      one model exceeds a given `memory_budget`, or `checkpoint_dir` holds another
      configuration's run; and by the recipe's check.
  """
  _check_key(key)
  num_models = _num_models(jobs)
  recipe.check(jobs, data)
  directory = pathlib.Path(checkpoint_dir) if checkpoint_dir is not None else None
  resumed = (checkpoint.read_config(directory) if directory is not None else {}) or {}
  width = resumed.get("width") if width is None else width
  mesh = mesh or _default_mesh(num_models, width)
  if mesh.axis_names != (AXIS,):
    raise ValueError(f"mesh has axes {mesh.axis_names}, expected one named {AXIS!r}")
  everywhere = jax.sharding.NamedSharding(mesh, Spec())
  source = Source(
    recipe=recipe,
    collect=collect,
    mesh=mesh,
    key=_put_key(key, everywhere),
    jobs=jobs,
    data=placing.put(data, everywhere),
    is_hashed=directory is not None,
  )
  programs, (width, lowering) = widths.chosen(
    source, width, resumed.get("lowering"), memory_budget
  )
  logging.info("training %d models, %d at a time", num_models, width)
  _record_memory(source, programs, width)
  if directory is not None:
    of_run = _fingerprint(source, programs, width, lowering)
    of_data = {
      "key": jax.random.key_data(key).tolist(),
      "data": checkpoint.digest(data),
    }
    checkpoint.claim(directory, {**(config or {}), **of_run, **of_data})
  store = checkpoint.Store(directory, checkpoint_seconds)
  results = []
  with checkpoint.interruptible(directory) as interruption:
    for start in range(0, num_models, width):
      # Not named here: its jobs leave the devices before the next chunk's arrive.
      result = _train(
        source, programs, _chunk(source, start, width, progress, interruption), store
      )
      results.append(placing.take(result, np.arange(min(width, num_models - start))))
      interruption.deliver()
  collected, metrics, diverged = jax.tree.map(lambda *a: np.concatenate(a), *results)
  return Result(collected, metrics, diverged, width)


def _check_key(key: jax.Array) -> None:
  """Raises ValueError for a key whose draws depend on more than the key."""
  found = str(jax.random.key_impl(key))
  if found != _KEYS:
    raise ValueError(
      f"key is of {found}, whose draws under vmap are those of the first model's key:"
      f" expected jax.random.key(seed, impl={_KEYS!r})"
    )
  settings: Any = jax.config
  if not getattr(settings, "jax_threefry_partitionable", True):
    raise ValueError(
      "jax_threefry_partitionable=False makes a model's draws depend on the largest"
      " model beside it: expected JAX's default, True"
    )


def _num_models(jobs: PyTree) -> int:
  """Returns the jobs' leading size; raises ValueError if they disagree or are none."""
  sizes = {np.shape(a)[:1] for a in jax.tree.leaves(jobs)}
  if len(sizes) != 1 or not min(sizes) or min(sizes) == (0,):
    raise ValueError(f"jobs have leading sizes {sorted(sizes)}, expected one, above 0")
  return min(sizes)[0]


def _default_mesh(num_models: int, width: int | None) -> jax.sharding.Mesh:
  """Returns the devices to train on: no more than keep the run as short as all do."""
  devices = np.array(jax.devices())
  if jax.process_count() == 1:  # else every process must take part
    devices = devices[: _num_devices(devices.size, num_models, width)]
  return jax.sharding.Mesh(devices, (AXIS,))


def _num_devices(most: int, num_models: int, width: int | None) -> int:
  """Returns how many devices to take; of a width that it led to the same again."""
  if width is not None and width > 0:
    return max(num for num in range(1, most + 1) if width % num == 0)
  share = math.ceil(num_models / most)
  return math.ceil(num_models / share)


def _put_key(key: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
  """Returns a key on all devices: as words, which other processes' devices take too."""
  words = placing.put(jax.random.key_data(key), sharding)
  return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def _record_memory(source: Source, programs: Programs, width: int) -> None:
  """Tells whoever listens what the run takes; see `MEMORY_EVENT`."""
  shared = sum(a.nbytes for a in jax.tree.leaves(source.data))
  jax.monitoring.record_scalar(
    MEMORY_EVENT,
    programs_lib.bytes_needed(programs, source.mesh.size) + shared,
    num_models=source.num_models,
    width=width,
    num_epochs=source.recipe.num_epochs,
    num_rows=int(np.max(getattr(source.jobs, "num_members", 0))),
  )


def _fingerprint(
  source: Source, programs: Programs, width: int, lowering: str | None
) -> dict[str, Any]:
  """Returns what results depend on beside the key and the data, as JSON values."""
  mesh = source.mesh
  return {
    "width": width,
    "models_per_device": width // mesh.size,
    # Results depend on it as they do on the width.
    **({"lowering": lowering} if lowering else {}),
    "matmul_precision": _matmul_precision(),
    "device_kind": mesh.devices.flat[0].device_kind,
    "num_epochs": source.recipe.num_epochs,
    "jobs": checkpoint.digest(source.jobs),
    "state": checkpoint.structure(_of_one(programs.init.out_info)),
    "collected": checkpoint.structure(_of_one(programs.collect.out_info)),
    checkpoint.PROGRAMS: programs.digest,
  }


def _matmul_precision() -> str | None:
  """JAX's precision of matrix products here, also within its context manager."""
  settings: Any = jax.config
  precision: str | None = settings.jax_default_matmul_precision
  return precision


def _of_one(tree: PyTree) -> PyTree:
  """Returns one model's shapes, of those of a chunk."""
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), tree)


class _Chunk(NamedTuple):
  """Models in training together, whom they tell of epochs, and who may stop them."""

  number: int
  model_id: jax.Array
  jobs: PyTree
  report: Callable[[int], None]
  interruption: checkpoint.Interruption


def _chunk(
  source: Source,
  start: int,
  width: int,
  progress: Progress,
  interruption: checkpoint.Interruption,
) -> _Chunk:
  """Returns the models from `start` on, on their devices.

  The last chunk is padded with copies of the last model, which are dropped: one width,
  hence one program, and results that do not depend on who trains beside.
  """
  num_models, num_epochs = source.num_models, source.recipe.num_epochs
  models = jax.sharding.NamedSharding(source.mesh, Spec(AXIS))
  model_id = np.arange(start, start + width, dtype=np.int32)
  model_id = np.minimum(model_id, num_models - 1)
  size = min(width, num_models - start)

  def report(epochs: int) -> None:
    progress(start * num_epochs + size * epochs, num_models * num_epochs)

  return _Chunk(
    number=start // width,
    model_id=placing.put(model_id, models),
    jobs=placing.put(placing.take(source.jobs, model_id), models),
    report=report,
    interruption=interruption,
  )


def _train(
  source: Source, programs: Programs, chunk: _Chunk, store: checkpoint.Store
) -> tuple[PyTree, PyTree, np.ndarray]:
  """Returns a chunk's collected `[W, ...]`, metrics `[W, E]`, diverged epoch `[W]`."""
  width, num_epochs = len(chunk.model_id), source.recipe.num_epochs
  metrics = jax.tree.map(
    lambda a: np.zeros((width, num_epochs, *a.shape[1:]), a.dtype),
    programs.update.out_info[1],
  )
  diverged = np.full(width, -1, np.int32)
  finished = store.load_chunk(
    chunk.number, (programs.collect.out_info, metrics, diverged)
  )
  if finished is not None:
    chunk.report(num_epochs)
    return finished

  state = programs.init(source.key, chunk.model_id, chunk.jobs)
  done, (state, metrics, diverged) = store.load_running(
    chunk.number, (state, metrics, diverged)
  )
  if done:
    chunk.report(done)
  for epoch in range(done, num_epochs):
    state, *outcome = programs.update(state, chunk.jobs, source.data)
    of_epoch, is_finite = placing.get(outcome)
    for all_epochs, value in zip(
      jax.tree.leaves(metrics), jax.tree.leaves(of_epoch), strict=True
    ):
      all_epochs[:, epoch] = value
    diverged[~is_finite & (diverged < 0)] = epoch
    chunk.report(epoch + 1)
    if epoch + 1 < num_epochs:
      stops = chunk.interruption.signal is not None
      kept = (state, metrics, diverged)
      store.save_running(chunk.number, epoch + 1, kept, is_last=stops)
      chunk.interruption.deliver()
  result = (
    placing.get(programs.collect(state, chunk.jobs, source.data)),
    metrics,
    diverged,
  )
  store.save_chunk(chunk.number, result)
  return result
