"""Attacks: evidence in, scores out; one file each, and the list of them.

from jmia import attacks

attacks.names()
attacks.get("classifier:top_k=3")
attacks.register(attacks.Attack(name="mine", ...))

A module of this folder that registers an attack is found by being there.
"""

import importlib
import pkgutil

from jmia.attacks.evidence import Evidence, Group
from jmia.attacks.registry import (
  Attack,
  GroupNeeds,
  Needs,
  check,
  covered,
  describe,
  get,
  lacking,
  names,
  register,
  union,
  unregister,
)

__all__ = [
  "Attack", "Evidence", "Group", "GroupNeeds", "Needs", "check", "covered", "describe",
  "get", "lacking", "names", "register", "union", "unregister",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
  if not _module.name.startswith("_"):
    importlib.import_module(f"{__name__}.{_module.name}")
