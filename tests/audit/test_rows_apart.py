"""Rows that calibrate an attack, and rows that it is evaluated on, listed and compared.

By sets of the dataset's row numbers, for every attack and every way to compare.
"""

import numpy as np
import pytest

from jmia import attacks, types
from jmia.audit import config as audit_config

NUM, MEMBERS = 640, 80
DATASET = types.Dataset(
  "rows", np.zeros((NUM, 2), np.float32), np.arange(NUM) % 3, 3, NUM, 1.0, True, "None."
)


def _design(name, references, num_targets):
  config = audit_config.AuditConfig(
    attacks=(name,),
    references=references,
    num_targets=num_targets,
    num_members=MEMBERS,
    num_references=4,
    num_distilled=3,
    num_left_out=6,
    num_retrained=2,
    seed=3,
  )
  split = audit_config.split_of(DATASET, config, None)
  return audit_config.design_of(split, config)


def _listed(design, target):
  """A target's members, its samples, and what calibrates: by rows of the dataset."""
  members = design.parts[0].members if target == 0 else design.parts[1].members
  at = max(target - 1, 0)
  of_target = members.member_idx[at][: members.num_members[at]]
  kinds = {
    "members": of_target,
    "samples": design.samples[target],
    "p-values": design.calibration[target],
    "population": np.arange(len(design.rows))[design.population],
  }
  return {kind: set(design.rows[at].tolist()) for kind, at in kinds.items()}


@pytest.mark.parametrize("num_targets", [1, 3])
@pytest.mark.parametrize("references", audit_config.REFERENCES)
@pytest.mark.parametrize("name", attacks.names())
def test_no_row_both_calibrates_and_is_evaluated(name, references, num_targets):
  design = _design(name, references, num_targets)
  assert len(set(design.rows.tolist())) == len(design.rows)
  for target in range(num_targets):
    rows = _listed(design, target)
    assert len(rows["samples"]) == 2 * MEMBERS
    assert rows["members"] < rows["samples"]
    for kind in ("p-values", "population"):
      assert rows[kind]
      assert not rows[kind] & rows["samples"]
      assert not rows[kind] & rows["members"]
    assert not rows["p-values"] & rows["population"]


@pytest.mark.parametrize("num_targets", [1, 3])
@pytest.mark.parametrize("references", audit_config.REFERENCES)
def test_models_compared_with_train_on_what_their_role_says(references, num_targets):
  chosen = ("shadow", "similarity", "distillation", "leave_one_out")
  designs = [_design(name, references, num_targets) for name in chosen]
  seen = set()
  for design in designs:
    evaluated = set(design.rows[: design.num_evaluated].tolist())
    targets = [_listed(design, t)["members"] for t in range(num_targets)]
    for part in design.parts:
      for idx, size in zip(*part.members, strict=True):
        rows = set(design.rows[idx[:size]].tolist())
        assert len(rows) == size
        seen.add(part.role)
        if part.role == "left_out":
          # All of its target's members, or all but one.
          assert rows <= targets[part.target]
          assert len(targets[part.target] - rows) <= 1
        elif part.role == "in_out" or (part.role, references) == (
          "reference",
          "in_out",
        ):
          assert rows <= evaluated
        elif part.role in ("reference", "distilled"):
          assert not rows & evaluated
  roles = {"in_out": {"reference"}, "population": {"reference", "in_out"}}
  assert seen == {"target", "distilled", "left_out", *roles[references]}
