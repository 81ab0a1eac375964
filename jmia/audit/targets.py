"""The models under audit: trained, fitted or given, and asked as black boxes."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import numpy as np

from jmia import splits
from jmia.adapters import fitted
from jmia.attacks import evidence as evidence_lib
from jmia.attacks import registry
from jmia.attacks.evidence import DIVERGENCE, LOGITS
from jmia.audit import answers as answers_lib
from jmia.audit.asked import Asked
from jmia.audit.design import Design
from jmia.audit.panel import Signals, Target
from jmia.audit.trainer import Trainer
from jmia.defenses import registry as defenses_lib
from jmia.outputs import coarse as coarse_lib
from jmia.outputs import units
from jmia.training import recipe as recipe_lib

Predict = Callable[[np.ndarray], Any]
ALWAYS = ("loss", "correctness")  # what all results say, whatever the attacks take
_STREAM = 4  # of the seed


def train(
  design: Design, trainer: Trainer, data: recipe_lib.Data
) -> tuple[list[Predict], np.ndarray]:
  """Returns the models under audit, trained; from here on each is a black box.

  Beside them `[T, K]` bool, which members chose the epoch of each.

  Args:
    design: who trains on what.
    trainer: how.
    data: the design's rows.

  Raises:
    ValueError: one diverges; what it left in the trainer's folder is removed.
  """
  trainable = trainer.build()
  members = splits.concatenate(
    *(part.members for part in design.parts if part.role == "target")
  )
  num_targets = len(members.num_members)
  what = "target" if num_targets == 1 else "targets"
  result = trainer.run(
    what,
    trainable.recipe,
    _STREAM,
    recipe_lib.Job(*members),
    data,
    collect=lambda state, job, data: (
      recipe_lib.model_variables(state),
      defenses_lib.chose_epoch(trainer.defenses, state, job),
    ),
    width=None if num_targets == 1 else trainer.width,
  )
  names = ["the target"]
  if num_targets > 1:
    names = [f"target {number}" for number in range(num_targets)]
  forward = jax.jit(trainable.predict)
  collected, chose = result.collected

  def predictor(name: str, variables: Any) -> Predict:
    def predict(x: np.ndarray) -> np.ndarray:
      logits = np.asarray(forward(variables, x))
      if not np.isfinite(logits).all():  # of weights that are finite, but huge
        last = trainer.train.num_epochs - 1
        trainer.fail_diverged(f"{name} diverged at epoch {last}", what, "others")
      return logits

    return predict

  found = []
  for number, (name, epoch) in enumerate(
    zip(names, result.diverged_epoch, strict=True)
  ):
    if epoch >= 0:
      trainer.fail_diverged(f"{name} diverged at epoch {epoch}", what, "others")
    own = jax.tree.map(lambda a, at=number: a[at], collected)
    found.append(predictor(name, own))
  return found, chose


def fit_all(
  design: Design, trainer: Trainer, fit: fitted.Fit, x: np.ndarray, y: np.ndarray
) -> list[Predict]:
  """Returns the models under audit, fitted by the caller's function.

  Args:
    design: who trains on what.
    trainer: its seed.
    fit: the caller's function.
    x: `[n, ...]` the design's rows, as it takes them.
    y: `[n]` labels.
  """
  models = design.models("target")
  idx, sizes = design.members
  return [
    fit(x[idx[m, : sizes[m]]], y[idx[m, : sizes[m]]], seed)
    for m, seed in zip(models, fitted.seeds(trainer.seed, models), strict=True)
  ]


def ask(
  design: Design,
  num_classes: int,
  data: recipe_lib.Data,
  predictors: Sequence[Predict],
  asked: Asked,
  outputs: str,
  again: int,
) -> tuple[list[Target], np.ndarray | None, units.Units]:
  """Asks every target.

  Args:
    design: who trains on what.
    num_classes: `C`.
    data: the design's rows, as targets take them.
    predictors: the targets.
    asked: what they are asked.
    outputs: what they answer in, one of `kinds.OUTPUTS`.
    again: of how many rows each is asked once more, as `answers.ask`.

  Returns:
    The targets' answers; the logits `[T', n', C]` that others learn from or are
    compared with, of no more targets and rows than that takes, None for none; and what
    the last target's answers were, made as coarse as any target's before it.

  Raises:
    ValueError: as `answers.ask`.
  """
  needs, copies = asked
  wanted = registry.union([needs, registry.Needs(signals=ALWAYS, population=("loss",))])
  compared = any(DIVERGENCE in group.signals for group in needs.groups.values())
  num_kept = len(predictors) if compared else design.teacher.max() + 1
  num_rows = design.num_evaluated if compared else 0
  is_student = design.teacher >= 0
  if is_student.any():
    num_rows = max(num_rows, int(design.members.member_idx[is_student].max()) + 1)
  teachers = None
  if num_kept:
    teachers = np.empty((num_kept, num_rows, num_classes), np.float32)
  targets = []
  told = units.Units({}, coarse_lib.EXACT, ())
  for number, predict in enumerate(predictors):
    x, y = np.asarray(data.x), np.asarray(data.y)
    logits, told = answers_lib.ask(
      predict, x, num_classes, outputs=outputs, coarse=told.coarse, again=again
    )
    on_copies = functools.partial(
      answers_lib.on_copies, predict, x, y, num_classes, copies=copies, told=told
    )
    targets.append(_kept(design, logits, y, wanted, on_copies))
    if teachers is not None and number < num_kept:
      teachers[number] = logits[:num_rows]
  return targets, teachers, told


def _kept(
  design: Design,
  logits: np.ndarray,
  y: np.ndarray,
  needs: registry.Needs,
  on_copies: Callable[..., Signals],
) -> Target:
  """What is kept of a target's answers: all, where an attack takes the logits."""
  groups = needs.groups.values()
  on_samples = {*needs.signals, *(n for g in groups for n in g.signals)}
  on_population = {*needs.population, *(n for g in groups for n in g.population)}
  parts: list[Signals] = []
  for names, rows in (
    (on_samples, slice(design.num_evaluated)),
    (on_population, design.population),
  ):
    found = evidence_lib.of_logits(logits[rows], y[rows])
    if not {LOGITS, DIVERGENCE} & names:
      found = {n: found[n] for n in sorted(names) if n in found}
    of_copies = on_copies(rows=rows, names=sorted(names))
    parts.append(evidence_lib.joined(found, evidence_lib.with_plain(of_copies, 1)))
  return Target(*parts)
