"""How many models are trained at once, and how their convolutions are lowered.

The width is the widest whose programs fit a budget of memory. On an accelerator, where
a run is long enough to win it back, that is where a search by timing starts (`choice`).
"""

import functools
import math

from absl import logging
import jax
from jax.experimental import multihost_utils
import numpy as np

from jmia.models import layers
from jmia.training import choice, placing
from jmia.training import programs as programs_lib
from jmia.training.choice import Candidate
from jmia.training.programs import Programs, Source

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


def most_at_once(num_models: int) -> int:
  """Returns how many models are trained together where memory does not bound them."""
  num_devices = jax.device_count()
  cap = _most_per_device()
  return num_devices * _even(math.ceil(num_models / num_devices), cap)


def chosen(
  source: Source,
  width: int | None,
  lowering: str | None,
  memory_budget: int | None,
) -> tuple[Programs, Candidate]:
  """Returns a run's programs, compiled, and the width and lowering that they are at.

  Args:
    source: what they are of.
    width: models at once, if that is settled.
    lowering: of convolutions, where the search by timing does not find another.
    memory_budget: bytes on each device for models in training. Default: 80 % of what
      an accelerator has free, 64 MiB on a CPU.

  Raises:
    ValueError: `width` is no multiple of the devices, or one model exceeds the given
      budget.
  """
  if width is not None:
    return _at_width(source, width, lowering), Candidate(width, lowering)
  budget = _default_budget(source.mesh) if memory_budget is None else memory_budget
  start = choice.now()
  programs, widest = _widest(source, lowering, budget, memory_budget is not None)
  compile_s = choice.now() - start
  if _is_worth_timing(source, widest):
    return _fastest(source, programs, widest, compile_s, budget)
  return programs, Candidate(widest, lowering)


def _at_width(source: Source, width: int, lowering: str | None) -> Programs:
  """The programs at a width that was asked for."""
  num_devices = source.mesh.size
  if width < 1 or width % num_devices:
    raise ValueError(f"width={width} must be a multiple of the {num_devices} devices")
  return programs_lib.compiled(programs_lib.lower(source, width, lowering))


def _widest(
  source: Source, lowering: str | None, budget: int, is_bound: bool
) -> tuple[Programs, int]:
  """The programs at the greatest width that fits, and that width.

  One model that does not fit is refused if the budget is bound to be kept.
  """
  num_devices = source.mesh.size
  share = math.ceil(source.num_models / num_devices)
  per_device = _even(share, _cap(source, lowering, share, budget))
  while True:
    lowered = programs_lib.lower(source, per_device * num_devices, lowering)
    programs = programs_lib.compiled(lowered)
    needed = programs_lib.bytes_needed(programs, num_devices)
    if needed <= budget or (per_device == 1 and not is_bound):
      return programs, per_device * num_devices
    if per_device == 1:
      raise ValueError(
        f"training one model takes {needed} bytes, memory_budget={budget}"
      )
    per_device = _even(share, max(1, per_device * budget // needed))


def _cap(source: Source, lowering: str | None, share: int, budget: int) -> int:
  """How many models on a device are tried first."""
  cap = _most_per_device()
  if jax.default_backend() == "cpu" or share == 1:
    return cap
  # Of a large network hundreds side by side would take long to compile, if they can
  # be: one model tells.
  num_devices = source.mesh.size
  lowered = programs_lib.lower(source, num_devices, lowering)
  update = lowered.update.compile(_UNTUNED.get(jax.default_backend()))
  of_one = programs_lib.own_bytes(update)
  of_one += programs_lib.job_bytes(lowered, num_devices)
  if _FILLS_ACCELERATOR < of_one <= budget:
    return 1
  return min(cap, max(1, budget // of_one))


def _is_worth_timing(source: Source, width: int) -> bool:
  """Whether a run may win back what timing takes; several processes do not time."""
  if jax.default_backend() == "cpu" or jax.process_count() > 1:
    return False
  num_chunks = math.ceil(source.num_models / width)
  return source.recipe.num_epochs * num_chunks >= _WORTH_TIMING_EPOCHS


def _fastest(
  source: Source,
  reasoned: Programs,
  width: int,
  compile_s: float,  # of the reasoned programs, and about that of any others
  budget: int,
) -> tuple[Programs, Candidate]:
  """The programs, of those `reasoned` at a width and others, that train all soonest."""
  num_models, num_devices = source.num_models, source.mesh.size
  first = Candidate(width, None)
  compiled = {first: reasoned}

  def programs(candidate: Candidate) -> Programs:
    if candidate not in compiled:
      lowered = programs_lib.lower(source, *candidate)
      compiled[candidate] = programs_lib.compiled(lowered)
    return compiled[candidate]

  def fits(candidate: Candidate) -> bool:
    return programs_lib.bytes_needed(programs(candidate), num_devices) <= budget

  @functools.cache
  def cost(candidate: Candidate) -> float:
    if not fits(candidate):
      return math.inf
    seconds = _seconds_per_epoch(source, programs(candidate), candidate.width)
    return seconds * math.ceil(num_models / candidate.width)

  texts = {
    how: programs_lib.lower(source, num_devices, how).update.as_text()
    for how in _LOWERINGS
  }
  # A network without convolutions is the same program however they are lowered.
  others = [how for how in _LOWERINGS if texts[how] != texts[None]]
  key = choice.name(list(texts.values()), num_models, num_devices, width)
  best = choice.read(key)
  if best is None or not fits(best):
    whole = source.recipe.num_epochs * cost(first)
    # Each further candidate: the other lowerings, and another width.
    search = (len(others) + 1) * compile_s
    if search > _MOST_SPENT_ON_TIMING * whole:
      logging.info("%.3g s of training are not worth %.3g s of search", whole, search)
      return programs(first), first
    best = choice.fastest([first, *(Candidate(width, how) for how in others)], cost)
    other = _narrower(best, num_models, num_devices)
    if other != best:
      best = choice.fastest([best, other], cost)
    choice.keep(key, best)
  logging.info("chosen: %s", best)
  return programs(best), best


def _narrower(best: Candidate, num_models: int, num_devices: int) -> Candidate:
  """The other width that is tried beside the best lowering at the first."""
  share = math.ceil(num_models / num_devices)
  at_once = best.width // num_devices
  # Next to one model a few; next to many a quarter, which the caches may hold.
  per_device = _even(share, 4 if at_once == 1 else max(1, at_once // 4))
  return Candidate(per_device * num_devices, best.lowering)


def _seconds_per_epoch(source: Source, programs: Programs, width: int) -> float:
  """The seconds that an epoch of the first chunk takes, measured."""
  models = jax.sharding.NamedSharding(source.mesh, programs_lib.Spec(programs_lib.AXIS))
  model_id = np.arange(width, dtype=np.int32) % source.num_models
  jobs = placing.put(placing.take(source.jobs, model_id), models)
  state = programs.init(source.key, placing.put(model_id, models), jobs)

  def epoch() -> None:
    nonlocal state
    state, *outcome = programs.update(state, jobs, source.data)
    placing.get(outcome)

  return choice.seconds(epoch)


def _most_per_device() -> int:
  on_cpu = jax.default_backend() == "cpu"
  return _MAX_WIDTH_CPU if on_cpu else _MAX_WIDTH_ACCELERATOR


def _even(num_models: int, cap: int) -> int:
  """The least width of the fewest chunks of at most `cap` models."""
  return math.ceil(num_models / math.ceil(num_models / min(cap, num_models)))


def _default_budget(mesh: jax.sharding.Mesh) -> int:
  """The bytes that models in training may take on each device of the mesh."""
  if jax.default_backend() == "cpu":
    return _CPU_BUDGET
  stats = [device.memory_stats() for device in mesh.local_devices]
  free = min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
  # All processes must choose one width; as float32, since int64 is cut to 32 bits.
  if jax.process_count() > 1:
    free = multihost_utils.process_allgather(np.float32(free)).min()
  return int(0.8 * free)
