"""What every model of a design answered, and who held what.

`training.train` trains a design and keeps it. `view.evidence` is what one target's
attacker is given of it. Signals are kept, not models, and of those only what the
attacks need.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jmia import splits
from jmia.attacks import evidence as evidence_lib
from jmia.attacks.evidence import LOGITS
from jmia.audit.design import Design

Signals = Mapping[str, np.ndarray]


class Target(NamedTuple):
  """A target's answers: name -> `[U, ...]` on samples, `[P, ...]` on the population."""

  signals: Signals
  population: Signals


class Block(NamedTuple):
  """What `m` models that were trained in one run answered.

  Attributes:
    models: `[m]` which of the design's.
    signals: name -> `[m, U', ...]` float32, on the first `U'` evaluated rows; the
      divergence `[m, T, U']`, from each target.
    population: name -> `[m, P, ...]`; where each was asked about rows of its own, on
      those.
    converged: `[m]` bool; the answers of a model that diverged mean nothing.
  """

  models: np.ndarray
  signals: Signals
  population: Signals
  converged: np.ndarray


class Panel(NamedTuple):
  """What the `M` models of a design answered.

  Attributes:
    design: who trained on what.
    y: `[n]` int32 labels of the design's rows.
    num_classes: `C`.
    seed: of the run, and of the attacks' own draws.
    targets: each target's answers; None for one that diverged.
    blocks: the other models; all, where each was asked about rows of its own.
    notes: what a reader of the results must know, such as models that diverged.
    seconds: wall time of each stage.
    x: `[n, ...]` features of the design's rows, as stored; None where they are not at
      hand, and attacks that learn from them cannot run.
    chose: `[M, n]` bool, members that chose the epoch of a model and got no gradient;
      None if there are none.
  """

  design: Design
  y: np.ndarray
  num_classes: int
  seed: int
  targets: Sequence[Target | None]
  blocks: tuple[Block, ...]
  notes: list[str]
  seconds: dict[str, float]
  x: np.ndarray | None = None
  chose: np.ndarray | None = None

  def trained(self) -> np.ndarray:
    """`[M, n]` bool, which rows each model was trained on."""
    held = splits.member_mask(self.design.members, len(self.design.rows))
    return held if self.chose is None else held & ~self.chose

  def unseen(self) -> np.ndarray:
    """`[M, n]` bool, which rows each model has not seen, not to choose an epoch."""
    return ~splits.member_mask(self.design.members, len(self.design.rows))


def with_chose(panel: Panel, models: np.ndarray, chose: np.ndarray) -> Panel:
  """Returns a panel that tells of some models which members chose their epoch.

  Args:
    panel: of all models.
    models: `[m]` which of them.
    chose: `[m, K]` bool, of each one's members.
  """
  if not chose.any():
    return panel
  design = panel.design
  mask = np.zeros((len(design.role), len(design.rows)), bool)
  if panel.chose is not None:
    mask |= panel.chose
  model, slot = np.nonzero(chose)
  mask[models[model], design.members.member_idx[models[model], slot]] = True
  return panel._replace(chose=mask)


def chose_notes(panel: Panel) -> list[str]:
  """Returns what is said of members that are neither members nor non-members."""
  if panel.chose is None:
    return []
  targets = panel.design.models("target")
  found, sizes = panel.chose[targets].sum(axis=1), panel.design.members.num_members
  pairs = dict.fromkeys(zip(found.tolist(), sizes[targets].tolist(), strict=True))
  whose = "the target's" if len(targets) == 1 else "each target's"
  number = ", or ".join(f"{num:,} of {whose} {size:,} members" for num, size in pairs)
  return [
    f"{number} only chose the epoch at which its training stopped, and no gradient was"
    " taken on them: they are evaluated neither as members nor as non-members"
  ]


def own_signals(panel: Panel, models: int | np.ndarray) -> Signals:
  """Returns signals `[R, N, ...]` of models on rows of their own; `[N, ...]` of one."""
  assert panel.design.own is not None
  (block,) = panel.blocks
  kept = {name: array[models] for name, array in block.population.items()}
  if LOGITS not in kept:
    return kept
  labels = panel.y[panel.design.own[models]]
  return evidence_lib.joined(kept, evidence_lib.of_logits(kept[LOGITS], labels))


def with_output(panel: Panel, output: Callable[[jax.Array], jax.Array]) -> Panel:
  """Returns a panel whose models' predictions pass through an output defence.

  Args:
    panel: of models that were asked about rows of their own, with logits; what they
      answered on altered copies is left out, since a defence may change it.
    output: logits `[B, C]` -> logits.
  """
  run = jax.jit(output)

  def defended(signals: Signals) -> Signals:
    if LOGITS not in signals:
      return signals
    logits = signals[LOGITS]
    given = np.asarray(run(logits.reshape(-1, logits.shape[-1])))
    return {LOGITS: given.reshape(logits.shape)}

  (block,) = panel.blocks
  block = block._replace(
    signals=defended(block.signals), population=defended(block.population)
  )
  changed = panel._replace(blocks=(block,))
  return changed._replace(targets=own_targets(changed))


def own_targets(panel: Panel) -> list[Target | None]:
  """Returns the targets' answers on rows of their own; None for one that diverged."""
  (block,) = panel.blocks
  return [
    Target(own_signals(panel, int(m)), {}) if block.converged[m] else None
    for m in panel.design.models("target")
  ]
