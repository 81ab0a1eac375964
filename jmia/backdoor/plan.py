"""What is decided before training: the models of some studies, and who marks what.

In each trial the data is split anew (where the publisher made no split), and all
variants share that split, the order in which rows are marked, and whatever models they
have in common: the default model of `single` is also that of `sizes` with the default
size. Every trial has one more model, which saw no row that any owner of that trial
marks: what it answers is each variant's `asr_without`.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import numpy as np
from sklearn import model_selection

from jmia import splits, types
from jmia.backdoor import marking, triggers
from jmia.backdoor import settings as settings_lib
from jmia.backdoor import variants as variants_lib
from jmia.training import recipe as recipe_lib

_AUTHORS_SEED = 42  # of their split, in each of their scripts
# The mark that changes nothing, for plain test accuracy and unmarked queries.
NO_MARK = 0


class Job(NamedTuple):
  """As `marking.Job`, with what the trained model is asked.

  Attributes:
    member_idx: `[K]` int32 rows, padded.
    num_members: `[]` int32.
    mark_of_row: `[N]` int16.
    test_idx: `[T]` int32 held-out rows.
    query_marks: `[E]` int32 marks that the held-out rows are stamped with; padded by
      repeating the first, which changes nothing.
  """

  member_idx: recipe_lib.Stored
  num_members: recipe_lib.Stored
  mark_of_row: recipe_lib.Stored
  test_idx: recipe_lib.Stored
  query_marks: recipe_lib.Stored


class Plan(NamedTuple):
  """Everything that is decided before training.

  Attributes:
    variants: of each trial.
    jobs: a `Job` of arrays `[M, ...]`.
    marks: that any model is trained or asked with.
    mark_ids: (trigger, label) -> its place in the marks.
    model_ids: (trial, training, owners) -> the model.
    notes: what a reader must know.
  """

  variants: list[list[variants_lib.Variant]]
  jobs: Job
  marks: marking.Marks
  mark_ids: dict[tuple[triggers.TriggerConfig, int], int]
  model_ids: dict["Model", int]
  notes: tuple[str, ...]


class Model(NamedTuple):
  """What tells the models of a run apart."""

  trial: int
  training: str
  owners: tuple[variants_lib.Owner, ...]


def make(
  dataset: types.Dataset,
  settings: settings_lib.Settings,
  studies: Sequence[str],
  num_trials: int,
  seed: int,
) -> Plan:
  """Decides who marks what, and which models are trained.

  Args:
    dataset: to train on.
    settings: see `settings.Settings`.
    studies: of `variants.STUDIES`.
    num_trials: seeds that each variant is run with.
    seed: of every draw.

  Raises:
    ValueError: if a study is unknown, or the data is too small for the settings.
  """
  halves = [split(dataset, settings, seed, trial) for trial in range(num_trials)]
  problem = variants_lib.Problem(
    dataset.name,
    dataset.x.shape[1:],
    dataset.num_classes,
    len(halves[0][0]),
    settings,
  )
  found = [variants_lib.of(studies, problem, seed, t) for t in range(num_trials)]
  mark_ids: dict[tuple[triggers.TriggerConfig, int], int] = {}
  questions: dict[Model, list[int]] = {}
  for trial, of_trial in enumerate(found):
    without = Model(trial, variants_lib.WITHOUT, ())
    for variant in of_trial:
      for owner in variant.owners:
        mark = mark_ids.setdefault((owner.trigger, owner.label), len(mark_ids) + 1)
        for model in (model_of(trial, variant), without):
          questions.setdefault(model, [NO_MARK])
          if mark not in questions[model]:
            questions[model].append(mark)
  members, mark_of_row = _assign(
    dataset, settings.draw, halves, list(questions), mark_ids
  )
  num_questions = max(map(len, questions.values()))
  jobs = Job(
    *splits.ragged(members),
    np.stack(mark_of_row),
    np.stack([halves[model.trial][1] for model in questions]),
    np.array(
      [q + [NO_MARK] * (num_questions - len(q)) for q in questions.values()], np.int32
    ),
  )
  return Plan(
    found,
    jobs,
    _table(mark_ids, problem.shape),
    mark_ids,
    {model: m for m, model in enumerate(questions)},
    _notes(dataset, settings),
  )


def split(
  dataset: types.Dataset, settings: settings_lib.Settings, seed: int, trial: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns one trial's members, in random order, and held-out rows; int32 both.

  The publisher's test split is held out where there is one, else a random share.

  With `settings.draw` "authors" it is the split of Hu et al.'s public code, the same in
  each trial: scikit-learn's `train_test_split` with seed 42 of the rows as the dataset
  holds them, or the publisher's train rows in their order. An owner there marks the
  first rows that are not of the target class.

  Raises:
    ValueError: if there are fewer rows to train on than `num_members`.
  """
  rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(trial,)))
  num_train = dataset.num_train
  if num_train < dataset.num_examples:
    is_random = settings.draw == "random"
    members = rng.permutation(num_train) if is_random else np.arange(num_train)
    held_out = np.arange(num_train, dataset.num_examples)
  elif settings.draw == "authors":
    members, held_out = model_selection.train_test_split(
      np.arange(num_train), test_size=settings.test_share, random_state=_AUTHORS_SEED
    )
  else:
    order = rng.permutation(dataset.num_examples)
    cut = round((1 - settings.test_share) * dataset.num_examples)
    members, held_out = order[:cut], order[cut:]
  num_members = settings.num_members or len(members)
  if num_members > len(members):
    raise ValueError(
      f"num_members={num_members} is above the {len(members)} rows to train on"
    )
  return members[:num_members].astype(np.int32), held_out.astype(np.int32)


def model_of(trial: int, variant: variants_lib.Variant) -> Model:
  """Returns the model of a variant; clean ones do not depend on the owners."""
  is_marked = variant.training == variants_lib.MARKED
  return Model(trial, variant.training, variant.owners if is_marked else ())


def _assign(
  dataset: types.Dataset,
  draw: str,
  halves: Sequence[tuple[np.ndarray, np.ndarray]],
  models: Sequence[Model],
  mark_ids: dict[tuple[triggers.TriggerConfig, int], int],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Each model's members, and the mark of each row `[N]`."""
  owned: list[set[int]] = [set() for _ in halves]
  mark_of_row = []
  for model in models:
    choose = _authors_rows if draw == "authors" else _rows_of_parts
    chosen = choose(halves[model.trial][0], dataset.y, model.owners)
    rows = {}
    for owner, rows_of_owner in zip(model.owners, chosen, strict=True):
      rows[mark_ids[owner.trigger, owner.label]] = rows_of_owner
      owned[model.trial].update(rows_of_owner.tolist())
    mark_of_row.append(marking.mark_of_row(dataset.num_examples, rows))
  members = []
  for model in models:
    rows_of_trial = halves[model.trial][0]
    if model.training == variants_lib.WITHOUT:
      rows_of_trial = rows_of_trial[~np.isin(rows_of_trial, list(owned[model.trial]))]
    members.append(rows_of_trial)
  return members, mark_of_row


def _rows_of_parts(
  members: np.ndarray, y: np.ndarray, owners: Sequence[variants_lib.Owner]
) -> list[np.ndarray]:
  """What each owner marks, of an equal part of the members.

  A lone owner marks the same rows first as the first of many does.
  """
  parts = np.array_split(members, max(1, len(owners)))
  return [
    marking.choose_rows(part, y, owner.label, owner.num_marked)
    for owner, part in zip(owners, parts, strict=False)
  ]


def _authors_rows(
  members: np.ndarray, y: np.ndarray, owners: Sequence[variants_lib.Owner]
) -> list[np.ndarray]:
  """What each owner marks in the authors' code: of what is left, its own stretch."""
  found = []
  for number, owner in enumerate(owners):
    last = (number + 1) * owner.num_marked
    chosen = marking.choose_rows(members, y, owner.label, last)[-owner.num_marked :]
    members = members[~np.isin(members, chosen)]
    found.append(chosen)
  return found


def _table(
  mark_ids: dict[tuple[triggers.TriggerConfig, int], int], shape: tuple[int, ...]
) -> marking.Marks:
  """The marks in the order of their ids."""
  configs = [config for config, _ in mark_ids]
  return marking.marks(
    [triggers.none(shape), *(triggers.make(config, shape) for config in configs)],
    [0, *(label for _, label in mark_ids)],
  )


def _notes(dataset: types.Dataset, settings: settings_lib.Settings) -> tuple[str, ...]:
  """What makes the paper's figures stand beside something else."""
  notes = []
  if dataset.name in variants_lib.PAPER:
    if dataset.is_synthetic:
      notes.append(
        "The data is synthetic: the paper's figures beside are of the original."
      )
    preset = settings_lib.preset(dataset)
    changed = [
      field.name
      for field in dataclasses.fields(settings)
      if field.name != "draw"
      and getattr(settings, field.name) != getattr(preset, field.name)
    ]
    if changed:
      notes.append(f"Not the paper's settings: {', '.join(changed)}.")
  if settings.draw == "authors":
    notes.append("Rows are held out and marked as the authors' code draws them.")
  return tuple(notes)
