"""Files that are there whole or not at all."""

import os
import pathlib


def write(path: str | os.PathLike[str], content: bytes) -> None:
  """Writes `content` to `path`, which a reader or a crash never sees half-written."""
  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    partial.write_bytes(content)
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise
