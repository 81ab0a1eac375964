"""Suite `cifar10`: many ResNet-9 by Page's recipe, to the accuracy it is known for.

First a few steps one model after another by dense convolution, and several at once by a
grouped one, since which is faster decides how all are trained. Then as many models as
fit into the time that is given, on all of CIFAR-10's training images, each from draws
of its own. Time is extrapolated to all of them; accuracy, on the test images, is of
those that were trained. Without CIFAR-10 images are generated: time is as it would be,
and accuracy means nothing and is left out.

A model takes 2.7e15 operations, so 64 of them in five minutes take 580 Tflop/s: 59 % of
what an H100's specification has for dense products in bfloat16.
"""

from collections.abc import Iterator
import dataclasses
import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmia import datasets, types
from jmia.training import config as config_lib
from jmia.training import parallel
from jmia.training import recipe as recipe_lib

from . import measure, studies, training

NUM_MODELS, MINUTES, LEVELS = 64, 5, (92, 94)
_NUM_TEST = 10_000
_AT_ONCE = 4


class Way(NamedTuple):
  """How models are trained: how many at once, and how convolutions are lowered."""

  width: int
  lowering: str


class Size(NamedTuple):
  """How much is trained of what is asked for: models, their epochs and their rows."""

  num_models: int
  num_epochs: int
  num_members: int


class Trained(NamedTuple):
  """What came of it.

  Attributes:
    size: of the run.
    seconds: without compilation.
    compile_s: seconds of compilation.
    num_diverged: models whose numbers stopped being finite.
    accuracy: `[M]` percent of the test images; None where it means nothing.
  """

  size: Size
  seconds: float
  compile_s: float
  num_diverged: int
  accuracy: np.ndarray | None


def case() -> training.Case:
  """Returns ResNet-9 on CIFAR-10's training images, in the dtype that suits."""
  dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  train = config_lib.of_network("resnet9", config_lib.preset("cifar10"))
  return training.Case(
    name="resnet9",
    shape=(32, 32, 3),
    num_classes=10,
    num_rows=60_000,
    num_members=60_000 - _NUM_TEST,
    config=dataclasses.replace(train, compute_dtype=dtype),
  )


def tiny() -> training.Case:
  """Returns a narrow one on few, small images."""
  train = case().config
  options = (*train.model_options, ("widths", (8, 16, 32)))
  return training.Case(
    name="tiny",
    shape=(16, 16, 3),
    num_classes=10,
    num_rows=192,
    num_members=128,
    config=dataclasses.replace(
      train, model_options=options, batch_size=32, num_epochs=3
    ),
  )


def rows(
  num_models: int = NUM_MODELS,
  what: training.Case | None = None,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  seconds: float = math.inf,
) -> Iterator[measure.Row]:
  """A row for each way to train, and one for all models by the fastest.

  Args:
    num_models: to be trained, or extrapolated to.
    what: is trained. Default: `case()`.
    data_dir: TFDS's folder with CIFAR-10. Default: images are generated.
    seconds: to train for; a step of the models that are trained at once at least.

  Raises:
    OSError: if `data_dir` has no CIFAR-10.
  """
  what = what or case()
  if data_dir is None:
    dataset = what.dataset()._replace(num_train=what.num_members)
  else:
    dataset = datasets.load("cifar10", data_dir=data_dir)
  costs: dict[Way, measure.Cost] = {}
  base, *_ = ways = _ways(num_models)
  for way in ways:
    costs[way] = _step(what, way)
    yield measure.Row(
      suite="cifar10",
      name=f"step, {way.lowering}",
      width=way.width,
      ours=costs[way],
      peer=f"{base.lowering}, width {base.width}",
      theirs=costs[base],
    )
  best = min(costs, key=lambda way: costs[way].wall)
  size = fitting(what, num_models, best.width, costs[best].wall, seconds)
  yield summary(what, num_models, best, train(what, dataset, best, size))


def fitting(
  what: training.Case, num_models: int, width: int, step: float, most: float
) -> Size:
  """Returns the models, epochs and rows that `most` seconds are enough for.

  Whole models as far as possible; then whole epochs of as many as are trained at once.

  Args:
    what: is asked for.
    num_models: asked for.
    width: models at once.
    step: seconds of one model's step.
    most: seconds; infinite for all models.
  """
  whole = what.num_steps * what.config.num_epochs
  num_steps = most / (width * step)  # of `width` models
  num_chunks = int(min(num_steps / whole, num_models))
  if num_chunks:
    all_or_some = min(num_models, width * num_chunks)
    return Size(all_or_some, what.config.num_epochs, what.num_members)
  if num_steps >= what.num_steps:
    return Size(width, int(num_steps // what.num_steps), what.num_members)
  few = max(1, int(num_steps)) * what.config.batch_size
  return Size(width, 1, min(few, what.num_members))


def train(what: training.Case, dataset: types.Dataset, way: Way, size: Size) -> Trained:
  """Trains models on the same rows and tries them on the dataset's test rows."""
  train = config_lib.with_epochs(_lowered(what, way), size.num_epochs)
  trainable = config_lib.build(train, dataset)
  test = jnp.arange(dataset.num_train, dataset.num_examples)

  def accuracy(state, job, data):
    del job
    variables = recipe_lib.model_variables(state)
    logits = recipe_lib.answers(
      trainable.predict, variables, data.x, test, batch_size=train.batch_size
    )
    return 100 * (logits.argmax(-1) == data.y[test]).mean()

  members = np.tile(np.arange(size.num_members, dtype=np.int32), (size.num_models, 1))
  start = measure.now()
  with measure.compilation() as compiled:
    result = parallel.run(
      trainable.recipe,
      jax.random.key(0, impl="threefry2x32"),
      recipe_lib.Job(members, np.full(size.num_models, size.num_members, np.int32)),
      recipe_lib.Data(dataset.x, dataset.y),
      collect=accuracy,
      width=way.width,
    )
  seconds = measure.since(start).wall - sum(compiled)
  is_whole = size[1:] == (what.config.num_epochs, what.num_members)
  means_something = is_whole and not dataset.is_synthetic
  found = result.collected if means_something else None
  num_diverged = int((result.diverged_epoch >= 0).sum())
  return Trained(size, seconds, sum(compiled), num_diverged, found)


def summary(
  what: training.Case, num_models: int, way: Way, trained: Trained
) -> measure.Row:
  """Returns the row of all models; `said` tells what was measured of them."""
  size = trained.size
  of_run = dataclasses.replace(what, num_members=size.num_members).num_steps
  done = size.num_models * size.num_epochs * of_run
  share = done / (num_models * what.config.num_epochs * what.num_steps)
  seconds = trained.seconds / share
  more = {
    "minutes": seconds / 60,
    "models_per_hour": 3_600 * num_models / seconds,
    "share_trained": share,
    "lowering": way.lowering,
    "num_diverged": trained.num_diverged,
    **size._asdict(),
  }
  said = [f"{seconds / 60:.3g} minutes, {more['models_per_hour']:.3g} an hour"]
  if share < 1:
    said.append(f"extrapolated from {100 * share:.2g} %")
  accuracy = trained.accuracy
  if accuracy is None:
    said.append("no accuracy, as images are generated or training is cut")
  else:
    reached = {f"at_{level}": int((accuracy >= level).sum()) for level in LEVELS}
    more |= {"accuracy": accuracy.tolist(), **reached}
    said += [
      f"accuracy {accuracy.mean():.2f} %",
      f"{accuracy.min():.2f} to {accuracy.max():.2f}",
      *(f"{reached[f'at_{n}']} of {len(accuracy)} have {n} %" for n in LEVELS),
    ]
  is_meant = what == case() and jax.default_backend() != "cpu"
  return measure.Row(
    suite="cifar10",
    name=f"{num_models} models",
    width=way.width,
    ours=None,
    compile_s=trained.compile_s,
    target={"minutes": MINUTES} if is_meant else {},
    more={"said": "; ".join(said), **more},
  )


def _ways(num_models: int) -> list[Way]:
  """Ways that may be fastest; the first is what the others are compared with."""
  if jax.default_backend() == "cpu":
    # In a loop a CPU's own convolution takes many times as long.
    return [Way(1, "patches"), Way(min(2, num_models), "patches")]
  several = min(_AT_ONCE, num_models)
  return [Way(1, "native"), Way(several, "native")]


def _lowered(what: training.Case, way: Way) -> config_lib.TrainConfig:
  options = (*what.config.model_options, ("lowering", way.lowering))
  return dataclasses.replace(what.config, model_options=options)


def _step(what: training.Case, way: Way) -> measure.Cost:
  """Cost of one model's step, of a few."""
  num_steps = 1 if jax.default_backend() == "cpu" else 10
  few = min(what.num_members, num_steps * what.config.batch_size)
  of_few = dataclasses.replace(
    what, num_rows=few, num_members=few, config=_lowered(what, way)
  )
  cost = studies.epoch(of_few, way.width, ())
  return measure.Cost(cost.wall / of_few.num_steps, cost.cpu / of_few.num_steps)
