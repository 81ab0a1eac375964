"""What does not fit into memory is refused before any of it is taken."""

import os


def check(what: str, num_bytes: int) -> None:
  """Raises ValueError if `num_bytes` for `what` are more than the machine's memory.

  Where the system does not say how much it has, nothing is refused.
  """
  available = _physical()
  if available is not None and num_bytes > available:
    raise ValueError(
      f"{what} would take {_in_words(num_bytes)}, and this machine has "
      f"{_in_words(available)} of memory"
    )


def _physical() -> int | None:
  """Bytes of memory that the machine has."""
  try:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  except (AttributeError, OSError, ValueError):  # not on Windows
    return None


def _in_words(num_bytes: int) -> str:
  return f"{num_bytes / 2**30:,.1f} GiB"
