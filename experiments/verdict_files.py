"""A verdict, printed and kept in a folder that no other verdict takes over."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from jmia.report import claim_page, results

from . import common_flags, run_folder

_JSON, _PAGE = "verdict.json", "verdict.html"


def check() -> None:
  """Raises as `show` where --output_dir is seen to be refused, before the work."""
  if common_flags.OUTPUT_DIR.value is not None:
    run_folder.check(common_flags.OUTPUT_DIR.value)


def show(text: str, content: Mapping[str, Any], page: claim_page.Claim) -> None:
  """Prints a verdict; with --output_dir also writes it.

  Args:
    text: to print.
    content: of verdict.json.
    page: of verdict.html.

  Raises:
    ValueError: the folder is another command's, or holds another verdict.
    OSError: it cannot be written.
  """
  path = common_flags.OUTPUT_DIR.value
  if path is not None:
    with run_folder.run_dir(path, lambda folder: _again(folder, text, content)) as made:
      write(made, content, page)
      text = _with_page(text, made)
  print(text)


def write(
  folder: pathlib.Path, content: Mapping[str, Any], page: claim_page.Claim
) -> None:
  """Writes the two files; the page first, since the other one tells that both are."""
  claim_page.write(folder / _PAGE, page)
  results.write(folder / _JSON, content)


def _again(folder: pathlib.Path, text: str, content: Mapping[str, Any]) -> None:
  """Prints a verdict that the folder holds already."""
  if json.loads((folder / _JSON).read_text("utf-8")) != json.loads(json.dumps(content)):
    raise ValueError(
      f"output_dir={folder} holds another verdict: take another folder, or --restart"
      " to replace it"
    )
  print(_with_page(text, folder))


def _with_page(text: str, folder: pathlib.Path) -> str:
  return f"{text}\n\nThe page to hand on is {folder / _PAGE}."
