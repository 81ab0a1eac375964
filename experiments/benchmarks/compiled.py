"""Suite `compiled`: our epochs compiled for an H100 that is only described.

XLA compiles ahead of time for a GPU that is not there, given its description and the
CUDA wheels (`pip install '.[cuda]'`). That tells memory, kernels and bytes of a step,
hence a floor for its time; nothing runs. Kernels are chosen without tuning, which needs
the device, so those of a real one may be others. Set `JAX_PLATFORMS=cpu` and
`JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1`, as no driver is there.
"""

from collections.abc import Iterator
import dataclasses
import importlib.util
import math
import re
from typing import Any, NamedTuple
from unittest import mock

import jax
from jax.experimental import topologies
import jax.numpy as jnp

from jmia.defenses import registry
from jmia.training import recipe as recipe_lib

from . import measure, training

MEMORY_BYTES = 80e9
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
_KERNELS = ("fusion", "custom-call", "copy")


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
    start = text.index(f"%{body} (")
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
    yield Loop(int(trips), len(moved), sum(moved))


def rows() -> list[measure.Row]:
  """One row for each network, and for DP-SGD, at the width it would train at.

  Raises:
    ValueError: if the CUDA wheels are not installed.
  """
  if not is_possible():
    raise ValueError("suite=compiled needs the CUDA wheels: pip install '.[cuda]'")
  cnn = dataclasses.replace(training.CNN, num_members=5_000)
  resnet = dataclasses.replace(training.RESNET, num_members=1_280)
  cases = (
    (training.FC, 256, ()),
    (cnn, 64, ()),
    (resnet, 1, ()),
  )
  return [row(*case) for case in cases]


def row(case: training.Case, width: int, defenses: tuple[str, ...]) -> measure.Row:
  """Compiles an epoch of `width` models; its longest loop is that over the steps."""
  program = _compiled(case, width, defenses)
  text, memory = program.as_text(), program.memory_analysis()
  steps = max(loops(text), key=lambda loop: loop.bytes * loop.trips)
  floor = max(steps.bytes / _BYTES_PER_SECOND, steps.kernels * _SECONDS_PER_KERNEL)
  return measure.Row(
    suite="compiled",
    name=" ".join((case.name, *defenses)),
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


def _compiled(case: training.Case, width: int, names: tuple[str, ...]) -> Any:
  dataset = case.dataset()
  plan = registry.plan(
    [registry.parse(name) for name in names],
    case.config,
    dataset,
    num_members=case.num_members,
  )
  sharding = jax.sharding.SingleDeviceSharding(_device())

  def described(tree, lead=()):
    return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct((*lead, *a.shape), a.dtype, sharding=sharding),
      tree,
    )

  job_type: Any = recipe_lib.Job  # of shapes here, and not of arrays
  job = job_type(
    jax.ShapeDtypeStruct((case.num_members,), jnp.int32),
    jax.ShapeDtypeStruct((), jnp.int32),
  )
  data = recipe_lib.Data(dataset.x, dataset.y)
  # Lowerings are chosen by the backend's name.
  with mock.patch.object(jax, "default_backend", return_value="gpu"):
    recipe = registry.build(plan, dataset).recipe
    state = jax.eval_shape(recipe.init, jax.random.key(0), job)
    update = jax.jit(jax.vmap(recipe.update, (0, 0, None)), donate_argnums=0)
    lead = (width,)
    lowered = update.lower(
      described(state, lead), described(job, lead), described(data)
    )
  options: Any = {"xla_gpu_autotune_level": 0}
  return lowered.compile(options)


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
