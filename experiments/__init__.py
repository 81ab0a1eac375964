"""Command-line programs: flags, then a configuration, then the library, then files."""

import sys
import types

_shown = sys.excepthook


def _show(
  kind: type[BaseException], error: BaseException, at: types.TracebackType | None
):
  """Ctrl-C in the seconds of importing, before a binary can heed it, is one line."""
  if issubclass(kind, KeyboardInterrupt):
    print("interrupted", file=sys.stderr)
  else:
    _shown(kind, error, at)


sys.excepthook = _show
