"""jmia: what a trained classifier gives away about its training data."""

import os
from typing import Any

__version__ = "0.1.0"

_MOST_DEVICES = 1024  # of a CPU
_LENT = ("commit", "mark", "verify")  # of `backdoor.owner`


def configure(
  *,
  cpu_devices: int | None = None,
  compilation_cache: str | None = "~/.cache/jmia/xla",
) -> None:
  """Gives Python what the binaries have: a device a core, and a cache of programs.

  Call it before anything else of JAX; it changes JAX's settings for the process.

  Args:
    cpu_devices: that a CPU is split into, each training models of its own. Default: as
      many as it has cores, unless the environment says (`JAX_NUM_CPU_DEVICES`, or
      `XLA_FLAGS`). Fewer take less memory.
    compilation_cache: a folder of compiled programs, so that a second run compiles
      nothing; None for none.

  Raises:
    ValueError: there are more devices than any machine has cores.
    RuntimeError: of JAX, if it has been used already and the devices would change.
  """
  from absl import logging
  import jax

  if cpu_devices is None and not is_cpu_split():
    cpu_devices = _num_cores()
  if cpu_devices is not None:
    if not 1 <= cpu_devices <= _MOST_DEVICES:  # too many would end the process
      raise ValueError(f"cpu_devices={cpu_devices} must be 1 to {_MOST_DEVICES}")
    jax.config.update("jax_num_cpu_devices", cpu_devices)
  if compilation_cache:
    folder = os.path.expanduser(compilation_cache)
    try:
      os.makedirs(folder, exist_ok=True)
      if not os.access(folder, os.W_OK):
        raise PermissionError("it is not writable")
    except OSError as error:
      logging.warning("compiled programs are not kept in %s: %s", folder, error)
      return
    jax.config.update("jax_compilation_cache_dir", folder)
    # Small programs too: of an audit's 54 they are 40, and 10 s on a busy machine.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def __getattr__(name: str) -> Any:
  """`jmia.commit`, `mark` and `verify`, imported when they are asked for (PEP 562)."""
  if name in _LENT:
    from jmia.backdoor import owner

    return getattr(owner, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  """Those three as well, for whoever looks what there is."""
  return sorted((*globals(), *_LENT))


def is_cpu_split() -> bool:
  """Whether the environment says how many devices a CPU is split into."""
  return "JAX_NUM_CPU_DEVICES" in os.environ or (
    "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  )


def _num_cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
