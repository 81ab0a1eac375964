"""Imports run downward only, as drawn here. Lazy imports inside functions count."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Part -> the parts it may import; everything may import itself.
BASE = {"types", "_validate"}
ALLOWED = {
  "experiments": {
    "attacks", "audit", "backdoor", "classic", "datasets", "defenses", "dp", "encoding",
    "enhanced", "models", "outputs", "report", "signals", "splits", "stats", "training",
    "types", "jmia", "atomic", "locks",
  },
  # Wings on the spine: a design, a choice of attacks, a table.
  "enhanced": {"attacks", "audit", "report", "splits", "stats", "training", *BASE},
  "classic": {
    "attacks", "audit", "defenses", "splits", "stats", "training", *BASE
  },
  "audit": {
    "adapters", "attacks", "datasets", "defenses", "outputs", "report", "signals",
    "splits", "stats", "training", "atomic", "locks", *BASE
  },
  # The middle floor. Recipes know models and no dataset; attacks know no
  # dataset either, but two of them train networks of their own on arrays.
  "datasets": BASE,
  "adapters": BASE,  # models of other packages as functions
  "splits": BASE,
  "training": {"atomic", "models", *BASE},
  "signals": {"_validate"},
  "outputs": {"_validate"},  # what models answer in
  "attacks": {"models", "signals", "stats", "training", "_validate"},
  "backdoor": {
    "atomic", "commitments", "datasets", "defenses", "locks", "outputs", "signals",
    "splits", "stats", "training", "models", *BASE
  },
  "dp": {
    "datasets", "defenses", "outputs", "signals", "splits", "stats", "training",
    "models", *BASE
  },
  "encoding": {
    "atomic", "commitments", "defenses", "outputs", "signals", "splits", "stats",
    "training", "models", *BASE
  },
  "defenses": {"training", "models", *BASE},
  # Draws what the attacks said, in their words.
  "report": {"attacks", "atomic", "stats", "_validate", "jmia"},
  # The ground floor.
  "stats": {"_validate"},
  "models": {"_validate"},
  "atomic": set(),
  "commitments": set(),
  "locks": set(),
  "types": set(),
  "_validate": set(),
  "__main__": {"jmia"},  # the binaries, as the command of that name
  "jmia": {"backdoor"},  # its __init__: the version, and what it lends from there
}  # fmt: skip
FILES = sorted([*ROOT.glob("jmia/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def _module(path):
  """`jmia/stats/roc.py` -> ("jmia", "stats", "roc")."""
  names = path.relative_to(ROOT).with_suffix("").parts
  return names[:-1] if names[-1] == "__init__" else names


def _part(names):
  """Where a module of the two packages belongs; None for any other module."""
  if names[0] == "experiments":
    return "experiments"
  if names[0] != "jmia":
    return None
  return names[1] if len(names) > 1 else "jmia"


def _imports(source, package):
  """Every imported dotted name, as tuples; `from a import b` is a.b.

  Args:
    source: of a module.
    package: names of the package it is in, for relative imports.
  """
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield tuple(alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) - node.level + 1] if node.level else ()
      base += tuple(node.module.split(".")) if node.module else ()
      for alias in node.names:
        yield (*base, alias.name)


def _violations(source, names, is_package=False):
  part = _part(names)
  package = names if is_package else names[:-1]
  for imported in _imports(source, package):
    target = _part(imported)
    if target is None:
      continue
    if target not in ALLOWED and imported[:1] == ("jmia",):
      target = "jmia"  # `from jmia import __version__`
    if target != part and target not in ALLOWED[part]:
      yield f"{'.'.join(names)} imports {'.'.join(imported)}"
    if part == "experiments" and imported[0] == "jmia":
      private = [name for name in imported if name.startswith("_")]
      if private:
        yield f"{'.'.join(names)} imports the private {'.'.join(imported)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
  names = _module(path)
  assert _part(names) in ALLOWED, f"{path} belongs to no part of the house"
  source = path.read_text()
  assert not list(_violations(source, names, path.name == "__init__.py"))


def test_the_files_are_found():
  parts = {_part(_module(path)) for path in FILES}
  assert {"experiments", "audit", "training", "stats", "jmia"} <= parts


def test_the_house_has_no_stairs_up():
  """Nothing reaches itself through what it may import."""
  below = dict(ALLOWED)
  while below:
    ground = [part for part, allowed in below.items() if not allowed & below.keys()]
    assert ground, f"a cycle among {sorted(below)}"
    for part in ground:
      del below[part]


@pytest.mark.parametrize(
  ("module", "source", "found"),
  [
    ("jmia.stats.roc", "import jmia.attacks", "jmia.attacks"),
    ("jmia.stats.roc", "from jmia import attacks, _validate", "jmia.attacks"),
    ("jmia.stats.roc", "def f():\n  from jmia.attacks import shadow", "attacks.shadow"),
    ("jmia.stats.roc", "from ..attacks import shadow", "jmia.attacks.shadow"),
    ("jmia.attacks.shadow", "from jmia import datasets", "jmia.datasets"),
    ("jmia.attacks.shadow", "from jmia import types", "jmia.types"),
    ("jmia.audit", "from experiments import launch", "experiments.launch"),
    ("jmia.training.recipe", "from jmia import datasets", "jmia.datasets"),
    ("experiments.mib", "from jmia import _validate", "private jmia._validate"),
    ("experiments.mib", "from jmia.audit import _plan", "private jmia.audit._plan"),
    ("jmia.audit.panel", "from jmia.classic import rows", "jmia.classic.rows"),
    ("jmia.stats.roc", "from jmia.stats import nulls\nimport numpy.random", None),
    ("jmia.stats.roc", "from . import nulls", None),
    ("experiments.mib", "from jmia import audit", None),
    ("experiments.mib", "from experiments import launch", None),
  ],
)
def test_the_search_finds_what_it_should(module, source, found):
  violations = list(_violations(source, tuple(module.split("."))))
  if found is None:
    assert not violations
  else:
    assert any(violation.endswith(found) for violation in violations)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiments_use_no_private_attribute_of_the_library(path):
  if _module(path)[0] != "experiments":
    return
  tree = ast.parse(path.read_text())
  modules = {
    alias.asname or alias.name
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jmia")
    for alias in node.names
  }
  private = [
    f"{node.value.id}.{node.attr}"
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
    and isinstance(node.value, ast.Name)
    and node.value.id in modules
    and node.attr.startswith("_")
    and node.attr not in ("_replace", "_asdict", "_fields")
  ]
  assert not private


def _modules():
  """Dotted name -> path, of every module of both packages."""
  return {".".join(_module(path)): path for path in FILES}


def _edges(sources):
  """Module -> the modules it imports, lazily too; `from a import b` is a.b if that is.

  What a package's `__init__` runs first is no edge: its modules import one another, not
  the package.

  Args:
    sources: dotted name -> (source, whether it is a package's `__init__`).
  """
  edges = {}
  for name, (source, is_package) in sources.items():
    names = tuple(name.split("."))
    package = names if is_package else names[:-1]
    found = set()
    for imported in _imports(source, package):
      while imported and ".".join(imported) not in sources:
        imported = imported[:-1]
      found.add(".".join(imported))
    edges[name] = found - {name, ""}
  return edges


def _in_circles(edges):
  """The modules that reach themselves, and those between them."""
  edges = {name: set(found) for name, found in edges.items()}
  while True:
    imported = set().union(*edges.values())
    ends = [n for n, found in edges.items() if not found & edges.keys()]
    ends += [n for n in edges if n not in imported]
    if not ends:
      return sorted(edges)
    edges = {n: found for n, found in edges.items() if n not in ends}


def test_no_modules_import_each_other_in_a_circle():
  sources = {
    name: (path.read_text(), path.name == "__init__.py")
    for name, path in _modules().items()
  }
  assert len(sources) > 50
  assert _in_circles(_edges(sources)) == []


@pytest.mark.parametrize(
  ("sources", "found"),
  [
    ({"j.a": "from j import b", "j.b": "def f():\n  from j import a"}, ["j.a", "j.b"]),
    ({"j.a": "import j.b", "j.b": "from j.c import x", "j.c": "from . import a"}, 3),
    ({"j.a": "from j import b", "j.b": "import numpy"}, []),
  ],
)
def test_circles_are_found(sources, found):
  circle = _in_circles(_edges({name: (text, False) for name, text in sources.items()}))
  assert (len(circle) if isinstance(found, int) else circle) == found
