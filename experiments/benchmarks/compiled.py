"""Suite `compiled`: our epochs compiled for an H100 that is only described.

XLA compiles ahead of time for a GPU that is not there, given its description and the
CUDA wheels (`pip install '.[cuda]'`). That tells memory, kernels and bytes of a step,
hence a floor for its time; nothing runs. Kernels are chosen without tuning, which needs
the device, so those of a real one may be others. Set `JAX_PLATFORMS=cpu` and
`JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1`, as no driver is there.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import importlib.util
import math
import re
from typing import Any, NamedTuple
from unittest import mock

import jax
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np

from jmia.defenses import registry
from jmia.encoding import encode
from jmia.enhanced import configs
from jmia.models import layers
from jmia.stats import nulls
from jmia.training import config as config_lib
from jmia.training import distillation
from jmia.training import recipe as recipe_lib

from . import cifar10, measure, scoring, studies, training

MEMORY_BYTES = 80e9
# Of an encoding: its synthetic rows, as many that are none, and its layer's units.
_NUM_SYNTHETIC, _NUM_UNITS = 1_000, 128
_BYTES_PER_SECOND, _SECONDS_PER_KERNEL = 3.35e12, 3e-6
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_ITEM_BYTES = {
  "f32": 4, "u32": 4, "s32": 4, "u64": 8, "s64": 8, "pred": 1, "u8": 1, "s8": 1,
  "bf16": 2, "f16": 2,
}  # fmt: skip
_KERNELS = ("fusion", "custom-call", "copy", "sort")
_OPTIONS: Any = {"xla_gpu_autotune_level": 0}


class Loop(NamedTuple):
  """A loop of a compiled program: its trips, and one trip's kernels and bytes."""

  trips: int
  kernels: int
  bytes: int


def is_possible() -> bool:
  """Returns whether the CUDA wheels are installed."""
  return importlib.util.find_spec("jax_cuda13_plugin") is not None


def loops(text: str) -> Iterator[Loop]:
  """Yields the loops of known trip count of a program in HLO text.

  A loop inside another is one of its own, and not in the outer one's figures: those of
  a step with such a loop (DP-SGD's) are too low.
  """
  for body, trips in re.findall(
    r"body=%([\w.\-]+).*?known_trip_count\":{\"n\":\"(\d+)\"", text
  ):
    yield _counted(text, body, int(trips))


def entry(text: str) -> Loop:
  """Returns the kernels and bytes of a program in HLO text outside of its loops."""
  (name,) = re.findall(r"^ENTRY %([\w.\-]+)", text, re.MULTILINE)
  return _counted(text, name, 1)


def _counted(text: str, name: str, trips: int) -> Loop:
  """Counts kernels and bytes of a computation of a program."""
  start = text.index(f"%{name} (")
  sizes: dict[str, int] = {}
  moved = []
  for line in text[start : text.index("\n}", start)].splitlines():
    found = re.match(
      r"\s*(?:ROOT )?%([\w.\-]+) = (\([^=]*?\)|\S+) ([\w\-]+)\((.*?)\)(,|$)", line
    )
    if not found:
      continue
    result, shapes, operation, arguments = found.group(1, 2, 3, 4)
    sizes[result] = _bytes(shapes)
    if operation in _KERNELS:
      read = (sizes.get(a.split("%")[-1].strip(), 0) for a in arguments.split(","))
      moved.append(sizes[result] + sum(read))
  return Loop(trips, len(moved), sum(moved))


class Program(NamedTuple):
  """An epoch of one model, and how many are trained at once.

  Attributes:
    name: of the row.
    recipe: of the epoch.
    job: shapes of a job.
    data: shapes of the data.
    width: models at once.
    lowering: of convolutions, None for the network's own.
  """

  name: str
  recipe: Callable[[], recipe_lib.Recipe]
  job: Any
  data: Any
  width: int
  lowering: str | None = None


def rows() -> list[measure.Row]:
  """One row for each network, recipe and suite, at the width it would train at.

  Raises:
    ValueError: if the CUDA wheels are not installed.
  """
  if not is_possible():
    raise ValueError("suite=compiled needs the CUDA wheels: pip install '.[cuda]'")
  epochs = [row(program) for program in (*networks(), *recipes(), *suites())]
  return [*epochs, *(row_of_score(score) for score in scores())]


def networks() -> list[Program]:
  """What `training` measures: by either lowering, in either precision."""
  cnn = dataclasses.replace(training.CNN, num_members=5_000)
  resnet = dataclasses.replace(training.RESNET, num_members=1_280)
  found = [plain(training.FC, 256)]
  for dtype in ("float32", "bfloat16"):
    for lowering in ("patches", "native"):
      name = f"cnn, {lowering}, {dtype}"
      found.append(plain(_in(cnn, dtype), 64, name=name, lowering=lowering))
    found += [plain(_in(resnet, dtype), n, name=f"resnet18, {dtype}") for n in (1, 8)]
  return found


def recipes() -> list[Program]:
  """Every recipe, of Purchase's network on as many models as a chunk holds."""
  fc = training.FC
  teacher = _shape((), jnp.int32)
  answers = _shape((1, fc.num_rows, fc.num_classes))
  encoded = encode.EncodeConfig(
    train=dataclasses.replace(fc.config, model="mlp_256_128"), layer="Dense_1"
  )
  keys = (
    _shape((fc.num_members,), bool),
    _shape((2 * _NUM_SYNTHETIC, *fc.shape)),
    _shape((_NUM_UNITS,), bool),
  )

  def distilled() -> recipe_lib.Recipe:
    seams = (distillation.soft_labels,)
    return config_lib.build(fc.config, fc.dataset(), transforms=seams).recipe

  return [
    *(plain(fc, 256, name) for name in ("early_stopping:0.1", "stacking:5")),
    plain(dataclasses.replace(fc, num_members=1_280), 256, "dp_sgd:8"),
    Program(
      "fc, distillation",
      distilled,
      training.of_shapes(distillation.Job, *fc.job, teacher),
      training.of_shapes(distillation.Data, *fc.data, answers),
      256,
    ),
    Program(
      "mlp_256_128, encoding",
      lambda: encode.recipe(encoded, fc.dataset()),
      training.of_shapes(encode.Job, *fc.job, *keys),
      fc.data,
      256,
    ),
  ]


def suites() -> list[Program]:
  """What other suites train; `agreement` trains fewer of the same networks."""
  audited = studies.AUDITED
  purchase = configs.CONFIGS["purchase100_2"]
  references = dataclasses.replace(
    training.FC, num_members=purchase.num_members, config=purchase.train
  )
  scaled = dataclasses.replace(training.FC, num_members=512)
  mib = dataclasses.replace(training.RESNET, num_members=2_560)
  resnet9 = dataclasses.replace(_in(cifar10.case(), "bfloat16"), num_members=5_120)
  ways = ((1, "native"), (4, "native"), (4, "patches"))
  return [
    plain(training.FC, 1_024, name="training/fc: fc"),
    plain(training.FC150, 64, name="training/fc150: fc150"),
    plain(scaled, 256, name="scaling: fc"),
    plain(references, 250, name="references: purchase100_2"),
    plain(audited, 256, "dp_sgd:8", name="private: dp_audit"),
    plain(mib, 8, name="mib: resnet18"),
    *(plain(resnet9, n, name=f"cifar10: {how}", lowering=how) for n, how in ways),
  ]


def plain(
  case: training.Case,
  width: int,
  *defenses: str,
  name: str = "",
  lowering: str | None = None,
) -> Program:
  """Supervised training of a case's network, defended or not."""

  def recipe() -> recipe_lib.Recipe:
    dataset = case.dataset()
    plan = registry.plan(
      [registry.parse(name) for name in defenses],
      case.config,
      dataset,
      num_members=case.num_members,
    )
    return registry.build(plan, dataset).recipe

  name = ", ".join((name or case.name, *defenses))
  return Program(name, recipe, case.job, case.data, width, lowering)


class Score(NamedTuple):
  """What an attack computes of losses on a device.

  Attributes:
    name: of the row.
    function: called with arrays of `shapes`.
    shapes: of what it takes.
    result: shape of what it returns.
  """

  name: str
  function: Callable[..., Any]
  shapes: tuple[jax.ShapeDtypeStruct, ...]
  result: tuple[int, ...]


def scores() -> list[Score]:
  """What `scoring` computes on a device for attacks R, S and P, each as one program.

  It takes all samples at once, where the attacks take as many as fit into blocks. The
  moments that S and P need are summed on the host, and are not here; what `tests` does
  is NumPy's alone.
  """
  num_losses = scoring.NUM_MODELS * scoring.NUM_SAMPLES
  return [
    *(score for method in scoring.METHODS for score in _of_samples(method)),
    *_of_groups("S", num_losses, scoring.NUM_CLASSES),
    *_of_groups("P", scoring.NUM_SAMPLES, 1),
  ]


def _of_samples(method: str) -> list[Score]:
  """Attack R: a null of each sample, of all models' losses on it."""
  alpha = scoring.levels()
  losses = _shape((scoring.NUM_MODELS, scoring.NUM_SAMPLES))

  def thresholds(losses):
    return nulls.quantile(nulls.fit(losses, method=method), alpha, method)

  def p_values(losses):
    null = nulls.fit(losses[1:], method=method)
    return nulls.log_p_value(null, losses[0], method)

  result = (scoring.NUM_SAMPLES,)
  return [
    Score(
      f"scoring: thresholds of R, {method}",
      thresholds,
      (losses,),
      (len(alpha), *result),
    ),
    Score(f"scoring: scores of R, {method}", p_values, (losses,), result),
  ]


def _of_groups(attack: str, num_losses: int, num_groups: int) -> list[Score]:
  """Attacks S and P: a null of each class, or of all rows; its order statistics."""
  alpha, method = scoring.levels(), "linear"
  size = num_losses // num_groups
  sizes = np.full(num_groups, size, np.int32)
  starts = np.arange(num_groups, dtype=np.int32) * size

  def fit(group_of, values, groups):
    values = nulls.ascending(group_of, values)
    floor = np.array(1e-6, np.float32)
    return nulls.Null(sizes[groups], floor, values=values, start=starts[groups])

  def thresholds(group_of, values):
    return nulls.quantile(fit(group_of, values, slice(None)), alpha, method)

  # Which sample is of which group makes no other program.
  groups = np.arange(scoring.NUM_SAMPLES) % num_groups

  def p_values(group_of, values, losses):
    return nulls.log_p_value(fit(group_of, values, groups), losses, method)

  pooled = (_shape((num_losses,), jnp.int32), _shape((num_losses,)))
  attacked = _shape((scoring.NUM_SAMPLES,))
  return [
    Score(
      f"scoring: thresholds of {attack}, {method}",
      thresholds,
      pooled,
      (len(alpha), num_groups),
    ),
    Score(
      f"scoring: scores of {attack}, {method}",
      p_values,
      (*pooled, attacked),
      attacked.shape,
    ),
  ]


def row_of_score(score: Score) -> measure.Row:
  """Compiles one; loops, of a search, are not in its kernels and bytes."""
  with mock.patch.object(jax, "default_backend", return_value="gpu"):
    lowered = jax.jit(score.function).lower(*_on_device(score.shapes))
  compiled: Any = lowered.compile(_OPTIONS)
  return _row(score.name, 1, compiled, entry(compiled.as_text()))


def row(program: Program) -> measure.Row:
  """Compiles an epoch; the longest loop is that over the steps."""
  compiled = _compiled(program)
  found = loops(compiled.as_text())
  steps = max(found, key=lambda loop: loop.bytes * loop.trips)
  return _row(program.name, program.width, compiled, steps)


def _row(name: str, width: int, compiled: Any, steps: Loop) -> measure.Row:
  text, memory = compiled.as_text(), compiled.memory_analysis()
  floor = max(steps.bytes / _BYTES_PER_SECOND, steps.kernels * _SECONDS_PER_KERNEL)
  return measure.Row(
    suite="compiled",
    name=name,
    width=width,
    ours=None,
    target={"bytes_needed": MEMORY_BYTES, "host_transfers": 0},
    more={
      "bytes_needed": memory.temp_size_in_bytes + memory.output_size_in_bytes,
      "host_transfers": transfers(text),
      "steps": steps.trips,
      "kernels_per_step": steps.kernels,
      "mb_per_step": steps.bytes / 1e6,
      "floor_ms_per_step": 1e3 * floor,
    },
  )


def transfers(text: str) -> int:
  """Counts what reaches out to the host in a compiled program's text.

  Memory of the host has a space of its own, S(5); else a program sends or calls out.
  """
  return len(re.findall(r"S\(5\)| (?:outfeed|send)\(|callback", text))


def _compiled(program: Program) -> Any:
  with _as_on_gpu(program):
    recipe = program.recipe()
    state = jax.eval_shape(recipe.init, jax.random.key(0), program.job)
    update = jax.jit(jax.vmap(recipe.update, (0, 0, None)), donate_argnums=0)
    lead = (program.width,)
    lowered = update.lower(
      _on_device(state, lead), _on_device(program.job, lead), _on_device(program.data)
    )
  return lowered.compile(_OPTIONS)


def _on_device(tree: Any, lead: tuple[int, ...] = ()) -> Any:
  """Returns shapes with axes in front, on the described device."""
  sharding = jax.sharding.SingleDeviceSharding(_device())
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct((*lead, *a.shape), a.dtype, sharding=sharding), tree
  )


@contextlib.contextmanager
def _as_on_gpu(program: Program) -> Iterator[None]:
  """What suits a device is chosen by the backend's name."""
  is_gpu = mock.patch.object(jax, "default_backend", return_value="gpu")
  with is_gpu, layers.on_accelerator(program.lowering):
    yield


def _shape(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _in(case: training.Case, dtype: str) -> training.Case:
  config = dataclasses.replace(case.config, compute_dtype=dtype)
  return dataclasses.replace(case, config=config)


@functools.cache  # two descriptions are two devices, which share no program
def _device() -> jax.Device:
  """Returns a described H100; JAX has no public way to name its platform."""
  from jax._src import xla_bridge

  known = xla_bridge.canonicalize_platform

  def canonical(platform: str) -> str:
    # The alias "gpu" is only known where a GPU is.
    return "cuda" if platform == "gpu" else known(platform)

  xla_bridge.canonicalize_platform = canonical
  return topologies.get_topology_desc(
    platform="cuda", topology_name="1x1x1", topology="1x1x1", target_config=_H100
  ).devices[0]


def _bytes(shapes: str) -> int:
  """Bytes of the arrays that HLO text names."""
  return sum(
    _ITEM_BYTES.get(kind, 0) * math.prod(int(d) for d in sizes.split(",") if d)
    for kind, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
  )
