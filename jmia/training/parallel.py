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
import functools
import math
import os
import pathlib
from typing import Any, NamedTuple

from absl import logging
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from jmia.models import layers
from jmia.training import checkpoint, choice
from jmia.training import recipe as recipe_lib

PyTree = Any
Collect = Callable[[PyTree, PyTree, PyTree], PyTree]
Progress = Callable[[int, int], None]  # told how much is done, and of how much
Spec = jax.sharding.PartitionSpec
AXIS = "model"
_KEYS = "threefry2x32"  # under vmap each key's draws are those it has alone
# Recorded by `jax.monitoring.record_scalar` when a run starts: bytes on each device of
# the models in training and the shared data, with num_models, width, num_epochs, and
# num_rows: of a job that has `num_members`, the most of them, else 0.
MEMORY_EVENT = "/jmia/training/bytes"

# More models than this at once gained nothing on each device where it was measured.
_MAX_WIDTH_CPU, _MAX_WIDTH_ACCELERATOR = 8, 256
# On a CPU, models in training past this size leave the caches and slow each other: a
# small CNN is fastest alone, Purchase's MLP four to eight at a time.
_CPU_BUDGET = 64 * 2**20
# A model that needs more than this is taken to fill an accelerator alone.
_FILLS_ACCELERATOR = 256 * 2**20
# On an accelerator these are where the search by timing starts. It costs two epochs of
# each of up to three candidates, and compiling them, which on a GPU takes as long as
# thousands of small models do: less than a shorter run could win back.
_WORTH_TIMING_EPOCHS = 20
_MOST_SPENT_ON_TIMING = 1 / 4  # of what a run would take without it
# What tells the memory of a program need not be fast. A TPU does not know the option.
_UNTUNED = {"gpu": {"xla_gpu_autotune_level": 0}}
_LOWERINGS = (None, *layers.LOWERINGS[1:])  # None: as the network was written


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
  models = jax.sharding.NamedSharding(mesh, Spec(AXIS))
  everywhere = jax.sharding.NamedSharding(mesh, Spec())
  # As words, since device_put takes keys to this process's devices alone.
  words = _put(jax.random.key_data(key), everywhere)
  device_key = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
  device_data = _put(data, everywhere)

  hashes: dict[tuple[int, str | None], str] = {}

  def lower(width: int, lowering: str | None) -> _Programs:
    with layers.on_accelerator(lowering):
      programs = _lower(recipe, collect, mesh, width, device_key, jobs, device_data)
    if directory is not None:
      texts = [program.as_text() for program in programs]
      hashes[width, lowering] = choice.digest(texts)
    return programs

  def seconds_per_epoch(programs: _Programs, width: int) -> float:
    model_id = np.arange(width, dtype=np.int32) % num_models
    chunk_jobs = _put(_take(jobs, model_id), models)
    state = programs.init(device_key, _put(model_id, models), chunk_jobs)

    def epoch():
      nonlocal state
      state, *outcome = programs.update(state, chunk_jobs, device_data)
      _get(outcome)

    return choice.seconds(epoch)

  lowering = resumed.get("lowering")
  start = choice.now()
  programs, chosen = _compile(
    functools.partial(lower, lowering=lowering),
    width,
    num_models,
    mesh,
    memory_budget,
  )
  compile_s = choice.now() - start
  is_long = recipe.num_epochs * math.ceil(num_models / chosen) >= _WORTH_TIMING_EPOCHS
  is_accelerator = jax.default_backend() != "cpu" and jax.process_count() == 1
  if width is None and is_long and is_accelerator:
    budget = _default_budget(mesh) if memory_budget is None else memory_budget
    programs, (chosen, lowering) = _compile_fastest(
      lower,
      seconds_per_epoch,
      (programs, chosen),
      compile_s,
      num_models,
      recipe.num_epochs,
      mesh.size,
      budget,
    )
  width = chosen
  logging.info("training %d models, %d at a time", num_models, width)
  jax.monitoring.record_scalar(
    MEMORY_EVENT,
    _bytes_needed(programs, mesh.size)
    + sum(a.nbytes for a in jax.tree.leaves(device_data)),
    num_models=num_models,
    width=width,
    num_epochs=recipe.num_epochs,
    num_rows=int(np.max(getattr(jobs, "num_members", 0))),
  )

  if directory is not None:
    fingerprint = {
      **(config or {}),
      "width": width,
      "models_per_device": width // mesh.size,
      # Results depend on it as they do on the width.
      **({"lowering": lowering} if lowering else {}),
      "matmul_precision": _matmul_precision(),
      "device_kind": mesh.devices.flat[0].device_kind,
      "num_epochs": recipe.num_epochs,
      "key": jax.random.key_data(key).tolist(),
      "jobs": checkpoint.digest(jobs),
      "data": checkpoint.digest(data),
      "state": checkpoint.structure(_of_one(programs.init.out_info)),
      "collected": checkpoint.structure(_of_one(programs.collect.out_info)),
      checkpoint.PROGRAMS: hashes[width, lowering],
    }
    checkpoint.claim(directory, fingerprint)
  store = checkpoint.Store(directory, checkpoint_seconds)

  total = num_models * recipe.num_epochs
  results = []

  def train(start: int, interruption: checkpoint.Interruption) -> None:
    # The last chunk is padded with copies of the last model, which are dropped: one
    # width, hence one program, and results that do not depend on who trains beside.
    model_id = np.minimum(
      np.arange(start, start + width, dtype=np.int32), num_models - 1
    )
    size = min(width, num_models - start)

    def report(epochs: int) -> None:
      progress(start * recipe.num_epochs + size * epochs, total)

    chunk = _Chunk(
      number=start // width,
      model_id=_put(model_id, models),
      jobs=_put(_take(jobs, model_id), models),
      report=report,
      interruption=interruption,
    )
    result = _train(programs, recipe.num_epochs, device_key, chunk, device_data, store)
    results.append(_take(result, np.arange(size)))

  with checkpoint.interruptible(directory) as interruption:
    for start in range(0, num_models, width):
      train(start, interruption)
      interruption.deliver()
  collected, metrics, diverged = jax.tree.map(lambda *a: np.concatenate(a), *results)
  return Result(collected, metrics, diverged, width)


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


def _matmul_precision() -> str | None:
  """JAX's precision of matrix products here, also within its context manager."""
  settings: Any = jax.config
  precision: str | None = settings.jax_default_matmul_precision
  return precision


def most_at_once(num_models: int) -> int:
  """Returns how many models are trained together where memory does not bound them."""
  on_cpu = jax.default_backend() == "cpu"
  num_devices = jax.device_count()
  cap = _MAX_WIDTH_CPU if on_cpu else _MAX_WIDTH_ACCELERATOR
  return num_devices * _even(math.ceil(num_models / num_devices), cap)


class _Programs(NamedTuple):
  """A run's programs over one chunk of models: lowered (`Any`), and then compiled."""

  init: Any  # (key, model_id [W], jobs [W]) -> states [W]
  update: Any  # (states, jobs, data) -> (states, metrics [W], is finite [W])
  collect: Any  # (states, jobs, data) -> collected [W]


class _Chunk(NamedTuple):
  """Models in training together, whom they tell of epochs, and who may stop them."""

  number: int
  model_id: jax.Array
  jobs: PyTree
  report: Callable[[int], None]
  interruption: checkpoint.Interruption


def _train(
  programs: _Programs,
  num_epochs: int,
  key: jax.Array,
  chunk: _Chunk,
  data: PyTree,
  store: checkpoint.Store,
) -> tuple[PyTree, PyTree, np.ndarray]:
  """Returns a chunk's collected `[W, ...]`, metrics `[W, E]`, diverged epoch `[W]`."""
  width = len(chunk.model_id)
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

  state = programs.init(key, chunk.model_id, chunk.jobs)
  done, (state, metrics, diverged) = store.load_running(
    chunk.number, (state, metrics, diverged)
  )
  if done:
    chunk.report(done)
  for epoch in range(done, num_epochs):
    state, *outcome = programs.update(state, chunk.jobs, data)
    of_epoch, is_finite = _get(outcome)
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
  result = (_get(programs.collect(state, chunk.jobs, data)), metrics, diverged)
  store.save_chunk(chunk.number, result)
  return result


def _lower(recipe, collect, mesh, width, key, jobs, data) -> _Programs:
  """Traces the programs at a width; every array has its sharding already."""
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
  return _Programs(
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


def _compile(
  lower: Callable[[int], _Programs],
  width: int | None,
  num_models: int,
  mesh: jax.sharding.Mesh,
  memory_budget: int | None,
) -> tuple[_Programs, int]:
  """Returns the programs compiled at `width`, or at the widest that fits the budget.

  Raises:
    ValueError: as `run`.
  """
  num_devices = mesh.size
  if width is not None:
    if width < 1 or width % num_devices:
      raise ValueError(f"width={width} must be a multiple of the {num_devices} devices")
    return _compile_at(lower, width), width
  share = math.ceil(num_models / num_devices)
  budget = _default_budget(mesh) if memory_budget is None else memory_budget
  on_cpu = jax.default_backend() == "cpu"
  cap = _MAX_WIDTH_CPU if on_cpu else _MAX_WIDTH_ACCELERATOR
  if not on_cpu and share > 1:
    # Of a large network hundreds side by side would take long to compile, if they can
    # be: one model tells.
    lowered = lower(num_devices)
    update = lowered.update.compile(_UNTUNED.get(jax.default_backend()))
    of_one = _own_bytes(update) + _job_bytes(lowered, num_devices)
    if _FILLS_ACCELERATOR < of_one <= budget:
      cap = 1
    else:
      cap = min(cap, max(1, budget // of_one))
  per_device = _even(share, cap)
  while True:
    programs = _compile_at(lower, per_device * num_devices)
    needed = _bytes_needed(programs, num_devices)
    if needed <= budget:
      break
    if per_device == 1:
      if memory_budget is None:
        break
      raise ValueError(
        f"training one model takes {needed} bytes, memory_budget={memory_budget}"
      )
    per_device = _even(share, max(1, per_device * budget // needed))
  return programs, per_device * num_devices


def _compile_fastest(
  lower: Callable[..., _Programs],  # (width, lowering)
  seconds_per_epoch: Callable[[_Programs, int], float],
  reasoned: tuple[_Programs, int],
  compile_s: float,  # of the reasoned programs, and about that of any others
  num_models: int,
  num_epochs: int,
  num_devices: int,
  budget: int,
) -> tuple[_Programs, choice.Candidate]:
  """Returns the programs, of `reasoned` and others, that train all models soonest."""
  first = choice.Candidate(reasoned[1], None)
  compiled = {first: reasoned[0]}

  def programs(candidate: choice.Candidate) -> _Programs:
    if candidate not in compiled:
      lower_as = functools.partial(lower, lowering=candidate.lowering)
      compiled[candidate] = _compile_at(lower_as, candidate.width)
    return compiled[candidate]

  @functools.cache
  def cost(candidate: choice.Candidate) -> float:
    if _bytes_needed(programs(candidate), num_devices) > budget:
      return math.inf
    seconds = seconds_per_epoch(programs(candidate), candidate.width)
    return seconds * math.ceil(num_models / candidate.width)

  texts = {how: lower(num_devices, how).update.as_text() for how in _LOWERINGS}
  # A network without convolutions is the same program however they are lowered.
  others = [how for how in _LOWERINGS if texts[how] != texts[None]]
  key = choice.name(list(texts.values()), num_models, num_devices, first.width)
  best = choice.read(key)
  if best is None or _bytes_needed(programs(best), num_devices) > budget:
    whole = num_epochs * cost(first)
    # Each further candidate: the other lowerings, and another width.
    search = (len(others) + 1) * compile_s
    if search > _MOST_SPENT_ON_TIMING * whole:
      logging.info("%.3g s of training are not worth %.3g s of search", whole, search)
      return programs(first), first
    best = choice.fastest(
      [first, *(choice.Candidate(first.width, how) for how in others)], cost
    )
    share = math.ceil(num_models / num_devices)
    at_once = best.width // num_devices
    # Next to one model a few; next to many a quarter, which the caches may hold.
    per_device = _even(share, 4 if at_once == 1 else max(1, at_once // 4))
    other = choice.Candidate(per_device * num_devices, best.lowering)
    if other != best:
      best = choice.fastest([best, other], cost)
    choice.keep(key, best)
  logging.info("chosen: %s", best)
  return programs(best), best


def _compile_at(lower: Callable[[int], _Programs], width: int) -> _Programs:
  """Returns the programs compiled for `width` models at once."""
  lowered = lower(width)
  return _Programs(
    # Initialisers are many small random draws: optimised in full they take up to
    # eight times as long to compile as at level 1, and run no faster; at level 0
    # they compile little sooner, and run four to nine times slower.
    lowered.init.compile({"xla_backend_optimization_level": 1}),
    lowered.update.compile(),
    lowered.collect.compile(),
  )


def _even(num_models: int, cap: int) -> int:
  """Returns the least width of the fewest chunks of at most `cap` models."""
  return math.ceil(num_models / math.ceil(num_models / min(cap, num_models)))


def _own_bytes(program: Any) -> int:
  """Returns one device's bytes of a program's results and of what it makes for them."""
  memory = program.memory_analysis()
  return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)


def _job_bytes(programs: _Programs, num_devices: int) -> int:
  """Returns one device's bytes of a chunk's jobs, which lie there while it trains."""
  (_, _, jobs), _ = programs.init.args_info
  sizes = [math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(jobs)]
  return sum(sizes) // num_devices


def _bytes_needed(programs: _Programs, num_devices: int) -> int:
  """Returns one device's bytes while the hungriest program runs, shared data apart."""
  # An epoch's output is its input's memory; the states are beside what is collected.
  states = programs.update.memory_analysis().output_size_in_bytes
  needed = (
    _own_bytes(programs.init),
    _own_bytes(programs.update),
    states + _own_bytes(programs.collect),
  )
  return int(max(needed)) + _job_bytes(programs, num_devices)


def _default_budget(mesh: jax.sharding.Mesh) -> int:
  """Returns the bytes that models in training may take on each device of the mesh."""
  if jax.default_backend() == "cpu":
    return _CPU_BUDGET
  stats = [device.memory_stats() for device in mesh.local_devices]
  free = min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
  # All processes must choose one width; as float32, since int64 is cut to 32 bits.
  if jax.process_count() > 1:
    free = multihost_utils.process_allgather(np.float32(free)).min()
  return int(0.8 * free)


def _of_one(tree: PyTree) -> PyTree:
  """Returns one model's shapes, of those of a chunk."""
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), tree)


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


def _take(tree: PyTree, index: np.ndarray) -> PyTree:
  """Returns rows of every leaf, as host arrays of a dtype that JAX keeps."""

  def take(leaf):
    leaf = np.asarray(leaf)
    return leaf[index].astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)

  return jax.tree.map(take, tree)


def _put(tree: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
  """Places host arrays on the mesh; every process holds, and cuts from, the whole."""

  def put(leaf):
    leaf = np.asarray(leaf)
    leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda i: leaf[i])

  return jax.tree.map(put, tree)


def _get(tree: PyTree) -> PyTree:
  """Returns whole arrays on the host of every process."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
