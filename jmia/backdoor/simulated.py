"""How often a key accuses suspects that know nothing of it, and those that do.

Keys are drawn as `mark` draws them, and each is tried on suspects of four kinds, of
which none can know its labels: one that always gives the same answer, models trained on
clean rows, models trained on another owner's marks of the same family, and one that
gives stamped inputs a favourite label. A test holds its level if a share of at most
`1 - confidence` of the keys accuse, whatever the suspect. The other way round, models
are trained on the marked rows, and the share of keys that accuse them is the power.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any
import warnings

import numpy as np
from sklearn import exceptions, neural_network, pipeline, preprocessing

from jmia import types
from jmia.backdoor import claims, draws, stamping, submarks
from jmia.backdoor import classes as classes_lib
from jmia.backdoor import settings as settings_lib
from jmia.stats import intervals, levels, monte_carlo

_NUM_MODELS = 10  # of each kind, which the keys share in turn
_MARKED, _MARKED_BY_OTHERS = 20, 60
_FAVOURITE, _HOW_OFTEN = 1, 0.9
_OTHERS = 10**6  # seeds of other owners' keys begin here

Predict = Callable[[np.ndarray], np.ndarray]


def false_claim_rows(
  dataset: types.Dataset,
  *,
  num_submarks: int,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns the share of keys that accuse each suspect, by each test at each level.

  Models are scikit-learn's networks of 64 units, ten of a kind, each of a random half
  of the rows, or of all rows as another owner published them, 60 of them marked.

  Args:
    dataset: images or vectors, whose rows an owner marks 20 of.
    num_submarks: T.
    num_simulations: keys.
    seed: of every draw.
    progress: told of keys.

  Returns:
    A row for each suspect and level: for each of `claims.TESTS` the share of claims,
    and its Clopper-Pearson interval, which takes keys as independent given the models.
  """
  clean, marked = _models(dataset, num_submarks, seed)
  suspects: Mapping[str, Callable[[int, np.ndarray, submarks.Key], np.ndarray]] = {
    "answers 1 always": lambda i, queries, key: np.full(len(queries), _FAVOURITE),
    "trained on clean rows": lambda i, queries, key: clean[i % _NUM_MODELS](queries),
    "trained on another owner's marks": (
      lambda i, queries, key: marked[i % _NUM_MODELS](queries)
    ),
    "stamped inputs get a favourite label": lambda i, queries, key: np.where(
      np.random.default_rng([seed, i]).random(len(queries)) < _HOW_OFTEN,
      _FAVOURITE,
      np.array(key.query_classes),
    ),
  }
  p: dict[str, list[tuple[float, float, float]]] = {name: [] for name in suspects}
  for i, _ in monte_carlo.draws(num_simulations, seed, progress):
    own = _marked(dataset, num_submarks, _MARKED, seed + i)
    for name, answers in suspects.items():
      tallied = submarks.tally(own.key, answers(i, own.queries, own.key))
      p[name].append(claims.p_values(tallied, own.key.labels))
  about = _about(dataset, num_submarks)
  return [
    row
    for name, of_suspect in p.items()
    for row in _by_level({**about, "suspect": name}, of_suspect)
  ]


def true_claim_rows(
  dataset: types.Dataset,
  *,
  num_marked: int,
  num_submarks: int,
  num_simulations: int,
  seed: int = 0,
  progress: monte_carlo.Progress = monte_carlo.silent,
) -> list[dict[str, Any]]:
  """Returns the share of keys that accuse a model trained on their marked rows.

  Each key marks rows of a random four fifths of the data, of which one model is trained
  as those of `false_claim_rows` are.

  Args:
    dataset: images or vectors.
    num_marked: rows that are marked.
    num_submarks: T.
    num_simulations: keys, each with a model.
    seed: of every draw.
    progress: told of keys.

  Returns:
    A row for each level: for each of `claims.TESTS` the share of claims and its
    Clopper-Pearson interval. The first has besides `asr` of each key and sub-mark, the
    share of the other fifth's rows, stamped, that are answered with its label, those of
    that class left out; and each model's `test_accuracy` on the same rows as they are.
  """
  p, rates, accuracies = [], [], []
  for i, rng in monte_carlo.draws(num_simulations, seed, progress, entropy=[1]):
    order = rng.permutation(len(dataset.y))
    rest, held = np.split(order, [4 * len(order) // 5])
    owners = dataset._replace(x=dataset.x[rest], y=dataset.y[rest])
    own = _marked(owners, num_submarks, num_marked, seed + i)
    predict = _fitted(dataset, own.x, own.y, i)
    tallied = submarks.tally(own.key, predict(own.queries))
    p.append(claims.p_values(tallied, own.key.labels))
    x, y = dataset.x[held], dataset.y[held]
    accuracies.append(float((predict(x) == y).mean()))
    for label, mark in zip(own.key.labels, own.key.submarks, strict=True):
      answered = predict(stamping.stamp(x, mark.trigger))[y != label]
      rates.append(float((answered == label).mean()))
  about = {**_about(dataset, num_submarks), "num_marked": num_marked}
  first, *others = _by_level(about, p)
  return [{**first, "asr": rates, "test_accuracy": accuracies}, *others]


def _about(dataset: types.Dataset, num_submarks: int) -> dict[str, Any]:
  return {
    "dataset": dataset.name,
    "num_classes": dataset.num_classes,
    "num_submarks": num_submarks,
  }


def _by_level(
  about: Mapping[str, Any], p: Sequence[tuple[float, float, float]]
) -> list[dict[str, Any]]:
  """A row for each level of what p-values, one triple a key, come to."""
  return [
    {**about, "level": level, "num_keys": len(p), **_claims(np.array(p), level)}
    for level in claims.LEVELS
  ]


def _claims(p: np.ndarray, level: float) -> dict[str, Any]:
  """Of p-values `[n, 3]`: the share at most the level, and its interval."""
  found: dict[str, Any] = {}
  for name, of_test in zip(claims.TESTS, p.T, strict=True):
    made = int(levels.reaches(of_test, level).sum())
    interval = intervals.clopper_pearson(np.array(made), np.array(len(p)))
    found[name] = made / len(p)
    found[f"{name}_ci"] = [float(interval.low), float(interval.high)]
  return found


def _marked(
  dataset: types.Dataset, num_submarks: int, num_marked: int, number: int
) -> submarks.Marked:
  """An owner's data, marked by a secret of their own."""
  secret = draws.seeded_secret(number, "simulated")
  stream = draws.generator(secret, "triggers")
  if dataset.x.ndim == 2:
    stamps = draws.column_triggers(dataset.x, num_submarks, None, stream)
  else:
    like = settings_lib.preset(dataset).trigger
    stamps = draws.placed_triggers(like, dataset.x, num_submarks, stream)
  names: tuple[classes_lib.Name, ...] = tuple(range(dataset.num_classes))
  return submarks.mark(
    dataset.x,
    dataset.y,
    stamps,
    secret=secret,
    class_names=names,
    num_marked=num_marked,
  )


def _models(
  dataset: types.Dataset, num_submarks: int, seed: int
) -> tuple[list[Predict], list[Predict]]:
  """Models of clean rows, and of other owners' marked ones."""
  rng = np.random.default_rng([seed, 0])
  clean, marked = [], []
  for number in range(_NUM_MODELS):
    half = rng.permutation(len(dataset.y))[: len(dataset.y) // 2]
    clean.append(_fitted(dataset, dataset.x[half], dataset.y[half], number))
    other = _marked(dataset, num_submarks, _MARKED_BY_OTHERS, _OTHERS + seed + number)
    marked.append(_fitted(dataset, other.x, other.y, number))
  return clean, marked


def _fitted(dataset: types.Dataset, x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
  network = neural_network.MLPClassifier(
    (64,), learning_rate_init=0.01, max_iter=30, random_state=seed
  )
  # Columns of a table are of many scales; pixels and bits are of one.
  is_table = x.ndim == 2 and len(np.unique(x)) > 2
  scaler = [preprocessing.StandardScaler()] if is_table else []
  model = pipeline.make_pipeline(*scaler, network)
  with warnings.catch_warnings():  # 30 epochs fit, if not to the last digit
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    model.fit(_flat(x, dataset.feature_scale), y)
  return functools.partial(_predicted, model, dataset.feature_scale)


def _predicted(model: Any, scale: float, x: np.ndarray) -> np.ndarray:
  return model.predict(_flat(x, scale))


def _flat(x: np.ndarray, scale: float) -> np.ndarray:
  return x.reshape(len(x), -1).astype(np.float32) * scale
