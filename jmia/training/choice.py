"""Which of a few equal programs is fastest on this device: timed once, and kept.

How wide to train and how to lower convolutions cannot be told from a program's shape
on an accelerator, where bytes, launches and libraries' kernels weigh against each
other. A choice is kept in the folder of JAX's compilation cache, if there is one, so
that a second run of the same programs on the same kind of device times nothing.
"""

from collections.abc import Callable, Iterable, Sequence
import hashlib
import json
import pathlib
import time
from typing import Any, NamedTuple

from absl import logging
import jax

from jmia import atomic

now = time.perf_counter


class Candidate(NamedTuple):
  """A way to train: models at once, and convolutions' lowering (None: the model's)."""

  width: int
  lowering: str | None


def seconds(call: Callable[[], Any]) -> float:
  """Returns the seconds of a second `call`, which returns when its work is done."""
  call()  # loads kernels, allocates
  start = now()
  call()
  return now() - start


def fastest(
  candidates: Iterable[Candidate], cost: Callable[[Candidate], float]
) -> Candidate:
  """Returns the candidate of least cost, the first of equals.

  Args:
    candidates: the first must work.
    cost: seconds of the whole run. What a further candidate raises for want of memory,
      compiling or running, leaves it out.

  Raises:
    jax.errors.JaxRuntimeError: if the first candidate fails.
  """
  best: tuple[float, Candidate] | None = None
  for candidate in candidates:
    try:
      taken = cost(candidate)
    except jax.errors.JaxRuntimeError as error:
      if best is None or "RESOURCE_EXHAUSTED" not in str(error):
        raise
      logging.info("%s is left out: %s", candidate, str(error).splitlines()[0])
      continue
    logging.info("%s would take %.3g s", candidate, taken)
    if best is None or taken < best[0]:
      best = taken, candidate
  if best is None:
    raise ValueError("candidates must not be empty")
  return best[1]


def digest(programs: Sequence[str]) -> str:
  """Returns the SHA-256 of lowered programs' texts, the same in every process."""
  return hashlib.sha256(json.dumps(list(programs)).encode()).hexdigest()


def name(programs: Sequence[str], *facts: Any) -> str:
  """Returns what a choice is kept under: programs, facts, device and JAX's version."""
  device = jax.devices()[0].device_kind
  known = json.dumps([*programs, *facts, device, jax.__version__])
  return hashlib.sha256(known.encode()).hexdigest()[:32]


def read(key: str) -> Candidate | None:
  """Returns the choice kept under a `name`; None if there is none that can be read."""
  file = _file(key)
  if file is None or not file.exists():
    return None
  try:
    kept = json.loads(file.read_text("utf-8"))
    return Candidate(int(kept["width"]), kept["lowering"])
  except (ValueError, KeyError, TypeError) as error:
    logging.warning("%s is damaged (%s) and will be replaced", file, error)
    return None


def keep(key: str, candidate: Candidate) -> None:
  """Writes a choice, whole or not at all; nothing without a compilation cache."""
  file = _file(key)
  if file is None:
    return
  file.parent.mkdir(parents=True, exist_ok=True)
  atomic.write(file, json.dumps(candidate._asdict()).encode())


def _file(key: str) -> pathlib.Path | None:
  config: Any = jax.config  # its settings are attributes that no type checker knows
  folder = config.jax_compilation_cache_dir
  if not folder or "://" in folder or not config.jax_enable_compilation_cache:
    return None
  return pathlib.Path(folder) / "jmia_choices" / f"{key}.json"
