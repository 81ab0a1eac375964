"""The ledger: every figure of the papers beside ours, and what holds.

    python -m experiments.ledger                  # the summary; writes the pages
    python -m experiments.ledger --paper=hu       # and each table of one paper
    python -m experiments.ledger --check          # nothing is written; fails if untrue
    python -m experiments.ledger add DIR --id=ID  # a study's results become a run
    python -m experiments.ledger add FILE --id=ID  # or benchmark's, or gpu_day's

The papers' tables are `papers/*.csv`, our runs `runs/*.json`, each cut from the folder
that a study wrote: no figure enters by hand. LEDGER.md sets them side by side, RUNS.md
has what stands beside no paper's. A figure of README.md or BUILD_NOTES.md that is a
link to a run must be what the run's file says (`claims` has the form); --check fails
where one is not, where a run's file is damaged, or where a page is not what the files
make it.
"""

import pathlib

from absl import flags

from . import cells, claims, pages, run_files

POSITIONAL = "do"
_DO = flags.DEFINE_list(
  "do", [], "Nothing, or add and a study's folder, or a file of benchmark or gpu_day."
)
_ID = flags.DEFINE_string("id", None, "Of the run that is added.")
_PAPER = flags.DEFINE_enum(
  "paper", None, list(cells.PAPERS), "Whose tables are printed too."
)
_CHECK = flags.DEFINE_boolean("check", False, "Whether what is written holds.")
_TEXTS = ("README.md", "BUILD_NOTES.md")


def main() -> None:
  """Adds a run, checks, or prints and writes the ledger."""
  match _DO.value:
    case []:
      _check() if _CHECK.value else _write()
    case ["add", source]:
      if not _ID.value:
        raise ValueError("add: --id must name the run")
      if pages.root() is None:
        raise ValueError("add: runs are kept in a checkout, and this is none")
      path = run_files.add(pathlib.Path(source).expanduser(), _ID.value)
      print(f"Written to {path}")
      _write()
    case other:
      raise ValueError(f"{' '.join(other)!r}: expected nothing, or add DIR")


def _write() -> None:
  runs = run_files.load()
  found = pages.entries(runs)
  print(pages.summary(found))
  if _PAPER.value:
    print("\n" + pages.of_paper([e for e in found if e.cell.paper == _PAPER.value]))
  root = pages.root()
  if root is None:
    print("\nThe pages are those of a checkout, and not written here.")
    return
  for path, text in _texts(root, found, runs).items():
    path.write_text(text, "utf-8")
  print(f"\nEach figure: {pages.PAGE}")


def _check() -> None:
  """Raises ValueError, with all that is wrong, where something is."""
  runs = run_files.load()
  found = pages.entries(runs)
  root = pages.root()
  if root is None:
    raise ValueError("--check: README.md and BUILD_NOTES.md are those of a checkout")
  faults = [
    f"{path.name} is not what the ledger's files make it: run the ledger"
    for path, text in _texts(root, found, runs).items()
    if not path.exists() or path.read_text("utf-8") != text
  ]
  for name in _TEXTS:
    for claim in claims.find((root / name).read_text("utf-8")):
      if fault := claims.fault(claim, runs):
        faults.append(f"{name}: {fault}")
  faults += [
    f"explanations.csv: {'/'.join(reason.cells)} by {reason.run} explains no cell"
    for reason in cells.explanations()
    if reason not in {entry.explanation for entry in found}
  ]
  if faults:
    raise ValueError("; ".join(faults))
  number = sum(
    len(list(claims.find((root / name).read_text("utf-8")))) for name in _TEXTS
  )
  print(f"{len(found)} cells, {len(runs)} runs and {number} claims hold.")


def _texts(root, found, runs) -> dict[pathlib.Path, str]:
  """The files that the ledger makes."""
  readme = root / "README.md"
  return {
    pages.PAGE: pages.page(found),
    pages.RUNS_PAGE: pages.runs_page(runs),
    readme: pages.with_summary(readme.read_text("utf-8"), found),
  }
