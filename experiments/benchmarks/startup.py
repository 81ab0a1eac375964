"""Suite `startup`: importing, and the first result of a fresh process."""

import subprocess
import sys
import tempfile

from . import measure

# What a program that trains must import in any case.
_FLOOR = "import jax, flax.linen, optax"
_IMPORT_TARGET = {"ratio": 0.833}  # at most 1.2 times the floor
# What `import jmia` leaves to its modules, all of them.
_LIBRARY = "from jmia import attacks, audit, datasets, signals, splits"


def rows() -> list[measure.Row]:
  """Imports beside their floor; an audit of digits from nothing, and again."""
  imports = [
    _imports("import jmia", _IMPORT_TARGET),
    _imports(_LIBRARY, _IMPORT_TARGET),
    _imports(f"import {(__package__ or '').rpartition('.')[0]}.audit", _IMPORT_TARGET),
  ]
  with tempfile.TemporaryDirectory() as folder:
    first, second = (_audit(folder, count) for count in range(2))
  audits = [
    measure.Row(
      suite="startup",
      name="audit of digits, 16 references, nothing compiled before",
      width=1,
      ours=first,
      target={"seconds": 45},
      more={"seconds": first.wall},
    ),
    measure.Row(
      suite="startup",
      name="the same again",
      width=1,
      ours=second,
      peer="the first time",
      theirs=first,
    ),
  ]
  return imports + audits


def _imports(statement: str, target: dict[str, float]) -> measure.Row:
  ours, floor = measure.alternate(
    lambda: _python("-c", statement), lambda: _python("-c", _FLOOR), seconds=0, least=5
  )
  return measure.Row(
    suite="startup",
    name=statement,
    width=1,
    ours=ours,
    peer=_FLOOR,
    theirs=floor,
    target=target,
  )


def _audit(folder: str, count: int) -> measure.Cost:
  start = measure.now()
  _python(
    "-m", "experiments.audit", f"--output_dir={folder}/report_{count}",
    f"--compilation_cache={folder}/cache",
  )  # fmt: skip
  return measure.since(start)


def _python(*arguments: str) -> None:
  subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
