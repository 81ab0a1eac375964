"""Attacks: evidence in, scores out; one file each, and the list of them.

`attacks.names()` has them, `attacks.get("classifier:top_k=3")` one with its options. A
module of this folder that registers an attack is found by being there. One of your own:

```python
import numpy as np
from jmia import attacks, audit, datasets


def score(evidence):  # higher = more likely a member
  group = evidence.groups["reference"]  # models trained like the target
  usual = np.ma.median(np.ma.masked_array(group.signals["loss"], ~group.out), axis=0)
  return usual.filled() - evidence.signals["loss"]


attacks.register(
  attacks.Attack(
    name="median_loss",
    title="Median loss",
    attacker="who knows how hard a record is",
    explanation="Compares the loss with the median of models without the record.",
    source="help(jmia.attacks)",
    needs=attacks.Needs(
      signals=("loss",),
      groups={"reference": attacks.GroupNeeds(signals=("loss",), out=1)},
    ),
    score=score,
  )
)
config = audit.AuditConfig(attacks=("reference", "median_loss"), num_references=8)
audit.write(audit.run(datasets.load("digits"), config), "own_attack")
```

What it needs decides which models are trained and what is kept of their answers. In a
file given as `--attack_file=FILE.py` the same lines up to `register` make it known to
`audit`, `enhanced_mia`, `classic_mia`, `attack_power` and `simulations`
(`--attacks=reference,median_loss`).
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
