"""Ctrl-C and SIGTERM: both end the work, and neither is lost."""

from collections.abc import Iterator
import contextlib
import signal
import sys
import threading
import types
from typing import Any, NoReturn

_SIGNAL_AGAIN = 0.02  # seconds until one that was dropped comes again


class TerminatedError(KeyboardInterrupt):
  """The process was asked to end; as Ctrl-C."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
  """Makes SIGTERM end the work as Ctrl-C does, and neither of them be lost.

  Python drops the error of a signal that comes where none can be raised, such as in
  what the garbage collector calls; JAX's tracing is often there. It comes again.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before, dropped = sys.unraisablehook, signal.SIGINT

  def note(unraisable: Any) -> None:
    nonlocal dropped
    is_signal = issubclass(unraisable.exc_type, KeyboardInterrupt)
    if not is_signal or not hasattr(signal, "setitimer"):
      before(unraisable)
      return
    is_terminated = issubclass(unraisable.exc_type, TerminatedError)
    dropped = signal.SIGTERM if is_terminated else signal.SIGINT
    signal.setitimer(signal.ITIMER_REAL, _SIGNAL_AGAIN)

  signal.signal(signal.SIGTERM, _terminate)
  if hasattr(signal, "setitimer"):
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(dropped))
  sys.unraisablehook = note
  try:
    yield
  finally:
    sys.unraisablehook = before
    if hasattr(signal, "setitimer"):
      signal.setitimer(signal.ITIMER_REAL, 0)


def _terminate(number: int, frame: types.FrameType | None) -> NoReturn:
  del number, frame
  raise TerminatedError
