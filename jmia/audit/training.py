"""From a design to a panel: trains its models, and keeps what they answer.

The targets come first, since students learn from their answers, and then all other
models in one program.
"""

from collections.abc import Sequence
import time
from typing import NamedTuple

import numpy as np

from jmia import _validate, types
from jmia.adapters import fitted
from jmia.attacks import registry
from jmia.audit import copies as copies_lib
from jmia.audit import others, own_rows
from jmia.audit import panel as panel_lib
from jmia.audit import targets as targets_lib
from jmia.audit.asked import Asked
from jmia.audit.design import Design
from jmia.audit.panel import Panel
from jmia.audit.targets import Predict
from jmia.audit.trainer import Trainer
from jmia.training import recipe as recipe_lib

_COPIES = 10  # the stream of the seed that `audit.config` draws from
_AGAIN = 32  # rows that a black box is asked about once more


def train(
  design: Design,
  trainer: Trainer,
  needs: registry.Needs,
  *,
  predict: Predict | None = None,
  fit: fitted.Fit | None = None,
) -> Panel:
  """Trains a design's models.

  Args:
    design: who trains on what.
    trainer: how.
    needs: what is kept of their answers.
    predict: the one target, as a black box that is not trained here.
    fit: fits every model but those that learn from a target's answers.

  Raises:
    ValueError: if features are not finite or labels out of range, a target diverges, or
      too many of the other models of a kind do (what they left in the trainer's folder
      is removed); and as `answers.ask` and `parallel.run`.
  """
  num_classes = trainer.dataset.num_classes
  data, given, asked, notes = inputs(design, trainer, needs, predict=predict, fit=fit)
  if design.own is not None:
    return own_rows.train(design, trainer, asked, data)
  start = time.monotonic()
  predictors, chose = _targets(design, trainer, data, given, predict, fit)
  trained = time.monotonic()
  targets, teachers, told = targets_lib.ask(
    design,
    num_classes,
    data._replace(x=given),
    predictors,
    asked,
    # What is trained here answers in logits.
    trainer.outputs if predict or fit else "logits",
    again=_AGAIN if predict else 0,
  )
  panel = Panel(
    design=design,
    x=np.asarray(data.x),
    y=np.asarray(data.y),
    num_classes=num_classes,
    seed=trainer.seed,
    targets=targets,
    blocks=(),
    notes=[*notes, *(f"the target's {note}" for note in told.notes)],
    seconds={"targets": trained - start, "signals": time.monotonic() - trained},
  )
  if chose is not None:
    panel = panel_lib.with_chose(panel, design.models("target"), chose)
    panel = panel._replace(notes=[*panel.notes, *panel_lib.chose_notes(panel)])
  if fit:
    panel = others.fit_all(panel, trainer, asked, fit, given, told)
    design = others.trained_parts(design)
  for number, parts in enumerate(others.runs(design, trainer, asked)):
    what = f"others_{number}" if number else "others"
    panel = others.train(panel, trainer, asked, data, teachers, told, parts, what)
  return panel


class Inputs(NamedTuple):
  """What models are given and asked about.

  Attributes:
    data: the design's rows, as networks take them.
    given: `[n, ...]` the same rows as a model that is not trained here takes them.
    asked: what they are asked.
    notes: what a reader of the results must know of altered copies.
  """

  data: recipe_lib.Data
  given: np.ndarray
  asked: Asked
  notes: list[str]


def inputs(
  design: Design,
  trainer: Trainer,
  needs: registry.Needs,
  *,
  predict: Predict | None = None,
  fit: fitted.Fit | None = None,
) -> Inputs:
  """Returns what `train` gives to models, checked; trains nothing.

  Args:
    design: as in `train`, like what follows.
    trainer: how.
    needs: what is kept of their answers.
    predict: the one target.
    fit: fits every model.

  Raises:
    ValueError: features are not finite, labels out of range, or there are fewer copies
      of a row than queries.
  """
  x, y = _rows(design, trainer.dataset)
  given = x
  if (predict or fit) and trainer.dataset.given is not None:
    given = trainer.dataset.given[design.rows]
  # Copies are of rows as networks take them: nobody else could be asked about those.
  may_copy = given is x and not fit
  asked, notes = _asked(design, needs, x if may_copy else None, trainer.seed)
  return Inputs(recipe_lib.Data(x, y), given, asked, notes)


def _targets(
  design: Design,
  trainer: Trainer,
  data: recipe_lib.Data,
  given: np.ndarray,
  predict: Predict | None,
  fit: fitted.Fit | None,
) -> tuple[Sequence[Predict], np.ndarray | None]:
  """The targets, and which members chose the epoch of each that is trained here."""
  if predict:
    return [predict], None
  if fit:
    return targets_lib.fit_all(design, trainer, fit, given, np.asarray(data.y)), None
  return targets_lib.train(design, trainer, data)


def _rows(design: Design, dataset: types.Dataset) -> tuple[np.ndarray, np.ndarray]:
  """The design's rows and labels, as networks take them; ValueError as of `train`."""
  is_whole = np.array_equal(design.rows, np.arange(dataset.num_examples))
  x = dataset.x if is_whole else np.ascontiguousarray(dataset.x[design.rows])
  y = dataset.y[design.rows]
  _validate.finite("features", x)
  _validate.labels("labels", y, dataset.num_classes)
  return x, y.astype(np.int32)


def _asked(
  design: Design, needs: registry.Needs, x: np.ndarray | None, seed: int
) -> tuple[Asked, list[str]]:
  """What models are asked, and what is said of copies; none without rows to alter."""
  copies = {}
  if x is not None:
    population = design.population if design.own is None else slice(None)
    copies = copies_lib.plan(needs, x, population, seed=(seed, _COPIES))
  notes = copies_lib.notes_of(needs, copies)
  return Asked(copies_lib.resolve(needs, copies), copies), notes
