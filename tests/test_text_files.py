"""Text is read and written as UTF-8, whatever the locale of the machine says."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
_WITHOUT_MODE = {"read_text": 0, "write_text": 1}  # -> the place of the encoding


def _names_encoding(call):
  name = getattr(call.func, "attr", getattr(call.func, "id", ""))
  if any(keyword.arg == "encoding" for keyword in call.keywords):
    return True
  if name in _WITHOUT_MODE:
    return len(call.args) > _WITHOUT_MODE[name]
  if name in ("open", "fdopen"):
    modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
    modes = [mode for mode in modes if isinstance(mode, str) and len(mode) <= 3]
    return "w" not in modes and "r" not in modes
  return True


def test_every_text_file_has_its_encoding():
  found = []
  for path in sorted([*ROOT.glob("jmia/**/*.py"), *ROOT.glob("experiments/**/*.py")]):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
      if isinstance(node, ast.Call) and not _names_encoding(node):
        found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
  assert not found
